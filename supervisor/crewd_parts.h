/* SPDX-License-Identifier: Apache-2.0 */
/* Making and closing the parts of a struct crewd, and what they call back. */
#pragma once

#include "crewd.h"

int crewd_parts_open(struct crewd *c, struct crewd_setup *setup, struct crew_err *err);
/* Closes every handle; the loop then ends by itself.  Idempotent. */
void crewd_parts_close(struct crewd *c);
/* After the loop. */
void crewd_parts_free(struct crewd *c);

void crewd_before_sleep(uv_prepare_t *h);
