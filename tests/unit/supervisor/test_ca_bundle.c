/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/ca_bundle.h"

#include "common/util.h"
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CERT "-----BEGIN CERTIFICATE-----\nAAAA%s\n-----END CERTIFICATE-----\n"

static int pem(const char *text) {
        int fd = crew_sealed_memfd("ca", text, strlen(text), NULL);

        assert_true(fd >= 0);
        return fd;
}

static void the_crews_ca_comes_before_the_hosts_and_is_replaced_in_place(void **state) {
        struct ca_bundle b = CA_BUNDLE_NULL;
        char dir[] = "/tmp/crewd-ca-XXXXXX", ca[256], path[128];
        _cleanup_free_ char *first = NULL, *second = NULL;
        struct stat before, after;
        size_t n1, n2;

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(ca_bundle_open(&b, dir, NULL), 0);
        snprintf(path, sizeof(path), "%s/ca-bundle.pem", dir);
        snprintf(ca, sizeof(ca), CERT, "first and longer than the second");
        _cleanup_close_ int fd1 = pem(ca);
        assert_int_equal(ca_bundle_write(&b, fd1, NULL), 0);
        assert_int_equal(crew_read_file(path, 8u << 20, &first, &n1, NULL), 0);
        assert_memory_equal(first, ca, strlen(ca));
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(before.st_mode & 07777, 0644);
        size_t host = n1 - strlen(ca) - 1;
        snprintf(ca, sizeof(ca), CERT, "second");
        _cleanup_close_ int fd2 = pem(ca);
        assert_int_equal(ca_bundle_write(&b, fd2, NULL), 0);
        assert_int_equal(crew_read_file(path, 8u << 20, &second, &n2, NULL), 0);
        assert_memory_equal(second, ca, strlen(ca));
        assert_int_equal(n2, strlen(ca) + 1 + host);
        assert_memory_equal(second + n2 - host, first + n1 - host, host);
        assert_int_equal(stat(path, &after), 0);
        assert_true(before.st_ino == after.st_ino);
        ca_bundle_close(&b);
        assert_int_equal(access(path, F_OK), -1);
        rmdir(dir);
}

static void what_is_no_certificate_or_holds_a_key_is_refused(void **state) {
        static const char *const bad[] = {"", "hello", "-----BEGIN CERTIFICATE-----\nA\n-----BEGIN PRIVATE KEY-----\nB\n",
                                          "-----BEGIN CERTIFICATE-----\nA\n-----BEGIN EC PRIVATE KEY-----\nB\n"};
        struct ca_bundle b = CA_BUNDLE_NULL;
        char dir[] = "/tmp/crewd-ca-XXXXXX";
        struct crew_err err = CREW_ERR_NULL;

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(ca_bundle_open(&b, dir, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_close_ int fd = pem(bad[i]);
                assert_int_equal(ca_bundle_write(&b, fd, &err), -EPROTO);
        }
        ca_bundle_close(&b);
        rmdir(dir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_crews_ca_comes_before_the_hosts_and_is_replaced_in_place),
                cmocka_unit_test(what_is_no_certificate_or_holds_a_key_is_refused),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
