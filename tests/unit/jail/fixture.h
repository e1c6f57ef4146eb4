/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small plan and a way to run one function in a jail made from it.
 *
 * Both modes: as root the tests run in root mode, and again rootless in a child that becomes "nobody" first; without
 * root, rootless only.
 */
#pragma once

#include "worker/sandbox/jail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FIXTURE_UID 200900u

/* Head, view, outer and agent layer, environment; flags are PLAN_*; root mode is added when we are root. */
struct plan_builder *fixture_builder(uint32_t flags, const char *profile, const struct plan_limits *limits,
                                     uint32_t allow_degraded, uint32_t abi_min);
/* Standard view: runtime, proc, dev, /tmp, home.  Every test's own mounts come after. */
void fixture_view(struct plan_builder *b);
/* Outer layer (0) and agent layer (1) with the runtime's rules. */
void fixture_layers(struct plan_builder *b);
const struct plan *fixture_plan(struct plan_builder *b); /* finishes, checks, frees the builder */
const struct plan *fixture_standard(uint32_t flags);

/* Runs fn in a jail of the plan; its return value is the exit status.  err, when not NULL, gets a spawn failure. */
typedef int (*fixture_fn)(const struct jail_child *c);
int fixture_run(const struct plan *plan, fixture_fn fn);
int fixture_spawn(const struct plan *plan, fixture_fn fn, struct jail *j, struct crew_err *err);
/* From a child made ahead of the plan; wants PLAN_SANDBOX. */
int fixture_spawn_ahead(const struct plan *plan, fixture_fn fn, struct jail *j, struct crew_err *err);

/* In a jail: starts argv in the agent layer and waits.  Exit status, or 128+signal, or -errno of the start. */
int fixture_exec(const struct jail_child *c, const char *const *argv);

/* A freeze that takes too long is given up, and said to be: on a busy machine that may be so, and it is asked for again. */
void fixture_freeze(struct jail *j);

/* A sweep takes the leftovers of every crew of the host, so of every test's that runs meanwhile too.  Who looks at what is
 * left does so alone; whoever sweeps or leaves something holds it shared.  Until the descriptor is closed; it may be -1. */
int fixture_hold_sweeps(bool alone);

/* Runs the group twice, as described above.  Exit status for main. */
int fixture_main(const char *name, const struct CMUnitTest *tests, size_t n, int argc, char **argv);
