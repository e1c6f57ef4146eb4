/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The termination record as JSON, version 1: one text for the hook, the webhook and the manager of a crew.  Its fields are
 * in crewd(8); a version has no field less and none that means something else.
 */
#pragma once

#include "agent.h"

#define TERMINATION_JSON_MAX 60000u /* fits a pipe, so that writing it never waits */

/* inside: for a program in a jail, which is not told of paths outside. */
enum termination_reader { TERMINATION_OUTSIDE, TERMINATION_INSIDE };
/* *json is malloc'd, at most TERMINATION_JSON_MAX. */
int termination_json(const struct agent *a, const struct termination *t, enum termination_reader reader, char **json,
                     size_t *n);
