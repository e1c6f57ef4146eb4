/* SPDX-License-Identifier: Apache-2.0 */
/* Names of a crew file: who is meant by each, in which order tasks can run, and which policy each agent gets. */
#include "crew_draft.h"

#include "check.h"
#include "common/util.h"
#include "load.h"
#include "path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

const char *crew_suggest(char *buf, size_t size, const char *word, const char *const *names, size_t n) {
        const char *near = crew_nearest(word, names, n);
        size_t used = 0;

        buf[0] = '\0';
        if (near)
                used = (size_t)snprintf(buf, size, "did you mean '%s'? ", near);
        for (size_t i = 0; i < n && used < size; i++)
                used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "declared: ", names[i]);
        if (used >= size && size > 4)
                strcpy(buf + size - 4, "...");
        if (n == 0)
                snprintf(buf, size, "none is declared");
        return buf;
}

/* The names of one kind of thing, for suggestions. */
#define NAMES_OF(d, things, n_things)                                                                                      \
        __extension__({                                                                                                    \
                const char **names_ = arena_alloc((d)->b.arena, (n_things) * sizeof(char *) + 1);                          \
                for (size_t i_ = 0; names_ && i_ < (n_things); i_++)                                                       \
                        names_[i_] = (things)[i_].name;                                                                    \
                names_;                                                                                                    \
        })

/* --- tasks --- */

static int resolve_agent(struct crew_draft *d, size_t i) {
        struct crew_task *t = &d->c->tasks[i];
        const struct crew_agent *a = t->agent ? crew_find_agent(d->c, t->agent) : NULL;
        char hint[256];

        if (!t->agent)
                return 0; /* reported: missing or no text */
        if (a) {
                t->agent_index = (uint32_t)(a - d->c->agents);
                if (a->orchestrator)
                        bind_error(&d->b, d->tasks[i].agent, "",
                                   "task '%s' is given to agent '%s', which has no command (line %u)", t->name, a->name,
                                   a->mark.line);
                return 0;
        }
        const char **names = NAMES_OF(d, d->c->agents, d->c->n_agents);
        if (!names)
                return -ENOMEM;
        bind_error(&d->b, d->tasks[i].agent, crew_suggest(hint, sizeof(hint), t->agent, names, d->c->n_agents),
                   "task '%s' names agent '%.80s', which is not declared", t->name, t->agent);
        return 0;
}

static bool find_task(const struct crew_file *c, const char *name, uint32_t *index) {
        for (size_t i = 0; i < c->n_tasks; i++) {
                if (strcmp(c->tasks[i].name, name) == 0) {
                        *index = (uint32_t)i;
                        return true;
                }
        }
        return false;
}

static int resolve_context(struct crew_draft *d, size_t i) {
        struct crew_task *t = &d->c->tasks[i];
        const struct node *list = d->tasks[i].context;
        char hint[256];
        uint32_t k;

        if (!list)
                return 0;
        t->context = arena_alloc(d->b.arena, list->n * sizeof(*t->context) + 1);
        if (!t->context)
                return -ENOMEM;
        for (const struct node *e = list->first; e; e = e->next) {
                if (!bind_is(&d->b, e, NODE_SCALAR, "the name of a task"))
                        continue;
                if (find_task(d->c, e->text, &k)) {
                        bool twice = false;
                        for (size_t j = 0; j < t->n_context; j++)
                                twice = twice || t->context[j] == k;
                        if (twice)
                                bind_warning(&d->b, e, "", "task '%s' is listed twice in context", e->text);
                        else
                                t->context[t->n_context++] = k;
                        continue;
                }
                const char **names = NAMES_OF(d, d->c->tasks, d->c->n_tasks);
                if (!names)
                        return -ENOMEM;
                bind_error(&d->b, e, crew_suggest(hint, sizeof(hint), e->text, names, d->c->n_tasks),
                           "task '%s' needs task '%.80s', which is not declared", t->name, e->text);
        }
        return 0;
}

