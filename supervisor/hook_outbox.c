/* SPDX-License-Identifier: Apache-2.0 */
#include "hook_outbox.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (4 * HOOK_OUTBOX_BYTES) /* more than one of ours can become */
#define HEAD_MAX 128u                    /* of a line, before the JSON */

struct hook_outbox {
        char path[PATH_MAX];
        int fd;            /* owned */
        bool unsynced;     /* since the last hook_outbox_sync() something was added */
        size_t file_bytes; /* whole lines only */
        struct hook_outbox_item *first, **last;
        size_t n, bytes;
};

static void append(struct hook_outbox *o, struct hook_outbox_item *i) {
        *o->last = i;
        o->last = &i->next;
        o->n++;
        o->bytes += i->n;
}

static void drop(struct hook_outbox *o, struct hook_outbox_item **at) {
        struct hook_outbox_item *i = *at;

        *at = i->next;
        if (o->last == &i->next)
                o->last = at;
        o->n--;
        o->bytes -= i->n;
        free(i->json);
        free(i);
}

static struct hook_outbox_item *item_new(uint64_t id, const char *agent, const char *json, size_t n) {
        struct hook_outbox_item *i = calloc(1, sizeof(*i));

        if (!i || !(i->json = malloc(n + 1))) {
                free(i);
                return NULL;
        }
        i->id = id;
        snprintf(i->agent, sizeof(i->agent), "%s", agent);
        memcpy(i->json, json, n);
        i->json[n] = '\0';
        i->n = n;
        return i;
}

/* --- reading --- */

static struct hook_outbox_item **find(struct hook_outbox *o, uint64_t id) {
        for (struct hook_outbox_item **at = &o->first; *at; at = &(*at)->next) {
                if ((*at)->id == id)
                        return at;
        }
        return NULL;
}

/* "ID AGENT JSON": 0, 1 when it is something else, -ENOMEM. */
static int take_put(struct hook_outbox *o, char *text) {
        char *agent = strchr(text, ' '), *json = agent ? strchr(agent + 1, ' ') : NULL;
        struct hook_outbox_item *i;
        uint64_t id;

        if (!json)
                return 1;
        *agent++ = *json++ = '\0';
        if (crew_parse_u64(text, &id) < 0 || !crew_agent_name_ok(agent) || json[0] != '{' || find(o, id) ||
            o->n == HOOK_OUTBOX_MAX)
                return 1;
        if (!(i = item_new(id, agent, json, strlen(json))))
                return -ENOMEM;
        append(o, i);
        return 0;
}

static int take_ack(struct hook_outbox *o, const char *text) {
        struct hook_outbox_item **at = NULL;
        uint64_t id;

        if (crew_parse_u64(text, &id) == 0)
                at = find(o, id);
        if (at)
                drop(o, at);
        return at ? 0 : 1;
}

static int take_lines(struct hook_outbox *o, char *text, size_t n, uint32_t *dropped) {
        char *end = text + n, *nl;

        for (char *line = text; line < end; line = nl + 1) {
                int r = 1;
                nl = memchr(line, '\n', (size_t)(end - line));
                if (!nl) { /* cut off by the end of that crewd */
                        ++*dropped;
                        break;
                }
                *nl = '\0';
                if (strlen(line) != (size_t)(nl - line))
                        r = 1;
                else if (strncmp(line, "put ", 4) == 0)
                        r = take_put(o, line + 4);
                else if (strncmp(line, "ack ", 4) == 0)
                        r = take_ack(o, line + 4);
                if (r < 0)
                        return r;
                *dropped += r > 0;
        }
        return 0;
}

/* --- writing --- */

static size_t write_head(char head[HEAD_MAX], const struct hook_outbox_item *i) {
        return (size_t)snprintf(head, HEAD_MAX, "put %llu %s ", (unsigned long long)i->id, i->agent);
}

