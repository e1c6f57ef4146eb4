/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tool gate: policy -> arguments against their schema -> audit, durable -> grant -> result against its schema ->
 * audit -> answer.  Each ToolCall gets exactly one CallResult, whatever the worker, the tool or the clock do.
 */
#pragma once

#include "agent.h"
#include "router.h"

#define TOOLGATE_OPEN_MAX 32u           /* calls in flight of one agent */
#define TOOLGATE_SLACK_NS 5000000000ull /* beyond the tool's own timeout, which the worker enforces */

struct toolgate;
struct toolgate *toolgate_new(struct crewd *c);
struct toolgate *toolgate_free(struct toolgate *t);
/* For the next crewd: what was granted and has not returned, and tools granted on request.  0, -EBADMSG or -ENOMEM. */
struct bytes_out;
struct bytes_in;
void toolgate_save(struct toolgate *t, struct bytes_out *b);
int toolgate_load(struct toolgate *t, struct bytes_in *b);

void toolgate_call(struct toolgate *t, struct agent *a, const Crew__Envelope *e);
/* False: no such call is in flight. */
bool toolgate_return(struct toolgate *t, struct agent *a, const Crew__Envelope *e);
/* tools/request: granted only when the policy allows the tool and the crew's tool_delegation is within_allowed. */
void toolgate_request(struct toolgate *t, struct agent *a, const Crew__Envelope *e);
/* The tools that this agent has, and the verbs it may use. */
void toolgate_list(struct toolgate *t, struct agent *a, uint64_t corr);

/* Some call in flight is of a tool of that file. */
bool toolgate_needs(struct toolgate *t, const struct crew_file *file);
void toolgate_agent_gone(struct toolgate *t, uint32_t agent);
void toolgate_expire(struct toolgate *t, uint64_t now_ns);
uint64_t toolgate_next_deadline(const struct toolgate *t);
/* Deadlines of this agent's calls move by that much. */
void toolgate_put_off(struct toolgate *t, uint32_t agent, int64_t ns);
void toolgate_describe(struct toolgate *t, uint32_t agent, void (*fn)(const char *text, void *user), void *user);

/* The CallResult of a ToolCall or SendMessage. */
void toolgate_reply(struct agent *a, uint64_t corr, const struct call_reply *reply);
