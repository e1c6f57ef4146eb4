/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One agent: what was declared, its state, its audit stream, and the instance that is alive now.
 */
#pragma once

#include "agent_fsm.h"
#include "cause.h"
#include "common/spawn.h"
#include "crew.pb-c.h"
#include "late_result.h"
#include "meter.h"
#include "migrate.h"
#include "outbox.h"
#include "restart.h"
#include "signing.h"
#include "starts.h"
#include "supervision.h"
#include "supervisor/audit/audit.h"
#include "supervisor/policy/crew_file.h"
#include "supervisor/policy/planner.h"
#include "syncer.h"
#include "usage.h"

#include <limits.h>
#include <sys/types.h>

struct crewd;
struct link;

#define AGENT_EARLY_MAX 4u /* frames that may come in before the spawner's attestation */
#define AGENT_EARLY_BYTES 4096u
#define AGENT_STDERR_TAIL 4000u
#define INSTANCE_LINK_PATH 108 /* what a socket's address holds */
#define AGENT_SPAWN_TIMEOUT_NS 20000000000ull
#define AGENT_PING_NS 5000000000ull
#define AGENT_PINGS_LOST_MAX 3u
#define AGENT_VIOLATIONS_MAX 4u /* the fifth within the period kills */
#define AGENT_VIOLATIONS_NS 10000000000ull
/* What a worker may cause at most: a burst, and so much a second.  Beyond it its link is not read for a while, text is cut
 * and counted, denials are counted without an event each.  Far above what any honest one does. */
#define AGENT_FRAMES_BURST 16384
#define AGENT_FRAMES_RATE 4096u
#define AGENT_FRAME_UNIT 16384u /* bytes of a frame that count as one more */
#define AGENT_PAUSE_NS 50000000ull
#define AGENT_STDERR_BURST (4 << 20) /* whole again with each task */
#define AGENT_STDERR_RATE 32768u
#define AGENT_ALERTS_BURST 64
#define AGENT_ALERTS_RATE 16u
#define AGENT_KILLERS_MAX 16u
#define AGENT_STARTERS_MAX 16u
#define AGENT_CALLS_NAMED_MAX 16u

/* Why the instance is ending; decided once, by whoever is first. */
struct death {
        bool decided;
        bool together; /* with another that died, to be started again with it */
        Crew__Cause cause;
        const char *limit;   /* a constant: which one it came to, if that is why; else NULL */
        char initiator[128]; /* "uid 1000 (crewctl 0.1)", "crewd" */
        char reason[512];
};

/* Its health check; health.h. */
struct health {
        uint64_t seq;                          /* of the check under way; 0: none */
        uint64_t due_ns, late_ns, start_by_ns; /* the next one; when an answer is too late; when it must have passed one */
        bool passed, overdue;                  /* at least once; killed, but not gone yet */
        bool complained;                       /* the tail is of standard error */
        uint32_t failures;                     /* in a row */
        char why[200];                         /* the last of them */
        char tail[160];                        /* of its output */
        size_t tail_n;
};

/* One process tree, from SPAWN_START to SPAWN_EXITED.  Zeroed in between. */
struct instance {
        uint32_t id; /* spawn_msg.id; 0: no instance */
        struct link *link;
        const char *overstayed; /* a constant: why it was killed that seemed not to end; NULL: it was not */
        char link_path[INSTANCE_LINK_PATH];
        pid_t peer_pid; /* who connected; 0: nobody yet */
        bool attested, greeted, cut, kill_sent;
        bool stopped; /* by an operator: no other instance follows it */
        bool hung_up; /* its link: everything it said has been heard */
        bool exited;  /* the tree is reaped, and its last words are still being read */
        struct spawn_exit exit;
        struct early {
                uint8_t *bytes; /* owned */
                size_t n;
        } early[AGENT_EARLY_MAX];
        uint32_t n_early;
        struct spawn_attestation att;
        uint64_t idle_ns; /* since when it has had nothing to do; 0: it has not been up yet */
        uint64_t seq_in, seq_out;
        struct outbox outbox;                         /* on_supervisor_loss: hold; owned */
        uint32_t unacked;                             /* frames that came in since the last that went out, */
        size_t unacked_bytes;                         /* and how much that was */
        bool resuming;                                /* adopted, and its worker has not come back */
        uint64_t resume_by_ns;                        /* until when it should; 0: whenever */
        uint64_t spawn_ns, ready_ns;                  /* when */
        uint64_t ready_by_ns, stop_by_ns, gone_by_ns; /* deadlines; 0: none */
        uint64_t heard_by_ns;
        struct meter frames, stderr_bytes;
        uint64_t resume_ns;  /* its link is not read until then; 0: it is */
        uint64_t stderr_cut; /* bytes, since the last record */
        uint32_t pings_lost;
        struct rate violations;
        struct health health;
        struct cause_told told;
        struct death death;
        uint32_t generation;         /* of its network policy, beyond the first */
        struct policy_limits limits; /* in force for the jail; some change while it runs */
        bool effects;                /* a tool with effects ran, or a message went out: a repeat may repeat them */
        char *stderr_tail;           /* owned; AGENT_STDERR_TAIL + 1 */
        size_t stderr_used;
        char *watch; /* owned until the evidence source has it; the policy mounts, each NUL-terminated */
        size_t watch_len;
        struct spawn_stats stats;
        uint64_t stats_ns;
        uint32_t cpu_percent;
        bool stats_asked, stats_for_usage; /* the answer is nobody's but usage.h's */
        struct usage usage;
        struct late_result late;
        struct migrate migrate;
};

