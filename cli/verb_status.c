/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl status: the agents of a running crew, once or again and again. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "names.h"
#include "table.h"
#include "text.h"

#include <string.h>
#include <unistd.h>

struct options {
        const char *crew;
        uint64_t interval_ns;
        bool json, watch;
};

static const struct cli_option options[] = {
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

static void print_status(const struct term *term, const Crew__Status *s) {
        bool checked = any_checked(s);
        struct table *t = table_new(columns, ELEMENTSOF(columns) - (checked ? 0 : 1));
        char up[TEXT_WORD];

        fprintf(term->out, "crew %s%s%s   %s %s   process %s\n", term_on(term, TERM_BOLD), s->crew,
                term_off(term, TERM_BOLD), s->state, text_duration(s->up_ms * 1000000u, up), s->process);
        for (size_t i = 0; i < s->n_agents; i++)
                agent_row(t, s->agents[i], checked);
        table_print(t, term, "");
        table_free(t);
}

/* crewd leaving while we watch is the end of the show, not a fault. */
static int watch(struct client *c, const struct options *o) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        const Crew__Status *s = NULL;
        struct term term;

        term_init(&term, stdout);
        while (client_status(c, &s, &problem) == 0) {
                if (term.moves && !o->json)
                        fputs("\033[H\033[J", stdout);
                if (o->json)
                        jsonout_line(jsonout_status(s));
                else
                        print_status(&term, s);
                if (!o->json && !term.moves)
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
        const Crew__Status *s = NULL;
        struct cli_operands rest;
        struct term term;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        if (o.watch)
                return watch(c, &o);
        if (client_status(c, &s, &problem) < 0)
                return cli_report(&problem, o.json);
        term_init(&term, stdout);
        if (o.json)
                jsonout_print(jsonout_status(s));
        else
                print_status(&term, s);
        return CLI_OK;
}

const struct cli_verb verb_status = {
        .name = "status",
        .synopsis = "[--watch] [--crew NAME] [--json]",
        .summary = "show a running crew: agents, tasks, resources, denials",
        .details = "WALLS says \"full\" when every protection of the policy is in force, else what is missing.\n"
                   "\n"
                   "  crewctl status\n"
                   "  crewctl status --watch --interval 500ms\n"
                   "  crewctl status --json | jq '.agents[] | select(.denied > 0)'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
