/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presets: small files that each list the endpoints one service needs, in presets/ of the operator's configuration, then
 * of the installation's policies/.  Read with the strictness of a policy; what they add is part of the policy's image and
 * so of its hash.
 */
#include "draft.h"

#include "common/util.h"
#include "data_file.h"
#include "load.h"
#include "lock.h"
#include "path.h"

#include <errno.h>
#include <string.h>

struct preset { /* one being read */
        const char *name, *description;
        const struct node *endpoints;
};

static int bind_preset_name(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        const struct preset *s = out;

        if (bind_is(b, v, NODE_SCALAR, "a name") && strcmp(v->text, s->name) != 0)
                bind_error(b, v, "", "preset '%.60s' in the file of '%s'", v->text, s->name);
        return 0;
}

static int bind_preset_endpoints(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (v->kind == NODE_LIST && v->n == 0)
                bind_error(b, v, "", "a preset without an endpoint");
        ((struct preset *)out)->endpoints = v;
        return 0;
}

static const struct bind_field preset_fields[] = {
        {"preset", bind_preset_name, .required = true},
        {"description", bind_text, offsetof(struct preset, description), .required = true},
        {"endpoints", bind_preset_endpoints, .required = true},
};
static const struct bind_table preset_table = {"in a preset", preset_fields, ELEMENTSOF(preset_fields)};

/* 0 also when problems were reported: s->endpoints is NULL when there is no list. */
static int read_preset(struct bind *in, struct preset *s, const struct node *at, struct bind *policy) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *bytes = NULL;
        struct node *doc;
        size_t n;
        int r = crew_read_file(in->file, NODE_MAX_BYTES, &bytes, &n, &err);

        if (r < 0) {
                bind_error(policy, at, "", "preset '%s': %s", s->name, err.msg);
                return 0;
        }
        if ((r = lock_note(in->used, LOCK_PRESET, s->name, in->file, bytes, n)) < 0)
                return r;
        r = node_parse(in->file, bytes, n, in->arena, &doc, in->report, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        if (!doc || doc->next) {
                policy_report_add(in->report, false, in->file, 0, 0, "", "a preset's file holds one document");
                return 0;
        }
        return bind_map(in, doc, &preset_table, s);
}

static int add_preset(struct bind *b, struct draft *d, const struct node *at, const char *name, const char **description,
                      const char **file) {
        struct bind in = *b;
        struct preset s = {.name = name};
        char path[PATH_MAX], shown[PATH_MAX];

        if (!data_file(&data_presets, name, path)) {
                data_unknown(b, at, &data_presets, name);
                return 0;
        }
        if (!path_normalise(path, shown, sizeof(shown))) /* a relative build directory stays as it is */
                strcpy(shown, path);
        in.file = *file = arena_strndup(b->arena, shown, strlen(shown));
        if (!in.file)
                return -ENOMEM;
        in.crew_dir = NULL;
        int r = read_preset(&in, &s, at, b);
        *description = s.description;
        return r < 0 || !s.endpoints ? r : endpoints_bind(&in, s.endpoints, d, &(struct preset_ref){name, at->mark});
}

int preset_add(struct bind *b, struct draft *d, const struct node *at, const char *name) {
        const char *description, *file;

        return add_preset(b, d, at, name, &description, &file);
}

size_t policy_preset_names(char names[][64], size_t room) {
        const char *found[DATA_NAMES_MAX];
        struct arena arena = {0};
        size_t n = MIN_OF(data_names(&arena, &data_presets, found), room);

        for (size_t i = 0; i < n; i++)
                snprintf(names[i], sizeof(names[i]), "%s", found[i]);
        arena_fini(&arena);
        return n;
}

int policy_preset_load(const char *name, struct policy_image **out, char *description, size_t size,
                       struct policy_report *report, struct crew_err *err) {
        struct arena arena = {0};
        struct bind b = {.file = "", .arena = &arena, .report = report};
        struct draft d = {.agent = name, .profile = "default"};
        const struct node at = {.kind = NODE_SCALAR, .text = name};
        const char *text = NULL, *file = "";
        size_t before = report->errors, before_items = report->n;

        *out = NULL;
        int r = add_preset(&b, &d, &at, name, &text, &file);
        if (r < 0)
                r = crew_fail(err, -r, "preset '%s': out of memory", name);
        else if (report->errors != before)
                r = report_refuse(report, before_items, name, err);
        else
                r = image_make(&d, file, NULL, out, err);
        snprintf(description, size, "%s", text ? text : "");
        arena_fini(&arena);
        return r;
}
