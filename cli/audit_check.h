/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a crew's audit, offline: each stream's chain and tree, its signed checkpoint, and what the crew's own stream
 * says of the others.  Trusts the key and nothing else in the files.
 */
#pragma once

#include "common/note.h"
#include "common/record.h"

#include <limits.h>

#define AUDIT_CHECK_CREW "@crew" /* the crew's own stream; see supervisor/audit/audit.h */

/* What somebody said a stream was: so many lines, this root. */
struct audit_claim {
        uint64_t lines;
        uint8_t root[CREW_SHA256_BYTES];
};
struct audit_known { /* one stream, as the crew's log knows it */
        char agent[72];
        struct audit_claim *claims; /* owned; by size */
        size_t n, room;
        bool seen; /* it was checked */
};
/* A checkpoint that was kept elsewhere. */
struct audit_kept {
        char file[PATH_MAX], text[NOTE_MAX], origin[NOTE_ORIGIN_MAX];
        size_t n;
        bool seen;
};

struct audit_check {
        char base[PATH_MAX]; /* holds the streams: <base>/@crew, <base>/AGENT */
        bool pinned;         /* the key was given, and what is not signed by it counts for nothing */
        bool has_key;
        struct verify_key key;
        bool crew_log;             /* there is one */
        struct audit_known *known; /* owned */
        size_t n_known;
        struct audit_kept *kept; /* the caller's; NULL: none */
};

struct audit_finding {
        struct record_verify chain;
        char problem[640]; /* of chain, tree or checkpoint; "": intact */
        bool checkpoint;   /* it has one */
        uint64_t signed_records;
        char root_hex[CREW_SHA256_HEX]; /* of the lines that fit */
};

/* -EINVAL: it is no key, or no checkpoint. */
int audit_check_key(const char *path, struct verify_key *out, struct crew_err *err);
int audit_check_kept(const char *path, struct audit_kept *out, struct crew_err *err);
/* Takes <base>/@crew/key.pub where c->pinned is not set; base, pinned with its key, and kept are the caller's. */
void audit_check_begin(struct audit_check *c);
void audit_check_fini(struct audit_check *c);
/* The stream <base>/<agent>; @crew comes first, for what it says of the others.  A fault: it cannot be read. */
int audit_check_stream(struct audit_check *c, const char *agent, struct audit_finding *out, struct crew_err *err);
/* A stream that is not here although the crew's log knows it. */
void audit_check_gone(const struct audit_known *k, struct audit_finding *out);
/* A file by itself, with the checkpoint beside it when it has its own name. */
int audit_check_file(struct audit_check *c, const char *path, struct audit_finding *out, struct crew_err *err);
