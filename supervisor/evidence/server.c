/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include "common/util.h"
#include "landlock.h"
#include "marks.h"
#include "notify.h"
#include "outbox.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TICK_MS 10
/* A dead instance: the kernel lets go of its Landlock domains some 60 ms after the last process. */
#define FORGET_MIN_NS (30ull * 1000000)
#define FORGET_MAX_NS (5000ull * 1000000)

int server_add(struct server *sv, struct source *s, uint32_t epoll_events, struct crew_err *err) {
        struct epoll_event ev = {.events = epoll_events, .data = {.ptr = s}};

        if (epoll_ctl(sv->epoll, EPOLL_CTL_ADD, s->fd, &ev) < 0)
                return crew_fail_errno(err, "cannot wait for a descriptor");
        return 0;
}

void server_remove(struct server *sv, struct source *s) {
        if (s->fd >= 0)
                (void)epoll_ctl(sv->epoll, EPOLL_CTL_DEL, s->fd, NULL);
        crew_close(&s->fd);
}

struct instance *server_instance(struct server *sv, uint32_t id) {
        struct instance *in = sv->instances;

        while (in && in->id != id)
                in = in->next;
        return in;
}

/* The newest first: an agent that is started again has the same uid. */
struct instance *server_instance_of(struct server *sv, uint32_t uid, uint64_t pid_ns) {
        struct instance *in = sv->instances;

        while (in && (in->uid != uid || (pid_ns && in->pid_ns && in->pid_ns != pid_ns)))
                in = in->next;
        return in;
}

uint64_t server_pid_ns(int32_t pid) {
        char path[32];
        struct stat st;

        snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
        return pid > 0 && stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void watch_output(struct server *sv, bool want) {
        struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data = {.ptr = &sv->crewd}};

        if (want != sv->want_out && epoll_ctl(sv->epoll, EPOLL_CTL_MOD, sv->crewd.fd, &ev) == 0)
                sv->want_out = want;
}

int server_send(struct server *sv, const struct evidence_msg *m) {
        ssize_t r;

        do
                r = send(sv->crewd.fd, m, sizeof(*m), MSG_DONTWAIT | MSG_NOSIGNAL);
        while (r < 0 && errno == EINTR);
        if (r == (ssize_t)sizeof(*m))
                return 0;
        if (r < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
                watch_output(sv, true);
                return -EAGAIN;
        }
        sv->stop = true;
        return r < 0 ? -errno : -EPIPE;
}

void server_report_lost(struct server *sv, uint32_t id, enum evidence_source source, uint64_t count) {
        struct instance *in = id ? server_instance(sv, id) : NULL;

        if (in)
                outbox_add_lost(in->outbox, source, count);
        else
                sv->lost_sources |= source;
}

/* True when something is still to be said. */
static bool say_lost(struct server *sv, uint64_t now, bool at_once) {
        static const enum evidence_source sources[] = {EVIDENCE_LANDLOCK, EVIDENCE_FANOTIFY, EVIDENCE_NOTIFY};

        if (!at_once && sv->lost_said_ns && now - sv->lost_said_ns < 1000000000u)
                return sv->lost_sources != 0;
        for (size_t i = 0; i < ELEMENTSOF(sources); i++) {
                struct evidence_msg m = {.op = EVIDENCE_LOST, .source = sources[i], .time_ns = crew_realtime_ns()};
                if (!(sv->lost_sources & sources[i]) || server_send(sv, &m) < 0)
                        continue;
                sv->lost_sources &= ~(uint32_t)sources[i];
                sv->lost_said_ns = now;
        }
        return sv->lost_sources != 0;
}

static void instance_free(struct server *sv, struct instance *in) {
        landlock_forget(sv, in);
        in->marks = marks_free(in->marks, sv);
        in->listener = listener_close(in->listener);
        in->outbox = outbox_free(in->outbox);
        free(in);
        sv->n_instances--;
}

static struct instance *instance_new(struct server *sv, const struct evidence_msg *m, struct crew_err *err) {
        struct instance *in = sv->n_instances < EVIDENCE_INSTANCES_MAX ? calloc(1, sizeof(*in)) : NULL;

        if (!in || !(in->outbox = outbox_new())) {
                free(in);
                (void)crew_fail(err, ENOMEM, "no room for one more instance");
                return NULL;
        }
        in->id = m->id;
        in->uid = m->uid;
        in->pid = m->pid;
        in->pid_ns = server_pid_ns(m->pid);
        in->next = sv->instances;
        sv->instances = in;
        sv->n_instances++;
        return in;
}

/* There is no outbox for it. */
static void say_unwatched(struct server *sv, uint32_t id, const struct crew_err *err) {
        const uint32_t source = sv->root ? EVIDENCE_LANDLOCK : EVIDENCE_NOTIFY;
        const struct evidence_msg m = {.op = EVIDENCE_LOST, .id = id, .source = source, .time_ns = crew_realtime_ns()};

        fprintf(stderr, "crew-evidence: instance %u: %s\n", id, err->msg);
        if (server_send(sv, &m) < 0)
                sv->lost_sources |= source;
}

