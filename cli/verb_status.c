/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl status: the agents of a running crew, once or again and again. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "crews.h"
#include "jsonout.h"
#include "names.h"
#include "table.h"
#include "text.h"

#include <string.h>
#include <unistd.h>

struct options {
        const char *crew, *agent;
        uint64_t interval_ns;
        bool json, watch;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT",
         "only this one, with what it uses of each limit", CLI_COMPLETE_AGENT},
        {"watch", 'w', CLI_FLAG, offsetof(struct options, watch), NULL, "again and again, until Ctrl-C", CLI_COMPLETE_NONE},
        {"interval", 0, CLI_DURATION, offsetof(struct options, interval_ns), "TIME", "between two looks (default 1s)",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static const struct table_column columns[] =
        {
                {"AGENT", false, 0, true},  {"STATE", false, 0, false}, {"TASK", false, 2, true},
                {"UP", false, 3, false},    {"CPU", true, 5, false},    {"MEM", true, 6, false},
                {"PROCS", true, 7, false},  {"FILES", true, 8, false},  {"DENIED", true, 1, false},
                {"WALLS", false, 4, false}, {"HEALTH", false, 0, true}, /* last: only when an agent has checks */
};

static const struct table_column limit_columns[] = {
        {"LIMIT", false, 0, false}, {"USE", true, 0, false}, {"MAX", true, 0, false},
        {"HITS", true, 0, false},   {"BY", false, 1, true},
};

static enum term_style state_style(Crew__AgentState s) {
        switch (s) {
        case CREW__AGENT_STATE__AGENT_READY:
        case CREW__AGENT_STATE__AGENT_WORKING:
                return TERM_GREEN;
        case CREW__AGENT_STATE__AGENT_TERMINATED:
        case CREW__AGENT_STATE__AGENT_FAILED:
                return TERM_RED;
        case CREW__AGENT_STATE__AGENT_SPAWNING:
        case CREW__AGENT_STATE__AGENT_STOPPING:
        case CREW__AGENT_STATE__AGENT_RESTARTING:
                return TERM_YELLOW;
        default: /* declared, policy only, and what a newer crewd may say */
                return TERM_PLAIN;
        }
}

static const char *or_dash(const char *s) {
        return s && *s ? s : "-";
}

/* The columns that only a living process has. */
static void process_cells(struct table *t, const Crew__AgentStatus *a) {
        char up[TEXT_WORD], memory[2 * TEXT_WORD];

        if (a->pid == 0) {
                for (int i = 0; i < 5; i++)
                        table_cell(t, TERM_DIM, "-");
                return;
        }
        table_cell(t, TERM_PLAIN, "%s", text_duration_short(a->up_ms * 1000000u, up));
        table_cell(t, TERM_PLAIN, "%u%%", a->cpu_percent);
        table_cell(t, TERM_PLAIN, "%s", text_size(a->memory_bytes, a->memory_max, memory));
        if (a->processes_max > 0)
                table_cell(t, TERM_PLAIN, "%u / %u", a->processes, a->processes_max);
        else
                table_cell(t, TERM_PLAIN, "%u", a->processes);
        if (a->open_files == 0)
                table_cell(t, TERM_DIM, "-");
        else if (a->open_files_max > 0)
                table_cell(t, TERM_PLAIN, "%u / %u", a->open_files, a->open_files_max);
        else
                table_cell(t, TERM_PLAIN, "%u", a->open_files);
}

static bool any_checked(const Crew__Status *s) {
        for (size_t i = 0; i < s->n_agents; i++) {
                if (*s->agents[i]->health)
                        return true;
        }
        return false;
}

static void agent_row(struct table *t, const Crew__AgentStatus *a, bool checked) {
        table_cell(t, TERM_PLAIN, "%s", a->name);
        bool waits = a->state == CREW__AGENT_STATE__AGENT_READY && *a->task; /* its next task needs others first */
        if (a->frozen)
                table_cell(t, TERM_YELLOW, "frozen");
        else
                table_cell(t, state_style(a->state), "%s", waits ? "waiting" : name_agent_state(a->state));
        table_cell(t, TERM_PLAIN, "%s", or_dash(a->task));
        process_cells(t, a);
        table_cell(t, a->denied > 0 ? TERM_YELLOW : TERM_PLAIN, "%llu", (unsigned long long)a->denied);
        table_cell(t, *a->walls && strcmp(a->walls, "full") != 0 ? TERM_YELLOW : TERM_PLAIN, "%s", or_dash(a->walls));
        if (checked)
                table_cell(t, *a->health && strcmp(a->health, "passing") != 0 ? TERM_YELLOW : TERM_PLAIN, "%s",
                           or_dash(a->health));
}

/* Why there is no process of it: "operator: odd queries". */
static void cause_note(struct table *t, const Crew__AgentStatus *a) {
        char text[600];
        bool gone = a->state == CREW__AGENT_STATE__AGENT_TERMINATED || a->state == CREW__AGENT_STATE__AGENT_FAILED ||
                    a->state == CREW__AGENT_STATE__AGENT_RESTARTING;

        snprintf(text, sizeof(text), "%.256s%s%.256s", a->last_cause, *a->last_cause && *a->last_reason ? ": " : "",
                 a->last_reason);
        if (gone)
                table_note(t, text);
}

/* --- one agent's limits --- */

static const char *in_bytes(uint64_t n, char out[2 * TEXT_WORD]) {
        return text_size(n, 0, out);
}

static const char *in_time(uint64_t n, char out[2 * TEXT_WORD]) {
        return text_duration(n * 1000000u, out);
}

static const char *in_cores(uint64_t n, char out[2 * TEXT_WORD]) {
        snprintf(out, 2 * TEXT_WORD, "%llu.%02u", (unsigned long long)(n / 1000), (unsigned)(n % 1000) / 10);
        return out;
}

static const char *in_number(uint64_t n, char out[2 * TEXT_WORD]) {
        snprintf(out, 2 * TEXT_WORD, "%llu", (unsigned long long)n);
        return out;
}

static const char *in_number_a_second(uint64_t n, char out[2 * TEXT_WORD]) {
        snprintf(out, 2 * TEXT_WORD, "%llu/s", (unsigned long long)n);
        return out;
}

/* One that is not listed, of a newer crewd, is shown as the number it is. */
static const struct unit {
        const char *limit;
        const char *(*in_words)(uint64_t n, char out[2 * TEXT_WORD]);
} units[] = {{"memory", in_bytes},   {"tmp", in_bytes}, {"output", in_bytes},        {"state", in_bytes},
             {"wall_time", in_time}, {"cpu", in_cores}, {"dns", in_number_a_second}, {"messages", in_number_a_second}};

static const char *in_unit(const char *limit, uint64_t n, char out[2 * TEXT_WORD]) {
        for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                if (strcmp(units[i].limit, limit) == 0)
                        return units[i].in_words(n, out);
        }
        return in_number(n, out);
}

