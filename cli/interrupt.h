/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT, SIGTERM and SIGHUP for a verb that must not end in the middle: noted, so that it stops at the next good place and
 * says how things are.  The second of a kind ends it as ever.
 */
#pragma once

void interrupt_watch(void);
/* They end the program again, for whatever comes from now on. */
void interrupt_unwatch(void);
/* The signal that has come since interrupt_watch(); 0: none. */
int interrupt_seen(void);
