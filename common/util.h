/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things every layer needs: scope cleanup, whole reads and writes,
 * descriptor passing, clocks, and the number formats users write.
 * Nothing here knows an event loop or keeps state.
 */
#pragma once

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

static inline void crew_freep(void *p) {
        free(*(void **)p);
}
static inline void crew_closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}
static inline void crew_fclosep(FILE **f) {
        if (*f)
                fclose(*f);
}
/* For a large local that is not read before it is written: with -ftrivial-auto-var-init it would be written twice. */
#define _not_cleared_ __attribute__((uninitialized))
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(crew_freep)
#define _cleanup_close_ _cleanup_(crew_closep)
#define _cleanup_fclose_ _cleanup_(crew_fclosep)
/* Hands an owned descriptor or pointer over; the local no longer owns it. */
static inline int crew_steal_fd(int *fd) {
        int v = *fd;
        *fd = -1;
        return v;
}
static inline void *crew_steal_ptr_(void *pp) {
        void *v = *(void **)pp;
        *(void **)pp = NULL;
        return v;
}
#define crew_steal_ptr(pp) ((__typeof__(*(pp)))crew_steal_ptr_(pp))
/* Closes *fd if open and sets it to -1. */
void crew_close(int *fd);

/* Whole transfers; retry EINTR and short counts.  0 or -errno (-EPIPE at early end of file for read). */
int crew_read_full(int fd, void *buf, size_t n);
int crew_write_full(int fd, const void *buf, size_t n);
/* Reads a regular file of at most max_bytes into a malloc'd, NUL-terminated buffer.  -EFBIG when larger. */
int crew_read_file(const char *path, size_t max_bytes, char **out, size_t *out_len, struct crew_err *err);
int crew_read_fd(int fd, size_t max_bytes, char **out, size_t *out_len, struct crew_err *err);
/* Writes path through a temporary file and rename(2); mode is the final mode. */
int crew_write_file_atomic(const char *path, const void *buf, size_t n, mode_t mode, struct crew_err *err);
/* mkdir -p; existing directories are left as they are. */
int crew_mkdir_p(const char *path, mode_t mode, struct crew_err *err);
/* Opens path below dirfd with openat2(RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS).  fd or -errno. */
int crew_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* A sealed (write, shrink, grow, seal) memfd holding a copy of buf.  fd or -errno. */
int crew_sealed_memfd(const char *name, const void *buf, size_t n, struct crew_err *err);

#define CREW_FDS_MAX 64
/* One message with up to n_fds (at most CREW_FDS_MAX) descriptors over a unix socket.  Bytes or -errno.
 * On receive *n_fds holds the room on entry and the count on return; MSG_CTRUNC is -EPROTO, all closed. */
ssize_t crew_send_fds(int sock, const void *buf, size_t n, const int *fds, size_t n_fds);
ssize_t crew_recv_fds(int sock, void *buf, size_t n, int *fds, size_t *n_fds, int flags);

uint64_t crew_now_ns(void);      /* CLOCK_MONOTONIC */
uint64_t crew_realtime_ns(void); /* CLOCK_REALTIME, since 1970 */

/* "30s" "5m" "2h" "250ms" -> nanoseconds; "512KiB" "2GiB" "10MB" "4096" -> bytes.  0 or -EINVAL/-ERANGE. */
int crew_parse_duration(const char *s, uint64_t *out_ns);
int crew_parse_size(const char *s, uint64_t *out_bytes);
/* Decimal only, no sign, no leading blanks. */
int crew_parse_u64(const char *s, uint64_t *out);

/* Damerau-Levenshtein; used for "did you mean". */
unsigned crew_edit_distance(const char *a, const char *b);
/* The closest of names[] within distance 2 (or a third of the length), or NULL. */
const char *crew_nearest(const char *word, const char *const *names, size_t n);

/* True for 1-63 characters of [a-z0-9-], first and last alphanumeric: agent, crew, task names; tools may use '_' too. */
bool crew_name_ok(const char *s);
bool crew_agent_name_ok(const char *s); /* the same, or that with #2 to #99: a further instance */
bool crew_tool_name_ok(const char *s);
bool crew_utf8_ok(const char *s, size_t n);

/* Lower-case hex; out needs 2*n+1. */
void crew_hex(const uint8_t *in, size_t n, char *out);
