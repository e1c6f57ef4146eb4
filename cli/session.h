/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crew that we started and watch: run and up.  Owns the process, the connection, the signals and what is shown.
 *
 * Ctrl-C and SIGTERM are read, not delivered: the first one ends the waiting, one during the stop makes it immediate.
 */
#pragma once

#include "client.h"
#include "launch.h"
#include "progress.h"
#include "supervisor/policy/crew_file.h"

struct session { /* SESSION_NULL */
        struct crew_paths paths;
        struct crew_file *crew;    /* owned */
        struct progress *progress; /* owned */
        struct client *client;     /* owned */
        struct launch launch;
        int signal_fd; /* owned */
        int signal;    /* the last one that came; 0: none */
};
#define SESSION_NULL ((struct session){.launch = LAUNCH_NULL, .signal_fd = -1})

struct session_args {
        const char *crew_file;
        bool own;       /* the crew ends when we do */
        bool stderr_up; /* crewd's messages go to our standard error */
        bool quiet;     /* show nothing */
        bool locked;    /* nothing that differs from crew.lock */
};
/* Loads and checks the crew, starts it, waits for its agents, connects, subscribes, shows the agents.
 * 0; -1 with a problem (also when a signal came); nothing is left running then. */
int session_open(struct session *s, const struct session_args *args, struct cli_problem *problem);
void session_close(struct session *s);

/* Waits for frames; events are shown, others go to on_frame, which returns true to end the waiting.
 * 1: it did; 0: a signal came (s->signal); -1 with a problem, code "closed" when crewd is gone. */
int session_wait(struct session *s, bool (*on_frame)(const Crew__Envelope *e, void *user), void *user,
                 struct cli_problem *problem);
/* Stops the crew and waits until crewd has ended; a further signal makes it immediate. */
void session_stop(struct session *s, uint64_t grace_ms, const char *reason);
/* crewd went away by itself: reaps it and completes the problem with what it said. */
void session_died(struct session *s, struct cli_problem *problem);
