/* SPDX-License-Identifier: Apache-2.0 */
/* One link on a libuv loop, and its peer: what the tests of links share.  Every wait has a limit, so a hang is a failure.
 */
#pragma once

#include "supervisor/link.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAX_FRAME 100000u
#define LIMIT_MS 60000u

extern uv_loop_t loop;
extern const struct link_callbacks callbacks;
/* What the callbacks saw of the one link of a test. */
extern struct seen {
        struct link *link;
        char path[108];
        unsigned ups, frames, downs, closed;
        pid_t pid;
        uid_t uid;
        size_t bytes, last_n;
        uint8_t last[64];
        bool echo, close_in_frame, close_in_up;
        int why;
} seen;

int link_setup(void **state);
int link_teardown(void **state);
void next_socket_path(char path[108]);
/* Counts in the struct seen that user is. */
void on_closed(void *user);
/* Turns the loop until *counter is at least n. */
void wait_for(const unsigned *counter, unsigned n);
/* Lets nng's threads and the loop do whatever they still want to. */
void settle(unsigned ms);

/* seen.link listens on seen.path; and is closed, with nothing left on the loop. */
void listen_here(void);
void close_here(void);

/* The peer's end of it, with and without the greeting. */
int connect_raw(void);
int connect_and_greet(void);
void write_frame(int fd, const void *bytes, size_t n);
