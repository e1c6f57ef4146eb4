/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crew file: loaded from YAML with the same strictness as a policy, with the policies and schemas it names, and
 * checked across agents.  Everything is owned by struct crew_file and immutable after crew_load().
 */
#pragma once

#include "policy.h"

#include <stdio.h>

enum crew_process { CREW_SEQUENTIAL, CREW_HIERARCHICAL, CREW_CONSENSUAL, CREW_PROCESS_N };
extern const char *const crew_process_names[CREW_PROCESS_N];

/* Who is asked when a policy says `on_unlisted: ask`. */
enum crew_approvals {
        CREW_APPROVALS_ATTACHED, /* a client that follows the approvals; without one the answer is no, at once */
        CREW_APPROVALS_OPERATOR, /* somebody will look: asks are held for the policy's ask_timeout in any case */
        CREW_APPROVALS_N,
};
extern const char *const crew_approvals_names[CREW_APPROVALS_N];

/* What follows from the death of an agent: on_agent_terminated. */
enum crew_death {
        CREW_DEATH_FAIL_TASK, /* its task fails; it is not started again */
        CREW_DEATH_REASSIGN,  /* it is started again, and the new instance gets the task */
        CREW_DEATH_RESTART,   /* it is started again; the task fails */
        CREW_DEATH_STOP_CREW, /* the task fails, and the crew ends */
        CREW_DEATH_N,
};
extern const char *const crew_death_names[CREW_DEATH_N];

/* Who is started again together with an agent that is: OTP's strategies. */
enum crew_strategy {
        CREW_ONE_FOR_ONE,
        CREW_REST_FOR_ONE, /* those after it in the crew file */
        CREW_ONE_FOR_ALL,
        CREW_STRATEGY_N,
};
extern const char *const crew_strategy_names[CREW_STRATEGY_N];

/* What becomes of the agents when crewd is gone without having ended them. */
enum crew_loss {
        CREW_LOSS_TERMINATE, /* they are killed at once */
        CREW_LOSS_HOLD,      /* they wait, hold_for_ms at most, for the next crewd of this crew; supervisor/adopt.h */
        CREW_LOSS_N,
};
extern const char *const crew_loss_names[CREW_LOSS_N];
#define CREW_HOLD_FOR_MS 60000u

struct crew_supervision {
        enum crew_strategy strategy;
        bool limited;       /* the crew ends with more restarts than this, of all its agents: */
        uint32_t intensity; /* ... so many */
        uint64_t period_ms; /* ... in this time */
};

#define CREW_AGENTS_MAX 4095u /* of a crew, further instances too; each has a number of INSTANCE_INDEX_BITS */
#define CREW_RESTART_MAX 64u  /* the most that can be remembered; RATE_MAX in supervisor/rate.h */
#define CREW_RESTART_DEFAULT 3u
#define CREW_RESTART_WITHIN_MS 60000u

struct crew_schema; /* compiled JSON Schema; supervisor/schema/schema.h */

struct crew_tool {
        const char *name, *description;
        const char **command; /* argv, ${CREW_DIR} expanded, NULL-terminated */
        size_t n_command;
        struct crew_schema *input, *output; /* NULL: any JSON */
        const char *input_file, *output_file;
        uint64_t timeout_ms; /* default 30 s */
        uint64_t max_output; /* default 4 MiB */
        bool audit_full;     /* audit: full -> values, not only digests */
        bool idempotent;
        struct policy_mark mark;
};

/* How crewd finds out whether an agent is well; supervisor/health.h. */
enum crew_health_kind { CREW_HEALTH_NONE, CREW_HEALTH_COMMAND, CREW_HEALTH_HEARTBEAT };
struct crew_health {
        enum crew_health_kind kind;
        const char **command; /* argv, ${CREW_DIR} expanded, NULL-terminated */
        size_t n_command;
        uint64_t every_ms, timeout_ms; /* defaults 30 s, 10 s */
        uint32_t failures;             /* in a row, before it is killed; default 3 */
        struct policy_mark mark;
};

