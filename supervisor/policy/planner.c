/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a plan together: the programs and what belongs to them, the view and its layers, limits, environment, filter.
 *
 * Trusts the policy image and the crew file, which were checked when they were loaded, but not the file system: what
 * the paths lead to is decided here once, and the plan names real paths only.
 */
#include "planner.h"

#include "common/netrules.h"
#include "common/util.h"
#include "path.h"
#include "planner_view.h"
#include "worker/sandbox/filter.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define INNER_ID 1000u
/* Landlock 2 (Linux 5.19) can allow renames between directories; below that ordinary programs break. */
#define LANDLOCK_ABI_MIN 2u
#define HOME "/home/agent"
#define CREW_BIN "/run/crew/bin"

struct program {
        enum plan_program_kind kind;
        uint32_t driver;
        const char *name;
        const char **argv;
        size_t n_args;
        uint64_t timeout_ms, max_output;
};

struct planner {
        const struct planner_input *in;
        const char *crew_dir;
        struct view view;
        struct program programs[PLAN_MAX_PROGRAMS];
        size_t n_programs;
        struct plan_builder *b;
        struct crew_err *err;
};

static void planner_fini(struct planner *p) {
        view_forget(&p->view);
        plan_builder_free(p->b);
}

/* --- programs --- */

static const char **copy_argv(struct planner *p, const char *const *argv, size_t n) {
        const char **out = arena_alloc(&p->view.arena, (n + 1) * sizeof(*out));

        for (size_t i = 0; out && i < n; i++)
                out[i] = argv[i];
        return out;
}

static int add_program(struct planner *p, struct program g, const char *const *argv) {
        if (p->n_programs == PLAN_MAX_PROGRAMS)
                return crew_fail(p->err, E2BIG, "an agent may have at most %u tools", PLAN_MAX_PROGRAMS - 1);
        if (g.n_args == 0)
                return crew_fail(p->err, EINVAL, "%s has no command", g.name);
        g.argv = copy_argv(p, argv, g.n_args);
        if (!g.argv)
                return crew_fail(p->err, ENOMEM, "out of memory");
        p->programs[p->n_programs++] = g;
        return 0;
}

static int add_agent(struct planner *p) {
        const struct crew_agent *a = p->in->agent;
        const struct policy_limits limits = policy_limits_of(p->in->policy);
        struct program g = {.kind = PLAN_PROGRAM_AGENT, .timeout_ms = limits.wall_ms, .max_output = limits.output_bytes};

        if (a) {
                /* With this one a program runs only for a task. */
                g.driver = p->in->migrate ? PLAN_DRIVER_EXEC_JSON : a->driver;
                g.name = a->name;
                g.n_args = a->n_command;
                return add_program(p, g, (const char *const *)a->command);
        }
        g.driver = PLAN_DRIVER_NONE;
        g.name = policy_agent(p->in->policy);
        g.n_args = p->in->n_sandbox_argv;
        return add_program(p, g, p->in->sandbox_argv);
}

static int add_tools(struct planner *p) {
        const struct crew_file *crew = p->in->crew;
        int r = 0;

        for (size_t i = 0; r == 0 && crew && i < crew->n_tools; i++) {
                const struct crew_tool *t = &crew->tools[i];
                if (!policy_decide(p->in->policy, POLICY_DO_TOOL, t->name).allowed)
                        continue;
                r = add_program(p,
                                (struct program){.kind = PLAN_PROGRAM_TOOL,
                                                 .name = t->name,
                                                 .n_args = t->n_command,
                                                 .timeout_ms = t->timeout_ms,
                                                 .max_output = t->max_output},
                                (const char *const *)t->command);
        }
        return r;
}

/* --- commands --- */

static bool below_crew_dir(const struct planner *p, const char *path) {
        return p->crew_dir && path_within(p->crew_dir, path);
}

/* What the path leads to, if it is a regular file. */
static bool real_file(struct planner *p, const char *path, char real[PATH_MAX]) {
        struct stat st;
        return view_resolve(&p->view, path, real, NULL) == RESOLVE_FOUND && lstat(real, &st) == 0 && S_ISREG(st.st_mode);
}

static int refused(const struct planner *p, const struct program *g) {
        crew_fail(p->err, EACCES, "%s: neither in the runtime nor in filesystem.exec of %s", g->argv[0],
                  policy_file(p->in->policy));
        return PLANNER_COMMAND_REFUSED;
}

static int absent(const struct planner *p, const struct program *g) {
        crew_fail(p->err, ENOENT, "%s: command not found", g->argv[0]);
        return PLANNER_COMMAND_ABSENT;
}

static int search_command(struct planner *p, struct program *g) {
        bool seen = false;
        char real[PATH_MAX];

        if (p->in->crew && strcmp(g->argv[0], "crew-call") == 0) {
                g->argv[0] = CREW_BIN "/crew-call";
                return PLANNER_OK;
        }
        for (size_t i = 0; i < PATH_SEARCH_N; i++) {
                const char *path = arena_printf(&p->view.arena, "%s/%s", path_search[i], g->argv[0]);
                if (!path)
                        return crew_fail(p->err, ENOMEM, "out of memory");
                if (!real_file(p, path, real))
                        continue;
                seen = true;
                if (view_may_execute(&p->view, real)) {
                        g->argv[0] = path;
                        return PLANNER_OK;
                }
        }
        return seen ? refused(p, g) : absent(p, g);
}

