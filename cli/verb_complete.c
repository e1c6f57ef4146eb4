/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl __complete: what the shells ask.  From the verb table and the files; no daemon is asked, except for
 * what only it knows: the approvals and the tasks that wait.
 *
 * `crewctl __complete WORD... LAST` prints the candidates for LAST, one a line, as "word<TAB>what it is".  A line
 * ":files" or ":commands" asks the shell for its own.
 */
#include "cli.h"

#include "approval.h"
#include "common/record.h"
#include "common/util.h"
#include "crews.h"
#include "supervisor/policy/policy.h"
#include "text.h"

#include <string.h>

static void offer(const char *last, const char *word, const char *what) {
        if (strncmp(word, last, strlen(last)) == 0)
                printf("%s\t%s\n", word, what);
}

/* At most n words, fewer when a NULL ends them. */
static void offer_list(const char *last, const char *const *words, size_t n) {
        for (size_t i = 0; i < n && words[i]; i++)
                offer(last, words[i], "");
}

static void offer_names(const char *last, const struct crew_names *names, const char *what) {
        for (size_t i = 0; i < names->n; i++)
                offer(last, names->items[i], what);
}

/* Of the crew named, else of those that run, else of all that ever did. */
static void offer_agents(const char *last, const char *crew) {
        _cleanup_names_ struct crew_names crews = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;

        if (crew_paths_init(&paths, &err) < 0)
                return;
        if (crew)
                crew_names_add(&crews, crew);
        else if (crews_running(&paths, &crews) == 0 && crews.n == 0)
                crews_recorded(&paths, &crews);
        for (size_t i = 0; i < crews.n; i++) {
                _cleanup_names_ struct crew_names agents = {0};
                if (crew_recorded_agents(&paths, crews.items[i], &agents) == 0)
                        offer_names(last, &agents, crews.items[i]);
        }
}

static void offer_crews(const char *last) {
        _cleanup_names_ struct crew_names running = {0}, recorded = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;

        if (crew_paths_init(&paths, &err) < 0)
                return;
        crews_running(&paths, &running);
        crews_recorded(&paths, &recorded);
        offer_names(last, &running, "running");
        for (size_t i = 0; i < recorded.n; i++) {
                bool runs = false;
                for (size_t k = 0; k < running.n; k++)
                        runs |= strcmp(running.items[k], recorded.items[i]) == 0;
                if (!runs)
                        offer(last, recorded.items[i], "ended");
        }
}

/* Only crewd knows them. */
static void offer_approvals(const char *last, const char *crew) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__ApprovalList *list = NULL;
        char place[APPROVAL_PLACE_MAX], what[512];

        if (client_open(crew, &c, &problem) < 0 || approvals_get(c, false, &list, NULL, &problem) < 0)
                return;
        for (size_t i = 0; i < list->n_items; i++) {
                const Crew__Approval *a = list->items[i];
                snprintf(what, sizeof(what), "%s -> %s", a->agent, approval_place(a->host, a->port, place));
                _cleanup_free_ char *safe = text_safe_dup(what, strlen(what), true);
                offer(last, a->id, safe ? safe : "");
        }
}

/* Those of the crew file that wait or run; once more, only crewd knows. */
static void offer_tasks(const char *last, const char *crew) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__Status *s = NULL;
        char what[128];

        if (client_open(crew, &c, &problem) < 0 || client_status(c, &s, &problem) < 0)
                return;
        for (size_t i = 0; i < s->n_tasks; i++) {
                const Crew__TaskStatus *t = s->tasks[i];
                if (strcmp(t->state, "running") != 0 && strcmp(t->state, "waiting") != 0 && strcmp(t->state, "voting") != 0)
                        continue;
                snprintf(what, sizeof(what), "%.60s, %.32s", t->agent, t->state);
                _cleanup_free_ char *safe = text_safe_dup(what, strlen(what), true);
                offer(last, t->submitted ? t->id : t->name, safe ? safe : "");
        }
}

