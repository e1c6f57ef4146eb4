/* SPDX-License-Identifier: Apache-2.0 */
/* Two crew files as trees of nodes, compared key by key; tables say what a change of each key asks for. */
#include "crew_changes.h"

#include "common/util.h"
#include "node.h"
#include "supervisor/schema/schema.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct compare {
        const struct crew_file *from, *to;
        const struct node *old, *new; /* the documents */
        struct crew_changes *out;
        bool failed; /* out of memory */
};

struct key_row {
        const char *key;
        enum crew_effect effect;
        bool deeper; /* a map whose keys have rows of their own: "health.every" */
        bool exact;  /* quotes count: 5 is not "5" */
};
struct key_table {
        const struct key_row *rows;
        size_t n;
        enum crew_effect otherwise;
};

static const struct key_row agent_rows[] = {
        {"policy", CREW_RELOAD, .deeper = true},
        {"role", CREW_RELOAD},
        {"goal", CREW_RELOAD},
        {"backstory", CREW_RELOAD},
        {"restart", CREW_RELOAD, .deeper = true},
        {"on_agent_terminated", CREW_RELOAD},
        {"tools", CREW_RELOAD},
        {"max_instances", CREW_WHOLE}, /* each of them has its place from the start */
        {"health", CREW_RESTART, .deeper = true},
        {"health.every", CREW_RELOAD},
        {"health.timeout", CREW_RELOAD},
        {"health.failures", CREW_RELOAD},
        {"max_instances", CREW_WHOLE},
};
static const struct key_table agent_keys = {agent_rows, ELEMENTSOF(agent_rows), CREW_RESTART};

/* Time and size of a tool are kept by the jail. */
static const struct key_row tool_rows[] = {
        {"description", CREW_RELOAD}, {"input", CREW_RELOAD},      {"output", CREW_RELOAD},
        {"audit", CREW_RELOAD},       {"idempotent", CREW_RELOAD},
};
static const struct key_table tool_keys = {tool_rows, ELEMENTSOF(tool_rows), CREW_RESTART};

static const struct key_row task_rows[] = {{"input", CREW_RELOAD, .exact = true}};
static const struct key_table task_keys = {task_rows, ELEMENTSOF(task_rows), CREW_RELOAD};

static const struct key_row crew_rows[] = {
        {"policies", CREW_RELOAD},
        {"approvals", CREW_RELOAD},
};
static const struct key_table crew_keys = {crew_rows, ELEMENTSOF(crew_rows), CREW_WHOLE};

static const struct key_row *row_of(const struct key_table *t, const char *key) {
        for (size_t i = 0; i < t->n; i++) {
                if (strcmp(t->rows[i].key, key) == 0)
                        return &t->rows[i];
        }
        return NULL;
}

/* --- nodes --- */

static bool same(const struct node *a, const struct node *b, bool exact);

static bool same_entries(const struct node *a, const struct node *b, bool exact) {
        const struct node *y = b->first;

        for (const struct node *x = a->first; x; x = x->next) {
                const struct node *other = a->kind == NODE_MAP ? node_get(b, x->key->text) : y;
                if (!other || !same(x, other, exact))
                        return false;
                y = y ? y->next : NULL;
        }
        return true;
}

static bool same(const struct node *a, const struct node *b, bool exact) {
        if (a->kind != b->kind || a->n != b->n)
                return false;
        if (a->kind != NODE_SCALAR)
                return same_entries(a, b, exact);
        return strcmp(a->text, b->text) == 0 && node_is_null(a) == node_is_null(b) && (!exact || a->plain == b->plain);
}

struct words {
        char text[CREW_CHANGE_DETAIL / 2];
        size_t n;
};

static void put(struct words *w, const char *s) {
        size_t room = sizeof(w->text) - 4, n = strlen(s);

        if (w->n >= room)
                return;
        n = MIN_OF(n, room - w->n);
        while (n > 0 && n < strlen(s) && ((unsigned char)s[n] & 0xc0) == 0x80)
                n--; /* not within a character */
        memcpy(w->text + w->n, s, n);
        w->n += n;
        if (n < strlen(s)) {
                memcpy(w->text + w->n, "...", 3);
                w->n = sizeof(w->text) - 1;
        }
}

static void say(struct words *w, const struct node *n, bool exact) {
        const char *quote = n->kind == NODE_SCALAR && exact && !n->plain ? "\"" : "";

        if (n->kind == NODE_SCALAR) {
                put(w, quote);
                put(w, n->text);
                return put(w, quote);
        }
        put(w, n->kind == NODE_MAP ? "{" : "[");
        for (const struct node *e = n->first; e; e = e->next) {
                put(w, e == n->first ? "" : ", ");
                if (n->kind == NODE_MAP) {
                        put(w, e->key->text);
                        put(w, ": ");
                }
                say(w, e, exact);
        }
        put(w, n->kind == NODE_MAP ? "}" : "]");
}