/* Depth first; the path from the root to the present task is the candidate cycle. */
struct walk {
        struct crew_draft *d;
        enum { NEW, OPEN, DONE } * state;
        uint32_t *path;
        size_t depth, done;
};

static void report_cycle(struct walk *w, uint32_t back_to) {
        char text[400] = "";
        size_t from = 0, used = 0;

        while (w->path[from] != back_to)
                from++;
        for (size_t i = from; i < w->depth && used < sizeof(text); i++)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s -> ", w->d->c->tasks[w->path[i]].name);
        if (used < sizeof(text))
                snprintf(text + used, sizeof(text) - used, "%s", w->d->c->tasks[back_to].name);
        bind_error(&w->d->b, w->d->tasks[w->path[w->depth - 1]].context,
                   "each waits for the next; take one out of a context", "a cycle in context: %s", text);
}

/* False once a cycle was reported: one is enough. */
static bool walk_task(struct walk *w, uint32_t i) {
        const struct crew_task *t = &w->d->c->tasks[i];

        if (w->state[i] == DONE)
                return true;
        if (w->state[i] == OPEN) {
                report_cycle(w, i);
                return false;
        }
        w->state[i] = OPEN;
        w->path[w->depth++] = i;
        for (size_t k = 0; k < t->n_context; k++)
                if (!walk_task(w, t->context[k]))
                        return false;
        w->depth--;
        w->state[i] = DONE;
        w->d->order[w->done++] = i;
        return true;
}

static int check_cycles(struct crew_draft *d) {
        size_t n = d->c->n_tasks;
        struct walk w = {.d = d};

        w.state = arena_alloc(d->b.arena, n * sizeof(*w.state) + 1);
        w.path = arena_alloc(d->b.arena, n * sizeof(*w.path) + 1);
        d->order = arena_alloc(d->b.arena, n * sizeof(*d->order) + 1);
        if (!w.state || !w.path || !d->order)
                return -ENOMEM;
        for (uint32_t i = 0; i < n; i++)
                if (!walk_task(&w, i))
                        break;
        return 0;
}

/* A task cannot run longer than its agent's wall_time. */
static void bound_timeout(struct crew_draft *d, size_t i) {
        struct crew_task *t = &d->c->tasks[i];
        const struct crew_agent *a = &d->c->agents[t->agent_index];
        uint64_t wall = a->policy ? policy_limits_of(a->policy).wall_ms : 0;

        if (!wall || t->timeout_ms <= wall)
                return;
        if (d->tasks[i].timeout)
                bind_warning(&d->b, d->tasks[i].timeout, "",
                             "task '%s': the wall_time of agent '%s' is shorter: %llu s (%s)", t->name, a->name,
                             (unsigned long long)(wall / 1000), a->policy_file);
        t->timeout_ms = wall;
}

/* --- the manager --- */

static int resolve_manager(struct crew_draft *d) {
        struct crew_manager *m = &d->c->manager;
        bool wanted = d->c->process == CREW_HIERARCHICAL;
        char hint[256];

        if (wanted && !d->manager)
                bind_error(&d->b, d->process_at, "add manager: AGENT", "process 'hierarchical' needs a manager");
        if (!wanted && d->manager)
                bind_error(&d->b, d->manager->key, "write process: hierarchical", "'manager' is for hierarchical crews");
        if (!m->agent)
                return 0;
        const struct crew_agent *a = crew_find_agent(d->c, m->agent);
        if (a) {
                m->index = (uint32_t)(a - d->c->agents);
                if (a->orchestrator)
                        bind_error(&d->b, d->manager, "", "the manager '%s' has no command (line %u)", a->name,
                                   a->mark.line);
                return 0;
        }
        const char **names = NAMES_OF(d, d->c->agents, d->c->n_agents);
        if (!names)
                return -ENOMEM;
        bind_error(&d->b, d->manager, crew_suggest(hint, sizeof(hint), m->agent, names, d->c->n_agents),
                   "the manager is agent '%.80s', which is not declared", m->agent);
        m->agent = NULL;
        return 0;
}

