/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts of a rootless instance, from its seccomp listener.
 *
 * Every notified call is answered "continue": this sees, it does not decide.  The path is read from the memory of the
 * caller, who may change it before the kernel reads it again; links are followed below the private directories, where
 * the agent can make them, and elsewhere the path is taken as text.
 */
#pragma once

#include "server.h"

/* Owns fd, also on failure. */
struct listener *listener_open(struct server *sv, struct instance *in, int fd, struct crew_err *err);
/* Watch paths, NUL-terminated each, n bytes together: opens below them are reported even where others are not. */
int listener_add_paths(struct listener *l, const char *paths, size_t n, struct crew_err *err);
struct listener *listener_close(struct listener *l);
bool listener_works_here(void);
