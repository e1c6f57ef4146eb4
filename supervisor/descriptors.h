/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crew needs of the limit of open files (RLIMIT_NOFILE), known before anything of it is started: a crew that did
 * not fit would come up in part, and lose agents later, at a restart.  Every process of ours has the same limit.  crewd
 * needs the most of it, but for the spawner with on_supervisor_loss: hold, which needs as much.
 */
#pragma once

#include "common/err.h"

struct crew_file;

/* For a crew that is, or from `now` (else NULL) becomes, as `next` has it, place by place.  -EMFILE: that is more than this
 * process may have; err says how many, and what can be done. */
int descriptors_check(const struct crew_file *now, const struct crew_file *next, struct crew_err *err);
