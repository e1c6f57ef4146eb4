/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture listeners of one jail: whatever its programs dial arrives here.  Identity is the channel; nothing the peer
 * sends is believed about who it is.
 */
#pragma once

#include "report.h"

#include "common/err.h"

#include <uv.h>

enum capture_socket { CAPTURE_TCP4, CAPTURE_TCP6, CAPTURE_UDP4, CAPTURE_UDP6, CAPTURE_SOCKET_N };

struct capture;
/* Takes the CAPTURE_SOCKET_N listeners over, closing them on failure too. */
int capture_open(uv_loop_t *loop, struct report *report, uint32_t id, const int fds[CAPTURE_SOCKET_N], struct capture **out,
                 struct crew_err *err);
uint32_t capture_id(const struct capture *c);
/* Idempotent; the memory goes with the last handle. */
void capture_close(struct capture *c);
