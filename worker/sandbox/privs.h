/* SPDX-License-Identifier: Apache-2.0 */
/* What the child gives up: limits, descriptors, capabilities, keys.  Each call is one step of the jail. */
#pragma once

#include "common/plan.h"

#include <stdbool.h>

/* without: bit set of spawn_attestation.limits_by; what no cgroup limits is limited here as far as it can be. */
int privs_limit(const struct plan *plan, uint32_t limits_by, struct crew_err *err);
/* Closes every descriptor above 2 that is not in keep[]. */
int privs_close_others(const int *keep, size_t n, struct crew_err *err);
/* What no exec can give again.  Takes nothing that is held now, so it may come early. */
int privs_empty_bounding_set(struct crew_err *err);
/* Ambient, inheritable, permitted, effective; and root shall mean nothing any more. */
int privs_drop_caps(struct crew_err *err);
int privs_no_new(struct crew_err *err);
int privs_new_keyring(struct crew_err *err);
