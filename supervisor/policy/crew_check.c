/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold between the agents of a crew.  An error where a guarantee would break (an agent could change what
 * another runs, or what judges it); a warning where only the intention is doubtful.  Each names both places.
 */
#include "crew_draft.h"

#include "check.h"
#include "common/util.h"
#include "endpoint.h"
#include "netpolicy_make.h"
#include "path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* A file that no agent may write, and where it is named. */
struct guarded {
        const char *path, *what, *name;
        uint32_t line; /* in the crew file; 0: itself */
};

struct written { /* a write path of an agent */
        size_t agent;
        struct policy_path path;
};

struct crew_check {
        struct crew_draft *d;
        const struct crew_file *c;
        struct guarded *guarded;
        size_t n_guarded;
        struct written *written;
        size_t n_written;
        uint8_t *reaches; /* n_tasks x n_tasks: does task i come after task k? */
};

static void at_path(struct crew_check *k, bool warning, const struct policy_image *p, struct policy_mark m,
                    const char *hint, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static void at_path(struct crew_check *k, bool warning, const struct policy_image *p, struct policy_mark m,
                    const char *hint, const char *fmt, ...) {
        char text[sizeof(((struct policy_problem *)0)->text)];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        policy_report_add(k->d->b.report, warning, policy_file(p), (int)m.line, (int)m.column, hint, "%s", text);
}

static const char *slash(const struct policy_path *p) {
        return p->tree ? "/" : "";
}

static const char *section(const struct policy_path *p) {
        return image_section_names[image_section_of_path(p->kind)];
}

/* --- what no agent may write --- */

static int guard(struct crew_check *k, const char *path, const char *what, const char *name, uint32_t line) {
        char real[PATH_MAX];
        struct arena *a = k->d->b.arena;

        if (!path)
                return 0;
        const char *full = realpath(path, real) ? real : path;
        int r = arena_grow(a, &k->guarded, k->n_guarded, sizeof(*k->guarded));
        const char *copy = r < 0 ? NULL : arena_strndup(a, full, strlen(full));
        if (!copy)
                return -ENOMEM;
        k->guarded[k->n_guarded++] = (struct guarded){copy, what, name, line};
        return 0;
}

static int guard_words(struct crew_check *k, const char *const *words, size_t n, const char *what, const char *name,
                       uint32_t line) {
        char path[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                if (crew_own_file(k->c, words[i], path))
                        r = guard(k, path, what, name, line);
                else if (i == 0 && words[0][0] == '/')
                        r = guard(k, words[0], what, name, line);
        }
        return r;
}

static int guard_all(struct crew_check *k) {
        const struct crew_file *c = k->c;
        int r = guard(k, c->path, "the crew file", c->name, 0);

        char lock[PATH_MAX];
        if (r == 0 && crew_lock_path(c, lock, sizeof(lock)) == 0)
                r = guard(k, lock, "the lock of crew", c->name, 1);
        if (r == 0 && k->d->credentials)
                r = guard(k, c->credentials, "the credentials of crew", c->name, k->d->credentials->mark.line);
        for (size_t i = 0; r == 0 && i < c->n_tools; i++) {
                const struct crew_tool *t = &c->tools[i];
                r = guard_words(k, (const char *const *)t->command, t->n_command, "a file of tool", t->name, t->mark.line);
                if (r == 0)
                        r = guard(k, t->input_file, "the input schema of tool", t->name, t->mark.line);
                if (r == 0)
                        r = guard(k, t->output_file, "the output schema of tool", t->name, t->mark.line);
        }
        for (size_t i = 0; r == 0 && i < c->n_agents; i++) {
                const struct crew_agent *a = &c->agents[i];
                r = guard(k, a->policy_file, "the policy of agent", a->name, a->mark.line);
                if (r == 0)
                        r = guard_words(k, (const char *const *)a->command, a->n_command, "a file of agent", a->name,
                                        a->mark.line);
                if (r == 0)
                        r = guard_words(k, (const char *const *)a->health.command, a->health.n_command,
                                        "a file of the health check of agent", a->name, a->health.mark.line);
                if (r == 0)
                        r = guard_words(k, (const char *const *)a->migrate.command, a->migrate.n_command,
                                        "a file of the migration of agent", a->name, a->migrate.mark.line);
        }
        for (size_t i = 0; r == 0 && i < c->n_tasks; i++)
                r = guard(k, c->tasks[i].output_file, "the output schema of task", c->tasks[i].name, c->tasks[i].mark.line);
        for (size_t i = 0; r == 0 && i < c->n_endpoints; i++)
                r = guard(k, c->endpoints[i].ca_file, "the certificates of endpoint", c->endpoints[i].host,
                          c->endpoints[i].mark.line);
        if (r == 0)
                r = guard(k, c->webhook.secret_file, "the key of", "webhook", c->webhook.mark.line);
        if (r == 0)
                r = guard(k, c->webhook.ca_file, "the certificates of", "webhook", c->webhook.mark.line);
        if (r == 0 && k->d->hook_command)
                r = guard_words(k, (const char *const *)c->hook_terminated, c->n_hook_terminated, "the hook",
                                "on_agent_terminated", k->d->hook_command->mark.line);
        return r;
}

static void check_guarded(struct crew_check *k, const struct crew_agent *a, const struct policy_path *w) {
        for (size_t i = 0; i < k->n_guarded; i++) {
                const struct guarded *g = &k->guarded[i];
                if (!path_covers(w, g->path))
                        continue;
                if (g->line)
                        at_path(k, false, a->policy, w->mark, "write to a directory of its own",
                                "agent '%s' could change %s '%s' (%s:%u): %s lies in its write tree '%s%s'", a->name,
                                g->what, g->name, k->c->path, g->line, g->path, w->path, slash(w));
                else
                        at_path(k, false, a->policy, w->mark, "write to a directory of its own",
                                "agent '%s' could change %s: %s lies in its write tree '%s%s'", a->name, g->what,
                                k->c->path, w->path, slash(w));
        }
}

/* --- agent against agent --- */

/* Does a task of `reader` come after a task of `writer`? */
static bool in_pipeline(const struct crew_check *k, size_t reader, size_t writer) {
        size_t n = k->c->n_tasks;

        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; k->c->tasks[i].agent_index == reader && j < n; j++)
                        if (k->c->tasks[j].agent_index == writer && k->reaches[i * n + j])
                                return true;
        return false;
}

