/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl sandbox: one command in the jail of a role, without a daemon.
 *
 * The jail's pid 1 is a fork of this process: it starts the command one layer further in, passes signals on, reaps, and
 * exits with the command's status.  It trusts the policy file and nothing that comes out of the jail; what the command
 * could find in pid 1's memory (the operator's environment) is wiped before the command is started.
 */
#include "cli.h"

#include "common/paths.h"
#include "common/uids.h"
#include "common/util.h"
#include "pty.h"
#include "sandbox_net.h"
#include "supervisor/policy/planner.h"
#include "worker/sandbox/governor.h"
#include "worker/sandbox/jail.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* As in sh and env(1). */
enum { STATUS_CANNOT_RUN = 126, STATUS_NOT_FOUND = 127, STATUS_SIGNAL = 128 };

struct options {
        const char *policy, *agent, *crew_dir;
        struct cli_list setenv;
};

static const struct cli_option option_rows[] = {
        {"policy", 'p', CLI_STRING, offsetof(struct options, policy), "ROLE",
         "a role's file, or the name of a shipped role", CLI_COMPLETE_FILE},
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "NAME", "which agent, when the file has several",
         CLI_COMPLETE_NONE},
        {"crew-dir", 0, CLI_STRING, offsetof(struct options, crew_dir), "DIR", "what ${CREW_DIR} in the policy means",
         CLI_COMPLETE_FILE},
        {"setenv", 'e', CLI_LIST, offsetof(struct options, setenv), "K=V", "set a variable; may be repeated",
         CLI_COMPLETE_NONE},
};

/* Everything with a life of its own in one run; sandbox_fini ends it in order. */
struct sandbox {
        struct options o;
        struct policy_image *policy;
        void *plan;
        struct pty pty;
        struct jail_ahead *ahead;
        struct jail jail;
        struct sandbox_net net;
        uint64_t govern_at_ns;
        uint32_t killed; /* by its governor, as was said */
        int uid_lock;
        char cwd[PATH_MAX], crew_dir[PATH_MAX];
        const char *env[CLI_LIST_MAX + 2];
        char term_env[2][256];
        size_t n_env;
};

static void forget_plan(struct sandbox *s) {
        s->policy = policy_image_free(s->policy);
        free(s->plan);
        s->plan = NULL;
}

static void sandbox_fini(struct sandbox *s) {
        jail_ahead_close(s->ahead);
        pty_close(&s->pty);
        sandbox_net_close(&s->net);
        forget_plan(s);
        crew_close(&s->uid_lock);
}

/* --- in the jail --- */

static const char **words_of(const struct plan *p, uint32_t first, uint32_t n) {
        const char **out = calloc(n + 1u, sizeof(*out));

        for (uint32_t i = 0; out && i < n; i++)
                out[i] = plan_string_at(p, first + i);
        return out;
}

/* We are a fork of crewctl: its arguments and environment are on our stack still. */
static void wipe_environment(void) {
        for (char **e = environ; e && *e; e++)
                explicit_bzero(*e, strlen(*e));
        environ = NULL;
}

static int status_of(int wait_status) {
        return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : STATUS_SIGNAL + WTERMSIG(wait_status);
}

/* Until the command ends; orphans of it are reaped on the way. */
static int supervise(pid_t command) {
        sigset_t all;

        sigfillset(&all);
        for (;;) {
                siginfo_t info;
                int sig = sigwaitinfo(&all, &info), status;
                if (sig > 0 && sig != SIGCHLD) {
                        kill(command, sig);
                        continue;
                }
                for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                        if (pid == command)
                                return status_of(status);
        }
}

/* What the command left behind does not outlive it.  Orphans are our children, so without a child there is none. */
static void end_all(void) {
        if (waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD)
                return;
        kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
                ;
}

