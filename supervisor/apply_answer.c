/* SPDX-License-Identifier: Apache-2.0 */
/* What became of an application: in every agent's stream, and to whoever asked for it. */
#include "apply_internal.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "journal.h"
#include "text.h"

#include <assert.h>
#include <string.h>

#define AGENTS_MAX 4096u

static const char *const effect_names[] = {
        [CREW_UNCHANGED] = "unchanged", [CREW_RELOAD] = "reload", [CREW_RESTART] = "restart",
        [CREW_START] = "start",         [CREW_STOP] = "stop",     [CREW_WHOLE] = "whole-crew",
};
static_assert(ELEMENTSOF(effect_names) == CREW_EFFECT_N, "a name for each effect");

void apply_record(struct apply *x, const char *why) {
        struct crewd *c = x->crewd;
        const struct crew_file *from = why ? c->file : x->former->file;

        for (size_t i = 0; i < x->n && i < c->n_agents; i++) {
                const struct apply_agent *t = &x->agents[i];
                const struct journal_applied record = {.effect = effect_names[t->effect],
                                                       .file = x->plan.file,
                                                       .plan = x->plan.digest,
                                                       .initiator = x->by,
                                                       .why = why,
                                                       .from = from,
                                                       .to = x->to,
                                                       .old_sha256 = t->old_hex,
                                                       .sha256 = t->new_hex};
                if (x->plan.agents[i].listed && (!why || t->touched))
                        journal_applied(&c->agents[i], &record);
        }
}

static size_t fill_agents(const struct apply *x, bool applied, Crew__AgentApplied *items, Crew__AgentApplied **pointers) {
        size_t n = 0;

        for (size_t i = 0; i < x->n && n < AGENTS_MAX; i++) {
                const struct apply_agent *t = &x->agents[i];
                Crew__AgentApplied *pb = &items[n];
                if (!x->plan.agents[i].listed)
                        continue;
                crew__agent_applied__init(pb);
                pb->agent = (char *)x->to->agents[i].name;
                pb->effect = crewplan_effects[t->effect];
                pb->applied = applied && t->effect != CREW_UNCHANGED;
                pb->old_sha256 = (char *)t->old_hex;
                pb->new_sha256 = (char *)t->new_hex;
                pb->error = (char *)t->error;
                pointers[n++] = pb;
        }
        return n;
}

void apply_answer(const struct apply *x, Crew__ApplyOutcome outcome) {
        _cleanup_free_ Crew__AgentApplied *items = calloc(MAX_OF(x->n, (size_t)1), sizeof(*items));
        _cleanup_free_ Crew__AgentApplied **pointers = calloc(MAX_OF(x->n, (size_t)1), sizeof(*pointers));
        Crew__CrewApplied body = CREW__CREW_APPLIED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct crewplan_problems problems;
        char error[512];

        text_copy(error, sizeof(error), x->error, SIZE_MAX);
        body.outcome = outcome;
        body.error = error;
        if (items && pointers && x->agents)
                body.n_agents = fill_agents(x, outcome == CREW__APPLY_OUTCOME__APPLY_DONE, items, pointers);
        body.agents = pointers;
        body.problems = problems.pointers;
        body.n_problems = crewplan_problems(&x->plan, &problems);
        body.file = (char *)x->plan.file;
        body.digest = (char *)x->plan.digest;
        body.duration_us = (crew_now_ns() - x->began_ns) / 1000u;
        e.corr = x->corr;
        e.body_case = CREW__ENVELOPE__BODY_CREW_APPLIED;
        e.crew_applied = &body;
        control_send(x->crewd->control, x->client, &e);
}
