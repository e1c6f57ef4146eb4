/* SPDX-License-Identifier: Apache-2.0 */
/* From an end to its cause, row by row. */
#include "supervisor/cause.h"

#include "common/util.h"
#include "test.h"

#include <signal.h>

#define TOLD(end_, code_, signal_)                                                                                         \
        { .told = true, .end = CREW__AGENT_END__AGENT_END_##end_, .code = code_, .signal = signal_, .detail = "its word" }

static const struct {
        struct cause_told told;
        int code, signal;
        uint32_t oom;
        Crew__Cause cause;
        int got_code, got_signal;
        const char *reason;
} ends[] = {
        /* The worker itself, and nothing was told. */
        {{0}, 0, 0, 0, CREW__CAUSE__CAUSE_EXIT, 0, 0, "exited by itself with code 0"},
        {{0}, 71, 0, 0, CREW__CAUSE__CAUSE_EXIT, 71, 0, "exited by itself with code 71"},
        {{0}, -1, SIGKILL, 0, CREW__CAUSE__CAUSE_CRASH, -1, SIGKILL, "the worker died of signal 9 (Killed)"},
        {{0}, -1, SIGSEGV, 0, CREW__CAUSE__CAUSE_CRASH, -1, SIGSEGV, "the worker died of signal 11 (Segmentation fault)"},
        {{0}, -1, SIGSYS, 0, CREW__CAUSE__CAUSE_SIGSYS, -1, SIGSYS, "a forbidden system call"},
        {{0}, -1, SIGKILL, 1, CREW__CAUSE__CAUSE_OOM, -1, SIGKILL, "the memory limit was hit"},
        /* Its program; pid 1 then ends with a code that says little. */
        {TOLD(BY_ITSELF, 0, 0), 0, 0, 0, CREW__CAUSE__CAUSE_EXIT, 0, 0, "its word"},
        {TOLD(BY_ITSELF, 3, 0), 3, 0, 0, CREW__CAUSE__CAUSE_EXIT, 3, 0, "its word"},
        {TOLD(BY_ITSELF, -1, SIGSEGV), 139, 0, 0, CREW__CAUSE__CAUSE_CRASH, -1, SIGSEGV, "its word"},
        {TOLD(BY_ITSELF, -1, SIGKILL), 137, 0, 0, CREW__CAUSE__CAUSE_CRASH, -1, SIGKILL, "its word"},
        {TOLD(BY_ITSELF, -1, SIGSYS), 159, 0, 0, CREW__CAUSE__CAUSE_SIGSYS, -1, SIGSYS, "a forbidden system call"},
        {TOLD(BY_ITSELF, -1, SIGXFSZ), 153, 0, 0, CREW__CAUSE__CAUSE_LIMIT, -1, SIGXFSZ,
         "wrote a file larger than limits.output"},
        {TOLD(BY_ITSELF, -1, SIGKILL), 137, 0, 2, CREW__CAUSE__CAUSE_OOM, -1, SIGKILL, "the memory limit was hit"},
        {TOLD(BY_ITSELF, 137, 0), 137, 0, 1, CREW__CAUSE__CAUSE_OOM, 137, 0, "the memory limit was hit"},
        {TOLD(DEADLINE, -1, SIGTERM), 143, 0, 0, CREW__CAUSE__CAUSE_DEADLINE, -1, SIGTERM, "its word"},
        {TOLD(LIMIT, -1, SIGKILL), 137, 0, 0, CREW__CAUSE__CAUSE_LIMIT, -1, SIGKILL, "its word"},
        {TOLD(NOT_STARTED, -1, 0), 70, 0, 0, CREW__CAUSE__CAUSE_START_FAILED, -1, 0, "its word"},
        /* Somebody's memory, some time ago, is not why it ended now. */
        {TOLD(BY_ITSELF, 1, 0), 1, 0, 5, CREW__CAUSE__CAUSE_EXIT, 1, 0, "its word"},
        {TOLD(BY_ITSELF, -1, SIGSEGV), 139, 0, 5, CREW__CAUSE__CAUSE_CRASH, -1, SIGSEGV, "its word"},
        {TOLD(LIMIT, -1, SIGKILL), 137, 0, 5, CREW__CAUSE__CAUSE_LIMIT, -1, SIGKILL, "its word"},
};

static void every_end_has_its_cause(void **state) {
        struct cause c;
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                cause_find(&ends[i].told, ends[i].code, ends[i].signal, ends[i].oom, &c);
                assert_int_equal(c.cause, ends[i].cause);
                assert_int_equal(c.code, ends[i].got_code);
                assert_int_equal(c.signal, ends[i].got_signal);
                assert_string_equal(c.reason, ends[i].reason);
                assert_non_null(c.initiator);
        }
}

static void a_limit_that_ends_an_agent_has_a_name(void **state) {
        static const struct {
                Crew__Cause cause;
                const char *limit;
        } wanted[] = {{CREW__CAUSE__CAUSE_LIMIT, "output"}, {CREW__CAUSE__CAUSE_OOM, "memory"}};

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                const char *limit = NULL;
                struct cause c;
                cause_find(&ends[i].told, ends[i].code, ends[i].signal, ends[i].oom, &c);
                for (size_t k = 0; k < ELEMENTSOF(wanted); k++)
                        limit = wanted[k].cause == c.cause ? wanted[k].limit : limit;
                if (limit)
                        assert_string_equal(c.limit, limit);
                else
                        assert_null(c.limit);
        }
}

/* A worker is the agent's jail: it may lie about its end, but not put it on somebody else. */
static void no_word_of_a_worker_names_another_as_the_cause(void **state) {
        (void)state;
        for (int end = 0; end <= CREW__AGENT_END__AGENT_END_NOT_STARTED; end++) {
                for (int signal = 0; signal < 65; signal++) {
                        struct cause_told told = {.told = true, .end = (Crew__AgentEnd)end, .signal = signal};
                        struct cause c;
                        cause_find(&told, 0, 0, 0, &c);
                        assert_int_not_equal(c.cause, CREW__CAUSE__CAUSE_UNSET);
                        assert_int_not_equal(c.cause, CREW__CAUSE__CAUSE_OPERATOR);
                        assert_int_not_equal(c.cause, CREW__CAUSE__CAUSE_ORCHESTRATOR);
                        assert_int_not_equal(c.cause, CREW__CAUSE__CAUSE_OOM);
                        assert_int_not_equal(c.cause, CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN);
                }
        }
}

static void every_cause_has_a_name_of_its_own(void **state) {
        (void)state;
        for (int a = 0; a <= CREW__CAUSE__CAUSE_SUPERVISOR_LOST; a++) {
                for (int b = 0; b < a; b++)
                        assert_string_not_equal(cause_name((Crew__Cause)a), cause_name((Crew__Cause)b));
        }
        assert_string_equal(cause_name((Crew__Cause)99), "unknown");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_end_has_its_cause),
                cmocka_unit_test(a_limit_that_ends_an_agent_has_a_name),
                cmocka_unit_test(no_word_of_a_worker_names_another_as_the_cause),
                cmocka_unit_test(every_cause_has_a_name_of_its_own),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
