/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frozen image: one flat, position-independent block in a sealed memfd, mapped read-only.
 * The same policy gives the same bytes, hence the same SHA-256.  Private to one build of crewd.
 */
#pragma once

#include "policy.h"

/* The parts of a policy that a verdict can point to. */
enum image_section {
        IMAGE_READ,
        IMAGE_WRITE,
        IMAGE_EXEC,
        IMAGE_DENY,
        IMAGE_READ_ONLY,
        IMAGE_RUNTIME,
        IMAGE_ENDPOINTS,
        IMAGE_DENY_ALL,
        IMAGE_PRESETS,
        IMAGE_ON_UNLISTED,
        IMAGE_ENFORCEMENT,
        IMAGE_NETWORK,
        IMAGE_TOOLS_ALLOWED,
        IMAGE_TOOLS_DENIED,
        IMAGE_TARGETS,
        IMAGE_SECTION_N,
};
extern const char *const image_section_names[IMAGE_SECTION_N]; /* "filesystem.read", ... */

struct draft;
/* Compiles and seals.  crew_dir may be NULL. */
int image_make(const struct draft *d, const char *file, const char *crew_dir, struct policy_image **out,
               struct crew_err *err);
struct policy_mark image_section_at(const struct policy_image *p, enum image_section s);
bool image_deny_all(const struct policy_image *p);
const char *image_crew_dir(const struct policy_image *p); /* "" when there was none */
/* The section a path of this kind was written in. */
enum image_section image_section_of_path(enum policy_path_kind kind);
