/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of a role policy, as tables.  What stands here is the whole language of `policies/roles/NAME.yaml`:
 * crew-role(5) describes it row by row.
 */
#include "draft.h"

#include "common/plan.h"
#include "common/util.h"
#include "path.h"

#include <errno.h>
#include <string.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

int draft_add_path(struct bind *b, struct draft *d, const struct policy_path *p) {
        int r = arena_grow(b->arena, &d->paths, d->n_paths, sizeof(*d->paths));

        if (r < 0)
                return r;
        d->paths[d->n_paths++] = *p;
        return 0;
}

static struct policy_mark key_mark(const struct node *v) {
        return v->key ? v->key->mark : v->mark;
}

/* --- filesystem --- */

struct path_item {
        const char *path;
        bool optional;
};
static const struct bind_field path_item_fields[] = {
        {"path", bind_text, offsetof(struct path_item, path), .required = true},
        {"optional", bind_bool, offsetof(struct path_item, optional)},
};
static const struct bind_table path_item_table = {"in a path", path_item_fields, ELEMENTSOF(path_item_fields)};

static int bind_path(struct bind *b, struct draft *d, enum policy_path_kind kind, const struct node *v) {
        struct policy_path p = {.kind = kind};
        struct path_item item = {.path = NULL};
        int r;

        if (v->kind == NODE_MAP) {
                if ((r = bind_map(b, v, &path_item_table, &item)) < 0)
                        return r;
                p.optional = item.optional;
                if (p.optional && kind != POLICY_READ && kind != POLICY_EXEC) {
                        bind_error(b, v, "", "only a path in read or exec can be optional");
                        return 0;
                }
        } else if (bind_is(b, v, NODE_SCALAR, "a path")) {
                item.path = v->text;
        }
        r = item.path ? path_parse(b, v, item.path, &p) : 1;
        return r != 0 ? MIN_OF(r, 0) : draft_add_path(b, d, &p);
}

