/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attackers: one program, one subcommand each, each tries one thing.
 *
 * Exit status: 0 the attack succeeded, 10 it was denied (the errno's name is printed), 20 it could not be tried.  What
 * kills the attacker (SIGSYS, SIGKILL) shows in the status as usual.  test_escape.py says what must come out where.
 */
#pragma once

#include <stddef.h>

enum { ATTACK_WON = 0, ATTACK_DENIED = 10, ATTACK_BROKEN = 20 };

struct attack {
        const char *name;
        int (*run)(char **args); /* NULL-terminated */
        int n_args;
};
extern const struct attack process_attacks[], kernel_attacks[], file_attacks[], network_attacks[], egress_attacks[],
        resource_attacks[];

int won(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int denied(int error);
int broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The result of a call: won when not negative, else denied(errno). */
int judge(long result);
/* Won when the call got as far as failing with this errno: past every permission check. */
int reached(long result, int error);
