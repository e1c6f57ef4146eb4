/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: <run>/<crew>/control.sock, mode 0600, for the user crewd runs as (and root).  One connection a
 * client, the pair1 wire of common/spwire.h, Envelopes of ipc-schema.
 *
 * Clients are trusted with the crew but not to be well: each has a bounded output queue, and one that does not read, or
 * sends what is no frame, is dropped without harm to the others.
 */
#pragma once

#include "agent.h"
#include "common/err.h"

#include <stdint.h>

#define CONTROL_CLIENTS_MAX 64u
#define CONTROL_QUEUE_MAX (16u << 20)  /* bytes waiting for one client */
#define CONTROL_HELLO_NS 5000000000ull /* to say ClientHello */

struct control;
/* Listens on <dir>/control.sock. */
int control_open(struct crewd *c, const char *dir, struct control **out, struct crew_err *err);
/* Takes no new clients, closes all when their queues are out (or at once). */
void control_close(struct control *k, bool at_once);
bool control_drained(const struct control *k);
void control_free(struct control *k); /* after the loop has closed everything */

/* To one client by id; a client that is gone is none of the caller's business.  Clears e->seq and numbers it. */
/* Frames to clients leave here, at the end of a turn: an agent that waits for its next task comes first, and with
 * on_supervisor_loss: hold, what they say is known to the next crewd, too. */
void control_flush(struct control *k);
void control_send(struct control *k, uint64_t client, Crew__Envelope *e);
void control_refuse(struct control *k, uint64_t client, uint64_t corr, const char *code, const char *hint, const char *fmt,
                    ...) __attribute__((format(printf, 6, 7)));
void control_event(struct control *k, const Crew__Event *e);         /* to all subscribers */
const char *control_client_name(struct control *k, uint64_t client); /* "uid 1000 (crewctl 0.1)" */
/* As what its kills count: OPERATOR or ORCHESTRATOR, as it said in its hello; both may do the same. */
Crew__Cause control_client_cause(struct control *k, uint64_t client);
void control_subscribe(struct control *k, uint64_t client);
/* This client is told of approvals from now on, in answers to corr; while one is, there is somebody to ask. */
void control_follow(struct control *k, uint64_t client, uint64_t corr);
bool control_followed(const struct control *k);
void control_approval(struct control *k, Crew__ApprovalChanged *body); /* to all that follow */
bool control_subscribed(struct control *k, uint64_t client);

void control_expire(struct control *k, uint64_t now_ns);
uint64_t control_next_deadline(const struct control *k);
