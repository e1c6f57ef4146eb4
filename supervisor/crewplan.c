/* SPDX-License-Identifier: Apache-2.0 */
#include "crewplan.h"

#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "reload_internal.h"
#include "supervisor/policy/crew_changes.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define CHANGES_MAX 256u /* of one agent, in the answer */
#define CREW_CHANGES_MAX 4096u

static const Crew__PlanEffect effects[] = {
        [CREW_UNCHANGED] = CREW__PLAN_EFFECT__PLAN_UNCHANGED, [CREW_RELOAD] = CREW__PLAN_EFFECT__PLAN_RELOAD,
        [CREW_RESTART] = CREW__PLAN_EFFECT__PLAN_RESTART,     [CREW_START] = CREW__PLAN_EFFECT__PLAN_START,
        [CREW_STOP] = CREW__PLAN_EFFECT__PLAN_STOP,           [CREW_WHOLE] = CREW__PLAN_EFFECT__PLAN_CREW,
};
static_assert(ELEMENTSOF(effects) == CREW_EFFECT_N, "a name on the wire for each effect");

/* One change in the answer; the texts are its own, for they may hold what a frame must not. */
struct line {
        Crew__PlanChange pb;
        char key[320], detail[512];
};

struct planning {
        struct crewd *c;
        struct crew_file *to;
        struct crew_changes changes;
        struct policy_report report;
        struct crew_err err;
        struct line *lines; /* owned, as all below */
        Crew__PlanChange **line_pointers;
        Crew__AgentPlan *agents, **agent_pointers;
        size_t n_lines, room, n_agents;
        enum crew_effect effect;
};

static void planning_fini(struct planning *p) {
        crew_changes_fini(&p->changes);
        crew_file_free(p->to);
        policy_report_fini(&p->report);
        free(p->lines);
        free(p->line_pointers);
        free(p->agents);
        free(p->agent_pointers);
}

static int allocate(struct planning *p) {
        size_t agents = p->c->n_agents + p->to->n_agents;

        p->room = p->changes.n + p->c->n_agents * RELOAD_N;
        p->lines = calloc(MAX_OF(p->room, (size_t)1), sizeof(*p->lines));
        p->line_pointers = calloc(MAX_OF(p->room, (size_t)1), sizeof(*p->line_pointers));
        p->agents = calloc(MAX_OF(agents, (size_t)1), sizeof(*p->agents));
        p->agent_pointers = calloc(MAX_OF(agents, (size_t)1), sizeof(*p->agent_pointers));
        return p->lines && p->line_pointers && p->agents && p->agent_pointers ? 0
                                                                              : crew_fail(&p->err, ENOMEM, "out of memory");
}

static void add_line(struct planning *p, const char *key, const char *detail, enum crew_effect effect) {
        struct line *l = &p->lines[p->n_lines];

        crew_assert(p->n_lines < p->room);
        crew__plan_change__init(&l->pb);
        text_copy(l->key, sizeof(l->key), key, SIZE_MAX);
        text_copy(l->detail, sizeof(l->detail), detail, SIZE_MAX);
        l->pb.key = l->key;
        l->pb.detail = l->detail;
        l->pb.effect = effects[effect];
        p->line_pointers[p->n_lines++] = &l->pb;
        p->effect = MAX_OF(p->effect, effect);
}

/* --- one agent --- */

static enum crew_effect add_file_changes(struct planning *p, const char *agent) {
        enum crew_effect most = CREW_UNCHANGED;

        for (size_t i = 0; i < p->changes.n; i++) {
                const struct crew_change *x = &p->changes.items[i];
                if (!x->agent || strcmp(x->agent, agent) != 0)
                        continue;
                add_line(p, x->key, x->detail, x->effect);
                most = MAX_OF(most, x->effect);
        }
        return most;
}

static int add_policy_changes(struct planning *p, struct agent *a, const struct policy_image *fresh,
                              enum crew_effect *most) {
        struct reload_agent *ra = calloc(1, sizeof(*ra));
        char key[48];

        if (!ra)
                return -ENOMEM;
        *ra = (struct reload_agent){.agent = a, .memfd = -1};
        int r = reload_compare(p->c, ra, fresh);
        for (uint32_t i = 0; r == 0 && i < RELOAD_N; i++) {
                const struct reload_change *s = &ra->sections[i];
                enum crew_effect e = s->restart ? CREW_RESTART : CREW_RELOAD;
                if (!s->restart && !s->applied)
                        continue;
                snprintf(key, sizeof(key), "policy: %s", reload_section_names[i]);
                add_line(p, key, s->detail, e);
                *most = MAX_OF(*most, e);
        }
        free(ra);
        return r;
}

