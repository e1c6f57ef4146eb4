/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secrets that the gateway puts into requests outside the jail.  Read once, before the gateway confines itself; kept
 * in pages that are locked where the limit allows it, left out of core dumps and of forked children, and wiped at the end.
 * No message holds a secret, nor any part of one.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRED_SECRET_MIN 8
#define CRED_SECRET_MAX 4096
#define CREDS_PER_HOST_MAX 8

struct creds;
struct cred;

/*
 * path must be a regular file of the caller that nobody else may read (mode 0600 or less), no symbolic link; so must each
 * source file.  Commands run one after the other, without a shell, each for at most CRED_COMMAND_MS.  Environment variables
 * that served as a source are removed and overwritten.  Anything amiss: negative, nothing is loaded.
 */
int creds_load(const char *path, struct creds **out, struct crew_err *err);
struct creds *creds_free(struct creds *c); /* wipes; NULL is fine */
#define CRED_COMMAND_MS 10000

const struct cred *creds_find(const struct creds *c, const char *name);
/* Those of this host and port, at most CREDS_PER_HOST_MAX: whose secrets an answer from there may echo. */
size_t creds_of(const struct creds *c, const char *host, uint16_t port, const struct cred *out[CREDS_PER_HOST_MAX]);

/* May it go to this host, port and normalised path, over this kind of connection? */
bool cred_bound(const struct cred *k, const char *host, uint16_t port, const char *path, bool tls);
const char *cred_header(const struct cred *k);
const char *cred_prefix(const struct cred *k);
const char *cred_secret(const struct cred *k, size_t *n);
