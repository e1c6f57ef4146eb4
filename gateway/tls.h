/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS without sockets: bytes off the wire go in with tls_feed(), bytes for the wire come out of tls_out(), plain text is
 * read and written in between.  The connection's event loop moves them; nothing here waits.
 *
 * Towards the agent we are the server, with a certificate of the crew's CA; towards the real server we are a client that
 * checks its certificate and name.  TLS 1.2 or newer, ALPN "http/1.1" only, no tickets, no renegotiation, no compression.
 */
#pragma once

#include "ca.h"

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_context;
/* Reads the system's certificates, for they cannot be read later.  None there: only rules with their own `ca` work. */
int tls_context_new(struct ca *ca, struct tls_context **out, struct crew_err *err);
struct tls_context *tls_context_free(struct tls_context *c);

struct tls;
/* name: what the certificate is for, and what SNI has to be when it is there. */
int tls_accept(struct tls_context *c, const char *name, struct tls **out, struct crew_err *err);
/* ca_pem: certificates to trust instead of the system's; NULL: the system's. */
int tls_connect(struct tls_context *c, const char *name, const char *ca_pem, size_t ca_n, struct tls **out,
                struct crew_err *err);
struct tls *tls_free(struct tls *t);

/* Ciphertext that came in; all of it is taken.  At most 32 KiB between two calls of tls_read() that return -EAGAIN. */
int tls_feed(struct tls *t, const void *bytes, size_t n);
/* Ciphertext to be sent: *n bytes at the result; tell with tls_sent() how many went. */
const void *tls_out(struct tls *t, size_t *n);
void tls_sent(struct tls *t, size_t n);
/* Plain bytes; 0 at the peer's close_notify; -EAGAIN: feed more, or let tls_out() go out; -EPROTO: tls_error() says why.
 * Both go on with the handshake first. */
ssize_t tls_read(struct tls *t, void *buf, size_t n);
ssize_t tls_write(struct tls *t, const void *buf, size_t n);
/* The handshake is complete, the peer's certificate checked.  0, -EAGAIN, -EPROTO. */
int tls_handshake(struct tls *t);
/* close_notify into tls_out(). */
void tls_close(struct tls *t);
/* "" until something failed; static or t's. */
const char *tls_error(const struct tls *t);
