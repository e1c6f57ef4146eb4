/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsers of crew-evidence: what the kernel prints, with names in it that agents choose.
 *
 * Total functions over any bytes, no allocation; fuzzed.
 */
#pragma once

#include "common/evidence.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_TYPE_LANDLOCK_ACCESS 1423u
#define AUDIT_TYPE_LANDLOCK_DOMAIN 1424u

enum parse_kind { PARSE_ACCESS = 1, PARSE_DOMAIN_ALLOCATED, PARSE_DOMAIN_FREED };

struct parse_record {
        enum parse_kind kind;
        uint64_t time_ns, serial, domain;
        /* access */
        uint32_t what; /* EVIDENCE_FILE_DENIED, _NET_DENIED or _SCOPE_DENIED */
        char access[sizeof(((struct evidence_msg *)0)->access)];
        size_t path_len;
        char path[EVIDENCE_PATH_MAX];
        /* domain */
        int32_t pid;
        uint32_t uid;
        uint64_t denials;
};
/* The text of one audit record (behind the netlink header).  False: not a Landlock record, or malformed. */
bool parse_audit(uint32_t type, const char *text, size_t n, struct parse_record *out);

/*
 * An absolute path without empty, "." and ".." components, as the text alone gives it (links are not followed).
 * dir is the directory of a relative path.  The length, or 0 when it does not fit or dir is no absolute path.
 */
size_t parse_join(const char *dir, size_t dir_len, const char *path, size_t path_len, char *out, size_t room);
/* path equals tree or lies below it. */
bool parse_within(const char *tree, size_t tree_len, const char *path, size_t path_len);
