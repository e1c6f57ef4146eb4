/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crew file between YAML and struct crew_file: what its tables bind, plus the nodes that messages point to.
 * The arena and the public struct live in struct crew_own, which the caller of crew_load() gets.
 */
#pragma once

#include "bind.h"
#include "crew_file.h"
#include "lock.h"

struct crew_own {
        struct crew_file pub; /* first: crew_file_free() casts back */
        struct arena arena;
        struct lock_list used; /* the files that were read */
};

/* Parallel to crew_file.agents, .tasks, .tools: where their keys stand. */
struct agent_draft {
        const struct node *node, *policy, *command, *driver, *tools, *state, *migrate_command, *health, *health_command;
        const struct node *restart, *on_terminated, *instances; /* NULL: not given */
        const char *policy_name;                                /* as written */
        const char *policy_agent;                               /* whose document; NULL: the agent's own */
};
struct task_draft {
        const struct node *node, *agent, *context, *timeout;
};
struct tool_draft {
        const struct node *node, *command;
};

struct crew_draft {
        struct bind b;
        struct crew_own *own;
        struct crew_file *c;              /* &own->pub */
        const char *policies;             /* as written, NULL: the crew's directory */
        const struct crew_file *in_force; /* NULL, or where the policies of all agents but `only` are taken from */
        const char *only;
        struct agent_draft *agents;
        struct task_draft *tasks;
        struct tool_draft *tools;
        const struct node *hook_command, *credentials, *process_at, *manager, *consensus, *voters, *quorum, *tie_break,
                *memory, *webhook_secret;
        uint32_t process;
        uint32_t *order; /* of the tasks: each after those of its context; set by crew_resolve() */
        const struct node *default_on_terminated, *supervision, *loss, *hold_for;
        uint32_t default_action; /* enum crew_death */
};

/* Binds the document; names are not resolved yet. */
int crew_bind(struct crew_draft *d, const struct node *doc);
/* The key `endpoints`; out is the struct crew_draft. */
int crew_bind_endpoints(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
/* The keys `defaults`, `supervision`, and an agent's `restart` and `on_agent_terminated`. */
int crew_bind_defaults(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
int crew_bind_supervision(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
int crew_bind_restart(struct bind *b, const struct node *v, struct crew_agent *a, struct agent_draft *d);
int crew_bind_on_terminated(struct bind *b, const struct node *v, const struct bind_field *f, struct crew_agent *a,
                            struct agent_draft *d);
/* The key `hooks`. */
int crew_bind_hooks(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
/* An agent's `state`. */
int crew_bind_state(struct bind *b, const struct node *v, const struct bind_field *f, struct crew_agent *a,
                    struct agent_draft *d);
/* argv with ${CREW_DIR} expanded; *at becomes the list. */
int crew_bind_command(struct bind *b, const struct node *v, const struct node **at, const char ***out, size_t *n_out);
/* What each agent's death leads to, once all of these are bound. */
void crew_settle_supervision(struct crew_draft *d);
/* Names between tasks, agents and tools, cycles; then policies are loaded. */
int crew_resolve(struct crew_draft *d, struct crew_err *err);
/* What must hold between agents; see files "Cross-crew checks" in crew-file(5). */
int crew_check(struct crew_draft *d, struct crew_err *err);

/* `max_instances`: who may have it, and then the further instances behind all agents that are declared.  Once everything is
 * checked: they are as their first is.  -ENOMEM. */
void crew_check_instances(struct crew_draft *d);
int crew_add_instances(struct crew_draft *d);
/* For crew_load_placed().  -ENOMEM. */
int crew_arrange(struct crew_file *c, const struct crew_places *places);

/* A file named in the crew file: relative to its directory, ${CREW_DIR} expanded.  Absolute.  0, 1 reported, -errno. */
int crew_path(struct bind *b, const struct node *at, const char *text, const char **out);
/* The same for one with a secret: looked at (a regular file, no one else's to read), never read here; what is in it is for
 * the helper alone that needs it, which looks again. */
int crew_secret_file(struct bind *b, const struct node *v, const struct bind_field *f, const char **out);
/* "did you mean 'x'? declared: a, b, c" */
const char *crew_suggest(char *buf, size_t size, const char *word, const char *const *names, size_t n);
/* argv words that are regular files below the crew's directory: true, and the normalised path in out (PATH_MAX). */
bool crew_own_file(const struct crew_file *c, const char *word, char *out);
