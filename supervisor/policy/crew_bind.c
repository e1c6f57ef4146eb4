/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a crew file, as tables; crew-file(5) describes them row by row. */
#include "crew_draft.h"

#include "common/plan.h"
#include "common/util.h"
#include "common/verbs.h"
#include "json_text.h"
#include "path.h"
#include "supervisor/schema/schema.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define DAY_MS (24ull * 3600 * 1000)
#define WORDS_MAX 256u

const char *const crew_process_names[CREW_PROCESS_N] = {
        [CREW_SEQUENTIAL] = "sequential", [CREW_HIERARCHICAL] = "hierarchical", [CREW_CONSENSUAL] = "consensual"};

const char *const crew_approvals_names[CREW_APPROVALS_N] = {
        [CREW_APPROVALS_ATTACHED] = "attached", [CREW_APPROVALS_OPERATOR] = "operator"};

int crew_path(struct bind *b, const struct node *at, const char *text, const char **out) {
        char norm[PATH_MAX];
        const char *full;
        int r = bind_expand(b, at, text, &full);

        if (r != 0)
                return r;
        if (full[0] != '/')
                full = arena_printf(b->arena, "%s/%s", b->crew_dir, full);
        if (!full)
                return -ENOMEM;
        if (!*text || !path_normalise(full, norm, sizeof(norm))) {
                bind_error(b, at, "", "not a path: '%.200s'", text);
                return 1;
        }
        /* "a/../b" means something else when a is a symbolic link: then the path stays as it was written */
        struct stat lexical, real;
        if (stat(norm, &lexical) < 0 || stat(full, &real) < 0 || lexical.st_ino != real.st_ino ||
            lexical.st_dev != real.st_dev)
                *out = strstr(full, "..") ? full : arena_strndup(b->arena, norm, strlen(norm));
        else
                *out = arena_strndup(b->arena, norm, strlen(norm));
        return *out ? 0 : -ENOMEM;
}

/* --- commands --- */

struct command {
        const char **words;
        size_t n;
};

static int bind_words(struct bind *b, const struct node *v, struct command *out) {
        if (!bind_is(b, v, NODE_LIST, "a list: the program and its arguments"))
                return 0;
        if (v->n == 0 || v->n > WORDS_MAX) {
                bind_error(b, v, "", "'command': expected 1 to %u words, got %zu", WORDS_MAX, v->n);
                return 0;
        }
        const char **words = arena_alloc(b->arena, (v->n + 1) * sizeof(*words));
        size_t n = 0;
        if (!words)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next) {
                if (e->kind != NODE_SCALAR || (e->plain && node_is_null(e))) {
                        bind_is(b, e, NODE_SCALAR, "a word of the command");
                        return 0;
                }
                int r = bind_expand(b, e, e->text, &words[n]);
                if (r != 0)
                        return MIN_OF(r, 0);
                n++;
        }
        if (!*words[0]) {
                bind_error(b, v->first, "", "'command': the program is empty");
                return 0;
        }
        if (strchr(words[0], '/') && words[0][0] != '/') {
                bind_error(b, v->first, "start it with ${CREW_DIR}/", "'command': '%.200s' is a relative path", words[0]);
                return 0;
        }
        *out = (struct command){words, n};
        return 0;
}

bool crew_own_file(const struct crew_file *c, const char *word, char *out) {
        struct stat st;

        return path_normalise(word, out, PATH_MAX) && path_within(c->dir, out) && stat(out, &st) == 0 &&
               S_ISREG(st.st_mode);
}

/* The program of a command that names a file must be there and be executable. */
static void check_program(struct bind *b, const struct node *command, const char *program) {
        struct stat st;

        if (!command || !program || program[0] != '/')
                return;
        if (stat(program, &st) < 0)
                bind_error(b, command->first, "", "'command': %.300s: %s", program, strerror(errno));
        else if (!S_ISREG(st.st_mode))
                bind_error(b, command->first, "", "'command': %.300s is not a regular file", program);
        else if (!(st.st_mode & 0111))
                bind_error(b, command->first, "chmod +x it, or put its interpreter in front",
                           "'command': %.300s is not executable", program);
}

