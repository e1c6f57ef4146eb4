/* SPDX-License-Identifier: Apache-2.0 */
/* What the next crewd must know of one agent: its state, its instance, its last death, the frames that it has yet to get.
 */
#pragma once

struct agent;
struct bytes_in;
struct bytes_out;

void checkpoint_agent_save(const struct agent *a, struct bytes_out *b);
/* Into one that was just made.  0, -EBADMSG, -ENOMEM. */
int checkpoint_agent_load(struct agent *a, struct bytes_in *b);
