/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-webhook: delivers termination records by HTTP POST, signed, until they are taken.  libcurl's one home.
 *
 * It is started by crewd with one socket and a fixed environment, reads the key, and gives everything else up: another uid
 * (root mode), no programs, no files but those that name look-ups and the system's certificates need.  The key is nowhere
 * but in its memory, which cannot be dumped.  Answers of the receiver are counted, never parsed.
 */
#include "common/webhook.h"
#include "common/confine.h"
#include "common/digest.h"
#include "common/nofile.h"
#include "common/util.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SECRET_MIN 16u
#define SECRET_MAX 4096u
#define CA_MAX ((size_t)1 << 20)
#define CONNECT_MS 5000L
#define TOTAL_MS 10000L
#define AT_ONCE 8u /* attempts; one that takes longer than QUICK_NS is not counted, and holds up nobody */
#define QUICK_NS UINT64_C(100000000)
#define PAUSE_MIN_NS UINT64_C(1000000000)
#define PAUSE_MAX_NS UINT64_C(300000000000)

struct item {
        uint64_t id, due_ns;
        uint32_t agent, attempt;
        char *json; /* owned; NULL: the slot is free */
        uint32_t n;
        CURL *easy; /* owned; NULL: no attempt is under way */
        struct curl_slist *headers;
        uint64_t begun_ns;
        size_t left; /* bytes of an answer */
};

struct sender {
        int fd;
        char url[WEBHOOK_URL_MAX];
        char *secret, *ca; /* owned; ca NULL: the system's certificates */
        size_t n_secret, n_ca;
        CURLM *multi;
        struct item items[WEBHOOK_WAITING_MAX];
        struct webhook_msg msg; /* the one in hand */
};

static int say(struct sender *s, enum webhook_op op, const struct item *it, const char *text) {
        struct webhook_msg *m = &s->msg;

        m->op = op;
        m->id = it ? it->id : 0;
        m->agent = it ? it->agent : 0;
        m->attempt = it ? it->attempt : 0;
        m->n = (uint32_t)MIN_OF(strlen(text), (size_t)256);
        memcpy(m->text, text, m->n);
        ssize_t n = crew_send_fds(s->fd, m, WEBHOOK_MSG_HEAD + m->n, NULL, 0);
        return n < 0 ? (int)n : 0;
}

/* --- start --- */

/* A trailing newline is the editor's. */
static int read_secret(struct sender *s, const char *path, struct crew_err *err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return crew_fail_errno(err, "webhook: %s", path);
        if (!S_ISREG(st.st_mode) || (st.st_mode & 077))
                return crew_fail(err, EACCES, "webhook: %s must be a regular file that only its owner can read", path);
        int r = crew_read_fd(fd, SECRET_MAX, &s->secret, &s->n_secret, err);
        if (r < 0)
                return r;
        while (s->n_secret > 0 && (s->secret[s->n_secret - 1] == '\n' || s->secret[s->n_secret - 1] == '\r'))
                s->n_secret--;
        if (s->n_secret < SECRET_MIN)
                return crew_fail(err, EINVAL, "webhook: the key in %s is shorter than %u bytes", path, SECRET_MIN);
        return 0;
}

static int take_config(struct sender *s, struct crew_err *err) {
        struct webhook_msg *m = &s->msg;
        const char *words[3];
        size_t at = 0;

        if (crew_recv_fds(s->fd, m, sizeof(*m), NULL, NULL, 0) != (ssize_t)sizeof(*m) || m->op != WEBHOOK_CONFIG ||
            m->n > sizeof(m->text))
                return crew_fail(err, EPROTO, "webhook: no configuration came");
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                const char *end = memchr(m->text + at, '\0', m->n - at);
                if (!end)
                        return crew_fail(err, EPROTO, "webhook: the configuration is cut off");
                words[i] = m->text + at;
                at = (size_t)(end - m->text) + 1;
        }
        if ((size_t)snprintf(s->url, sizeof(s->url), "%s", words[0]) >= sizeof(s->url))
                return crew_fail(err, ENAMETOOLONG, "webhook: the address is too long");
        if (*words[2] && crew_read_file(words[2], CA_MAX, &s->ca, &s->n_ca, err) < 0)
                return -err->code;
        return read_secret(s, words[1], err);
}

/* --- one attempt --- */

static size_t swallow(char *p, size_t size, size_t n, void *user) {
        size_t *left = user;

        if (size * n > *left)
                return 0; /* enough: ends the transfer */
        *left -= size * n;
        return size * n;
}

static bool add_header(struct curl_slist **list, const char *text) {
        struct curl_slist *more = curl_slist_append(*list, text);

        if (more)
                *list = more;
        return more != NULL;
}