/* The record of one death; becomes AgentTerminated, the hook's JSON and the audit line. */
struct termination {
        uint64_t id;
        uint32_t incarnation;
        struct death death;
        int exit_code, signal;
        char task[64]; /* "" or the one in flight */
        char calls[AGENT_CALLS_NAMED_MAX][128];
        size_t n_calls;
        bool effects, restartable;
        const char *action; /* what follows: a constant */
        uint32_t attempt;
        uint64_t audit_seq;
        char stderr_tail[AGENT_STDERR_TAIL + 1];
        uint32_t processes;
        uint64_t kill_us, time_ms;
};

/* What a migrated state directory was before, while its crew file may still be taken back. */
struct state_former {
        char name[96]; /* beside the directory; "": nothing */
        uint32_t from, to;
        uint64_t dev, ino; /* of the migrated one */
};

struct agent {
        struct crewd *crewd;
        char name[64]; /* for as long as crewd runs, whatever becomes of the crew file */
        const struct crew_agent *decl;
        const struct crew_file *file; /* the one that decl is in, and that its instance was made by */
        const struct crew_file *next; /* what its next instance is made by; NULL: file */
        bool gone;                    /* no longer in the crew: ending, or ended */
        bool draining;                /* gets no new task: it is about to be started again */
        bool on_trial;                /* its instance is the first of a changed crew file: it is up, or it was a failure */
        uint32_t index;
        enum agent_state state;
        uint32_t incarnation; /* of the current or last instance; from 1 */
        uint32_t host_uid, host_gid;
        int uid_lock;              /* root mode: holds host_uid */
        int state_lock;            /* owned; held while an instance may write its state directory */
        char state_path[PATH_MAX]; /* "": it has none */
        bool measuring;            /* what is in there */
        bool state_known;          /* it has been measured: */
        uint64_t state_bytes;
        uint64_t state_look_ns; /* not before then again */
        struct state_former former;
        bool migrate_unsettled; /* the record that its directory is migrated is on its way */
        struct audit_stream *audit;
        bool audit_dirty, frozen;
        struct sync_job sync; /* of the audit stream */
        bool syncing;         /* it is the syncer's */
        struct signing signing;
        uint64_t denied;
        uint64_t limit_hits[USAGE_LIMIT_N]; /* of all its instances */
        struct meter alerts;                /* events of denials */
        uint64_t unalerted;                 /* denials since the last of them */
        struct restart restart;
        uint64_t restart_at_ns; /* 0: none due */
        uint64_t prepare_at_ns; /* when what can be done ahead of that restart is; 0: it was, or nothing is */
        bool forgetting;        /* evidence of the last instance is still coming in */
        uint64_t forget_by_ns;
        bool ran_out; /* the last task to leave it had all the time that limits.wall_time gives */
        char *decoys; /* owned; tripwires of the last view, each NUL-terminated: evidence may come late */
        size_t decoys_len;
        struct start start;
        struct instance in;
        struct plan_ahead {
                void *block; /* owned; NULL: none */
                size_t n;
                struct planner_input made_for;
                int fd;               /* owned; the block sealed, -1: not yet */
                struct link *link;    /* owned; listens for the next incarnation; NULL: none does */
                uint32_t incarnation; /* that the link is for */
        } ahead;
        struct termination *last; /* owned; NULL: none died yet */
        struct dying {            /* between its end and what is made of it */
                struct agent *next;
                struct termination *t;
                struct supervision_verdict verdict;
                bool planned;
                struct death_missed {
                        bool hook, webhook;
                } missed; /* by those outside */
        } dying;
        bool untold;          /* last: to hooks and webhook */
        bool task_reassigned; /* by the last death */
        uint64_t idle_max_ns; /* a further instance: retired after so long */
        bool restart_asked;   /* by an operator: the next death is followed by a start, whatever `restart` says */
        struct policy_image *jail_policy; /* owned; what the live instance was made with, once decl->policy is newer */
        char start_error[640];            /* why the last start failed, or was not to be: */
        Crew__Cause called_off;           /* while it waited for it; UNSET: it was not */
        int start_errno;                  /* the same as an errno, 0: none is known */
        struct agent_waiter {
                uint64_t client, corr;
        } killers[AGENT_KILLERS_MAX], starters[AGENT_STARTERS_MAX]; /* clients that wait for Killed, for AgentStarted */
        uint32_t n_killers, n_starters;
        struct agent_lost {
                bool reloaded; /* its jail is of a policy that is no more */
        } lost;                /* what the crewd before knew of it */
        struct agent_hold {
                bool on;    /* frozen by an operator; hold.h */
                bool asked; /* the spawner has yet to say that it is as asked */
                bool thaw;
                uint32_t cookie;
                uint64_t since_ns;
                uint64_t client, corr;
        } hold;
};