/* What becomes of an agent's state directory when an instance of it begins. */
enum crew_state { CREW_STATE_KEEP, CREW_STATE_FRESH, CREW_STATE_N };
extern const char *const crew_state_names[CREW_STATE_N];

struct crew_migrate {         /* of a directory that has another version than `version` */
        uint32_t version;     /* what the agent's program expects to find; 0: it does not say */
        const char **command; /* argv, as of the health check; NULL: none */
        size_t n_command;
        uint64_t timeout_ms; /* default 5 min */
        struct policy_mark mark;
};

struct crew_agent {
        const char *name, *role, *goal, *backstory;
        const char **command;
        size_t n_command;
        uint32_t driver;      /* enum plan_driver of common/plan.h */
        uint32_t restart_max; /* 0: never */
        uint64_t restart_within_ms;
        struct crew_health health;
        enum crew_state state;
        uint64_t state_max; /* bytes on disk; default 1 GiB */
        struct crew_migrate migrate;
        uint32_t max_instances; /* of this agent at a time; 1 unless its manager may ask for more */
        uint32_t instance;      /* 2 and up: a further one, which is as its first is; 0: the one declared */
        uint32_t instance_of;   /* the index of that */
        bool orchestrator;      /* no command: policy only, no process is started */
        bool absent;            /* no longer in the crew: a place that is kept, with a name and nothing else */
        uint32_t order;         /* in the file, from 0 */
        enum crew_death on_terminated;
        const char **tools; /* what it starts with, n_tools; NULL: all that its policy allows */
        size_t n_tools;
        struct policy_image *policy; /* further instances share their first's, until one of the two is reloaded */
        const char *policy_file;
        struct policy_mark mark, max_instances_mark;
};

struct crew_task {
        const char *name, *description, *expected_output, *agent;
        uint32_t agent_index;
        uint32_t *context; /* indices of tasks whose results it gets */
        size_t n_context;
        struct crew_schema *output;
        const char *output_file;
        const char *input_json; /* `input:` of the task as JSON text, or NULL */
        uint64_t timeout_ms;    /* default 5 min, bounded by the agent's limits.wall_time */
        uint32_t retries;       /* further attempts after a failure; none once a call that is not idempotent was granted */
        struct policy_mark mark;
};

/* Who hands out the tasks of a hierarchical crew, and how many. */
struct crew_manager {
        const char *agent; /* NULL: none */
        uint32_t index;
        uint32_t tasks_at_once; /* unfinished at any time */
        uint32_t tasks_total;   /* in the life of one crewd */
        struct policy_mark mark;
};
#define CREW_INSTANCES_MAX 16u
#define CREW_MANAGER_TASKS_AT_ONCE 8u
#define CREW_MANAGER_TASKS_TOTAL 256u

/* How a consensual crew agrees to a task's result. */
enum crew_rule { CREW_MAJORITY, CREW_UNANIMITY, CREW_WEIGHTED, CREW_RULE_N };
extern const char *const crew_rule_names[CREW_RULE_N];
enum crew_tie { CREW_TIE_REJECT, CREW_TIE_APPROVE, CREW_TIE_AGENT };
struct crew_consensus {
        uint32_t rule;     /* enum crew_rule */
        uint32_t quorum;   /* votes that must be cast; 0: by the rule */
        uint32_t *weights; /* n_agents; 0: it has no vote */
        uint64_t deadline_ms;
        enum crew_tie tie;
        uint32_t tie_agent;
};

/* A memory that agents share through crewd. */
enum { CREW_MEMORY_READ = 1, CREW_MEMORY_WRITE = 2 };
struct crew_memory {
        const char *name;
        uint8_t *rights; /* n_agents: CREW_MEMORY_*; who writes may read */
        uint64_t max_bytes, agent_bytes;
        uint32_t max_keys;
        struct policy_mark mark;
};

