/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names are looked up by a process of its own, with the host's C library and whatever it is configured to use: it reads
 * files and what name servers send, and holds nothing.  A keeper beside it starts it again when it dies; without its keeper
 * the gateway ends.  Both are forked before the gateway confines itself and before it has read anything worth having.
 *
 * Each name is looked up for one connection; nothing is kept.
 */
#pragma once

#include "common/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define RESOLVER_NAME_MAX 256
#define RESOLVER_ADDRS_MAX 16
#define RESOLVER_PER_AGENT 8u /* lookups of one agent under way at once; the others wait their turn */

/* --- the two processes --- */

struct resolver_ask {
        uint32_t id;
        char name[RESOLVER_NAME_MAX];
};
struct resolver_answer {
        uint32_t id;
        int32_t error; /* EAI_*, 0 */
        uint32_t n;
        struct {
                uint32_t family;
                uint8_t addr[16];
        } addrs[RESOLVER_ADDRS_MAX];
};
/* fd: the gateway's end.  The caller is single-threaded. */
int resolver_fork(int *fd, struct crew_err *err);

/* --- the gateway's side --- */

struct hub;
struct resolver;
struct resolver_query;
/* One an agent; zeroed is empty. */
struct resolver_quota {
        unsigned in_flight;
        struct resolver_query *first, **last; /* wait for their turn */
};
/* In the caller's memory until on_answer(), which is called once and never from resolver_query(), or resolver_cancel(). */
struct resolver_query {
        /* NULL: the resolver is not there or does not answer.  The answer is checked: n and the families are in range. */
        void (*on_answer)(struct resolver_query *q, const struct resolver_answer *answer);
        struct resolver_quota *quota;
        struct resolver_query *next, **prev;
        uint32_t slot; /* + 1 */
        char name[RESOLVER_NAME_MAX];
};

/* Owns fd, also on failure.  When the resolver's keeper is gone the gateway ends. */
int resolver_open(struct hub *h, int fd, struct resolver **out, struct crew_err *err);
/* After the loop has ended. */
struct resolver *resolver_free(struct resolver *r);
void resolver_query(struct resolver *r, struct resolver_quota *quota, struct resolver_query *q);
void resolver_cancel(struct resolver *r, struct resolver_query *q);
/* The quota goes away; no query of it is left. */
void resolver_forget(struct resolver *r, const struct resolver_quota *quota);
