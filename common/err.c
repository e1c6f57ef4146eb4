/* SPDX-License-Identifier: Apache-2.0 */
/* The error object: formatting only, no allocation, no global state. */
#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int crew_err_vset_at(struct crew_err *err, const char *file, int line, int code, const char *fmt, va_list ap) {
        if (code <= 0)
                code = EINVAL;
        if (err) {
                err->code = code;
                err->file = file;
                err->line = line;
                vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        }
        return -code;
}

int crew_err_set_at(struct crew_err *err, const char *file, int line, int code, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        int r = crew_err_vset_at(err, file, line, code, fmt, ap);
        va_end(ap);
        return r;
}

int crew_err_set_errno_at(struct crew_err *err, const char *file, int line, const char *fmt, ...) {
        int saved = errno;
        va_list ap;

        va_start(ap, fmt);
        int r = crew_err_vset_at(err, file, line, saved, fmt, ap);
        va_end(ap);
        if (err) {
                size_t n = strlen(err->msg);
                snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(-r));
        }
        errno = saved;
        return r;
}

void crew_err_add(struct crew_err *err, const char *fmt, ...) {
        char rest[CREW_ERR_MSG_MAX];
        va_list ap;

        if (!err)
                return;
        memcpy(rest, err->msg, sizeof(rest));
        va_start(ap, fmt);
        int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        if (n < 0 || (size_t)n >= sizeof(err->msg))
                return;
        size_t left = sizeof(err->msg) - (size_t)n;
        if (snprintf(err->msg + n, left, ": %s", rest) >= (int)left)
                err->msg[sizeof(err->msg) - 1] = '\0'; /* cut: the nouns in front matter more than the tail */
}

_Noreturn void crew_assert_failed(const char *cond, const char *file, int line) {
        fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
        abort();
}
