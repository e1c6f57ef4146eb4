/* SPDX-License-Identifier: Apache-2.0 */
/* From a role's policy and the crew file's `endpoints:` to what the gateway enforces for one instance. */
#pragma once

#include "crew_file.h"

/*
 * A sealed memfd for GATE_ADD or GATE_POLICY (common/netpolicy.h), or negative with err.
 * crew: its endpoints say where names live and which ca they have, and never widen the policy; NULL: none.
 * generation: counts the reloads of the instance, from 1.
 * The same arguments give the same bytes; policy_sha256 in its head is policy_image_sha256(p).
 */
int netpolicy_make(const struct policy_image *p, const struct crew_file *crew, uint32_t generation, struct crew_err *err);
