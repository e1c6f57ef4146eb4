/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's state: one per process, on the stack of worker_run().  Each noun below has its own file; what is shared
 * between them is declared here.
 */
#pragma once

#include "loop.h"
#include "strbuf.h"
#include "uplink.h"
#include "worker.h"

#define MAX_TASKS 8u
#define MAX_TOOL_RUNS 8u
#define MAX_TOOL_WAITING 64u
#define MAX_ASK_RUNS 4u
#define MAX_ASKS 64u
#define MAX_EXECS 4u
#define MAX_LETTERS 256u
#define MAX_LETTER_BYTES (16u << 20)
#define MAX_CLIENTS 64u
#define MAX_CALLS 64u
#define TERM_GRACE_MS 1000u
#define DEFAULT_ASK_MS 300000u

/*
 *   GREETING --Welcome--> RUNNING --Shutdown--> STOPPING --no program left, or grace over--> exit 0
 *       any: link gone -> exit at once (the kernel kills the rest of the jail)
 *       RUNNING, PLAN_HOLD: link gone -> frames wait and timers stand still until the spawner hands over another link
 */
enum worker_phase { WORKER_GREETING, WORKER_RUNNING, WORKER_STOPPING };

struct rpc_agent;

struct worker {
        const struct worker_config *cfg;
        const struct plan *plan;
        const struct plan_program *agent; /* the agent's program */
        enum worker_phase phase;
        int exit_code;
        struct loop loop;
        struct uplink up;
        struct watch lifeline;    /* PLAN_HOLD: where another link comes from */
        struct timer grace, term; /* of a shutdown: its end; when programs that were told get SIGTERM */
        uint64_t stop_by_ns;
        char stop_reason[200];

        /* program.c */
        struct watch children;
        struct list programs;
        pid_t last_pid, max_pid; /* of our own forks: every pid of the namespace is at most max_pid */
        struct timer sweep;

        /* tasks.c, rpc_agent.c */
        struct list tasks;
        unsigned n_tasks;
        struct rpc_agent *rpc; /* stdio-rpc: its process; owned */

        /* tools.c */
        struct list tools, tools_waiting;
        unsigned n_tools, n_tools_waiting;

        /* execs.c */
        struct list execs;
        unsigned n_execs;

        /* inbox.c */
        struct list letters, asks_waiting, asks_running, asks_taken;
        unsigned n_letters, n_asks_waiting, n_asks_running, n_asks_taken;
        size_t letter_bytes;

        /* client.c */
        struct watch listener;
        struct list clients, calls;
        unsigned n_clients, n_calls;

        /* worker.c: observations are bounded per window */
        struct timer observe_window;
        unsigned n_observed;
};

/* Tells crewd what happened here, for the audit; bounded; what is cut is counted. */
void worker_observe(struct worker *w, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Ends the loop; nothing is answered any more. */
void worker_quit(struct worker *w, int exit_code);
/* What is left of a shutdown's grace. */
uint64_t worker_stop_left_ms(const struct worker *w);
/* In STOPPING: quits when no program is left. */
void worker_stop_if_empty(struct worker *w);
/* Packs and sends a body that must go out; quits when it cannot.  The sequence number. */
uint64_t worker_send(struct worker *w, Crew__Envelope *e);
#define ENVELOPE(case_, ...)                                                                                               \
        ((Crew__Envelope){PROTOBUF_C_MESSAGE_INIT(&crew__envelope__descriptor), .body_case = CREW__ENVELOPE__BODY_##case_, \
                          __VA_ARGS__})
