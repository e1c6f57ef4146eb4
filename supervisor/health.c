/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One check at a time.  A command that does not end in time is killed and has failed; until the worker says that it is gone
 * no other is started, and each that would have been is a failure, too.
 */
#include "health.h"

#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "journal.h"
#include "starters.h"
#include "status.h"
#include "text.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define START_MIN_MS UINT64_C(20000)
#define START_EVERY_MS UINT64_C(1000)

static const struct crew_health *declared(const struct agent *a) {
        return &a->decl->health;
}

static uint64_t start_ms(const struct crew_health *d) {
        return MAX_OF(START_MIN_MS, d->every_ms * d->failures);
}

bool health_starting(const struct agent *a) {
        return declared(a)->kind != CREW_HEALTH_NONE && !a->in.health.passed;
}

void health_begin(struct agent *a) {
        const struct crew_health *d = declared(a);
        uint64_t now = crew_now_ns();

        if (d->kind == CREW_HEALTH_NONE)
                return;
        a->in.health.due_ns = now;
        a->in.health.start_by_ns = now + start_ms(d) * MS;
}

void health_text(const struct agent *a, char out[HEALTH_TEXT_MAX]) {
        const struct health *h = &a->in.health;

        out[0] = '\0';
        if (declared(a)->kind == CREW_HEALTH_NONE || !agent_state_live(a->state))
                return;
        if (!h->passed)
                snprintf(out, HEALTH_TEXT_MAX, "starting%s%s", h->failures ? ": " : "", h->failures ? h->why : "");
        else if (h->failures)
                snprintf(out, HEALTH_TEXT_MAX, "failing %u of %u: %s", h->failures, declared(a)->failures, h->why);
        else
                snprintf(out, HEALTH_TEXT_MAX, "passing");
}

/* --- verdicts --- */

static void next_check(struct agent *a) {
        const struct crew_health *d = declared(a);
        uint64_t every_ms = a->in.health.passed ? d->every_ms : MIN_OF(d->every_ms, START_EVERY_MS);

        a->in.health.due_ns = crew_now_ns() + every_ms * MS;
        a->in.health.late_ns = 0;
}

static void pass(struct agent *a) {
        struct health *h = &a->in.health;
        bool news = !h->passed || h->failures > 0, first = !h->passed;

        h->passed = true;
        h->failures = 0;
        h->why[0] = '\0';
        next_check(a);
        if (!news)
                return;
        journal_health(a, NULL, 0);
        status_announce_agent(a);
        if (!first)
                return;
        starters_look(a);
        crewd_progress(a->crewd); /* it takes work from now on */
}