/* Arguments that name files of the crew which are not there are most likely typos. */
static void check_words(struct bind *b, const struct node *command, const char *const *words, size_t n) {
        const struct node *e = command ? command->first : NULL;

        for (size_t i = 0; e && i < n; i++, e = e->next)
                if (i > 0 && b->crew_dir && words[i][0] == '/' && path_within(b->crew_dir, words[i]) &&
                    access(words[i], F_OK) < 0)
                        bind_warning(b, e, "", "%.300s does not exist", words[i]);
}

int crew_bind_command(struct bind *b, const struct node *v, const struct node **at, const char ***words, size_t *n) {
        struct command cmd = {NULL};
        int r = bind_words(b, v, &cmd);

        if (r < 0 || !cmd.words)
                return r;
        *at = v;
        *words = cmd.words;
        *n = cmd.n;
        check_program(b, v, cmd.words[0]);
        check_words(b, v, cmd.words, cmd.n);
        return 0;
}

/* --- files --- */

static int bind_schema(struct bind *b, const struct node *v, struct crew_schema **schema, const char **file) {
        struct crew_err err = CREW_ERR_NULL;

        if (!bind_is(b, v, NODE_SCALAR, "the path of a JSON Schema"))
                return 0;
        int r = crew_path(b, v, v->text, file);
        if (r != 0)
                return MIN_OF(r, 0);
        _cleanup_free_ char *json = NULL;
        size_t n = 0;
        r = crew_read_file(*file, SCHEMA_MAX_BYTES, &json, &n, &err);
        if (r == 0)
                r = lock_note(b->used, LOCK_SCHEMA, NULL, *file, json, n);
        if (r == 0)
                r = schema_compile(*file, json, n, schema, &err);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                bind_error(b, v, "", "'%s': %s", v->key->text, err.msg);
        return 0;
}

/* --- tools --- */

struct tool_out { /* one tool being bound */
        struct crew_tool *t;
        struct tool_draft *d;
};

static int tool_command(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct tool_out *o = out;
        return crew_bind_command(b, v, &o->d->command, &o->t->command, &o->t->n_command);
}
static int tool_input(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct tool_out *o = out;
        return bind_schema(b, v, &o->t->input, &o->t->input_file);
}
static int tool_output(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct tool_out *o = out;
        return bind_schema(b, v, &o->t->output, &o->t->output_file);
}
static int tool_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_text(b, v, f, &((struct tool_out *)out)->t->description);
}
static int tool_timeout(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_duration(b, v, f, &((struct tool_out *)out)->t->timeout_ms);
}
static int tool_max_output(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_size(b, v, f, &((struct tool_out *)out)->t->max_output);
}
static int tool_idempotent(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_bool(b, v, f, &((struct tool_out *)out)->t->idempotent);
}
static int tool_audit(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        static const char *const names[] = {"digest", "full"};
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){names, ELEMENTSOF(names)}};
        uint32_t choice = 0;
        int r = bind_enum(b, v, &of, &choice);

        ((struct tool_out *)out)->t->audit_full = choice == 1;
        return r;
}

static const struct bind_field tool_fields[] = {
        {"description", tool_text},
        {"command", tool_command, .required = true},
        {"input", tool_input},
        {"output", tool_output},
        {"timeout", tool_timeout, .min = 10, .max = DAY_MS},
        {"max_output", tool_max_output, .min = 1024, .max = 4u << 20},
        {"audit", tool_audit},
        {"idempotent", tool_idempotent},
};
static const struct bind_table tool_table = {"in a tool", tool_fields, ELEMENTSOF(tool_fields)};

/* --- agents --- */

struct agent_out {
        struct crew_agent *a;
        struct agent_draft *d;
};