static void print_limits(const struct term *term, const Crew__AgentStatus *a) {
        struct table *t = table_new(limit_columns, ELEMENTSOF(limit_columns));
        char word[2 * TEXT_WORD];

        for (size_t i = 0; i < a->n_limits; i++) {
                const Crew__LimitUse *l = a->limits[i];
                table_cell(t, TERM_PLAIN, "%s", l->limit);
                table_cell(t, l->known ? TERM_PLAIN : TERM_DIM, "%s", l->known ? in_unit(l->limit, l->use, word) : "-");
                table_cell(t, TERM_PLAIN, "%s", l->max ? in_unit(l->limit, l->max, word) : "none");
                table_cell(t, l->hits ? TERM_YELLOW : TERM_PLAIN, "%llu", (unsigned long long)l->hits);
                table_cell(t, TERM_PLAIN, "%s", l->max ? l->by : "-");
        }
        fputc('\n', term->out);
        table_print(t, term, "");
        table_free(t);
}

/* --- what was submitted --- */

static const struct table_column task_columns[] = {
        {"TASK", false, 0, false},  {"NAME", false, 1, true}, {"AGENT", false, 0, true},
        {"STATE", false, 0, false}, {"TIME", true, 2, false},
};

static void task_row(struct table *t, const Crew__TaskStatus *s) {
        char time[TEXT_WORD];

        table_cell(t, TERM_PLAIN, "%s", s->id);
        table_cell(t, TERM_PLAIN, "%s", s->name);
        table_cell(t, TERM_PLAIN, "%s", s->agent);
        table_cell(t, strcmp(s->state, "running") == 0 ? TERM_GREEN : TERM_PLAIN, "%s", s->state);
        if (s->duration_us)
                table_cell(t, TERM_PLAIN, "%s", text_duration_short(s->duration_us * 1000u, time));
        else
                table_cell(t, TERM_DIM, "-");
}

