/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that no rule lists, as one jail asked for them.  Each gets an address of 198.19.0.0/16, apart from those of
 * listed names (names.h): what is dialled there is refused, asked about or recorded under its name, with its port.
 *
 * An address allows nothing: the policy in force decides at each dial, by the name.  Bounded: with UNLISTED_MAX names the
 * oldest is forgotten and its address is nobody's, until UNLISTED_ADDRESSES younger names later it is another's.
 *
 * A name that is looked up and not dialled within UNLISTED_WAIT_MS is told, with how often: asking alone can be an attempt
 * to get something out.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define UNLISTED_MAX 2048u
#define UNLISTED_ADDRESSES (31 * UNLISTED_MAX)
#define UNLISTED_WAIT_MS 2000u

enum unlisted_type { UNLISTED_A, UNLISTED_AAAA, UNLISTED_TYPE_N };

struct unlisted;
/* tell: not from within unlisted_dialled(), and it may not call back into this.  NULL: out of memory. */
struct unlisted *unlisted_new(void (*tell)(void *user, const char *name, uint32_t lookups), void *user);
/* Tells what is left. */
struct unlisted *unlisted_free(struct unlisted *t);
/* One question for this name: its address.  0 or -ENOMEM.  A client asks for both types at a time: that is one look-up. */
int unlisted_ask(struct unlisted *t, const char *canonical, enum unlisted_type type, uint64_t now_ms, struct in_addr *out);
/* The name behind an address, valid until the next unlisted_ask(), and dialled from now on: its look-ups are not told.
 * NULL when nobody has that address; t may be NULL. */
const char *unlisted_dialled(struct unlisted *t, struct in_addr a);
/* Tells those whose time is over.  In how many ms the next one's is; 0: none waits. */
uint64_t unlisted_tell_late(struct unlisted *t, uint64_t now_ms);
