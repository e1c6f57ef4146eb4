/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop.  Timers are a plain list: a worker has a few dozen at most, and a scan of them costs less than keeping
 * them sorted.
 */
#include "loop.h"

#include "common/util.h"

#include <errno.h>
#include <limits.h>

#define LATE_NS 200000000u
#define NEWS_MAX 64 /* events */

int loop_init(struct loop *l, struct crew_err *err) {
        *l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
        list_init(&l->timers);
        return l->epoll_fd < 0 ? crew_fail_errno(err, "epoll_create1") : 0;
}

void loop_fini(struct loop *l) {
        crew_close(&l->epoll_fd);
}

int watch_set(struct loop *l, struct watch *w, uint32_t events) {
        struct epoll_event ev = {.events = events, .data.ptr = w};
        int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

        if (w->fd < 0 || events == w->events)
                return 0;
        w->events = events;
        return epoll_ctl(l->epoll_fd, op, w->fd, &ev) < 0 ? -errno : 0;
}

void watch_close(struct loop *l, struct watch *w) {
        /* Explicitly: between fork and exec a child holds a copy, and epoll would go on reporting it. */
        (void)watch_set(l, w, 0);
        crew_close(&w->fd);
}

void timer_start(struct loop *l, struct timer *t, uint64_t delay_ms, void (*on_timer)(struct timer *t)) {
        uint64_t delay_ns;

        timer_stop(t);
        if (__builtin_mul_overflow(delay_ms, 1000000u, &delay_ns) ||
            __builtin_add_overflow(crew_now_ns(), delay_ns, &t->at_ns))
                t->at_ns = UINT64_MAX;
        t->on_timer = on_timer;
        list_append(&l->timers, &t->link);
}

void timer_stop(struct timer *t) {
        list_remove(&t->link);
}

void loop_postpone(struct loop *l, uint64_t ms) {
        uint64_t ns = MIN_OF(ms, UINT64_MAX / 4000000u) * 1000000u;

        list_for_each(it, &l->timers) {
                struct timer *t = container_of(it, struct timer, link);
                t->at_ns = t->at_ns > UINT64_MAX - ns ? UINT64_MAX : t->at_ns + ns;
        }
}

void loop_stop_time(struct loop *l) {
        if (!l->stopped_ns)
                l->stopped_ns = crew_now_ns();
}

void loop_time_goes_on(struct loop *l) {
        uint64_t since = l->stopped_ns;

        l->stopped_ns = 0;
        if (since)
                loop_postpone(l, (crew_now_ns() - since) / 1000000u);
}

static struct timer *first_timer(const struct loop *l) {
        struct timer *first = NULL;

        if (l->stopped_ns)
                return NULL;
        list_for_each(it, &l->timers) {
                struct timer *t = container_of(it, struct timer, link);
                if (!first || t->at_ns < first->at_ns)
                        first = t;
        }
        return first;
}

static int wait_ms(const struct loop *l) {
        const struct timer *t = first_timer(l);

        if (!t)
                return -1;
        uint64_t now = crew_now_ns();
        if (t->at_ns <= now)
                return 0;
        /* Rounded up: waking early would only wait again. */
        uint64_t ms = (t->at_ns - now + 999999u) / 1000000u;
        return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void run_timers(struct loop *l) {
        uint64_t now;

        if (list_empty(&l->timers))
                return;
        now = crew_now_ns();
        for (struct timer *t; !l->done && (t = first_timer(l)) && t->at_ns <= now;) {
                timer_stop(t);
                t->on_timer(t);
        }
}

static bool one_event(struct loop *l, int ms) {
        struct epoll_event ev;

        if (epoll_wait(l->epoll_fd, &ev, 1, ms) != 1)
                return false;
        struct watch *w = ev.data.ptr;
        w->on_ready(w, ev.events);
        return true;
}

/* Something was due long ago, so we stood still; whoever stopped us may have said so, and that comes first. */
static void hear_the_news(struct loop *l) {
        const struct timer *t = first_timer(l);

        if (!t || crew_now_ns() < t->at_ns || crew_now_ns() - t->at_ns < LATE_NS)
                return;
        for (int i = 0; i < NEWS_MAX && !l->done && one_event(l, 0); i++)
                ;
}

void loop_run(struct loop *l) {
        while (!l->done) {
                one_event(l, wait_ms(l));
                if (!l->done)
                        hear_the_news(l);
                if (!l->done)
                        run_timers(l);
        }
}
