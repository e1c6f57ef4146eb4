/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One epoll over crewd's socket, each jail that is being made and the pidfd of each that is.  A jail is cloned and given
 * what is ours to give; while its child seals itself, the next one is begun.  crewd sees to it that there are not many at a
 * time.
 */
#include "spawner.h"

#include "spawner_internal.h"

#include "common/netrules.h"
#include "common/util.h"
#include "worker/sandbox/privs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define POOL_IDLE_MS 20 /* a burst of starts is not held up by namespaces for later */
#define LATE_LOOK_MS 1000
#define MOUNTS_NS 200000000u /* what the dead had mounted is kept no longer, however much there is to do */
#define GOVERN_SOON_NS 1000000u
#define GOVERN_BUSY_NS 40000000u /* who is to be looked at sooner than that does something */
#define GOVERN_SPARE 30u
#define GOVERN_SPARE_IDLE 100u
#define PATIENCE_NS (JAIL_KILL_PATIENCE_MS * 1000000ull)
#define READY_FDS 6 /* pidfd, four listeners, the seccomp listener */

struct instance *spawner_find(struct spawner *s, uint32_t id) {
        for (struct instance *i = s->instances; i; i = i->next) {
                if (i->id == id)
                        return i;
        }
        return NULL;
}

static void drop(struct spawner *s, struct instance *gone) {
        for (struct instance **p = &s->instances; *p; p = &(*p)->next) {
                if (*p == gone) {
                        *p = gone->next;
                        for (size_t i = 0; i < SPAWN_LOCKS_MAX; i++)
                                crew_close(&gone->locks[i]);
                        plan_close(gone->plan);
                        free(gone);
                        return;
                }
        }
}

/* crewd that does not take a message is crewd that is gone; its last orders are in the socket still. */
void spawner_reply(struct spawner *s, const struct spawn_msg *m, const int *fds, size_t n_fds) {
        ssize_t n = s->sock >= 0 ? crew_send_fds(s->sock, m, sizeof(*m), fds, n_fds) : 0;

        if (n == -EPIPE || n == -ECONNRESET)
                s->hearing_out = true;
        else if (n < 0)
                spawner_lost(s);
}

int spawner_watch(struct spawner *s, int fd, void *data) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = data};
        return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* --- limits without control groups --- */

void spawner_govern_soon(struct spawner *s, struct instance *i) {
        i->govern_at_ns = 0;
        s->govern_at_ns = MIN_OF(s->govern_at_ns, crew_now_ns() + GOVERN_SOON_NS);
}

uint64_t spawner_cpu_now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Those that are due, and those that soon are.  All looks together take a thirtieth of a CPU at most, a hundredth while
 * nothing is done anywhere: what is owed meanwhile is owed. */
static void govern(struct spawner *s) {
        uint64_t began = crew_now_ns(), next = UINT64_MAX, cpu = spawner_cpu_now_ns();

        for (struct instance *i = s->instances; i; i = i->next) {
                if (i->start)
                        continue;
                if (i->govern_at_ns <= began + GOVERN_SOON_NS)
                        i->govern_at_ns = jail_govern(&i->jail, crew_now_ns());
                next = MIN_OF(next, i->govern_at_ns);
        }
        uint64_t now = crew_now_ns(), spare = next < now + GOVERN_BUSY_NS ? GOVERN_SPARE : GOVERN_SPARE_IDLE;
        s->govern_at_ns = MAX_OF(next, now + (spawner_cpu_now_ns() - cpu) * spare);
}

/* --- start --- */

/* The start, which is the caller's now. */
static struct jail_start *forget_start(struct spawner *s, struct instance *i) {
        s->starting--;
        return crew_steal_ptr(&i->start);
}

static void reply_failed(struct spawner *s, uint32_t id, const char *step, const struct crew_err *err) {
        struct spawn_msg m = {.op = SPAWN_FAILED, .id = id, .errno_ = err->code};
        size_t n = strlen(step);

        snprintf(m.step, sizeof(m.step), "%s", step);
        /* jail_spawn() puts the step in front of its text; here it has a field of its own. */
        bool prefixed = n > 0 && strncmp(err->msg, step, n) == 0 && strncmp(err->msg + n, ": ", 2) == 0;
        snprintf(m.text, sizeof(m.text), "%.511s", prefixed ? err->msg + n + 2 : err->msg);
        spawner_reply(s, &m, NULL, 0);
}

