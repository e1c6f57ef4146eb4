/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl policy check: role policies and crew files, each problem with its line.  No daemon is asked. */
#include "cli.h"

#include "common/util.h"
#include "jsonout.h"
#include "source_file.h"
#include "supervisor/policy/crew_file.h"
#include "supervisor/policy/lock.h"
#include "supervisor/policy/policy.h"
#include "term.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void crew_file_freep(struct crew_file **c) {
        crew_file_free(*c);
}

static void policy_freep(struct policy_image **p) {
        policy_image_free(*p);
}

static json_t *report_json(const struct policy_report *r) {
        json_t *items = json_array();

        for (size_t i = 0; i < r->n; i++) {
                const struct policy_problem *p = &r->items[i];
                json_t *o = json_pack("{s:s, s:o, s:i, s:i, s:o}", "severity", p->warning ? "warning" : "error", "file",
                                      jsonout_text(p->file), "line", p->line, "column", p->column, "text",
                                      jsonout_text(p->text));
                if (p->hint[0])
                        json_object_set_new(o, "hint", jsonout_text(p->hint));
                json_array_append_new(items, o);
        }
        return items;
}

struct options {
        const char *crew_dir;
        bool json, strict, locked;
};

static const struct cli_option option_rows[] = {
        {"strict", 0, CLI_FLAG, offsetof(struct options, strict), NULL, "warnings count as errors", CLI_COMPLETE_NONE},
        {"crew-dir", 0, CLI_STRING, offsetof(struct options, crew_dir), "DIR",
         "what ${CREW_DIR} means in a role file (default: here)", CLI_COMPLETE_FILE},
        CLI_OPTION_LOCKED(struct options),
        CLI_OPTION_JSON(struct options),
};

struct check {
        const struct options *o;
        char here[PATH_MAX]; /* stands for ${CREW_DIR} in a role file alone */
        struct policy_report all;
        json_t *files; /* with --json */
        struct term term;
        bool refused; /* by a crew.lock */
};

static bool reported(const struct policy_report *all, const struct policy_problem *p) {
        for (size_t i = 0; i < all->n; i++) {
                const struct policy_problem *q = &all->items[i];
                if (q->line == p->line && q->column == p->column && strcmp(q->file, p->file) == 0 &&
                    strcmp(q->text, p->text) == 0)
                        return true;
        }
        return false;
}

/* What is missing below a directory that nobody named is no news. */
static bool is_unknown_path(const struct check *c, const struct policy_problem *p) {
        size_t n = strlen(c->here);

        return p->warning && !c->o->crew_dir && strstr(p->text, "does not exist") &&
               strncmp(p->text + strcspn(p->text, "/"), c->here, n) == 0;
}

/* A document beside a broken one, or a policy that two crews use, is shown once. */
static void take_over(struct check *c, struct policy_report *r) {
        for (size_t i = 0; i < r->n; i++) {
                const struct policy_problem *p = &r->items[i];
                if (!reported(&c->all, p) && !is_unknown_path(c, p))
                        policy_report_add(&c->all, p->warning, p->file, p->line, p->column, p->hint, "%s", p->text);
        }
        policy_report_fini(r);
}

static void file_fine(struct check *c, const char *path, const char *kind, const char *what) {
        if (c->o->json) {
                json_array_append_new(c->files, json_pack("{s:o, s:s, s:o}", "file", jsonout_text(path), "kind", kind, "is",
                                                          jsonout_text(what)));
                return;
        }
        printf("%s%s%s ", term_on(&c->term, TERM_GREEN), term_mark(&c->term, TERM_OK), term_off(&c->term, TERM_GREEN));
        term_put(&c->term, path);
        fputs("   ", stdout);
        term_put(&c->term, what);
        fputc('\n', stdout);
}

/* A fault (the file cannot be read) as against problems in it. */
static int fault_unless_reported(const struct policy_report *r, int result, const struct crew_err *err,
                                 struct cli_problem *p) {
        if (result == 0 || r->errors > 0)
                return 0;
        return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err->msg);
}

