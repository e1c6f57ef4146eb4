/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook.h"

#include "channel.h"
#include "common/util.h"
#include "common/webhook.h"
#include "crewd.h"
#include "environment.h"
#include "journal.h"
#include "termination.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define START_MS 10000
#define NO_AGENT UINT32_MAX

struct webhook {
        struct crewd *crewd;
        struct channel *channel; /* NULL: crew-webhook is gone */
        char outbox[PATH_MAX];
        uint32_t waiting; /* handed over, and not yet taken or given up */
        uint32_t fresh;   /* of this run, without an attempt yet */
};

/* --- start --- */

static int send_config(int fd, const struct crew_webhook *hook, struct crew_err *err) {
        _cleanup_free_ struct webhook_msg *m = calloc(1, sizeof(*m));
        const char *words[] = {hook->url, hook->secret_file, hook->ca_file ? hook->ca_file : ""};

        if (!m)
                return crew_fail(err, ENOMEM, "out of memory");
        m->op = WEBHOOK_CONFIG;
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t n = strlen(words[i]) + 1;
                if (n > sizeof(m->text) - m->n)
                        return crew_fail(err, ENAMETOOLONG, "webhook: path too long");
                memcpy(m->text + m->n, words[i], n);
                m->n += (uint32_t)n;
        }
        ssize_t n = crew_send_fds(fd, m, sizeof(*m), NULL, 0);
        return n < 0 ? crew_fail(err, (int)-n, "crew-webhook cannot be told what to do") : 0;
}

static int await_ready(int fd, struct crew_err *err) {
        _cleanup_free_ struct webhook_msg *m = calloc(1, sizeof(*m));
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char text[256];

        if (!m)
                return crew_fail(err, ENOMEM, "out of memory");
        if (poll(&p, 1, START_MS) <= 0 || crew_recv_fds(fd, m, sizeof(*m), NULL, NULL, 0) != (ssize_t)sizeof(*m))
                return crew_fail(err, ETIMEDOUT, "crew-webhook did not start");
        if (m->op == WEBHOOK_READY)
                return 0;
        text_copy(text, sizeof(text), m->text, MIN_OF(m->n, sizeof(m->text)));
        return crew_fail(err, EINVAL, "%s", text);
}

int webhook_start(const struct crew_file *file, pid_t *pid, struct crew_err *err) {
        _cleanup_close_ int fd = channel_start_program("crew-webhook", "--fd", environment_for_helpers(), pid, err);
        int r;

        if (fd < 0)
                return fd;
        if ((r = send_config(fd, &file->webhook, err)) < 0 || (r = await_ready(fd, err)) < 0)
                return r;
        return crew_steal_fd(&fd);
}

/* --- the outbox --- */

static int path_of(const struct webhook *w, uint64_t id, char out[PATH_MAX]) {
        return (size_t)snprintf(out, PATH_MAX, "%s/%020llu.json", w->outbox, (unsigned long long)id) >= PATH_MAX
                       ? -ENAMETOOLONG
                       : 0;
}

/* What is not handed over now stays in the outbox for the next start. */
static void hand_over(struct webhook *w, uint64_t id, uint32_t agent, const char *json, size_t n) {
        _cleanup_free_ struct webhook_msg *m = NULL;

        if (!w->channel || w->waiting >= WEBHOOK_WAITING_MAX || n > WEBHOOK_TEXT_MAX || !(m = calloc(1, sizeof(*m))))
                return;
        *m = (struct webhook_msg){.op = WEBHOOK_SEND, .n = (uint32_t)n, .id = id, .agent = agent};
        memcpy(m->text, json, n);
        if (channel_send(w->channel, m, NULL, 0) < 0)
                return;
        w->waiting++;
        w->fresh += agent != NO_AGENT;
}

/* Oldest first: the id begins with nothing of use, so the order is that of the names. */
static void send_left_over(struct webhook *w) {
        struct dirent **names = NULL;
        int n = scandir(w->outbox, &names, NULL, alphasort), found = 0;

        for (int i = 0; i < n; i++) {
                const char *dot = strchr(names[i]->d_name, '.');
                _cleanup_free_ char *json = NULL;
                char number[32], path[PATH_MAX];
                uint64_t id;
                size_t size = 0;
                snprintf(number, sizeof(number), "%.*s", dot ? (int)MIN_OF(dot - names[i]->d_name, (ptrdiff_t)31) : 0,
                         names[i]->d_name);
                bool ours =
                        dot && strcmp(dot, ".json") == 0 && crew_parse_u64(number, &id) == 0 && path_of(w, id, path) == 0;
                if (ours && crew_read_file(path, WEBHOOK_TEXT_MAX, &json, &size, NULL) == 0) {
                        hand_over(w, id, NO_AGENT, json, size);
                        found++;
                }
                free(names[i]);
        }
        free(names);
        if (found > 0)
                crewd_log(w->crewd, "webhook: %d record%s of an earlier run %s sent now", found, found == 1 ? "" : "s",
                          found == 1 ? "is" : "are");
}

