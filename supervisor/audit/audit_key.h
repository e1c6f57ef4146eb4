/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key that a crew's evidence is signed with: <dir>/@crew/key (0600), and beside it key.pub for whoever checks.
 *
 * Made at the crew's first start.  It is loaded by crewd alone, after everything that crewd forks has been forked.
 */
#pragma once

#include "common/keys.h"

struct audit_key_found {
        bool made;             /* there was none */
        bool public_rewritten; /* key.pub was of another */
};
/* *out is named crewd/CREW.  A file that is not as it must be is a fault that says what to do about it.  One that was made
 * is on no disk yet: audit_key_keep() is for when the crew's stream has a checkpoint, so that where there is a key there
 * was one. */
int audit_key_keep(const char *dir, const struct sign_key *key, struct crew_err *err);
int audit_key_open(const char *dir, const char *crew, struct sign_key **out, struct audit_key_found *found,
                   struct crew_err *err);
