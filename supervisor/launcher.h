/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A launcher: a process forked from crewd before crewd gives up exec, whose one ability is to start one program,
 * crew-gateway or crew-webhook, with the arguments it was made with, one at a time.  It takes no argument from crewd but
 * the socket the program shall have, so a crewd that has been taken over can have a new gateway and nothing else.
 *
 * The operator's environment lives on in the gateway's launcher and in the gateway (its credentials may name variables);
 * crewd wipes its own.  When crewd is gone the program is ended, and the launcher with it.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum launch_op {
        LAUNCH_START = 1, /* fd: the program's end of its SOCK_SEQPACKET pair; one that still runs is killed first */
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

#define LAUNCHER_WORDS_MAX 4u

struct launcher_args {
        const char *program;
        const char *words[LAUNCHER_WORDS_MAX]; /* behind --fd N, up to the first NULL */
        const char *const *env;                /* NULL: the operator's */
};

/* Our end of the launcher's channel, or negative: the program is not installed, or no process could be made. */
int launcher_start(const struct launcher_args *args, pid_t *pid, struct crew_err *err);
