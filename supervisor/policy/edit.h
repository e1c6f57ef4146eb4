/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line into a policy file that a person has written: an endpoint is added to network.allowed_endpoints of one agent,
 * and every other byte stays where it was, comments and layout included.
 *
 * The result is parsed and compared with what was there before: but for the one item the trees must be equal.  Where that
 * cannot be had nothing is changed, and the caller tells the person what to write.
 */
#pragma once

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

enum policy_edit_outcome {
        POLICY_EDIT_DONE,
        POLICY_EDIT_LISTED,  /* it is there already, on .line */
        POLICY_EDIT_REFUSED, /* .why */
};
struct policy_edit {
        char *bytes; /* owned, when done */
        size_t n;
        uint32_t line; /* where the item stands now */
        char why[256];
};

/* agent NULL: the only document.  Outcome, or negative with err (the file does not parse, out of memory). */
int policy_edit_add_endpoint(const char *file, const char *bytes, size_t n, const char *agent, const char *endpoint,
                             struct policy_edit *out, struct crew_err *err);
