/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the operator's environment goes where.  Variables may be secrets (API keys), so only those who need them have
 * them: the hook runner and the gateway get all of it, crewd keeps what says where its files are, and the other
 * helpers (jails are forked from the spawner's memory) get next to nothing.
 */
#pragma once

/* For execve(2) of crew-evidence and the spawner: what says how our programs are loaded, no more.  Points into environ. */
const char **environment_for_helpers(void);
/* Overwrites in place every variable that crewd does not use, also as /proc/PID/environ shows it, and forgets it.  Call
 * once those who get all of it have been forked, while single-threaded. */
void environment_wipe(void);