static void reply_ready(struct spawner *s, struct instance *i, const struct plan *plan) {
        struct spawn_msg m = {.op = SPAWN_READY, .id = i->id, .att = i->jail.att};
        int fds[READY_FDS];
        size_t n = 0;

        fds[n++] = i->jail.pidfd;
        for (size_t k = 0; (plan->flags & PLAN_NETRULES) && k < ELEMENTSOF(i->jail.listeners); k++)
                fds[n++] = i->jail.listeners[k];
        if (plan->flags & PLAN_NOTIFY)
                fds[n++] = i->jail.notify_fd;
        spawner_reply(s, &m, fds, n);
        /* Handed over: whoever serves them now must be the only holder, or its end would not be noticed in the jail. */
        if (plan->flags & PLAN_HOLD)
                return; /* kept for the next crewd: while there is none, what comes in waits */
        for (size_t k = 0; k < ELEMENTSOF(i->jail.listeners); k++)
                crew_close(&i->jail.listeners[k]);
        crew_close(&i->jail.notify_fd);
}

/* Its end, whatever the outcome, and how it is told. */
static void finish_start(struct spawner *s, struct instance *i) {
        struct crew_err err = CREW_ERR_NULL;
        uint32_t id = i->id;

        epoll_ctl(s->epoll, EPOLL_CTL_DEL, jail_start_fd(i->start), NULL);
        int r = jail_finish(forget_start(s, i), &err);
        const struct plan *plan = crew_steal_ptr(&i->plan);
        if (r == 0 && (r = spawner_watch(s, i->jail.pidfd, i)) < 0) {
                struct spawn_exit unused;
                jail_kill(&i->jail, &unused);
                crew_fail(&err, -r, "cannot watch the jail: %s", strerror(-r));
        }
        if (r < 0) {
                char step[sizeof(i->jail.step)];
                memcpy(step, i->jail.step, sizeof(step));
                drop(s, i);
                reply_failed(s, id, step, &err);
        } else {
                reply_ready(s, i, plan);
                spawner_govern_soon(s, i);
        }
        plan_close(plan);
}

/* Those that are to be ready by then; each may be the end of others, should crewd be gone. */
static void finish_starts(struct spawner *s, uint64_t by_ns) {
        struct instance *i = s->instances;

        while (i && s->starting > 0) {
                if (!i->start || i->jail.kill_sent_ns || jail_start_by(i->start) > by_ns) {
                        i = i->next;
                        continue;
                }
                finish_start(s, i);
                i = s->instances;
        }
}

void spawner_finish_starts(struct spawner *s) {
        finish_starts(s, UINT64_MAX);
}

/* The instance, with all of it made: what comes for it was meant for then. */
static struct instance *find_made(struct spawner *s, uint32_t id) {
        struct instance *i = spawner_find(s, id);

        if (i && i->start && !i->jail.kill_sent_ns) {
                finish_start(s, i);
                i = spawner_find(s, id);
        }
        return i;
}

/* The pool's listeners are the jail's, or closed. */
static int begin_jail(struct spawner *s, const struct spawn_msg *m, struct instance *i, struct crew_err *err) {
        struct jail_spawn_args args = {
                .plan = i->plan,
                .link_path = m->text[0] ? m->text : NULL,
                .stdio = {-1, -1, -1},
                .main = s->worker_main,
                .own_net_ns = s->pool.own_ns,
        };
        struct netpool_entry net = NETPOOL_NONE;

        if (netpool_take(&s->pool, i->plan, &net))
                args.net = &net;
        int r = jail_begin(&args, &i->jail, &i->start, err);
        netpool_entry_close(&net);
        if (r < 0)
                return r;
        s->starting++;
        if (!s->late_at_ns)
                s->late_at_ns = jail_start_by(i->start);
        if ((r = spawner_watch(s, jail_start_fd(i->start), i)) < 0) {
                struct spawn_exit unused;
                jail_kill(&i->jail, &unused);
                jail_start_forget(forget_start(s, i));
                return crew_fail(err, -r, "cannot watch the jail: %s", strerror(-r));
        }
        return 0;
}

