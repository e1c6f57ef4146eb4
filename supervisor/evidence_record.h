/* SPDX-License-Identifier: Apache-2.0 */
/* One kernel observation as an audit record of the agent it is about. */
#pragma once

#include "agent.h"
#include "common/evidence.h"

void evidence_record(struct agent *a, const struct evidence_msg *m, const char *source);
/* Which other agent's path this is, or "" ; and whether it is a decoy of this agent's view. */
const char *evidence_owner_of(const struct agent *a, const char *path);
bool evidence_is_decoy(const struct agent *a, const char *path);
