/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd's side of crew-evidence (common/evidence.h): what the kernel saw becomes audit records, with the deciding rule
 * of the agent's policy and the tripwire that was touched.
 *
 * All functions take NULL: no crew-evidence on this host.
 */
#pragma once

#include "common/err.h"
#include "common/spawn.h"
#include "supervisor/policy/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crewd;
struct evidence;

int evidence_open(struct crewd *c, int fd, struct evidence **out, struct crew_err *err);
void evidence_close(struct evidence *e);
/* HELLO has come in (or never will): agents can be planned. */
bool evidence_settled(const struct evidence *e);
uint64_t evidence_settle_by(const struct evidence *e); /* deadline; UINT64_MAX: settled */
void evidence_expire(struct evidence *e, uint64_t now_ns);

bool evidence_wants_notify(const struct evidence *e);   /* the plan's seccomp listener */
bool evidence_sees_opens(const struct evidence *e);     /* what was opened is told as such, not as an attempt */
bool evidence_wants_landlock(const struct evidence *e); /* the plan's Landlock logging */
/* The policy's allow_degraded as bits of enum plan_feature. */
uint32_t evidence_allowed_features(const struct policy_image *p);
/* The bit of PLAN_FEATURE_EVIDENCE when a source that this mode should have is missing, else 0. */
uint32_t evidence_missing_bit(const struct evidence *e, bool root_mode);
/* -ENOTSUP when a source is missing and the policy does not allow that. */
int evidence_suffices(const struct evidence *e, bool root_mode, const struct policy_image *p, struct crew_err *err);

/* notify_fd stays the caller's. */
/* Negative: it was not told, so this instance is not watched. */
int evidence_watch(struct evidence *e, uint32_t id, const struct spawn_attestation *att, const char *paths,
                   size_t paths_len, int notify_fd);
/* 0: agent->forgetting is cleared once nothing more of it can come. */
int evidence_forget(struct evidence *e, uint32_t id);
