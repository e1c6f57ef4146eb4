/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crews whose crewd is gone and whose agents are held for the next one (on_supervisor_loss: hold): asking their spawner,
 * and ending them.  It answers those of its own uid that can read the token in the crew's run directory.
 */
#pragma once

#include "common/paths.h"
#include "crews.h"

#include <stdint.h>

struct held_state {
        uint32_t living;
        uint32_t killed;  /* by this word */
        uint32_t ending;  /* killed by whatever word, and not yet dead; of those asked for */
        uint64_t left_ms; /* until they are ended */
        uint64_t lost_ms; /* since crewd is gone */
};

/* agent: its name, or "" for all of them.  0; -ESRCH: nothing of that crew is held. */
int held_ask(const struct crew_paths *paths, const char *crew, const char *agent, struct held_state *out);
/* The crew asked for, or (NULL) the only one that is held.  False: there is none. */
bool held_choose(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX], struct held_state *state);
/* Ends an agent, or all, and waits until that is so.  The number ended, or -errno; -ETIMEDOUT: killed, and not dead yet;
 * -EBUSY: killed, and a crewd is there again that knows the rest.  reason: NULL or why. */
int held_end(const struct crew_paths *paths, const char *crew, const char *agent, const char *reason);
