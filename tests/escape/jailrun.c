/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command in the agent's layer of a crew's jail, or one of its tools in the tool's own layer: what the worker
 * does, without a supervisor.  For the tests of what separates the two.
 *
 *   jailrun CREW.yaml AGENT agent COMMAND [ARG...]
 *   jailrun CREW.yaml AGENT tool NAME
 */
#include "common/paths.h"
#include "common/uids.h"
#include "common/util.h"
#include "supervisor/policy/planner.h"
#include "worker/sandbox/jail.h"

#include <string.h>
#include <sys/wait.h>

struct what {
        const struct plan_program *program;
        const char *const *argv; /* instead of the program's own */
};

static const char **words_of(const struct plan *p, uint32_t first, uint32_t n) {
        const char **out = calloc(n + 1u, sizeof(*out));

        for (uint32_t i = 0; out && i < n; i++)
                out[i] = plan_string_at(p, first + i);
        return out;
}

static void run(const struct jail_child *c, void *user) {
        const struct what *w = user;
        const struct jail_exec x = {
                .layer = w->program->layer,
                .argv = w->argv ? w->argv : words_of(c->plan, w->program->first_arg, w->program->n_args),
                .envp = words_of(c->plan, c->plan->first_env, c->plan->n_env),
                .stdio = {c->stdio[0], c->stdio[1], c->stdio[2]},
                .new_session = true,
        };
        int status;
        pid_t pid = jail_exec_program(c->plan, &x);

        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                _exit(125);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int fail(const struct crew_err *err) {
        fprintf(stderr, "jailrun: %s\n", err->msg);
        return 125;
}

static int spawn(struct plan *plan, struct what *w, struct crew_err *err) {
        struct jail jail = JAIL_NULL;
        siginfo_t info = {0};

        plan->flags |= PLAN_SANDBOX; /* no link, our own streams */
        const struct jail_spawn_args args = {.plan = plan, .stdio = {0, 1, 2}, .main = run, .user = w};
        if (jail_spawn(&args, &jail, err) < 0)
                return fail(err);
        waitid(P_PIDFD, (id_t)jail.pidfd, &info, WEXITED);
        jail_fini(&jail);
        return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static int run_in(const struct crew_file *crew, const struct crew_agent *agent, char **argv, struct crew_err *err) {
        struct planner_input in = {
                .crew = crew,
                .agent = agent,
                .policy = agent->policy,
                .root_mode = geteuid() == 0,
                .host_uid = geteuid(),
                .host_gid = getegid(),
                .owner_uid = geteuid(),
                .owner_gid = getegid(),
                .incarnation = 1,
        };
        const bool tool = strcmp(argv[0], "tool") == 0;
        _cleanup_free_ void *block = NULL;
        int lock = -1;
        size_t n;

        if (in.root_mode) {
                if (uids_take(&in.host_uid, &lock, err) < 0)
                        return fail(err);
                in.host_gid = in.host_uid;
        }
        if (planner_make(&in, &block, &n, err) != 0)
                return fail(err);
        struct what w = {
                .program = plan_program_find(block, tool ? PLAN_PROGRAM_TOOL : PLAN_PROGRAM_AGENT,
                                             tool ? argv[1] : agent->name),
                .argv = tool ? NULL : (const char *const *)argv + 1,
        };
        return w.program ? spawn(block, &w, err) : 3;
}

int main(int argc, char **argv) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_file *crew;

        if (argc < 5) {
                fputs("usage: jailrun CREW.yaml AGENT agent|tool WORD...\n", stderr);
                return 2;
        }
        if (crew_load(argv[1], &crew, &report, &err) < 0) {
                policy_report_print(&report, stderr, false);
                return fail(&err);
        }
        const struct crew_agent *agent = crew_find_agent(crew, argv[2]);
        return agent ? run_in(crew, agent, argv + 3, &err) : 3;
}
