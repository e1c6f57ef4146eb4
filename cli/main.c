/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl: the command line of crewd.  Finds the verb and runs it; each verb has its own file.
 */
#include "cli.h"

#include "common/util.h"
#include "jsonout.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

const struct cli_verb *const cli_verbs[] = {
        &verb_run,          &verb_up,           &verb_down,           &verb_status,        &verb_logs,
        &verb_kill,         &verb_approvals,    &verb_approve,        &verb_deny,          &verb_exec,
        &verb_sandbox,      &verb_policy_check, &verb_policy_explain, &verb_policy_reload, &verb_audit_verify,
        &verb_audit_export, &verb_start,        &verb_stop,           &verb_submit,        &verb_cancel,
        &verb_thaw,         &verb_state_list,   &verb_state_export,   &verb_state_import,  &verb_state_reset,
        &verb_lock,         &verb_plan,         &verb_doctor,         &verb_complete,
};
const size_t cli_n_verbs = ELEMENTSOF(cli_verbs);

static void print_verbs(const char *group) {
        for (size_t i = 0; i < cli_n_verbs; i++) {
                const struct cli_verb *v = cli_verbs[i];
                char title[64];
                if (v->hidden || (group && (!v->group || strcmp(v->group, group) != 0)))
                        continue;
                cli_verb_title(v, title, sizeof(title));
                printf("  %-16s %s\n", title, v->summary);
        }
}

static void print_usage(void) {
        printf("usage: crewctl VERB [options]\n\nRuns crews of AI agents, each agent in its own jail.\n\n");
        print_verbs(NULL);
        printf("\ncrewctl VERB --help     options and examples of one verb\n"
               "crewctl --version       the version\n"
               "man crewctl             everything else\n");
}

static bool is_group(const char *word) {
        for (size_t i = 0; i < cli_n_verbs; i++) {
                if (cli_verbs[i]->group && strcmp(cli_verbs[i]->group, word) == 0)
                        return true;
        }
        return false;
}

/* The verb named by the first one or two words; *taken says how many. */
static const struct cli_verb *find_verb(int argc, char **argv, int *taken) {
        for (size_t i = 0; i < cli_n_verbs; i++) {
                const struct cli_verb *v = cli_verbs[i];
                *taken = v->group ? 2 : 1;
                if (argc >= *taken && strcmp(argv[*taken - 1], v->name) == 0 &&
                    (!v->group || strcmp(argv[0], v->group) == 0))
                        return v;
        }
        return NULL;
}

/* The nearest verb (or, in a group, its nearest member). */
static const char *nearest_verb(const char *group, const char *word) {
        const char *names[64];
        size_t n = 0;

        for (size_t i = 0; i < cli_n_verbs && n + 2 <= ELEMENTSOF(names); i++) {
                const struct cli_verb *v = cli_verbs[i];
                if (v->hidden || (group && (!v->group || strcmp(v->group, group) != 0)))
                        continue;
                names[n++] = group || !v->group ? v->name : v->group;
        }
        return crew_nearest(word, names, n);
}

static int unknown_verb(const char *group, const char *word) {
        struct cli_problem p = CLI_PROBLEM_NULL;
        const char *prefix = group ? group : "", *blank = group ? " " : "";
        const char *near = nearest_verb(group, word);

        cli_problem_set(&p, CLI_USAGE, "unknown-verb", "unknown verb '%s%s%s'", prefix, blank, word);
        if (near)
                cli_problem_hint(&p, "did you mean crewctl %s%s%s?", prefix, blank, near);
        cli_problem_hint(&p, "crewctl %s%s--help lists the verbs", prefix, blank);
        return cli_report(&p, false);
}

/* `crewctl policy` or `crewctl policy --help`: the members of the group. */
static int group_usage(const char *group, const char *word) {
        if (word && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0)
                return unknown_verb(group, word);
        if (!word)
                return cli_fail(false, CLI_USAGE, "usage", "%s needs a verb; crewctl %s --help lists them", group, group);
        printf("usage: crewctl %s VERB [options]\n\n", group);
        print_verbs(group);
        return CLI_OK;
}

static int dispatch(int argc, char **argv) {
        int taken = 0;

        if (argc < 1) {
                print_usage();
                return CLI_USAGE;
        }
        if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 || (strcmp(argv[0], "help") == 0 && argc == 1)) {
                print_usage();
                return CLI_OK;
        }
        if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0) {
                puts("crewctl " CREW_VERSION);
                return CLI_OK;
        }
        bool help = strcmp(argv[0], "help") == 0;
        const struct cli_verb *v = find_verb(argc - help, argv + help, &taken);
        if (v && help) {
                cli_print_help(v);
                return CLI_OK;
        }
        if (v)
                return v->run(v, argc - taken + 1, argv + taken - 1);
        if (is_group(argv[help]))
                return group_usage(argv[help], argc > 1 + help ? argv[1 + help] : help ? "--help" : NULL);
        return unknown_verb(NULL, argv[help]);
}

/* A reader that went away is no news; a full disk is. */
static int finish_output(int status) {
        if (fflush(stdout) == 0 && !ferror(stdout))
                return status;
        if (errno == EPIPE)
                return status;
        fprintf(stderr, "crewctl: cannot write the output: %s\n", strerror(errno));
        return status == CLI_OK ? CLI_FAILED : status;
}

int main(int argc, char **argv) {
        signal(SIGPIPE, SIG_DFL); /* a verb that holds a crew ignores it */
        return finish_output(dispatch(argc - 1, argv + 1));
}
