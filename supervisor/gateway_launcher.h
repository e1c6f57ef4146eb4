/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher: a process forked from crewd before crewd gives up exec, whose one ability is to start crew-gateway with the
 * arguments it was made with, one at a time.  It takes no argument from crewd but the socket the gateway shall have, so a
 * crewd that has been taken over can have a new gateway and nothing else.
 *
 * The operator's environment lives on here and in the gateway (its credentials may name variables); crewd wipes its own.
 * When crewd is gone the gateway is ended, and the launcher with it.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum launch_op {
        LAUNCH_START = 1, /* fd: the gateway's end of its SOCK_SEQPACKET pair; one that still runs is killed first */
        /* launcher -> crewd */
        LAUNCH_STARTED, /* .pid */
        LAUNCH_ENDED,   /* .pid, .status as of waitpid(2); before the LAUNCH_STARTED of the next one */
        LAUNCH_FAILED,  /* .status: an errno */
};

struct launch_msg {
        uint32_t op;
        int32_t pid;
        int32_t status;
};

struct launcher_args {
        const char *credentials; /* NULL: none */
        bool inspect;
};

/* Our end of the launcher's channel, or negative: crew-gateway is not installed, or no process could be made. */
int gateway_launcher_start(const struct launcher_args *args, pid_t *pid, struct crew_err *err);