static void not_started(struct agent *a) {
        snprintf(a->start_error, sizeof(a->start_error), "not healthy within %" PRIu64 " s: %s",
                 start_ms(declared(a)) / 1000u, a->in.health.why);
        death_kill(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", a->start_error);
}

static void fail(struct agent *a, const char *why) {
        struct health *h = &a->in.health;
        char text[sizeof(h->why) + 64];
        bool news = h->passed || h->failures == 0; /* a start is tried often; that it goes on failing is no news */

        h->failures++;
        snprintf(h->why, sizeof(h->why), "%s", why);
        next_check(a);
        if (news) {
                journal_health(a, h->why, h->failures);
                status_announce_agent(a);
        }
        if (!h->passed) {
                if (crew_now_ns() >= h->start_by_ns)
                        not_started(a);
                return;
        }
        if (h->failures < declared(a)->failures)
                return;
        snprintf(text, sizeof(text), "failed its health check %u times in a row: %s", h->failures, h->why);
        death_kill(a, CREW__CAUSE__CAUSE_HEALTH, "crewd", text);
}

/* --- asking --- */

static int send_command(struct agent *a) {
        const struct crew_health *d = declared(a);
        Crew__ExecStart body = CREW__EXEC_START__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.n_argv = d->n_command;
        body.argv = (char **)d->command;
        body.health = true;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_START;
        e.exec_start = &body;
        return agent_send(a, &e, &a->in.health.seq);
}

static int send_ping(struct agent *a) {
        Crew__Ping body = CREW__PING__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.program = true;
        e.body_case = CREW__ENVELOPE__BODY_PING;
        e.ping = &body;
        return agent_send(a, &e, &a->in.health.seq);
}

static void end_input(struct agent *a, int signal_number) {
        Crew__ExecInput body = CREW__EXEC_INPUT__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.eof = true;
        body.send_signal = signal_number;
        e.corr = a->in.health.seq;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_INPUT;
        e.exec_input = &body;
        agent_send(a, &e, NULL);
}

static void check(struct agent *a, uint64_t now) {
        const struct crew_health *d = declared(a);
        struct health *h = &a->in.health;

        if (h->overdue)
                return fail(a, "the check before has not ended");
        h->tail_n = 0;
        h->complained = false;
        h->seq = 0;
        int r = d->kind == CREW_HEALTH_COMMAND ? send_command(a) : send_ping(a);
        if (r < 0)
                return fail(a, "it does not read its link");
        if (d->kind == CREW_HEALTH_COMMAND)
                end_input(a, 0);
        h->due_ns = 0;
        h->late_ns = now + d->timeout_ms * MS;
}

static void too_late(struct agent *a) {
        const struct crew_health *d = declared(a);
        char why[96];

        a->in.health.late_ns = 0;
        if (d->kind == CREW_HEALTH_COMMAND) {
                a->in.health.overdue = true;
                end_input(a, SIGKILL);
        } else {
                a->in.health.seq = 0; /* an answer that comes later is to nothing */
        }
        snprintf(why, sizeof(why), "no answer within %" PRIu64 " ms", d->timeout_ms);
        fail(a, why);
}

void health_put_off(struct agent *a, uint64_t ns) {
        uint64_t *const times[] = {&a->in.health.due_ns, &a->in.health.late_ns, &a->in.health.start_by_ns};

        for (size_t i = 0; i < ELEMENTSOF(times); i++)
                *times[i] += *times[i] ? ns : 0;
}

void health_expire(struct agent *a, uint64_t now_ns) {
        struct health *h = &a->in.health;

        if (!agent_usable(a) || a->in.resuming) {
                /* Frozen, or ending, or not back yet: what does not run is not asked. */
                if (h->late_ns && now_ns >= h->late_ns)
                        h->late_ns = now_ns + declared(a)->timeout_ms * MS;
                if (h->due_ns && now_ns >= h->due_ns)
                        next_check(a);
                return;
        }
        if (h->late_ns && now_ns >= h->late_ns)
                too_late(a);
        else if (h->due_ns && now_ns >= h->due_ns)
                check(a, now_ns);
}

uint64_t health_next_deadline(const struct agent *a) {
        const struct health *h = &a->in.health;
        uint64_t due = h->due_ns ? h->due_ns : UINT64_MAX, late = h->late_ns ? h->late_ns : UINT64_MAX;

        return agent_state_live(a->state) ? MIN_OF(due, late) : UINT64_MAX;
}

/* --- answers --- */

/* The last of what it said, which is where commands say what is wrong; of standard error, if there is any. */
bool health_output(struct agent *a, const Crew__Envelope *e) {
        struct health *h = &a->in.health;
        const ProtobufCBinaryData *d = &e->exec_output->data;

        if (declared(a)->kind != CREW_HEALTH_COMMAND || h->seq == 0 || e->corr != h->seq)
                return false;
        bool complaint = e->exec_output->stream == 2;
        if (complaint && !h->complained)
                h->tail_n = 0;
        h->complained |= complaint;
        if (h->complained != complaint)
                return true;
        size_t n = MIN_OF(d->len, sizeof(h->tail)), keep = MIN_OF(h->tail_n, sizeof(h->tail) - n);
        memmove(h->tail, h->tail + h->tail_n - keep, keep);
        if (n > 0)
                memcpy(h->tail + keep, d->data + d->len - n, n);
        h->tail_n = keep + n;
        return true;
}

static void last_line(const struct health *h, char *out, size_t size) {
        size_t end = h->tail_n, from;

        while (end > 0 && (h->tail[end - 1] == '\n' || h->tail[end - 1] == ' '))
                end--;
        for (from = end; from > 0 && h->tail[from - 1] != '\n';)
                from--;
        text_copy(out, size, h->tail + from, end - from);
}

bool health_exit(struct agent *a, const Crew__Envelope *e) {
        const Crew__ExecExit *x = e->exec_exit;
        struct health *h = &a->in.health;
        char why[sizeof(h->why)], line[sizeof(h->tail) + 1];

        if (declared(a)->kind != CREW_HEALTH_COMMAND || h->seq == 0 || e->corr != h->seq)
                return false;
        bool told = h->overdue;
        h->seq = 0;
        h->overdue = false;
        if (told)
                return true;
        if (!agent_usable(a)) {
                next_check(a);
                return true;
        }
        if (x->exit_code == 0 && x->term_signal == 0 && !*x->error) {
                pass(a);
                return true;
        }
        last_line(h, line, sizeof(line));
        const char *more = *x->error ? x->error : line;
        if (x->term_signal)
                snprintf(why, sizeof(why), "signal %d%s%.160s", x->term_signal, *more ? ": " : "", more);
        else
                snprintf(why, sizeof(why), "exit status %d%s%.160s", x->exit_code, *more ? ": " : "", more);
        fail(a, why);
        return true;
}

void health_pong(struct agent *a, const Crew__Envelope *e) {
        struct health *h = &a->in.health;

        if (declared(a)->kind != CREW_HEALTH_HEARTBEAT || !e->pong->program || h->seq == 0 || e->corr != h->seq)
                return;
        h->seq = 0;
        if (agent_usable(a))
                pass(a);
        else
                next_check(a);
}
