/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl start: agents that have ended, or wait for their restart, get their next instance. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"

struct options {
        const char *crew, *agent, *reason;
        bool all, json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "the agent to start", CLI_COMPLETE_AGENT},
        {"all", 0, CLI_FLAG, offsetof(struct options, all), NULL, "every agent that has ended", CLI_COMPLETE_NONE},
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; goes into the audit",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

struct starting {
        const struct options *o;
        struct client *c;
        uint64_t first, last; /* of the requests */
        size_t waiting;
        json_t *started; /* with --json */
};

static int ask(struct starting *s, const char *agent, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__StartAgent request = CREW__START_AGENT__INIT;

        request.agent = (char *)agent;
        request.reason = (char *)(s->o->reason ? s->o->reason : "");
        e.body_case = CREW__ENVELOPE__BODY_START_AGENT;
        e.start_agent = &request;
        if (client_send(s->c, &e, &s->last, p) < 0)
                return -1;
        s->first = s->first ? s->first : s->last;
        s->waiting++;
        return 0;
}

static bool has_ended(const Crew__AgentStatus *a) {
        return a->state == CREW__AGENT_STATE__AGENT_TERMINATED || a->state == CREW__AGENT_STATE__AGENT_FAILED ||
               a->state == CREW__AGENT_STATE__AGENT_RESTARTING;
}

static int ask_all(struct starting *s, struct cli_problem *p) {
        const Crew__Status *status = NULL;

        if (client_status(s->c, &status, p) < 0)
                return -1;
        for (size_t i = 0; i < status->n_agents; i++) {
                if (has_ended(status->agents[i]) && ask(s, status->agents[i]->name, p) < 0)
                        return -1;
        }
        return 0;
}

static int take_answer(struct starting *s, const Crew__Envelope *answer, struct cli_problem *p) {
        if (answer->body_case == CREW__ENVELOPE__BODY_REFUSED)
                return client_refused(answer->refused, p);
        if (answer->body_case != CREW__ENVELOPE__BODY_AGENT_STARTED || !answer->agent_started->agent)
                return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd did not say what became of the agent");
        const Crew__AgentStatus *a = answer->agent_started->agent;
        if (s->o->json)
                json_array_append_new(s->started, jsonout_agent(a));
        else
                printf("Agent %s started (incarnation %u).\n", a->name, a->incarnation);
        fflush(stdout);
        return 0;
}

/* How long a start may take is the crew file's to say, and crewd's to see to.  All are waited for; the first of those that
 * did not come up is the problem told, and the others are told beside it. */
static int await_all(struct starting *s, struct cli_problem *p) {
        int result = 0;

        while (s->waiting > 0) {
                const Crew__Envelope *answer = NULL;
                struct cli_problem problem = CLI_PROBLEM_NULL;
                if (client_next(s->c, -1, &answer, p) < 0)
                        return -1;
                if (answer->corr < s->first || answer->corr > s->last || answer->body_case == CREW__ENVELOPE__BODY_EVENT)
                        continue;
                s->waiting--;
                if (take_answer(s, answer, &problem) == 0)
                        continue;
                if (result == 0)
                        *p = problem;
                else
                        cli_problem_hint(p, "%s", problem.text);
                result = -1;
        }
        return result;
}

static void print_all(const struct starting *s) {
        if (s->o->json)
                jsonout_print(json_pack("{s:s, s:O}", "crew", client_crew(s->c), "started", s->started));
        else if (s->first == 0)
                printf("crew %s: no agent has ended, nothing to start\n", client_crew(s->c));
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (o.all && o.agent)
                return cli_fail(o.json, CLI_USAGE, "usage", "--agent and --all exclude each other");
        if (!o.all && (!o.agent || !*o.agent))
                return cli_fail(o.json, CLI_USAGE, "usage", "which agent? crewctl start --agent AGENT, or --all");
        if (client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        struct starting s = {.o = &o, .c = c, .started = json_array()};
        int r = o.all ? ask_all(&s, &problem) : ask(&s, o.agent, &problem);
        if (r == 0)
                r = await_all(&s, &problem);
        if (r == 0)
                print_all(&s);
        json_decref(s.started);
        return r < 0 ? cli_report(&problem, o.json) : CLI_OK;
}

const struct cli_verb verb_start = {
        .name = "start",
        .synopsis = "--agent AGENT | --all [--reason TEXT] [--crew NAME] [--json]",
        .summary = "start agents again that have ended, in a crew that runs",
        .details = "However it ended: stopped, killed, failed, its restarts used up.  One that waits for its restart is\n"
                   "started now.  Returns when it is up, and has passed its health check if it has one.\n"
                   "Tasks that have failed are not done again.\n"
                   "\n"
                   "  crewctl start --agent report-writer\n"
                   "  crewctl start --all --reason \"the database is back\"\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