/* "t=SECONDS,v1=HEX": of "SECONDS.BODY", so that an old one cannot be sent again as new. */
static bool add_headers(const struct sender *s, const struct item *it, struct curl_slist **list) {
        uint8_t mac[CREW_SHA256_BYTES];
        char hex[CREW_SHA256_HEX], when[24], line[160];

        snprintf(when, sizeof(when), "%llu", (unsigned long long)(crew_realtime_ns() / 1000000000u));
        const struct crew_part parts[] = {{when, strlen(when)}, {".", 1}, {it->json, it->n}};
        crew_hmac_sha256(s->secret, s->n_secret, parts, ELEMENTSOF(parts), mac);
        crew_hex(mac, sizeof(mac), hex);
        snprintf(line, sizeof(line), "X-Crewd-Signature: t=%s,v1=%s", when, hex);
        bool ok = add_header(list, line) && add_header(list, "Content-Type: application/json") &&
                  add_header(list, "X-Crewd-Event: agent-terminated") && add_header(list, "Expect:");
        snprintf(line, sizeof(line), "X-Crewd-Delivery: %llu", (unsigned long long)it->id);
        ok = ok && add_header(list, line);
        snprintf(line, sizeof(line), "X-Crewd-Attempt: %u", it->attempt);
        return ok && add_header(list, line);
}

/* A connection for each attempt: one that hangs takes no other along. */
static bool set_options(CURL *c, const struct sender *s, struct item *it) {
        struct curl_blob ca = {.data = s->ca, .len = s->n_ca, .flags = CURL_BLOB_NOCOPY};

        return curl_easy_setopt(c, CURLOPT_PRIVATE, it) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_URL, s->url) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, TOTAL_MS) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_USERAGENT, "crewd/" CREW_VERSION) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_HTTPHEADER, it->headers) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_POST, 1L) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_POSTFIELDS, it->json) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)it->n) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, swallow) == CURLE_OK &&
               curl_easy_setopt(c, CURLOPT_WRITEDATA, &it->left) == CURLE_OK &&
               (!s->ca || (curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &ca) == CURLE_OK &&
                           curl_easy_setopt(c, CURLOPT_CAPATH, NULL) == CURLE_OK));
}

static void end_attempt(struct sender *s, struct item *it) {
        if (it->easy)
                curl_multi_remove_handle(s->multi, it->easy);
        curl_easy_cleanup(it->easy);
        curl_slist_free_all(it->headers);
        it->easy = NULL;
        it->headers = NULL;
}

/* 0: under way. */
static CURLcode begin_attempt(struct sender *s, struct item *it) {
        it->attempt++;
        it->left = (size_t)1 << 16;
        it->begun_ns = crew_now_ns();
        it->easy = curl_easy_init();
        if (it->easy && add_headers(s, it, &it->headers) && set_options(it->easy, s, it) &&
            curl_multi_add_handle(s->multi, it->easy) == CURLM_OK)
                return CURLE_OK;
        end_attempt(s, it);
        return CURLE_OUT_OF_MEMORY;
}

/* True: it was taken (2xx).  why: what went wrong, without the address. */
static bool was_taken(const struct item *it, CURLcode r, char *why, size_t size) {
        long status = 0;

        if (it->easy)
                curl_easy_getinfo(it->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 200 && status < 300)
                return true;
        if (status)
                snprintf(why, size, "HTTP status %ld", status);
        else /* curl's own text may hold the host's name; the code's text never does */
                snprintf(why, size, "%s", curl_easy_strerror(r));
        return false;
}

/* --- the queue --- */

/* Doubled each time, up to five minutes; a quarter more or less, so that many do not come at once. */
static uint64_t pause_ns(uint32_t attempt) {
        uint64_t ns = attempt > 9 ? PAUSE_MAX_NS : MIN_OF(PAUSE_MIN_NS << (attempt - 1), PAUSE_MAX_NS);
        uint32_t dice = 0x80000000u;

        if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != (ssize_t)sizeof(dice))
                dice = 0x80000000u;
        return ns * 3 / 4 + ns / 2 * (dice >> 16) / 65536u;
}

static void forget(struct item *it) {
        free(it->json);
        *it = (struct item){0};
}

static int finish(struct sender *s, struct item *it, CURLcode code) {
        char why[128] = "";
        bool taken = was_taken(it, code, why, sizeof(why));
        int r;

        end_attempt(s, it);
        if (!taken && it->attempt < WEBHOOK_ATTEMPTS_MAX) {
                it->due_ns = crew_now_ns() + pause_ns(it->attempt);
                return say(s, WEBHOOK_FAILED, it, why);
        }
        r = say(s, taken ? WEBHOOK_SENT : WEBHOOK_GIVEN_UP, it, why);
        forget(it);
        return r;
}