static int check_role(struct check *c, const char *path, const char *agent, struct cli_problem *p) {
        _cleanup_(policy_freep) struct policy_image *image = NULL;
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char what[128];
        int r = policy_load(path, agent, c->o->crew_dir ? c->o->crew_dir : c->here, &image, &report, &err);
        int fault = fault_unless_reported(&report, r, &err, p);

        if (r == 0) {
                snprintf(what, sizeof(what), "role %s", policy_agent(image));
                file_fine(c, path, "role", what);
        }
        take_over(c, &report);
        return fault;
}

static int check_crew(struct check *c, const char *path, struct cli_problem *p) {
        _cleanup_(crew_file_freep) struct crew_file *crew = NULL;
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char what[160];
        int r = crew_load(path, &crew, &report, &err);
        int fault = fault_unless_reported(&report, r, &err, p);

        if (r == 0 && c->o->locked && (r = crew_lock_verify(crew, NULL, &report, &err)) < 0)
                c->refused = true;
        if (r == 0) {
                size_t n = 0;
                while (n < crew->n_agents && !crew->agents[n].instance)
                        n++; /* further instances stand behind those that are declared */
                snprintf(what, sizeof(what), "crew %s: %zu agent%s, %zu task%s", crew->name, n, n == 1 ? "" : "s",
                         crew->n_tasks, crew->n_tasks == 1 ? "" : "s");
                file_fine(c, path, "crew", what);
        }
        take_over(c, &report);
        return fault;
}

static int check_file(struct check *c, const char *path, struct cli_problem *p) {
        _cleanup_names_ struct crew_names agents = {0};
        struct crew_err err = CREW_ERR_NULL;
        enum source_kind kind = SOURCE_OTHER;

        if (source_sniff(path, &kind, &agents, &err) < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
        if (kind == SOURCE_CREW)
                return check_crew(c, path, p);
        if (agents.n < 2)
                return check_role(c, path, NULL, p);
        for (size_t i = 0; i < agents.n; i++) {
                if (check_role(c, path, agents.items[i], p) < 0)
                        return -1;
        }
        return 0;
}

static int check_verdict(struct check *c) {
        const struct policy_report *all = &c->all;
        bool bad = all->errors > 0 || (c->o->strict && all->warnings > 0);

        if (c->o->json)
                jsonout_print(json_pack("{s:b, s:I, s:I, s:o, s:O}", "ok", (int)!bad, "errors", (json_int_t)all->errors,
                                        "warnings", (json_int_t)all->warnings, "problems", report_json(all), "files",
                                        c->files));
        else if (all->n > 0)
                policy_report_print(all, stdout, c->term.colour);
        return c->refused ? CLI_REFUSED : bad ? CLI_USAGE : CLI_OK;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct check c = {.o = &o};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands files;
        int status;

        if (!cli_parse(self, argc, argv, &o, &files, &status))
                return status;
        if (files.n == 0)
                return cli_fail(o.json, CLI_USAGE, "usage", "which files? crewctl policy check FILE...");
        if (!getcwd(c.here, sizeof(c.here)))
                strcpy(c.here, "/");
        term_init(&c.term, stdout);
        c.files = json_array();
        int r = 0;
        for (size_t i = 0; i < files.n && r == 0; i++)
                r = check_file(&c, files.items[i], &problem);
        status = r < 0 ? cli_report(&problem, o.json) : check_verdict(&c);
        json_decref(c.files);
        policy_report_fini(&c.all);
        return status;
}

const struct cli_verb verb_policy_check = {
        .group = "policy",
        .name = "check",
        .synopsis = "[--strict] [--locked] [--json] FILE...",
        .summary = "check role policies and crew files; each problem with its line",
        .details = "A crew file is checked with the policies and schemas it names, also across its agents.\n"
                   "Exit 2 when there are errors, 4 when --locked finds a file that crew.lock does not name so.\n"
                   "\n"
                   "  crewctl policy check crew.yaml\n"
                   "  crewctl policy check --strict policies/roles/*.yaml\n",
        .options = option_rows,
        .n_options = ELEMENTSOF(option_rows),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
