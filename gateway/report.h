/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway tells crewd.  Identical denials of one instance within a window are folded into one message with a
 * count, so that a flood costs bounded memory and is still counted exactly.
 */
#pragma once

#include "common/gate.h"

#include <stdbool.h>
#include <stddef.h>

#define REPORT_SLOTS 256
#define REPORT_DIFFERENT_MAX 32 /* of one instance in a window; the others are counted together */
#define REPORT_OTHERS "(others)"

struct report {
        int fd;
        size_t n;
        struct gate_msg pending[REPORT_SLOTS];
};

void report_init(struct report *r, int fd);
/* Notes one denial; sends at once when it is the first of its kind in this window, else counts it. */
int report_denied(struct report *r, uint32_t id, enum gate_proto proto, uint32_t port, const char *name);
/* Sends the counts gathered since; the window starts anew.  Called REPORT_WINDOW_MS after the first. */
int report_flush(struct report *r);
int report_send(struct report *r, enum gate_op op, uint32_t id);
bool report_pending(const struct report *r);
#define REPORT_WINDOW_MS 100
