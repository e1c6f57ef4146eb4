/* SPDX-License-Identifier: Apache-2.0 */
/* The spawner, shared by its loop (spawner.c) and what it does without a crewd (spawner_held.c). */
#pragma once

#include "common/held_note.h"
#include "common/spawn.h"
#include "worker/sandbox/jail.h"

#include <stdbool.h>

struct instance {
        uint32_t id;
        struct jail jail;
        struct jail_start *start;   /* owned; NULL: it is made */
        const struct plan *plan;    /* owned, as long as start */
        int locks[SPAWN_LOCKS_MAX]; /* owned; of crewd's, kept as long as the jail */
        bool held;                  /* its plan has PLAN_HOLD */
        char agent[64];
        char killed_why[HELD_REASON_MAX]; /* while there was no crewd; "": it was not */
        uint32_t killed_uid;              /* by whom */
        uint64_t govern_at_ns;            /* when to look at it; see jail_govern() */
        struct freezing {
                uint64_t by_ns;         /* 0: nobody waits for it to stand still */
                uint32_t cookie;        /* of who does, but for */
                bool asked, unrecorded; /* two who may: the second is SPAWN_UNRECORDED */
        } freezing;
        struct instance *next;
};

/*
 *   with crewd --hang-up, SPAWN_HOLD was told--> held --SPAWN_ADOPT--> with one that looks --its first message--> with
 * crewd |                                         | ^                      | |                                         |
 * +------hang-up---------+  the time goes on as if it had not come
 *       +--hang-up, it was not--> done <----------+--the time is over, or nothing is left
 */
struct held {
        int listener, state; /* owned; -1: no SPAWN_HOLD */
        int notes;           /* owned; -1: none are taken */
        uint64_t for_ns;     /* 0: no SPAWN_HOLD */
        uint64_t lost_ns;    /* crewd is gone since, until another has not only come but done something; 0: one is there */
        uint8_t token[SPAWN_TOKEN_BYTES];
        struct kept_exit {
                struct spawn_msg m;
                struct kept_exit *next;
        } * exits;
};
#define SPAWNER_HELD_NULL ((struct held){.listener = -1, .state = -1, .notes = -1})

#define SPAWNER_MOUNTS_MAX 64

struct spawner {
        int sock, epoll; /* sock -1: there is no crewd now */
        jail_main_fn worker_main;
        struct instance *instances;
        struct netpool pool;
        unsigned starting;              /* instances with a start */
        uint64_t late_at_ns;            /* when to look whether one of them is late; 0: there is none */
        int mounts[SPAWNER_MOUNTS_MAX]; /* owned; of the dead, to be closed when it is quiet */
        size_t n_mounts;
        uint64_t mounts_by_ns; /* when to do so at the latest; for n_mounts > 0 */
        uint64_t press_at_ns;  /* when to look whether what was killed has died; 0: nothing was */
        uint64_t govern_at_ns; /* when to look at the first of them; UINT64_MAX: at none */
        uint64_t freeze_at_ns; /* when to look whether who is to stand still does; UINT64_MAX: none is */
        uint64_t event_at_ns;  /* when there was the last */
        struct held held;
        bool hearing_out; /* crewd is gone; what it has said before is read to the end */
        bool done;
};

struct instance *spawner_find(struct spawner *s, uint32_t id);
void spawner_reply(struct spawner *s, const struct spawn_msg *m, const int *fds, size_t n_fds);
/* New, or not as it was when it was looked at. */
void spawner_govern_soon(struct spawner *s, struct instance *i);
/* What we have taken. */
uint64_t spawner_cpu_now_ns(void);
/* SPAWN_FREEZE, SPAWN_THAW.  i NULL: there is none. */
void spawner_freeze(struct spawner *s, struct instance *i, const struct spawn_msg *m);
/* At freeze_at_ns. */
void spawner_see_freezing(struct spawner *s);
/* What has been killed is looked at again before long. */
void spawner_press_later(struct spawner *s);
int spawner_watch(struct spawner *s, int fd, void *data);
/* Waits for all that are being made. */
void spawner_finish_starts(struct spawner *s);

void spawner_on_hold(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds);
void spawner_on_relink(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds);
void spawner_on_forget(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds);
/* A message of a crewd: it has taken over, if there was another before. */
void spawner_has_crewd(struct spawner *s);
/* crewd is gone: the end, or the wait for another. */
void spawner_lost(struct spawner *s);
/* An end that the next crewd may have to be told. */
void spawner_keep_exit(struct spawner *s, const struct spawn_msg *m);
/* Somebody has connected to the socket of SPAWN_HOLD. */
void spawner_on_visitor(struct spawner *s);
int spawner_held_wait_ms(const struct spawner *s);
void spawner_held_expire(struct spawner *s);
void spawner_held_fini(struct spawner *s);
