/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outside of a jail: clones the child, maps its ids, waits for its word, checks what can be seen from here, and
 * takes everything away again when any of it fails.  Trusts the plan only as far as plan_check() goes; trusts nothing
 * the child says about its own walls.
 */
#include "jail.h"

#include "attest.h"
#include "governor.h"
#include "jail_internal.h"
#include "landlock_layer.h"
#include "notify.h"
#include "proctree.h"

#include "common/uids.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define SPAWN_TIMEOUT_NS 10000000000ull
#define LAST_WORD_MS 100
/* The network namespace, which takes longest to make, the child makes itself: meanwhile we map its ids. */
#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)
#define OOM_SCORE_ADJ "300" /* an agent goes before its supervisor */

struct spawn {
        struct jail_birth birth;
        struct jail *out;
        int sync, proc_dir;
        int own_filters; /* that we are under, and so the child */
        uint64_t started_ns;
        bool ahead; /* the child was there before the plan */
};

struct jail_ahead {
        struct spawn s;
        struct jail jail;
        struct jail_spawn_args args;
};

/* --- before the clone --- */

static int check_identity(const struct plan *p, struct crew_err *err) {
        if (!(p->flags & PLAN_ROOT_MODE)) {
                if (geteuid() == 0)
                        return crew_fail(err, EPERM, "a rootless plan, but we are root: the agent would be root outside");
                if (p->host_uid != geteuid() || p->host_gid != getegid())
                        return crew_fail(err, EPERM, "the plan is for uid %u, we are %u", p->host_uid, geteuid());
                return 0;
        }
        if (geteuid() != 0)
                return crew_fail(err, EPERM, "a root mode plan, but we are uid %u", geteuid());
        if (p->host_uid - UIDS_FIRST >= UIDS_N || p->host_gid - UIDS_FIRST >= UIDS_N)
                return crew_fail(err, EPERM, "uid %u, gid %u: not in the agents' range", p->host_uid, p->host_gid);
        return 0;
}

static int check_plan(struct spawn *s, struct crew_err *err) {
        const struct plan *p = s->birth.plan;
        int why, r = check_identity(p, err);

        if (r < 0)
                return r;
        if (s->ahead && (p->flags & (PLAN_SANDBOX | PLAN_NETRULES)) != PLAN_SANDBOX)
                return crew_fail(err, EINVAL, "a child made ahead is for a sandbox without network");
        if (p->n_bpf == 0 || p->n_layers == 0)
                return crew_fail(err, EINVAL, "the plan has no %s", p->n_bpf ? "Landlock layer" : "seccomp filter");
        s->birth.landlock_abi = landlock_abi(&why);
        s->out->att.landlock_abi = s->birth.landlock_abi;
        return landlock_check(p, s->birth.landlock_abi, &s->out->att.degraded, err);
}

/* What no cgroup limits here falls back on rlimits; a policy that expects that has it shown as degraded. */
static uint32_t missing_limits(const struct plan *p, uint32_t limits_by) {
        static const struct {
                uint32_t by;
                enum plan_feature feature;
        } rows[] = {{CGROUP_MEMORY, PLAN_FEATURE_CGROUP_MEMORY},
                    {CGROUP_PIDS, PLAN_FEATURE_CGROUP_PIDS},
                    {CGROUP_CPU, PLAN_FEATURE_CGROUP_CPU}};
        uint32_t missing = 0;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                missing |= limits_by & rows[i].by ? 0 : 1u << rows[i].feature;
        return missing & p->allow_degraded;
}

static int make_directories(struct spawn *s, struct crew_err *err) {
        int r = view_create_dirs(s->birth.plan, err);

        return r < 0 ? r : view_init(&s->birth.view, s->birth.plan, err);
}

static int begin_group(struct spawn *s, struct crew_err *err) {
        int r = cgroup_begin(&s->birth.group, s->birth.plan, err);

        if (r == 0)
                memcpy(s->out->cgroup, s->birth.group.name, sizeof(s->out->cgroup));
        return r;
}

static int make_channel(struct spawn *s, struct crew_err *err) {
        int pair[2];
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (page == MAP_FAILED)
                return crew_fail_errno(err, "cannot map a page");
        s->birth.progress = page;
        *s->birth.progress = UINT32_MAX;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return crew_fail_errno(err, "cannot make a socket pair");
        s->sync = pair[0];
        s->birth.sync = pair[1];
        return 0;
}

