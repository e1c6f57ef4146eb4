/* SPDX-License-Identifier: Apache-2.0 */
#include "former.h"

#include "plan.h"
#include "session.h"

#include <string.h>

/* Nothing changed, as crewd itself would see it: 1, 0 or -1 with a problem. */
static int is_same(struct client *c, bool locked, struct cli_problem *p) {
        const Crew__CrewPlan *plan = NULL;

        if (plan_ask(c, "", locked, &plan, p) < 0)
                return -1;
        return plan->ok && plan->effect == CREW__PLAN_EFFECT__PLAN_UNCHANGED;
}

int former_look(struct client *c, struct former *out, struct cli_problem *p) {
        const Crew__CrewPlan *plan = NULL;

        *out = (struct former){0};
        snprintf(out->crew, sizeof(out->crew), "%s", client_crew(c));
        if (plan_ask(c, "", false, &plan, p) < 0)
                return -1;
        snprintf(out->file, sizeof(out->file), "%s", plan->file);
        int locked = is_same(c, true, p); /* to lock it would be a change, if it is not */
        int same = locked == 0 ? is_same(c, false, p) : locked;
        if (locked < 0 || same < 0)
                return -1;
        out->locked = locked > 0;
        out->intact = same > 0;
        return 0;
}

static int start_again(const struct former *f, bool quiet, struct cli_problem *p) {
        const struct session_args args = {.crew_file = f->file, .quiet = quiet, .locked = f->locked};
        struct session s = SESSION_NULL;
        int r = session_open(&s, &args, p);

        session_close(&s);
        return r;
}

void former_restore(const struct former *f, bool quiet, struct cli_problem *p) {
        struct cli_problem failed = *p, again = CLI_PROBLEM_NULL;

        p->hint[0] = '\0';
        p->told = false;
        if (f->intact && start_again(f, quiet, &again) == 0) {
                cli_problem_set(p, failed.status, "restored", "%.700s: crew %s runs again as before", failed.text, f->crew);
                cli_problem_hint(p, "by %s, detached; its tasks ended with it", f->file);
                return;
        }
        cli_problem_set(p, failed.status, "stopped", "%.700s: crew %s was stopped, and does not run", failed.text, f->crew);
        if (f->intact)
                cli_problem_hint(p, "nor did it start again as before: %s", again.text);
        else
                cli_problem_hint(p,
                                 "what ran is on disk no more (%s or a file of its has changed): put it back, then "
                                 "crewctl up %s",
                                 f->file, f->file);
        if (*failed.hint)
                cli_problem_hint(p, "%s", failed.hint);
}
