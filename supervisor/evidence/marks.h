/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allowed opens and writes, from fanotify marks on the policy mounts of each instance (root mode).
 *
 * A mark is on the jail's own mount: what anybody else does to the same files through other mounts is no event.  The
 * first MARKS_OWN_QUEUES instances have a queue each, so that a storm of one agent overflows its own; the rest share one.
 * More would leave none for the next crew: the kernel lets a user have 128 (fs.fanotify.max_user_groups).
 */
#pragma once

#include "server.h"

#define MARKS_OWN_QUEUES 30u

struct marks *marks_free(struct marks *m, struct server *sv);
/* Adds watch paths (NUL-terminated, n bytes together) of the instance's view.  *m is made when NULL. */
int marks_add(struct server *sv, struct instance *in, const char *paths, size_t n, struct crew_err *err);
/* Reads what is queued. */
void marks_drain(struct marks *m);
bool marks_work_here(void);
