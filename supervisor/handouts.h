/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the manager has handed out: each task with its one terminal outcome, and who waits for it.
 *
 * Invariants: at most tasks_at_once of them are unfinished and tasks_total are ever made; one with a key is made once in a
 * task of the manager's, whoever of its instances works on that; an outcome is set once; each wait is answered once, unless
 * the manager dies first.  Results are held up to HANDOUTS_RESULT_BYTES in all: then the oldest are let go, which reading
 * them says. Pure: the world is behind a callback, the clock is injected.
 */
#pragma once

#include "common/digest.h"
#include "crew.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDOUTS_RESULT_BYTES (64u << 20)
#define HANDOUTS_WAITS_MAX 64u

struct handout {
        char id[24], key[64], task[64];
        char scope[24];                     /* id of the manager's own task that it belongs to, or "" */
        uint8_t request[CREW_SHA256_BYTES]; /* keyed_digest() of what was asked for, with a key */
        uint32_t agent;
        bool done, let_go; /* let_go: its result is held no more */
        Crew__Outcome outcome;
        char *result; /* owned; only of an outcome that is OK */
        size_t result_len;
        char error[512];
        uint32_t attempts;
        uint64_t ms;
};

struct handouts;
struct handouts *handouts_new(uint32_t at_once, uint32_t total);
struct handouts *handouts_free(struct handouts *h);

enum handouts_room { HANDOUTS_ROOM, HANDOUTS_TOO_MANY, HANDOUTS_USED_UP };
enum handouts_room handouts_room(const struct handouts *h);

/* Keeps what it is given of id, key, task, scope, request and agent.  Only while there is room; NULL: memory is out. */
struct handout *handouts_add(struct handouts *h, const struct handout *what);
struct handout *handouts_find(struct handouts *h, const char *id);
struct handout *handouts_by_key(struct handouts *h, const char *scope, const char *key);

typedef void (*handouts_answer)(uint64_t seq, const struct handout *t, bool timed_out, void *user);

/* The outcome; of a copy of result.  False: no such task, or it had one. */
bool handouts_finish(struct handouts *h, const struct handout *end, handouts_answer answer, void *user);
/* False: too many wait. */
bool handouts_wait(struct handouts *h, const struct handout *t, uint64_t seq, uint64_t deadline_ns);
void handouts_expire(struct handouts *h, uint64_t now_ns, handouts_answer answer, void *user);
uint64_t handouts_next_deadline(const struct handouts *h);
/* Whoever waited is dead. */
void handouts_forget_waits(struct handouts *h);
/* Calls fn for each unfinished one; fn may finish it. */
void handouts_each_open(struct handouts *h, void (*fn)(const struct handout *t, void *user), void *user);