/* --- clone and after --- */

/* The child is born in the network namespace that was made ahead for it; we are there only meanwhile. */
static long clone_into_net(const struct spawn *s, struct clone_args *a) {
        const struct jail_spawn_args *args = s->birth.args;

        if (!args->net)
                return syscall(SYS_clone3, a, sizeof(*a));
        if (setns(args->net->ns, CLONE_NEWNET) < 0)
                return -1;
        long pid = syscall(SYS_clone3, a, sizeof(*a));
        int saved = errno;
        if (pid != 0 && setns(args->own_net_ns, CLONE_NEWNET) < 0)
                abort(); /* never: in the wrong namespace every later jail would be, too */
        errno = saved;
        return pid;
}

/*
 * Two CPUs for the two halves of the work: a scheduler that packs tasks would run one after the other.  Whichever of us
 * goes on first moves the child away (see jail_child_run).  Only a hint, so what fails is left.  Sealed, it takes the whole
 * set back.  Only the child of crewctl sandbox, which has nothing to do while its command runs, stays there, so that it
 * ends beside us and not before us; the command gets the whole set (see jail_exec).
 */
static void spread_over(struct jail_birth *b) {
        int here = sched_getcpu();

        b->spread = here >= 0 && here < CPU_SETSIZE && sched_getaffinity(0, sizeof(b->cpus), &b->cpus) == 0 &&
                    CPU_COUNT(&b->cpus) > 1;
        b->others = b->cpus;
        if (b->spread)
                CPU_CLR(here, &b->others);
}

static int clone_child(struct spawn *s, struct crew_err *err) {
        struct clone_args a = {
                .flags = NAMESPACES | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
                .pidfd = (uintptr_t)&s->out->pidfd,
                .exit_signal = SIGCHLD,
        };

        s->out->born_in_group = s->birth.group.into >= 0;
        if (s->birth.group.into >= 0) {
                a.flags |= CLONE_INTO_CGROUP;
                a.cgroup = (uint64_t)s->birth.group.into;
        }
        spread_over(&s->birth);
        s->started_ns = crew_now_ns();
        long pid = clone_into_net(s, &a);
        if (pid == 0) {
                close(s->sync);
                jail_child_run(&s->birth);
        }
        if (pid < 0) {
                s->out->pidfd = -1;
                return crew_fail_errno(err, "clone3%s",
                                       errno == EPERM ? " (user namespaces are restricted here; see crewctl doctor)" : "");
        }
        s->out->pid = s->out->att.pid = (pid_t)pid;
        if (s->birth.spread)
                (void)sched_setaffinity((pid_t)pid, sizeof(s->birth.others), &s->birth.others);
        crew_close(&s->birth.sync); /* so that the child's death is seen as end of file */
        return 0;
}

/* Writing fails too when the child has given up by itself; then its own word says more. */
static int child_gone(struct spawn *s, int r, struct crew_err *err);

/* To a child that was made ahead of it. */
static int send_plan(struct spawn *s, struct crew_err *err) {
        const struct jail_spawn_args *args = s->birth.args;
        struct jail_msg m = {.kind = JAIL_PLAN};
        int fds[1 + ELEMENTSOF(args->stdio)];
        size_t n = 0;

        _cleanup_close_ int plan = crew_sealed_memfd("crew-plan", args->plan, args->plan->total_bytes, err);
        if (plan < 0)
                return plan;
        fds[n++] = plan;
        for (unsigned i = 0; i < ELEMENTSOF(args->stdio); i++) {
                if (args->stdio[i] >= 0) {
                        m.stdio |= 1u << i;
                        fds[n++] = args->stdio[i];
                }
        }
        s->started_ns = crew_now_ns();
        ssize_t sent = crew_send_fds(s->sync, &m, sizeof(m), fds, n);
        return sent < 0 ? child_gone(s, crew_fail(err, (int)-sent, "the child is gone"), err) : 0;
}

