/* SPDX-License-Identifier: Apache-2.0 */
/* The sealed child tries what must fail.  A wall that lets one of these through is no wall: it refuses to start. */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/* *passed: how many were tried, each failed as it must.  -EPERM with the name of the first that did not. */
int selftest_run(bool with_landlock, uint32_t *passed, struct crew_err *err);
