/* SPDX-License-Identifier: Apache-2.0 */
/* What a new policy changes for one agent, section by section, and what of it a running jail can take over. */
#include "ca_bundle.h"
#include "common/util.h"
#include "crewd.h"
#include "reload_internal.h"
#include "supervisor/policy/changes.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

/* Which part of a policy shows where, and whether a running jail can take it over. */
static const struct {
        enum reload_section section;
        bool jail;
} parts[] = {
        [POLICY_PART_NETWORK] = {RELOAD_NETWORK, false},
        [POLICY_PART_TOOLS] = {RELOAD_TOOLS, false},
        [POLICY_PART_IPC] = {RELOAD_IPC, false},
        [POLICY_PART_AUDIT] = {RELOAD_AUDIT, false},
        [POLICY_PART_FILESYSTEM] = {RELOAD_FILESYSTEM, true},
        [POLICY_PART_SYSCALLS] = {RELOAD_SYSCALLS, true},
        [POLICY_PART_DEGRADED] = {RELOAD_DEGRADED, true},
};
static_assert(ELEMENTSOF(parts) == POLICY_PART_N, "a place for each part");

/* Who holds a limit: crewd or the gateway, which change it at once; control groups, where the jail has them (the bit in
 * spawn_attestation.limits_by), or the spawner; or the jail, for good. */
enum { HELD_OUTSIDE, HELD_BY_MEMORY_GROUP = 1, HELD_BY_PIDS_GROUP = 2, HELD_BY_CPU_GROUP = 4, HELD_BY_JAIL = 1 << 16 };
static const uint32_t limit_held_by[] = {
        [POLICY_LIMIT_MEMORY] = HELD_BY_MEMORY_GROUP,
        [POLICY_LIMIT_PROCESSES] = HELD_BY_PIDS_GROUP,
        [POLICY_LIMIT_CPU] = HELD_BY_CPU_GROUP,
        [POLICY_LIMIT_OPEN_FILES] = HELD_BY_JAIL,
        [POLICY_LIMIT_TMP] = HELD_BY_JAIL,
        [POLICY_LIMIT_OUTPUT] = HELD_BY_JAIL,
        [POLICY_LIMIT_WALL_TIME] = HELD_OUTSIDE,
        [POLICY_LIMIT_CONNECTIONS] = HELD_OUTSIDE,
        [POLICY_LIMIT_HALF_OPEN] = HELD_OUTSIDE,
        [POLICY_LIMIT_DNS] = HELD_OUTSIDE,
        [POLICY_LIMIT_BANDWIDTH] = HELD_OUTSIDE,
        [POLICY_LIMIT_MESSAGES] = HELD_OUTSIDE,
};
static_assert(ELEMENTSOF(limit_held_by) == POLICY_LIMIT_N, "somebody holds each limit");

static void note(struct reload_change *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct reload_change *s, const char *fmt, ...) {
        size_t n = strlen(s->detail);
        va_list ap;

        if (n > 0)
                n += (size_t)snprintf(s->detail + n, sizeof(s->detail) - n, "; ");
        if (n >= sizeof(s->detail))
                return;
        va_start(ap, fmt);
        vsnprintf(s->detail + n, sizeof(s->detail) - n, fmt, ap);
        va_end(ap);
}

/* A tool's files are in the jail only if the policy it was made with allowed it. */
static void compare_tools(const struct crew_file *crew, const struct policy_image *jail, const struct policy_image *now,
                          struct reload_change *s) {
        for (size_t i = 0; i < crew->n_tools; i++) {
                const char *tool = crew->tools[i].name;
                if (!policy_decide(now, POLICY_DO_TOOL, tool).allowed || policy_decide(jail, POLICY_DO_TOOL, tool).allowed)
                        continue;
                s->restart = true;
                note(s, "%s is not in the jail yet", tool);
        }
}

/* More than the jail began with its resource limits would not let it have: processes always, memory where no group counts
 * it. */
static bool can_change(const struct agent *a, enum policy_limit i, const struct policy_limits *to) {
        const struct policy_limits first = policy_limits_of(agent_jail_policy(a));
        bool group = a->in.att.limits_by & limit_held_by[i] & ~(uint32_t)HELD_BY_JAIL;

        switch (i) {
        case POLICY_LIMIT_PROCESSES:
                return group && to->processes <= first.processes;
        case POLICY_LIMIT_MEMORY:
                return group || !first.memory_bytes || (to->memory_bytes && to->memory_bytes <= first.memory_bytes);
        case POLICY_LIMIT_CPU:
                return true;
        default:
                return group;
        }
}

static void compare_limits(struct reload_agent *ra, const struct policy_image *fresh) {
        const struct agent *a = ra->agent;
        const struct policy_limits to = policy_limits_of(fresh), now = policy_limits_of(a->decl->policy);
        struct reload_change *s = &ra->sections[RELOAD_LIMITS];
        bool live = agent_state_live(a->state);
        char detail[POLICY_LIMIT_CHANGE_MAX];

        ra->old_limits = ra->new_limits = live ? a->in.limits : now;
        for (uint32_t i = 0; i < POLICY_LIMIT_N; i++) {
                bool jail = live && limit_held_by[i] != HELD_OUTSIDE;
                if (!policy_limit_changed(jail ? &a->in.limits : &now, &to, (enum policy_limit)i, detail))
                        continue;
                bool restart = jail && !can_change(a, (enum policy_limit)i, &to);
                s->restart |= restart;
                s->applied |= !restart;
                ra->limits |= jail && !restart;
                note(s, "%s%s", detail, restart ? " after a restart" : "");
        }
        if (ra->limits && can_change(a, POLICY_LIMIT_MEMORY, &to))
                ra->new_limits.memory_bytes = to.memory_bytes;
        if (ra->limits && can_change(a, POLICY_LIMIT_PROCESSES, &to))
                ra->new_limits.processes = to.processes;
        if (ra->limits && can_change(a, POLICY_LIMIT_CPU, &to))
                ra->new_limits.cpu_milli = to.cpu_milli;
}

int reload_compare(const struct crew_file *crew, struct reload_agent *ra, const struct policy_image *fresh) {
        const struct agent *a = ra->agent;
        const struct policy_image *jail = agent_jail_policy(a), *now = a->decl->policy;
        bool live = agent_state_live(a->state);
        char detail[POLICY_CHANGE_MAX];

        for (uint32_t i = 0; i < POLICY_PART_N; i++) {
                struct reload_change *s = &ra->sections[parts[i].section];
                bool stays = live && parts[i].jail;
                int r = policy_part_changed(stays ? jail : now, fresh, (enum policy_part)i, detail);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                s->restart |= stays;
                s->applied |= !stays;
                note(s, "%s", detail);
        }
        compare_limits(ra, fresh);
        if (!live)
                return 0;
        compare_tools(crew, jail, fresh, &ra->sections[RELOAD_TOOLS]);
        if (ca_bundle_wanted(fresh, crew) && !ca_bundle_wanted(jail, a->file)) {
                ra->sections[RELOAD_NETWORK].restart = true;
                note(&ra->sections[RELOAD_NETWORK], "the jail does not know the crew's CA yet");
        }
        return 0;
}
