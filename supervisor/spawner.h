/* SPDX-License-Identifier: Apache-2.0 */
/* crewd's side of the spawner (common/spawn.h): requests by instance id, replies as callbacks. */
#pragma once

#include "common/err.h"
#include "common/spawn.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct spawner;
struct spawner_callbacks {
        /* Once, first: what a crew that died left behind and is now removed; "" nothing. */
        void (*on_hello)(const char *found, void *user);
        /* fds: pidfd, capture listeners, seccomp listener; set to -1 what is kept */
        void (*on_ready)(uint32_t id, const struct spawn_attestation *att, int *fds, size_t n_fds, void *user);
        void (*on_failed)(uint32_t id, int err, const char *step, const char *text, void *user);
        void (*on_exited)(uint32_t id, const struct spawn_exit *exit, void *user);
        void (*on_stats)(uint32_t id, uint32_t cookie, const struct spawn_stats *stats, void *user);
        void (*on_limits)(uint32_t id, uint32_t cookie, int err, void *user);
        void (*on_held)(uint32_t id, uint32_t cookie, int err, void *user);
        void (*on_turn)(bool begins, void *user); /* around what is told in one turn of the loop */
        void (*on_gone)(void *user);              /* the spawner died, and every jail with it */
};

int spawner_open(uv_loop_t *loop, int fd, const struct spawner_callbacks *cb, void *user, struct spawner **out,
                 struct crew_err *err);
void spawner_close(struct spawner *s);
/* What it is asked from now on waits until it is let go; then what is asked later does, or not. */
void spawner_wait(struct spawner *s);
void spawner_let_go(struct spawner *s, bool go_on);
/* fds: the plan, then what the spawner keeps for the next crewd as long as the jail lives. */
int spawner_start(struct spawner *s, uint32_t id, const int *fds, size_t n_fds, const char *link_path,
                  struct crew_err *err);
/* SPAWN_HOLD; hold->ms 0: no more. */
int spawner_keep(struct spawner *s, const struct spawn_hold *hold, int listener, int state, int notes);
/* The worker of id is to connect to link_path. */
int spawner_relink(struct spawner *s, uint32_t id, const char *link_path);
/* op: SPAWN_KILL or SPAWN_FORGET. */
int spawner_ask(struct spawner *s, uint32_t id, enum spawn_op op);
/* Freezes or thaws; answered by on_held with the same cookie. */
int spawner_hold(struct spawner *s, uint32_t id, bool freeze, uint32_t cookie);
/* Answered by on_stats, with the same cookie. */
int spawner_stats(struct spawner *s, uint32_t id, uint32_t cookie);
/* Answered by on_limits with the same cookie. */
int spawner_limit(struct spawner *s, uint32_t id, const struct spawn_limits *l, uint32_t cookie);
