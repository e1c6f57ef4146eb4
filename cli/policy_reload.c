/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_reload.h"

#include "common/util.h"
#include "supervisor/policy/policy.h"

#include <string.h>

#define RELOAD_MS 60000

int policy_reload(struct client *c, const char *agent, bool restart, const Crew__PolicyReloaded **out,
                  struct cli_problem *p) {
        Crew__ReloadPolicy body = CREW__RELOAD_POLICY__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        const Crew__Envelope *answer = NULL;

        body.agent = (char *)(agent ? agent : "");
        body.restart = restart;
        e.body_case = CREW__ENVELOPE__BODY_RELOAD_POLICY;
        e.reload_policy = &body;
        if (client_call(c, &e, RELOAD_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_POLICY_RELOADED)
                return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd answered something else than was asked");
        *out = answer->policy_reloaded;
        return 0;
}

void policy_reload_print_problems(const Crew__PolicyReloaded *r, FILE *f) {
        struct policy_report report = {0};
        struct term t;

        term_init(&t, f);
        for (size_t i = 0; i < r->n_problems; i++) {
                const Crew__PolicyProblem *p = r->problems[i];
                policy_report_add(&report, p->warning, p->file, (int)p->line, (int)p->column, p->hint, "%s", p->text);
        }
        if (report.n > 0)
                policy_report_print(&report, f, t.colour);
        policy_report_fini(&report);
}

void policy_reload_error(const Crew__PolicyReloaded *r, char *out, size_t n) {
        out[0] = '\0';
        for (size_t i = 0; i < r->n_problems; i++) {
                const Crew__PolicyProblem *p = r->problems[i];
                if (p->warning)
                        continue;
                if (p->line)
                        snprintf(out, n, "%s:%u:%u: %s", p->file, p->line, p->column, p->text);
                else
                        snprintf(out, n, "%s: %s", p->file, p->text);
                return;
        }
        for (size_t i = 0; i < r->n_agents; i++) {
                if (*r->agents[i]->error) {
                        snprintf(out, n, "%s: %s", r->agents[i]->agent, r->agents[i]->error);
                        return;
                }
        }
}
