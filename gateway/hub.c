/* SPDX-License-Identifier: Apache-2.0 */
#include "hub.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#define BATCH 128 /* events in a turn */
#define TICK_MS 100
#define PIPES_RESERVED 4u

void hub_stop(struct hub *h, const char *why) {
        if (!h->stopped && why)
                fprintf(stderr, "crew-gateway: ending: %s\n", why);
        h->stopped = true;
}

void hub_stop_unheard(struct hub *h, int error) {
        const bool gone = error == -EPIPE || error == -ECONNRESET || error == -ECONNREFUSED;

        hub_stop(h, gone ? NULL : "crewd does not take its reports any more");
}

static void bury_all(struct hub *h) {
        while (h->graves) {
                struct hub_grave *g = h->graves;
                h->graves = g->next;
                g->bury(g);
        }
}

/* --- work for later --- */

/* Those that ask again from here wait for the next turn, in which the sockets come first. */
static void run_tasks(struct hub *h) {
        struct hub_task *todo = h->first_task;

        if (!todo)
                return;
        todo->prev = &todo;
        h->first_task = NULL;
        h->last_task = &h->first_task;
        while (todo) {
                struct hub_task *t = todo;
                todo = t->next;
                if (todo)
                        todo->prev = &todo;
                t->prev = NULL;
                t->run(t);
        }
}

void hub_later(struct hub *h, struct hub_task *t) {
        if (t->prev)
                return;
        t->next = NULL;
        t->prev = h->last_task;
        *h->last_task = t;
        h->last_task = &t->next;
}

void hub_not_later(struct hub *h, struct hub_task *t) {
        if (!t->prev)
                return;
        *t->prev = t->next;
        if (t->next)
                t->next->prev = t->prev;
        else if (h->last_task == &t->next)
                h->last_task = t->prev;
        t->prev = NULL;
}

void hub_retire(struct hub *h, struct hub_grave *g, void (*bury)(struct hub_grave *g)) {
        g->bury = bury;
        g->next = h->graves;
        h->graves = g;
}

/* --- deadlines --- */

static void run_deadlines(struct hub *h) {
        struct hub_deadline *due = NULL;

        if (!h->deadlines || h->now_ms < h->tick_ms)
                return;
        for (struct hub_deadline *d = h->deadlines, *next; d; d = next) {
                next = d->next;
                if (d->at_ms > h->now_ms)
                        continue;
                hub_deadline_clear(d);
                d->next = due;
                if (due)
                        due->prev = &d->next;
                d->prev = &due;
                due = d;
        }
        h->tick_ms = h->now_ms + TICK_MS;
        while (due) {
                struct hub_deadline *d = due;
                hub_deadline_clear(d);
                d->on_deadline(d);
        }
}

void hub_deadline_set(struct hub *h, struct hub_deadline *d, uint64_t ms) {
        hub_deadline_clear(d);
        d->at_ms = h->now_ms + ms;
        if (!h->deadlines)
                h->tick_ms = h->now_ms + TICK_MS;
        d->next = h->deadlines;
        d->prev = &h->deadlines;
        if (d->next)
                d->next->prev = &d->next;
        h->deadlines = d;
}

void hub_deadline_clear(struct hub_deadline *d) {
        if (!d->prev)
                return;
        *d->prev = d->next;
        if (d->next)
                d->next->prev = d->prev;
        d->prev = NULL;
}

/* --- sockets --- */

int hub_watch(struct hub *h, int fd, struct hub_source *s) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};

        return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

int hub_watch_level(struct hub *h, int fd, struct hub_source *s, uint32_t events) {
        struct epoll_event e = {.events = events, .data.ptr = s};

        return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

int hub_rewatch_level(struct hub *h, int fd, struct hub_source *s, uint32_t events) {
        struct epoll_event e = {.events = events, .data.ptr = s};

        return epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, fd, &e) < 0 ? -errno : 0;
}

/* --- the loop --- */

static void look_at_clock(struct hub *h) {
        h->now_ms = crew_now_ns() / 1000000;
}

static int patience(const struct hub *h) {
        if (h->first_task)
                return 0;
        if (!h->deadlines)
                return -1;
        return h->tick_ms > h->now_ms ? (int)(h->tick_ms - h->now_ms) : 0;
}

static void turn(struct hub *h) {
        static struct epoll_event ready[BATCH];
        int n = epoll_wait(h->epoll_fd, ready, BATCH, patience(h));

        look_at_clock(h);
        if (n < 0 && errno != EINTR)
                hub_stop(h, strerror(errno));
        for (int i = 0; i < n; i++) {
                struct hub_source *s = ready[i].data.ptr;
                if (!s->dead)
                        s->on_event(s, ready[i].events);
        }
        run_tasks(h);
        run_deadlines(h);
        bury_all(h);
}

void hub_run(struct hub *h, void (*before_sleep)(void *user), void *user) {
        while (!h->stopped) {
                before_sleep(user);
                if (!h->stopped)
                        turn(h);
        }
}

/* For when descriptors are short: what moves then moves through these. */
static int reserve_pipes(struct hub *h, struct crew_err *err) {
        for (; h->n_pipes < PIPES_RESERVED; h->n_pipes++) {
                if (pipe2(h->pipes[h->n_pipes], O_CLOEXEC | O_NONBLOCK) < 0)
                        return crew_fail_errno(err, "cannot make a pipe");
        }
        return 0;
}

int hub_open(struct hub *h, int control_fd, struct crew_err *err) {
        *h = (struct hub){.last_task = &h->first_task, .spare = -1};
        look_at_clock(h);
        report_init(&h->report, control_fd);
        h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (h->epoll_fd < 0)
                return crew_fail_errno(err, "cannot make an epoll set");
        return reserve_pipes(h, err);
}

void hub_fini(struct hub *h) {
        bury_all(h);
        report_fini(&h->report);
        while (h->n_pipes > 0) {
                h->n_pipes--;
                close(h->pipes[h->n_pipes][0]);
                close(h->pipes[h->n_pipes][1]);
        }
        crew_close(&h->spare);
        crew_close(&h->epoll_fd);
}

/* --- pipes --- */

int hub_pipe_get(struct hub *h, int pipe[2]) {
        if (h->n_pipes > 0) {
                h->n_pipes--;
                pipe[0] = h->pipes[h->n_pipes][0];
                pipe[1] = h->pipes[h->n_pipes][1];
                return 0;
        }
        return pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

void hub_pipe_put(struct hub *h, int pipe[2], bool empty) {
        if (pipe[0] < 0)
                return;
        if (empty && h->n_pipes < HUB_PIPES_KEPT) {
                h->pipes[h->n_pipes][0] = pipe[0];
                h->pipes[h->n_pipes][1] = pipe[1];
                h->n_pipes++;
                pipe[0] = pipe[1] = -1;
                return;
        }
        crew_close(&pipe[0]);
        crew_close(&pipe[1]);
}
