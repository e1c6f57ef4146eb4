/* SPDX-License-Identifier: Apache-2.0 */
/* The loader as crew_load() uses it: missing paths are left to the caller, who knows the whole crew. */
#pragma once

#include "policy.h"

struct load_request {
        const char *file; /* as messages and rules show it */
        const char *bytes;
        size_t n;
        const char *agent_name; /* NULL: the only document */
        const char *crew_dir;
        bool missing_is_callers;
        struct lock_list *used; /* where the files it reads are noted, or NULL */
};
int policy_load_request(const struct load_request *q, struct policy_image **out, struct policy_report *report,
                        struct crew_err *err);
/* In a crew's dir, without symbolic links; NULL dir stays "". */
int crew_dir_real(const char *dir, char *out, struct crew_err *err);
/* -EINVAL with the first error of report from item `from` on as text, for callers that print nothing else. */
int report_refuse(const struct policy_report *report, size_t from, const char *file, struct crew_err *err);
