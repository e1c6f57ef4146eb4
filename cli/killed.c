/* SPDX-License-Identifier: Apache-2.0 */
#include "killed.h"

#include "common/util.h"
#include "jsonout.h"
#include "names.h"
#include "text.h"

#include <string.h>

void agents_meant_fini(struct agents_meant *l) {
        free(l->items);
        *l = (struct agents_meant){0};
}

bool agent_has_role(const Crew__AgentStatus *a, const char *role) {
        size_t n = strlen(role), whole = strlen(a->policy);

        if (n == 0)
                return false;
        if (strcmp(a->role, role) == 0 || strcmp(a->policy, role) == 0)
                return true;
        return n < whole && strncmp(a->policy, role, n) == 0 &&
               (strcmp(a->policy + n, ".yaml") == 0 || strcmp(a->policy + n, ".yml") == 0);
}

static int nobody(const Crew__Status *s, const char *role, size_t asleep, struct cli_problem *p) {
        if (asleep > 0)
                return cli_problem_set(p, CLI_ABSENT, "not-running", "no agent of role '%s' is running (%zu ha%s it)", role,
                                       asleep, asleep == 1 ? "s" : "ve");
        cli_problem_set(p, CLI_ABSENT, "unknown-role", "no agent in crew %s has the role or policy '%s'", s->crew, role);
        for (size_t i = 0; i < s->n_agents && i < 16; i++)
                cli_problem_hint(p, "%s: %s%s%s", s->agents[i]->name, s->agents[i]->policy, *s->agents[i]->role ? ", " : "",
                                 s->agents[i]->role);
        return -1;
}

static bool has_ended(const Crew__AgentStatus *a) {
        return a->state == CREW__AGENT_STATE__AGENT_TERMINATED || a->state == CREW__AGENT_STATE__AGENT_FAILED ||
               a->state == CREW__AGENT_STATE__AGENT_POLICY_ONLY;
}

int agents_of_role(struct client *c, const char *role, struct agents_meant *out, struct cli_problem *p) {
        const Crew__Status *s = NULL;
        size_t asleep = 0;

        if (client_status(c, &s, p) < 0)
                return -1;
        out->items = calloc(MAX_OF(s->n_agents, (size_t)1), sizeof(*out->items));
        if (!out->items)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        for (size_t i = 0; i < s->n_agents; i++) {
                const Crew__AgentStatus *a = s->agents[i];
                if (!agent_has_role(a, role))
                        continue;
                if (has_ended(a)) {
                        asleep++;
                        continue;
                }
                snprintf(out->items[out->n].name, KILL_NAME_MAX, "%s", a->name);
                out->items[out->n++].state = a->state;
        }
        return out->n > 0 ? 0 : nobody(s, role, asleep, p);
}

void killed_print_crew(const struct term *t, Crew__AgentStatus *const *others, size_t n) {
        if (n == 0)
                return;
        fputs("Crew status: ", t->out);
        for (size_t i = 0; i < n; i++)
                fprintf(t->out, "%s%s (%s)", i ? ", " : "", others[i]->name,
                        others[i]->frozen ? "frozen" : name_agent_state(others[i]->state));
        fputc('\n', t->out);
}

void killed_print(const struct term *t, const Crew__Killed *k, const char *verb, bool others) {
        const Crew__AgentTerminated *end = k->terminated;
        const char *dot = term_dot(t);
        char took[TEXT_WORD];

        if (k->was) {
                fprintf(t->out, "Agent %s was waiting to be %s; it will not be now.\n", end->agent,
                        k->was == CREW__AGENT_STATE__AGENT_RESTARTING ? "restarted" : "started");
                if (others)
                        killed_print_crew(t, k->others, k->n_others);
                return;
        }
        fprintf(t->out, "Agent %s %s. Sandbox destroyed.\n", end->agent, verb);
        if (end->kill_us > 0)
                fprintf(t->out, "  %u process%s, %s", end->processes_killed, end->processes_killed == 1 ? "" : "es",
                        text_duration(end->kill_us * 1000u, took));
        else
                fputs("  it ended by itself", t->out);
        if (k->task[0]) {
                fprintf(t->out, "%stask ", dot);
                term_put(t, k->task);
                fprintf(t->out, k->task_reassigned ? " goes to a new instance" : " failed (%s)", name_cause(end->cause));
        }
        fprintf(t->out, "%saudit record %llu\n", dot, (unsigned long long)end->audit_seq);
        if (end->side_effects_possible)
                fputs("  it had called tools, sent or stored something: side effects are possible\n", t->out);
        if (others)
                killed_print_crew(t, k->others, k->n_others);
}

json_t *killed_json(const Crew__Killed *k) {
        json_t *others = json_array();

        for (size_t i = 0; i < k->n_others; i++)
                json_array_append_new(others, jsonout_agent(k->others[i]));
        return json_pack("{s:o, s:o, s:o, s:b, s:o}", "terminated", jsonout_terminated(k->terminated), "others", others,
                         "task", jsonout_text(k->task), "task_reassigned", (int)k->task_reassigned, "was",
                         k->was ? jsonout_text(name_agent_state(k->was)) : json_null());
}
