/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of `crewctl sandbox`: a crew-gateway of its own, for one jail, without a daemon.
 *
 * What the policy lists is reached through it; what it refuses is said on standard error.  It ends with us.
 */
#pragma once

#include "common/err.h"
#include "supervisor/policy/policy.h"

#include <stdbool.h>
#include <sys/types.h>

struct sandbox_net { /* SANDBOX_NET_NULL */
        int fd;
        pid_t pid;
        bool raw; /* the operator's terminal needs its carriage returns from us */
};
#define SANDBOX_NET_NULL ((struct sandbox_net){.fd = -1})

/* NULL, or what of this policy only a crew has. */
const char *sandbox_net_lacks(const struct policy_image *p);
/* Starts the gateway; it is not waited for. */
int sandbox_net_open(struct sandbox_net *n, struct crew_err *err);
/* Hands over the listeners of the jail, which are closed here, and what it may reach. */
int sandbox_net_serve(struct sandbox_net *n, const struct policy_image *p, int listeners[4], struct crew_err *err);
/* When n->fd is readable. */
void sandbox_net_on_report(struct sandbox_net *n);
/* After the jail has ended: says what is left to say. */
void sandbox_net_close(struct sandbox_net *n);
