/* SPDX-License-Identifier: Apache-2.0 */
#include "kill_frozen.h"

#include "common/util.h"
#include "hold.h"
#include "interrupt.h"
#include "jsonout.h"
#include "names.h"
#include "text.h"

#include <string.h>

#define FROZEN_NAMED 8

int kill_note_name(struct agents_meant *l, const char *name, struct cli_problem *p) {
        l->items = l->items ? l->items : calloc(1, sizeof(*l->items));
        if (!l->items)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        snprintf(l->items[0].name, sizeof(l->items[0].name), "%s", name);
        l->n = 1;
        return 0;
}

void kill_pass_over(struct kill_doing *d, const char *agent, const char *text) {
        if (d->o->json) {
                json_array_append_new(d->passed,
                                      json_pack("{s:o, s:o}", "agent", jsonout_text(agent), "why", jsonout_text(text)));
        } else {
                term_put(&d->t, text);
                fputc('\n', d->t.out);
        }
}

/* --- what is told when it does not go on --- */

static void tell_who_is_frozen(const struct kill_doing *d, struct cli_problem *p) {
        const char *crew = d->o->crew ? " --crew " : "", *name = d->o->crew ? d->o->crew : "";
        size_t n = 0;

        for (size_t i = 0; i < d->names.n; i++) {
                const struct agent_meant *a = &d->names.items[i];
                if (a->frozen && ++n <= FROZEN_NAMED)
                        cli_problem_hint(
                                p, "agent %s is frozen: crewctl thaw --agent %s%s%.63s, or crewctl kill --agent %s%s%.63s",
                                a->name, a->name, crew, name, a->name, crew, name);
        }
        if (n > FROZEN_NAMED)
                cli_problem_hint(p, "and %zu more: crewctl status", n - FROZEN_NAMED);
        cli_problem_hint(p, n ? "nothing was killed" : "nothing was frozen, nothing was killed");
}

/* -1, always.  A signal outweighs what else was wrong: most likely that was its doing. */
static int give_up(const struct kill_doing *d, struct cli_problem *p) {
        int sig = interrupt_seen();

        if (sig) {
                *p = CLI_PROBLEM_NULL;
                cli_problem_set(p, 128 + sig, "interrupted", "interrupted%s",
                                !d->o->snapshot     ? ""
                                : d->snapshot.bytes ? "; the snapshot was written"
                                                    : ": no snapshot was written");
        }
        tell_who_is_frozen(d, p);
        return -1;
}

int kill_prepare(struct kill_doing *d, struct cli_problem *p) {
        const char *reason = d->o->reason ? d->o->reason : "";

        if (!d->o->snapshot || snapshot_begin(d->o->snapshot, client_crew(d->c), reason, &d->into, p) == 0)
                return 0;
        return give_up(d, p);
}

/* --- freezing --- */

static void tell_frozen(struct kill_doing *d, const Crew__AgentHeld *held) {
        if (d->o->json) {
                json_array_append_new(d->frozen, jsonout_agent(held->agent));
        } else if (d->o->freeze) {
                fprintf(d->t.out, "Agent %s frozen: nothing of it runs, nothing is lost.%s", held->agent->name,
                        *held->task ? "  It keeps task " : "\n");
                if (*held->task) {
                        term_put(&d->t, held->task);
                        fputs(".\n", d->t.out);
                }
                fprintf(d->t.out, "  crewctl thaw --agent %s lets it go on; crewctl kill --agent %s ends it\n",
                        held->agent->name, held->agent->name);
        }
}

static void tell_not_up(struct kill_doing *d, const struct agent_meant *a) {
        char text[256];

        snprintf(text, sizeof(text), "Agent %s is not up (it was %s): %s.", a->name, name_agent_state(a->state),
                 d->o->freeze ? "not frozen" : "nothing of it is in the snapshot");
        kill_pass_over(d, a->name, text);
}

static int freeze_one(struct kill_doing *d, struct agent_meant *a, struct cli_problem *p) {
        const struct hold_call call = {.agent = a->name, .reason = d->o->reason};
        const Crew__AgentHeld *held = NULL;

        if (interrupt_seen())
                return give_up(d, p);
        if (hold_call(d->c, &call, &held, p) == 0) {
                a->frozen = true;
                tell_frozen(d, held);
                return 0;
        }
        if (!d->o->role || p->status != CLI_ABSENT)
                return give_up(d, p);
        *p = CLI_PROBLEM_NULL;
        tell_not_up(d, a);
        return 0;
}

static int freeze_by_task(struct kill_doing *d, struct cli_problem *p) {
        const struct hold_call call = {.task = d->o->task, .reason = d->o->reason};
        const Crew__AgentHeld *held = NULL;

        if (hold_call(d->c, &call, &held, p) < 0)
                return give_up(d, p);
        tell_frozen(d, held);
        if (kill_note_name(&d->names, held->agent->name, p) < 0)
                return -1;
        d->names.items[0].frozen = true;
        return 0;
}

int kill_freeze(struct kill_doing *d, struct cli_problem *p) {
        bool any = d->o->task != NULL;

        if (d->o->task)
                return freeze_by_task(d, p);
        for (size_t i = 0; i < d->names.n; i++) {
                if (freeze_one(d, &d->names.items[i], p) < 0)
                        return -1;
                any |= d->names.items[i].frozen;
        }
        if (!any && d->o->freeze)
                return cli_problem_set(p, CLI_ABSENT, "not-running", "no agent of role '%s' is up", d->o->role);
        return interrupt_seen() ? give_up(d, p) : 0;
}

/* --- snapshot --- */

static const Crew__AgentStatus *find(const Crew__Status *s, const char *name) {
        for (size_t i = 0; i < s->n_agents; i++) {
                if (strcmp(s->agents[i]->name, name) == 0)
                        return s->agents[i];
        }
        return NULL;
}

static int write_all(struct kill_doing *d, struct cli_problem *p) {
        const Crew__Status *status = NULL;

        if (client_status(d->c, &status, p) < 0)
                return -1;
        for (size_t i = 0; i < d->names.n; i++) {
                const struct agent_meant *m = &d->names.items[i];
                const Crew__AgentStatus *a = m->frozen ? find(status, m->name) : NULL;
                if (m->frozen && (!a || !a->frozen || a->pid == 0))
                        return cli_problem_set(p, CLI_FAILED, "not-running", "agent %s has ended meanwhile", m->name);
                if (m->frozen && snapshot_agent(d->into, a, p) < 0)
                        return -1;
        }
        return interrupt_seen() ? -1 : snapshot_end(d->into, &d->snapshot, p);
}

static bool any_frozen(const struct kill_doing *d) {
        for (size_t i = 0; i < d->names.n; i++) {
                if (d->names.items[i].frozen)
                        return true;
        }
        return false;
}

int kill_write_down(struct kill_doing *d, struct cli_problem *p) {
        char size[2 * TEXT_WORD];
        int r = any_frozen(d) ? write_all(d, p) : 0;

        d->into = snapshot_free(d->into);
        if (r < 0)
                return give_up(d, p);
        if (!d->o->json && any_frozen(d))
                fprintf(d->t.out, "Snapshot %s: %s, %u process%s%s\n", d->o->snapshot,
                        text_size(d->snapshot.bytes, 0, size), d->snapshot.processes,
                        d->snapshot.processes == 1 ? "" : "es",
                        d->snapshot.left_out ? ", not everything of its state (left-out.json)" : "");
        return interrupt_seen() ? give_up(d, p) : 0;
}
