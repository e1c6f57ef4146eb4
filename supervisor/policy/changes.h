/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between two policies of one agent, part by part.  Only meaning counts: lines that have moved in the file
 * are no change.
 */
#pragma once

#include "policy.h"

enum policy_part {
        POLICY_PART_NETWORK,
        POLICY_PART_TOOLS,
        POLICY_PART_IPC,
        POLICY_PART_AUDIT,
        POLICY_PART_FILESYSTEM,
        POLICY_PART_SYSCALLS,
        POLICY_PART_DEGRADED,
        POLICY_PART_N,
};

#define POLICY_CHANGE_MAX 400
/* 1: it differs, and detail says how ("+ news.example.com:443, - old.example.com:443"; "memory 256 MiB -> 1 GiB"), cut with
 * "..." when there is much of it; 0: it does not; -ENOMEM. */
int policy_part_changed(const struct policy_image *from, const struct policy_image *to, enum policy_part part,
                        char detail[POLICY_CHANGE_MAX]);

enum policy_limit {
        POLICY_LIMIT_MEMORY,
        POLICY_LIMIT_PROCESSES,
        POLICY_LIMIT_CPU,
        POLICY_LIMIT_OPEN_FILES,
        POLICY_LIMIT_TMP,
        POLICY_LIMIT_OUTPUT,
        POLICY_LIMIT_WALL_TIME,
        POLICY_LIMIT_CONNECTIONS,
        POLICY_LIMIT_HALF_OPEN,
        POLICY_LIMIT_DNS,
        POLICY_LIMIT_BANDWIDTH,
        POLICY_LIMIT_MESSAGES,
        POLICY_LIMIT_N,
};
/* detail: "memory 256 MiB -> 1 GiB". */
#define POLICY_LIMIT_CHANGE_MAX 96
bool policy_limit_changed(const struct policy_limits *from, const struct policy_limits *to, enum policy_limit which,
                          char detail[POLICY_LIMIT_CHANGE_MAX]);
