/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Denials from the kernel's Landlock audit records (root mode).
 *
 * A record of a denial names a domain; the record of that domain names the uid that made it, and each agent instance
 * has a uid of its own.  When a domain ends the kernel says how many denials it had: what did not arrive is reported
 * as lost, by agent and exactly.
 */
#pragma once

#include "server.h"

int landlock_open(struct server *sv, struct crew_err *err); /* switches kernel auditing on */
void landlock_close(struct server *sv);                     /* and back to what it was */
/* An instance has come up: what its uid did since may have arrived before. */
void landlock_watch(struct server *sv, struct instance *in);
/* Has everything been read that the kernel said up to min_ns after the instance was to be forgotten? */
bool landlock_caught_up(struct server *sv, const struct instance *in, uint64_t min_ns);
/* An instance is done with: its domains belong to nobody now. */
void landlock_forget(struct server *sv, struct instance *in);
