/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-worker as its attacker would have it: the real spawner, but in the jail of an agent whose command names a file
 * hostile-*.py the worker's place as pid 1 is taken by that script, which has the link to crewd in CREW_LINK_FD.
 * Every other agent gets the real worker, so that one crew holds both.
 */
#include "worker/worker.h"
#include "common/util.h"
#include "worker/spawner.h"

#include <fcntl.h>
#include <string.h>

static const char *script_of(const struct plan *plan) {
        for (uint32_t i = 0; i < plan->n_programs; i++) {
                const struct plan_program *p = plan_program_at(plan, i);
                for (uint32_t k = 0; p->kind == PLAN_PROGRAM_AGENT && k < p->n_args; k++) {
                        const char *word = plan_string_at(plan, p->first_arg + k);
                        const char *slash = strrchr(word, '/');
                        if (strncmp(slash ? slash + 1 : word, "hostile-", strlen("hostile-")) == 0)
                                return word;
                }
        }
        return NULL;
}

static void be_hostile(const struct jail_child *c, const char *script) {
        char fd[32], lifeline[40], incarnation[32], agent[80];
        char *argv[] = {(char *)"python3", (char *)"-S", (char *)"-E", (char *)script, NULL};
        char *envp[] = {fd, lifeline, incarnation, agent, (char *)"PATH=/run/crew/bin:/usr/bin:/bin", NULL};

        snprintf(fd, sizeof(fd), "CREW_LINK_FD=%d", c->link_fd);
        snprintf(incarnation, sizeof(incarnation), "INCARNATION=%u", c->plan->incarnation);
        snprintf(agent, sizeof(agent), "AGENT=%s", c->plan->agent);
        snprintf(lifeline, sizeof(lifeline), "CREW_LIFELINE_FD=%d", c->lifeline);
        fcntl(c->link_fd, F_SETFD, 0);
        if (c->lifeline >= 0)
                fcntl(c->lifeline, F_SETFD, 0);
        execve("/usr/bin/python3", argv, envp);
        _exit(127);
}

static void jail_main(const struct jail_child *c, void *user) {
        const struct worker_config config = {.plan = c->plan,
                                             .link_fd = c->link_fd,
                                             .lifeline = c->lifeline,
                                             .socket_path = WORKER_SOCKET,
                                             .exec = jail_exec_program,
                                             .take_link = jail_take_link};
        const char *script = script_of(c->plan);

        if (script)
                be_hostile(c, script);
        _exit(worker_run(&config));
}

int main(int argc, char **argv) {
        uint64_t fd;

        if (argc != 3 || strcmp(argv[1], "--spawner") != 0 || crew_parse_u64(argv[2], &fd) < 0)
                return 2;
        return spawner_main((int)fd, jail_main);
}