static bool is_code(const struct policy_path *p) {
        return p->kind == POLICY_EXEC || (p->kind == POLICY_RUNTIME && !p->optional);
}

/* Path p of agent i against write path w of agent j. */
static void check_pair(struct crew_check *k, size_t i, const struct policy_path *p, size_t j, const struct policy_path *w) {
        const struct crew_agent *a = &k->c->agents[i], *b = &k->c->agents[j];

        if (!path_overlaps(p->path, w->path))
                return;
        if (p->kind == POLICY_WRITE && i > j)
                at_path(k, true, a->policy, p->mark, "", "agents '%s' and '%s' both write '%s%s' (%s:%u)", a->name, b->name,
                        strlen(p->path) > strlen(w->path) ? p->path : w->path, slash(p), policy_file(b->policy),
                        w->mark.line);
        if (is_code(p))
                at_path(k, false, a->policy, p->mark, "",
                        "agent '%s' could execute what agent '%s' writes: '%s%s' overlaps '%s%s' (%s:%u)", a->name, b->name,
                        p->path, slash(p), w->path, slash(w), policy_file(b->policy), w->mark.line);
        if (p->kind == POLICY_READ && !a->orchestrator && !in_pipeline(k, i, j))
                at_path(k, true, a->policy, p->mark,
                        "let a task of it name the other's task in its context, or narrow the path",
                        "agent '%s' reads the output of agent '%s', but no task of it follows one of '%s': '%s%s' (%s:%u)",
                        a->name, b->name, b->name, w->path, slash(w), policy_file(b->policy), w->mark.line);
}

static int find_written(struct crew_check *k) {
        for (size_t i = 0; i < k->c->n_agents; i++) {
                const struct policy_image *p = k->c->agents[i].policy;
                for (size_t n = 0; n < policy_n_paths(p); n++) {
                        struct policy_path path = policy_path_at(p, n);
                        if (path.kind != POLICY_WRITE)
                                continue;
                        int r = arena_grow(k->d->b.arena, &k->written, k->n_written, sizeof(*k->written));
                        if (r < 0)
                                return r;
                        k->written[k->n_written++] = (struct written){i, path};
                }
        }
        return 0;
}