/* The plan is the instance's, or closed. */
static void start_planned(struct spawner *s, const struct spawn_msg *m, const struct plan *plan, int *locks,
                          size_t n_locks) {
        struct crew_err err = CREW_ERR_NULL;
        struct instance *i = calloc(1, sizeof(*i));

        if (!i) {
                crew_fail(&err, ENOMEM, "out of memory");
                plan_close(plan);
                return reply_failed(s, m->id, "plan", &err);
        }
        *i = (struct instance){
                .id = m->id, .jail = JAIL_NULL, .plan = plan, .locks = {-1, -1}, .held = plan->flags & PLAN_HOLD};
        snprintf(i->agent, sizeof(i->agent), "%s", plan->agent);
        if (begin_jail(s, m, i, &err) < 0) {
                reply_failed(s, m->id, i->jail.step, &err);
                plan_close(plan);
                free(i);
                return;
        }
        for (size_t k = 0; k < n_locks; k++)
                i->locks[k] = crew_steal_fd(&locks[k]);
        i->next = s->instances;
        s->instances = i;
}

static void on_start(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct crew_err err = CREW_ERR_NULL;
        const struct plan *plan = NULL;

        if (n_fds < 1 || n_fds > 1 + SPAWN_LOCKS_MAX || spawner_find(s, m->id) || !memchr(m->text, '\0', sizeof(m->text)))
                crew_fail(&err, EPROTO, "a start message with %zu descriptors, or for an id in use", n_fds);
        else
                plan_open(fds[0], &plan, &err);
        if (!plan)
                return reply_failed(s, m->id, "plan", &err);
        start_planned(s, m, plan, fds + 1, n_fds - 1);
}

/* --- the rest --- */

void spawner_press_later(struct spawner *s) {
        if (!s->press_at_ns)
                s->press_at_ns = crew_now_ns() + PATIENCE_NS;
}

static void on_kill(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct instance *i = spawner_find(s, m->id);

        if (!i)
                return; /* it has just exited, and SPAWN_EXITED is on its way */
        jail_kill_begin(&i->jail);
        spawner_press_later(s);
}

static void on_freeze(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        spawner_freeze(s, find_made(s, m->id), m);
}

static void on_stats(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct spawn_msg answer = {.op = SPAWN_STATS_REPLY, .id = m->id, .cookie = m->cookie};
        struct instance *i = find_made(s, m->id);

        if (i) {
                jail_stats(&i->jail, &answer.stats);
                spawner_reply(s, &answer, NULL, 0);
        }
}

static void on_limits(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct spawn_msg answer = {.op = SPAWN_LIMITS_REPLY, .id = m->id, .cookie = m->cookie};
        struct instance *i = find_made(s, m->id);

        answer.errno_ = i ? -jail_limit(&i->jail, &m->limits) : ESRCH;
        if (i)
                spawner_govern_soon(s, i);
        spawner_reply(s, &answer, NULL, 0);
}

static void (*const handlers[])(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) = {
        [SPAWN_START] = on_start,           [SPAWN_KILL] = on_kill,
        [SPAWN_FREEZE] = on_freeze,         [SPAWN_THAW] = on_freeze,
        [SPAWN_STATS] = on_stats,           [SPAWN_LIMITS] = on_limits,
        [SPAWN_HOLD] = spawner_on_hold,     [SPAWN_RELINK] = spawner_on_relink,
        [SPAWN_FORGET] = spawner_on_forget,
};

/* What counts of a crewd that is gone: nothing is begun for it any more, and it waits for no answer. */
static const bool last_orders[ELEMENTSOF(handlers)] = {[SPAWN_KILL] = true, [SPAWN_HOLD] = true, [SPAWN_FORGET] = true};

