/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's event loop: level-triggered epoll, one event at a time, and timers.
 *
 * One event per wait means that a handler may free anything, its own watch included: no event of the same batch can
 * point at freed memory, because there is no batch.
 */
#pragma once

#include "common/err.h"
#include "list.h"

#include <stdint.h>
#include <sys/epoll.h>

struct loop {
        int epoll_fd;
        struct list timers;
        uint64_t stopped_ns; /* since then no timer runs; 0: they do */
        bool done;
};
int loop_init(struct loop *l, struct crew_err *err);
void loop_fini(struct loop *l);
/* Until loop->done. */
void loop_run(struct loop *l);

/* A descriptor that is watched; owns it.  WATCH_NULL: none. */
struct watch {
        int fd;
        uint32_t events;
        void (*on_ready)(struct watch *w, uint32_t events);
};
#define WATCH_NULL ((struct watch){.fd = -1})
/* Waits for EPOLLIN and EPOLLOUT as given from now on; 0 forgets the descriptor until the next call, so that a
 * hang-up on a paused one does not spin.  0 or -errno. */
int watch_set(struct loop *l, struct watch *w, uint32_t events);
/* Forgets and closes.  Idempotent. */
void watch_close(struct loop *l, struct watch *w);

struct timer {
        struct list link;
        uint64_t at_ns;
        void (*on_timer)(struct timer *t);
};
/* (Re)arms for delay_ms from now. */
void timer_start(struct loop *l, struct timer *t, uint64_t delay_ms, void (*on_timer)(struct timer *t));
void timer_stop(struct timer *t);
/* Until loop_time_goes_on() no timer runs, and what was due is due later by as long as that was. */
void loop_stop_time(struct loop *l);
void loop_time_goes_on(struct loop *l);
/* All timers are due that much later. */
void loop_postpone(struct loop *l, uint64_t ms);