/* f->min: enum policy_path_kind */
static int bind_paths(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        enum policy_path_kind kind = (enum policy_path_kind)f->min;
        struct draft *d = out;

        if (!bind_is(b, v, NODE_LIST, "a list of paths"))
                return 0;
        d->sections[image_section_of_path(kind)] = key_mark(v);
        for (const struct node *e = v->first; e; e = e->next) {
                int r = bind_path(b, d, kind, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int bind_one_runtime(struct bind *b, struct draft *d, const struct node *v) {
        if (!bind_is(b, v, NODE_SCALAR, "the name of a runtime set or a path"))
                return 0;
        if (strchr(v->text, '/'))
                return bind_path(b, d, POLICY_RUNTIME, v);
        return runtime_add(b, d, v, v->text);
}

static int bind_runtime(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        d->runtime_given = true;
        d->sections[IMAGE_RUNTIME] = key_mark(v);
        if (v->kind == NODE_SCALAR)
                return bind_one_runtime(b, d, v);
        if (!bind_is(b, v, NODE_LIST, "a list of runtime sets"))
                return 0;
        for (const struct node *e = v->first; e; e = e->next) {
                int r = bind_one_runtime(b, d, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const struct bind_field filesystem_fields[] = {
        {"read", bind_paths, .min = POLICY_READ},           {"write", bind_paths, .min = POLICY_WRITE},
        {"exec", bind_paths, .min = POLICY_EXEC},           {"deny", bind_paths, .min = POLICY_DENY},
        {"read_only", bind_paths, .min = POLICY_READ_ONLY}, {"runtime", bind_runtime},
};
static const struct bind_table filesystem_table = {"under filesystem", filesystem_fields, ELEMENTSOF(filesystem_fields)};

/* --- names: tools, targets, degraded features --- */

static int add_name(struct bind *b, struct draft *d, enum policy_list list, const struct node *v) {
        struct draft_list *l = &d->names[list];

        for (size_t i = 0; i < l->n; i++) {
                if (strcmp(l->items[i].name, v->text) == 0) {
                        bind_warning(b, v, "", "'%s' is listed twice (first on line %u)", v->text, l->items[i].mark.line);
                        return 0;
                }
        }
        int r = arena_grow(b->arena, &l->items, l->n, sizeof(*l->items));
        if (r < 0)
                return r;
        l->items[l->n++] = (struct policy_name){.name = v->text, .mark = v->mark};
        return 0;
}

/* False after reporting why v cannot stand in the list. */
static bool name_fits(struct bind *b, enum policy_list list, const struct node *v) {
        bool tool = list == POLICY_TOOLS_ALLOWED || list == POLICY_TOOLS_DENIED;
        char hint[256];

        if (list == POLICY_DEGRADED) {
                for (size_t i = 0; i < PLAN_FEATURE_N; i++)
                        if (strcmp(plan_feature_names[i], v->text) == 0)
                                return true;
                bind_error(b, v, bind_suggest(hint, sizeof(hint), v->text, plan_feature_names, PLAN_FEATURE_N),
                           "'%.80s' is not a protection that can be missing", v->text);
                return false;
        }
        if (tool && strcmp(v->text, "*") == 0) {
                if (list == POLICY_TOOLS_ALLOWED)
                        bind_warning(b, v, "list the tools it needs",
                                     "every tool of a crew is allowed, also those added later");
                return true;
        }
        if (tool ? crew_tool_name_ok(v->text) : crew_name_ok(v->text))
                return true;
        bind_error(b, v, strchr(v->text, '*') ? (tool ? "'*' stands alone, for all tools" : "name each agent") : "",
                   "'%.80s' is not %s name", v->text, tool ? "a tool's" : "an agent's");
        return false;
}

/* f->min: enum policy_list; f->max: enum image_section, IMAGE_SECTION_N for none */
static int bind_name_list(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        if (!bind_is(b, v, NODE_LIST, "a list of names"))
                return 0;
        if (f->max < IMAGE_SECTION_N)
                d->sections[f->max] = key_mark(v);
        for (const struct node *e = v->first; e; e = e->next) {
                if (!bind_is(b, e, NODE_SCALAR, "a name") || !name_fits(b, (enum policy_list)f->min, e))
                        continue;
                int r = add_name(b, d, (enum policy_list)f->min, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const struct bind_field tools_fields[] = {
        {"allowed", bind_name_list, .min = POLICY_TOOLS_ALLOWED, .max = IMAGE_TOOLS_ALLOWED},
        {"denied", bind_name_list, .min = POLICY_TOOLS_DENIED, .max = IMAGE_TOOLS_DENIED},
};
static const struct bind_table tools_table = {"under tools", tools_fields, ELEMENTSOF(tools_fields)};

static int bind_validation(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        static const char *const names[] = {"strict", "relaxed"};
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){names, ELEMENTSOF(names)}};
        uint32_t choice = 0;
        int r = bind_enum(b, v, &of, &choice);

        if (choice == 1)
                bind_warning(b, v, "write strict", "messages are always checked strictly; 'relaxed' changes nothing");
        return r;
}

static const struct bind_field ipc_fields[] = {
        {"allowed_targets", bind_name_list, .min = POLICY_TARGETS, .max = IMAGE_TARGETS},
        {"message_validation", bind_validation},
};
static const struct bind_table ipc_table = {"under ipc", ipc_fields, ELEMENTSOF(ipc_fields)};

/* --- limits, syscalls, audit --- */

#define LIMIT(m) offsetof(struct draft, limits.m)
static const struct bind_field limits_fields[] = {
        {"memory", bind_size_or_none, LIMIT(memory_bytes), .min = 4 * MIB, .max = 1024 * 1024 * MIB},
        {"processes", bind_u32, LIMIT(processes), .min = 2, .max = 32768},
        {"cpu", bind_milli_or_none, LIMIT(cpu_milli), .min = 10, .max = 1024000},
        {"open_files", bind_u32, LIMIT(open_files), .min = 16, .max = 1048576},
        {"tmp", bind_size, LIMIT(tmp_bytes), .min = 64 * 1024, .max = 64 * GIB},
        {"output", bind_size, LIMIT(output_bytes), .min = 4096, .max = 64 * GIB},
        {"wall_time", bind_duration_or_none, LIMIT(wall_ms), .min = 100, .max = 30ull * 24 * 3600 * 1000},
        {"connections", bind_u32, LIMIT(connections), .min = 1, .max = 65535},
        {"half_open", bind_u32, LIMIT(half_open), .min = 1, .max = 65535},
        {"bandwidth", bind_size_or_none, LIMIT(bandwidth), .min = 1024, .max = 1024 * GIB},
        {"dns", bind_u32, LIMIT(dns_per_s), .min = 1, .max = 100000},
        {"messages", bind_u32, LIMIT(messages_per_s), .min = 1, .max = 4096},
};
static const struct bind_table limits_table = {"under limits", limits_fields, ELEMENTSOF(limits_fields)};

static int bind_profile(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        if (!bind_is(b, v, NODE_SCALAR, "the name of a profile"))
                return 0;
        d->profile = v->text;
        return profile_check(b, v, v->text);
}
static const struct bind_field syscalls_fields[] = {{"profile", bind_profile, .required = true}};
static const struct bind_table syscalls_table = {"under syscalls", syscalls_fields, ELEMENTSOF(syscalls_fields)};

static const char *const audit_files_names[] = {
        [POLICY_AUDIT_ALL] = "all", [POLICY_AUDIT_WRITES] = "writes", [POLICY_AUDIT_DENIED] = "denied"};
static const struct bind_names audit_files_enum = {audit_files_names, ELEMENTSOF(audit_files_names)};
static const struct bind_field audit_fields[] = {
        {"files", bind_enum, offsetof(struct draft, audit_files), .arg = &audit_files_enum}};
static const struct bind_table audit_table = {"under audit", audit_fields, ELEMENTSOF(audit_fields)};

/* --- the document --- */

static int bind_mode(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (bind_is(b, v, NODE_SCALAR, "deny-by-default") && strcmp(v->text, "deny-by-default") != 0)
                bind_error(b, v, "write deny-by-default", "mode '%.80s' would not enforce anything", v->text);
        return 0;
}

static int bind_network(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        d->sections[IMAGE_NETWORK] = key_mark(v);
        return bind_map(b, v, &network_table, d);
}

static const struct bind_field sandbox_fields[] = {
        {"mode", bind_mode, .required = true},
        {"filesystem", bind_sub, .arg = &filesystem_table},
        {"network", bind_network},
        {"ipc", bind_sub, .arg = &ipc_table},
        {"tools", bind_sub, .arg = &tools_table},
        {"limits", bind_sub, .arg = &limits_table},
        {"syscalls", bind_sub, .arg = &syscalls_table},
        {"audit", bind_sub, .arg = &audit_table},
        {"allow_degraded", bind_name_list, .min = POLICY_DEGRADED, .max = IMAGE_SECTION_N},
};
static const struct bind_table sandbox_table = {"under sandbox", sandbox_fields, ELEMENTSOF(sandbox_fields)};

static const struct bind_field document_fields[] = {
        {"agent", bind_name, offsetof(struct draft, agent), .required = true},
        {"sandbox", bind_sub, .required = true, .arg = &sandbox_table},
};
static const struct bind_table document_table = {"in a role policy", document_fields, ELEMENTSOF(document_fields)};

int draft_bind(struct bind *b, const struct node *doc, struct draft *d) {
        *d = (struct draft){
                .profile = "default",
                .limits = {.memory_bytes = 512 * MIB,
                           .tmp_bytes = 64 * MIB,
                           .output_bytes = 16 * MIB,
                           .wall_ms = 600000,
                           .processes = 64,
                           .open_files = 256,
                           .connections = 128,
                           .half_open = 128,
                           .dns_per_s = 50,
                           .messages_per_s = 1000},
                .network = {.ask_s = 60},
        };
        int r = bind_map(b, doc, &document_table, d);
        if (r == 0)
                r = network_finish(b, d);
        if (r == 0 && !d->runtime_given)
                r = runtime_add(b, d, doc, "base");
        return r;
}
