/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of one crew's control socket: blocking calls for the simple verbs, a pollable descriptor for the others.
 *
 * Frames from crewd go through the same accept pipeline as those of workers.  Sequence numbers are checked in both
 * directions.  A frame handed out is valid until the next one is asked for.
 */
#pragma once

#include "cli.h"
#include "common/paths.h"
#include "ipc-schema/ipc.h"

struct client;

/* Connects, greets and checks the answer.  crew NULL: the one that runs.  0, or -1 with a problem. */
int client_open(const char *crew, struct client **out, struct cli_problem *problem);
struct client *client_free(struct client *c);
static inline void client_freep(struct client **c) {
        client_free(*c);
}
#define _cleanup_client_ _cleanup_(client_freep)

const char *client_crew(const struct client *c);
const char *client_crew_file(const struct client *c);
uint32_t client_server_pid(const struct client *c);
int client_fd(const struct client *c);

/* Sequence number and version are filled in; the number is returned in *seq (may be NULL).  Queues what does not fit. */
int client_send(struct client *c, Crew__Envelope *e, uint64_t *seq, struct cli_problem *problem);
bool client_wants_write(const struct client *c);
/* Moves bytes both ways without blocking: call when the descriptor is ready. */
int client_pump(struct client *c, struct cli_problem *problem);
/* The next frame that has come in: 1; 0: none yet; -1 with a problem (code "closed" when crewd hung up). */
int client_take(struct client *c, const Crew__Envelope **out, struct cli_problem *problem);
/* The same, waiting up to timeout_ms (-1: for ever). */
int client_next(struct client *c, int timeout_ms, const Crew__Envelope **out, struct cli_problem *problem);
/* Sends and waits for the answer; events in between are passed over.  A refusal is a problem. */
int client_call(struct client *c, Crew__Envelope *e, int timeout_ms, const Crew__Envelope **answer,
                struct cli_problem *problem);
/* Turns a Refused frame into a problem with the right exit status; returns -1. */
int client_refused(const Crew__Refused *r, struct cli_problem *problem);
/* Status of the crew. */
int client_status(struct client *c, const Crew__Status **out, struct cli_problem *problem);
