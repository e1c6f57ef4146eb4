/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy files read again for a crew that runs: `crewctl policy reload`.
 *
 * crewd itself reads them.  It has kept the right to (its walls keep programs, networks and privileges out, not files),
 * with the loader that has read them at the start, below the paths it knew then; nothing compiled, and no path, comes from
 * a client.  The crew file counts as it was at the start, so agents, tools and tasks stay the same ones.
 *
 * All or nothing: every file of the crew must load and pass the checks across agents, and every network policy must
 * compile, before anything changes.  Then agent by agent: the record (both hashes, durable), the gateway's new generation,
 * and when it has that, what crewd itself decides by.  An agent whose gateway part is refused stays as it was.
 * What a jail is made with (files, system calls, memory, ...) is in force when the agent is started again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct crew_file;
struct crewd;
struct reload;

struct reload *reload_new(struct crewd *c);
struct reload *reload_free(struct reload *r);
/* Who has asked for the reload that is under way, or that was the last. */
const char *reload_initiator(const struct reload *r);
/*
 * The agents (by index) of which[] as another crew file has them, where all have the same indices: its policies and its
 * endpoints, at the gateway and in their control groups.  What crewd itself decides by is the caller's, who is told once,
 * maybe before this returns; error "": all of them have it.
 */
typedef void (*reload_done)(struct crewd *c, const char *error);
void reload_for_file(struct reload *r, struct crew_file *to, const bool *which, const char *by, reload_done done);
bool reload_is_active(const struct reload *r);
/* There is a CA for policies that inspect TLS: it is made when the crew starts, or never. */
bool reload_has_ca(const struct reload *r);
/* The spawner's answer about new limits of a jail. */
void reload_on_limits(struct reload *r, uint32_t cookie, int error);
/* ReloadPolicy: answered with PolicyReloaded, or refused.  only NULL: every agent. */
void reload_begin(struct reload *r, uint64_t client, uint64_t corr, const struct agent *only, bool restart);
