/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl approvals: the connections that are held for the operator; while it follows, there is somebody to ask. */
#include "cli.h"

#include "approval.h"
#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "table.h"
#include "term.h"
#include "text.h"

#include <string.h>

struct options {
        const char *crew;
        bool follow, json;
};

static const struct cli_option options[] = {
        {"follow", 'f', CLI_FLAG, offsetof(struct options, follow), NULL,
         "stay, and show each as it is asked and decided; connections are held for you", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static const struct table_column columns[] = {
        {"ID", false, 0, false},     {"AGENT", false, 0, true}, {"CONNECTION", false, 0, true},
        {"WAITING", true, 2, false}, {"SINCE", true, 1, false}, {"EXPIRES", true, 0, false},
};

static void print_list(const struct term *term, const Crew__ApprovalList *list) {
        char place[APPROVAL_PLACE_MAX], since[TEXT_WORD], left[TEXT_WORD];

        if (list->n_items == 0) {
                fputs("no connection waits\n", term->out);
                return;
        }
        struct table *t = table_new(columns, ELEMENTSOF(columns));
        for (size_t i = 0; i < list->n_items; i++) {
                const Crew__Approval *a = list->items[i];
                table_cell(t, TERM_BOLD, "%s", a->id);
                table_cell(t, TERM_PLAIN, "%s", a->agent);
                table_cell(t, TERM_PLAIN, "%s", approval_place(a->host, a->port, place));
                table_cell(t, TERM_PLAIN, "%u", a->waiting);
                table_cell(t, TERM_PLAIN, "%s", text_duration_short(a->age_ms * 1000000u, since));
                table_cell(t, TERM_YELLOW, "%s", text_duration_short(a->expires_in_ms * 1000000u, left));
        }
        table_print(t, term, "");
        table_free(t);
        fprintf(term->out, "\ncrewctl approve ID [--once | --session | --always], crewctl deny ID [--session]\n");
}

static void explain_not_held(const struct term *term, const Crew__ApprovalList *list) {
        if (!list->held)
                fputs("  and none would: nobody follows, so what no rule lists is refused at once\n"
                      "  hold them: crewctl approvals --follow, or `approvals: operator` in the crew file\n",
                      term->out);
}

static void print_list_json(const Crew__ApprovalList *list) {
        json_t *items = json_array();

        for (size_t i = 0; i < list->n_items; i++)
                json_array_append_new(items, approval_json(list->items[i]));
        jsonout_print(json_pack("{s:o, s:b}", "approvals", items, "held", (int)list->held));
}

static void print_line(struct term *t, const Crew__Approval *a, bool json) {
        char place[APPROVAL_PLACE_MAX], left[TEXT_WORD];
        bool waits = a->state == CREW__APPROVAL_STATE__APPROVAL_WAITING;

        if (json)
                return jsonout_line(approval_json(a));
        enum term_mark mark = waits ? TERM_WARN : a->state == CREW__APPROVAL_STATE__APPROVAL_GRANTED ? TERM_OK : TERM_FAIL;
        fprintf(t->out, "%s%s%s %s  ", term_on(t, term_mark_style(mark)), term_mark(t, mark),
                term_off(t, term_mark_style(mark)), a->id);
        term_put(t, a->agent);
        fputs(" -> ", t->out);
        term_put(t, approval_place(a->host, a->port, place));
        if (waits)
                fprintf(t->out, "   waits%s%s for %s", a->waiting > 1 ? " again," : ",", "",
                        text_duration_short(a->expires_in_ms * 1000000u, left));
        else
                fprintf(t->out, "   %s%s%s", approval_state_name(a->state), a->scope ? ", " : "",
                        a->scope ? approval_scope_name(a->scope) : "");
        if (*a->by) {
                fputs(", by ", t->out);
                term_put(t, a->by);
        }
        fputc('\n', t->out);
        fflush(t->out);
}

/* crewd leaving while we watch is the end of the show, not a fault. */
static int follow(struct client *c, const struct options *o, struct term *t, uint64_t corr) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        const Crew__Envelope *e = NULL;

        while (client_next(c, -1, &e, &problem) > 0) {
                if (e->body_case == CREW__ENVELOPE__BODY_APPROVAL_CHANGED && e->corr == corr &&
                    e->approval_changed->approval)
                        print_line(t, e->approval_changed->approval, o->json);
                if (ferror(stdout))
                        return CLI_OK;
        }
        if (strcmp(problem.code, "closed") != 0)
                return cli_report(&problem, o->json);
        if (!o->json)
                fprintf(t->out, "crew %s has ended\n", client_crew(c));
        return CLI_OK;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__ApprovalList *list = NULL;
        struct cli_operands rest;
        struct term term;
        uint64_t corr = 0;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (client_open(o.crew, &c, &problem) < 0 || approvals_get(c, o.follow, &list, &corr, &problem) < 0)
                return cli_report(&problem, o.json);
        term_init(&term, stdout);
        if (o.follow) {
                for (size_t i = 0; i < list->n_items; i++)
                        print_line(&term, list->items[i], o.json);
                if (!o.json && list->n_items == 0)
                        fprintf(stderr, "crew %s: connections that no rule lists are held for you\n", client_crew(c));
                fflush(stdout);
                return follow(c, &o, &term, corr);
        }
        if (o.json) {
                print_list_json(list);
                return CLI_OK;
        }
        print_list(&term, list);
        explain_not_held(&term, list);
        return CLI_OK;
}

const struct cli_verb verb_approvals = {
        .name = "approvals",
        .synopsis = "[--follow] [--crew NAME] [--json]",
        .summary = "show the connections that wait for your decision",
        .details = "Agents whose policy says `on_unlisted: ask` wait here with what no rule lists.  They wait while\n"
                   "somebody follows, or always if the crew file says `approvals: operator`; else it is refused at once.\n"
                   "\n"
                   "  crewctl approvals\n"
                   "  crewctl approvals --follow\n"
                   "  crewctl approvals --json | jq -r '.approvals[].id'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
