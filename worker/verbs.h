/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of common/verbs.h: read here, sent as typed messages.  Whether this agent may use them (most are the manager's
 * of a hierarchical crew) is crewd's to say; others get a refusal.
 */
#pragma once

#include "client.h"
#include "common/verbs.h"

/* By its method; CREW_VERB_N: none of them. */
enum crew_verb verb_by_method(const char *method);
/* Reads params (an object, or absent) and sends the message; kind is how the answer is rendered. */
void verb_call(struct client *c, struct json_span id, enum crew_verb verb, struct json_span params, enum call_kind kind);