static void check_against_writers(struct crew_check *k, size_t i, const struct policy_path *p) {
        for (size_t n = 0; n < k->n_written; n++)
                if (k->written[n].agent != i)
                        check_pair(k, i, p, k->written[n].agent, &k->written[n].path);
}

/* --- tools --- */

/* A tool an agent can read it can also run on its own, past the gate: by ld.so, sh, or a copy. */
static void check_tool_hidden(struct crew_check *k, const struct crew_agent *a, const struct policy_path *p) {
        char path[PATH_MAX];

        for (size_t t = 0; t < k->c->n_tools; t++) {
                const struct crew_tool *tool = &k->c->tools[t];
                for (size_t w = 0; w < tool->n_command; w++) {
                        if (!crew_own_file(k->c, tool->command[w], path) || !path_covers(p, path))
                                continue;
                        at_path(k, false, a->policy, p->mark,
                                "list narrower paths; tools belong in a directory that no agent reads",
                                "agent '%s' could read tool '%s' (%s:%u) and run it past the gate: %s lies in %s '%s%s'",
                                a->name, tool->name, k->c->path, tool->mark.line, path, section(p), p->path, slash(p));
                        break;
                }
        }
}

static void check_hole(struct crew_check *k, const struct crew_agent *a, const struct policy_path *hole) {
        char path[PATH_MAX];

        for (size_t w = 0; w < a->n_command; w++)
                if (crew_own_file(k->c, a->command[w], path) && path_covers(hole, path))
                        at_path(k, false, a->policy, hole->mark, "",
                                "the hole '%s%s' hides the program of agent '%s' (%s:%u)", hole->path, slash(hole), a->name,
                                k->c->path, a->mark.line);
}

static int check_tool_names(struct crew_check *k, const struct crew_agent *a) {
        const char **names = arena_alloc(k->d->b.arena, k->c->n_tools * sizeof(*names) + 1);
        char hint[256];

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; i < k->c->n_tools; i++)
                names[i] = k->c->tools[i].name;
        for (size_t i = 0; i < policy_n_names(a->policy, POLICY_TOOLS_ALLOWED); i++) {
                struct policy_name n = policy_name_at(a->policy, POLICY_TOOLS_ALLOWED, i);
                if (strcmp(n.name, "*") != 0 && !crew_find_tool(k->c, n.name))
                        at_path(k, true, a->policy, n.mark, crew_suggest(hint, sizeof(hint), n.name, names, k->c->n_tools),
                                "tool '%s' is not declared in %s", n.name, k->c->path);
        }
        return 0;
}

/* `tools:` of an agent says what it needs: each must be declared, and allowed by its policy. */
static int check_needs(struct crew_check *k, size_t i) {
        const struct crew_agent *a = &k->c->agents[i];
        const struct node *list = k->d->agents[i].tools;
        const char **names = arena_alloc(k->d->b.arena, k->c->n_tools * sizeof(*names) + 1);
        char hint[256];

        if (!names)
                return -ENOMEM;
        for (size_t t = 0; t < k->c->n_tools; t++)
                names[t] = k->c->tools[t].name;
        for (const struct node *e = list ? list->first : NULL; e; e = e->next) {
                if (!bind_is(&k->d->b, e, NODE_SCALAR, "the name of a tool"))
                        continue;
                if (!crew_find_tool(k->c, e->text)) {
                        bind_error(&k->d->b, e, crew_suggest(hint, sizeof(hint), e->text, names, k->c->n_tools),
                                   "agent '%s' names tool '%.80s', which is not declared", a->name, e->text);
                        continue;
                }
                struct policy_verdict v = policy_decide(a->policy, POLICY_DO_TOOL, e->text);
                if (!v.allowed)
                        bind_error(&k->d->b, e, v.next_step, "agent '%s' needs tool '%s', which its policy denies (%s)",
                                   a->name, e->text, v.rule[0] ? v.rule : policy_file(a->policy));
        }
        return 0;
}

/* --- targets, commands, endpoints --- */

static int check_targets(struct crew_check *k, const struct crew_agent *a) {
        const char **names = arena_alloc(k->d->b.arena, k->c->n_agents * sizeof(*names) + 1);
        char hint[256];

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; i < k->c->n_agents; i++)
                names[i] = k->c->agents[i].name;
        for (size_t i = 0; i < policy_n_names(a->policy, POLICY_TARGETS); i++) {
                struct policy_name n = policy_name_at(a->policy, POLICY_TARGETS, i);
                if (!crew_find_agent(k->c, n.name))
                        at_path(k, true, a->policy, n.mark, crew_suggest(hint, sizeof(hint), n.name, names, k->c->n_agents),
                                "agent '%s' is not declared in %s", n.name, k->c->path);
        }
        return 0;
}

