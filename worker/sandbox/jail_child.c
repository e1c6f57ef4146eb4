/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a jail: one ordered table of steps, each fatal.  Runs in the fresh child, which is pid 1 of its pid
 * namespace and has every capability over its own namespaces until the step that drops them.
 *
 * The child is a fork of the spawner that never execs (a zygote): one exec less is a third of the start-up time, and the
 * worker's code is there already.  What that costs in principle, and why it is acceptable here: the jail shares the
 * spawner's address space layout, so an agent that reads its own pid 1 (it cannot: not dumpable, other Landlock domain)
 * would learn where the spawner's code lies; and it inherits a copy of the spawner's memory, so the spawner keeps nothing
 * secret: no keys, no policies, no other agent's plan beyond the one being started.  Descriptors are closed by number.
 */
#include "jail_internal.h"

#include "landlock_layer.h"
#include "netns.h"
#include "notify.h"
#include "privs.h"
#include "selftest.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

struct child {
        struct jail_birth *b;
        const struct plan *plan; /* NULL before step_plan, when we were made ahead of it */
        int given[3];            /* standard streams that came with it, -1 */
        int groups[JAIL_GROUPS_MAX];
        int link;
        int listeners[4];
        int stdio[3];
        uint32_t selftests;
};

/* --- talking to the spawner --- */

static int wait_for(struct child *c, uint32_t kind, struct jail_msg *m, int *fds, size_t *n_fds, struct crew_err *err) {
        ssize_t n = crew_recv_fds(c->b->sync, m, sizeof(*m), fds, n_fds, 0);

        if (n != (ssize_t)sizeof(*m) || m->kind != kind)
                return crew_fail(err, EPIPE, "the spawner is gone");
        return 0;
}

static int tell(struct child *c, const struct jail_msg *m, const int *fds, size_t n_fds) {
        ssize_t n = crew_send_fds(c->b->sync, m, sizeof(*m), fds, n_fds);
        return n < 0 ? (int)n : 0;
}

static _Noreturn void give_up(struct child *c, const char *step, const struct crew_err *err) {
        struct jail_msg m = {.kind = JAIL_FAILED, .errno_ = err->code};

        snprintf(m.step, sizeof(m.step), "%s", step);
        snprintf(m.text, sizeof(m.text), "%.511s", err->msg);
        tell(c, &m, NULL, 0);
        _exit(125);
}

/* --- steps --- */

static int step_priority(struct child *c, struct crew_err *err) {
        /* An agent has no real-time priority, whatever we run with; a version 1 cpu group would not take it either. */
        if (sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0}) < 0)
                return crew_fail_errno(err, "cannot become an ordinary process");
        return 0;
}

/* First of all that talks to the outside: SO_PEERCRED keeps who connected, and that must be this process. */
static int step_link(struct child *c, struct crew_err *err) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        const char *path = c->b->args->link_path;

        if (!path)
                return 0;
        if (strlen(path) >= sizeof(a.sun_path))
                return crew_fail(err, ENAMETOOLONG, "link path of %zu bytes", strlen(path));
        strcpy(a.sun_path, path);
        c->link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->link < 0 || connect(c->link, (struct sockaddr *)&a, sizeof(a)) < 0)
                return crew_fail_errno(err, "%s", path);
        return 0;
}

/* What the spawner made meanwhile: mounts, and the maps of our ids. */
static int take_over(struct child *c, struct crew_err *err) {
        int fds[CREW_FDS_MAX], r = 0;
        struct jail_msg m;

        do {
                size_t n = ELEMENTSOF(fds);
                ssize_t got = crew_recv_fds(c->b->sync, &m, sizeof(m), fds, &n, 0);
                bool sources = got == (ssize_t)sizeof(m) && m.kind == JAIL_SOURCES;
                if (got != (ssize_t)sizeof(m) || (!sources && (m.kind != JAIL_MAPPED || n > 0)))
                        return crew_fail(err, EPIPE, "the spawner is gone");
                for (size_t i = 0; i < n; i++) {
                        if ((r = view_adopt(&c->b->view, m.numbers[i], fds[i])) < 0)
                                return crew_fail(err, -r, "mount %u was not asked for", m.numbers[i]);
                }
        } while (m.kind != JAIL_MAPPED);
        return 0;
}

