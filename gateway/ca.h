/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crew's own certificate authority, for `tls: inspect`.  Its key is made at start and exists in this process's memory
 * only; its certificate is trusted inside the crew's jails and nowhere else.  P-256 throughout.
 */
#pragma once

#include "common/err.h"

#include <openssl/types.h>
#include <stddef.h>

#define CA_DAYS 366       /* longer than any crew should run without its gateway being started anew */
#define CA_LEAF_DAYS 7    /* made anew when less than a day is left */
#define CA_LEAVES_MAX 256 /* the one not used for longest makes room */

struct ca;
int ca_new(struct ca **out, struct crew_err *err);
struct ca *ca_free(struct ca *ca); /* NULL is fine */
/* The certificate, PEM; lives as long as ca. */
const char *ca_pem(const struct ca *ca, size_t *n);
/* A certificate for this host name or address (text), and its key; both are ca's, valid until the next call. */
int ca_leaf(struct ca *ca, const char *host, X509 **cert, EVP_PKEY **key, struct crew_err *err);
