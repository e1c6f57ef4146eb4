/* SPDX-License-Identifier: Apache-2.0 */
/* What one crewd writes down for the next: it comes back as it was, and bytes that are cut off are refused. */
#include "supervisor/bytes.h"
#include "supervisor/inflight.h"
#include "supervisor/keyed.h"
#include "supervisor/memory.h"
#include "supervisor/outbox.h"
#include "supervisor/scheduler.h"

#include "common/util.h"
#include "supervisor/link.h"

#include "test.h"

#include <errno.h>

/* --- a link that takes so many frames --- */

static unsigned room;
static uint8_t taken[16];
static size_t n_taken;

int link_send(struct link *l, const uint8_t *bytes, size_t n) {
        (void)l;
        (void)n;
        if (room == 0)
                return -EAGAIN;
        room--;
        taken[n_taken++] = bytes[0];
        return 0;
}

static void fill(struct outbox *o, unsigned n) {
        for (uint8_t i = 1; i <= n; i++)
                assert_int_equal(outbox_add(o, i, &i, 1), 0);
}

static void frames_go_out_once_and_stay_until_they_are_acknowledged(void **state) {
        struct outbox o = {0};

        (void)state;
        fill(&o, 5);
        n_taken = 0, room = 3;
        outbox_flush(&o, NULL);
        assert_int_equal(o.n_unsent, 2);
        outbox_acknowledged(&o, 2);
        assert_int_equal(outbox_first(&o), 3);
        room = 9;
        outbox_flush(&o, NULL);
        outbox_flush(&o, NULL);
        assert_memory_equal(taken, "\1\2\3\4\5", 5);
        assert_int_equal(n_taken, 5);
        assert_int_equal(o.unsent_bytes, 0);
        assert_int_equal(o.bytes, 3 * (sizeof(struct outbox_frame) + 1));
        outbox_clear(&o);
        assert_int_equal(outbox_first(&o), 0);
        assert_int_equal(o.bytes, 0);
}

static void what_was_not_acknowledged_goes_out_again_after_a_loss(void **state) {
        struct outbox o = {0}, next = {0};
        struct bytes_out b = {0};

        (void)state;
        fill(&o, 4);
        n_taken = 0, room = 4;
        outbox_flush(&o, NULL);
        outbox_acknowledged(&o, 1);
        outbox_save(&o, &b);
        struct bytes_in in = {.p = b.p, .end = b.p + b.n};
        assert_int_equal(outbox_load(&next, &in), 0);
        assert_ptr_equal(in.p, in.end);
        outbox_acknowledged(&next, 2); /* the worker says so when it comes back */
        outbox_rewind(&next);
        assert_int_equal(next.n_unsent, 2);
        n_taken = 0, room = 9;
        outbox_flush(&next, NULL);
        assert_memory_equal(taken, "\3\4", 2);
        outbox_clear(&o);
        outbox_clear(&next);
        free(b.p);
}

/* --- tables --- */

static const struct inflight_limits limits = {.per_caller = 1, .per_callee = 1, .callee_bytes = 10};

static void copy_call(const struct inflight_call *c, void *user) {
        struct inflight_call *copy;
        assert_int_equal(inflight_restore(user, c, &copy), 0);
}

static void calls_in_flight_come_back_settled_or_not(void **state) {
        struct inflight *f = inflight_new(2, &limits), *g = inflight_new(2, &limits);
        struct inflight_call want = {.caller = {0, 1, 7}, .callee = {1, 1, 9}, .deadline_ns = 50, .bytes = 10}, *c;

        (void)state;
        assert_int_equal(inflight_add(f, &want, &c), INFLIGHT_ADDED);
        inflight_settle(f, c);
        want.caller.seq = 8, want.callee.agent = 0, want.callee.seq = 10;
        assert_int_equal(inflight_add(f, &want, &c), INFLIGHT_ADDED);
        inflight_all(f, copy_call, g);
        assert_true(inflight_owed(g, 1, 9)->settled);
        assert_false(inflight_owed(g, 0, 10)->settled);
        assert_int_equal(inflight_open(g, 0), 1);
        assert_int_equal(inflight_owed_bytes(g, 1), 10);
        assert_int_equal(inflight_next_deadline(g), 50);
        want.callee.agent = 2;
        assert_int_equal(inflight_restore(g, &want, &c), -EINVAL);
        inflight_free(f);
        inflight_free(g);
}

static uint8_t rights[] = {CREW_MEMORY_READ | CREW_MEMORY_WRITE};
static struct crew_memory board = {.name = "board", .max_bytes = 100, .agent_bytes = 100, .max_keys = 4, .rights = rights};
static struct crew_agent agents[] = {{.name = "a"}};
static struct crew_file crew = {.memory = &board, .n_memory = 1, .agents = agents, .n_agents = 1};

