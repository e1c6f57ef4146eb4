/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel auditing as a whole: on while anyone of us needs it, as it was before when the last one leaves.
 *
 * Several crews share the kernel's one switch.  A lock file holds how it was; each user holds the lock shared, and who
 * can get it exclusively on leaving restores.  After a kill -9 the file is still there and the next user takes over.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct auditctl {    /* AUDITCTL_NULL */
        int control; /* NETLINK_AUDIT */
        int records; /* the multicast group: Landlock records only */
        int state;   /* the lock file */
        uint32_t seq;
};
#define AUDITCTL_NULL ((struct auditctl){.control = -1, .records = -1, .state = -1})

int auditctl_open(struct auditctl *a, const char *state_path, struct crew_err *err);
void auditctl_close(struct auditctl *a);
/* How many records the kernel has dropped before they reached any socket, since boot. */
int auditctl_lost(struct auditctl *a, uint32_t *lost);
