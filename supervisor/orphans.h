/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends that nobody has told: agents that died with their crewd, because it was killed or the host lost power.
 *
 * The next crewd of the crew finds them in their audit streams, and writes the termination (cause: supervisor lost) and the
 * end of the task that was under way, before anything new; clients, hooks and the webhook get it as any other.
 */
#pragma once

struct crewd;

/* Before the first agent is started. */
void orphans_report(struct crewd *c);
