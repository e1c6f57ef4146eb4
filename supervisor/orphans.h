/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends that nobody has told: agents that died with their crewd, because it was killed or the host lost power.
 *
 * The next crewd of the crew finds them in their audit streams, and writes the termination (cause: supervisor lost) and the
 * end of the task that was under way, before anything new; clients, hooks and the webhook get it as any other.  An agent
 * that was held and killed by hand has an operator's end, by the note of its spawner.
 */
#pragma once

struct crewd;

/* Where the spawner notes whom somebody had killed while no crewd was there (common/held_note.h): a descriptor, or -errno.
 */
int orphans_notes(const struct crewd *c);
/* Before the first agent is started, and before what an earlier crewd has left in the outboxes is told.  0 or -errno. */
int orphans_report(struct crewd *c);
