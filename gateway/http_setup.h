/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What connections under HTTP rules share: credentials, the crew's CA, TLS.  Opened once, before the gateway confines
 * itself; the resolver process must have been forked before, so that it never had any of it.
 */
#pragma once

#include "creds.h"
#include "tls.h"

struct http_options {
        const char *credentials; /* path of the credentials file; NULL: none */
        bool inspect;            /* some endpoint of the crew may say tls: inspect */
};

int http_open(const struct http_options *o, struct crew_err *err);
/* Wipes the secrets.  After the last connection is gone. */
void http_close(void);
/* A sealed memfd with the CA's certificate, PEM, for GATE_HELLO; -1 without inspect; else negative with err. */
int http_ca_memfd(struct crew_err *err);

/* --- for http_conn.c --- */

const struct creds *http_creds(void); /* NULL: none */
struct tls_context *http_tls(void);   /* NULL without inspect */
