/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawner: the one part that makes, watches and kills jails, in root mode the only privileged process.
 *
 * Single-threaded; reads fixed-layout messages of common/spawn.h from crewd's end of fd and plans it has checked, nothing
 * that an agent wrote.  When that end closes, every jail is killed and its traces are removed before it returns.
 */
#pragma once

#include "worker/sandbox/jail.h"

/* Returns the exit status of the program. */
int spawner_main(int fd, jail_main_fn worker_main);