/* Made ahead, we waited for it here, with nothing but namespaces of our own. */
static int step_plan(struct child *c, struct crew_err *err) {
        int fds[1 + ELEMENTSOF(c->given)], why;
        size_t n = ELEMENTSOF(fds), at = 1;
        struct jail_msg m;

        if (c->plan)
                return 0;
        int r = wait_for(c, JAIL_PLAN, &m, fds, &n, err);
        if (r < 0)
                return r;
        if (n != 1 + (size_t)__builtin_popcount(m.stdio & 7u))
                return crew_fail(err, EPROTO, "%zu descriptors with the plan", n);
        if ((r = plan_open(fds[0], &c->plan, err)) < 0)
                return r;
        close(fds[0]);
        for (unsigned i = 0; i < ELEMENTSOF(c->given); i++)
                c->given[i] = m.stdio & 1u << i ? fds[at++] : -1;
        c->b->plan = c->plan;
        c->b->landlock_abi = landlock_abi(&why);
        return view_init(&c->b->view, c->plan, err);
}

static int step_identity(struct child *c, struct crew_err *err) {
        uid_t uid = c->plan->inner_uid;
        gid_t gid = c->plan->inner_gid;
        int r = take_over(c, err);

        if (r < 0)
                return r;
        if ((c->plan->flags & PLAN_ROOT_MODE) && setgroups(0, NULL) < 0)
                return crew_fail_errno(err, "cannot drop supplementary groups");
        if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return crew_fail_errno(err, "cannot become %u:%u", uid, gid);
        return 0;
}

/* A change of identity clears it, so it comes after.  If the spawner died before, the next wait_for() says so. */
static int step_parent_death(struct child *c, struct crew_err *err) {
        return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? crew_fail_errno(err, "PR_SET_PDEATHSIG") : 0;
}

static int step_keyring(struct child *c, struct crew_err *err) {
        return privs_new_keyring(err);
}

static int step_names(struct child *c, struct crew_err *err) {
        if (sethostname(c->plan->agent, strlen(c->plan->agent)) < 0 || setdomainname("", 0) < 0)
                return crew_fail_errno(err, "cannot set the host name");
        return 0;
}

/* Made ahead, we are in it already; its listeners are in the spawner's hands. */
static bool net_is_ready(const struct child *c) {
        return c->b->args->net != NULL;
}

static int step_netns(struct child *c, struct crew_err *err) {
        if (net_is_ready(c))
                return 0;
        return unshare(CLONE_NEWNET) < 0 ? crew_fail_errno(err, "cannot make a network namespace") : 0;
}

static int step_network(struct child *c, struct crew_err *err) {
        if (net_is_ready(c))
                return 0;
        if (!c->plan || !(c->plan->flags & PLAN_NETRULES))
                return netns_lo_up(err);
        return netns_apply(plan_str(c->plan, c->plan->netrules), c->plan->netrules_bytes, err);
}

static int step_listeners(struct child *c, struct crew_err *err) {
        return (c->plan->flags & PLAN_NETRULES) && !net_is_ready(c) ? netns_listen(c->listeners, err) : 0;
}

static int step_view(struct child *c, struct crew_err *err) {
        if (!(c->plan->flags & PLAN_ROOT_MODE)) {
                int r = view_prepare(&c->b->view, err);
                if (r < 0)
                        return r;
        }
        int r = view_build(&c->b->view, err);
        return r < 0 ? r : view_seal(err);
}

static int step_stdio(struct child *c, struct crew_err *err) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0)
                return crew_fail_errno(err, "/dev/null of the view");
        for (int i = 0; i < 3; i++) { /* out of the way of each other first */
                int from = c->given[i] >= 0 && (c->plan->flags & PLAN_SANDBOX) ? c->given[i] : null;
                c->stdio[i] = fcntl(from, F_DUPFD_CLOEXEC, 3);
                if (c->stdio[i] < 0)
                        return crew_fail_errno(err, "cannot duplicate descriptor %d", from);
        }
        for (int i = 0; i < 3; i++) {
                if (dup2(c->stdio[i], i) < 0)
                        return crew_fail_errno(err, "cannot set descriptor %d", i);
                close(c->stdio[i]);
                c->stdio[i] = i;
        }
        return 0;
}

static int step_session(struct child *c, struct crew_err *err) {
        const char *dir = c->plan->workdir ? plan_str(c->plan, c->plan->workdir) : "/";

        umask(022);
        if (setsid() < 0)
                return crew_fail_errno(err, "setsid");
        return chdir(dir) < 0 ? crew_fail_errno(err, "cannot enter %s", dir) : 0;
}

