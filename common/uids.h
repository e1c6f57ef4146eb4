/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host uids for agents in root mode: one of 200000..265535 each, held by an flock on <run>/uids/<uid> for as long as the
 * descriptor is open, so that two crews (and crewctl sandbox) never share one.
 */
#pragma once

#include "err.h"

#include <stdint.h>

#define UIDS_FIRST 200000u
#define UIDS_N 65536u

/* *lock_fd holds the uid; close it to give the uid back. */
int uids_take(const char *run_dir, uint32_t *uid, int *lock_fd, struct crew_err *err);
