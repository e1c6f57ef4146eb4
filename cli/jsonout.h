/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON for machines: what --json prints.  Times are integers with their unit in the name; unknown is absent, not null.
 */
#pragma once

#include "ipc-schema/ipc.h"

#include <jansson.h>
#include <stdint.h>

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *jsonout_text(const char *s);
/* A JSON text from a frame as a value; as a string if it does not parse. */
json_t *jsonout_value(const char *text);

json_t *jsonout_agent(const Crew__AgentStatus *a);
json_t *jsonout_task(const Crew__TaskStatus *t);
json_t *jsonout_terminated(const Crew__AgentTerminated *t);
json_t *jsonout_status(const Crew__Status *s);

/* Prints and releases v; indented, then a newline. */
void jsonout_print(json_t *v);
/* The same on one line, flushed: for streams. */
void jsonout_line(json_t *v);
