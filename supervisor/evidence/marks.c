/* SPDX-License-Identifier: Apache-2.0 */
#include "marks.h"

#include "common/util.h"
#include "outbox.h"
#include "parse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#define MARKS_MAX 512u
#define READ_BYTES 16384 /* of one wake-up: about 680 events */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U /* since Linux 6.8 */
#endif
#define ANY_MNT_ID (STATX_MNT_ID | STATX_MNT_ID_UNIQUE)

struct mark {
        uint64_t mnt_id;
        size_t len;
        char *path; /* in the view */
};

struct queue {
        struct source source;
        struct server *server;
        struct marks *owner; /* NULL: shared */
};

struct marks { /* of one instance */
        struct server *server;
        uint32_t instance;
        struct queue *queue;
        size_t n;
        struct mark marks[MARKS_MAX];
};

static struct queue *shared; /* made first, and kept: later the kernel may have none left */
static unsigned n_own;

static int new_group(void) {
        return fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK,
                             O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NONBLOCK | O_NOATIME);
}

bool marks_work_here(void) {
        _cleanup_close_ int fd = new_group();

        return fd >= 0;
}

static const struct mark *mark_in(const struct marks *m, uint64_t mnt_id) {
        for (size_t i = 0; m && i < m->n; i++)
                if (m->marks[i].mnt_id == mnt_id)
                        return &m->marks[i];
        return NULL;
}

/* Whose mount it was. */
static const struct mark *find_mark(const struct queue *q, uint64_t mnt_id, struct instance **in) {
        const struct mark *mark;

        for (*in = q->server->instances; *in; *in = (*in)->next)
                if ((*in)->marks && (*in)->marks->queue == q && (mark = mark_in((*in)->marks, mnt_id)))
                        return mark;
        return NULL;
}

/* The kernel gives the path from the root of the jail; once that is coming down, from the root of the mount. */
static size_t path_of(int fd, const struct mark *mark, char *out, size_t room) {
        char link[32], target[EVIDENCE_PATH_MAX];

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target));
        if (n <= 0)
                n = 0;
        if (n > 0 && parse_within(mark->path, mark->len, target, (size_t)n)) {
                memcpy(out, target, MIN_OF((size_t)n, room));
                return MIN_OF((size_t)n, room);
        }
        size_t len = MIN_OF(mark->len, room);
        memcpy(out, mark->path, len);
        if (n <= 1 || target[0] != '/')
                return len;
        while (len > 1 && out[len - 1] == '/')
                len--;
        size_t tail = MIN_OF((size_t)n, room - len);
        memcpy(out + len, target, tail);
        return len + tail;
}

static void report(struct instance *in, enum evidence_what what, int32_t pid, const char *path, size_t n) {
        const struct event ev = {
                .source = EVIDENCE_FANOTIFY,
                .what = what,
                .pid = pid,
                .time_ns = crew_realtime_ns(),
                .count = 1,
                .access = "",
                .path = path,
                .path_len = n,
        };
        outbox_add(in->outbox, &ev);
}

/* Equal events that waited in the kernel's queue come merged: one event with several bits. */
static void on_event(struct queue *q, const struct fanotify_event_metadata *e) {
        char path[EVIDENCE_PATH_MAX];
        struct instance *in;
        struct statx sx;

        if (e->pid == q->server->crewd_pid || e->pid == getpid())
                return;
        if (statx(e->fd, "", AT_EMPTY_PATH, ANY_MNT_ID, &sx) < 0)
                return;
        const struct mark *mark = find_mark(q, sx.stx_mnt_id, &in);
        if (!mark)
                return;
        size_t n = path_of(e->fd, mark, path, sizeof(path));
        if (e->mask & FAN_OPEN_EXEC)
                report(in, EVIDENCE_EXEC, e->pid, path, n);
        else if (e->mask & (FAN_OPEN | FAN_CLOSE_NOWRITE))
                report(in, EVIDENCE_FILE_OPEN_READ, e->pid, path, n);
        if (e->mask & FAN_CLOSE_WRITE)
                report(in, EVIDENCE_FILE_MODIFIED, e->pid, path, n);
}

static void on_overflow(struct queue *q) {
        server_report_lost(q->server, q->owner ? q->owner->instance : 0, EVIDENCE_FANOTIFY, 0);
}

/* One buffer full.  False when the queue is empty. */
static bool read_events(struct queue *q) {
        union {
                struct fanotify_event_metadata align;
                char bytes[READ_BYTES];
        } buf;
        ssize_t n = read(q->source.fd, &buf, sizeof(buf));

        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                /* The file of the first event could not be opened for us; that event is gone. */
                server_report_lost(q->server, q->owner ? q->owner->instance : 0, EVIDENCE_FANOTIFY, 1);
                return true;
        }
        if (n <= 0)
                return false;
        const struct fanotify_event_metadata *e = &buf.align;
        for (; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
                if (e->vers != FANOTIFY_METADATA_VERSION)
                        return false;
                if (e->mask & FAN_Q_OVERFLOW)
                        on_overflow(q);
                if (e->fd >= 0) {
                        on_event(q, e);
                        close(e->fd);
                }
        }
        return true;
}