/* --- answers --- */

static struct agent *agent_of(struct webhook *w, const struct webhook_msg *m) {
        return m->agent < w->crewd->n_agents ? &w->crewd->agents[m->agent] : NULL;
}

static void tell(struct webhook *w, const struct webhook_msg *m, int status, const char *text) {
        struct agent *a = agent_of(w, m);

        if (a)
                journal_hook(a, "webhook", status, text);
        if (status != 0)
                crewd_log(w->crewd, "webhook: record %llu: %s", (unsigned long long)m->id, text);
}

static void on_sent(struct webhook *w, const struct webhook_msg *m) {
        char path[PATH_MAX], text[96];

        if (path_of(w, m->id, path) == 0)
                unlink(path);
        snprintf(text, sizeof(text), "on_agent_terminated was delivered at attempt %u", m->attempt);
        tell(w, m, 0, text);
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct webhook_msg *m = bytes;
        struct webhook *w = user;
        char why[160], text[256];

        (void)fds;
        (void)n_fds;
        text_copy(why, sizeof(why), m->text, MIN_OF(m->n, sizeof(m->text)));
        if (m->attempt <= 1 && m->agent != NO_AGENT)
                w->fresh -= w->fresh > 0;
        if (m->op != WEBHOOK_FAILED)
                w->waiting -= w->waiting > 0;
        if (m->op == WEBHOOK_SENT)
                on_sent(w, m);
        if (m->op == WEBHOOK_FAILED && m->attempt == 1) { /* the next ones say nothing new */
                snprintf(text, sizeof(text), "on_agent_terminated was not taken, it will be tried again: %s", why);
                tell(w, m, 1, text);
        }
        if (m->op == WEBHOOK_GIVEN_UP) {
                snprintf(text, sizeof(text), "on_agent_terminated waits for the next start of the crew: %s", why);
                tell(w, m, 1, text);
        }
        crewd_progress(w->crewd);
}

static void on_hangup(void *user) {
        struct webhook *w = user;

        crewd_log(w->crewd, "crew-webhook is gone: records wait in %s for the next start of the crew", w->outbox);
        channel_close(w->channel);
        w->channel = NULL;
        w->fresh = 0;
        crewd_progress(w->crewd);
}

/* --- life --- */

int webhook_open(struct crewd *c, int fd, struct webhook **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {.on_message = on_message, .on_hangup = on_hangup};
        struct webhook *w = calloc(1, sizeof(*w));
        int r;

        if (!w) {
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        w->crewd = c;
        snprintf(w->outbox, sizeof(w->outbox), "%.*s/%s/webhook.outbox", PATH_MAX - 128, c->paths.state, c->file->name);
        if ((r = channel_open(&c->loop, fd, sizeof(struct webhook_msg), &cb, w, &w->channel, err)) < 0 ||
            (r = crew_mkdir_p(w->outbox, 0700, err)) < 0) {
                webhook_close(w);
                return r;
        }
        send_left_over(w);
        *out = w;
        return 0;
}

void webhook_close(struct webhook *w) {
        if (!w)
                return;
        if (w->channel)
                channel_close(w->channel);
        free(w);
}

bool webhook_idle(const struct webhook *w) {
        return !w || w->fresh == 0;
}

void webhook_keep(struct webhook *w, struct agent *a, const struct termination *t) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *json = NULL;
        char path[PATH_MAX];
        size_t n = 0;

        if (!w)
                return;
        if (termination_json(a, t, TERMINATION_OUTSIDE, &json, &n) < 0 || path_of(w, t->id, path) < 0 ||
            crew_write_file_atomic(path, json, n, 0600, &err) < 0) {
                journal_hook(a, "webhook", -2, "on_agent_terminated was not sent: the outbox cannot be written");
                crewd_log(w->crewd, "webhook: %s", err.msg[0] ? err.msg : "out of memory");
                return;
        }
        hand_over(w, t->id, a->index, json, n);
}