struct policy_ref {
        const char *file, *agent;
};
static const struct bind_field policy_ref_fields[] = {
        {"file", bind_text, offsetof(struct policy_ref, file), .required = true},
        {"agent", bind_name, offsetof(struct policy_ref, agent), .required = true},
};
static const struct bind_table policy_ref_table = {"in policy", policy_ref_fields, ELEMENTSOF(policy_ref_fields)};

static int agent_policy(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_draft *d = ((struct agent_out *)out)->d;
        struct policy_ref ref = {NULL};
        int r = 0;

        d->policy = v;
        if (v->kind == NODE_MAP)
                r = bind_map(b, v, &policy_ref_table, &ref);
        else
                r = bind_text(b, v, f, &ref.file);
        d->policy_name = ref.file;
        d->policy_agent = ref.agent;
        return r;
}
static int agent_command(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        o->d->command = v;
        return crew_bind_command(b, v, &o->d->command, &o->a->command, &o->a->n_command);
}
static int agent_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_text(b, v, f, (char *)((struct agent_out *)out)->a + f->min);
}
static int agent_driver(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        static const char *const names[] = {"exec-json", "stdio-rpc"};
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){names, ELEMENTSOF(names)}};
        struct agent_out *o = out;
        uint32_t choice = 0;
        int r = bind_enum(b, v, &of, &choice);

        static_assert(PLAN_DRIVER_EXEC_JSON == 1 && PLAN_DRIVER_STDIO_RPC == 2, "order of the names");
        o->d->driver = v;
        o->a->driver = PLAN_DRIVER_EXEC_JSON + choice;
        return r;
}

static int agent_restart(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        return crew_bind_restart(b, v, o->a, o->d);
}
static int agent_on_terminated(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        return crew_bind_on_terminated(b, v, f, o->a, o->d);
}
static int health_command(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        return crew_bind_command(b, v, &o->d->health_command, &o->a->health.command, &o->a->health.n_command);
}
static int health_heartbeat(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        bool yes = false;
        int r = bind_bool(b, v, f, &yes);

        if (yes)
                ((struct agent_out *)out)->a->health.kind = CREW_HEALTH_HEARTBEAT;
        return r;
}
static int health_every(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_duration(b, v, f, &((struct agent_out *)out)->a->health.every_ms);
}
static int health_timeout(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_duration(b, v, f, &((struct agent_out *)out)->a->health.timeout_ms);
}
static int health_failures(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_u32(b, v, f, &((struct agent_out *)out)->a->health.failures);
}

static const struct bind_field health_fields[] = {
        {"command", health_command},
        {"heartbeat", health_heartbeat},
        {"every", health_every, .min = 100, .max = DAY_MS},
        {"timeout", health_timeout, .min = 10, .max = DAY_MS},
        {"failures", health_failures, .min = 1, .max = 1000},
};
static const struct bind_table health_table = {"under health", health_fields, ELEMENTSOF(health_fields)};

static int agent_health(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        struct crew_health *h = &o->a->health;
        size_t before = b->report->errors;

        *h = (struct crew_health){.every_ms = 30000, .timeout_ms = 10000, .failures = 3, .mark = v->key->mark};
        o->d->health = v;
        int r = bind_map(b, v, &health_table, out);
        if (r < 0 || b->report->errors != before)
                return r;
        if (!o->d->health_command == (h->kind == CREW_HEALTH_NONE))
                bind_error(b, v->key, "command: [PROGRAM, ...] runs in the agent's jail; heartbeat: true asks its program",
                           "'health' needs either 'command' or 'heartbeat: true'");
        else if (h->kind == CREW_HEALTH_NONE)
                h->kind = CREW_HEALTH_COMMAND;
        return r;
}

