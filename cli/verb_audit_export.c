/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl audit export: logs, checkpoints and the public key in one archive, for whoever verifies elsewhere. */
#include "cli.h"

#include "audit_export.h"
#include "common/util.h"
#include "crews.h"
#include "jsonout.h"

#include <limits.h>
#include <string.h>

struct options {
        const char *crew, *agent, *output;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "only this agent, and the crew's own log",
         CLI_COMPLETE_AGENT},
        CLI_OPTION_CREW(struct options),
        {"output", 'o', CLI_STRING, offsetof(struct options, output), "FILE.tar",
         "instead of CREW-AGENT-audit.tar or CREW-audit.tar here", CLI_COMPLETE_FILE},
        CLI_OPTION_JSON(struct options),
};

static int choose_agents(const struct crew_paths *paths, const char *crew, const char *agent, struct crew_names *out,
                         struct cli_problem *p) {
        _cleanup_names_ struct crew_names all = {0};
        int r = crew_recorded_agents(paths, crew, &all);

        if (r < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot read the audit of crew %s: %s", crew, strerror(-r));
        for (size_t i = 0; i < all.n && r == 0; i++) {
                if (!agent || strcmp(agent, all.items[i]) == 0)
                        r = crew_names_add(out, all.items[i]);
        }
        if (r < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "out of memory");
        return agent && out->n == 0 ? crew_unknown_agent(p, crew, agent, &all) : 0;
}

static bool runs(const struct crew_paths *paths, const char *crew) {
        _cleanup_names_ struct crew_names running = {0};
        bool found = false;

        if (crews_running(paths, &running) < 0)
                return false;
        for (size_t i = 0; i < running.n; i++)
                found |= strcmp(running.items[i], crew) == 0;
        return found;
}

static void report(const struct audit_export *x, bool json) {
        if (json)
                jsonout_print(json_pack("{s:o, s:o, s:I, s:I, s:I}", "file", jsonout_text(x->file), "crew",
                                        jsonout_text(x->crew), "agents", (json_int_t)x->agents->n, "records",
                                        (json_int_t)x->records, "signed", (json_int_t)x->signed_records));
        else
                printf("%s: %zu agent%s, %llu records, %llu signed; check it: crewctl audit verify %s\n", x->file,
                       x->agents->n, x->agents->n == 1 ? "" : "s", (unsigned long long)x->records,
                       (unsigned long long)x->signed_records, x->file);
}

static int export(const struct options *o, struct cli_problem *p) {
        _cleanup_names_ struct crew_names agents = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;
        char crew[CREW_NAME_MAX], base[PATH_MAX + CREW_NAME_MAX + 8], file[PATH_MAX];

        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        if (crew_choose_recorded(&paths, o->crew, crew, p) < 0 || choose_agents(&paths, crew, o->agent, &agents, p) < 0)
                return -1;
        snprintf(base, sizeof(base), "%s/%s/audit", paths.state, crew);
        if (o->output)
                snprintf(file, sizeof(file), "%s", o->output);
        else
                snprintf(file, sizeof(file), "%s%s%s-audit.tar", crew, o->agent ? "-" : "", o->agent ? o->agent : "");
        struct audit_export x = {
                .base = base, .crew = crew, .file = file, .agents = &agents, .running = runs(&paths, crew)};
        if (audit_export_write(&x, p) < 0)
                return -1;
        report(&x, o->json);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        return export(&o, &problem) < 0 ? cli_report(&problem, o.json) : CLI_OK;
}

const struct cli_verb verb_audit_export = {
        .group = "audit",
        .name = "export",
        .synopsis = "[--crew NAME] [--agent AGENT] [--output FILE.tar] [--json]",
        .summary = "put audit logs, checkpoints and the public key into one archive",
        .details = "Of one agent or of all, with the crew's own log; also while the crew runs.  The private key\n"
                   "is not in it.  An existing file is not overwritten.\n"
                   "\n"
                   "  crewctl audit export --agent data-collector\n"
                   "  crewctl audit verify financial-analysis-data-collector-audit.tar\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
