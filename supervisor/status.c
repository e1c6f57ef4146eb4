/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include "attest.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "events.h"
#include "gateway_client.h"
#include "health.h"
#include "hold.h"
#include "scheduler.h"
#include "text.h"

#include <errno.h>
#include <string.h>

static const Crew__AgentState states[AGENT_STATE_N] = {
        [AGENT_DECLARED] = CREW__AGENT_STATE__AGENT_DECLARED,
        [AGENT_SPAWNING] = CREW__AGENT_STATE__AGENT_SPAWNING,
        [AGENT_READY] = CREW__AGENT_STATE__AGENT_READY,
        [AGENT_WORKING] = CREW__AGENT_STATE__AGENT_WORKING,
        [AGENT_STOPPING] = CREW__AGENT_STATE__AGENT_STOPPING,
        [AGENT_TERMINATED] = CREW__AGENT_STATE__AGENT_TERMINATED,
        [AGENT_FAILED] = CREW__AGENT_STATE__AGENT_FAILED,
        [AGENT_RESTARTING] = CREW__AGENT_STATE__AGENT_RESTARTING,
        [AGENT_POLICY_ONLY] = CREW__AGENT_STATE__AGENT_POLICY_ONLY,
};

/* "full", or what is missing, beginning with what matters most right now. */
static void walls(const struct agent *a, char *out, size_t out_size) {
        out[0] = '\0';
        if (a->state == AGENT_POLICY_ONLY)
                return;
        size_t n = a->frozen ? (size_t)snprintf(out, out_size, "frozen: audit cannot be written; ") : 0;
        if (!a->in.attested)
                return;
        attest_walls(&a->in.att, out + n, out_size - n);
        n = strlen(out);
        char gateway[96];
        gateway_state(a->crewd->gateway, gateway, sizeof(gateway));
        if (*gateway)
                snprintf(out + n, out_size - n, " (%s)", gateway);
}

static void put_process(const struct agent *a, Crew__AgentStatus *pb) {
        const struct instance *in = &a->in;
        struct policy_limits limits = in->id ? in->limits : policy_limits_of(a->decl->policy);
        uint64_t now = crew_now_ns();

        pb->processes_max = limits.processes;
        pb->memory_max = limits.memory_bytes;
        pb->open_files_max = limits.open_files;
        if (!agent_state_live(a->state) || !in->attested)
                return;
        pb->up_ms = in->ready_ns ? (now - in->ready_ns) / 1000000u : 0;
        pb->spawn_us = in->ready_ns ? (in->ready_ns - in->spawn_ns) / 1000u : 0;
        pb->pid = (uint32_t)in->att.pid;
        pb->uid = in->att.host_uid;
        pb->landlock_abi = in->att.landlock_abi;
        pb->processes = in->stats.processes;
        pb->memory_bytes = in->stats.memory_bytes;
        pb->cpu_ns = in->stats.cpu_ns;
        pb->cpu_percent = in->cpu_percent;
        pb->open_files = in->stats.open_files;
}

void status_agent(const struct agent *a, struct status_agent *out) {
        const struct crewd *c = a->crewd;
        const struct job *j = c->scheduler ? scheduler_job_of(c->scheduler, a->index) : NULL;
        const char *next = c->scheduler ? scheduler_waiting_for(c->scheduler, a->index) : NULL;
        Crew__AgentStatus *pb = &out->pb;

        crew__agent_status__init(pb);
        pb->name = (char *)agent_name(a);
        pb->state = states[a->state];
        pb->incarnation = a->incarnation;
        pb->task = (char *)(j ? j->name : next ? next : "");
        put_process(a, pb);
        pb->denied = a->denied;
        walls(a, out->walls, sizeof(out->walls));
        pb->walls = out->walls;
        pb->restarts = a->restart.total;
        pb->audit_seq = audit_seq(a->audit);
        out->cause[0] = '\0';
        if (a->called_off || a->last)
                snprintf(out->cause, sizeof(out->cause), "%s",
                         cause_name(a->called_off ? a->called_off : a->last->death.cause));
        pb->last_cause = out->cause;
        pb->audit_path = (char *)audit_path(a->audit);
        health_text(a, out->health);
        pb->health = out->health;
        pb->frozen = hold_is_on(a);
        text_copy(out->role, sizeof(out->role), a->decl->role ? a->decl->role : "", SIZE_MAX);
        pb->role = out->role;
        const char *slash = strrchr(a->decl->policy_file, '/');
        text_copy(out->policy, sizeof(out->policy), slash ? slash + 1 : a->decl->policy_file, SIZE_MAX);
        pb->policy = out->policy;
}

void status_task(const struct crewd *c, const struct job *j, struct status_task *out) {
        Crew__TaskStatus *pb = &out->pb;

        crew__task_status__init(pb);
        pb->name = (char *)j->name;
        pb->agent = (char *)agent_name(&c->agents[j->agent]);
        pb->state = (char *)job_state_names[j->state];
        if (j->started_ns)
                pb->duration_us = ((j->ended_ns ? j->ended_ns : crew_now_ns()) - j->started_ns) / 1000u;
        pb->error = (char *)j->error;
        pb->summary = (char *)j->summary;
        pb->id = (char *)j->id;
        pb->submitted = !j->in_run;
}