/* Of agent, NULL: of all.  Those of the crew file stand beside their agents. */
static void print_submitted(const struct term *term, const Crew__Status *s, const char *agent) {
        struct table *t = NULL;

        for (size_t i = 0; i < s->n_tasks; i++) {
                if (!s->tasks[i]->submitted || (agent && strcmp(s->tasks[i]->agent, agent) != 0))
                        continue;
                if (!t)
                        t = table_new(task_columns, ELEMENTSOF(task_columns));
                task_row(t, s->tasks[i]);
        }
        if (!t)
                return;
        fputc('\n', term->out);
        table_print(t, term, "");
        table_free(t);
}

/* --- all of it --- */

static void print_status(const struct term *term, const Crew__Status *s, const char *agent) {
        bool checked = any_checked(s);
        struct table *t = table_new(columns, ELEMENTSOF(columns) - (checked ? 0 : 1));
        char up[TEXT_WORD];

        fprintf(term->out, "crew %s%s%s   %s %s   process %s\n", term_on(term, TERM_BOLD), s->crew,
                term_off(term, TERM_BOLD), s->state, text_duration(s->up_ms * 1000000u, up), s->process);
        for (size_t i = 0; i < s->n_agents; i++) {
                agent_row(t, s->agents[i], checked);
                cause_note(t, s->agents[i]);
        }
        table_print(t, term, "");
        table_free(t);
        for (size_t i = 0; agent && i < s->n_agents; i++)
                print_limits(term, s->agents[i]);
        print_submitted(term, s, agent);
}

/* The one that was asked for alone; the frame is ours until the next. */
static int narrow(const struct options *o, const Crew__Status *s, Crew__Status *out, Crew__AgentStatus **only,
                  struct cli_problem *p) {
        _cleanup_names_ struct crew_names known = {0};

        *out = *s;
        if (!o->agent)
                return 0;
        for (size_t i = 0; i < s->n_agents; i++) {
                if (strcmp(s->agents[i]->name, o->agent) == 0) {
                        *only = s->agents[i];
                        out->agents = only;
                        out->n_agents = 1;
                        return 0;
                }
                crew_names_add(&known, s->agents[i]->name);
        }
        return crew_unknown_agent(p, s->crew, o->agent, &known);
}

static int show(struct client *c, const struct options *o, const struct term *term, bool line, struct cli_problem *p) {
        const Crew__Status *s = NULL;
        Crew__AgentStatus *only;
        Crew__Status part;

        if (client_status(c, &s, p) < 0 || narrow(o, s, &part, &only, p) < 0)
                return -1;
        if (term->moves && line && !o->json)
                fputs("\033[H\033[J", stdout);
        if (o->json)
                line ? jsonout_line(jsonout_status(&part)) : jsonout_print(jsonout_status(&part));
        else
                print_status(term, &part, o->agent);
        return 0;
}

/* crewd leaving while we watch is the end of the show, not a fault. */
static int watch(struct client *c, const struct options *o, const struct term *term) {
        struct cli_problem problem = CLI_PROBLEM_NULL;

        while (show(c, o, term, true, &problem) == 0) {
                if (!o->json && !term->moves)
                        fputc('\n', stdout);
                if (fflush(stdout) != 0)
                        return CLI_OK;
                usleep((useconds_t)(MAX_OF(o->interval_ns, (uint64_t)10000000u) / 1000u));
        }
        if (strcmp(problem.code, "closed") != 0)
                return cli_report(&problem, o->json);
        if (!o->json)
                printf("crew %s has ended\n", client_crew(c));
        return CLI_OK;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {.interval_ns = 1000000000u};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        struct term term;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        term_init(&term, stdout);
        if (o.watch)
                return watch(c, &o, &term);
        return show(c, &o, &term, false, &problem) < 0 ? cli_report(&problem, o.json) : CLI_OK;
}

const struct cli_verb verb_status = {
        .name = "status",
        .synopsis = "[--agent AGENT] [--watch] [--crew NAME] [--json]",
        .summary = "show a running crew: agents, tasks, resources, denials",
        .details = "Under an agent that has ended stands why.\n"
                   "WALLS says \"full\" when every protection of the policy is in force, else what is missing.\n"
                   "Tasks that were submitted one by one stand below, with the id that crewctl cancel takes.\n"
                   "--agent adds what the agent uses of each of its limits, how often it came to it, and who enforces it.\n"
                   "\n"
                   "  crewctl status\n"
                   "  crewctl status --agent data-collector\n"
                   "  crewctl status --watch --interval 500ms\n"
                   "  crewctl status --json | jq '.agents[] | select(.denied > 0)'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
