/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl lock: writes down what a crew consists of, for --locked. */
#include "cli.h"

#include "common/digest.h"
#include "common/util.h"
#include "jsonout.h"
#include "supervisor/policy/lock.h"
#include "term.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

struct options {
        bool json;
};

static const struct cli_option options[] = {CLI_OPTION_JSON(struct options)};

static void crew_file_freep(struct crew_file **c) {
        crew_file_free(*c);
}

static void crew_lock_freep(struct crew_lock **l) {
        crew_lock_free(*l);
}

static int load(const char *path, struct crew_file **out, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct term t;
        int r = crew_load(path, out, &report, &err);

        term_init(&t, stderr);
        if (r < 0 && report.errors > 0)
                policy_report_print(&report, stderr, t.colour);
        if (r < 0) {
                cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
                p->told = report.errors > 0;
        }
        policy_report_fini(&report);
        return r < 0 ? -1 : 0;
}

/* A write that changes nothing is left out, so that the file's time tells when it changed. */
static int write_lock(const char *path, const char *text, size_t n, bool *changed, struct cli_problem *p) {
        _cleanup_free_ char *old = NULL;
        struct crew_err err = CREW_ERR_NULL;
        size_t old_n = 0;

        *changed = crew_read_file(path, LOCK_MAX_BYTES, &old, &old_n, NULL) < 0 || old_n != n || memcmp(old, text, n) != 0;
        if (*changed && crew_write_file_atomic(path, text, n, 0644, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "%s", err.msg);
        return 0;
}

static json_t *files_json(const struct lock_list *l) {
        json_t *out = json_array();
        char hex[CREW_SHA256_HEX];

        for (size_t i = 0; i < l->n; i++) {
                crew_hex(l->items[i].sha256, CREW_SHA256_BYTES, hex);
                json_array_append_new(out, json_pack("{s:s, s:s, s:o}", "kind", lock_kind_names[l->items[i].kind], "sha256",
                                                     hex, "name", jsonout_text(l->items[i].name)));
        }
        return out;
}

static void show(const struct options *o, const struct crew_lock *l, const char *path, bool changed) {
        struct term t;

        if (o->json) {
                jsonout_print(json_pack("{s:o, s:b, s:o}", "lock", jsonout_text(path), "changed", (int)changed, "files",
                                        files_json(&l->files)));
                return;
        }
        term_init(&t, stdout);
        term_put(&t, path);
        printf(changed ? ": %zu files\n" : ": %zu files, as before\n", l->files.n);
}

static int lock(const struct options *o, const char *file, struct cli_problem *p) {
        _cleanup_(crew_file_freep) struct crew_file *c = NULL;
        _cleanup_(crew_lock_freep) struct crew_lock *l = NULL;
        _cleanup_free_ char *text = NULL;
        struct crew_err err = CREW_ERR_NULL;
        char path[PATH_MAX];
        bool changed = false;
        size_t n = 0;

        if (load(file, &c, p) < 0)
                return -1;
        if (crew_lock_path(c, path, sizeof(path)) < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "path too long: %s", c->dir);
        if (crew_lock_take(c, &l, &err) < 0 || lock_format(&l->files, c->name, &text, &n, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "lock", "cannot be locked: %s", err.msg);
        if (write_lock(path, text, n, &changed, p) < 0)
                return -1;
        show(o, l, path, changed);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n != 1)
                return cli_fail(o.json, CLI_USAGE, "usage",
                                rest.n ? "one crew file at a time" : "which crew? crewctl lock CREW.yaml");
        return lock(&o, rest.items[0], &problem) < 0 ? cli_report(&problem, o.json) : CLI_OK;
}

const struct cli_verb verb_lock = {
        .name = "lock",
        .synopsis = "[--json] CREW.yaml",
        .summary = "write crew.lock: a digest of every file the crew consists of",
        .details = "crew.lock goes beside the crew file: programs, tools, policies, schemas, presets, runtimes, ... with\n"
                   "their SHA-256, sorted.  run, up and policy check refuse with --locked whatever differs from it.\n"
                   "\n"
                   "  crewctl lock crew.yaml && git diff crew.lock\n"
                   "  crewctl run --locked crew.yaml\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
