/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host uids for agents in root mode: one of 200000..265535 each, held by an flock on /run/crewd/uids/<uid> for as long
 * as the descriptor is open, so that no two agents on this host share one.  The directory is the host's, whatever
 * CREWD_HOME says: two homes must not meet in one uid.
 */
#pragma once

#include "err.h"

#include <stdint.h>

#define UIDS_FIRST 200000u
#define UIDS_N 65536u
#define UIDS_DIR "/run/crewd/uids"

/* *lock_fd holds the uid; close it to give the uid back. */
int uids_take(uint32_t *uid, int *lock_fd, struct crew_err *err);
