/* SPDX-License-Identifier: Apache-2.0 */
/* Start, frames, end: the worker's life on its link.  See runtime.h for the phases. */
#include "worker.h"

#include "client.h"
#include "common/util.h"
#include "execs.h"
#include "inbox.h"
#include "methods.h"
#include "rpc_agent.h"
#include "tasks.h"
#include "tools.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>

#define OBSERVE_WINDOW_MS 10000u
#define OBSERVE_MAX 100u
#define FLUSH_MS 2000u
#define SHUTDOWN_SLACK_MS 250u

/* ---- shared by all ---- */

void worker_quit(struct worker *w, int exit_code) {
        w->exit_code = exit_code;
        w->loop.done = true;
}

uint64_t worker_send(struct worker *w, Crew__Envelope *e) {
        uint64_t seq = uplink_send(&w->up, e);

        if (!seq && !w->loop.done)
                worker_quit(w, WORKER_EXIT_BROKEN);
        return seq;
}

static void send_observed(struct worker *w, const char *what, const char *text) {
        Crew__Observed body = CREW__OBSERVED__INIT;
        char clean[960];

        text_clean(text, strlen(text), clean, sizeof(clean));
        body.what = (char *)what;
        body.detail = clean;
        worker_send(w, &ENVELOPE(OBSERVED, .observed = &body));
}

static void on_observe_window(struct timer *t) {
        struct worker *w = container_of(t, struct worker, observe_window);
        unsigned cut = w->n_observed > OBSERVE_MAX ? w->n_observed - OBSERVE_MAX : 0;
        char text[64];

        w->n_observed = 0;
        snprintf(text, sizeof(text), "%u observations in 10 s were not sent", cut);
        if (cut)
                send_observed(w, "limit-observed", text);
}

void worker_observe(struct worker *w, const char *what, const char *fmt, ...) {
        char text[900];
        va_list ap;

        if (w->n_observed++ == 0)
                timer_start(&w->loop, &w->observe_window, OBSERVE_WINDOW_MS, on_observe_window);
        if (w->n_observed > OBSERVE_MAX)
                return;
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        send_observed(w, what, text);
}

/* ---- frames ---- */

static void on_welcome(struct worker *w, const Crew__Envelope *e) {
        struct crew_err err = CREW_ERR_NULL;

        if (w->phase != WORKER_GREETING) {
                worker_quit(w, WORKER_EXIT_LINK);
                return;
        }
        w->phase = WORKER_RUNNING;
        if (w->agent->driver == PLAN_DRIVER_STDIO_RPC && rpc_agent_start(w, &err) < 0)
                worker_quit(w, WORKER_EXIT_BROKEN);
}

static void on_task_start(struct worker *w, const Crew__Envelope *e) {
        task_start(w, e->task_start);
}

static void on_task_cancel(struct worker *w, const Crew__Envelope *e) {
        task_cancel(w, e->task_cancel);
}

static void on_tool_grant(struct worker *w, const Crew__Envelope *e) {
        tool_grant(w, e->corr, e->tool_grant);
}

static void on_call_result(struct worker *w, const Crew__Envelope *e) {
        method_call_result(w, e->corr, e->call_result);
}

static void on_tool_list(struct worker *w, const Crew__Envelope *e) {
        method_tool_list(w, e->corr, e->tool_list);
}

static void on_exec_start(struct worker *w, const Crew__Envelope *e) {
        exec_start(w, e->seq, e->exec_start);
}

static void on_exec_input(struct worker *w, const Crew__Envelope *e) {
        exec_input(w, e->corr, e->exec_input);
}

static unsigned count_processes(void) {
        DIR *d = opendir("/proc");
        struct dirent *entry;
        unsigned n = 0;

        while (d && (entry = readdir(d)))
                n += isdigit((unsigned char)entry->d_name[0]) != 0;
        if (d)
                closedir(d);
        return n;
}

static void on_ping(struct worker *w, const Crew__Envelope *e) {
        Crew__Pong body = CREW__PONG__INIT;

        if (e->ping->program && w->rpc)
                return rpc_agent_ping(w, e->seq);
        body.processes = count_processes();
        worker_send(w, &ENVELOPE(PONG, .corr = e->seq, .pong = &body));
}