static void on_message(struct spawner *s) {
        struct spawn_msg m;
        int fds[1 + SPAWN_LOCKS_MAX + 1];
        size_t n_fds = ELEMENTSOF(fds);
        ssize_t n = crew_recv_fds(s->sock, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);

        if (n == -ECONNRESET) { /* said once, by a crewd that has not read all: its last orders are behind that */
                s->hearing_out = true;
                n_fds = ELEMENTSOF(fds);
                n = crew_recv_fds(s->sock, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);
        }
        if (n == -EAGAIN || n == -EINTR)
                return;
        if (n != (ssize_t)sizeof(m) || m.op >= ELEMENTSOF(handlers) || !handlers[m.op]) {
                spawner_lost(s); /* hung up, or not crewd */
                n_fds = n < 0 ? 0 : n_fds;
        } else {
                spawner_has_crewd(s);
                if (!s->hearing_out || last_orders[m.op])
                        handlers[m.op](s, &m, fds, n_fds);
        }
        for (size_t i = 0; i < n_fds; i++)
                crew_close(&fds[i]);
}

static void close_mounts(struct spawner *s) {
        while (s->n_mounts > 0)
                crew_close(&s->mounts[--s->n_mounts]);
}

/* That unmounts all of it, a quarter of a millisecond each: after crewd knows of it, and of whoever died with it. */
static void bury_mounts(struct spawner *s, int mounts) {
        if (mounts < 0)
                return;
        if (s->n_mounts == SPAWNER_MOUNTS_MAX)
                close_mounts(s);
        if (s->n_mounts == 0)
                s->mounts_by_ns = crew_now_ns() + MOUNTS_NS;
        s->mounts[s->n_mounts++] = mounts;
}

static void on_exited(struct spawner *s, struct instance *i) {
        struct spawn_msg m = {.op = SPAWN_EXITED, .id = i->id};

        /* Taken out by hand: crewd holds the same open pidfd, so closing ours would leave the event, and its pointer,
         * armed. */
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, i->start ? jail_start_fd(i->start) : i->jail.pidfd, NULL);
        int mounts = crew_steal_fd(&i->jail.mnt_ns);
        jail_reap(&i->jail, true, &m.exit);
        if (i->start) /* killed before it was made */
                jail_start_forget(forget_start(s, i));
        snprintf(m.text, sizeof(m.text), "%s", i->killed_why);
        m.cookie = i->killed_uid;
        spawner_keep_exit(s, &m);
        spawner_reply(s, &m, NULL, 0);
        drop(s, i);
        bury_mounts(s, mounts);
}

/* All at once, then one after the other: they die in parallel. */
static void kill_all(struct spawner *s) {
        for (struct instance *i = s->instances; i; i = i->next)
                jail_kill_begin(&i->jail);
        while (s->instances) {
                struct spawn_exit unused;
                jail_reap(&s->instances->jail, true, &unused);
                if (s->instances->start)
                        jail_start_forget(forget_start(s, s->instances));
                drop(s, s->instances);
        }
}

static void say_hello(struct spawner *s) {
        struct spawn_msg m = {.op = SPAWN_HELLO};

        jail_sweep(m.text, sizeof(m.text));
        spawner_reply(s, &m, NULL, 0);
}

/* One at a time, and only when nothing else is to do. */
static void fill_pool(struct spawner *s) {
        struct crew_err err = CREW_ERR_NULL;

        if (netpool_fill(&s->pool, &err) != -ENOTRECOVERABLE)
                return;
        fprintf(stderr, "crew-worker: %s\n", err.msg);
        s->done = true;
}

/* What was killed long enough ago and lives is killed harder; what was killed just now is looked at later. */
static void press(struct spawner *s) {
        uint64_t now = crew_now_ns();

        s->press_at_ns = 0;
        for (struct instance *i = s->instances; i; i = i->next) {
                const struct jail *j = &i->jail;
                if (!j->kill_sent_ns || j->kill_pressed)
                        continue;
                if (now >= j->kill_sent_ns + PATIENCE_NS)
                        jail_kill_press(&i->jail);
                else if (!s->press_at_ns || j->kill_sent_ns + PATIENCE_NS < s->press_at_ns)
                        s->press_at_ns = j->kill_sent_ns + PATIENCE_NS;
        }
}

/* Both waits are of this length. */
_Static_assert(POOL_IDLE_MS == JAIL_KILL_PATIENCE_MS, "one time-out serves the pool and the killed");

