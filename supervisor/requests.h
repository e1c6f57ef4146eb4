/* SPDX-License-Identifier: Apache-2.0 */
/* What clients ask for; one function a request, in a table by message type. */
#pragma once

#include "agent.h"

struct crewd;
struct job;

#define REQUESTS_WAITING_MAX 64u
#define REQUESTS_STATS_FRESH_NS 900000000ull /* younger statistics are not asked for again */
#define REQUESTS_STATS_WAIT_NS 300000000ull  /* a Status goes out after this long without them */

struct requests;
struct requests *requests_new(void);
struct requests *requests_free(struct requests *r);
struct bytes_out;
struct bytes_in;
/* What was asked for with a key; nobody waits for it any more. */
void requests_save(const struct requests *r, struct bytes_out *b);
int requests_load(struct requests *r, struct bytes_in *b);
/* The agent that a request names, or NULL: it was refused. */
struct agent *requests_agent(struct crewd *c, uint64_t client, uint64_t corr, const char *name);
const char *requests_reason(const char *reason); /* as it goes on record */
void request_handle(struct crewd *c, uint64_t client, const Crew__Envelope *e);
/* Statistics that a Status waits for have come in, or its deadline has. */
void requests_flush_status(struct crewd *c, uint64_t now_ns);
uint64_t requests_next_deadline(const struct crewd *c);
void requests_stats_came(struct crewd *c, struct agent *a, const struct spawn_stats *stats);
/* Terminal messages. */
/* The instance is buried: those who asked for the kill get Killed. */
void requests_held(struct crewd *c, struct agent *a, int err); /* frozen or thawed, or not */
void requests_agent_dead(struct crewd *c, struct agent *a, const struct termination *t);
void requests_job_done(struct crewd *c, struct job *j);
void requests_run_done(struct crewd *c);
void requests_crew_stopped(struct crewd *c);
