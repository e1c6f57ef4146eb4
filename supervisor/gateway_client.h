/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd's side of the gateway (common/gate.h).  Without a gateway, or once it has died, jails get no capture listeners
 * and so no network at all: nothing is let through, but dials are not recorded either, and status says so.
 */
#pragma once

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct crewd;
struct gateway;
#define GATEWAY_LISTENERS 4u

int gateway_open(struct crewd *c, int fd, struct gateway **out, struct crew_err *err);
void gateway_close(struct gateway *g);
/* fds: the capture listeners; they stay the caller's.  Negative: the gateway does not have them, so what is dialled is
 * refused without a record. */
int gateway_add(struct gateway *g, uint32_t id, const int *fds);
void gateway_remove(struct gateway *g, uint32_t id);