/* --- memory --- */

static int grant(struct crew_draft *d, struct crew_memory *m, const struct node *list, uint8_t rights) {
        char hint[256];

        for (const struct node *e = list ? list->first : NULL; e; e = e->next) {
                if (!bind_is(&d->b, e, NODE_SCALAR, "the name of an agent"))
                        continue;
                const struct crew_agent *a = crew_find_agent(d->c, e->text);
                if (a) {
                        m->rights[a - d->c->agents] |= rights;
                        continue;
                }
                const char **names = NAMES_OF(d, d->c->agents, d->c->n_agents);
                if (!names)
                        return -ENOMEM;
                bind_error(&d->b, e, crew_suggest(hint, sizeof(hint), e->text, names, d->c->n_agents),
                           "memory '%s' names agent '%.80s', which is not declared", m->name, e->text);
        }
        return 0;
}

static int resolve_memory(struct crew_draft *d) {
        const struct node *e = d->memory ? d->memory->first : NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && e && i < d->c->n_memory; i++, e = e->next) {
                struct crew_memory *m = &d->c->memory[i];
                m->rights = arena_alloc(d->b.arena, d->c->n_agents + 1);
                if (!m->rights)
                        return -ENOMEM;
                for (const struct node *k = e->first; r == 0 && e->kind == NODE_MAP && k; k = k->next) {
                        if (k->kind != NODE_LIST)
                                continue;
                        if (strcmp(k->key->text, "read") == 0)
                                r = grant(d, m, k, CREW_MEMORY_READ);
                        else if (strcmp(k->key->text, "write") == 0)
                                r = grant(d, m, k, CREW_MEMORY_READ | CREW_MEMORY_WRITE);
                }
        }
        return r;
}

/* --- the tools an agent starts with --- */

static int list_tools(struct crew_draft *d, size_t i) {
        struct crew_agent *a = &d->c->agents[i];
        const struct node *list = d->agents[i].tools;

        if (!list)
                return 0;
        a->tools = arena_alloc(d->b.arena, list->n * sizeof(*a->tools) + 1);
        if (!a->tools)
                return -ENOMEM;
        for (const struct node *e = list->first; e; e = e->next)
                if (e->kind == NODE_SCALAR)
                        a->tools[a->n_tools++] = e->text;
        return 0;
}

/* --- the voters --- */

static int voter(struct crew_draft *d, const struct node *at, const char *name, uint32_t weight) {
        const struct crew_agent *a = crew_find_agent(d->c, name);
        char hint[256];

        if (a && a->orchestrator)
                bind_error(&d->b, at, "", "agent '%s' has no command: it cannot vote", a->name);
        if (a) {
                d->c->consensus.weights[a - d->c->agents] = weight;
                return 0;
        }
        const char **names = NAMES_OF(d, d->c->agents, d->c->n_agents);
        if (!names)
                return -ENOMEM;
        bind_error(&d->b, at, crew_suggest(hint, sizeof(hint), name, names, d->c->n_agents),
                   "agent '%.80s', who is to vote, is not declared", name);
        return 0;
}

/* A list of names, or for the rule `weighted` a map of names and weights. */
static int listed_voters(struct crew_draft *d) {
        static const struct bind_field weight_field = {"voters", NULL, .min = 1, .max = 1000};
        bool weighted = d->c->consensus.rule == CREW_WEIGHTED;
        int r = 0;

        if (!bind_is(&d->b, d->voters, weighted ? NODE_MAP : NODE_LIST,
                     weighted ? "a map of agents and their weights" : "a list of agents"))
                return 0;
        for (const struct node *e = d->voters->first; r == 0 && e; e = e->next) {
                uint32_t weight = 1;
                if (weighted)
                        bind_u32(&d->b, e, &weight_field, &weight);
                if (weighted || bind_is(&d->b, e, NODE_SCALAR, "the name of an agent"))
                        r = voter(d, weighted ? e->key : e, weighted ? e->key->text : e->text, weight);
        }
        return r;
}