/* What only makes sense with a program, or with one that lives long enough to be asked. */
static void check_driver(struct bind *b, const struct agent_out *o) {
        if (o->a->orchestrator && o->d->driver)
                bind_error(b, o->d->driver->key, "", "'driver' without 'command': agent '%s' has no program", o->a->name);
        if (o->a->orchestrator && o->d->health)
                bind_error(b, o->d->health->key, "", "'health' without 'command': agent '%s' has no program", o->a->name);
        else if (o->d->health && o->a->health.kind == CREW_HEALTH_HEARTBEAT && o->a->driver != PLAN_DRIVER_STDIO_RPC)
                bind_error(b, o->d->health->key, "use command: [...], or driver: stdio-rpc",
                           "'heartbeat' asks the program of agent '%s', which runs only while it has a task (exec-json)",
                           o->a->name);
}

static int agent_tools(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (bind_is(b, v, NODE_LIST, "a list of tool names"))
                ((struct agent_out *)out)->d->tools = v;
        return 0;
}

static int agent_state(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;
        return crew_bind_state(b, v, f, o->a, o->d);
}

static int agent_state_max(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;

        o->d->state = v;
        return bind_size(b, v, f, &o->a->state_max);
}

static int agent_instances(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct agent_out *o = out;

        o->d->instances = v;
        o->a->max_instances_mark = v->key->mark;
        return bind_u32(b, v, f, &o->a->max_instances);
}

static const struct bind_field agent_fields[] = {
        {"policy", agent_policy, .required = true},
        {"role", agent_text, .min = offsetof(struct crew_agent, role)},
        {"goal", agent_text, .min = offsetof(struct crew_agent, goal)},
        {"backstory", agent_text, .min = offsetof(struct crew_agent, backstory)},
        {"command", agent_command},
        {"driver", agent_driver},
        {"restart", agent_restart},
        {"health", agent_health},
        {"on_agent_terminated", agent_on_terminated},
        {"tools", agent_tools},
        {"state", agent_state},
        {"state_max", agent_state_max, .min = 4096, .max = 1ull << 50},
        {"max_instances", agent_instances, .min = 1, .max = CREW_INSTANCES_MAX},
};
static const struct bind_table agent_table = {"in an agent", agent_fields, ELEMENTSOF(agent_fields)};

/* --- tasks --- */

struct task_out {
        struct crew_task *t;
        struct task_draft *d;
};

static int task_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_text(b, v, f, (char *)((struct task_out *)out)->t + f->min);
}
static int task_agent(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct task_out *o = out;
        o->d->agent = v;
        return bind_text(b, v, f, &o->t->agent);
}
static int task_context(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (bind_is(b, v, NODE_LIST, "a list of task names"))
                ((struct task_out *)out)->d->context = v;
        return 0;
}
static int task_output(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct task_out *o = out;
        return bind_schema(b, v, &o->t->output, &o->t->output_file);
}
static int task_input(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return MIN_OF(node_to_json(b, v, &((struct task_out *)out)->t->input_json), 0);
}
static int task_timeout(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct task_out *o = out;
        o->d->timeout = v;
        return bind_duration(b, v, f, &o->t->timeout_ms);
}

static int task_retries(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_u32(b, v, f, &((struct task_out *)out)->t->retries);
}

static const struct bind_field task_fields[] = {
        {"agent", task_agent, .required = true},
        {"description", task_text, .min = offsetof(struct crew_task, description)},
        {"expected_output", task_text, .min = offsetof(struct crew_task, expected_output)},
        {"context", task_context},
        {"input", task_input},
        {"output", task_output},
        {"timeout", task_timeout, .min = 10, .max = 30 * DAY_MS},
        {"retries", task_retries, .min = 0, .max = 10},
};
static const struct bind_table task_table = {"in a task", task_fields, ELEMENTSOF(task_fields)};

/* --- the three maps of named things --- */