/* By an entry of the file.  Opens the audit stream and takes a host uid (root mode); writes nothing else. */
int agent_init(struct agent *a, struct crewd *c, const struct crew_file *file, uint32_t index, struct crew_err *err);
void agent_fini(struct agent *a);
/* From now on it is as that file says, where it has the same index. */
void agent_take_file(struct agent *a, const struct crew_file *file);

/* Somebody wants it up who need not wait for a back-off: one that has ended, or is to be started again. */
void agent_start(struct agent *a, uint64_t now_ns);
/* It has all the restarts again that the crew file gives it. */
void agent_renew_restarts(struct agent *a);
/* Feeds the state machine and carries the action out.  False: the event has no meaning in this state. */
bool agent_event(struct agent *a, enum agent_event event);
const char *agent_name(const struct agent *a);
/* The policy that its jail was made with: decl->policy, unless that was reloaded since. */
const struct policy_image *agent_jail_policy(const struct agent *a);
/* Work can be sent to it: ready or working, link up, not frozen (by whomever), not being cut. */
bool agent_usable(const struct agent *a);
/* Of the crew now, or ending because it is not any more; a further instance is only while it is wanted
 * (agents.NAME.max_instances). */
bool agent_present(const struct agent *a);
/* A replacement is on its way. */
bool agent_coming(const struct agent *a);

/* Its link has room for messages of others, or for a long answer: both leave some to crewd's own frames, so that nobody can
 * fill an agent's queue and have it killed for not reading. */
#define AGENT_MESSAGES_BYTES (1u << 20)
#define AGENT_MESSAGES_MAX 64u
#define AGENT_ANSWERS_BYTES (4u << 20)
#define AGENT_SHORT_ANSWER 4096u
#define AGENT_QUEUE_LIMIT "queue" /* what a worker has come to that does not read */
/* on_supervisor_loss: hold.  So much, and a frame, is kept for a worker that does not acknowledge; one that does is never
 * behind by more than its link's queue and a few frames. */
#define AGENT_KEPT_BYTES (16u << 20)
/* Bytes, and frames if not NULL, that wait for its link. */
size_t agent_queued(const struct agent *a, size_t *frames);
bool agent_takes_message(const struct agent *a);
bool agent_takes_answer(const struct agent *a, size_t n);
/* Packs and queues a frame to the worker; *seq (may be NULL) gets its number.  -EAGAIN: the link's queue is full. */
int agent_send(struct agent *a, Crew__Envelope *e, uint64_t *seq);
/* As agent_send, for frames that must not be lost: a worker that does not read is killed. */
void agent_send_or_kill(struct agent *a, Crew__Envelope *e);
