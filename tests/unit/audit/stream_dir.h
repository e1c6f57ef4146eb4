/* SPDX-License-Identifier: Apache-2.0 */
/* An audit stream in a directory of its own, and what is in its file. */
#pragma once

#include "supervisor/audit/audit.h"

#include "common/record_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

extern char dir[64];      /* of the test that runs */
extern struct record rec; /* too large for a stack */

int make_dir(void **state);
int remove_dir(void **state);
struct audit_stream *opened(void); /* agent writer of crew desk; the caller closes it */
const struct record *denied(const char *path);
const char *log_path(void);
struct record_verify verified(void);
uint64_t counted(const char *kind, uint64_t *lines); /* sum of "count" (1 when absent) over a kind, folded ones included */
uint64_t summed(const char *key);                    /* over all lines that have it */
