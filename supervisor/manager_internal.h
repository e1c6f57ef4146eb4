/* SPDX-License-Identifier: Apache-2.0 */
/* What the orders of a manager share: manager.c about tasks and the ends of agents, manager_instances.c about instances. */
#pragma once

#include "common/verbs.h"
#include "manager.h"
#include "rate.h"
#include "toolgate.h"

struct journal_order;
struct json_text;

#define MANAGER_ANSWER_MAX 4194304u /* CallResult.result */

struct manager {
        struct crewd *crewd;
        struct handouts *out;
        struct notices *notices;
        uint64_t tell_at_ns; /* 0: nothing has to be told, or it is told when the manager comes up */
        struct rate spawns;
        uint32_t index;
        bool coming; /* when its last instance died: another one follows */
};

/* One frame being handled. */
struct order {
        struct manager *m;
        struct agent *a;
        const Crew__Envelope *e;
        enum crew_verb verb;
};

/* Each answers the order. */
void manager_deny(const struct order *o, enum call_code code, const struct journal_order *what);
void manager_deny_text(const struct order *o, enum call_code code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void manager_no_audit(const struct order *o);
/* The manager's policy lets it address that agent; false after answering. */
bool manager_permitted(const struct order *o, const char *target);
void manager_send_json(struct agent *a, uint64_t seq, struct json_text *t);
void manager_put_agent(struct json_text *j, const struct agent *a);

void manager_on_spawn(const struct order *o);
void manager_on_retire(const struct order *o);
/* Those that have had nothing to do for long enough are retired; and when the next will be. */
void manager_instances_expire(struct manager *m, uint64_t now_ns);
uint64_t manager_instances_next(const struct manager *m);
/* All of them. */
void manager_instances_end(struct crewd *c, const char *reason);
