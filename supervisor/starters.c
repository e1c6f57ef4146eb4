/* SPDX-License-Identifier: Apache-2.0 */
#include "starters.h"

#include "apply.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "health.h"
#include "hold.h"
#include "journal.h"
#include "requests.h"
#include "restart.h"
#include "status.h"

/* --- what becomes of it --- */

static void tell_up(struct agent *a, const struct agent_waiter *to) {
        Crew__AgentStarted body = CREW__AGENT_STARTED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct status_agent s;

        status_agent(a, &s);
        body.agent = &s.pb;
        e.corr = to->corr;
        e.body_case = CREW__ENVELOPE__BODY_AGENT_STARTED;
        e.agent_started = &body;
        control_send(a->crewd->control, to->client, &e);
}

static void tell_failed(struct agent *a, const struct agent_waiter *to) {
        struct control *k = a->crewd->control;
        char hint[128];

        if (a->crewd->phase > CREWD_RUNNING)
                return control_refuse(k, to->client, to->corr, "stopping", "",
                                      "the crew was stopped before agent %s was up", agent_name(a));
        snprintf(hint, sizeof(hint), "%screwctl logs --agent %s",
                 a->state == AGENT_RESTARTING ? "it is tried again by itself; " : "", agent_name(a));
        control_refuse(k, to->client, to->corr, "failed", hint, "agent %s did not start: %s", agent_name(a),
                       a->start_error[0] ? a->start_error
                       : a->last         ? a->last->death.reason
                                         : "unknown");
}

static void tell_all(struct agent *a, void (*tell)(struct agent *a, const struct agent_waiter *to)) {
        uint32_t n = a->n_starters;

        a->n_starters = 0;
        for (uint32_t i = 0; i < n; i++)
                tell(a, &a->starters[i]);
}

void starters_failed(struct agent *a) {
        tell_all(a, tell_failed);
}

void starters_look(struct agent *a) {
        if (a->n_starters == 0)
                return;
        if ((a->state == AGENT_READY || a->state == AGENT_WORKING) && !health_starting(a))
                tell_all(a, tell_up);
        else if (a->state == AGENT_TERMINATED || a->state == AGENT_FAILED)
                starters_failed(a); /* it was to come, and will not */
}

/* --- asking --- */

/* NULL: it can be started. */
static const char *why_not_agent(const struct agent *a, const char **code) {
        static const struct {
                const char *code, *text;
        } rows[AGENT_STATE_N] = {
                [AGENT_SPAWNING] = {"busy", "is being started already"},
                [AGENT_READY] = {"running", "is running already"},
                [AGENT_WORKING] = {"running", "is running already"},
                [AGENT_STOPPING] = {"busy", "is ending; start it when it has ended"},
                [AGENT_POLICY_ONLY] = {"bad-request", "is an orchestrator: it has a policy, and never a process"},
        };

        *code = rows[a->state].code;
        if (agent_state_live(a->state) && hold_is_on(a))
                return "is frozen; crewctl thaw lets it go on";
        return rows[a->state].text;
}

static const char *why_not_crew(const struct crewd *c, const char **code) {
        *code = c->phase > CREWD_RUNNING ? "stopping" : "busy";
        if (c->phase > CREWD_RUNNING)
                return "the crew is stopping";
        if (c->phase < CREWD_RUNNING)
                return "the crew is still starting, and all its agents with it";
        return apply_is_active(c->apply) ? "the crew file is being changed: try again in a moment" : NULL;
}

static void begin(struct agent *a) {
        a->start_error[0] = '\0';
        a->called_off = CREW__CAUSE__CAUSE_UNSET;
        agent_renew_restarts(a);
        restart_free_of_charge(&a->restart);
        agent_start(a, crew_now_ns());
        crewd_progress(a->crewd);
}

void starters_ask(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__StartAgent *b = e->start_agent;
        const char *code, *why;
        struct agent *a = requests_agent(c, client, e->seq, b->agent);

        if (!a)
                return;
        if ((why = why_not_crew(c, &code)))
                return control_refuse(c->control, client, e->seq, code, "", "%s", why);
        if ((why = why_not_agent(a, &code)))
                return control_refuse(c->control, client, e->seq, code, "", "agent %s %s", agent_name(a), why);
        if (a->n_starters == AGENT_STARTERS_MAX)
                return control_refuse(c->control, client, e->seq, "too-many", "", "agent %s is being started already",
                                      agent_name(a));
        if (journal_start(a, control_client_name(c->control, client), requests_reason(b->reason)) < 0)
                return control_refuse(c->control, client, e->seq, "failed", "",
                                      "agent %s is not started: its audit cannot be written", agent_name(a));
        a->starters[a->n_starters++] = (struct agent_waiter){.client = client, .corr = e->seq};
        begin(a);
}