static bool name_fits(struct bind *b, const struct node *e, const char *what, bool tool) {
        if (tool ? crew_tool_name_ok(e->key->text) : crew_name_ok(e->key->text))
                return true;
        bind_error(b, e->key, tool ? "1 to 63 characters of a-z 0-9 - _" : "1 to 63 characters of a-z 0-9 -",
                   "'%.80s' is not a name for %s", e->key->text, what);
        return false;
}

static int bind_tools(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct crew_file *c = d->c;

        if (!bind_is(b, v, NODE_MAP, "a map of tools"))
                return 0;
        c->tools = arena_alloc(b->arena, v->n * sizeof(*c->tools));
        d->tools = arena_alloc(b->arena, v->n * sizeof(*d->tools));
        if (!c->tools || !d->tools)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next) {
                struct tool_out o = {&c->tools[c->n_tools], &d->tools[c->n_tools]};
                if (!name_fits(b, e, "a tool", true))
                        continue;
                if (crew_verb_by_tool(e->key->text) != CREW_VERB_N)
                        bind_error(b, e->key, "give it another name",
                                   "'%s' is what the manager of a crew hands out work with", e->key->text);
                *o.t = (struct crew_tool){
                        .name = e->key->text, .timeout_ms = 30000, .max_output = 4u << 20, .mark = e->key->mark};
                o.d->node = e;
                c->n_tools++;
                int r = bind_map(b, e, &tool_table, &o);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int bind_agents(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct crew_file *c = d->c;

        if (!bind_is(b, v, NODE_MAP, "a map of agents"))
                return 0;
        if (v->n == 0)
                bind_error(b, v, "", "a crew needs at least one agent");
        c->agents = arena_alloc(b->arena, v->n * sizeof(*c->agents));
        d->agents = arena_alloc(b->arena, v->n * sizeof(*d->agents));
        if (!c->agents || !d->agents)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next) {
                struct agent_out o = {&c->agents[c->n_agents], &d->agents[c->n_agents]};
                if (!name_fits(b, e, "an agent", false))
                        continue;
                *o.a = (struct crew_agent){.name = e->key->text,
                                           .driver = PLAN_DRIVER_EXEC_JSON,
                                           .restart_within_ms = CREW_RESTART_WITHIN_MS,
                                           .state_max = 1u << 30,
                                           .max_instances = 1,
                                           .migrate.timeout_ms = 300000,
                                           .mark = e->key->mark};
                o.d->node = e;
                c->n_agents++;
                int r = bind_map(b, e, &agent_table, &o);
                if (r < 0)
                        return r;
                o.a->orchestrator = !o.d->command;
                check_driver(b, &o);
                if (o.a->orchestrator && o.d->state)
                        bind_error(b, o.d->state->key, "", "'%s' without 'command': agent '%s' has no program",
                                   o.d->state->key->text, o.a->name);
                if (o.a->orchestrator)
                        o.a->driver = PLAN_DRIVER_NONE;
        }
        return 0;
}

static int bind_tasks(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct crew_file *c = d->c;

        if (!bind_is(b, v, NODE_MAP, "a map of tasks"))
                return 0;
        c->tasks = arena_alloc(b->arena, v->n * sizeof(*c->tasks));
        d->tasks = arena_alloc(b->arena, v->n * sizeof(*d->tasks));
        if (!c->tasks || !d->tasks)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next) {
                struct task_out o = {&c->tasks[c->n_tasks], &d->tasks[c->n_tasks]};
                if (!name_fits(b, e, "a task", false))
                        continue;
                *o.t = (struct crew_task){.name = e->key->text, .timeout_ms = 300000, .mark = e->key->mark};
                o.d->node = e;
                c->n_tasks++;
                int r = bind_map(b, e, &task_table, &o);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- the document --- */

static int bind_crew_name(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_name(b, v, f, &((struct crew_draft *)out)->c->name);
}

static int bind_process(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){crew_process_names, CREW_PROCESS_N}};
        int r = bind_enum(b, v, &of, &d->process);

        d->c->process = (enum crew_process)d->process;
        d->process_at = v;
        return r;
}

