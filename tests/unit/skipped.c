/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In each unit test, in front of the library's own: cmocka 1.1.5 prints "not ok 5 # SKIP name" for a test that called
 * skip(), and whoever reads TAP counts that as a failure.  What stands behind SKIP in TAP is the reason.
 */
#include "skipped.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *reason = "";

void skip_because(const char *why) {
        reason = why;
        skip();
        abort(); /* skip() does not come back */
}

void print_message(const char *const format, ...) {
        va_list args;

        va_start(args, format);
        if (strcmp(format, "not ok %u # SKIP %s\n") == 0) {
                unsigned number = va_arg(args, unsigned);
                printf("ok %u - %s # SKIP %s\n", number, va_arg(args, const char *), reason);
                reason = "";
        } else {
                vprint_message(format, args);
        }
        va_end(args);
}