/* --- what is found --- */

static void add(struct compare *c, const char *agent, enum crew_effect effect, const char *key, const char *detail) {
        struct crew_changes *out = c->out;
        const char *k = arena_strndup(&out->arena, key, strlen(key));
        const char *d = arena_strndup(&out->arena, detail, strlen(detail));

        if (c->failed || !k || !d || arena_grow(&out->arena, &out->items, out->n, sizeof(*out->items)) < 0) {
                c->failed = true;
                return;
        }
        out->items[out->n++] = (struct crew_change){.agent = agent, .key = k, .detail = d, .effect = effect};
}

/* Where a change goes to: one agent, the crew, or whoever may use a tool or an endpoint. */
typedef void (*found_fn)(struct compare *c, const void *whom, enum crew_effect effect, const char *key, const char *detail);

static void found_by_agent(struct compare *c, const void *whom, enum crew_effect effect, const char *key,
                           const char *detail) {
        add(c, whom, effect, key, detail);
}

static void report(struct compare *c, const struct node *a, const struct node *b, bool exact, enum crew_effect effect,
                   const char *key, found_fn found, const void *whom) {
        struct words was = {.n = 0}, is = {.n = 0};
        char detail[CREW_CHANGE_DETAIL + 8];

        if (a)
                say(&was, a, exact);
        if (b)
                say(&is, b, exact);
        was.text[was.n] = is.text[is.n] = '\0';
        if (a && b)
                snprintf(detail, sizeof(detail), "%s -> %s", was.text, is.text);
        else
                snprintf(detail, sizeof(detail), "%s%s", a ? "- " : "+ ", a ? was.text : is.text);
        found(c, whom, effect, key, detail);
}

static void compare_map(struct compare *c, const struct node *a, const struct node *b, const char *at, const char *within,
                        const struct key_table *t, found_fn found, const void *whom);

/* at: as it is reported; within: as the table has it. */
static void compare_key(struct compare *c, const struct node *a, const struct node *b, const char *key, const char *at,
                        const char *within, const struct key_table *t, found_fn found, const void *whom) {
        char shown[320], listed[160];

        snprintf(shown, sizeof(shown), "%.150s%s%.150s", at, *at ? "." : "", key);
        snprintf(listed, sizeof(listed), "%.70s%s%.70s", within, *within ? "." : "", key);
        const struct key_row *row = row_of(t, listed), *parent = row_of(t, within);
        if (a && b && same(a, b, row && row->exact))
                return;
        if (a && b && row && row->deeper && a->kind == NODE_MAP && b->kind == NODE_MAP)
                return compare_map(c, a, b, shown, listed, t, found, whom);
        report(c, a, b, row && row->exact, row ? row->effect : parent ? parent->effect : t->otherwise, shown, found, whom);
}

static void compare_map(struct compare *c, const struct node *a, const struct node *b, const char *at, const char *within,
                        const struct key_table *t, found_fn found, const void *whom) {
        for (const struct node *e = a->first; e; e = e->next)
                compare_key(c, e, node_get(b, e->key->text), e->key->text, at, within, t, found, whom);
        for (const struct node *e = b->first; e; e = e->next) {
                if (!node_get(a, e->key->text))
                        compare_key(c, NULL, e, e->key->text, at, within, t, found, whom);
        }
}

/* --- agents --- */

static const struct node *entry(const struct node *doc, const char *section, const char *name) {
        const struct node *map = node_get(doc, section);

        return map && map->kind == NODE_MAP ? node_get(map, name) : NULL;
}

/* A process where there was only a policy, or the other way round: what crewd has made for the one does not fit the other.
 */
static void compare_kind(struct compare *c, const char *name) {
        bool was = crew_find_agent(c->from, name)->orchestrator, is = crew_find_agent(c->to, name)->orchestrator;
        char key[100];

        snprintf(key, sizeof(key), "agents.%.80s", name);
        if (was != is)
                add(c, NULL, CREW_WHOLE, key, was ? "gets a process" : "has no process any more");
}

