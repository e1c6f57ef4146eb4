/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait for the operator, as crewd tells of them; what approvals, approve and deny share. */
#pragma once

#include "client.h"

#include <jansson.h>
#include <limits.h>

/* A copy: frames are gone with the next one. */
struct approval {
        char id[64], agent[64], host[256], policy_file[PATH_MAX], policy_agent[64];
        uint32_t port, waiting;
};

/* "api.example.com:443", "[2001:db8::1]:443": as a policy lists it. */
#define APPROVAL_PLACE_MAX 288
const char *approval_place(const char *host, uint32_t port, char out[APPROVAL_PLACE_MAX]);
const char *approval_state_name(int state); /* "waiting", "granted", ... */
const char *approval_scope_name(int scope); /* "once", "session", "always", "" */
json_t *approval_json(const Crew__Approval *a);

/* The list as it is now; valid until the next frame is asked for. */
int approvals_get(struct client *c, bool follow, const Crew__ApprovalList **out, uint64_t *corr,
                  struct cli_problem *problem);
/* The one that waits under id: 1; 0: none does; -1 with a problem. */
int approval_find(struct client *c, const char *id, struct approval *out, struct cli_problem *problem);
/* Decides; *out as for approvals_get(). */
int approval_answer(struct client *c, const char *id, Crew__ApprovalVerdict verdict, Crew__ApprovalScope scope,
                    const Crew__Approval **out, struct cli_problem *problem);
