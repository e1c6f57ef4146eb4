/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object every fallible function fills.
 *
 * A function that can fail returns int: 0 for success, a negative errno for a
 * fault (forwarded unchanged, err filled), a positive value of its own enum for
 * an outcome.  The object is fixed-size and never allocates, so reporting an
 * error cannot fail.  The first setter records errno, file and line; each layer
 * above may put a noun in front with crew_err_add().
 */
#pragma once

#include <stdarg.h>

#define CREW_ERR_MSG_MAX 768

struct crew_err {
        int code;         /* positive errno of the fault, 0 when unset */
        int line;         /* where it was set */
        const char *file; /* static string */
        char msg[CREW_ERR_MSG_MAX];
};

#define CREW_ERR_NULL ((struct crew_err){0})

/* Fills err (which may be NULL) and returns -code.  code is a positive errno. */
int crew_err_set_at(struct crew_err *err, const char *file, int line, int code, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
int crew_err_vset_at(struct crew_err *err, const char *file, int line, int code, const char *fmt, va_list ap)
        __attribute__((format(printf, 5, 0)));

/* Puts "text: " in front of the message; keeps code and origin. */
void crew_err_add(struct crew_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* crew_fail(err, EINVAL, "port %d is out of range", port) -> -EINVAL */
#define crew_fail(err, code, ...) crew_err_set_at((err), __FILE__, __LINE__, (code), __VA_ARGS__)
/* As crew_fail, with ": " and strerror(errno) after the text; returns -errno. */
#define crew_fail_errno(err, ...) crew_err_set_errno_at((err), __FILE__, __LINE__, __VA_ARGS__)
int crew_err_set_errno_at(struct crew_err *err, const char *file, int line, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

/* For our own bugs only; survives NDEBUG.  Never reachable from a worker's bytes. */
#define crew_assert(cond) ((cond) ? (void)0 : crew_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void crew_assert_failed(const char *cond, const char *file, int line);