/* Where the first word is found: the jail's PATH, or as written. */
static const char *find_program(const char *word, char *buf, size_t size) {
        static const char *const dirs[] = {"/usr/local/bin", "/usr/bin", "/bin"};

        if (word[0] == '/')
                return word;
        for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
                snprintf(buf, size, "%s/%s", dirs[i], word);
                if (access(buf, X_OK) == 0)
                        return buf;
        }
        return strcmp(word, "crew-call") == 0 ? "/run/crew/bin/crew-call" : NULL;
}

static bool may_execute(const struct crew_agent *a, const char *program) {
        char real[PATH_MAX];

        if (policy_decide(a->policy, POLICY_DO_EXEC, program).allowed)
                return true;
        return realpath(program, real) && policy_decide(a->policy, POLICY_DO_EXEC, real).allowed;
}

/* The program's path, or NULL after reporting that there is none. */
static const char *named_program(struct crew_check *k, const struct node *command, const char *word, char *buf,
                                 size_t size) {
        const char *program = find_program(word, buf, size);

        if (!program)
                bind_error(&k->d->b, command->first, "looked for in /usr/local/bin, /usr/bin and /bin",
                           "'command': there is no program '%.200s'", word);
        return program;
}

static void check_command(struct crew_check *k, size_t i) {
        const struct crew_agent *a = &k->c->agents[i];
        const struct node *commands[] = {k->d->agents[i].command, k->d->agents[i].health_command,
                                         k->d->agents[i].migrate_command};
        const char *const words[] = {a->n_command ? a->command[0] : NULL, a->health.n_command ? a->health.command[0] : NULL,
                                     a->migrate.n_command ? a->migrate.command[0] : NULL};
        char buf[PATH_MAX];

        for (size_t n = 0; n < ELEMENTSOF(commands); n++) {
                const struct node *at = commands[n];
                const char *program = at && words[n] ? named_program(k, at, words[n], buf, sizeof(buf)) : NULL;
                if (program && !may_execute(a, program))
                        bind_error(&k->d->b, at->first, "list it in filesystem.exec, or start it by its interpreter",
                                   "agent '%s' may not execute %.200s: it is neither in the runtime nor in "
                                   "filesystem.exec (%s)",
                                   a->name, program, policy_file(a->policy));
        }
}

/* A tool is a file of the crew, or a program that each agent who may call it could run as well. */
static void check_tool_command(struct crew_check *k, size_t t) {
        const struct crew_tool *tool = &k->c->tools[t];
        const struct node *at = k->d->tools[t].command;
        char buf[PATH_MAX], own[PATH_MAX];
        const char *program = named_program(k, at, tool->command[0], buf, sizeof(buf));

        if (!program || crew_own_file(k->c, program, own))
                return;
        for (size_t i = 0; i < k->c->n_agents; i++) {
                const struct crew_agent *a = &k->c->agents[i];
                if (a->orchestrator || !policy_decide(a->policy, POLICY_DO_TOOL, tool->name).allowed ||
                    may_execute(a, program))
                        continue;
                bind_error(&k->d->b, at->first, "keep it below ${CREW_DIR}, or list it in filesystem.exec",
                           "agent '%s' cannot call tool '%s': %.200s is neither a file of the crew nor in its runtime or "
                           "filesystem.exec (%s)",
                           a->name, tool->name, program, policy_file(a->policy));
        }
}

static void check_endpoints(struct crew_check *k) {
        for (size_t i = 0; i < k->c->n_endpoints; i++) {
                const struct crew_endpoint *e = &k->c->endpoints[i];
                bool v6 = strchr(e->host, ':') != NULL, listed = false;
                char text[300];
                snprintf(text, sizeof(text), "%s%s%s:%u", v6 ? "[" : "", e->host, v6 ? "]" : "", e->port);
                for (size_t a = 0; a < k->c->n_agents && !listed; a++)
                        listed = policy_decide(k->c->agents[a].policy, POLICY_DO_CONNECT, text).allowed;
                if (!listed)
                        policy_report_add(k->d->b.report, true, k->c->path, (int)e->mark.line, (int)e->mark.column,
                                          "an entry here never widens a policy", "no agent's policy allows '%s'", text);
        }
}

