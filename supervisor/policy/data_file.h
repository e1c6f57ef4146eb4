/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the installation that a policy names: runtime sets, presets, seccomp profiles.  The operator's own (the
 * configuration directory) come before those of the installation.
 */
#pragma once

#include "bind.h"

#include <limits.h>

#define DATA_NAMES_MAX 128

struct data_kind {
        const char *what, *dir, *ext; /* "preset", "presets", ".yaml" */
};
extern const struct data_kind data_runtimes, data_presets, data_profiles;

/* The file of that name, or false. */
bool data_file(const struct data_kind *k, const char *name, char out[PATH_MAX]);
/* All names, sorted, each once. */
size_t data_names(struct arena *a, const struct data_kind *k, const char *names[DATA_NAMES_MAX]);
/* Reports that there is no such thing, with the nearest name. */
void data_unknown(struct bind *b, const struct node *at, const struct data_kind *k, const char *name);