static int step_descriptors(struct child *c, struct crew_err *err) {
        int keep[] = {c->b->sync, c->link, c->listeners[0], c->listeners[1], c->listeners[2], c->listeners[3]};
        return privs_close_others(keep, ELEMENTSOF(keep), err);
}

/* Made while we built the view: its few small files are charged to the spawner's group, all else to ours. */
static int step_groups(struct child *c, struct crew_err *err) {
        struct cgroup late = CGROUP_NULL;
        int fds[CREW_FDS_MAX];
        size_t n = ELEMENTSOF(fds);
        struct jail_msg m;
        int r = wait_for(c, JAIL_GROUPS, &m, fds, &n, err);

        if (r < 0)
                return r;
        if (n > CGROUP_V1_N)
                return crew_fail(err, EPROTO, "%zu groups to join", n);
        c->b->group.limits_by = m.limits_by;
        if (c->plan->flags & PLAN_SANDBOX) {
                memcpy(c->groups, fds, n * sizeof(*fds)); /* for the command */
                return 0;
        }
        memcpy(late.join, fds, n * sizeof(*fds));
        r = cgroup_join(&late, err);
        cgroup_close(&late);
        return r;
}

static int step_limits(struct child *c, struct crew_err *err) {
        return privs_limit(c->plan, c->b->group.limits_by, err);
}

static int step_bounding_set(struct child *c, struct crew_err *err) {
        return privs_empty_bounding_set(err);
}

static int step_capabilities(struct child *c, struct crew_err *err) {
        return privs_drop_caps(err);
}

static int step_no_new_privs(struct child *c, struct crew_err *err) {
        return privs_no_new(err);
}

static int step_landlock(struct child *c, struct crew_err *err) {
        if (c->b->landlock_abi == 0)
                return 0; /* allowed by the plan: the spawner has checked */
        _cleanup_close_ int fd = landlock_layer_open(c->plan, 0, c->b->landlock_abi, err);
        if (fd < 0)
                return fd;
        int r = landlock_layer_enter(fd, c->plan, c->b->landlock_abi);
        return r < 0 ? crew_fail(err, -r, "landlock_restrict_self: %s", strerror(-r)) : 0;
}

static int step_notify(struct child *c, struct crew_err *err) {
        struct jail_msg m = {.kind = JAIL_LISTENER};

        if (!(c->plan->flags & PLAN_NOTIFY))
                return 0;
        _cleanup_close_ int fd = notify_install(err);
        if (fd < 0)
                return fd;
        int r = tell(c, &m, &fd, 1);
        return r < 0 ? crew_fail(err, -r, "cannot hand the listener out: %s", strerror(-r)) : 0;
}

static int step_seccomp(struct child *c, struct crew_err *err) {
        struct sock_fprog prog = {
                .len = (unsigned short)c->plan->n_bpf,
                .filter = (struct sock_filter *)plan_str(c->plan, c->plan->bpf),
        };
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
                return crew_fail_errno(err, "cannot install the filter");
        return 0;
}

static int step_selftest(struct child *c, struct crew_err *err) {
        return selftest_run(c->b->landlock_abi > 0, &c->selftests, err);
}

static int step_processors(struct child *c, struct crew_err *err) {
        if (!c->b->spread || (c->plan->flags & PLAN_SANDBOX))
                return 0;
        return sched_setaffinity(0, sizeof(c->b->cpus), &c->b->cpus) < 0 ? crew_fail_errno(err, "cannot take all CPUs back")
                                                                         : 0;
}

static int step_hand_over(struct child *c, struct crew_err *err) {
        struct jail_msg m = {.kind = JAIL_SEALED, .selftests = c->selftests, .tripwires = c->b->view.tripwires};
        bool listeners = (c->plan->flags & PLAN_NETRULES) && !net_is_ready(c);
        int r = tell(c, &m, c->listeners, listeners ? ELEMENTSOF(c->listeners) : 0);

        if (r < 0)
                return crew_fail(err, -r, "cannot report: %s", strerror(-r));
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++)
                crew_close(&c->listeners[i]);
        if (c->plan->flags & PLAN_SANDBOX)
                return 0; /* nothing is recorded first, so there is nothing to wait for */
        return wait_for(c, JAIL_GO, &m, NULL, NULL, err);
}

/* Last: rootless, the spawner could not look at a process that is not dumpable. */
static int step_dumpable(struct child *c, struct crew_err *err) {
        return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? crew_fail_errno(err, "PR_SET_DUMPABLE") : 0;
}

