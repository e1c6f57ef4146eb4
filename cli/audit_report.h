/* SPDX-License-Identifier: Apache-2.0 */
/* What `audit verify` prints: a row a stream, and what they come to. */
#pragma once

#include "audit_check.h"
#include "term.h"

#include <jansson.h>

struct audit_report {
        struct term term;
        json_t *streams; /* with --json */
        size_t width;    /* of the names */
        unsigned streams_ok, streams_bad, streams_elsewhere;
        uint64_t records;
};
void audit_report_stream(struct audit_report *t, const char *name, const char *path, const struct audit_finding *f);
void audit_report_end(const struct audit_report *t);