/* May an agent get more of what its policy allows than its `tools` lists? */
enum crew_delegation { CREW_TOOLS_LOCKED, CREW_TOOLS_WITHIN_ALLOWED, CREW_DELEGATION_N };
extern const char *const crew_delegation_names[CREW_DELEGATION_N];

/* Where a name in a policy really lives; never widens a policy. */
struct crew_endpoint {
        const char *host;
        uint16_t port;
        const char *to_host; /* or a literal address */
        uint16_t to_port;
        const char *ca_file; /* absolute; NULL: the system's certificates */
        const char *ca;      /* its text, as it was when the crew was loaded */
        size_t ca_bytes;
        struct policy_mark mark;
};

/* hooks.on_agent_terminated.webhook */
struct crew_webhook {
        const char *url;         /* NULL: none */
        const char *secret_file; /* absolute; crew-webhook alone reads it */
        const char *ca_file;     /* absolute; NULL: the system's certificates */
        struct policy_mark mark;
};

struct crew_file {
        const char *name, *path, *dir; /* dir: absolute; what ${CREW_DIR} means */
        enum crew_process process;
        enum crew_approvals approvals;
        struct crew_manager manager;     /* of process: hierarchical */
        struct crew_consensus consensus; /* of process: consensual */
        enum crew_delegation tool_delegation;
        struct crew_memory *memory;
        size_t n_memory;
        struct crew_tool *tools;
        size_t n_tools;
        struct crew_agent *agents;
        size_t n_agents;
        struct crew_task *tasks; /* in file order; `context` is acyclic */
        size_t n_tasks;
        struct crew_endpoint *endpoints;
        size_t n_endpoints;
        struct crew_supervision supervision;
        enum crew_loss on_loss;
        uint64_t hold_for_ms;
        const char *credentials;      /* absolute: the file that crew-gateway alone reads; NULL: none */
        const char **hook_terminated; /* hooks.on_agent_terminated.command or NULL */
        size_t n_hook_terminated;
        struct crew_webhook webhook;
        uint8_t sha256[32]; /* of the crew file's bytes */
        const char *bytes;  /* themselves: what crew_load_again() reads */
        size_t n_bytes;
};

/* Problems of the crew file and of every policy it names go to report; -EINVAL when one of them is an error. */
int crew_load(const char *file, struct crew_file **out, struct policy_report *report, struct crew_err *err);
/*
 * The same crew with its policy and schema files read again: the crew file itself counts as it was when c was loaded, so
 * that agents, tools and tasks are the same ones, in the same places, whatever became of the file.
 */
int crew_load_again(const struct crew_file *c, struct crew_file **out, struct policy_report *report, struct crew_err *err);
/* The same, but only this agent's policy file is read: the others have the policies that c has now. */
int crew_load_agent_again(const struct crew_file *c, const char *agent, struct crew_file **out,
                          struct policy_report *report, struct crew_err *err);
/*
 * For a crewd that runs already, and has agents of these names in these places: whom the file names too has the same index,
 * new ones come after all of them, and who is not in the file is there as an absent one.
 */
struct crew_places {
        const char *const *names;
        size_t n;
};
int crew_load_placed(const char *file, const struct crew_places *places, struct crew_file **out,
                     struct policy_report *report, struct crew_err *err);
struct crew_file *crew_file_free(struct crew_file *c);
/* A line for each file that was read for it: kind, SHA-256 of the bytes that were parsed, name. */
void crew_sources_write(const struct crew_file *c, FILE *f);
const struct crew_agent *crew_find_agent(const struct crew_file *c, const char *name);
/* The agent that a policy means by this name: a further instance is meant by its first's. */
const char *crew_policy_name(const struct crew_file *c, const char *name);
const struct crew_tool *crew_find_tool(const struct crew_file *c, const char *name);