/* What the gateway would get must be within its bounds, with all certificates: said now, not when the agent starts. */
static int check_network(struct crew_check *k, const struct crew_agent *a) {
        struct crew_err why = CREW_ERR_NULL;
        int fd = netpolicy_make(a->policy, k->c, 1, &why);

        if (fd >= 0)
                close(fd);
        else if (fd == -E2BIG || fd == -EFBIG)
                policy_report_add(k->d->b.report, false, k->c->path, (int)a->mark.line, (int)a->mark.column, "",
                                  "agent '%s': %s", a->name, why.msg);
        else
                return fd;
        return 0;
}

/* The crew's CA is in the gateway's memory alone, and ends with it: agents that outlive it would trust it for nothing. */
static void check_held(struct crew_check *k, const struct crew_agent *a) {
        char text[ENDPOINT_HOST_MAX + 16];

        for (size_t i = 0; k->c->on_loss == CREW_LOSS_HOLD && i < policy_n_endpoints(a->policy); i++) {
                struct policy_endpoint e = policy_endpoint_at(a->policy, i);
                if (e.inspect)
                        at_path(k, false, a->policy, e.listed, "use 'tls: inspect' or on_supervisor_loss: hold, not both",
                                "agents with 'tls: inspect' (%s) cannot be held",
                                policy_endpoint_text(&e, text, sizeof(text)));
        }
}

/* --- the manager --- */

/* Whoever takes it over gets what it may do: so that is to hand out work, and nothing else. */
static void check_manager(struct crew_check *k) {
        static const char hint[] = "a manager hands out work: give this to the agent that does it";
        const struct crew_manager *m = &k->c->manager;
        bool own_task = false, target = false;

        if (!m->agent)
                return;
        const struct policy_image *p = k->c->agents[m->index].policy;
        for (size_t i = 0; i < policy_n_paths(p); i++) {
                struct policy_path path = policy_path_at(p, i);
                if (path.kind == POLICY_READ || path.kind == POLICY_WRITE || path.kind == POLICY_EXEC)
                        at_path(k, false, p, path.mark, hint, "the manager '%s' may reach no file, but %s lists '%s%s'",
                                m->agent, section(&path), path.path, slash(&path));
        }
        if (!policy_network_denied(p))
                at_path(k, false, p, policy_network_mark(p), hint, "the manager '%s' may reach no network: write deny_all",
                        m->agent);
        for (size_t i = 0; i < policy_n_names(p, POLICY_TOOLS_ALLOWED); i++) {
                struct policy_name n = policy_name_at(p, POLICY_TOOLS_ALLOWED, i);
                at_path(k, false, p, n.mark, hint, "the manager '%s' may have no tool, but tools.allowed lists '%s'",
                        m->agent, n.name);
        }
        for (size_t i = 0; i < policy_n_names(p, POLICY_TARGETS); i++) {
                const char *name = policy_name_at(p, POLICY_TARGETS, i).name;
                target = target || (strcmp(name, m->agent) != 0 && crew_find_agent(k->c, name));
        }
        if (!target)
                bind_error(&k->d->b, k->d->manager, "name them in ipc.allowed_targets",
                           "the manager '%s' may address no other agent of this crew (%s)", m->agent, policy_file(p));
        for (size_t i = 0; i < k->c->n_tasks; i++)
                own_task = own_task || k->c->tasks[i].agent_index == m->index;
        if (!own_task)
                bind_error(&k->d->b, k->d->manager, "the others are run when it hands them out",
                           "no task is the manager's: nothing would start");
}

/* --- credentials --- */

static bool names_file(const struct crew_check *k, const char *const *words, size_t n, const char *real) {
        char path[PATH_MAX], other[PATH_MAX];

        for (size_t i = 0; i < n; i++)
                if (crew_own_file(k->c, words[i], path) && realpath(path, other) && strcmp(other, real) == 0)
                        return true;
        return false;
}