const char *const crew_rule_names[CREW_RULE_N] = {
        [CREW_MAJORITY] = "majority", [CREW_UNANIMITY] = "unanimity", [CREW_WEIGHTED] = "weighted"};
static const struct bind_names rule_names = {crew_rule_names, CREW_RULE_N};

static int consensus_rule(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_enum(b, v, f, &((struct crew_draft *)out)->c->consensus.rule);
}
static int consensus_quorum(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        d->quorum = v;
        return bind_u32(b, v, f, &d->c->consensus.quorum);
}
static int consensus_deadline(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_duration(b, v, f, &((struct crew_draft *)out)->c->consensus.deadline_ms);
}
/* Names are resolved once all agents are known. */
static int consensus_voters(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        ((struct crew_draft *)out)->voters = v;
        return 0;
}
static int consensus_tie(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (bind_is(b, v, NODE_SCALAR, "reject, approve or the name of a voter"))
                ((struct crew_draft *)out)->tie_break = v;
        return 0;
}

static const struct bind_field consensus_fields[] = {
        {"rule", consensus_rule, .arg = &rule_names},
        {"voters", consensus_voters},
        {"quorum", consensus_quorum, .min = 1, .max = 4096},
        {"tie_break", consensus_tie},
        {"deadline", consensus_deadline, .min = 100, .max = DAY_MS},
};
static const struct bind_table consensus_table = {"under consensus", consensus_fields, ELEMENTSOF(consensus_fields)};

static int bind_consensus(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        ((struct crew_draft *)out)->consensus = v;
        return bind_map(b, v, &consensus_table, out);
}

const char *const crew_delegation_names[CREW_DELEGATION_N] = {
        [CREW_TOOLS_LOCKED] = "locked", [CREW_TOOLS_WITHIN_ALLOWED] = "within_allowed"};

static int bind_delegation(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){crew_delegation_names, CREW_DELEGATION_N}};
        uint32_t value = d->c->tool_delegation;
        int r = bind_enum(b, v, &of, &value);

        d->c->tool_delegation = (enum crew_delegation)value;
        return r;
}

const char *const crew_loss_names[CREW_LOSS_N] = {[CREW_LOSS_TERMINATE] = "terminate", [CREW_LOSS_HOLD] = "hold"};

static int bind_loss(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){crew_loss_names, CREW_LOSS_N}};
        uint32_t value = d->c->on_loss;
        int r = bind_enum(b, v, &of, &value);

        d->loss = v;
        d->c->on_loss = (enum crew_loss)value;
        return r;
}

static int bind_hold_for(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        d->hold_for = v;
        return bind_duration(b, v, f, &d->c->hold_for_ms);
}

/* A manager's orders and the votes on a result are not kept for another crewd. */
static void settle_loss(struct crew_draft *d) {
        struct crew_file *c = d->c;

        if (!c->hold_for_ms)
                c->hold_for_ms = CREW_HOLD_FOR_MS;
        if (c->on_loss != CREW_LOSS_HOLD && d->hold_for)
                bind_error(&d->b, d->hold_for->key, "add on_supervisor_loss: hold, or leave it out",
                           "'hold_for' means nothing without on_supervisor_loss: hold");
        if (c->on_loss == CREW_LOSS_HOLD && c->process != CREW_SEQUENTIAL)
                bind_error(&d->b, d->loss->key, "use process: sequential, or on_supervisor_loss: terminate",
                           "agents of process: %s cannot be held", crew_process_names[c->process]);
}

/* Who may do what is resolved once all agents are known. */
static int memory_agents(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        bind_is(b, v, NODE_LIST, "a list of agents");
        return 0;
}
static const struct bind_field memory_fields[] = {
        {"read", memory_agents},
        {"write", memory_agents, .required = true},
        {"max_bytes", bind_size, offsetof(struct crew_memory, max_bytes), .min = 1024, .max = 64u << 20},
        {"agent_bytes", bind_size, offsetof(struct crew_memory, agent_bytes), .min = 1024, .max = 64u << 20},
        {"max_keys", bind_u32, offsetof(struct crew_memory, max_keys), .min = 1, .max = 4096},
};
static const struct bind_table memory_table = {"in a memory", memory_fields, ELEMENTSOF(memory_fields)};

