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
                jobs[i] = (struct sync_job){.fd = i == bad_at ? bad_fd : fileno(f), .error = -1};
                syncer_add(s, &jobs[i]);
        }
        return f;
}

static void on_tick(uv_timer_t *t) {
        (void)t;
}

static void jobs_come_back_in_order_with_their_error(void **state) {
        struct syncer *s;
        uv_loop_t loop;
        uv_timer_t tick;
        int pair[2];

        n_done = 0;
        loop_thread = pthread_self();
        assert_int_equal(pipe(pair), 0);
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, on_done, &s, NULL), 0);
        FILE *f = add_all(s, 7, pair[0]); /* a pipe has no disk behind it */
        uv_timer_init(&loop, &tick);      /* the syncer alone keeps no loop going */
        uv_timer_start(&tick, on_tick, 10, 10);
        for (int i = 0; i < 2000 && n_done < JOBS; i++)
                uv_run(&loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&tick, NULL);
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

static void nobody_is_called_after_close(void **state) {
        struct syncer *s;
        uv_loop_t loop;

        n_done = 0;
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(syncer_open(&loop, on_done, &s, NULL), 0);
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
        assert_int_equal(syncer_open(&loop, on_done, &s, NULL), 0);
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
                cmocka_unit_test(nobody_is_called_after_close),
                cmocka_unit_test(its_thread_takes_no_signals),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
