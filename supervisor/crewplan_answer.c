/* SPDX-License-Identifier: Apache-2.0 */
/* CrewPlan: the plan as a frame. */
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "crewplan_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define CHANGES_MAX 256u /* of one agent, in the answer */
#define CREW_CHANGES_MAX 4096u
#define AGENTS_MAX 4096u

const Crew__PlanEffect crewplan_effects[] = {
        [CREW_UNCHANGED] = CREW__PLAN_EFFECT__PLAN_UNCHANGED, [CREW_RELOAD] = CREW__PLAN_EFFECT__PLAN_RELOAD,
        [CREW_RESTART] = CREW__PLAN_EFFECT__PLAN_RESTART,     [CREW_START] = CREW__PLAN_EFFECT__PLAN_START,
        [CREW_STOP] = CREW__PLAN_EFFECT__PLAN_STOP,           [CREW_WHOLE] = CREW__PLAN_EFFECT__PLAN_CREW,
};
static_assert(ELEMENTSOF(crewplan_effects) == CREW_EFFECT_N, "a name on the wire for each effect");

size_t crewplan_problems(const struct crewplan *p, struct crewplan_problems *out) {
        size_t n = MIN_OF(p->report.n, (size_t)CREWPLAN_PROBLEMS_MAX);

        for (size_t i = 0; i < n; i++) {
                const struct policy_problem *x = &p->report.items[i];
                Crew__PolicyProblem *pb = &out->items[i];
                crew__policy_problem__init(pb);
                pb->file = (char *)x->file;
                pb->line = (uint32_t)MAX_OF(x->line, 0);
                pb->column = (uint32_t)MAX_OF(x->column, 0);
                pb->text = (char *)x->text;
                pb->hint = (char *)x->hint;
                pb->warning = x->warning;
                out->pointers[i] = pb;
        }
        return n;
}

/* The frame's messages, and where they lie. */
struct frame {
        Crew__PlanChange *lines, **line_pointers;
        Crew__AgentPlan *agents, **agent_pointers;
        size_t n_agents;
};

static void frame_fini(struct frame *f) {
        free(f->lines);
        free(f->line_pointers);
        free(f->agents);
        free(f->agent_pointers);
}

static int frame_alloc(struct frame *f, const struct crewplan *p) {
        size_t lines = MAX_OF(p->n_lines, (size_t)1), agents = MAX_OF(p->to->n_agents, (size_t)1);

        f->lines = calloc(lines, sizeof(*f->lines));
        f->line_pointers = calloc(lines, sizeof(*f->line_pointers));
        f->agents = calloc(agents, sizeof(*f->agents));
        f->agent_pointers = calloc(agents, sizeof(*f->agent_pointers));
        return f->lines && f->line_pointers && f->agents && f->agent_pointers ? 0 : -ENOMEM;
}

static void fill_lines(struct frame *f, const struct crewplan *p) {
        for (size_t i = 0; i < p->n_lines; i++) {
                crew__plan_change__init(&f->lines[i]);
                f->lines[i].key = p->lines[i].key;
                f->lines[i].detail = p->lines[i].detail;
                f->lines[i].effect = crewplan_effects[p->lines[i].effect];
                f->line_pointers[i] = &f->lines[i];
        }
}

static void fill_agents(struct frame *f, const struct crewplan *p) {
        for (size_t i = 0; i < p->to->n_agents && f->n_agents < AGENTS_MAX; i++) {
                const struct crewplan_agent *pa = &p->agents[i];
                Crew__AgentPlan *pb = &f->agents[f->n_agents];
                if (!pa->listed)
                        continue;
                crew__agent_plan__init(pb);
                pb->agent = (char *)p->to->agents[i].name;
                pb->effect = crewplan_effects[pa->effect];
                pb->changes = f->line_pointers + pa->line;
                pb->n_changes = MIN_OF(pa->n_lines, (size_t)CHANGES_MAX);
                f->agent_pointers[f->n_agents++] = pb;
        }
}

static void send_plan(const struct crewplan *p, uint64_t client, uint64_t corr, const struct frame *f) {
        Crew__CrewPlan body = CREW__CREW_PLAN__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct crewplan_problems problems;

        body.ok = p->digest[0] != '\0';
        body.effect = crewplan_effects[p->effect];
        body.agents = f->agent_pointers;
        body.n_agents = f->n_agents;
        body.crew = f->line_pointers ? f->line_pointers + p->crew_line : NULL;
        body.n_crew = MIN_OF(p->n_lines - p->crew_line, (size_t)CREW_CHANGES_MAX);
        body.problems = problems.pointers;
        body.n_problems = crewplan_problems(p, &problems);
        body.file = (char *)p->file;
        body.digest = (char *)p->digest;
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_CREW_PLAN;
        e.crew_plan = &body;
        control_send(p->crewd->control, client, &e);
}

void crewplan_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__PlanCrew *b = e->plan_crew;
        struct crew_err err = CREW_ERR_NULL;
        struct crewplan p = {0};
        struct frame f = {0};

        if (c->phase != CREWD_RUNNING)
                return control_refuse(c->control, client, e->seq, c->phase == CREWD_STARTING ? "busy" : "stopping", "",
                                      "the crew is %s", c->phase == CREWD_STARTING ? "still starting" : "stopping");
        if (*b->file && b->file[0] != '/')
                return control_refuse(c->control, client, e->seq, "bad-frame", "", "the file's path must be absolute");
        int r = crewplan_make(c, b->file, b->locked, &p, &err);
        if (r == 0 && frame_alloc(&f, &p) < 0)
                r = crew_fail(&err, ENOMEM, "out of memory");
        if (r == 0) {
                fill_lines(&f, &p);
                fill_agents(&f, &p);
        }
        if (r == 0 || r == -EINVAL)
                send_plan(&p, client, e->seq, &f);
        else
                control_refuse(c->control, client, e->seq, "failed", "", "%s", err.msg);
        frame_fini(&f);
        crewplan_fini(&p);
}