static void compare_agents(struct compare *c) {
        for (size_t i = 0; i < c->from->n_agents; i++) {
                const char *name = c->from->agents[i].name;
                const struct node *a = entry(c->old, "agents", name), *b = entry(c->new, "agents", name);
                if (c->from->agents[i].absent || c->from->agents[i].instance)
                        continue;
                if (!crew_find_agent(c->to, name))
                        add(c, name, CREW_STOP, "", "no longer in the crew file");
                else
                        compare_kind(c, name);
                if (a && b)
                        compare_map(c, a, b, "", "", &agent_keys, found_by_agent, name);
        }
        for (size_t i = 0; i < c->to->n_agents; i++) {
                const struct crew_agent *a = &c->to->agents[i];
                if (a->absent || a->instance || crew_find_agent(c->from, a->name))
                        continue;
                add(c, a->name, CREW_START, "", "new in the crew file");
                if (a->max_instances > 1)
                        add(c, a->name, CREW_WHOLE, "max_instances", "of an agent that is new");
        }
}

/* --- tools --- */

static bool may(const struct crew_file *c, const char *agent, enum policy_verb verb, const char *what) {
        const struct crew_agent *a = crew_find_agent(c, agent);

        if (!a || a->orchestrator)
                return false;
        struct policy_verdict v = policy_decide(a->policy, verb, what);
        return v.allowed || v.asks;
}

/* For each agent that stays and may do that with what, before or after, if only when the operator is asked; for the crew
 * when there is none. */
static void found_by_use(struct compare *c, enum policy_verb verb, const char *what, enum crew_effect effect,
                         const char *key, const char *detail) {
        bool any = false;

        for (size_t i = 0; i < c->from->n_agents; i++) {
                const char *name = c->from->agents[i].name;
                if (c->from->agents[i].absent || c->from->agents[i].instance || !crew_find_agent(c->to, name) ||
                    (!may(c->from, name, verb, what) && !may(c->to, name, verb, what)))
                        continue;
                add(c, name, effect, key, detail);
                any = true;
        }
        if (!any)
                add(c, NULL, CREW_RELOAD, key, detail);
}

static void found_by_tool(struct compare *c, const void *whom, enum crew_effect effect, const char *key,
                          const char *detail) {
        found_by_use(c, POLICY_DO_TOOL, whom, effect, key, detail);
}

static bool schema_changed(const struct crew_schema *a, const struct crew_schema *b) {
        return a && b && strcmp(schema_text(a), schema_text(b)) != 0;
}

/* The file is the same one, with another text. */
static void compare_schema(struct compare *c, const struct crew_schema *a, const struct crew_schema *b,
                           const struct node *x, const struct node *y, const char *at, const char *key, found_fn found,
                           const void *whom) {
        const struct node *was = node_get(x, key), *is = node_get(y, key);
        char shown[200];

        if (!was || !is || !same(was, is, false) || !schema_changed(a, b))
                return;
        snprintf(shown, sizeof(shown), "%.150s.%s", at, key);
        found(c, whom, CREW_RELOAD, shown, "the schema has changed");
}

static void compare_tool(struct compare *c, const char *name) {
        const struct node *a = entry(c->old, "tools", name), *b = entry(c->new, "tools", name);
        const struct crew_tool *x = crew_find_tool(c->from, name), *y = crew_find_tool(c->to, name);
        char at[160];

        snprintf(at, sizeof(at), "tools.%.140s", name);
        if (!a || !b)
                return report(c, a, b, false, CREW_RESTART, at, found_by_tool, name);
        compare_map(c, a, b, at, "", &tool_keys, found_by_tool, name);
        if (!x || !y)
                return;
        compare_schema(c, x->input, y->input, a, b, at, "input", found_by_tool, name);
        compare_schema(c, x->output, y->output, a, b, at, "output", found_by_tool, name);
}

static void compare_tools(struct compare *c) {
        for (size_t i = 0; i < c->from->n_tools; i++)
                compare_tool(c, c->from->tools[i].name);
        for (size_t i = 0; i < c->to->n_tools; i++) {
                if (!crew_find_tool(c->from, c->to->tools[i].name))
                        compare_tool(c, c->to->tools[i].name);
        }
}

/* --- tasks --- */

static const struct crew_task *find_task(const struct crew_file *c, const char *name) {
        for (size_t i = 0; i < c->n_tasks; i++) {
                if (strcmp(c->tasks[i].name, name) == 0)
                        return &c->tasks[i];
        }
        return NULL;
}

static void compare_task(struct compare *c, const char *name) {
        const struct node *a = entry(c->old, "tasks", name), *b = entry(c->new, "tasks", name);
        const struct crew_task *x = find_task(c->from, name), *y = find_task(c->to, name);
        char at[160];

        snprintf(at, sizeof(at), "tasks.%.140s", name);
        if (!a || !b)
                return report(c, a, b, false, CREW_RELOAD, at, found_by_agent, NULL);
        compare_map(c, a, b, at, "", &task_keys, found_by_agent, NULL);
        if (x && y)
                compare_schema(c, x->output, y->output, a, b, at, "output", found_by_agent, NULL);
}

