/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for something that was asked to end, and saying how long it may still take. */
#pragma once

#include "client.h"

#define GRACE_DEFAULT_NS 30000000000u

struct grace {
        const char *what; /* "agent writer", "crew demo" */
        uint64_t grace_ms;
        bool quiet; /* nothing is shown */
};
/* As client_call(); on a terminal a live line tells the seconds that have passed of the grace. */
int grace_call(struct client *c, Crew__Envelope *e, const struct grace *g, const Crew__Envelope **answer,
               struct cli_problem *problem);
