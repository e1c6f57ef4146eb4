/* SPDX-License-Identifier: Apache-2.0 */
/* PolicyReloaded: what became of each agent and section, or what is wrong with which file. */
#include "agent.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "reload_internal.h"

const char *const reload_section_names[RELOAD_N] = {
        [RELOAD_NETWORK] = "network",   [RELOAD_TOOLS] = "tools",       [RELOAD_IPC] = "ipc",
        [RELOAD_LIMITS] = "limits",     [RELOAD_AUDIT] = "audit",       [RELOAD_FILESYSTEM] = "filesystem",
        [RELOAD_SYSCALLS] = "syscalls", [RELOAD_DEGRADED] = "degraded",
};

/* One agent's part of it, with room for what it points to. */
struct answer_agent {
        Crew__AgentReload pb;
        Crew__SectionReload sections[RELOAD_N], *pointers[RELOAD_N];
};

static Crew__SectionState state_of(const struct reload_agent *ra, const struct reload_change *s) {
        if (s->restart)
                return ra->restarting ? CREW__SECTION_STATE__SECTION_RESTARTED : CREW__SECTION_STATE__SECTION_NEEDS_RESTART;
        return s->applied ? CREW__SECTION_STATE__SECTION_APPLIED : CREW__SECTION_STATE__SECTION_UNCHANGED;
}

static void fill_agent(const struct reload_agent *ra, struct answer_agent *out) {
        Crew__AgentReload *pb = &out->pb;

        crew__agent_reload__init(pb);
        pb->agent = (char *)agent_name(ra->agent);
        pb->file = (char *)ra->agent->decl->policy_file;
        pb->old_sha256 = (char *)ra->old_hex;
        pb->new_sha256 = (char *)ra->new_hex;
        pb->generation = ra->generation;
        pb->closed = ra->closed;
        pb->restarting = ra->restarting;
        pb->error = (char *)ra->error;
        pb->running = agent_state_live(ra->agent->state);
        pb->sections = out->pointers;
        for (uint32_t i = 0; i < RELOAD_N; i++) {
                const struct reload_change *s = &ra->sections[i];
                Crew__SectionReload *line = &out->sections[i];
                if (i == RELOAD_DEGRADED && !s->restart)
                        continue;
                crew__section_reload__init(line);
                line->section = (char *)reload_section_names[i];
                line->state = state_of(ra, s);
                line->detail = (char *)s->detail;
                out->pointers[pb->n_sections++] = line;
        }
}

static size_t fill_problems(const struct policy_report *from, Crew__PolicyProblem *items, Crew__PolicyProblem **pointers) {
        for (size_t i = 0; i < from->n; i++) {
                const struct policy_problem *p = &from->items[i];
                crew__policy_problem__init(&items[i]);
                items[i].file = (char *)p->file;
                items[i].line = (uint32_t)MAX_OF(p->line, 0);
                items[i].column = (uint32_t)MAX_OF(p->column, 0);
                items[i].text = (char *)p->text;
                items[i].hint = (char *)p->hint;
                items[i].warning = p->warning;
                pointers[i] = &items[i];
        }
        return from->n;
}

void reload_answer(struct reload *r, bool ok) {
        _cleanup_free_ struct answer_agent *agents = calloc(MAX_OF(r->n, 1u), sizeof(*agents));
        _cleanup_free_ Crew__AgentReload **pointers = calloc(MAX_OF(r->n, 1u), sizeof(*pointers));
        Crew__PolicyProblem problems[64], *problem_pointers[64];
        Crew__PolicyReloaded body = CREW__POLICY_RELOADED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (!agents || !pointers)
                return control_refuse(r->crewd->control, r->client, r->corr, "failed", "", "out of memory");
        for (uint32_t i = 0; ok && i < r->n; i++) {
                fill_agent(&r->agents[i], &agents[i]);
                pointers[i] = &agents[i].pb;
        }
        body.ok = ok;
        body.agents = pointers;
        body.n_agents = ok ? r->n : 0;
        r->report.n = MIN_OF(r->report.n, ELEMENTSOF(problems));
        body.problems = problem_pointers;
        body.n_problems = fill_problems(&r->report, problems, problem_pointers);
        body.duration_us = (crew_now_ns() - r->began_ns) / 1000u;
        e.corr = r->corr;
        e.body_case = CREW__ENVELOPE__BODY_POLICY_RELOADED;
        e.policy_reloaded = &body;
        control_send(r->crewd->control, r->client, &e);
}