/* 1: there was none. */
static int take(struct sender *s) {
        struct webhook_msg *m = &s->msg;
        struct item *free_one = NULL;

        ssize_t n = crew_recv_fds(s->fd, m, sizeof(*m), NULL, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN)
                return 1;
        if (n < (ssize_t)WEBHOOK_MSG_HEAD || m->op != WEBHOOK_SEND || (size_t)n != WEBHOOK_MSG_HEAD + m->n)
                return -EPIPE;
        for (size_t i = 0; i < ELEMENTSOF(s->items) && !free_one; i++)
                free_one = s->items[i].json ? NULL : &s->items[i];
        struct item it = {.id = m->id, .agent = m->agent, .n = m->n, .due_ns = crew_now_ns()};
        it.json = free_one ? malloc((size_t)m->n + 1) : NULL;
        if (!it.json)
                return say(s, WEBHOOK_GIVEN_UP, &it, "too many wait");
        memcpy(it.json, m->text, m->n);
        it.json[m->n] = '\0';
        *free_one = it;
        return 0;
}

static int take_all(struct sender *s) {
        for (size_t i = 0; i < ELEMENTSOF(s->items); i++) {
                int r = take(s);
                if (r != 0)
                        return MIN_OF(r, 0);
        }
        return 0;
}

static bool before(const struct item *a, const struct item *b) {
        return (a->attempt > 0) != (b->attempt > 0) ? a->attempt == 0 : a->due_ns < b->due_ns;
}

/* New ones first: each gets its first attempt before an old one gets another. */
static struct item *next_due(struct sender *s, uint64_t now) {
        struct item *next = NULL;

        for (size_t i = 0; i < ELEMENTSOF(s->items); i++) {
                struct item *it = &s->items[i];
                if (it->json && !it->easy && it->due_ns <= now && (!next || before(it, next)))
                        next = it;
        }
        return next;
}

static bool has_room(const struct sender *s, uint64_t now) {
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTSOF(s->items); i++)
                n += s->items[i].easy && now < s->items[i].begun_ns + QUICK_NS;
        return n < AT_ONCE;
}

static int begin_due(struct sender *s) {
        struct item *it;
        int r = 0;

        for (uint64_t now = crew_now_ns(); r == 0 && has_room(s, now) && (it = next_due(s, now));) {
                CURLcode code = begin_attempt(s, it);
                if (code != CURLE_OK)
                        r = finish(s, it, code);
        }
        return r;
}

static int go_on(struct sender *s) {
        const CURLMsg *m;
        int n, r = curl_multi_perform(s->multi, &n) == CURLM_OK ? 0 : -EIO;

        while (r == 0 && (m = curl_multi_info_read(s->multi, &n))) {
                CURLcode code = m->data.result;
                struct item *it = NULL;
                if (m->msg == CURLMSG_DONE && curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &it) == CURLE_OK)
                        r = finish(s, it, code);
        }
        return r;
}

/* Until a record is due, or another may be begun beside those that are not quick.  libcurl's own waits are shorter. */
static int pause_ms(const struct sender *s) {
        uint64_t now = crew_now_ns(), at = now + PAUSE_MAX_NS;
        bool room = has_room(s, now);

        for (size_t i = 0; i < ELEMENTSOF(s->items); i++) {
                const struct item *it = &s->items[i];
                if (it->easy && !room && it->begun_ns + QUICK_NS > now)
                        at = MIN_OF(at, it->begun_ns + QUICK_NS);
                if (it->json && !it->easy && (room || it->due_ns > now))
                        at = MIN_OF(at, it->due_ns);
        }
        return at <= now ? 0 : (int)((at - now) / 1000000u) + 1;
}

static void serve(struct sender *s) {
        /* In this order: what is new first, and what failed at once is said before anything is waited for. */
        while (take_all(s) == 0 && begin_due(s) == 0 && go_on(s) == 0) {
                struct curl_waitfd crewd = {.fd = s->fd, .events = CURL_WAIT_POLLIN};
                if (curl_multi_poll(s->multi, &crewd, 1, pause_ms(s), NULL) != CURLM_OK)
                        return;
        }
        /* crewd is gone: its outbox has what was not taken */
}

int main(int argc, char **argv) {
        static struct sender s;
        struct crew_err err = CREW_ERR_NULL;
        uint64_t fd;

        if (argc != 3 || strcmp(argv[1], "--fd") != 0 || crew_parse_u64(argv[2], &fd) < 0 || fd > 1u << 20 ||
            fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
                fputs("crew-webhook is started by crewd\n", stderr);
                return 2;
        }
        s.fd = (int)fd;
        signal(SIGPIPE, SIG_IGN);
        prctl(PR_SET_DUMPABLE, 0);
        nofile_raise();
        if (take_config(&s, &err) < 0 ||
            ((curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(s.multi = curl_multi_init())) &&
             crew_fail(&err, ENOMEM, "webhook: libcurl cannot be started") < 0) ||
            confine_self_to_lookups(&err) < 0) {
                say(&s, WEBHOOK_REFUSED, NULL, err.msg);
                return 1;
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the change of identity, which would undo it */
        if (say(&s, WEBHOOK_READY, NULL, "") == 0)
                serve(&s);
        explicit_bzero(s.secret, s.n_secret);
        return 0;
}