static void shared_values_come_back_with_their_charges(void **state) {
        struct memory *m = memory_new(&crew, 1), *next = memory_new(&crew, 1), *cut = memory_new(&crew, 1);
        struct bytes_out b = {0};
        struct memory_value v;

        (void)state;
        assert_int_equal(memory_put(m, 0, "board", "k", "[1,2]", 5), MEMORY_OK);
        memory_save(m, &b);
        struct bytes_in in = {.p = b.p, .end = b.p + b.n}, less = {.p = b.p, .end = b.p + b.n - 1};
        assert_int_equal(memory_load(next, &in), 0);
        assert_int_equal(memory_get(next, 0, "board", "k", &v), MEMORY_OK);
        assert_string_equal(v.json, "[1,2]");
        assert_int_equal(memory_bytes(next, "board"), memory_bytes(m, "board"));
        assert_int_equal(memory_load(cut, &less), -EBADMSG);
        memory_free(m);
        memory_free(next);
        memory_free(cut);
        free(b.p);
}

/* --- jobs --- */

static enum sched_slot slot(uint32_t agent, char *why, void *user) {
        (void)agent, (void)why, (void)user;
        return SCHED_FREE;
}
static int start(struct job *j, struct crew_err *err, void *user) {
        (void)j, (void)err, (void)user;
        return 0;
}
static int finished;
static void changed(struct job *j, void *user) {
        (void)user;
        finished += j->state == JOB_DONE;
}
static void done(struct job *j, void *user) {
        (void)j, (void)user;
}
static const struct sched_callbacks callbacks = {.slot = slot, .start = start, .changed = changed, .finished = done};

static void a_job_that_runs_ends_under_the_next_scheduler(void **state) {
        struct scheduler *s = scheduler_new(&crew, 1, &callbacks, NULL), *next = scheduler_new(&crew, 1, &callbacks, NULL),
                         *cut = scheduler_new(&crew, 1, &callbacks, NULL);
        struct sched_submit what = {.agent = "a", .description = "x", .client = 5, .corr = 6};
        struct crew_err err = CREW_ERR_NULL;
        struct bytes_out b = {0};
        struct job *j;

        (void)state;
        assert_int_equal(scheduler_submit(s, &what, &j, &err), 0);
        assert_int_equal(scheduler_submit(s, &what, &j, &err), 0);
        scheduler_poke(s, 1);
        scheduler_save(s, &b);
        struct bytes_in in = {.p = b.p, .end = b.p + b.n}, less = {.p = b.p, .end = b.p + b.n / 2};
        assert_int_equal(scheduler_load(next, &in), 0);
        assert_string_equal(scheduler_job_of(next, 0)->id, "t-1");
        assert_int_equal(scheduler_find(next, "t-2")->state, JOB_WAITING);
        assert_int_equal(scheduler_find(next, "t-2")->client, 0);
        struct sched_result r = {
                .agent = 0, .task_id = "t-1", .outcome = CREW__OUTCOME__OUTCOME_OK, .result = "1", .result_len = 1};
        finished = 0;
        assert_int_equal(scheduler_result(next, &r, 2), 0);
        assert_int_equal(finished, 1);
        scheduler_poke(next, 3);
        assert_string_equal(scheduler_job_of(next, 0)->id, "t-2");
        assert_int_equal(scheduler_submit(next, &what, &j, &err), 0);
        assert_string_equal(j->id, "t-3");
        assert_int_equal(scheduler_load(cut, &less), -EBADMSG);
        scheduler_free(s);
        scheduler_free(next);
        scheduler_free(cut);
        free(b.p);
}

/* --- keys --- */

static void a_key_stands_for_the_same_task_under_the_next_crewd(void **state) {
        struct keyed *k = keyed_new(), *next = keyed_new(), *cut = keyed_new();
        uint8_t request[CREW_SHA256_BYTES] = {7};
        struct bytes_out b = {0};

        (void)state;
        struct keyed_task *t = keyed_add(k, "once", request), *u = keyed_add(k, "later", request);
        snprintf(t->id, sizeof(t->id), "t-1");
        keyed_finish(k, t, (const uint8_t *)"ok", 2);
        assert_true(keyed_wait(u, 3, 4));
        keyed_save(k, &b);
        struct bytes_in in = {.p = b.p, .end = b.p + b.n}, less = {.p = b.p, .end = b.p + b.n - 1};
        assert_int_equal(keyed_load(next, &in), 0);
        assert_ptr_equal(in.p, in.end);
        t = keyed_find(next, "once");
        assert_string_equal(t->id, "t-1");
        assert_true(t->done);
        assert_memory_equal(t->outcome, "ok", 2);
        assert_memory_equal(t->request, request, sizeof(request));
        u = keyed_find(next, "later");
        assert_false(u->done);
        assert_int_equal(u->n_waiters, 0);
        assert_int_equal(keyed_load(cut, &less), -EBADMSG);
        keyed_free(k);
        keyed_free(next);
        keyed_free(cut);
        free(b.p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(frames_go_out_once_and_stay_until_they_are_acknowledged),
                cmocka_unit_test(what_was_not_acknowledged_goes_out_again_after_a_loss),
                cmocka_unit_test(calls_in_flight_come_back_settled_or_not),
                cmocka_unit_test(shared_values_come_back_with_their_charges),
                cmocka_unit_test(a_job_that_runs_ends_under_the_next_scheduler),
                cmocka_unit_test(a_key_stands_for_the_same_task_under_the_next_crewd),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
