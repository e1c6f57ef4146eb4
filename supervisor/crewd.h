/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running crew: the parts and who owns them.  Everything happens on one loop thread; the parts reach each other only
 * through this struct and the functions in their headers.
 */
#pragma once

#include "agent.h"
#include "coalesce.h"
#include "common/err.h"
#include "common/paths.h"
#include "ipc-schema/ipc.h"
#include "starts.h"
#include "supervision.h"
#include "supervisor/policy/crew_file.h"
#include "webhook.h"

#include <uv.h>

struct apply;
struct approvals;
struct checkpoint;
struct control;
struct crew_lock;
struct crew_log;
struct events;
struct evidence;
struct execs;
struct gateway;
struct hooks;
struct legacy;
struct manager;
struct memory;
struct reload;
struct requests;
struct rundir;
struct router;
struct scheduler;
struct spawner;
struct syncer;
struct toolgate;
struct voting;

enum crewd_phase {
        CREWD_STARTING, /* agents are coming up for the first time */
        CREWD_RUNNING,
        CREWD_STOPPING, /* no new work; agents are ending */
        CREWD_FLUSHING, /* every agent is gone; evidence, hooks and replies are being delivered */
        CREWD_CLOSED,
};

/* How many agents, with names that it did not know, a crew can get while it runs. */
#define CREWD_SPARE_AGENTS 512u

struct crewd {
        uv_loop_t loop;
        bool loop_ready;
        bool logging; /* inside crewd_log() */
        enum crewd_phase phase;
        struct crew_paths paths;
        char audit_dir[PATH_MAX], out_dir[PATH_MAX], crew_path[PATH_MAX];
        struct crew_file *file;
        struct crew_lock *lock; /* owned; NULL: not --locked */
        struct rundir *rundir;
        bool root_mode;
        uint64_t started_ns;

        struct agent *agents; /* n_agents of room, parallel to file->agents; an index is never given to another name */
        uint32_t n_agents, room;

        struct starts starts;
        struct supervision supervision;
        struct agent *dying, *last_dying; /* whose record is yet to be made; death_settle() */
        bool deaths_together;             /* more of them may come before that */
        uint32_t n_together;              /* are being ended, to be started again with one that died */
        uint64_t together_at_ns;          /* when */
        uint64_t last_termination_id;     /* ids count up, whatever the clock does */
        uint64_t lost_until_ns;           /* deadlines stand as if nobody had been lost until then; 0: nobody was */

        struct spawner *spawner;
        struct evidence *evidence; /* NULL: none on this host */
        struct gateway *gateway;   /* NULL: not installed */
        struct hooks *hooks;       /* NULL: the crew has no hook */
        struct webhook *webhook;   /* NULL: nor a webhook */
        struct router *router;
        struct toolgate *tools;
        struct scheduler *scheduler;
        struct manager *manager; /* NULL: not a hierarchical crew */
        struct voting *voting;   /* NULL: not a consensual crew */
        struct memory *memory;
        struct execs *execs;
        struct control *control;
        struct approvals *approvals;
        struct reload *reload;
        struct apply *apply;
        struct requests *requests;
        struct checkpoint *checkpoint; /* NULL: agents end with crewd */
        struct legacy *legacy;         /* owned; agents of the crewd before, until they are taken over */
        pid_t spawner_pid;             /* of a spawner that was taken over; 0: it is our own */
        struct events *events;
        struct syncer *syncer;         /* waits for the disk */
        struct crew_log *crew_log;     /* and the key that signs */
        struct planner_crew *together; /* for plans */
        struct ipc_arena *arena;       /* one frame at a time */
        struct spawn_attestation own;  /* our namespaces */

        uv_timer_t wake, sync;
        uv_prepare_t prepare;
        uv_signal_t sigterm, sigint;
        uv_poll_t owner; /* --owner-fd */
        uint64_t wake_at_ns;
        struct coalesce coalesce;
        uint64_t deadline_ns, deadline_look_ns; /* the next one, when it was looked for last */
        uint64_t turn_ns, turns_by_ns;          /* the turn before something due is judged began; 0: nothing is due */
        uint32_t turns, turns_max;
        uint64_t heard_ns; /* whatever had come by then has been read: what a deadline is judged by */
        uint64_t next_ping_ns, flush_by_ns, drain_by_ns;
        int ready_fd, owner_fd;
        char states_dir[PATH_MAX];      /* of the agents' state directories; no link on its way */
        int states_fd;                  /* owned */
        unsigned removals;              /* of directories put aside, and measurements; under way */
        uint64_t look_ns, idle_look_ns; /* at what agents use (usage.c), and at those without a task: the next */
        uint32_t look_turn, idle_turn;
        uint32_t holds;                  /* cookies given out; hold.c */
        bool agents_started, sync_ready; /* the timer exists */
        uint32_t sync_part, sync_left;   /* of the agents, whose streams go to disk next; turns until all had one */
        uint64_t sign_at_ns;             /* the next checkpoint is due; UINT64_MAX: none */
        bool poke;                       /* look for work and for the next phase before the loop sleeps */
        bool failed;
        int exit_status; /* once it failed */
        char stop_reason[512];
};

/* What main has prepared before the loop exists. */
struct crewd_setup {
        struct crew_file *file;   /* owned from here on */
        struct crew_lock *lock;   /* owned from here on; NULL: not --locked */
        char crew_path[PATH_MAX]; /* absolute */
        struct crew_paths paths;
        struct rundir *rundir;
        struct legacy *legacy;                             /* owned from here on; NULL: none */
        int spawner_fd, evidence_fd, gateway_fd, hooks_fd; /* -1: none */
        struct webhook_fds webhook;
        int ready_fd, owner_fd;
};
/* Runs the crew to its end.  Exit status. */
int crewd_run(struct crewd_setup *setup);

/* Ends the crew: grace_ms 0 kills at once. */
void crewd_stop(struct crewd *c, uint64_t grace_ms, const char *reason);
#define CREWD_STOP_GRACE_MS 3000u
/* What became of an agent ends the crew, in order, and the program with exit_status. */
void crewd_give_up(struct crewd *c, const char *text);
/* A fault that ends the crew and the program, with exit_status. */
void crewd_fail(struct crewd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The instance a helper's message is about; NULL when it is no longer (or not yet) the current one. */
struct agent *crewd_agent_by_id(struct crewd *c, uint32_t id);
struct agent *crewd_agent_by_name(struct crewd *c, const char *name);
/* Called whenever an agent reached a state that may complete the start or the stop. */
void crewd_progress(struct crewd *c);
/* Lines for the operator: "crewd: ..." on standard error, and a "log" event. */
void crewd_log(struct crewd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A record was written that is not yet on disk. */
void crewd_mark_dirty(struct crewd *c);
/* A stream that is dirty has no more to do until then. */
void crewd_sign_at(struct crewd *c, uint64_t ns);