/* The file again, with what waits and nothing else. */
static int rewrite(struct hook_outbox *o, struct crew_err *err) {
        _cleanup_free_ char *text = malloc(o->bytes + o->n * (HEAD_MAX + 1) + 1);
        size_t n = 0;

        if (!text)
                return crew_fail(err, ENOMEM, "out of memory");
        for (const struct hook_outbox_item *i = o->first; i; i = i->next) {
                n += write_head(text + n, i);
                memcpy(text + n, i->json, i->n);
                n += i->n;
                text[n++] = '\n';
        }
        int r = crew_write_file_atomic(o->path, text, n, 0600, err);
        if (r < 0)
                return r;
        crew_close(&o->fd);
        o->fd = open(o->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
        o->file_bytes = n;
        return o->fd < 0 ? crew_fail_errno(err, "cannot open %s", o->path) : 0;
}

/* All of it or nothing: a part of a line would swallow the next one. */
static int write_line(struct hook_outbox *o, const char *line, size_t n, bool durable, struct crew_err *err) {
        if (o->fd < 0)
                return crew_fail(err, EBADF, "%s is not open any more", o->path);
        int r = crew_write_full(o->fd, line, n);
        if (r == 0 && durable && fdatasync(o->fd) < 0)
                r = -errno;
        if (r == 0) {
                o->file_bytes += n;
                return 0;
        }
        if (ftruncate(o->fd, (off_t)o->file_bytes) < 0)
                crew_close(&o->fd);
        return crew_fail(err, -r, "cannot write %s: %s", o->path, strerror(-r));
}

/* --- outside --- */

static int load(struct hook_outbox *o, uint32_t *dropped, struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        int r = crew_read_file(o->path, FILE_MAX, &text, &n, err);
        if (r == -ENOENT)
                return 0;
        if (r == 0 && take_lines(o, text, n, dropped) < 0)
                r = crew_fail(err, ENOMEM, "out of memory");
        return r;
}

int hook_outbox_open(const char *path, struct hook_outbox **out, uint32_t *dropped, struct crew_err *err) {
        struct hook_outbox *o = calloc(1, sizeof(*o));
        int r;

        *dropped = 0;
        if (!o)
                return crew_fail(err, ENOMEM, "out of memory");
        o->fd = -1;
        o->last = &o->first;
        if ((size_t)snprintf(o->path, sizeof(o->path), "%s", path) >= sizeof(o->path))
                r = crew_fail(err, ENAMETOOLONG, "path too long: %s", path);
        else if ((r = load(o, dropped, err)) == 0)
                r = rewrite(o, err);
        if (r < 0) {
                hook_outbox_close(o);
                return r;
        }
        *out = o;
        return 0;
}

struct hook_outbox *hook_outbox_close(struct hook_outbox *o) {
        if (!o)
                return NULL;
        hook_outbox_tidy(o);
        while (o->first)
                drop(o, &o->first);
        crew_close(&o->fd);
        free(o);
        return NULL;
}

static int put(struct hook_outbox *o, uint64_t id, const char *agent, const char *json, size_t n, bool durable,
               struct crew_err *err) {
        struct hook_outbox_item *i;

        if (o->n == HOOK_OUTBOX_MAX || o->bytes + n > HOOK_OUTBOX_BYTES)
                return crew_fail(err, ENOBUFS, "too many wait");
        _cleanup_free_ char *line = malloc(HEAD_MAX + n + 1);
        if (!line || !(i = item_new(id, agent, json, n)))
                return crew_fail(err, ENOBUFS, "out of memory");
        append(o, i);
        size_t at = write_head(line, i);
        memcpy(line + at, json, n);
        line[at + n] = '\n';
        return write_line(o, line, at + n + 1, durable, err);
}

int hook_outbox_put(struct hook_outbox *o, uint64_t id, const char *agent, const char *json, size_t n,
                    struct crew_err *err) {
        return put(o, id, agent, json, n, true, err);
}

int hook_outbox_add(struct hook_outbox *o, uint64_t id, const char *agent, const char *json, size_t n,
                    struct crew_err *err) {
        o->unsynced = true;
        return put(o, id, agent, json, n, false, err);
}

int hook_outbox_sync(struct hook_outbox *o, struct crew_err *err) {
        if (!o->unsynced)
                return 0;
        o->unsynced = false;
        return fdatasync(o->fd) < 0 ? crew_fail_errno(err, "cannot write %s", o->path) : 0;
}

const struct hook_outbox_item *hook_outbox_first(const struct hook_outbox *o) {
        return o->first;
}

static bool is_behind(const struct hook_outbox *o, const struct hook_outbox_item *i) {
        for (const struct hook_outbox_item *before = o->first; before != i; before = before->next) {
                if (strcmp(before->agent, i->agent) == 0)
                        return true;
        }
        return false;
}

struct hook_outbox_item *hook_outbox_next(struct hook_outbox *o) {
        for (struct hook_outbox_item *i = o->first; i; i = i->next) {
                if (!i->running && !is_behind(o, i))
                        return i;
        }
        return NULL;
}

struct hook_outbox_item *hook_outbox_find(struct hook_outbox *o, uint64_t id) {
        struct hook_outbox_item **at = find(o, id);

        return at ? *at : NULL;
}

void hook_outbox_ack(struct hook_outbox *o, uint64_t id) {
        struct hook_outbox_item **at = find(o, id);
        char line[40];

        if (!at)
                return;
        int n = snprintf(line, sizeof(line), "ack %llu\n", (unsigned long long)id);
        drop(o, at);
        /* What goes wrong here is a repeat later. */
        if (o->file_bytes > o->bytes + HOOK_OUTBOX_SPARE)
                (void)rewrite(o, NULL);
        else
                (void)write_line(o, line, (size_t)n, false, NULL);
}

void hook_outbox_tidy(struct hook_outbox *o) {
        if (o->n == 0 && o->file_bytes > 0 && o->fd >= 0 && ftruncate(o->fd, 0) == 0)
                o->file_bytes = 0;
}

size_t hook_outbox_count(const struct hook_outbox *o) {
        return o->n;
}
