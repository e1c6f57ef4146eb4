/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock is there for who has the number, and for nobody else; everything else is there for all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf_run.h"

#include "common/util.h"
#include "worker/sandbox/landlock_hide.h"

#include <errno.h>
#include <sys/syscall.h>

#define HIDDEN (SECCOMP_RET_ERRNO | ENOSYS)

static uint32_t verdict(uint64_t pass, long nr, uint64_t argument) {
        struct sock_filter insns[LANDLOCK_HIDE_INSNS];
        struct seccomp_data data = {.nr = (int)nr};

        /* The others hold what would let it through, and count for nothing. */
        for (size_t i = 0; i < 5; i++)
                data.args[i] = pass;
        data.args[5] = argument;
        landlock_hide_filter(pass, insns);
        return bpf_run(&(struct program){insns, LANDLOCK_HIDE_INSNS}, &data);
}

static const uint64_t numbers[] = {0, 1, 0x80000000u, UINT32_MAX, 1ull << 32, 0x0123456789abcdefull, UINT64_MAX};

static void who_has_the_number_is_let_through(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                for (long nr = SYS_landlock_create_ruleset; nr <= SYS_landlock_restrict_self; nr++)
                        assert_int_equal(verdict(numbers[i], nr, numbers[i]), SECCOMP_RET_ALLOW);
}

static void any_other_number_is_refused(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                const uint64_t n = numbers[i], swapped = n << 32 | n >> 32;
                const uint64_t wrong[] = {~n, n + 1, n - 1, n ^ UINT32_MAX, n ^ ~(uint64_t)UINT32_MAX, n + (1ull << 32)};
                for (long nr = SYS_landlock_create_ruleset; nr <= SYS_landlock_restrict_self; nr++) {
                        for (size_t k = 0; k < ELEMENTSOF(wrong); k++)
                                assert_int_equal(verdict(n, nr, wrong[k]), HIDDEN);
                        for (unsigned bit = 0; bit < 64; bit++)
                                assert_int_equal(verdict(n, nr, n ^ 1ull << bit), HIDDEN);
                        assert_int_equal(verdict(n, nr, swapped), swapped == n ? SECCOMP_RET_ALLOW : HIDDEN);
                }
        }
}

/* Differences of the halves that take each other away, were they put together in another way. */
static void halves_do_not_make_up_for_each_other(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                const uint32_t low = (uint32_t)numbers[i], high = (uint32_t)(numbers[i] >> 32);
                for (unsigned bit = 0; bit < 32; bit++) {
                        const uint32_t d = 1u << bit;
                        assert_int_equal(
                                verdict(numbers[i], SYS_landlock_create_ruleset, (uint64_t)(high + d) << 32 | (low - d)),
                                HIDDEN);
                        assert_int_equal(
                                verdict(numbers[i], SYS_landlock_create_ruleset, (uint64_t)(high ^ d) << 32 | (low ^ d)),
                                HIDDEN);
                }
        }
}

static void every_other_call_is_let_through(void **state) {
        for (long nr = 0; nr < 1024; nr++)
                if (nr < SYS_landlock_create_ruleset || nr > SYS_landlock_restrict_self)
                        assert_int_equal(verdict(7, nr, 0), SECCOMP_RET_ALLOW);
}

/* One comparison decides: two, one after the other, could be told apart by their time, and the number guessed by halves. */
static void the_number_is_compared_at_once(void **state) {
        struct sock_filter insns[LANDLOCK_HIDE_INSNS];
        unsigned compared = 0;

        landlock_hide_filter(numbers[5], insns);
        for (size_t i = 3; i < LANDLOCK_HIDE_INSNS; i++)
                compared += BPF_CLASS(insns[i].code) == BPF_JMP;
        assert_int_equal(compared, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_has_the_number_is_let_through),    cmocka_unit_test(any_other_number_is_refused),
                cmocka_unit_test(halves_do_not_make_up_for_each_other), cmocka_unit_test(every_other_call_is_let_through),
                cmocka_unit_test(the_number_is_compared_at_once),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