static int send_sources(struct spawn *s, struct crew_err *err) {
        struct jail_msg m = {.kind = JAIL_SOURCES};
        int fds[CREW_FDS_MAX];
        uint32_t at = 0, number;

        for (;;) {
                size_t n = 0;
                while (n < CREW_FDS_MAX && (fds[n] = view_next_source(&s->birth.view, &at, &number)) >= 0)
                        m.numbers[n++] = (uint16_t)number;
                if (n == 0)
                        return 0;
                ssize_t sent = crew_send_fds(s->sync, &m, sizeof(m), fds, n);
                if (sent < 0)
                        return crew_fail(err, (int)-sent, "the child is gone");
        }
}

/* Rootless, the kernel lets only the child's own mount namespace do it. */
static int make_sources(struct spawn *s, struct crew_err *err) {
        if (!(s->birth.plan->flags & PLAN_ROOT_MODE))
                return 0;
        int r = view_prepare(&s->birth.view, err);
        if (r == 0 && (r = send_sources(s, err)) < 0)
                r = child_gone(s, r, err);
        return r;
}

static int put_proc(int dir, const char *file, const char *text, struct crew_err *err) {
        _cleanup_close_ int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                return crew_fail_errno(err, "cannot write %s", file);
        return 0;
}

static int child_died(struct spawn *s, struct crew_err *err) {
        siginfo_t info = {0};
        uint32_t at = *s->birth.progress;

        snprintf(s->out->step, sizeof(s->out->step), "%s", jail_child_step_name(at));
        waitid(P_PIDFD, (id_t)s->out->pidfd, &info, WEXITED | WNOWAIT);
        return crew_fail(err, ECHILD, "the child died (%s %d)", info.si_code == CLD_EXITED ? "status" : "signal",
                         info.si_status);
}

static int child_failed(struct spawn *s, struct jail_msg *m, struct crew_err *err) {
        m->step[sizeof(m->step) - 1] = m->text[sizeof(m->text) - 1] = '\0';
        memcpy(s->out->step, m->step, sizeof(s->out->step));
        return crew_fail(err, m->errno_ > 0 ? m->errno_ : EPROTO, "%s", m->text);
}

static int write_maps(struct spawn *s, struct crew_err *err) {
        const struct plan *p = s->birth.plan;
        const struct jail_msg mapped = {.kind = JAIL_MAPPED};
        char path[32], uids[64], gids[64];
        int r = 0;

        snprintf(path, sizeof(path), "/proc/%d", s->out->pid);
        snprintf(uids, sizeof(uids), "%u %u 1", p->inner_uid, p->host_uid);
        snprintf(gids, sizeof(gids), "%u %u 1", p->inner_gid, p->host_gid);
        s->proc_dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->proc_dir < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if (!(p->flags & PLAN_ROOT_MODE)) /* the kernel's condition for an unprivileged gid_map */
                r = put_proc(s->proc_dir, "setgroups", "deny", err);
        else if (prlimit(s->out->pid, RLIMIT_CORE, &(struct rlimit){1, 1}, NULL) < 0)
                r = crew_fail_errno(err, "cannot set the core limit"); /* see privs_limit(); ours may be 0, below 1 */
        if (r < 0 || (r = put_proc(s->proc_dir, "uid_map", uids, err)) < 0 ||
            (r = put_proc(s->proc_dir, "gid_map", gids, err)) < 0 ||
            (r = put_proc(s->proc_dir, "oom_score_adj", OOM_SCORE_ADJ, err)) < 0)
                return r;
        ssize_t n = crew_send_fds(s->sync, &mapped, sizeof(mapped), NULL, 0);
        return n < 0 ? crew_fail(err, (int)-n, "the child is gone") : 0;
}

static int child_gone(struct spawn *s, int r, struct crew_err *err) {
        struct pollfd p = {.fd = s->sync, .events = POLLIN};
        struct jail_msg m;

        /* A child that is just dying has lost its memory, and so its /proc files, before its end of the socket. */
        (void)poll(&p, 1, LAST_WORD_MS);
        ssize_t n = recv(s->sync, &m, sizeof(m), MSG_DONTWAIT);
        if (n < 0 && errno == ECONNRESET) /* it left a message of ours unread; its own comes behind that error */
                n = recv(s->sync, &m, sizeof(m), MSG_DONTWAIT);
        if (n == (ssize_t)sizeof(m) && m.kind == JAIL_FAILED)
                return child_failed(s, &m, err);
        return n == 0 || (n < 0 && errno == ECONNRESET) ? child_died(s, err) : r;
}