static void offer_kind(enum cli_complete kind, const char *last, const char *crew) {
        switch (kind) {
        case CLI_COMPLETE_NONE:
                break;
        case CLI_COMPLETE_FILE:
                puts(":files");
                break;
        case CLI_COMPLETE_COMMAND:
                puts(":commands");
                break;
        case CLI_COMPLETE_AGENT:
                offer_agents(last, crew);
                break;
        case CLI_COMPLETE_CREW:
                offer_crews(last);
                break;
        case CLI_COMPLETE_APPROVAL:
                offer_approvals(last, crew);
                break;
        case CLI_COMPLETE_TASK:
                offer_tasks(last, crew);
                break;
        case CLI_COMPLETE_FILTER:
                offer_list(last, record_filters, SIZE_MAX);
                break;
        case CLI_COMPLETE_ACTION:
                offer_list(last, policy_verb_names, POLICY_VERB_N);
                offer(last, "network", "all that it can reach");
                break;
        }
}

/* The first words of the verbs; in a group, the second ones. */
static void offer_verbs(const char *group, const char *last) {
        const char *before = "";

        for (size_t i = 0; i < cli_n_verbs; i++) {
                const struct cli_verb *v = cli_verbs[i];
                if (v->hidden || (group && (!v->group || strcmp(v->group, group) != 0)))
                        continue;
                const char *word = group || !v->group ? v->name : v->group;
                if (strcmp(word, before) != 0)
                        offer(last, word, group || !v->group ? v->summary : "");
                before = word;
        }
}

static const struct cli_option *option_of(const struct cli_verb *v, const char *word) {
        for (size_t i = 0; i < v->n_options; i++) {
                const struct cli_option *o = &v->options[i];
                if (strncmp(word, "--", 2) == 0 ? strcmp(word + 2, o->name) == 0
                                                : word[0] == '-' && o->letter && word[1] == o->letter && !word[2])
                        return o;
        }
        return NULL;
}

static void offer_options(const struct cli_verb *v, const char *last) {
        char word[64];

        for (size_t i = 0; i < v->n_options; i++) {
                snprintf(word, sizeof(word), "--%s", v->options[i].name);
                offer(last, word, v->options[i].help);
        }
        offer(last, "--help", "print help");
}

/* words: what follows the verb, the last of them being typed. */
static void complete_verb(const struct cli_verb *v, char **words, int n) {
        const char *last = words[n - 1], *crew = NULL;
        const struct cli_option *pending = NULL;

        for (int i = 0; i < n - 1; i++) {
                if (pending) {
                        if (pending->complete == CLI_COMPLETE_CREW)
                                crew = words[i];
                        pending = NULL;
                        continue;
                }
                bool dashes = strcmp(words[i], "--") == 0;
                if (dashes || (v->command && words[i][0] != '-')) {
                        /* Behind the command itself come its arguments. */
                        offer_kind(dashes && i == n - 2 ? v->operands : CLI_COMPLETE_FILE, last, crew);
                        return;
                }
                const struct cli_option *o = option_of(v, words[i]);
                pending = o && o->kind != CLI_FLAG ? o : NULL;
        }
        if (pending)
                offer_kind(pending->complete, last, crew);
        else if (last[0] == '-')
                offer_options(v, last);
        else
                offer_kind(v->operands, last, crew);
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        char **words = argv + 1;
        int n = argc - 1;
        bool group = false;

        if (n <= 1) {
                offer_verbs(NULL, n ? words[0] : "");
                return CLI_OK;
        }
        for (size_t i = 0; i < cli_n_verbs; i++) {
                const struct cli_verb *v = cli_verbs[i];
                int taken = v->group ? 2 : 1;
                if (v->group && strcmp(words[0], v->group) == 0)
                        group = true;
                if (v->hidden || n <= taken || strcmp(words[taken - 1], v->name) != 0 ||
                    (v->group && strcmp(words[0], v->group) != 0))
                        continue;
                complete_verb(v, words + taken, n - taken);
                return CLI_OK;
        }
        if (group && n == 2)
                offer_verbs(words[0], words[1]);
        return CLI_OK;
}

const struct cli_verb verb_complete = {
        .name = "__complete",
        .synopsis = "WORD...",
        .summary = "candidates for shell completion",
        .hidden = true,
        .run = run,
};