static void resolve_tie(struct crew_draft *d) {
        static const char *const words[] = {[CREW_TIE_REJECT] = "reject", [CREW_TIE_APPROVE] = "approve"};
        struct crew_consensus *k = &d->c->consensus;
        const char *text = d->tie_break ? d->tie_break->text : "reject";

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                k->tie = (enum crew_tie)i;
                if (strcmp(text, words[i]) == 0)
                        return;
        }
        const struct crew_agent *a = crew_find_agent(d->c, text);
        k->tie = CREW_TIE_AGENT;
        k->tie_agent = a ? (uint32_t)(a - d->c->agents) : 0;
        if (!a || !k->weights[k->tie_agent])
                bind_error(&d->b, d->tie_break, "reject, approve, or the name of a voter",
                           "'tie_break': '%.80s' has no vote", text);
}

static int resolve_consensus(struct crew_draft *d) {
        struct crew_consensus *k = &d->c->consensus;
        uint32_t n = 0;
        int r = 0;

        if (d->c->process != CREW_CONSENSUAL) {
                if (d->consensus)
                        bind_error(&d->b, d->consensus->key, "write process: consensual",
                                   "'consensus' is for consensual crews");
                return 0;
        }
        if (!k->deadline_ms)
                k->deadline_ms = 60000;
        k->weights = arena_alloc(d->b.arena, d->c->n_agents * sizeof(*k->weights) + 1);
        if (!k->weights)
                return -ENOMEM;
        if (d->voters)
                r = listed_voters(d);
        else if (k->rule == CREW_WEIGHTED)
                bind_error(&d->b, d->consensus, "voters: {AGENT: WEIGHT, ...}", "the rule 'weighted' needs voters");
        for (size_t i = 0; i < d->c->n_agents; i++) {
                if (!d->voters)
                        k->weights[i] = !d->c->agents[i].orchestrator;
                n += k->weights[i] > 0;
        }
        if (k->quorum > n)
                bind_error(&d->b, d->quorum, "", "'quorum': %u votes of %u voters", k->quorum, n);
        if (n < 2)
                bind_error(&d->b, d->voters ? d->voters : d->process_at, "", "a vote needs two voters, there are %u", n);
        resolve_tie(d);
        return r;
}

/* --- policies --- */

