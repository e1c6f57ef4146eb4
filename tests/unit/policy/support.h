/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the policy loader share: loading text, scratch directories, and finding a problem in a report. */
#pragma once

#include "supervisor/policy/crew_file.h"
#include "supervisor/policy/policy.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct loaded {
        int r;
        struct policy_image *image;
        struct crew_file *crew;
        struct policy_report report;
        struct crew_err err;
};
void load_text(struct loaded *l, const char *yaml, const char *crew_dir);
void load_file(struct loaded *l, const char *file, const char *agent, const char *crew_dir);
void load_crew(struct loaded *l, const char *file);
void loaded_fini(struct loaded *l);

/* The problem whose text holds `text`; fails the test, listing what there is, when there is none. */
const struct policy_problem *problem_with(const struct loaded *l, const char *text);
/* Loading yaml fails, with a problem at line:column (0: any) whose text and hint hold the given strings. */
void expect_error(const char *yaml, int line, int column, const char *text, const char *hint);
void expect_warning(const char *yaml, int line, int column, const char *text, const char *hint);
void expect_clean(const char *yaml);

/* "agent: x\nsandbox:\n  mode: deny-by-default\n" + body; the body starts on line 4. */
const char *role(const char *body);

struct scratch {
        char dir[PATH_MAX]; /* real path */
};
void scratch_init(struct scratch *s);
void scratch_fini(struct scratch *s);
/* Writes dir/name (parents are made) and returns its path in a static buffer of eight. */
const char *scratch_file(const struct scratch *s, const char *name, const char *text);
const char *scratch_path(const struct scratch *s, const char *name);
void scratch_dir(const struct scratch *s, const char *name);
