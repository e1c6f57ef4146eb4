/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which crews there are: those that run (a control socket that answers) and those that left an audit.
 * Trusts the names of directories below our own run and state directories, once they are valid crew names.
 */
#pragma once

#include "cli.h"
#include "common/paths.h"

#include <stddef.h>

#define CREW_NAME_MAX 64

struct crew_names { /* owned by the caller; sorted */
        char (*items)[CREW_NAME_MAX];
        size_t n;
};
void crew_names_fini(struct crew_names *l);
#define _cleanup_names_ _cleanup_(crew_names_fini)
/* "a, b, c" into out, cut with "..." */
void crew_names_join(const struct crew_names *l, char *out, size_t n);
/* The nearest name, or NULL. */
const char *crew_names_nearest(const struct crew_names *l, const char *word);
int crew_names_add(struct crew_names *l, const char *name);

/* Crews whose control socket accepts a connection. */
int crews_running(const struct crew_paths *paths, struct crew_names *out);
/* Those with a run directory, whether anything of them lives or not. */
int crews_in_run(const struct crew_paths *paths, struct crew_names *out);
/* Crews with a directory under the state directory. */
int crews_recorded(const struct crew_paths *paths, struct crew_names *out);
/* Agents with an audit stream in a crew. */
int crew_recorded_agents(const struct crew_paths *paths, const char *crew, struct crew_names *out);
/* Agents with a state directory in a crew, whether they have run or not. */
int crew_state_agents(const struct crew_paths *paths, const char *crew, struct crew_names *out);
/* The same of a directory that holds such streams. */
int crew_agents_in(const char *dir, struct crew_names *out);

/* How long a crewd is waited for that has more clients at its door than it gets round to, in ms. */
#define CREW_CONNECT_MS 30000
/*
 * A connected stream socket of a crew's control socket, not blocking; -errno.  -EAGAIN: crewd lives and took nobody in for
 * wait_ms (0: it is not waited for), unix(7).
 */
int crew_connect(const struct crew_paths *paths, const char *crew, uint32_t wait_ms);

/* The one running crew, or the one asked for (wanted may be NULL).  0, or -1 with a problem that says what to do. */
int crew_choose_running(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX],
                        struct cli_problem *problem);
/* The same for what was recorded: works without a running crew. */
int crew_choose_recorded(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX],
                         struct cli_problem *problem);
/* "no agent 'x' in crew y", with the names and the nearest. */
int crew_unknown_agent(struct cli_problem *p, const char *crew, const char *agent, const struct crew_names *known);