static const struct step {
        const char *name;
        int (*run)(struct child *c, struct crew_err *err);
} steps[] = {
        {"priority", step_priority},
        {"link", step_link},                 /* needs the old root */
        {"netns", step_netns},               /* while the spawner maps our ids */
        {"network", step_network},           /* needs capabilities over the network namespace */
        {"bounding-set", step_bounding_set}, /* 41 calls, while we would wait */
        {"plan-taken", step_plan},
        {"identity", step_identity},         /* needs the maps; before any file is made */
        {"parent-death", step_parent_death}, /* as early as it sticks */
        {"keyring", step_keyring},
        {"names", step_names},
        {"listeners", step_listeners},
        {"view", step_view}, /* the old root is gone after this */
        {"stdio", step_stdio},
        {"session", step_session},
        {"descriptors", step_descriptors}, /* after the last open that is not ours to keep */
        {"groups-joined", step_groups},
        {"limits", step_limits},
        {"capabilities", step_capabilities},
        {"no-new-privs", step_no_new_privs}, /* Landlock and seccomp require it */
        {"landlock", step_landlock},         /* before seccomp, which could refuse its calls */
        {"notify", step_notify},             /* before seccomp, which refuses listeners */
        {"seccomp", step_seccomp},
        {"self-test", step_selftest},
        {"processors", step_processors},
        {"hand-over", step_hand_over},
        {"dumpable", step_dumpable},
};

const char *jail_child_step_name(uint32_t i) {
        return i < ELEMENTSOF(steps) ? steps[i].name : "start";
}

uint32_t jail_child_steps(void) {
        return ELEMENTSOF(steps);
}

const char *jail_test_fail_step;

static int test_fault(const char *step, struct crew_err *err) {
        const char *f = jail_test_fail_step;

        if (f && f[0] == '!' && strcmp(f + 1, step) == 0)
                _exit(1); /* leave without a word */
        return f && strcmp(f, step) == 0 ? crew_fail(err, EIO, "test fault") : 0;
}

int jail_take_link(int lifeline) {
        struct jail_msg m;
        int fd = -1;
        size_t n_fds = 1;
        ssize_t n = crew_recv_fds(lifeline, &m, sizeof(m), &fd, &n_fds, MSG_DONTWAIT);

        if (n == (ssize_t)sizeof(m) && m.kind == JAIL_RELINK && n_fds == 1)
                return fd;
        if (n > 0 && n_fds == 1)
                close(fd);
        return n == -EAGAIN || n == -EINTR ? -EAGAIN : n < 0 ? (int)n : -EPIPE;
}

_Noreturn void jail_child_run(struct jail_birth *b) {
        const int *given = b->args->stdio;
        struct child c = {.b = b,
                          .plan = b->plan,
                          .given = {given[0], given[1], given[2]},
                          .groups = {-1, -1, -1, -1},
                          .link = -1,
                          .listeners = {-1, -1, -1, -1}};
        struct crew_err err = CREW_ERR_NULL;
        sigset_t mask;

        if (b->spread)
                (void)sched_setaffinity(0, sizeof(b->others), &b->others);
        /* The command of crewctl sandbox gets what was sent to it from the first moment on; see jail_main there. */
        (!c.plan || (c.plan->flags & PLAN_SANDBOX) ? sigfillset : sigemptyset)(&mask);
        sigprocmask(SIG_SETMASK, &mask, NULL);
        for (uint32_t i = 0; i < ELEMENTSOF(steps); i++) {
                *b->progress = i;
                if (test_fault(steps[i].name, &err) < 0 || steps[i].run(&c, &err) < 0)
                        give_up(&c, steps[i].name, &err);
        }
        struct jail_child child = {.plan = c.plan,
                                   .link_fd = c.link,
                                   .stdio = {c.stdio[0], c.stdio[1], c.stdio[2]},
                                   .groups = {c.groups[0], c.groups[1], c.groups[2], c.groups[3]},
                                   .status_fd = c.plan->flags & PLAN_SANDBOX ? b->sync : -1,
                                   .cpus = b->spread && (c.plan->flags & PLAN_SANDBOX) ? &b->cpus : NULL,
                                   .lifeline = c.plan->flags & PLAN_HOLD ? b->sync : -1};
        if (child.status_fd < 0 && child.lifeline < 0)
                close(b->sync);
        b->args->main(&child, b->args->user);
        _exit(0);
}