static int map_ids(struct spawn *s, struct crew_err *err) {
        int r = write_maps(s, err);

        return r < 0 ? child_gone(s, r, err) : 0;
}

static int send_groups(struct spawn *s, struct crew_err *err) {
        const struct jail_msg m = {.kind = JAIL_GROUPS, .limits_by = s->birth.group.limits_by};
        int fds[CGROUP_V1_N];
        size_t n = 0;

        for (size_t i = 0; i < CGROUP_V1_N; i++)
                if (s->birth.group.join[i] >= 0)
                        fds[n++] = s->birth.group.join[i];
        ssize_t sent = crew_send_fds(s->sync, &m, sizeof(m), fds, n);
        return sent < 0 ? child_gone(s, crew_fail(err, (int)-sent, "the child is gone"), err) : 0;
}

/* The child builds its view meanwhile. */
static int complete_group(struct spawn *s, struct crew_err *err) {
        int r = cgroup_complete(&s->birth.group, s->birth.plan, err);

        s->out->att.limits_by = s->birth.group.limits_by;
        s->out->att.degraded |= missing_limits(s->birth.plan, s->birth.group.limits_by);
        return r < 0 ? r : send_groups(s, err);
}

/* While the child works: what it has now is not ours any more.  And a look at what attest() compares it with. */
static int close_handed_over(struct spawn *s, struct crew_err *err) {
        const bool sandbox = s->birth.plan->flags & PLAN_SANDBOX;

        view_fini(&s->birth.view);
        if (!sandbox)
                s->out->kill_fd = cgroup_kill_open(&s->birth.group);
        cgroup_close(&s->birth.group);
        return sandbox ? 0 : attest_own_filters(&s->own_filters, err);
}

/* Next message of the child; meanwhile its reported calls are let through. */
static int next_message(struct spawn *s, struct jail_msg *m, int fds[4], size_t *n_fds, struct crew_err *err) {
        for (;;) {
                struct pollfd p[2] = {{.fd = s->sync, .events = POLLIN}, {.fd = s->out->notify_fd, .events = POLLIN}};
                uint64_t now = crew_now_ns(), end = s->started_ns + SPAWN_TIMEOUT_NS;
                int n = poll(p, 2, now >= end ? 0 : (int)((end - now) / 1000000) + 1);
                if (n < 0 && errno != EINTR)
                        return crew_fail_errno(err, "poll");
                if (n == 0) {
                        snprintf(s->out->step, sizeof(s->out->step), "%s", jail_child_step_name(*s->birth.progress));
                        return crew_fail(err, ETIMEDOUT, "not sealed after %llu s", SPAWN_TIMEOUT_NS / 1000000000ull);
                }
                if (p[1].revents & POLLIN)
                        notify_pass(s->out->notify_fd);
                if (!(p[0].revents & (POLLIN | POLLHUP)))
                        continue;
                *n_fds = 4;
                ssize_t got = crew_recv_fds(s->sync, m, sizeof(*m), fds, n_fds, 0);
                if (got == -ECONNRESET) { /* as in child_gone() */
                        *n_fds = 4;
                        got = crew_recv_fds(s->sync, m, sizeof(*m), fds, n_fds, MSG_DONTWAIT);
                }
                if (got == (ssize_t)sizeof(*m))
                        return 0;
                return child_died(s, err);
        }
}

static int take_listeners(struct spawn *s, const int fds[4], size_t n, struct crew_err *err) {
        struct netpool_entry *net = s->birth.args->net;
        size_t want = (s->birth.plan->flags & PLAN_NETRULES) && !net ? 4 : 0;

        for (size_t i = 0; net && i < ELEMENTSOF(net->listeners); i++)
                s->out->listeners[i] = crew_steal_fd(&net->listeners[i]);

        for (size_t i = 0; i < n; i++)
                s->out->listeners[i] = fds[i];
        return n == want ? 0 : crew_fail(err, EPROTO, "%zu listeners, must be %zu", n, want);
}