static bool same_file(const char *a, const char *b) {
        struct stat x, y;

        return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* Collapses "x/.." and "." of a relative path; leading ".." stay. */
static void relative_normalise(const char *in, char *out, size_t size) {
        size_t n = 0;

        out[0] = '\0';
        while (*in) {
                in += strspn(in, "/");
                size_t k = strcspn(in, "/");
                char *last = strrchr(out, '/');
                const char *tail = last ? last + 1 : out;
                if (k == 2 && strncmp(in, "..", 2) == 0 && *tail && strcmp(tail, "..") != 0) {
                        n = last ? (size_t)(last - out) : 0;
                } else if (k > 0 && !(k == 1 && *in == '.') && n + k + 2 < size) {
                        if (n)
                                out[n++] = '/';
                        memcpy(out + n, in, k);
                        n += k;
                }
                out[n] = '\0';
                in += k;
        }
}

/* The policy file as messages and rules show it: relative when the crew file was given so. */
static int policy_path(struct crew_draft *d, const struct agent_draft *a, const char **out) {
        const char *slash = strrchr(d->c->path, '/'), *name, *dir = NULL;
        char norm[PATH_MAX];
        int r = bind_expand(&d->b, a->policy, a->policy_name, &name);

        if (r == 0 && d->policies)
                r = bind_expand(&d->b, a->policy, d->policies, &dir);
        if (r != 0)
                return r;
        const char *base = dir && dir[0] == '/' ? ""
                                                : arena_printf(d->b.arena, "%.*s",
                                                               slash ? (int)(slash - d->c->path) + 1 : 0, d->c->path);
        const char *whole = name[0] == '/' ? name
                            : !base        ? NULL
                                    : arena_printf(d->b.arena, "%s%s%s%s", base, dir ? dir : "", dir ? "/" : "", name);
        if (!whole)
                return -ENOMEM;
        bool ok = true;
        if (whole[0] == '/')
                ok = path_normalise(whole, norm, sizeof(norm));
        else
                relative_normalise(whole, norm, sizeof(norm));
        *out = ok && same_file(norm, whole) ? arena_strndup(d->b.arena, norm, strlen(norm)) : whole;
        return *out ? 0 : -ENOMEM;
}

/* 1: agent i has its policy already, as it is in force. */
static int keep_policy(struct crew_draft *d, size_t i) {
        struct crew_agent *agent = &d->c->agents[i];
        const struct crew_agent *was = d->in_force ? crew_find_agent(d->in_force, agent->name) : NULL;

        if (!was || !was->policy || strcmp(agent->name, d->only) == 0)
                return 0;
        agent->policy_file = arena_strndup(d->b.arena, was->policy_file, strlen(was->policy_file));
        agent->policy = policy_image_ref(was->policy);
        return agent->policy_file ? 1 : -ENOMEM;
}

static int load_policy(struct crew_draft *d, size_t i, struct crew_err *err) {
        struct agent_draft *a = &d->agents[i];
        struct crew_agent *agent = &d->c->agents[i];
        struct crew_err why = CREW_ERR_NULL;
        _cleanup_free_ char *bytes = NULL;
        size_t n;

        if (!a->policy_name)
                return 0;
        int r = keep_policy(d, i);
        if (r == 0)
                r = policy_path(d, a, &agent->policy_file);
        if (r != 0)
                return r < 0 ? crew_fail(err, ENOMEM, "%s: out of memory", d->c->path) : 0;
        r = crew_read_file(agent->policy_file, NODE_MAX_BYTES, &bytes, &n, &why);
        if (r < 0) {
                bind_error(&d->b, a->policy, d->policies ? "looked up in 'policies:'" : "", "the policy of agent '%s': %s",
                           agent->name, why.msg);
                return 0;
        }
        if (lock_note(d->b.used, LOCK_POLICY, NULL, agent->policy_file, bytes, n) < 0)
                return crew_fail(err, ENOMEM, "%s: out of memory", d->c->path);
        struct load_request q = {.file = agent->policy_file,
                                 .bytes = bytes,
                                 .n = n,
                                 .agent_name = a->policy_agent ? a->policy_agent : agent->name,
                                 .crew_dir = d->c->dir,
                                 .missing_is_callers = true,
                                 .used = d->b.used};
        size_t before = d->b.report->errors;
        r = policy_load_request(&q, &agent->policy, d->b.report, &why);
        if (r == -EINVAL && d->b.report->errors != before) {
                const char *hint =
                        a->policy_agent ? "" : "for another agent's policy write {file: NAME.yaml, agent: ITS-AGENT}";
                bind_error(&d->b, a->policy, strstr(why.msg, "no policy for agent") ? hint : "",
                           "the policy of agent '%s' does not load", agent->name);
                return 0;
        }
        if (r < 0 && err)
                *err = why;
        return r;
}

int crew_resolve(struct crew_draft *d, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->c->n_agents; i++)
                r = load_policy(d, i, err);
        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < d->c->n_tasks; i++) {
                r = resolve_agent(d, i);
                if (r == 0)
                        r = resolve_context(d, i);
                if (r == 0 && d->c->n_agents)
                        bound_timeout(d, i);
        }
        if (r == 0)
                r = resolve_manager(d);
        if (r == 0)
                r = resolve_consensus(d);
        if (r == 0)
                r = resolve_memory(d);
        for (size_t i = 0; r == 0 && i < d->c->n_agents; i++)
                r = list_tools(d, i);
        if (r == 0)
                r = check_cycles(d);
        return r < 0 ? crew_fail(err, -r, "%s: out of memory", d->c->path) : 0;
}
