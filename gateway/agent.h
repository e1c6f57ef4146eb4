/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instance as the gateway knows it: its policy, the names it was told, its limits and what it has under way.
 *
 * Owned by the program's table until agent_close(); the memory goes when the last listener and connection are gone.
 */
#pragma once

#include "bucket.h"
#include "hub.h"
#include "names.h"
#include "report.h"
#include "resolver.h"
#include "unlisted.h"

#include "common/err.h"
#include "common/gate.h"
#include "common/netpolicy.h"

#include <stdbool.h>
#include <stdint.h>

struct capture;
struct conn;
struct held;
struct grants;

struct agent {
        struct hub *hub;
        uint32_t id;
        const struct netpolicy_head *policy; /* NULL: reaches nothing */
        struct capture *capture;
        struct names *names;
        struct unlisted *unlisted; /* NULL: none yet */
        struct hub_deadline lookups_late;
        struct denials denials;
        struct bucket dns, bytes;
        struct resolver_quota lookups;

        struct conn *conns;
        unsigned n_conns, n_half_open;
        struct conn *throttled; /* wait for bandwidth */
        struct hub_deadline more_bandwidth;
        uint64_t share; /* of the bandwidth, of whom it is the turn */
        bool in_turn;

        struct held *asks;
        unsigned n_asks;
        struct grants *grants; /* NULL: none yet */

        unsigned refs;
        bool closing;
};

/* fds: GATE_LISTENERS listeners, then perhaps its policy; all are owned here, on failure too. */
int agent_open(struct hub *h, uint32_t id, int *fds, size_t n_fds, struct agent **out, struct crew_err *err);
/* Every connection is closed and reported, the listeners go. */
void agent_close(struct agent *a);
/* A new policy, all or nothing: 0 with *closed, the connections that it forbids; negative and the former stays. */
int agent_reload(struct agent *a, int fd, uint32_t *closed, struct crew_err *err);
void agent_ref(struct agent *a);
void agent_unref(struct agent *a);

/* Reports a refusal; name may be any text of the jail's. */
void agent_denied(struct agent *a, enum gate_proto proto, const char *name, uint16_t port, enum gate_verdict verdict,
                  const char *text);
/* The address of a name that no rule lists, for a question of this type.  0 or -ENOMEM. */
int agent_unlisted_address(struct agent *a, const char *canonical, enum unlisted_type type, struct in_addr *out);
/* The name behind an address that is dialled now; NULL when nobody was told that address.  Gone with the next question. */
const char *agent_dialled_name(struct agent *a, const struct sockaddr *to);
/* How many bytes a connection may move now; UINT64_MAX without a limit, 0: conn_throttle().  While some wait it is nobody's
 * turn but theirs. */
uint64_t agent_allowance(struct agent *a);
/* So many were moved. */
void agent_moved(struct agent *a, uint64_t n);
/* Sends a message about this instance; negative results end the gateway from here.  As report_send(). */
int agent_report(struct agent *a, struct gate_msg *m, void (*sent)(void *user), void *user);
