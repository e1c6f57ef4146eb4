/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The results of the last run: <state>/<crew>/out/<task>.json, 0600, as the agent gave them and the schema accepted them.
 *
 * For crewctl and for people; nothing in crewd reads them back.  A run that starts removes those of the run before, so
 * what is there belongs to the last one.
 */
#pragma once

#include "common/err.h"

#include <stddef.h>

/* dir: <state>/<crew>/out; made when missing.  Removes old results. */
int results_begin(const char *dir, struct crew_err *err);
/* Readers see the whole result or none. */
int results_store(const char *dir, const char *task, const char *json, size_t n, struct crew_err *err);