static void end_agent(struct planning *p, const char *name, enum crew_effect effect, size_t from) {
        Crew__AgentPlan *pb = &p->agents[p->n_agents];

        crew__agent_plan__init(pb);
        pb->agent = (char *)name;
        pb->effect = effects[effect];
        pb->changes = p->line_pointers + from;
        pb->n_changes = MIN_OF(p->n_lines - from, (size_t)CHANGES_MAX);
        p->agent_pointers[p->n_agents++] = pb;
}

static int plan_agent(struct planning *p, struct agent *a) {
        const struct crew_agent *to = crew_find_agent(p->to, agent_name(a));
        size_t from = p->n_lines;
        enum crew_effect most = add_file_changes(p, agent_name(a));

        if (to && add_policy_changes(p, a, to->policy, &most) < 0)
                return crew_fail(&p->err, ENOMEM, "out of memory");
        end_agent(p, agent_name(a), most, from);
        return 0;
}

static int plan_agents(struct planning *p) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < p->c->n_agents; i++) {
                if (!p->c->agents[i].decl->instance)
                        r = plan_agent(p, &p->c->agents[i]);
        }
        for (size_t i = 0; r == 0 && i < p->to->n_agents; i++) {
                const char *name = p->to->agents[i].name;
                size_t from = p->n_lines;
                if (!p->to->agents[i].instance && !crew_find_agent(p->c->file, name))
                        end_agent(p, name, add_file_changes(p, name), from);
        }
        return r;
}

/* --- all of it --- */

static int load(struct planning *p, const char *file) {
        int r = crew_load(file, &p->to, &p->report, &p->err);

        if (r < 0 && p->report.errors == 0)
                policy_report_add(&p->report, false, file, 0, 0, "", "%s", p->err.msg);
        if (r == 0 && strcmp(p->to->name, p->c->file->name) != 0) {
                policy_report_add(&p->report, false, file, 0, 0, "crewctl up starts it beside this one",
                                  "this is crew '%s', another one than '%s', which runs", p->to->name, p->c->file->name);
                r = -EINVAL;
        }
        return r;
}

static size_t fill_problems(struct planning *p, Crew__PolicyProblem *items, Crew__PolicyProblem **pointers, size_t room) {
        size_t n = MIN_OF(p->report.n, room);

        for (size_t i = 0; i < n; i++) {
                const struct policy_problem *x = &p->report.items[i];
                crew__policy_problem__init(&items[i]);
                items[i].file = (char *)x->file;
                items[i].line = (uint32_t)MAX_OF(x->line, 0);
                items[i].column = (uint32_t)MAX_OF(x->column, 0);
                items[i].text = (char *)x->text;
                items[i].hint = (char *)x->hint;
                items[i].warning = x->warning;
                pointers[i] = &items[i];
        }
        return n;
}

static void send_plan(struct planning *p, uint64_t client, uint64_t corr, const char *file, bool ok) {
        Crew__PolicyProblem problems[64], *problem_pointers[64];
        Crew__CrewPlan body = CREW__CREW_PLAN__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        size_t from = p->n_lines;

        for (size_t i = 0; ok && i < p->changes.n; i++) {
                const struct crew_change *x = &p->changes.items[i];
                if (!x->agent)
                        add_line(p, x->key, x->detail, x->effect);
        }
        body.ok = ok;
        body.effect = effects[p->effect];
        body.agents = p->agent_pointers;
        body.n_agents = ok ? p->n_agents : 0;
        body.crew = ok ? p->line_pointers + from : NULL;
        body.n_crew = MIN_OF(p->n_lines - from, (size_t)CREW_CHANGES_MAX);
        body.problems = problem_pointers;
        body.n_problems = fill_problems(p, problems, problem_pointers, ELEMENTSOF(problems));
        body.file = (char *)file;
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_CREW_PLAN;
        e.crew_plan = &body;
        control_send(p->c->control, client, &e);
}

void crewplan_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const char *file = *e->plan_crew->file ? e->plan_crew->file : c->crew_path;
        struct planning p = {.c = c, .err = CREW_ERR_NULL};

        if (c->phase != CREWD_RUNNING)
                return control_refuse(c->control, client, e->seq, c->phase == CREWD_STARTING ? "busy" : "stopping", "",
                                      "the crew is %s", c->phase == CREWD_STARTING ? "still starting" : "stopping");
        if (file[0] != '/')
                return control_refuse(c->control, client, e->seq, "bad-frame", "", "the file's path must be absolute");
        if (load(&p, file) < 0) {
                send_plan(&p, client, e->seq, file, false);
        } else if (crew_changes_make(c->file, p.to, &p.changes, &p.err) < 0 || allocate(&p) < 0 || plan_agents(&p) < 0) {
                control_refuse(c->control, client, e->seq, "failed", "", "%s", p.err.msg);
        } else {
                send_plan(&p, client, e->seq, file, true);
        }
        planning_fini(&p);
}