static int wait_sealed(struct spawn *s, struct crew_err *err) {
        struct jail_msg m = {0};
        int fds[4], r;
        size_t n = 0;

        for (;;) {
                if ((r = next_message(s, &m, fds, &n, err)) < 0)
                        return r;
                if (m.kind == JAIL_LISTENER && n == 1 && s->out->notify_fd < 0) {
                        s->out->notify_fd = fds[0];
                        continue;
                }
                if (m.kind == JAIL_SEALED)
                        break;
                for (size_t i = 0; i < n; i++)
                        close(fds[i]);
                return child_failed(s, &m, err);
        }
        s->out->att.spawn_ns = crew_now_ns() - s->started_ns;
        s->out->att.selftests = m.selftests;
        s->out->att.tripwires = m.tripwires;
        return take_listeners(s, fds, n, err);
}

/* crewctl sandbox records no attestation and lets the command start at once; the self-test inside has passed. */
static int attest(struct spawn *s, struct crew_err *err) {
        if (s->birth.plan->flags & PLAN_SANDBOX)
                return 0;
        s->out->mnt_ns = openat(s->proc_dir, "ns/mnt", O_RDONLY | O_CLOEXEC);
        if (s->out->mnt_ns < 0)
                return crew_fail_errno(err, "cannot open ns/mnt");
        /* No program has run in there yet, and later this is no more to be had.  A view may be without. */
        _cleanup_close_ int root = openat(s->proc_dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        s->out->tmp_dir = root < 0 ? -1 : openat(root, "tmp", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return attest_child(s->proc_dir, s->birth.plan, s->own_filters, &s->out->att, err);
}

/* What no control group of it limits. */
static struct spawn_limits ungrouped(const struct jail *j, const struct spawn_limits *l) {
        return (struct spawn_limits){.memory_bytes = j->att.limits_by & CGROUP_MEMORY ? 0 : l->memory_bytes,
                                     .cpu_milli = j->att.limits_by & CGROUP_CPU ? 0 : l->cpu_milli};
}

/* One that no group can freeze has a governor too, which sees to it that it stays stopped. */
static int set_governor(struct jail *j, const struct spawn_limits *l) {
        const struct spawn_limits rest = ungrouped(j, l);

        if (j->governor) {
                governor_limit(j->governor, &rest);
                return 0;
        }
        if (!rest.memory_bytes && !rest.cpu_milli && cgroup_can_freeze(j->cgroup))
                return 0;
        if (!(j->governor = governor_new(j->pid, j->cgroup, &rest)))
                return -errno;
        if (j->freeze_ns) /* what it held back it would let go */
                governor_frozen(j->governor, true, j->stopped);
        return 0;
}

static int govern(struct spawn *s, struct crew_err *err) {
        const struct plan_limits *l = &s->birth.plan->limits;
        int r = set_governor(s->out, &(struct spawn_limits){.memory_bytes = l->memory_bytes, .cpu_milli = l->cpu_milli});

        return r < 0 ? crew_fail(err, -r, "cannot watch its memory and processor time: %s", strerror(-r)) : 0;
}

static int let_go(struct spawn *s, struct crew_err *err) {
        if (s->birth.plan->flags & PLAN_SANDBOX) {
                s->out->status_fd = crew_steal_fd(&s->sync);
                return 0;
        }
        const struct jail_msg go = {.kind = JAIL_GO};
        ssize_t n = crew_send_fds(s->sync, &go, sizeof(go), NULL, 0);

        if (n >= 0 && (s->birth.plan->flags & PLAN_HOLD))
                s->out->lifeline = crew_steal_fd(&s->sync);
        return n < 0 ? crew_fail(err, (int)-n, "the child is gone") : 0;
}

/* Whatever is cloned until jail_finish() is another agent's. */
static int keep_apart(struct spawn *s, struct crew_err *err) {
        if (madvise((void *)s->birth.progress, 4096, MADV_DONTFORK) < 0 ||
            madvise((void *)s->birth.plan, s->birth.plan->total_bytes, MADV_DONTFORK) < 0)
                return crew_fail_errno(err, "cannot keep the plan from other jails");
        return 0;
}

struct outside_step {
        const char *name;
        int (*run)(struct spawn *s, struct crew_err *err);
        enum { ALWAYS, AHEAD_DONE /* jail_ahead_open() has done it, or it comes later */, AHEAD_ONLY } when;
};

/* The outside's own steps; "sealing" covers all of jail_child.c's. */
static const struct outside_step begin_steps[] = {
        {"plan", check_plan, ALWAYS},       {"directories", make_directories, ALWAYS},
        {"group", begin_group, AHEAD_DONE}, {"channel", make_channel, AHEAD_DONE},
        {"clone", clone_child, AHEAD_DONE}, {"plan-over", send_plan, AHEAD_ONLY},
        {"sources", make_sources, ALWAYS},  {"id-maps", map_ids, ALWAYS},
        {"group", begin_group, AHEAD_ONLY}, /* without a unified tree the child need not be born into it */
        {"groups", complete_group, ALWAYS}, {"handed-over", close_handed_over, ALWAYS},
};
static const struct outside_step apart_steps[] = {{"apart", keep_apart, ALWAYS}};
static const struct outside_step finish_steps[] = {
        {"sealing", wait_sealed, ALWAYS},
        {"attestation", attest, ALWAYS},
        {"governor", govern, ALWAYS},
        {"release", let_go, ALWAYS},
};

static void undo(struct spawn *s) {
        struct jail *j = s->out;

        if (j->pidfd >= 0) {
                struct spawn_exit unused;
                jail_kill(j, &unused);
        }
        jail_fini(j);
}

static void spawn_fini(struct spawn *s) {
        if (s->birth.view.sources)
                view_fini(&s->birth.view);
        if (s->birth.progress)
                munmap((void *)s->birth.progress, 4096);
        crew_close(&s->birth.sync);
        crew_close(&s->sync);
        crew_close(&s->proc_dir);
        cgroup_close(&s->birth.group);
}

static void spawn_init(struct spawn *s, const struct jail_spawn_args *args, struct jail *out) {
        *s = (struct spawn){
                .birth = {.args = args, .plan = args->plan, .sync = -1, .group = CGROUP_NULL, .view = VIEW_NULL},
                .out = out,
                .sync = -1,
                .proc_dir = -1,
        };
        *out = JAIL_NULL;
}

int jail_ahead_open(jail_main_fn main, void *user, struct jail_ahead **out, struct crew_err *err) {
        struct jail_ahead *a;
        int r;

        *out = NULL;
        if (cgroup_unified())
                return 0; /* its group, and so its limits, would have to be known already */
        if (!(a = calloc(1, sizeof(*a))))
                return crew_fail(err, ENOMEM, "out of memory");
        a->args = (struct jail_spawn_args){.main = main, .user = user, .stdio = {-1, -1, -1}};
        spawn_init(&a->s, &a->args, &a->jail);
        a->s.ahead = true;
        if ((r = make_channel(&a->s, err)) < 0 || (r = clone_child(&a->s, err)) < 0) {
                crew_err_add(err, "clone");
                jail_ahead_close(a);
                return r;
        }
        *out = a;
        return 0;
}

void jail_ahead_close(struct jail_ahead *a) {
        if (!a)
                return;
        spawn_fini(&a->s);
        undo(&a->s);
        free(a);
}

/* What was opened belongs to s and out from here on. */
static void take_ahead(struct jail_ahead *a, const struct jail_spawn_args *args, struct spawn *s, struct jail *out) {
        *s = a->s;
        *out = a->jail;
        s->out = out;
        s->birth.args = args;
        s->birth.plan = args->plan;
        free(a);
}

static int run_steps(struct spawn *s, const struct outside_step *steps, size_t n, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                if (steps[i].when == (s->ahead ? AHEAD_DONE : AHEAD_ONLY))
                        continue;
                snprintf(s->out->step, sizeof(s->out->step), "%s", steps[i].name);
                r = jail_test_fail_step && strcmp(jail_test_fail_step, steps[i].name) == 0
                            ? crew_fail(err, EIO, "test fault")
                            : steps[i].run(s, err);
        }
        return r;
}

/* Of a start that is complete (r is 0) or has failed. */
static void end_start(struct spawn *s, int r, struct crew_err *err) {
        spawn_fini(s);
        if (r < 0) {
                undo(s);
                crew_err_add(err, "%s", s->out->step);
        }
}

int jail_spawn(const struct jail_spawn_args *args, struct jail *out, struct crew_err *err) {
        struct crew_err local;
        struct spawn s;

        err = err ? err : &local;
        if (args->ahead)
                take_ahead(args->ahead, args, &s, out);
        else
                spawn_init(&s, args, out);
        int r = run_steps(&s, begin_steps, ELEMENTSOF(begin_steps), err);
        if (r == 0)
                r = run_steps(&s, finish_steps, ELEMENTSOF(finish_steps), err);
        end_start(&s, r, err);
        return r;
}

/* --- in two halves --- */

struct jail_start {
        struct spawn s;
        struct jail_spawn_args args;
        struct netpool_entry net; /* its listeners only */
};

int jail_begin(const struct jail_spawn_args *args, struct jail *out, struct jail_start **start, struct crew_err *err) {
        struct jail_start *x = calloc(1, sizeof(*x));

        *out = JAIL_NULL;
        if (!x)
                return crew_fail(err, ENOMEM, "out of memory");
        x->args = *args;
        spawn_init(&x->s, &x->args, out);
        int r = run_steps(&x->s, begin_steps, ELEMENTSOF(begin_steps), err);
        if (r == 0)
                r = run_steps(&x->s, apart_steps, ELEMENTSOF(apart_steps), err);
        if (r < 0) {
                end_start(&x->s, r, err);
                free(x);
                return r;
        }
        if (args->net) { /* the namespace itself was for the clone */
                x->net = NETPOOL_NONE;
                for (size_t i = 0; i < ELEMENTSOF(x->net.listeners); i++)
                        x->net.listeners[i] = crew_steal_fd(&args->net->listeners[i]);
                x->args.net = &x->net;
        }
        *start = x;
        return 0;
}

int jail_start_fd(const struct jail_start *x) {
        return x->s.sync;
}

uint64_t jail_start_by(const struct jail_start *x) {
        return x->s.started_ns + SPAWN_TIMEOUT_NS;
}

static void free_start(struct jail_start *x) {
        if (x->args.net)
                netpool_entry_close(x->args.net);
        free(x);
}

int jail_finish(struct jail_start *x, struct crew_err *err) {
        int r = run_steps(&x->s, finish_steps, ELEMENTSOF(finish_steps), err);

        end_start(&x->s, r, err);
        free_start(x);
        return r;
}

void jail_start_forget(struct jail_start *x) {
        spawn_fini(&x->s);
        free_start(x);
}

/* --- afterwards --- */

void jail_kill_begin(struct jail *j) {
        if (j->pidfd < 0 || j->kill_sent_ns)
                return;
        int n = cgroup_count(j->cgroup);
        j->kill_processes = n >= 0 ? (uint32_t)n : proctree_count(j->pid);
        j->kill_sent_ns = crew_now_ns();
        /* The signal is enough: pid_namespaces(7).  But it reaches the others only when pid 1 has taken itself down, and
         * where a group can be killed all of it begins to die at once, on every CPU; pid 1 first, for it ends last. */
        syscall(SYS_pidfd_send_signal, j->pidfd, SIGKILL, NULL, 0);
        cgroup_kill(j->cgroup, j->kill_fd, j->freeze_ns || (j->governor && governor_holds_group(j->governor)));
}

void jail_kill_press(struct jail *j) {
        if (j->kill_pressed)
                return;
        j->kill_pressed = true;
        cgroup_kill(j->cgroup, j->kill_fd, true);
}

static void await_death(struct jail *j) {
        struct pollfd p = {.fd = j->pidfd, .events = POLLIN};

        if (j->kill_sent_ns && poll(&p, 1, JAIL_KILL_PATIENCE_MS) == 0)
                jail_kill_press(j);
}

/* What the governor did is told as what a control group does. */
static void governed_stats(const struct jail *j, struct spawn_stats *out) {
        if (!j->governor)
                return;
        const struct governor_counts c = governor_counts(j->governor);
        out->oom_kills += c.kills;
        out->periods_throttled += c.holds;
        out->unheld = c.unheld;
        /* Dividing what they share takes time, which it has only had to take once. */
        if (out->memory_bytes > c.memory_bytes && c.memory_bytes && !(j->att.limits_by & CGROUP_MEMORY))
                out->memory_bytes = out->memory_peak = c.memory_bytes;
}

int jail_reap(struct jail *j, bool wait, struct spawn_exit *out) {
        siginfo_t info = {0};
        int r;

        *out = (struct spawn_exit){.code = -1};
        if (wait)
                await_death(j);
        do
                r = waitid(P_PIDFD, (id_t)j->pidfd, &info, WEXITED | (wait ? 0 : WNOHANG));
        while (r < 0 && errno == EINTR);
        if (r == 0 && info.si_pid == 0)
                return -EAGAIN;
        if (r < 0)
                r = -errno;
        if (j->kill_sent_ns) {
                out->kill_ns = crew_now_ns() - j->kill_sent_ns;
                out->processes = j->kill_processes;
        }
        if (info.si_code == CLD_EXITED)
                out->code = info.si_status;
        else
                out->signal = info.si_status;
        cgroup_stats(j->cgroup, &out->last);
        governed_stats(j, &out->last);
        out->oom_kills = out->last.oom_kills;
        jail_fini(j);
        return r;
}

int jail_kill(struct jail *j, struct spawn_exit *out) {
        jail_kill_begin(j);
        return jail_reap(j, true, out);
}

void jail_leave(struct jail *j) {
        siginfo_t info;

        if (j->born_in_group) {
                crew_close(&j->status_fd);
                while (waitid(P_PIDFD, (id_t)j->pidfd, &info, WEXITED) < 0 && errno == EINTR)
                        ;
        }
        j->status_fd = -1;
        jail_fini(j);
}

void jail_fini(struct jail *j) {
        j->governor = governor_free(j->governor);
        free(j->lifted);
        j->lifted = NULL;
        cgroup_remove(j->cgroup);
        crew_close(&j->pidfd);
        crew_close(&j->notify_fd);
        crew_close(&j->tmp_dir);
        crew_close(&j->mnt_ns);
        crew_close(&j->kill_fd);
        crew_close(&j->status_fd);
        crew_close(&j->lifeline);
        for (size_t i = 0; i < ELEMENTSOF(j->listeners); i++)
                crew_close(&j->listeners[i]);
        j->pid = -1;
        j->cgroup[0] = '\0';
}

int jail_relink(const struct jail *j, const char *path) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        const struct jail_msg m = {.kind = JAIL_RELINK};

        if (j->lifeline < 0 || j->kill_sent_ns)
                return -ESRCH;
        if (strlen(path) >= sizeof(a.sun_path))
                return -ENAMETOOLONG;
        strcpy(a.sun_path, path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                return -errno;
        ssize_t n = crew_send_fds(j->lifeline, &m, sizeof(m), &fd, 1);
        return n < 0 ? (int)n : 0;
}

int jail_limit(struct jail *j, const struct spawn_limits *l) {
        int back = cgroup_put_quota_back(crew_steal_ptr(&j->lifted));
        int r = back < 0 ? back : j->cgroup[0] ? cgroup_limit(j->cgroup, j->att.limits_by, l) : 0;

        return r < 0 ? r : set_governor(j, l);
}

uint64_t jail_govern(struct jail *j, uint64_t now_ns) {
        return j->governor && j->pidfd >= 0 && !j->kill_sent_ns ? governor_look(j->governor, now_ns) : UINT64_MAX;
}

/* Its private trees share one file system (view.c). */
static void tmp_stats(const struct jail *j, struct spawn_stats *out) {
        struct statfs fs;

        if (j->tmp_dir < 0 || fstatfs(j->tmp_dir, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
                return;
        out->tmp_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
        out->tmp_full = fs.f_bfree == 0 || fs.f_ffree == 0;
}

void jail_stats(const struct jail *j, struct spawn_stats *out) {
        const uint32_t counted = CGROUP_MEMORY | CGROUP_PIDS;
        uint64_t ns;

        *out = (struct spawn_stats){0};
        if ((j->att.limits_by & counted) != counted || !cgroup_cpu_ns(j->cgroup, &ns))
                proctree_stats(j->pid, out);
        cgroup_stats(j->cgroup, out);
        governed_stats(j, out);
        tmp_stats(j, out);
        out->dying = out->oom_kills && proctree_dying(j->pid); /* after the counting */
        out->open_files = proctree_most_files(j->pid);
}

unsigned jail_sweep(char *text, size_t room) {
        struct cgroup_leftovers found;

        cgroup_sweep(&found);
        snprintf(text, room, found.groups ? "%u control groups and %u processes of a crew that died: %s" : "%.0u%.0u%s",
                 found.groups, found.processes, found.names);
        return found.groups + found.processes;
}