void worker_stop_if_empty(struct worker *w) {
        if (w->phase == WORKER_STOPPING && list_empty(&w->programs) && !w->loop.done)
                worker_quit(w, 0);
}

static void on_grace_over(struct timer *t) {
        worker_quit(container_of(t, struct worker, grace), 0); /* the kernel kills what is left with us */
}

uint64_t worker_stop_left_ms(const struct worker *w) {
        uint64_t now = crew_now_ns();

        return w->stop_by_ns > now ? (w->stop_by_ns - now) / 1000000u : 0;
}

/* crewd kills at the end of the grace; should it not, we do a little later. */
static void on_term(struct timer *t) {
        struct worker *w = container_of(t, struct worker, term);
        uint64_t left_ms = worker_stop_left_ms(w);

        programs_stop_all(w, left_ms ? left_ms + SHUTDOWN_SLACK_MS : 0);
        worker_stop_if_empty(w);
}

/* First the word, for those who listen; SIGTERM when they have had a moment to act on it. */
static void on_shutdown(struct worker *w, const Crew__Envelope *e) {
        uint64_t grace_ms = MIN_OF(e->shutdown->grace_ms, (uint64_t)UINT32_MAX);
        bool told;

        if (w->phase == WORKER_STOPPING)
                return;
        w->phase = WORKER_STOPPING;
        w->stop_by_ns = crew_now_ns() + grace_ms * 1000000u;
        text_clean(e->shutdown->reason, strlen(e->shutdown->reason), w->stop_reason, sizeof(w->stop_reason));
        told = grace_ms > 0 && inbox_tell_stop(w);
        inbox_close(w);
        timer_start(&w->loop, &w->grace, grace_ms + 2 * SHUTDOWN_SLACK_MS, on_grace_over);
        if (told)
                timer_start(&w->loop, &w->term, MIN_OF(TERM_GRACE_MS, grace_ms / 4), on_term);
        else
                on_term(&w->term);
        worker_stop_if_empty(w);
}

/* What was due while the jail stood still is due later by that time. */
static void on_resumed(struct worker *w, const Crew__Envelope *e) {
        loop_postpone(&w->loop, e->resumed->frozen_ms);
}

static const struct frame_row {
        void (*on_frame)(struct worker *w, const Crew__Envelope *e);
        bool while_stopping;
} frames[] = {
        [CREW__ENVELOPE__BODY_WELCOME] = {on_welcome, false},
        [CREW__ENVELOPE__BODY_TASK_START] = {on_task_start, false},
        [CREW__ENVELOPE__BODY_TASK_CANCEL] = {on_task_cancel, true},
        [CREW__ENVELOPE__BODY_TOOL_GRANT] = {on_tool_grant, true},
        [CREW__ENVELOPE__BODY_CALL_RESULT] = {on_call_result, true},
        [CREW__ENVELOPE__BODY_DELIVER] = {inbox_deliver, true},
        [CREW__ENVELOPE__BODY_TOOL_LIST] = {on_tool_list, true},
        [CREW__ENVELOPE__BODY_PING] = {on_ping, true},
        [CREW__ENVELOPE__BODY_EXEC_START] = {on_exec_start, true},
        [CREW__ENVELOPE__BODY_EXEC_INPUT] = {on_exec_input, true},
        [CREW__ENVELOPE__BODY_SHUTDOWN] = {on_shutdown, true},
        [CREW__ENVELOPE__BODY_RESUMED] = {on_resumed, true},
        [CREW__ENVELOPE__BODY_TERMINATION_NOTICE] = {inbox_deliver, true},
};

static void on_link_frame(struct uplink *u, const Crew__Envelope *e) {
        struct worker *w = container_of(u, struct worker, up);
        size_t body = (size_t)e->body_case;
        const struct frame_row *row = body < ELEMENTSOF(frames) ? &frames[body] : NULL;

        if (!row || !row->on_frame || (w->phase == WORKER_GREETING && row->on_frame != on_welcome))
                worker_quit(w, WORKER_EXIT_LINK);
        else if (w->phase != WORKER_STOPPING || row->while_stopping)
                row->on_frame(w, e);
}

