/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The credentials file: what a user writes to have a secret put into requests outside the jail.  It names sources; it
 * holds no secret itself.
 *
 *      # a comment
 *      [market-key]
 *      host = api.marketdata.com
 *      port = 443
 *      path = /v1/quotes
 *      header = Authorization
 *      prefix = "Bearer "
 *      file = market.token
 *
 * One [name] a credential; each key at most once, but path.  host and exactly one of file, env, command are required;
 * port is 443, path is every path, header is Authorization, prefix is "Bearer " for that header and empty for any other.
 * Messages name keys and lines, never values: a secret pasted into the wrong place does not get out.
 */
#pragma once

#include "common/err.h"
#include "common/netpolicy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CREDS_FILE_MAX (64u * 1024)
#define CREDS_MAX 64
#define CRED_PATHS_MAX 8
#define CRED_TEXT_MAX 512
#define CRED_WORDS_MAX 16

enum cred_source { CRED_NONE, CRED_FILE, CRED_ENV, CRED_COMMAND };

struct cred_spec {
        char name[64];
        unsigned line;
        char host[NETPOLICY_NAME_MAX];
        uint16_t port;
        bool plain_http; /* may also go out without TLS */
        char header[64];
        char prefix[64];
        bool prefix_given;
        char paths[CRED_PATHS_MAX][CRED_TEXT_MAX];
        unsigned n_paths;
        enum cred_source source;
        char from[CRED_TEXT_MAX]; /* the path, the variable, or the command with its words */
};

struct creds_file {
        unsigned n;
        struct cred_spec specs[CREDS_MAX];
};

/* Messages start with "LINE: ". */
int creds_file_parse(const char *text, size_t n, struct creds_file *out, struct crew_err *err);
