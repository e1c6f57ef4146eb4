/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things live.  Root: /etc/crewd, /run/crewd, /var/lib/crewd.  Rootless: XDG_CONFIG_HOME,
 * XDG_RUNTIME_DIR, XDG_STATE_HOME (each + "/crewd").  CREWD_HOME=DIR overrides all: DIR/etc, DIR/run, DIR/lib.
 */
#pragma once

#include "err.h"

#include <limits.h>

struct crew_paths {
        char config[PATH_MAX];
        char run[PATH_MAX];   /* <run>/<crew>/{control.sock,pid,links/} */
        char state[PATH_MAX]; /* <state>/<crew>/{audit/<agent>/log.jsonl,out/} */
};

/* Resolves the three; creates nothing. */
int crew_paths_init(struct crew_paths *p, struct crew_err *err);
/* The path of one of our own programs ("crewd", "crew-worker", "crew-gateway", "crew-evidence", "crew-call"):
 * beside the running program, then ../{cli,supervisor,worker,gateway}/ (build tree), then libexecdir. */
int crew_program_path(const char *name, char out[PATH_MAX], struct crew_err *err);
/* The directory that holds roles/, runtimes/, seccomp/: ../policies beside the running program's
 * directory (build tree; a link made by the build), else DATADIR/crewd/policies. */
int crew_data_dir(char out[PATH_MAX], struct crew_err *err);
