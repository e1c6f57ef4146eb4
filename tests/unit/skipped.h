/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Ends the running test as skipped, and says in the results why: what the kernel or the system lacks. */
void skip_because(const char *why) __attribute__((noreturn));
