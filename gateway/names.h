/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses that listed names have inside one jail: 198.18.0.0/16, given out in order, stable for the instance's life,
 * also when a later policy does not list the name any more.  A dial to such an address is a dial to the name.  Names that
 * no rule lists take none of them: unlisted.h.
 */
#pragma once

#include <netinet/in.h>

/* An agent that makes names up under a wildcard gets this many. */
#define NAMES_MAX 4096u

struct names;
struct names *names_new(void); /* NULL: out of memory */
struct names *names_free(struct names *t);
/* 0, -ENOSPC or -ENOMEM. */
int names_address(struct names *t, const char *canonical, struct in_addr *out);
/* The name behind an address, valid as long as the table; NULL when nobody was told that address. */
const char *names_find(const struct names *t, struct in_addr a);
