/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What crewd keeps of one live instance for a gateway yet to come: its capture listeners and its network policy.
 *
 * A listener nobody accepts on would let dials hang.  So while there is no gateway the TCP listeners are shut down (what
 * waits in them is reset, what is dialled is refused by the kernel) and the UDP sockets connected to nobody (names are
 * refused by the kernel too).  All keep their ports, for they were bound to them by number, and can listen again.
 */
#pragma once

#include "common/digest.h"
#include "common/err.h"
#include "gateway_client.h"

struct gateway_slot {
        uint32_t id;             /* of the instance; 0: free */
        bool listed;             /* its listeners are here */
        int fds[GATE_LISTENERS]; /* owned, if listed */
        int policy;              /* owned; -1: none */
        uint8_t sha256[CREW_SHA256_BYTES];
        struct gateway_pending { /* a policy the gateway has not answered to; policy -1: none */
                int policy;      /* owned */
                bool sent;
                uint8_t sha256[CREW_SHA256_BYTES];
                uint32_t generation;
                gateway_policy_cb cb;
                void *user;
        } pending;
};
#define GATEWAY_SLOT_NULL ((struct gateway_slot){.fds = {-1, -1, -1, -1}, .policy = -1, .pending = {.policy = -1}})

/* Checks a netpolicy memfd; its digest. */
int gateway_slot_digest(int memfd, uint8_t sha256[CREW_SHA256_BYTES], struct crew_err *err);
/* Duplicates all or nothing.  -errno. */
int gateway_slot_take(struct gateway_slot *s, const int fds[GATE_LISTENERS]);
void gateway_slot_shut(struct gateway_slot *s);
int gateway_slot_listen(struct gateway_slot *s);
/* The pending policy is the policy. */
void gateway_slot_settle(struct gateway_slot *s);
/* Closes everything; GATEWAY_SLOT_NULL again. */
void gateway_slot_fini(struct gateway_slot *s);
