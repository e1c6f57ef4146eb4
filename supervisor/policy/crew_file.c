/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a crew: bytes -> nodes -> bound -> names resolved, policies loaded -> checked across agents.  All problems that
 * can be found are reported before the load fails; the checks across agents need a crew whose parts all stand.
 */
#include "crew_file.h"

#include "common/util.h"
#include "crew_draft.h"
#include "load.h"
#include "supervisor/schema/schema.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

const struct crew_agent *crew_find_agent(const struct crew_file *c, const char *name) {
        for (size_t i = 0; i < c->n_agents; i++)
                if (!c->agents[i].absent && strcmp(c->agents[i].name, name) == 0)
                        return &c->agents[i];
        return NULL;
}

const struct crew_tool *crew_find_tool(const struct crew_file *c, const char *name) {
        for (size_t i = 0; i < c->n_tools; i++)
                if (strcmp(c->tools[i].name, name) == 0)
                        return &c->tools[i];
        return NULL;
}

struct crew_file *crew_file_free(struct crew_file *c) {
        struct crew_own *own = (struct crew_own *)c;

        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_tools; i++) {
                schema_free(c->tools[i].input);
                schema_free(c->tools[i].output);
        }
        for (size_t i = 0; i < c->n_tasks; i++)
                schema_free(c->tasks[i].output);
        for (size_t i = 0; i < c->n_agents; i++)
                policy_image_free(c->agents[i].policy);
        arena_fini(&own->arena);
        free(own);
        return NULL;
}

/* The directory of the file, absolute and without symbolic links. */
static int find_dir(struct crew_draft *d, const char *file, struct crew_err *err) {
        const char *slash = strrchr(file, '/');
        char dir[PATH_MAX], real[PATH_MAX];

        if (slash && (size_t)(slash - file) + 1 >= sizeof(dir))
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", file);
        snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - file) + 1 : 1, slash ? file : ".");
        int r = crew_dir_real(dir, real, err);
        if (r < 0)
                return r;
        d->c->dir = arena_strndup(&d->own->arena, real, strlen(real));
        d->c->path = arena_strndup(&d->own->arena, file, strlen(file));
        if (!d->c->dir || !d->c->path)
                return crew_fail(err, ENOMEM, "%s: out of memory", file);
        d->b.crew_dir = d->c->dir;
        return 0;
}

static int load(struct crew_draft *d, const char *bytes, size_t n, struct crew_err *err) {
        struct policy_report *report = d->b.report;
        struct node *docs;
        int r = node_parse(d->c->path, bytes, n, &d->own->arena, &docs, report, err);

        if (r < 0)
                return r;
        if (!docs) {
                policy_report_add(report, false, d->c->path, 0, 0, "", "the file holds no crew");
                return -EINVAL;
        }
        size_t before = report->errors;
        r = crew_bind(d, docs);
        if (r < 0)
                return crew_fail(err, -r, "%s: out of memory", d->c->path);
        r = crew_resolve(d, err);
        if (r == 0 && report->errors == before) {
                crew_check_instances(d);
                r = crew_check(d, err);
        }
        if (r == 0 && report->errors == before && crew_add_instances(d) < 0)
                r = crew_fail(err, ENOMEM, "%s: out of memory", d->c->path);
        return r;
}

/* places NULL: every agent where the file has it. */
static int place_agents(struct crew_file *c, const struct crew_places *places, struct crew_err *err) {
        for (size_t i = 0; i < c->n_agents; i++)
                c->agents[i].order = (uint32_t)i;
        return places && crew_arrange(c, places) < 0 ? crew_fail(err, ENOMEM, "%s: out of memory", c->path) : 0;
}

/* d: what is known of it so far. */
static int load_bytes(struct crew_draft d, const char *bytes, size_t n, const struct crew_places *places,
                      struct crew_file **out, struct crew_err *err) {
        struct crew_own *own = calloc(1, sizeof(*own));
        struct policy_report *report = d.b.report;
        size_t before = report->errors, before_items = report->n;
        const char *file = d.b.file;

        if (!own)
                return crew_fail(err, ENOMEM, "%s: out of memory", file);
        d.own = own;
        d.c = &own->pub;
        d.b.arena = &own->arena;
        int r = find_dir(&d, file, err);
        own->used = (struct lock_list){.arena = &own->arena, .dir = own->pub.dir};
        d.b.used = &own->used;
        if (r == 0 && lock_note(&own->used, LOCK_CREW, NULL, file, bytes, n) < 0)
                r = crew_fail(err, ENOMEM, "%s: out of memory", file);
        if (r == 0 && !(own->pub.bytes = arena_strndup(&own->arena, bytes, n)))
                r = crew_fail(err, ENOMEM, "%s: out of memory", file);
        if (r == 0) {
                own->pub.n_bytes = n;
                crew_sha256(bytes, n, own->pub.sha256);
                r = load(&d, own->pub.bytes, n, err);
        }
        if (report->errors != before && (r == 0 || r == -EINVAL))
                r = report_refuse(report, before_items, file, err);
        if (r == 0)
                r = place_agents(&own->pub, places, err);
        if (r < 0) {
                crew_file_free(&own->pub);
                return r;
        }
        *out = &own->pub;
        return 0;
}

int crew_load_placed(const char *file, const struct crew_places *places, struct crew_file **out,
                     struct policy_report *report, struct crew_err *err) {
        _cleanup_free_ char *bytes = NULL;
        struct crew_err why = CREW_ERR_NULL;
        size_t n, before_items = report->n;

        *out = NULL;
        int r = crew_read_file(file, NODE_MAX_BYTES, &bytes, &n, &why);
        if (r == 0)
                return load_bytes((struct crew_draft){.b = {.file = file, .report = report}}, bytes, n, places, out, err);
        policy_report_add(report, false, file, 0, 0, "", "cannot be read: %s",
                          r == -EFBIG    ? "it is larger than 1 MiB"
                          : r == -EINVAL ? "not a regular file"
                                         : strerror(-r));
        return report_refuse(report, before_items, file, err);
}

int crew_load(const char *file, struct crew_file **out, struct policy_report *report, struct crew_err *err) {
        return crew_load_placed(file, NULL, out, report, err);
}

int crew_load_agent_again(const struct crew_file *c, const char *agent, struct crew_file **out,
                          struct policy_report *report, struct crew_err *err) {
        const struct crew_draft d = {.b = {.file = c->path, .report = report}, .in_force = agent ? c : NULL, .only = agent};
        _cleanup_free_ const char **names = calloc(MAX_OF(c->n_agents, (size_t)1), sizeof(*names));

        *out = NULL;
        if (!names)
                return crew_fail(err, ENOMEM, "%s: out of memory", c->path);
        for (size_t i = 0; i < c->n_agents; i++)
                names[i] = c->agents[i].name;
        const struct crew_places places = {names, c->n_agents};
        return load_bytes(d, c->bytes, c->n_bytes, &places, out, err);
}

int crew_load_again(const struct crew_file *c, struct crew_file **out, struct policy_report *report, struct crew_err *err) {
        return crew_load_agent_again(c, NULL, out, report, err);
}

void crew_sources_write(const struct crew_file *c, FILE *f) {
        const struct lock_list *used = &((const struct crew_own *)c)->used;
        char hex[CREW_SHA256_HEX];

        for (size_t i = 0; i < used->n; i++) {
                crew_hex(used->items[i].sha256, CREW_SHA256_BYTES, hex);
                fprintf(f, "%s %s %s\n", lock_kind_names[used->items[i].kind], hex, used->items[i].name);
        }
}
