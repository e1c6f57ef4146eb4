/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML value as JSON text, for `input:` of a task. */
#pragma once

#include "bind.h"

/* *out in the arena.  0, 1 when a value has no single meaning (reported), -ENOMEM. */
int node_to_json(struct bind *b, const struct node *n, const char **out);
