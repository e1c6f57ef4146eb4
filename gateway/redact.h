/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that sends a credential back (an echo service, an error page) would hand it to the agent: whole secrets in an
 * answer are masked with asterisks, byte for byte, so that lengths stay as they were announced.  This finds the exact
 * bytes only: not an encoded, compressed or split form.
 */
#pragma once

#include "creds.h"

/* Masks in place; returns how many bytes at the end may be the start of a secret. */
size_t redact(const struct cred *const *creds, size_t n_creds, char *p, size_t n);
