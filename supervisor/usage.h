/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent uses of its limits, and that it has come to one of them.
 *
 * Who enforces a limit is said in usage_row(); this part only watches, but for messages, of which it is the bucket.  What
 * is counted by whoever enforces it (a control group, the gateway, the worker, crewd) is counted exactly, also when the
 * agent is dead by then; what is not is looked at each second while the agent has a task, else in turn, and counts once for
 * each time that it was found at its bound.  The first time is on record at once, what follows at most once a minute, with
 * its count, and at the end.
 */
#pragma once

#include "common/spawn.h"
#include "meter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agent;
struct crewd;
struct gate_msg;

enum usage_limit {
        USAGE_MEMORY,
        USAGE_PROCESSES,
        USAGE_CPU,
        USAGE_OPEN_FILES,
        USAGE_TMP,
        USAGE_OUTPUT,
        USAGE_WALL_TIME,
        USAGE_CONNECTIONS,
        USAGE_HALF_OPEN,
        USAGE_DNS,
        USAGE_MESSAGES,
        USAGE_STATE,
        USAGE_LIMIT_N,
};
extern const char *const usage_limit_names[USAGE_LIMIT_N]; /* as in the policy; "state" is state_max of the crew file */

/* Of one instance; zeroed with it. */
struct usage {
        struct meter messages, refused;
        uint64_t second_ns;      /* when the one that is counted began */
        uint32_t sent, sent_was; /* messages in it, and in the one before */
        uint32_t connections;
        uint32_t oom_kills, forks_refused, periods_throttled; /* of the last look */
        uint64_t oom_ns;                                      /* when the first had risen last; 0: never */
        /* Of those killed for memory so many were not its program, which lived on; what is asked now, and by which frame.
         */
        uint32_t oom_others, oom_asked;
        uint64_t oom_ping; /* 0: nothing is asked */
        struct usage_told {
                bool at_bound;    /* when it was last looked at */
                uint64_t pending; /* hits that are not on record */
                uint64_t value, told_ns;
                const char *text; /* a constant */
        } told[USAGE_LIMIT_N];
};

/* At its end: something of it was killed for memory, and its program has not been known to live on after that. */
bool usage_oom_at_end(const struct agent *a, uint32_t oom_kills);
/* Its worker has answered, and not said before that its program has ended. */
void usage_pong(struct agent *a, uint64_t corr);
/* n hits.  value: what there was; 0: not known.  text: a constant. */
void usage_hit(struct agent *a, enum usage_limit which, uint64_t n, uint64_t value, const char *text);
/* It is over its limit by what crewd has measured: on record, and the agent ends.  text may go. */
void usage_exceeded(struct agent *a, enum usage_limit which, uint64_t value, const char *text);
/* A message to another agent may go.  False: there were too many, and it has been ended if it does not slow down. */
bool usage_message(struct agent *a, uint64_t now_ns);
/* What the spawner measured of a live instance, and last of a dead one. */
void usage_seen(struct agent *a, const struct spawn_stats *stats);
void usage_ended(struct agent *a, const struct spawn_stats *last);
/* What is not on record yet. */
void usage_flush(struct agent *a);
/* A report of the gateway about the current instance. */
void usage_network(struct agent *a, const struct gate_msg *m);
/* "limit-output": the worker enforces it and has put it on record. */
void usage_observed(struct agent *a, const char *what);

/* Asks the spawner what it uses; usage_seen() follows. */
int usage_ask(struct agent *a);
/* The same of those that have a task each second, of the others in turn. */
void usage_expire(struct crewd *c, uint64_t now_ns);
uint64_t usage_next_deadline(const struct crewd *c);

uint64_t usage_max(const struct agent *a, enum usage_limit which); /* 0: no limit */
/* A control group of its jail enforces it. */
bool usage_by_group(const struct agent *a, enum usage_limit which);
struct usage_row {
        const char *limit, *by;
        uint64_t use, max, hits;
        bool known; /* how much is used */
};
/* Memory and tmp in bytes, cpu in thousandths of a core, wall time in milliseconds, messages in the last second. */
struct usage_row usage_row(const struct agent *a, enum usage_limit which);