static void compare_tasks(struct compare *c) {
        for (size_t i = 0; i < c->from->n_tasks; i++)
                compare_task(c, c->from->tasks[i].name);
        for (size_t i = 0; i < c->to->n_tasks; i++) {
                if (!find_task(c->from, c->to->tasks[i].name))
                        compare_task(c, c->to->tasks[i].name);
        }
}

/* --- the rest --- */

static void found_by_endpoint(struct compare *c, const void *whom, enum crew_effect effect, const char *key,
                              const char *detail) {
        found_by_use(c, POLICY_DO_CONNECT, whom, effect, key, detail);
}

static void compare_endpoint(struct compare *c, const struct node *a, const struct node *b, const char *name) {
        char at[160];

        snprintf(at, sizeof(at), "endpoints.%.140s", name);
        if (!a || !b || !same(a, b, false))
                report(c, a, b, false, CREW_RELOAD, at, found_by_endpoint, name);
}

static void compare_endpoints(struct compare *c) {
        static const struct node none = {.kind = NODE_MAP};
        const struct node *a = node_get(c->old, "endpoints"), *b = node_get(c->new, "endpoints");

        a = a ? a : &none;
        b = b ? b : &none;
        for (const struct node *e = a->first; e; e = e->next)
                compare_endpoint(c, e, node_get(b, e->key->text), e->key->text);
        for (const struct node *e = b->first; e; e = e->next) {
                if (!node_get(a, e->key->text))
                        compare_endpoint(c, NULL, e, e->key->text);
        }
}

static bool is_elsewhere(const char *key) {
        static const char *const keys[] = {"agents", "tools", "tasks", "endpoints"};

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                if (strcmp(keys[i], key) == 0)
                        return true;
        }
        return false;
}

static void compare_crew(struct compare *c) {
        if (!c->old || !c->new)
                return add(c, NULL, CREW_WHOLE, "", "cannot be compared");
        for (const struct node *e = c->old->first; e; e = e->next) {
                if (!is_elsewhere(e->key->text))
                        compare_key(c, e, node_get(c->new, e->key->text), e->key->text, "", "", &crew_keys, found_by_agent,
                                    NULL);
        }
        for (const struct node *e = c->new->first; e; e = e->next) {
                if (!is_elsewhere(e->key->text) && !node_get(c->old, e->key->text))
                        compare_key(c, NULL, e, e->key->text, "", "", &crew_keys, found_by_agent, NULL);
        }
        if (strcmp(c->from->dir, c->to->dir) != 0) {
                char detail[CREW_CHANGE_DETAIL];
                snprintf(detail, sizeof(detail), "%.180s -> %.180s", c->from->dir, c->to->dir);
                add(c, NULL, CREW_WHOLE, "${CREW_DIR}", detail);
        }
}

/* Votes are counted by a roll, and for tasks, that are made when the crew starts. */
static void settle_votes(struct compare *c) {
        bool agents = false;

        if (c->from->process != CREW_CONSENSUAL)
                return;
        for (size_t i = 0; i < c->out->n; i++) {
                struct crew_change *x = &c->out->items[i];
                agents = agents || x->effect == CREW_START || x->effect == CREW_STOP;
                if (!x->agent && strncmp(x->key, "tasks.", 6) == 0)
                        x->effect = CREW_WHOLE;
        }
        if (agents)
                add(c, NULL, CREW_WHOLE, "agents", "who votes in a consensual crew is settled when it starts");
}

static int parse(const struct crew_file *file, struct crew_changes *out, const struct node **doc, struct crew_err *err) {
        struct policy_report report = {0};
        struct node *docs = NULL;
        int r = node_parse(file->path, file->bytes, file->n_bytes, &out->arena, &docs, &report, err);

        policy_report_fini(&report);
        if (r == 0 && (!docs || docs->kind != NODE_MAP))
                r = crew_fail(err, EINVAL, "%s: not a crew file", file->path);
        *doc = docs;
        return r;
}

int crew_changes_make(const struct crew_file *from, const struct crew_file *to, struct crew_changes *out,
                      struct crew_err *err) {
        struct compare c = {.from = from, .to = to, .out = out};
        int r = parse(from, out, &c.old, err);

        if (r == 0)
                r = parse(to, out, &c.new, err);
        if (r < 0)
                return r;
        compare_agents(&c);
        compare_tools(&c);
        compare_tasks(&c);
        compare_endpoints(&c);
        compare_crew(&c);
        settle_votes(&c);
        return c.failed ? crew_fail(err, ENOMEM, "out of memory") : 0;
}

void crew_changes_fini(struct crew_changes *c) {
        arena_fini(&c->arena);
        *c = (struct crew_changes){0};
}
