/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs come back on the loop's thread, in order, with the disk's word; a syncer that is closed calls nobody any more. */
#include "test.h"

#include "supervisor/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#define JOBS 64
#define BATCH 16

static struct sync_job jobs[JOBS];
static size_t n_done;
static pthread_t loop_thread;

static void on_done(struct sync_job *job) {
        assert_true(pthread_equal(pthread_self(), loop_thread));
        assert_ptr_equal(job, &jobs[n_done]);
        n_done++;
}

static FILE *add_all(struct syncer *s, int bad_at, int bad_fd) {
        FILE *f = tmpfile();

        assert_non_null(f);
        for (int i = 0; i < JOBS; i++) {
                jobs[i] = (struct sync_job){.fd = i == bad_at ? bad_fd : fileno(f), .on_done = on_done, .error = -1};
                syncer_add(s, &jobs[i]);
                if (i % BATCH == BATCH - 1)
                        syncer_begin(s);
        }
        return f;
}

static void on_tick(uv_timer_t *t) {
        (void)t;
}

/* The syncer alone keeps no loop going. */
static void run_loop(uv_loop_t *loop, size_t until_done, int turns) {
        uv_timer_t tick;

        uv_timer_init(loop, &tick);
        uv_timer_start(&tick, on_tick, 10, 10);
        for (int i = 0; i < turns && n_done < until_done; i++)
                uv_run(loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&tick, NULL);
        uv_run(loop, UV_RUN_NOWAIT);
}

static void jobs_come_back_in_order_with_their_error(void **state) {
        struct syncer *s;
        uv_loop_t loop;
        int pair[2];

        n_done = 0;
        loop_thread = pthread_self();
        assert_int_equal(pipe(pair), 0);
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, &s, NULL), 0);
        FILE *f = add_all(s, 7, pair[0]); /* a pipe has no disk behind it */
        run_loop(&loop, JOBS, 2000);
        assert_int_equal(n_done, JOBS);
        for (int i = 0; i < JOBS; i++)
                assert_int_equal(jobs[i].error, i == 7 ? EINVAL : 0);
        syncer_close(s);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
        fclose(f);
        close(pair[0]);
        close(pair[1]);
}

/* The thread has time enough for what it was not given yet. */
static void what_is_added_waits_for_the_beginning(void **state) {
        struct syncer *s;
        uv_loop_t loop;

        n_done = 0;
        loop_thread = pthread_self();
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, &s, NULL), 0);
        FILE *f = tmpfile();
        assert_non_null(f);
        for (int i = 0; i < 2; i++) {
                jobs[i] = (struct sync_job){.fd = fileno(f), .on_done = on_done, .error = -1};
                syncer_add(s, &jobs[i]);
        }
        run_loop(&loop, 1, 5);
        assert_int_equal(n_done, 0);
        assert_int_equal(jobs[0].error, -1);
        syncer_begin(s);
        syncer_begin(s); /* nothing more */
        run_loop(&loop, 2, 2000);
        assert_int_equal(n_done, 2);
        syncer_close(s);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
        fclose(f);
}

static void nobody_is_called_after_close(void **state) {
        struct syncer *s;
        uv_loop_t loop;

        n_done = 0;
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, &s, NULL), 0);
        FILE *f = add_all(s, -1, -1);
        syncer_close(s);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(n_done, 0);
        assert_int_equal(uv_loop_close(&loop), 0);
        fclose(f);
        syncer_close(NULL);
}

/* A signal for the process finds the loop's thread, whatever it blocks. */
static void its_thread_takes_no_signals(void **state) {
        struct syncer *s;
        sigset_t set, pending;
        uv_loop_t loop;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, &s, NULL), 0);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        usleep(20000);
        assert_int_equal(sigpending(&pending), 0);
        assert_true(sigismember(&pending, SIGUSR1));
        int number;
        assert_int_equal(sigwait(&set, &number), 0);
        syncer_close(s);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(jobs_come_back_in_order_with_their_error),
                cmocka_unit_test(what_is_added_waits_for_the_beginning),
                cmocka_unit_test(nobody_is_called_after_close),
                cmocka_unit_test(its_thread_takes_no_signals),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
