/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl approve and deny: the operator's answer to a connection that waits.
 *
 * --always is a change of the policy file, reviewed like any other: the diff is shown, somebody says yes, the loader has
 * checked the text, the file is replaced in one step, crewd loads it.  Only then the waiting connections are let go.
 */
#include "cli.h"

#include "approval.h"
#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "policy_reload.h"
#include "policy_rule.h"
#include "term.h"

#include <libgen.h>
#include <string.h>
#include <sys/socket.h>

struct options {
        const char *crew;
        bool once, session, always, yes, json;
};

#define OPTION_ONCE                                                                                                        \
        {                                                                                                                  \
                "once", 0, CLI_FLAG, offsetof(struct options, once), NULL, "the connections that wait now (default)",      \
                        CLI_COMPLETE_NONE                                                                                  \
        }

static const struct cli_option approve_options[] = {
        OPTION_ONCE,
        {"session", 0, CLI_FLAG, offsetof(struct options, session), NULL, "this one and the like until the agent ends",
         CLI_COMPLETE_NONE},
        {"always", 0, CLI_FLAG, offsetof(struct options, always), NULL,
         "write the rule into the agent's policy file (shows the diff, asks), then let go", CLI_COMPLETE_NONE},
        {"yes", 'y', CLI_FLAG, offsetof(struct options, yes), NULL, "with --always: do not ask", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static const struct cli_option deny_options[] = {
        OPTION_ONCE,
        {"session", 0, CLI_FLAG, offsetof(struct options, session), NULL,
         "this one and the like, without asking again, until the agent ends", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static void print_answer(const Crew__Approval *a, const struct policy_rule *rule, bool json) {
        static const char *const for_how_long[] = {
                [CREW__APPROVAL_SCOPE__APPROVAL_SCOPE_UNSET] = "",
                [CREW__APPROVAL_SCOPE__APPROVAL_ONCE] = "once",
                [CREW__APPROVAL_SCOPE__APPROVAL_SESSION] = "for this session",
                [CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS] = "always",
        };
        char place[APPROVAL_PLACE_MAX];
        struct term t;

        if (json) {
                json_t *o = approval_json(a);
                if (rule)
                        json_object_set_new(o, "rule_line", json_integer((json_int_t)rule->line));
                return jsonout_print(o);
        }
        term_init(&t, stdout);
        bool granted = a->state == CREW__APPROVAL_STATE__APPROVAL_GRANTED;
        printf("%s %s: ", granted ? "approved" : "denied",
               (size_t)a->scope < ELEMENTSOF(for_how_long) ? for_how_long[a->scope] : "");
        term_put(&t, a->agent);
        fputs(" -> ", stdout);
        term_put(&t, approval_place(a->host, a->port, place));
        printf("%s%u connection%s", term_dot(&t), a->waiting, a->waiting == 1 ? "" : "s");
        if (rule) {
                fputs(term_dot(&t), stdout);
                term_put(&t, rule->file);
                printf(":%u", rule->line);
        }
        fputc('\n', stdout);
}

/* --- always --- */

/* What crewd says is followed to a file: only if it runs as who we are. */
static int trust_server(struct client *c, struct cli_problem *p) {
        struct ucred cred;
        socklen_t n = sizeof(cred);

        if (getsockopt(client_fd(c), SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
                return cli_problem_set(p, CLI_INTERNAL, "io", "who serves the crew is not known");
        if (cred.uid == geteuid())
                return 0;
        cli_problem_set(p, CLI_FAILED, "foreign", "crew %s is run by uid %u; its policy files are not edited as uid %u",
                        client_crew(c), (unsigned)cred.uid, (unsigned)geteuid());
        cli_problem_hint(p, "say --always as that user, or --session here");
        return -1;
}

/* 1: yes; 0: no; -1 with a problem: there is nobody to ask. */
static int confirm(const struct options *o, struct cli_problem *p) {
        char line[16] = "";

        if (o->yes)
                return 1;
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
                cli_problem_set(p, CLI_USAGE, "usage", "this is no terminal: --always needs --yes to write the rule");
                return -1;
        }
        fputs("write this rule? [y/N] ", stderr);
        return fgets(line, sizeof(line), stdin) && (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0);
}

/* Loaded, or the file is as it was. */
static int load_rule(struct client *c, const struct approval *a, struct policy_rule *rule, struct cli_problem *p) {
        const Crew__PolicyReloaded *r = NULL;
        struct cli_problem undo = CLI_PROBLEM_NULL;
        char why[1200] = "";

        int e = policy_reload(c, a->agent, false, &r, p);
        if (e == 0)
                policy_reload_error(r, why, sizeof(why));
        if (e == 0 && !why[0])
                return 0;
        if (e == 0)
                cli_problem_set(p, CLI_FAILED, "not-loaded", "crewd does not take the policy: %.900s", why);
        if (rule->after && policy_rule_undo(rule, &undo) < 0)
                cli_problem_hint(p, "the rule stays in the file: %s", undo.text);
        else if (rule->after)
                cli_problem_hint(p, "the rule was taken out of %s again", rule->file);
        return -1;
}

/* 1: the rule is in force; 0: the operator said no; -1 with a problem. */
static int add_rule(struct client *c, const struct approval *a, const struct options *o, struct policy_rule *rule,
                    struct cli_problem *p) {
        char place[APPROVAL_PLACE_MAX], crew_file[PATH_MAX];
        struct term t;

        snprintf(crew_file, sizeof(crew_file), "%s", client_crew_file(c));
        const struct policy_rule_want want = {.file = a->policy_file,
                                              .agent = a->policy_agent,
                                              .endpoint = approval_place(a->host, a->port, place),
                                              .crew_dir = dirname(crew_file)};
        if (trust_server(c, p) < 0 || policy_rule_make(&want, rule, p) < 0)
                return -1;
        if (rule->after) {
                term_init(&t, stderr);
                policy_rule_show(rule, &t);
                int yes = confirm(o, p);
                if (yes <= 0)
                        return yes;
                if (policy_rule_write(rule, p) < 0)
                        return -1;
        }
        return load_rule(c, a, rule, p) < 0 ? -1 : 1;
}

/* The question took its time: whoever waited may be gone, and that is no failure of the rule. */
static int answer_always(struct client *c, const struct approval *a, const struct options *o, struct policy_rule *rule,
                         struct cli_problem *p) {
        const Crew__Approval *answer = NULL;
        int r = add_rule(c, a, o, rule, p);

        if (r < 0)
                return cli_report(p, o->json);
        if (r == 0)
                return cli_fail(o->json, CLI_FAILED, "not-confirmed", "nothing was changed; %s still waits", a->id);
        if (approval_answer(c, a->id, CREW__APPROVAL_VERDICT__APPROVAL_APPROVE, CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS,
                            &answer, p) == 0) {
                print_answer(answer, rule, o->json);
                return CLI_OK;
        }
        if (strcmp(p->code, "decided") != 0)
                return cli_report(p, o->json);
        fprintf(stderr, "the rule is in force (%s:%u); nobody waits for %s any more\n", rule->file, rule->line, a->id);
        return CLI_OK;
}

static int always(struct client *c, const char *id, const struct options *o, struct cli_problem *p) {
        struct policy_rule rule = POLICY_RULE_NULL;
        const Crew__Approval *ignored = NULL;
        struct approval a;
        int r = approval_find(c, id, &a, p);

        /* crewd knows why it does not wait; what is asked for here is never granted. */
        if (r == 0 && approval_answer(c, id, CREW__APPROVAL_VERDICT__APPROVAL_DENY, CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS,
                                      &ignored, p) == 0)
                cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd answered something else than was asked");
        if (r <= 0)
                return cli_report(p, o->json);
        r = answer_always(c, &a, o, &rule, p);
        policy_rule_fini(&rule);
        return r;
}

/* --- both verbs --- */

static Crew__ApprovalScope scope_of(const struct options *o) {
        return o->always    ? CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS
               : o->session ? CREW__APPROVAL_SCOPE__APPROVAL_SESSION
                            : CREW__APPROVAL_SCOPE__APPROVAL_ONCE;
}

static int run_verb(const struct cli_verb *self, int argc, char **argv, Crew__ApprovalVerdict verdict) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__Approval *answer = NULL;
        struct cli_operands ids;
        int status;

        if (!cli_parse(self, argc, argv, &o, &ids, &status))
                return status;
        if (ids.n != 1 || !*ids.items[0] || strlen(ids.items[0]) > 63)
                return cli_fail(o.json, CLI_USAGE, "usage", "which one? crewctl %s ID; crewctl approvals lists them",
                                self->name);
        if (o.once + o.session + o.always > 1)
                return cli_fail(o.json, CLI_USAGE, "usage", "--once, --session and --always exclude each other");
        if (o.yes && !o.always)
                return cli_fail(o.json, CLI_USAGE, "usage", "--yes goes with --always");
        if (client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        if (o.always)
                return always(c, ids.items[0], &o, &problem);
        if (approval_answer(c, ids.items[0], verdict, scope_of(&o), &answer, &problem) < 0)
                return cli_report(&problem, o.json);
        print_answer(answer, NULL, o.json);
        return CLI_OK;
}

static int run_approve(const struct cli_verb *self, int argc, char **argv) {
        return run_verb(self, argc, argv, CREW__APPROVAL_VERDICT__APPROVAL_APPROVE);
}

static int run_deny(const struct cli_verb *self, int argc, char **argv) {
        return run_verb(self, argc, argv, CREW__APPROVAL_VERDICT__APPROVAL_DENY);
}

const struct cli_verb verb_approve = {
        .name = "approve",
        .synopsis = "ID [--once | --session | --always [--yes]] [--crew NAME] [--json]",
        .summary = "let a connection through that waits for your decision",
        .details = "--always adds one item to network.allowed_endpoints of the agent's policy file: comments and layout\n"
                   "stay, the diff is shown, and crewd loads it before the connection goes on.  Where the file cannot be\n"
                   "edited cleanly the line to add is printed.  An id is decided once.  Loopback, link-local and the\n"
                   "metadata service can never be approved.\n"
                   "\n"
                   "  crewctl approve k7fq\n"
                   "  crewctl approve k7fq --session\n"
                   "  crewctl approve k7fq --always\n",
        .options = approve_options,
        .n_options = ELEMENTSOF(approve_options),
        .operands = CLI_COMPLETE_APPROVAL,
        .run = run_approve,
};

const struct cli_verb verb_deny = {
        .name = "deny",
        .synopsis = "ID [--once | --session] [--crew NAME] [--json]",
        .summary = "refuse a connection that waits for your decision",
        .details = "There is no --always: what no rule lists is denied anyway.  To be asked no more, take\n"
                   "`on_unlisted: ask` out of the policy.\n"
                   "\n"
                   "  crewctl deny k7fq\n"
                   "  crewctl deny k7fq --session\n",
        .options = deny_options,
        .n_options = ELEMENTSOF(deny_options),
        .operands = CLI_COMPLETE_APPROVAL,
        .run = run_deny,
};