/* What cannot be watched is lost evidence, and said as such; crewd decides what that means. */
static void on_watch(struct server *sv, const struct evidence_msg *m, int fd) {
        struct crew_err err = CREW_ERR_NULL;
        struct instance *in = server_instance(sv, m->id);
        int r = 0;

        if (!in) {
                in = instance_new(sv, m, &err);
                if (in && sv->root)
                        landlock_watch(sv, in);
        }
        if (!in) {
                crew_close(&fd);
                return say_unwatched(sv, m->id, &err);
        }
        if (fd >= 0 && !in->listener)
                r = (in->listener = listener_open(sv, in, crew_steal_fd(&fd), &err)) ? 0 : -EIO;
        if (r == 0 && in->listener)
                r = listener_add_paths(in->listener, m->path, m->path_len, &err);
        if (r == 0 && sv->root)
                r = marks_add(sv, in, m->path, m->path_len, &err);
        crew_close(&fd);
        if (r < 0) {
                fprintf(stderr, "crew-evidence: instance %u: %s\n", m->id, err.msg);
                outbox_add_lost(in->outbox, sv->root ? EVIDENCE_FANOTIFY : EVIDENCE_NOTIFY, 0);
        }
}

static void on_forget(struct server *sv, uint32_t id) {
        struct instance *in = server_instance(sv, id);
        struct evidence_msg m = {.op = EVIDENCE_FORGOTTEN, .id = id};

        if (in && in->forget_ns == 0) {
                in->forget_ns = crew_now_ns();
                in->forget_realtime_ns = crew_realtime_ns();
        } else if (!in) {
                (void)server_send(sv, &m);
        }
}

static void on_message(struct server *sv, const struct evidence_msg *m, int fd) {
        if (m->op == EVIDENCE_WATCH && m->path_len <= EVIDENCE_PATH_MAX) {
                on_watch(sv, m, fd);
                return;
        }
        crew_close(&fd);
        if (m->op == EVIDENCE_FORGET)
                on_forget(sv, m->id);
}

static void on_crewd(struct source *s, uint32_t events) {
        struct server *sv = (struct server *)((char *)s - offsetof(struct server, crewd));
        struct evidence_msg m;

        if (events & EPOLLOUT)
                watch_output(sv, false);
        if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                return;
        int fd = -1;
        size_t n_fds = 1;
        ssize_t n = crew_recv_fds(s->fd, &m, sizeof(m), &fd, &n_fds, MSG_DONTWAIT);
        if (n == -EAGAIN)
                return;
        if (n != (ssize_t)sizeof(m)) { /* crewd has gone, or is not the crewd we were built with */
                sv->stop = true;
                return;
        }
        on_message(sv, &m, n_fds == 1 ? fd : -1);
}

/* Has the kernel said all about it?  After FORGET_MAX_NS without the end of a domain, that end was lost. */
static bool all_in(struct server *sv, struct instance *in, uint64_t now) {
        uint64_t age = now - in->forget_ns;

        if (in->forget_ns == 0 || age < FORGET_MIN_NS || !landlock_caught_up(sv, in, FORGET_MIN_NS) ||
            (in->domains > 0 && age < FORGET_MAX_NS))
                return false;
        if (in->domains > 0)
                outbox_add_lost(in->outbox, EVIDENCE_LANDLOCK, 0);
        in->domains = 0;
        return true;
}

/* All in and all out: say so and drop it. */
static bool finished(struct server *sv, struct instance *in, uint64_t now) {
        if (!all_in(sv, in, now))
                return false;
        marks_drain(in->marks);
        if (outbox_flush(in->outbox, sv, in, true) != 0 || (sv->lost_sources && say_lost(sv, now, true)))
                return false;
        const struct evidence_msg m = {.op = EVIDENCE_FORGOTTEN, .id = in->id};
        return server_send(sv, &m) == 0;
}

/* Sends what is ready.  True when something waits for time to pass. */
static bool flush(struct server *sv) {
        uint64_t now = crew_now_ns();
        bool waiting = sv->lost_sources && say_lost(sv, now, false);

        for (struct instance **at = &sv->instances; *at && !sv->want_out && !sv->stop;) {
                struct instance *in = *at;
                if (finished(sv, in, now)) {
                        *at = in->next;
                        instance_free(sv, in);
                        continue;
                }
                waiting |= outbox_flush(in->outbox, sv, in, false) > 0 || in->forget_ns != 0;
                at = &in->next;
        }
        return waiting;
}

static void wait_once(struct server *sv, int timeout_ms) {
        /* One at a time: what a callback frees cannot be next in line. */
        struct epoll_event ev;

        if (epoll_wait(sv->epoll, &ev, 1, timeout_ms) == 1) {
                struct source *s = ev.data.ptr;
                s->on_ready(s, ev.events);
        }
}

int server_run(struct server *sv, struct crew_err *err) {
        sv->crewd.on_ready = on_crewd;
        int r = server_add(sv, &sv->crewd, EPOLLIN, err);

        while (r == 0 && !sv->stop) {
                bool waiting = flush(sv);
                wait_once(sv, waiting ? TICK_MS : -1);
        }
        while (sv->instances) {
                struct instance *in = sv->instances;
                sv->instances = in->next;
                instance_free(sv, in);
        }
        landlock_close(sv);
        return r;
}