static void on_ready(struct source *s, uint32_t events) {
        (void)events;
        (void)read_events((struct queue *)s);
}

void marks_drain(struct marks *m) {
        for (unsigned i = 0; m && i < 256 && read_events(m->queue); i++)
                ;
}

static struct queue *queue_new(struct server *sv, int fd, struct crew_err *err) {
        struct queue *q = calloc(1, sizeof(*q));

        if (q) {
                q->source = (struct source){.fd = fd, .on_ready = on_ready};
                q->server = sv;
                if (server_add(sv, &q->source, EPOLLIN, err) == 0)
                        return q;
        }
        free(q);
        close(fd);
        return NULL;
}

static void queue_unuse(struct queue *q, struct server *sv) {
        if (!q || q == shared)
                return;
        n_own--;
        server_remove(sv, &q->source);
        free(q);
}

static int make_shared(struct server *sv, struct crew_err *err) {
        int fd = shared ? -1 : new_group();

        if (shared)
                return 0;
        if (fd < 0)
                return crew_fail_errno(err, "cannot make a fanotify queue");
        shared = queue_new(sv, fd, err);
        return shared ? 0 : -ENOMEM;
}

/* One of its own, as long as that leaves some for other crews of this host. */
static struct queue *queue_for(struct server *sv, struct marks *m, struct crew_err *err) {
        if (make_shared(sv, err) < 0)
                return NULL;
        int fd = n_own < MARKS_OWN_QUEUES ? new_group() : -1;
        struct queue *q = fd >= 0 ? queue_new(sv, fd, NULL) : NULL;
        if (!q)
                return shared;
        q->owner = m;
        n_own++;
        return q;
}

static uint64_t mask_for(int fd) {
        struct statvfs fs;

        /* Read-only: every open is a read, known at once.  Writable: only the close says whether it was a write. */
        bool ro = fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_RDONLY);
        return FAN_OPEN_EXEC | (ro ? FAN_OPEN : FAN_CLOSE_WRITE | FAN_CLOSE_NOWRITE);
}

static int add_mark(struct marks *m, int root, const char *path, size_t len, struct crew_err *err) {
        struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                               .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
        _cleanup_close_ int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        char link[32];
        struct statx sx;

        if (m->n == MARKS_MAX)
                return crew_fail(err, E2BIG, "more than %u mounts to watch", MARKS_MAX);
        if (fd < 0)
                return errno == ENOENT ? 0 : crew_fail_errno(err, "cannot open %s in the jail", path);
        if (statx(fd, "", AT_EMPTY_PATH, ANY_MNT_ID, &sx) < 0)
                return crew_fail_errno(err, "cannot look at %s in the jail", path);
        if (mark_in(m, sx.stx_mnt_id))
                return 0;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (fanotify_mark(m->queue->source.fd, FAN_MARK_ADD | FAN_MARK_MOUNT, mask_for(fd), AT_FDCWD, link) < 0)
                return crew_fail_errno(err, "cannot mark %s", path);
        char *copy = strndup(path, len);
        if (!copy)
                return crew_fail(err, ENOMEM, "out of memory");
        m->marks[m->n++] = (struct mark){.mnt_id = sx.stx_mnt_id, .len = len, .path = copy};
        return 0;
}

static struct marks *marks_new(struct server *sv, uint32_t instance, struct crew_err *err) {
        struct marks *m = calloc(1, sizeof(*m));

        if (!m) {
                (void)crew_fail(err, ENOMEM, "out of memory");
                return NULL;
        }
        m->server = sv;
        m->instance = instance;
        if (!(m->queue = queue_for(sv, m, err))) {
                free(m);
                return NULL;
        }
        return m;
}

int marks_add(struct server *sv, struct instance *in, const char *paths, size_t n, struct crew_err *err) {
        char link[32];

        if (n == 0)
                return 0;
        snprintf(link, sizeof(link), "/proc/%d/root", in->pid);
        _cleanup_close_ int root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return crew_fail_errno(err, "cannot enter the jail's view");
        if (!in->marks && !(in->marks = marks_new(sv, in->id, err)))
                return -EMFILE;
        for (size_t at = 0; at < n;) {
                size_t len = strnlen(paths + at, n - at);
                if (at + len == n) /* not terminated */
                        return crew_fail(err, EPROTO, "bad watch path");
                int r = len ? add_mark(in->marks, root, paths + at, len, err) : 0;
                if (r < 0)
                        return r;
                at += len + 1;
        }
        return 0;
}

struct marks *marks_free(struct marks *m, struct server *sv) {
        if (!m)
                return NULL;
        queue_unuse(m->queue, sv);
        for (size_t i = 0; i < m->n; i++)
                free(m->marks[i].path);
        free(m);
        return NULL;
}
