/* SPDX-License-Identifier: Apache-2.0 */
#include "hub.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#define BATCH 128
#define TICK_MS 100
#define PIPES_RESERVED 4u

void hub_stop(struct hub *h, const char *why) {
        if (!h->stopped)
                fprintf(stderr, "crew-gateway: ending: %s\n", why);
        h->stopped = true;
        uv_stop(h->loop);
}

void hub_stop_unheard(struct hub *h, int error) {
        if (error == -EPIPE || error == -ECONNRESET || error == -ECONNREFUSED) {
                h->stopped = true;
                uv_stop(h->loop);
        } else {
                hub_stop(h, "crewd does not take its reports any more");
        }
}

static void bury_all(struct hub *h) {
        while (h->graves) {
                struct hub_grave *g = h->graves;
                h->graves = g->next;
                g->bury(g);
        }
}

/* --- work for later --- */

static void on_idle(uv_idle_t *idle) {
        struct hub *h = idle->data;
        struct hub_task *todo = h->first_task;

        /* Those that ask again from here wait for the next round, in which the sockets come first. */
        if (todo) {
                todo->prev = &todo;
                h->first_task = NULL;
                h->last_task = &h->first_task;
        }
        h->dispatching = true;
        while (todo) {
                struct hub_task *t = todo;
                todo = t->next;
                if (todo)
                        todo->prev = &todo;
                t->prev = NULL;
                t->run(t);
        }
        h->dispatching = false;
        bury_all(h);
        if (!h->first_task)
                uv_idle_stop(&h->idle);
}

void hub_later(struct hub *h, struct hub_task *t) {
        if (t->prev)
                return;
        t->next = NULL;
        t->prev = h->last_task;
        *h->last_task = t;
        h->last_task = &t->next;
        uv_idle_start(&h->idle, on_idle);
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
        if (!h->dispatching) /* from a timer or the control socket: the loop comes by */
                uv_idle_start(&h->idle, on_idle);
}

/* --- deadlines --- */

static void on_tick(uv_timer_t *t) {
        struct hub *h = t->data;
        uint64_t now = uv_now(h->loop);
        struct hub_deadline *due = NULL;

        for (struct hub_deadline *d = h->deadlines, *next; d; d = next) {
                next = d->next;
                if (d->at_ms > now)
                        continue;
                hub_deadline_clear(d);
                d->next = due;
                if (due)
                        due->prev = &d->next;
                d->prev = &due;
                due = d;
        }
        h->dispatching = true;
        while (due) {
                struct hub_deadline *d = due;
                hub_deadline_clear(d);
                d->on_deadline(d);
        }
        h->dispatching = false;
        bury_all(h);
        if (!h->deadlines)
                uv_timer_stop(&h->tick);
}

void hub_deadline_set(struct hub *h, struct hub_deadline *d, uint64_t ms) {
        hub_deadline_clear(d);
        d->at_ms = uv_now(h->loop) + ms;
        d->next = h->deadlines;
        d->prev = &h->deadlines;
        if (d->next)
                d->next->prev = &d->next;
        h->deadlines = d;
        if (!uv_is_active((uv_handle_t *)&h->tick))
                uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
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
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};

        return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void on_poll(uv_poll_t *p, int status, int events) {
        struct hub *h = p->data;
        struct epoll_event ready[BATCH];
        int n = epoll_wait(h->epoll_fd, ready, BATCH, 0);

        h->dispatching = true;
        for (int i = 0; i < n; i++) {
                struct hub_source *s = ready[i].data.ptr;
                if (!s->dead)
                        s->on_event(s, ready[i].events);
        }
        h->dispatching = false;
        bury_all(h);
}

/* For when descriptors are short: what moves then moves through these. */
static int reserve_pipes(struct hub *h, struct crew_err *err) {
        for (; h->n_pipes < PIPES_RESERVED; h->n_pipes++) {
                if (pipe2(h->pipes[h->n_pipes], O_CLOEXEC | O_NONBLOCK) < 0)
                        return crew_fail_errno(err, "cannot make a pipe");
        }
        return 0;
}

int hub_open(struct hub *h, uv_loop_t *loop, int control_fd, struct crew_err *err) {
        int r;

        *h = (struct hub){.loop = loop};
        h->last_task = &h->first_task;
        report_init(&h->report, control_fd);
        h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (h->epoll_fd < 0)
                return crew_fail_errno(err, "cannot make an epoll set");
        if ((r = uv_poll_init(loop, &h->poll, h->epoll_fd)) < 0 || (r = uv_idle_init(loop, &h->idle)) < 0 ||
            (r = uv_timer_init(loop, &h->tick)) < 0)
                return crew_fail(err, -r, "cannot start the event loop: %s", uv_strerror(r));
        h->poll.data = h->idle.data = h->tick.data = h;
        if ((r = reserve_pipes(h, err)) < 0)
                return r;
        if ((r = uv_poll_start(&h->poll, UV_READABLE, on_poll)) < 0)
                return crew_fail(err, -r, "cannot start the event loop: %s", uv_strerror(r));
        return 0;
}

void hub_fini(struct hub *h) {
        bury_all(h);
        report_fini(&h->report);
        while (h->n_pipes > 0) {
                h->n_pipes--;
                close(h->pipes[h->n_pipes][0]);
                close(h->pipes[h->n_pipes][1]);
        }
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
