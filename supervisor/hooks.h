/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks.on_agent_terminated: a command of the operator's that gets each termination as JSON on its standard input.
 *
 * It is run by a child forked before crewd gave up its rights and before it opened anything: so a hook has the
 * operator's rights and the network, and inherits no descriptor.  HOOKS_AT_ONCE run at a time, begun in the order of the
 * ends, an agent's own one by one; each in its own process group, killed after ten seconds.
 *
 * Each termination is in the outbox (hook_outbox.h) from before it is recorded until its hook has ended, however that
 * ended: a crewd that is killed in between begins it at its next start, in order and before anything new.  So a hook may
 * see an id twice, and misses none; but for the outbox's own bounds, beyond which one is reported as not run.
 */
#pragma once

#include "agent.h"

#define HOOKS_TIMEOUT_NS 10000000000ull
#define HOOKS_AT_ONCE 8u
#define HOOKS_HANDED_OUT 64u /* to the runner, which begins the next by itself when one ends: crewd may have much to do */
#define HOOKS_QUIET_NS 100000000ull /* without an end: the outbox is emptied then, not between the deaths of a burst */

struct hooks;

/* Before anything else runs: forks the runner for command (NULL-terminated).  Its end of the channel, or -errno. */
int hooks_start_runner(const char *const *command, struct crew_err *err);

/* Takes what an earlier crewd has left in the outbox, too. */
int hooks_open(struct crewd *c, int fd, struct hooks **out, struct crew_err *err);
void hooks_close(struct hooks *h);
/* h may be NULL in what follows: no hook. */
/* On disk with the next hooks_sync().  False: it will not be run, and hooks_missed() puts that on record, once the
 * termination is. */
bool hooks_keep(struct hooks *h, struct agent *a, const struct termination *t);
void hooks_missed(struct agent *a);
/* Those of which it says so, before any is run. */
void hooks_forget(struct hooks *h, bool (*which)(const char *json, void *user), void *user);
void hooks_sync(struct hooks *h); /* before any of them is run */
void hooks_run(struct hooks *h);  /* the oldest, if there is room */
uint64_t hooks_next_deadline(const struct hooks *h);
void hooks_expire(struct hooks *h, uint64_t now_ns);
bool hooks_idle(const struct hooks *h);
