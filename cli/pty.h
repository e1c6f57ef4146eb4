/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A terminal of its own for a jailed command, and the relay between it and the operator's.
 *
 * The operator's terminal never reaches the jail: a descriptor of it could be read from or typed into.  Whatever of
 * standard input, output and error is a terminal is replaced by the other end of the pty; pipes and files stay what
 * they are.  The relay restores the operator's terminal on every way out that a program can notice.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct pty { /* PTY_NULL */
        int master;
        int slave;    /* for the jail; close it here once the jail has it */
        int terminal; /* the operator's; one of 0, 1, 2 */
        bool input;   /* standard input is the terminal: it is made raw */
};
#define PTY_NULL ((struct pty){.master = -1, .slave = -1, .terminal = -1})

/* Fills stdio with what the jail gets.  If none of 0, 1, 2 is a terminal these are 0, 1, 2 and no pty is made. */
int pty_open(struct pty *p, int stdio[3], struct crew_err *err);
void pty_close(struct pty *p);

/* Something else to look after meanwhile; on_ready() may close it: fd is -1 then. */
struct pty_watch {
        const int *fd;
        void (*on_ready)(void *user);
        int (*on_turn)(void *user); /* before each wait: how long that may be in ms, -1 for ever */
        void *user;
};

/*
 * Runs until end_fd is readable (pidfd itself, or where the end is said) and the last output is passed on.  also: NULL is
 * fine.  Signals in pty_signals() must be blocked; those that ask a program to end are passed on to the process, SIGHUP of
 * a lost terminal ends the relay. 0 when the process has ended, -EIO when the terminal is gone, -errno.
 */
int pty_run(struct pty *p, int pidfd, int end_fd, const struct pty_watch *also, struct crew_err *err);
/* Blocks the signals the relay handles; the old mask goes to *old if not NULL. */
int pty_block_signals(void *old /* sigset_t * */);
