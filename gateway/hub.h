/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop, and what all connections share: one epoll set (a connection's socket is registered once, edge-triggered, and
 * never changed), work that is to go on after others had their turn, deadlines, retirement, the pool of pipes, the
 * reports.
 *
 * One set and no general event library around it: every wake-up of a connection would otherwise be waited for twice.
 * One loop thread.  Whatever a callback ends is retired, not freed: it is freed when no event that was already fetched
 * can name it any more.
 */
#pragma once

#include "report.h"

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct hub;
struct resolver;

struct hub_source {
        void (*on_event)(struct hub_source *s, uint32_t epoll_events);
        bool dead; /* events that were fetched before are dropped */
};

struct hub_task {
        void (*run)(struct hub_task *t);
        struct hub_task *next, **prev; /* prev: queued */
};

struct hub_deadline {
        void (*on_deadline)(struct hub_deadline *d);
        struct hub_deadline *next, **prev;
        uint64_t at_ms;
};

struct hub_grave {
        struct hub_grave *next;
        void (*bury)(struct hub_grave *g);
};

#define HUB_PIPES_KEPT 64u
struct hub {
        struct report report;
        struct resolver *resolver;
        uint64_t last_conn;
        uint32_t last_ask;

        int epoll_fd;
        uint64_t now_ms, tick_ms; /* when this turn began; when deadlines are looked at next */
        struct hub_task *first_task, **last_task;
        struct hub_deadline *deadlines;
        struct hub_grave *graves;
        bool stopped;
        int pipes[HUB_PIPES_KEPT][2];
        unsigned n_pipes;
        int spare; /* conn_dial.c: the socket of the next dial, or -1 */
};

int hub_open(struct hub *h, int control_fd, struct crew_err *err);
/* Until hub_stop(); before_sleep is called before each time it waits. */
void hub_run(struct hub *h, void (*before_sleep)(void *user), void *user);
/* After the loop has ended. */
void hub_fini(struct hub *h);
/* The gateway ends, and with it every listener.  why: what cannot be repaired, or NULL when it is crewd's own end. */
void hub_stop(struct hub *h, const char *why);
/* The same for a negative result of report_*(); crewd's own end is not worth a word. */
void hub_stop_unheard(struct hub *h, int error);

/* fd is watched for everything, edge-triggered, until it is closed.  0 or -errno. */
int hub_watch(struct hub *h, int fd, struct hub_source *s);
/* A listener, or a channel of messages: told again, turn by turn, for as long as there is something. */
int hub_watch_level(struct hub *h, int fd, struct hub_source *s, uint32_t epoll_events);
/* Other events of one that is watched already; 0: none, until they are changed again. */
int hub_rewatch_level(struct hub *h, int fd, struct hub_source *s, uint32_t epoll_events);
/* Runs once, after all events at hand; calling it again before that changes nothing. */
void hub_later(struct hub *h, struct hub_task *t);
void hub_not_later(struct hub *h, struct hub_task *t);
/* In ms from now, to about 100 ms; replaces the one before. */
void hub_deadline_set(struct hub *h, struct hub_deadline *d, uint64_t ms);
void hub_deadline_clear(struct hub_deadline *d);
void hub_retire(struct hub *h, struct hub_grave *g, void (*bury)(struct hub_grave *g));

/* An empty pipe from the pool or a new one; -errno.  The pool takes back what is empty and closes what it has no room
 * for. */
int hub_pipe_get(struct hub *h, int pipe[2]);
void hub_pipe_put(struct hub *h, int pipe[2], bool empty);
