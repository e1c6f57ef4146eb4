/* SPDX-License-Identifier: Apache-2.0 */
/* One wrong value in an otherwise perfect attestation is enough to refuse the jail. */
#include "supervisor/attest.h"

#include "common/plan.h"
#include "test.h"

static const struct attest_want want = {
        .host_uid = 200001,
        .host_gid = 200001,
        .landlock_abi_min = 5,
        .peer_pid = 77,
        .own = {.ns_user = 1, .ns_pid = 2, .ns_mnt = 3, .ns_net = 4, .ns_ipc = 5, .ns_uts = 6},
};

static struct spawn_attestation good(void) {
        return (struct spawn_attestation){.pid = 77,
                                          .host_uid = 200001,
                                          .host_gid = 200001,
                                          .seccomp_mode = 2,
                                          .no_new_privs = 1,
                                          .ns_user = 11,
                                          .ns_pid = 12,
                                          .ns_mnt = 13,
                                          .ns_net = 14,
                                          .ns_ipc = 15,
                                          .ns_uts = 16,
                                          .landlock_abi = 7};
}

static void a_full_attestation_passes(void **state) {
        struct spawn_attestation att = good();
        struct crew_err err = CREW_ERR_NULL;
        (void)state;
        assert_int_equal(attest_check(&att, &want, &err), 0);
}

#define REFUSED(field, value)                                                                                              \
        do {                                                                                                               \
                struct spawn_attestation att = good();                                                                     \
                struct crew_err err = CREW_ERR_NULL;                                                                       \
                att.field = (value);                                                                                       \
                assert_int_equal(attest_check(&att, &want, &err), -1);                                                     \
                assert_true(err.msg[0] != '\0');                                                                           \
        } while (0)

static void each_single_defect_is_refused(void **state) {
        (void)state;
        REFUSED(pid, 78);
        REFUSED(pid, 0);
        REFUSED(host_uid, 0);
        REFUSED(host_gid, 0);
        REFUSED(seccomp_mode, 0);
        REFUSED(seccomp_mode, 1);
        REFUSED(no_new_privs, 0);
        REFUSED(cap_eff, 1);
        REFUSED(cap_prm, 1ull << 40);
        REFUSED(cap_inh, 1);
        REFUSED(cap_bnd, 1);
        REFUSED(cap_amb, 1);
        REFUSED(ns_user, 1);
        REFUSED(ns_pid, 2);
        REFUSED(ns_mnt, 3);
        REFUSED(ns_net, 4);
        REFUSED(ns_ipc, 5);
        REFUSED(ns_uts, 6);
        REFUSED(ns_net, 0);
        REFUSED(landlock_abi, 4);
        REFUSED(degraded, 1u << PLAN_FEATURE_EVIDENCE);
}

static void only_what_the_policy_lets_go_may_be_missing(void **state) {
        struct attest_want lax = want;
        struct spawn_attestation att = good();
        char text[64];
        (void)state;
        lax.allow_degraded = 1u << PLAN_FEATURE_CGROUP_PIDS | 1u << PLAN_FEATURE_EVIDENCE;
        att.degraded = lax.allow_degraded;
        assert_int_equal(attest_check(&att, &lax, NULL), 0);
        attest_walls(&att, text, sizeof(text));
        assert_string_equal(text, "without cgroup-pids, evidence");
        att.degraded |= 1u << PLAN_FEATURE_NETNS;
        assert_int_equal(attest_check(&att, &lax, NULL), -1);
        att.degraded = 0;
        attest_walls(&att, text, sizeof(text));
        assert_string_equal(text, "full");
}

static void our_own_namespaces_are_known(void **state) {
        struct spawn_attestation own = {0};
        (void)state;
        assert_int_equal(attest_own(&own, NULL), 0);
        assert_true(own.ns_user && own.ns_pid && own.ns_mnt && own.ns_net && own.ns_ipc && own.ns_uts);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_full_attestation_passes),
                cmocka_unit_test(each_single_defect_is_refused),
                cmocka_unit_test(only_what_the_policy_lets_go_may_be_missing),
                cmocka_unit_test(our_own_namespaces_are_known),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