static void on_link_room(struct uplink *u) {
        struct worker *w = container_of(u, struct worker, up);

        programs_resume(w);
        clients_resume(w);
}

static void on_link_down(struct uplink *u, const char *why) {
        worker_quit(container_of(u, struct worker, up), why ? WORKER_EXIT_LINK : 0);
}

/* Programs go on; each stands still by itself when it waits for an answer. */
static void on_link_away(struct uplink *u) {
        struct worker *w = container_of(u, struct worker, up);

        if (w->phase == WORKER_STOPPING)
                worker_quit(w, 0);
        else
                loop_stop_time(&w->loop);
}

static void on_link_back(struct uplink *u) {
        loop_time_goes_on(&container_of(u, struct worker, up)->loop);
}

static const struct uplink_callbacks link_callbacks = {.on_frame = on_link_frame,
                                                       .on_room = on_link_room,
                                                       .on_away = on_link_away,
                                                       .on_back = on_link_back,
                                                       .on_down = on_link_down};

static void on_lifeline(struct watch *watch, uint32_t events) {
        struct worker *w = container_of(watch, struct worker, lifeline);
        int fd = w->cfg->take_link(watch->fd);

        (void)events;
        if (fd >= 0 && w->up.keeps)
                uplink_resume(&w->up, fd);
        else if (fd >= 0)
                close(fd);
        else if (fd != -EAGAIN)
                worker_quit(w, 0); /* the spawner is gone */
}

/* ---- life ---- */

static const struct plan_program *find_agent(const struct plan *plan) {
        for (uint32_t i = 0; i < plan->n_programs; i++) {
                const struct plan_program *p = plan_program_at(plan, i);
                if (p->kind == PLAN_PROGRAM_AGENT)
                        return p;
        }
        return NULL;
}

static int worker_init(struct worker *w, const struct worker_config *c, struct crew_err *err) {
        int r;

        *w = (struct worker){.cfg = c,
                             .plan = c->plan,
                             .agent = find_agent(c->plan),
                             .children = WATCH_NULL,
                             .listener = WATCH_NULL,
                             .lifeline = {.fd = -1}};
        tasks_init(w);
        tools_init(w);
        execs_init(w);
        inbox_init(w);
        if (getpid() != 1)
                return crew_fail(err, EINVAL, "not pid 1 of a pid namespace");
        if (!w->agent)
                return crew_fail(err, EINVAL, "the plan has no agent program");
        if ((r = loop_init(&w->loop, err)) < 0 || (r = programs_init(w, err)) < 0 || (r = clients_listen(w, err)) < 0)
                return r;
        if (c->plan->flags & PLAN_HOLD) {
                w->lifeline = (struct watch){.fd = c->lifeline, .on_ready = on_lifeline};
                if ((r = watch_set(&w->loop, &w->lifeline, EPOLLIN)) < 0)
                        return crew_fail(err, -r, "cannot watch the lifeline");
        }
        r = uplink_init(&w->up, &w->loop, c->link_fd, &link_callbacks, err);
        /* From the first word on: crewd may be lost when it has put down that this one is up, and not told it yet. */
        if (r == 0 && w->lifeline.fd >= 0)
                uplink_keep(&w->up, c->plan->incarnation);
        return r;
}

/* Sealed before the first word: there is nothing to wait for between the two. */
static void say_hello(struct worker *w) {
        Crew__Hello hello = CREW__HELLO__INIT;
        Crew__Ready ready = CREW__READY__INIT;

        hello.protocol = LINK_PROTOCOL;
        hello.agent = (char *)w->plan->agent;
        hello.incarnation = w->plan->incarnation;
        worker_send(w, &ENVELOPE(HELLO, .hello = &hello));
        worker_send(w, &ENVELOPE(READY, .ready = &ready));
}

int worker_run(const struct worker_config *c) {
        struct crew_err err = CREW_ERR_NULL;
        struct worker w;

        if (worker_init(&w, c, &err) < 0) {
                dprintf(STDERR_FILENO, "crew-worker: %s\n", err.msg);
                return WORKER_EXIT_BROKEN;
        }
        say_hello(&w);
        loop_run(&w.loop);
        uplink_flush(&w.up, FLUSH_MS);
        return w.exit_code; /* what is allocated goes with the process; its children with the namespace */
}
