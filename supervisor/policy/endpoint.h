/* SPDX-License-Identifier: Apache-2.0 */
/* "host:port" as policies, crew files and the gateway write it. */
#pragma once

#include "policy.h"

#define ENDPOINT_HOST_MAX 254

struct endpoint_text {
        char host[ENDPOINT_HOST_MAX]; /* lower case, literal addresses in their canonical form, no brackets */
        uint16_t port;
        bool literal, wildcard;
};

/* Parses "host:port", "*.host:port", "1.2.3.4:port", "[v6]:port".  0, or -EINVAL with *why and *hint static strings. */
int endpoint_parse(const char *text, struct endpoint_text *out, const char **why, const char **hint);
/* The same when host and port are written apart. */
int endpoint_make(const char *host, uint64_t port, struct endpoint_text *out, const char **why, const char **hint);
/* A listed endpoint against a concrete one (never a wildcard). */
bool endpoint_matches(const struct policy_endpoint *rule, const struct endpoint_text *to);
/* Why listing it is doubtful ("the cloud metadata service..."), or NULL. */
const char *endpoint_doubt(const struct endpoint_text *e);
