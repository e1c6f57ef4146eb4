/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks that clients have submitted with a key: the request, the task that it became, and its outcome.  A second submission
 * with the key is that task, whoever makes it and however often; with another request it is refused.
 *
 * Bounds: KEYED_MAX keys and KEYED_BYTES of outcomes.  Beyond them the oldest that are done go: first what came of them,
 * then the key itself; one that is not done never goes. Pure: who is told, and how, is the caller's.
 */
#pragma once

#include "common/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYED_MAX 1024u
#define KEYED_BYTES (64u << 20)
#define KEYED_WAITERS_MAX 16u

struct keyed_waiter {
        uint64_t client, corr;
};

struct keyed_task {
        char key[64], id[24];
        uint8_t request[CREW_SHA256_BYTES];
        bool done, let_go; /* let_go: what came of it is held no more */
        uint8_t *outcome;  /* owned; as the caller gave it */
        size_t n;
        struct keyed_waiter waiters[KEYED_WAITERS_MAX]; /* beside whoever submitted it first */
        uint32_t n_waiters;
        uint64_t age;
};

struct keyed;
struct keyed *keyed_new(void);
struct keyed *keyed_free(struct keyed *k);

/* What keyed_add() takes has this digest.  Any part may be NULL. */
void keyed_digest(const char *const *parts, size_t n_parts, const uint64_t *numbers, size_t n_numbers,
                  uint8_t out[CREW_SHA256_BYTES]);
struct keyed_task *keyed_find(struct keyed *k, const char *key);
/* Not there yet.  NULL: all are under way. */
struct keyed_task *keyed_add(struct keyed *k, const char *key, const uint8_t request[CREW_SHA256_BYTES]);
/* For the next crewd of the same crew file; those who wait are this one's clients, and ask again.  0, -EBADMSG, -ENOMEM. */
struct bytes_out;
struct bytes_in;
void keyed_save(const struct keyed *k, struct bytes_out *b);
int keyed_load(struct keyed *k, struct bytes_in *b);
/* It became nothing. */
void keyed_drop(struct keyed *k, struct keyed_task *t);
/* False: too many wait. */
bool keyed_wait(struct keyed_task *t, uint64_t client, uint64_t corr);
/* Takes a copy of the outcome (NULL: there is no memory for it); the waiters are still there, for the caller to tell and to
 * forget. */
void keyed_finish(struct keyed *k, struct keyed_task *t, const uint8_t *outcome, size_t n);
