/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of file a person named, told from its top-level keys; only a guess, the strict loaders decide. */
#pragma once

#include "common/err.h"
#include "crews.h"

enum source_kind { SOURCE_ROLE, SOURCE_CREW, SOURCE_OTHER };

/* agents: for a role file the agent of each document that names one in block style. */
int source_sniff(const char *path, enum source_kind *kind, struct crew_names *agents, struct crew_err *err);
/* The same from memory. */
enum source_kind source_sniff_text(const char *text, struct crew_names *agents);