static void declared_task(const struct crewd *c, uint32_t task, struct status_task *out) {
        const struct crew_task *t = &c->file->tasks[task];
        Crew__TaskStatus *pb = &out->pb;

        crew__task_status__init(pb);
        pb->name = (char *)t->name;
        pb->agent = (char *)agent_name(&c->agents[t->agent_index]);
        pb->state = (char *)job_state_names[JOB_WAITING];
}

void status_announce_agent(struct agent *a) {
        struct status_agent s;
        Crew__Event e = CREW__EVENT__INIT;

        status_agent(a, &s);
        e.kind = (char *)"agent-state";
        e.agent = &s.pb;
        events_add(a->crewd->events, &e);
}

void status_announce_task(struct crewd *c, const struct job *j) {
        struct status_task s;
        Crew__Event e = CREW__EVENT__INIT;

        status_task(c, j, &s);
        e.kind = (char *)"task-state";
        e.task = &s.pb;
        events_add(c->events, &e);
}

static bool is_shown(const struct job *j) {
        return !j->in_run && !j->ballot;
}

static void count_submitted(struct job *j, void *n) {
        *(size_t *)n += is_shown(j);
}

static void add_task(struct status_lists *l, const struct crewd *c, const struct job *j) {
        status_task(c, j, &l->tasks[l->n_tasks]);
        l->task_pointers[l->n_tasks] = &l->tasks[l->n_tasks].pb;
        l->n_tasks++;
}

struct to_lists {
        struct status_lists *lists;
        const struct crewd *crewd;
};

static void add_submitted(struct job *j, void *user) {
        const struct to_lists *to = user;

        if (is_shown(j))
                add_task(to->lists, to->crewd, j);
}

static int lists_alloc(struct crewd *c, struct status_lists *l) {
        size_t n_agents = MAX_OF(c->n_agents, 1u), n_tasks = MAX_OF(c->file->n_tasks, (size_t)1);

        scheduler_each_open(c->scheduler, count_submitted, &n_tasks);

        *l = (struct status_lists){0};
        l->agents = calloc(n_agents, sizeof(*l->agents));
        l->agent_pointers = calloc(n_agents, sizeof(*l->agent_pointers));
        l->tasks = calloc(n_tasks, sizeof(*l->tasks));
        l->task_pointers = calloc(n_tasks, sizeof(*l->task_pointers));
        if (l->agents && l->agent_pointers && l->tasks && l->task_pointers)
                return 0;
        status_lists_fini(l);
        return -ENOMEM;
}

static void put_limits(const struct agent *a, struct status_agent *out) {
        for (unsigned i = 0; i < USAGE_LIMIT_N; i++) {
                struct usage_row row = usage_row(a, (enum usage_limit)i);
                Crew__LimitUse *pb = out->limit_pointers[i] = &out->limits[i];
                crew__limit_use__init(pb);
                pb->limit = (char *)row.limit;
                pb->by = (char *)row.by;
                pb->use = row.use;
                pb->known = row.known;
                pb->max = row.max;
                pb->hits = row.hits;
        }
        out->pb.limits = out->limit_pointers;
        out->pb.n_limits = USAGE_LIMIT_N;
}

/* Why it has no process, whatever it died of before: what kept its start from being, or its last death. */
static void put_reason(const struct agent *a, struct status_agent *out) {
        const char *why = a->start_error[0] ? a->start_error : a->last ? a->last->death.reason : "";

        text_copy(out->reason, sizeof(out->reason), agent_state_live(a->state) ? "" : why, SIZE_MAX);
        out->pb.last_reason = out->reason;
}

int status_lists_make(struct crewd *c, const struct agent *except, bool whole, struct status_lists *l) {
        int r = lists_alloc(c, l);

        if (r < 0)
                return r;
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (&c->agents[i] == except || !agent_present(&c->agents[i]))
                        continue;
                status_agent(&c->agents[i], &l->agents[l->n_agents]);
                if (whole && c->agents[i].state != AGENT_POLICY_ONLY)
                        put_limits(&c->agents[i], &l->agents[l->n_agents]);
                if (whole)
                        put_reason(&c->agents[i], &l->agents[l->n_agents]);
                l->agent_pointers[l->n_agents] = &l->agents[l->n_agents].pb;
                l->n_agents++;
        }
        for (; l->n_tasks < c->file->n_tasks; l->n_tasks++) {
                const struct job *j = scheduler_run_job(c->scheduler, l->n_tasks);
                if (j)
                        status_task(c, j, &l->tasks[l->n_tasks]);
                else
                        declared_task(c, (uint32_t)l->n_tasks, &l->tasks[l->n_tasks]);
                l->task_pointers[l->n_tasks] = &l->tasks[l->n_tasks].pb;
        }
        struct to_lists to = {.lists = l, .crewd = c};
        if (whole)
                scheduler_each_open(c->scheduler, add_submitted, &to);
        return 0;
}

void status_lists_fini(struct status_lists *l) {
        free(l->agents);
        free(l->agent_pointers);
        free(l->tasks);
        free(l->task_pointers);
        *l = (struct status_lists){0};
}
