/* SPDX-License-Identifier: Apache-2.0 */
/* One reload while it is under way: shared by reload.c, which does it, reload_compare.c and reload_answer.c. */
#pragma once

#include "common/digest.h"
#include "reload.h"
#include "supervisor/policy/crew_file.h"

/* A line of the answer. */
enum reload_section {
        RELOAD_NETWORK,
        RELOAD_TOOLS,
        RELOAD_IPC,
        RELOAD_LIMITS,
        RELOAD_AUDIT,
        RELOAD_FILESYSTEM,
        RELOAD_SYSCALLS,
        RELOAD_DEGRADED,
        RELOAD_N,
};
extern const char *const reload_section_names[RELOAD_N];

struct reload_change {
        bool applied, restart;
        char detail[512];
};

struct reload_agent {
        struct reload *reload;
        struct agent *agent;
        int memfd;   /* owned; -1: the gateway has nothing to do */
        uint32_t id; /* of its instance when this began; 0: none */
        bool changed, restarting;
        bool limits;                     /* control groups get new ones */
        uint32_t cookie;                 /* of the spawner's answer to that; 0: none is due */
        struct policy_limits old_limits; /* what to go back to */
        struct policy_limits new_limits;
        struct reload_change sections[RELOAD_N];
        uint32_t generation, closed;
        char old_hex[CREW_SHA256_HEX], new_hex[CREW_SHA256_HEX];
        char error[256];
};

struct reload {
        struct crewd *crewd;
        bool active, restart, sending;
        bool inspects; /* there is a CA: it is made when the crew starts */
        uint64_t client, corr, began_ns;
        struct crew_file *fresh;     /* owned, unless done; what becomes current is swapped out of it */
        reload_done done;            /* NULL: for a client; else for a changed crew file, whose taker over is told */
        struct reload_agent *agents; /* owned */
        uint32_t n, waiting, cookies;
        struct policy_report report;
        char by[160];
};

/* Fills ra's sections and limits; crew: the file that fresh is of.  -ENOMEM. */
int reload_compare(const struct crew_file *crew, struct reload_agent *ra, const struct policy_image *fresh);
void reload_answer(struct reload *r, bool ok);