/* What crew-gateway alone may read must be in no view. */
/* A secret that a helper alone reads: no agent may, and it is no argument of a program. */
static void check_secret(struct crew_check *k, const struct node *at, const char *key, const char *path) {
        const char *hint = "move it to where no policy reaches, or list it in filesystem.deny";
        const struct crew_file *c = k->c;
        char real[PATH_MAX];

        if (!path || !at || !realpath(path, real))
                return;
        for (size_t i = 0; i < c->n_agents; i++) {
                const struct crew_agent *a = &c->agents[i];
                struct policy_verdict v = policy_decide(a->policy, POLICY_DO_READ, real);
                if (v.allowed)
                        bind_error(&k->d->b, at, hint, "'%s': agent '%s' could read %.200s (%s)", key, a->name, real,
                                   v.rule[0] ? v.rule : "its runtime");
                if (names_file(k, (const char *const *)a->command, a->n_command, real) ||
                    names_file(k, (const char *const *)a->health.command, a->health.n_command, real) ||
                    names_file(k, (const char *const *)a->migrate.command, a->migrate.n_command, real))
                        bind_error(&k->d->b, at, "", "'%s': it is in the command of agent '%s'", key, a->name);
        }
        for (size_t i = 0; i < c->n_tools; i++)
                if (names_file(k, (const char *const *)c->tools[i].command, c->tools[i].n_command, real))
                        bind_error(&k->d->b, at, "", "'%s': it is in the command of tool '%s'", key, c->tools[i].name);
}

static void check_credentials(struct crew_check *k) {
        check_secret(k, k->d->credentials, "credentials", k->c->credentials);
        check_secret(k, k->d->webhook_secret, "secret_file", k->c->webhook.secret_file);
}

static bool made_by_a_member(const void *user, const char *path) {
        const struct crew_check *k = user;

        /* inside a write tree, or above one: the tree is made at start */
        for (size_t i = 0; i < k->n_written; i++)
                if (k->written[i].path.tree && path_overlaps(k->written[i].path.path, path))
                        return true;
        return false;
}

static int find_order(struct crew_check *k) {
        size_t n = k->c->n_tasks;

        k->reaches = arena_alloc(k->d->b.arena, n * n + 1);
        if (!k->reaches)
                return -ENOMEM;
        for (size_t o = 0; o < n; o++) {
                size_t i = k->d->order[o];
                const struct crew_task *t = &k->c->tasks[i];
                for (size_t c = 0; c < t->n_context; c++) {
                        k->reaches[i * n + t->context[c]] = 1;
                        for (size_t j = 0; j < n; j++)
                                k->reaches[i * n + j] |= k->reaches[t->context[c] * n + j];
                }
        }
        return 0;
}

static int check_agent(struct crew_check *k, size_t i) {
        const struct crew_agent *a = &k->c->agents[i];

        for (size_t n = 0; n < policy_n_paths(a->policy); n++) {
                struct policy_path p = policy_path_at(a->policy, n);
                if (p.kind == POLICY_WRITE)
                        check_guarded(k, a, &p);
                if (p.kind == POLICY_DENY)
                        check_hole(k, a, &p);
                if (p.kind == POLICY_READ || p.kind == POLICY_WRITE || is_code(&p)) {
                        check_against_writers(k, i, &p);
                        if (!a->orchestrator && p.kind != POLICY_WRITE)
                                check_tool_hidden(k, a, &p);
                }
        }
        check_command(k, i);
        policy_check_missing(a->policy, a->orchestrator, made_by_a_member, k, k->d->b.report);
        int r = check_targets(k, a);
        if (r == 0)
                r = check_tool_names(k, a);
        return r < 0 ? r : check_needs(k, i);
}

int crew_check(struct crew_draft *d, struct crew_err *err) {
        struct crew_check k = {.d = d, .c = d->c};
        int r = guard_all(&k);

        if (r == 0)
                r = find_written(&k);
        if (r == 0)
                r = find_order(&k);
        for (size_t i = 0; r == 0 && i < k.c->n_agents; i++)
                r = check_agent(&k, i);
        for (size_t t = 0; r == 0 && t < k.c->n_tools; t++)
                check_tool_command(&k, t);
        if (r == 0) {
                check_manager(&k);
                check_endpoints(&k);
                check_credentials(&k);
        }
        for (size_t i = 0; r == 0 && i < k.c->n_agents; i++) {
                check_held(&k, &k.c->agents[i]);
                r = check_network(&k, &k.c->agents[i]);
        }
        return r < 0 ? crew_fail(err, -r, "%s: out of memory", d->c->path) : 0;
}
