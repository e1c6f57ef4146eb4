/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd's side of the gateway (common/gate.h).
 *
 * A gateway that dies is started again by the launcher (launcher.h).  crewd keeps the listeners and the network
 * policy of every live instance for the next one; while there is none the listeners are closed for business, so what is
 * dialled is refused by the kernel, and it is on record that nobody saw it.
 *
 * All functions take NULL: crew-gateway is not installed; jails then have no capture listeners and no network at all.
 */
#pragma once

#include "common/err.h"
#include "common/gate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agent;
struct crewd;
struct gateway;

/* fd: the launcher's; owned, also on failure. */
int gateway_open(struct crewd *c, int fd, struct gateway **out, struct crew_err *err);
void gateway_close(struct gateway *g);
/* The first gateway has said what it has to say (or never will): agents can be planned.  And until when that is waited for;
 * UINT64_MAX: it is not. */
bool gateway_settled(const struct gateway *g);
uint64_t gateway_next_deadline(const struct gateway *g);
void gateway_expire(struct gateway *g, uint64_t now_ns);
/* Everything about the instances that are gone has come in. */
bool gateway_idle(const struct gateway *g);
/* There is one now, and it works. */
bool gateway_up(const struct gateway *g);
/* "" when it is up, else what a person should know: "gateway restarting: every connection refused". */
void gateway_state(const struct gateway *g, char *out, size_t out_size);
/* The system's certificates with the crew's own CA added, for the view of an agent whose TLS is inspected; NULL: it has
 * none. */
const char *gateway_ca_bundle(const struct gateway *g, const struct agent *a);

/* Compiles the network policy of the instance that a is about to become, and writes its digest.  Before gateway_add(). */
int gateway_prepare(struct gateway *g, struct agent *a, uint8_t sha256[32], struct crew_err *err);
/* fds: the capture listeners of the prepared instance; they stay the caller's.  Negative: the gateway does not have them,
 * so what is dialled is refused without a record. */
int gateway_add(struct gateway *g, const struct agent *a, const int fds[GATE_LISTENERS]);
/* Everything of the instance is closed at once. */
void gateway_remove(struct gateway *g, uint32_t id);

/* What became of a new network policy. */
struct gateway_outcome {
        bool applied;
        uint32_t generation;
        uint32_t closed;  /* connections that it forbids */
        const char *text; /* why not; "" */
};
typedef void (*gateway_policy_cb)(struct crewd *c, uint32_t id, const struct gateway_outcome *o, void *user);
/*
 * GATE_POLICY: a new netpolicy memfd (duplicated) for a live instance, all or nothing; one at a time (-EBUSY).  0: cb is
 * called exactly once, perhaps before this returns; negative: never.  When the gateway dies meanwhile the new policy is
 * what the next one gets, and counts as applied.  The digests before and after go into the agent's stream from here.
 */
int gateway_policy(struct gateway *g, uint32_t id, int memfd, uint32_t generation, gateway_policy_cb cb, void *user);

/* GATE_ANSWER to a pending ask of instance id: verdict GATE_LET or GATE_REFUSE, scope GATE_ONCE or GATE_SESSION; why: for
 * the record of a refusal, "" when an operator said so.  -EPIPE: no gateway. */
int gateway_answer(struct gateway *g, uint32_t id, uint32_t ask, enum gate_verdict verdict, enum gate_scope scope,
                   const char *why);
