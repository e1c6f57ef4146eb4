/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a jail's network namespace: lo, the capture rules, the capture listeners. */
#pragma once

#include "common/err.h"

#include <stddef.h>

int netns_lo_up(struct crew_err *err);
/* Sends ready netlink messages (common/netrules.h) and checks every acknowledgement. */
int netns_apply(const void *rules, size_t n, struct crew_err *err);
/* tcp4, tcp6, udp4, udp6 on the ports of common/gate.h.  A kernel without IPv6 gets the IPv4 listener twice. */
int netns_listen(int listeners[4], struct crew_err *err);