static void jail_main(const struct jail_child *c, void *user) {
        const struct plan_program *program = plan_program_at(c->plan, 0);
        sigset_t all;

        wipe_environment();
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        const struct jail_exec x = {
                .layer = program->layer,
                .argv = words_of(c->plan, program->first_arg, program->n_args),
                .envp = words_of(c->plan, c->plan->first_env, c->plan->n_env),
                .stdio = {c->stdio[0], c->stdio[1], c->stdio[2]},
                .new_session = true,
                .groups = c->groups,
                .n_groups = ELEMENTSOF(c->groups),
                .cpus = c->cpus,
        };
        if (!x.argv || !x.envp)
                _exit(CLI_INTERNAL);
        pid_t command = jail_exec_program(c->plan, &x);
        if (command < 0) {
                dprintf(c->stdio[2], "crewctl: sandbox: %s: %s\n", x.argv[0], strerror(-command));
                _exit(command == -ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN);
        }
        for (int i = 0; i < 3; i++)
                close(c->stdio[i]);
        for (size_t i = 0; i < ELEMENTSOF(c->groups); i++)
                if (c->groups[i] >= 0)
                        close(c->groups[i]);
        int status = supervise(command);
        end_all();
        const unsigned char said = (unsigned char)status;
        if (write(c->status_fd, &said, sizeof(said)) == sizeof(said))
                (void)!read(c->status_fd, &(unsigned char){0}, 1); /* see jail_leave() */
        _exit(status);
}

/* --- outside --- */

static int usage(const char *text) {
        struct cli_problem p = CLI_PROBLEM_NULL;

        cli_problem_set(&p, CLI_USAGE, "usage", "sandbox: %s", text);
        cli_problem_hint(&p, "crewctl sandbox --policy ROLE.yaml -- COMMAND [ARG...]");
        return cli_report(&p, false);
}

/* A name without a slash that is no file here is a role that came with crewd. */
static int find_policy(const char *given, char out[PATH_MAX], struct crew_err *err) {
        char dir[PATH_MAX];

        if (strchr(given, '/') || access(given, F_OK) == 0 || crew_data_dir(dir, NULL) < 0 ||
            (size_t)snprintf(out, PATH_MAX, "%s/roles/%s%s", dir, given, strstr(given, ".yaml") ? "" : ".yaml") >=
                    PATH_MAX ||
            access(out, F_OK) < 0) {
                if ((size_t)snprintf(out, PATH_MAX, "%s", given) >= PATH_MAX)
                        return crew_fail(err, ENAMETOOLONG, "%s: path too long", given);
        }
        return 0;
}

static int load_policy(struct sandbox *s) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char file[PATH_MAX];
        int r = find_policy(s->o.policy, file, &err);

        if (r == 0)
                r = policy_load(file, s->o.agent, s->crew_dir[0] ? s->crew_dir : NULL, &s->policy, &report, &err);
        if (r < 0 && report.errors > 0)
                policy_report_print(&report, stderr, false);
        else if (r < 0)
                cli_fail(false, CLI_USAGE, "policy", "%s", err.msg);
        policy_report_fini(&report);
        return r < 0 ? CLI_USAGE : CLI_OK;
}

/* The terminal's kind is the one thing passed on from our own environment, and only if the command gets a terminal. */
static void collect_env(struct sandbox *s) {
        static const char *const names[] = {"TERM", "COLORTERM"};

        for (size_t i = 0; i < ELEMENTSOF(names) && s->pty.master >= 0; i++) {
                const char *value = getenv(names[i]);
                if (value && (size_t)snprintf(s->term_env[i], sizeof(s->term_env[i]), "%s=%s", names[i], value) <
                                     sizeof(s->term_env[i]))
                        s->env[s->n_env++] = s->term_env[i];
        }
        for (size_t i = 0; i < s->o.setenv.n; i++)
                s->env[s->n_env++] = s->o.setenv.items[i];
}