static int bind_memory(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct crew_file *c = d->c;

        if (!bind_is(b, v, NODE_MAP, "a map of memories"))
                return 0;
        d->memory = v;
        c->memory = arena_alloc(b->arena, v->n * sizeof(*c->memory) + 1);
        if (!c->memory)
                return -ENOMEM;
        if (v->n > 64)
                bind_error(b, v, "", "%zu memories are more than the 64 a crew may have", v->n);
        for (const struct node *e = v->first; e; e = e->next) {
                struct crew_memory *m = &c->memory[c->n_memory++];
                *m = (struct crew_memory){
                        .name = e->key->text, .max_bytes = 1u << 20, .max_keys = 256, .mark = e->key->mark};
                name_fits(b, e, "a memory", false);
                int r = bind_map(b, e, &memory_table, m);
                if (r < 0)
                        return r;
                if (!m->agent_bytes)
                        m->agent_bytes = m->max_bytes;
        }
        return 0;
}

static const struct bind_field manager_fields[] = {
        {"agent", bind_text, offsetof(struct crew_manager, agent), .required = true},
        {"tasks_at_once", bind_u32, offsetof(struct crew_manager, tasks_at_once), .min = 1, .max = 256},
        {"tasks_total", bind_u32, offsetof(struct crew_manager, tasks_total), .min = 1, .max = 4096},
};
static const struct bind_table manager_table = {"under manager", manager_fields, ELEMENTSOF(manager_fields)};

static int bind_manager(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct crew_manager *m = &d->c->manager;

        d->manager = v;
        *m = (struct crew_manager){
                .tasks_at_once = CREW_MANAGER_TASKS_AT_ONCE, .tasks_total = CREW_MANAGER_TASKS_TOTAL, .mark = v->mark};
        return v->kind == NODE_MAP ? bind_map(b, v, &manager_table, m) : bind_text(b, v, f, &m->agent);
}

static int bind_approvals(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){crew_approvals_names, CREW_APPROVALS_N}};
        uint32_t value = d->c->approvals;
        int r = bind_enum(b, v, &of, &value);

        d->c->approvals = (enum crew_approvals)value;
        return r;
}

static int bind_credentials(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        d->credentials = v;
        return crew_secret_file(b, v, f, &d->c->credentials);
}

static const struct bind_field crew_fields[] = {
        {"crew", bind_crew_name, .required = true},
        {"process", bind_process},
        {"manager", bind_manager},
        {"memory", bind_memory},
        {"tool_delegation", bind_delegation},
        {"consensus", bind_consensus},
        {"approvals", bind_approvals},
        {"policies", bind_text, offsetof(struct crew_draft, policies)},
        {"endpoints", crew_bind_endpoints},
        {"credentials", bind_credentials},
        {"tools", bind_tools},
        {"agents", bind_agents, .required = true},
        {"tasks", bind_tasks},
        {"hooks", crew_bind_hooks},
        {"defaults", crew_bind_defaults},
        {"supervision", crew_bind_supervision},
        {"on_supervisor_loss", bind_loss},
        {"hold_for", bind_hold_for, .min = 1000, .max = 3600000},
};
static const struct bind_table crew_table = {"in a crew file", crew_fields, ELEMENTSOF(crew_fields)};

int crew_bind(struct crew_draft *d, const struct node *doc) {
        if (doc->next)
                bind_error(&d->b, doc->next, "", "a crew file holds one document");
        int r = bind_map(&d->b, doc, &crew_table, d);
        if (r == 0) {
                crew_settle_supervision(d);
                settle_loss(d);
        }
        return r;
}