/* A path with a slash: as it is, relative to where crewctl was called. */
static int locate_command(struct planner *p, struct program *g) {
        char real[PATH_MAX], whole[PATH_MAX];

        if (g->argv[0][0] != '/') {
                if (!p->in->cwd)
                        return crew_fail(p->err, EINVAL, "%s: a relative command of %s; start it with ${CREW_DIR}/",
                                         g->argv[0], g->name);
                if ((size_t)snprintf(real, sizeof(real), "%s/%s", p->in->cwd, g->argv[0]) >= sizeof(real))
                        return absent(p, g);
        } else if ((size_t)snprintf(real, sizeof(real), "%s", g->argv[0]) >= sizeof(real)) {
                return absent(p, g);
        }
        if (!path_normalise(real, whole, sizeof(whole)) || !real_file(p, whole, real))
                return absent(p, g);
        if (!view_may_execute(&p->view, real)) {
                if (g->kind != PLAN_PROGRAM_TOOL || !below_crew_dir(p, whole))
                        return refused(p, g);
        }
        g->argv[0] = arena_strndup(&p->view.arena, whole, strlen(whole));
        return g->argv[0] ? PLANNER_OK : crew_fail(p->err, ENOMEM, "out of memory");
}

/* Words that name files of the crew are in the view, for this program alone. */
static int add_command_files(struct planner *p, size_t index) {
        const struct program *g = &p->programs[index];
        char path[PATH_MAX];

        for (size_t i = 0; i < g->n_args; i++) {
                if (!path_normalise(g->argv[i], path, sizeof(path)) || !below_crew_dir(p, path))
                        continue;
                enum grant_kind kind = i == 0 && g->kind == PLAN_PROGRAM_TOOL ? GRANT_TOOL : GRANT_FILE;
                int r = view_add_file(&p->view, kind, path, (int)index);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_words(struct planner *p, size_t index, const char **words, size_t n) {
        char path[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                if (path_normalise(words[i], path, sizeof(path)) && below_crew_dir(p, path))
                        r = view_add_file(&p->view, GRANT_FILE, path, (int)index);
        }
        return r;
}

/* The agent's health check runs as its program does, and sees what that sees; so does what migrates its state. */
static int add_other_files(struct planner *p, size_t index) {
        const struct crew_agent *a = p->in->agent;

        if (!a)
                return 0;
        if (p->in->migrate)
                return add_words(p, index, a->migrate.command, a->migrate.n_command);
        return add_words(p, index, a->health.command, a->health.n_command);
}

static int place_commands(struct planner *p) {
        for (size_t i = 0; i < p->n_programs; i++) {
                struct program *g = &p->programs[i];
                int r = strchr(g->argv[0], '/') ? locate_command(p, g) : search_command(p, g);
                if (r == PLANNER_OK)
                        r = add_command_files(p, i);
                if (r == PLANNER_OK && g->kind == PLAN_PROGRAM_AGENT)
                        r = add_other_files(p, i);
                if (r != 0) {
                        if (p->in->crew)
                                crew_err_add(p->err, "%s %s", g->kind == PLAN_PROGRAM_TOOL ? "tool" : "agent", g->name);
                        return r;
                }
        }
        return 0;
}

/* --- head --- */

static uint32_t degraded_bits(const struct policy_image *policy) {
        uint32_t bits = 0;

        for (size_t i = 0; i < policy_n_names(policy, POLICY_DEGRADED); i++)
                for (size_t k = 0; k < PLAN_FEATURE_N; k++)
                        if (strcmp(policy_name_at(policy, POLICY_DEGRADED, i).name, plan_feature_names[k]) == 0)
                                bits |= 1u << k;
        return bits;
}

static void fill_head(const struct planner_input *in, struct plan *h) {
        const struct policy_limits l = policy_limits_of(in->policy);

        *h = (struct plan){
                .incarnation = in->incarnation,
                .host_uid = in->host_uid,
                .host_gid = in->host_gid,
                .inner_uid = INNER_ID,
                .inner_gid = INNER_ID,
                .landlock_abi_min = LANDLOCK_ABI_MIN,
                .allow_degraded = degraded_bits(in->policy),
                .limits = {.memory_bytes = l.memory_bytes,
                           .tmp_bytes = l.tmp_bytes,
                           .output_bytes = l.output_bytes,
                           .wall_ms = l.wall_ms,
                           .processes = l.processes,
                           .open_files = l.open_files,
                           .cpu_milli = l.cpu_milli,
                           .connections = l.connections},
        };
        h->flags = (in->root_mode ? PLAN_ROOT_MODE : 0u) | (in->netrules ? PLAN_NETRULES : 0u) |
                   (in->notify ? PLAN_NOTIFY : 0u) | (in->landlock_log ? PLAN_LANDLOCK_LOG : 0u) |
                   (in->hold ? PLAN_HOLD : 0u) | (in->crew ? 0u : PLAN_SANDBOX);
        snprintf(h->agent, sizeof(h->agent), "%s", in->agent ? in->agent->name : policy_agent(in->policy));
        snprintf(h->crew, sizeof(h->crew), "%s", in->crew ? in->crew->name : "");
        memcpy(h->policy_sha256, policy_image_sha256(in->policy), sizeof(h->policy_sha256));
}

static bool overridden(const struct planner_input *in, const char *name) {
        size_t n = strlen(name);

        for (size_t i = 0; i < in->n_sandbox_env; i++)
                if (strncmp(in->sandbox_env[i], name, n) == 0 && in->sandbox_env[i][n] == '=')
                        return true;
        return false;
}

static int add_environment(struct planner *p) {
        const struct planner_input *in = p->in;
        const char *bundle = in->ca_bundle ? CA_BUNDLE : NULL;
        char from[16], to[16];
        const struct {
                const char *name, *value;
        } fixed[] = {
                {"PATH", in->crew ? CREW_BIN ":/usr/local/bin:/usr/bin:/bin" : "/usr/local/bin:/usr/bin:/bin"},
                {"HOME", HOME},
                {"CREW_STATE", in->state_dir ? STATE_DIR : NULL},
                {"CREW_STATE_FROM", in->migrate ? from : NULL},
                {"CREW_STATE_TO", in->migrate ? to : NULL},
                {"TMPDIR", "/tmp"},
                {"LANG", "C.UTF-8"},
                {"CREW_AGENT", in->agent ? in->agent->name : policy_agent(in->policy)},
                {"CREW_SOCKET", in->crew ? "/run/crew/agent.sock" : NULL},
                {"SSL_CERT_FILE", bundle}, /* OpenSSL, Go, Rust, Python's ssl */
                {"CURL_CA_BUNDLE", bundle},
                {"REQUESTS_CA_BUNDLE", bundle},
                {"NODE_EXTRA_CA_CERTS", bundle},
                {"GIT_SSL_CAINFO", bundle},
                {"PIP_CERT", bundle},
        };

        if (in->migrate) {
                snprintf(from, sizeof(from), "%u", in->migrate_from);
                snprintf(to, sizeof(to), "%u", in->migrate->version);
        }
        for (size_t i = 0; i < ELEMENTSOF(fixed); i++)
                if (fixed[i].value && !overridden(in, fixed[i].name))
                        plan_add_env(p->b, fixed[i].name, fixed[i].value);
        for (size_t i = 0; i < in->n_sandbox_env; i++) {
                const char *word = in->sandbox_env[i], *eq = strchr(word, '=');
                if (!eq || eq == word)
                        return crew_fail(p->err, EINVAL, "'%s' is not NAME=VALUE", word);
                const char *name = arena_strndup(&p->view.arena, word, (size_t)(eq - word));
                if (!name)
                        return crew_fail(p->err, ENOMEM, "out of memory");
                plan_add_env(p->b, name, eq + 1);
        }
        return 0;
}

static int add_filter(struct planner *p) {
        _cleanup_free_ struct sock_filter *insns = NULL;
        size_t n;
        int r = filter_compile(policy_syscall_profile(p->in->policy), &insns, &n, p->err);

        return r < 0 ? r : plan_set_bpf(p->b, insns, n);
}

static void add_programs(struct planner *p) {
        for (size_t i = 0; i < p->n_programs; i++) {
                const struct program *g = &p->programs[i];
                plan_add_program(p->b, g->kind, g->driver, g->name, g->argv, g->n_args, (uint32_t)i + 1, g->timeout_ms,
                                 g->max_output);
        }
}

static int fill(struct planner *p) {
        const char *cwd = p->in->cwd ? view_path_of(&p->view, p->in->cwd) : NULL;
        int r = mounts_add(&p->view, p->b);

        if (r == 0)
                r = layers_add(&p->view, p->b, p->n_programs);
        if (r < 0)
                return r;
        add_programs(p);
        r = add_environment(p);
        if (r < 0)
                return r;
        plan_set_workdir(p->b, cwd ? cwd : HOME);
        if (p->in->netrules)
                plan_set_netrules(p->b, crew_netrules, crew_netrules_bytes);
        return add_filter(p);
}

int planner_make(const struct planner_input *in, void **block, size_t *n, struct crew_err *err) {
        static int (*const steps[])(struct planner *) = {add_agent, add_tools};
        struct planner p _cleanup_(planner_fini) = {
                .in = in, .err = err, .crew_dir = in->crew ? in->crew->dir : in->crew_dir, .view = {.in = in, .err = err}};
        struct plan head;
        int r = view_collect(&p.view);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(steps); i++)
                r = steps[i](&p);
        if (r == 0)
                r = place_commands(&p);
        if (r == 0)
                r = view_settle(&p.view);
        if (r != 0)
                return r;
        fill_head(in, &head);
        p.b = plan_builder_new(&head);
        if (!p.b)
                return crew_fail(err, ENOMEM, "out of memory");
        r = fill(&p);
        return r < 0 ? r : plan_builder_finish(p.b, block, n, err);
}