static int make_plan(struct sandbox *s, const struct cli_operands *command) {
        struct crew_err err = CREW_ERR_NULL;
        const bool root = geteuid() == 0;
        struct planner_input in = {
                .policy = s->policy,
                .sandbox_argv = (const char *const *)command->items,
                .n_sandbox_argv = command->n,
                .sandbox_env = s->env,
                .n_sandbox_env = s->n_env,
                .crew_dir = s->crew_dir[0] ? s->crew_dir : NULL,
                .cwd = s->cwd[0] ? s->cwd : NULL,
                .operator_home = getenv("HOME"),
                .incarnation = 1,
                .root_mode = root,
                .netrules = s->net.fd >= 0,
                .host_uid = geteuid(),
                .host_gid = getegid(),
                .owner_uid = geteuid(),
                .owner_gid = getegid(),
        };
        size_t n;
        int r = 0;

        if (root && (r = uids_take(&in.host_uid, &s->uid_lock, &err)) == 0)
                in.host_gid = in.host_uid;
        if (r == 0)
                r = planner_make(&in, &s->plan, &n, &err);
        if (r == PLANNER_COMMAND_ABSENT)
                return cli_fail(false, STATUS_NOT_FOUND, "not-found", "sandbox: %s", err.msg);
        if (r == PLANNER_COMMAND_REFUSED)
                return cli_fail(false, STATUS_CANNOT_RUN, "refused", "sandbox: %s", err.msg);
        return r < 0 ? cli_fail(false, CLI_INTERNAL, "plan", "%s", err.msg) : CLI_OK;
}

static int spawn_failed(const struct crew_err *err) {
        struct cli_problem p = CLI_PROBLEM_NULL;

        cli_problem_set(&p, CLI_INTERNAL, "jail", "sandbox: the jail could not be made: %s", err->msg);
        if (err->code == ENOSYS || err->code == EOPNOTSUPP || err->code == EPERM || err->code == EACCES ||
            err->code == ENOSPC)
                cli_problem_hint(&p, "crewctl doctor says what this kernel lacks and how to fix it");
        return cli_report(&p, false);
}

static void say_governed(struct sandbox *s) {
        const struct governor_counts c = s->jail.governor ? governor_counts(s->jail.governor) : (struct governor_counts){0};
        const char *cr = s->pty.input ? "\r" : ""; /* the terminal is raw */

        if (c.kills > s->killed)
                fprintf(stderr, "crewctl: sandbox: its largest process was killed: limits.memory%s\n", cr);
        s->killed = c.kills;
        if (c.unheld && !s->jail.kill_sent_ns) {
                fprintf(stderr, "crewctl: sandbox: it ran on though it was stopped, and is ended: limits.cpu%s\n", cr);
                jail_kill_begin(&s->jail);
        }
}

static void on_net_report(void *user) {
        struct sandbox *s = user;

        sandbox_net_on_report(&s->net);
}

/* There is no spawner here that would hold it to its limits where no control group does, and no log to say so in. */
static int on_turn(void *user) {
        struct sandbox *s = user;
        uint64_t now = crew_now_ns();

        if (now >= s->govern_at_ns) {
                s->govern_at_ns = jail_govern(&s->jail, now);
                say_governed(s);
                now = crew_now_ns();
        }
        if (s->govern_at_ns == UINT64_MAX)
                return -1;
        return s->govern_at_ns <= now ? 0 : (int)MIN_OF((s->govern_at_ns - now) / 1000000u + 1, (uint64_t)INT_MAX);
}

static int wait_jail(struct sandbox *s) {
        siginfo_t info = {0};
        struct crew_err err = CREW_ERR_NULL;
        unsigned char said;

        const struct pty_watch net = {.fd = &s->net.fd, .on_ready = on_net_report, .on_turn = on_turn, .user = s};
        s->net.raw = s->pty.input;
        int r = pty_run(&s->pty, s->jail.pidfd, s->jail.status_fd, &net, &err);
        if (r < 0) {
                struct spawn_exit gone;
                jail_kill(&s->jail, &gone);
                return STATUS_SIGNAL + SIGHUP;
        }
        if (read(s->jail.status_fd, &said, sizeof(said)) == sizeof(said)) {
                jail_leave(&s->jail);
                return said;
        }
        while (waitid(P_PIDFD, (id_t)s->jail.pidfd, &info, WEXITED) < 0 && errno == EINTR)
                ;
        jail_fini(&s->jail);
        return info.si_code == CLD_EXITED ? info.si_status : STATUS_SIGNAL + info.si_status;
}

/* There is no status to look it up in later. */
static void say_degraded(uint32_t degraded) {
        for (size_t i = 0; i < PLAN_FEATURE_N; i++) {
                if (degraded & 1u << i)
                        fprintf(stderr, "crewctl: sandbox: without %s, as allow_degraded permits\n", plan_feature_names[i]);
        }
}