/* Those whose time is over: jail_finish() sees that it is. */
static void end_late(struct spawner *s) {
        finish_starts(s, crew_now_ns());
        s->late_at_ns = 0;
        for (const struct instance *i = s->starting > 0 ? s->instances : NULL; i; i = i->next) {
                if (i->start && !i->jail.kill_sent_ns && (!s->late_at_ns || jail_start_by(i->start) < s->late_at_ns))
                        s->late_at_ns = jail_start_by(i->start);
        }
}

static int others_wait_ms(const struct spawner *s) {
        if (s->press_at_ns || s->n_mounts > 0 || netpool_wants(&s->pool))
                return POOL_IDLE_MS;
        int held = spawner_held_wait_ms(s);
        return s->late_at_ns && (held < 0 || held > LATE_LOOK_MS) ? LATE_LOOK_MS : held;
}

static int wait_ms(const struct spawner *s) {
        uint64_t now = crew_now_ns();
        int others = others_wait_ms(s);

        uint64_t next = MIN_OF(s->govern_at_ns, s->freeze_at_ns);
        if (next == UINT64_MAX)
                return others;
        uint64_t ms = next <= now ? 0 : (next - now) / 1000000u + 1;
        return others < 0 || ms < (uint64_t)others ? (int)MIN_OF(ms, (uint64_t)LATE_LOOK_MS) : others;
}

static void on_event(struct spawner *s, void *who) {
        struct instance *i = who;

        if (who == &s->held)
                spawner_on_visitor(s);
        else if (i && i->start && !i->jail.kill_sent_ns)
                finish_start(s, i);
        else if (i)
                on_exited(s, i);
        else if (s->sock >= 0)
                on_message(s);
}

static bool is_quiet(const struct spawner *s) {
        return crew_now_ns() >= s->event_at_ns + POOL_IDLE_MS * 1000000ull;
}

static void use_quiet(struct spawner *s) {
        close_mounts(s);
        if (netpool_wants(&s->pool))
                fill_pool(s);
}

/* One event at a time: what is done about one may be the end of the instance that the next is about. */
static void run(struct spawner *s) {
        struct epoll_event e;

        while (!s->done) {
                int n = epoll_wait(s->epoll, &e, 1, wait_ms(s));
                if (n < 0 && errno != EINTR)
                        break;
                s->event_at_ns = n == 1 ? crew_now_ns() : s->event_at_ns;
                if (s->press_at_ns && crew_now_ns() >= s->press_at_ns)
                        press(s);
                if (crew_now_ns() >= s->govern_at_ns)
                        govern(s);
                if (crew_now_ns() >= s->freeze_at_ns)
                        spawner_see_freezing(s);
                if (s->late_at_ns && crew_now_ns() >= s->late_at_ns)
                        end_late(s);
                else if (n == 1)
                        on_event(s, e.data.ptr);
                spawner_held_expire(s);
                if (n == 0 && is_quiet(s))
                        use_quiet(s);
                if (s->n_mounts > 0 && crew_now_ns() >= s->mounts_by_ns)
                        close_mounts(s);
        }
}

int spawner_main(int fd, jail_main_fn worker_main) {
        struct spawner s = {.sock = fd,
                            .epoll = -1,
                            .worker_main = worker_main,
                            .held = SPAWNER_HELD_NULL,
                            .govern_at_ns = UINT64_MAX,
                            .freeze_at_ns = UINT64_MAX};
        int type = 0;
        socklen_t len = sizeof(type);

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
                fprintf(stderr, "crew-worker: descriptor %d is not a spawn socket\n", fd);
                return 2;
        }
        signal(SIGPIPE, SIG_IGN);
        /* A terminal's interrupt is for crewd, which decides what becomes of its agents. */
        signal(SIGINT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        if (privs_close_others(&fd, 1, NULL) < 0 || (s.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
            spawner_watch(&s, fd, NULL) < 0) {
                fprintf(stderr, "crew-worker: cannot start: %s\n", strerror(errno));
                return 125;
        }
        netpool_init(&s.pool, crew_netrules, crew_netrules_bytes);
        say_hello(&s);
        run(&s);
        kill_all(&s);
        close_mounts(&s);
        spawner_held_fini(&s);
        netpool_fini(&s.pool);
        close(s.epoll);
        return 0;
}
