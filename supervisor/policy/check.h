/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of one policy that the whole loader shares; see draft_check() in draft.h for the rest. */
#pragma once

#include "draft.h"

/* Is the path made by somebody before it is needed (a write tree of a crew member)? */
typedef bool (*policy_made_fn)(const void *user, const char *path);
/* Reports every listed path that does not exist and has to. */
void policy_check_missing(const struct policy_image *p, bool warning, policy_made_fn made, const void *user,
                          struct policy_report *report);

/* Data of the host rather than of this crew: neither below /tmp, nor /usr, nor the crew's own directory. */
bool path_is_private(const char *path, const char *crew_dir);
/* Why no policy may grant this path for this kind of access, or NULL. */
const char *place_refused(enum policy_path_kind kind, const char *path);