static int run_jail(struct sandbox *s, int stdio[3]) {
        struct crew_err err = CREW_ERR_NULL;
        const struct jail_spawn_args args = {
                .ahead = s->ahead,
                .plan = s->plan,
                .stdio = {stdio[0], stdio[1], stdio[2]},
                .main = jail_main,
        };

        s->ahead = NULL;
        if (jail_spawn(&args, &s->jail, &err) < 0)
                return spawn_failed(&err);
        say_degraded(s->jail.att.degraded);
        /* Without it what is dialled is refused: said, and the command goes on. */
        if (s->net.fd >= 0 && sandbox_net_serve(&s->net, s->policy, s->jail.listeners, &err) < 0)
                fprintf(stderr, "crewctl: sandbox: nothing can be reached: %s\n", err.msg);
        /* Now, while the command starts, not when everybody waits for us. */
        forget_plan(s);
        malloc_trim(0);
        return wait_jail(s);
}

/* A gateway of its own, when there is anything to reach. */
static int open_net(struct sandbox *s) {
        struct crew_err err = CREW_ERR_NULL;
        struct cli_problem p = CLI_PROBLEM_NULL;
        const char *lacks = sandbox_net_lacks(s->policy);

        if (policy_network_denied(s->policy))
                return CLI_OK;
        if (lacks) {
                cli_problem_set(&p, CLI_USAGE, "usage", "sandbox: the policy's endpoints need %s, which only a crew has",
                                lacks);
                cli_problem_hint(&p, "crewctl run CREW.yaml, with the agent in it");
                return cli_report(&p, false);
        }
        jail_ahead_close(s->ahead); /* its network would have no way out */
        s->ahead = NULL;
        return sandbox_net_open(&s->net, &err) < 0 ? cli_fail(false, CLI_INTERNAL, "network", "sandbox: %s", err.msg)
                                                   : CLI_OK;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct sandbox s _cleanup_(sandbox_fini) = {
                .pty = PTY_NULL, .jail = JAIL_NULL, .net = SANDBOX_NET_NULL, .uid_lock = -1};
        struct crew_err err = CREW_ERR_NULL;
        struct cli_operands command;
        int stdio[3], status;

        if (!cli_parse(self, argc, argv, &s.o, &command, &status))
                return status;
        if (!s.o.policy)
                return usage("needs a policy");
        if (command.n == 0)
                return usage("needs a command");
        if (s.o.crew_dir && !realpath(s.o.crew_dir, s.crew_dir))
                return cli_fail(false, CLI_USAGE, "usage", "%s: %s", s.o.crew_dir, strerror(errno));
        if (!getcwd(s.cwd, sizeof(s.cwd)))
                s.cwd[0] = '\0'; /* removed under us: start in the private home */
        pty_block_signals(NULL);
        if (jail_ahead_open(jail_main, NULL, &s.ahead, &err) < 0)
                return spawn_failed(&err);
        status = load_policy(&s);
        if (status != CLI_OK)
                return status;
        if ((status = open_net(&s)) != CLI_OK)
                return status;
        if (pty_open(&s.pty, stdio, &err) < 0)
                return cli_fail(false, CLI_INTERNAL, "pty", "sandbox: %s", err.msg);
        collect_env(&s);
        status = make_plan(&s, &command);
        return status == CLI_OK ? run_jail(&s, stdio) : status;
}

const struct cli_verb verb_sandbox = {
        .name = "sandbox",
        .synopsis = "--policy ROLE [options] [--] COMMAND [ARG...]",
        .summary = "run one command in the jail of a role",
        .details = "Standard streams are attached and the command's exit status is passed on; 126 and 127 mean what they\n"
                   "mean in sh, 128+N a signal, 125 that the jail could not be made.  The endpoints that the policy lists\n"
                   "can be reached; what is refused is said on standard error.\n\n"
                   "  crewctl sandbox --policy policies/roles/researcher.yaml -- python3 -c 'open(\"/etc/shadow\")'\n"
                   "  crewctl sandbox --policy coder -- bash\n",
        .options = option_rows,
        .n_options = ELEMENTSOF(option_rows),
        .operands = CLI_COMPLETE_COMMAND,
        .command = true,
        .run = run,
};
