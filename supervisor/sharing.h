/* SPDX-License-Identifier: Apache-2.0 */
/* memory/put, get and list of agents: rights and quotas by the crew file, each access on record, answered once. */
#pragma once

#include "agent.h"
#include "ipc-schema/ipc.h"

/* A checked MemoryPut, MemoryGet or MemoryList. */
void sharing_request(struct agent *a, const Crew__Envelope *e);
