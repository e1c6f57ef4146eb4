/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/evidence/parse.h"

#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct parse_record rec;

static bool parse(uint32_t type, const char *text) {
        return parse_audit(type, text, strlen(text), &rec);
}

/* The texts are what Linux 6.18 printed. */
static void denials_of_files_are_read(void **state) {
        static const struct {
                const char *text, *access, *path;
        } rows[] = {
                {"audit(1795204486.670:3): domain=1a473debe blockers=fs.read_file path=\"/etc/passwd\" dev=\"vda\" ino=737",
                 "fs.read_file", "/etc/passwd"},
                {"audit(1795204486.670:10): domain=1a473debe blockers=fs.read_file path=2F746D702F65762F776520697264 "
                 "dev=\"vda\" ino=9986211",
                 "fs.read_file", "/tmp/ev/we ird"},
                {"audit(1795204486.670:8): domain=1a473debe blockers=fs.remove_file,fs.make_reg path=\"/tmp/ev\" "
                 "dev=\"vda\" ino=9986130",
                 "fs.remove_file,fs.make_reg", "/tmp/ev"},
                {"audit(1795204486.670:14): domain=1a473debe blockers=fs.execute,fs.read_file path=\"/tmp/ev/ll2\" "
                 "dev=\"vda\" ino=9986177",
                 "fs.execute,fs.read_file", "/tmp/ev/ll2"},
                {"audit(1.001:1): domain=1 blockers=fs.change_topology name=\"/\" dev=\"tmpfs\" ino=1",
                 "fs.change_topology", "/"},
                {"audit(1.001:1): domain=1 blockers=fs.read_file path=2F0A22FF dev=\"vda\" ino=1", "fs.read_file",
                 "/\n\"\xff"},
                {"audit(1.001:1): domain=1 blockers=fs.read_file path=\"<too_long>\" dev=\"vda\" ino=1", "fs.read_file",
                 "<too_long>"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS, rows[i].text));
                assert_int_equal(rec.kind, PARSE_ACCESS);
                assert_int_equal(rec.what, EVIDENCE_FILE_DENIED);
                assert_string_equal(rec.access, rows[i].access);
                assert_int_equal(rec.path_len, strlen(rows[i].path));
                assert_memory_equal(rec.path, rows[i].path, rec.path_len);
        }
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS, rows[0].text));
        assert_int_equal(rec.time_ns, 1795204486670000000u);
        assert_int_equal(rec.serial, 3);
        assert_int_equal(rec.domain, 0x1a473debe);
}

static void denials_of_connections_name_address_and_port(void **state) {
        static const struct {
                const char *text, *peer;
        } rows[] = {
                {"audit(1795204486.670:12): domain=1a473debe blockers=net.connect_tcp daddr=10.0.0.1 dest=443",
                 "10.0.0.1:443"},
                {"audit(1795204486.670:13): domain=1a473debe blockers=net.bind_tcp saddr=10.0.0.1 src=443", "10.0.0.1:443"},
                {"audit(1.000:1): domain=1 blockers=net.connect_tcp daddr=2001:db8::1 dest=80", "[2001:db8::1]:80"},
                {"audit(1.000:1): domain=1 blockers=net.bind_tcp src=80", "*:80"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS, rows[i].text));
                assert_int_equal(rec.what, EVIDENCE_NET_DENIED);
                assert_int_equal(rec.path_len, strlen(rows[i].peer));
                assert_memory_equal(rec.path, rows[i].peer, rec.path_len);
        }
}

static void what_reaches_out_of_the_jail_is_told_apart(void **state) {
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS,
                          "audit(1.000:1): domain=1 blockers=scope.signal opid=77 ocomm=\"systemd\""));
        assert_int_equal(rec.what, EVIDENCE_SCOPE_DENIED);
        assert_memory_equal(rec.path, "systemd", 7);
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS, "audit(1.000:1): domain=1 blockers=ptrace opid=77 ocomm=6576696C0A"));
        assert_int_equal(rec.what, EVIDENCE_SCOPE_DENIED);
        assert_memory_equal(rec.path, "evil\n", 5);
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS,
                          "audit(1.000:1): domain=1 blockers=scope.abstract_unix_socket path=006162"));
        assert_int_equal(rec.what, EVIDENCE_SCOPE_DENIED);
        assert_int_equal(rec.path_len, 3);
}

static void domains_are_read(void **state) {
        assert_true(parse(AUDIT_TYPE_LANDLOCK_DOMAIN,
                          "audit(1795204486.670:3): domain=1a473debe status=allocated mode=enforcing pid=22219 "
                          "uid=200007 exe=\"/tmp/ev/ll\" comm=\"ll\""));
        assert_int_equal(rec.kind, PARSE_DOMAIN_ALLOCATED);
        assert_int_equal(rec.domain, 0x1a473debe);
        assert_int_equal(rec.pid, 22219);
        assert_int_equal(rec.uid, 200007);
        assert_true(parse(AUDIT_TYPE_LANDLOCK_DOMAIN,
                          "audit(1795204955.086:31): domain=1a473e5ce status=deallocated denials=5\0\0"));
        assert_int_equal(rec.kind, PARSE_DOMAIN_FREED);
        assert_int_equal(rec.denials, 5);
}

/* An agent names files and processes: no name may look like a field. */
static void names_cannot_forge_fields(void **state) {
        /* The kernel prints names with blanks or quotes in hex; here is one as if it did not. */
        assert_true(parse(AUDIT_TYPE_LANDLOCK_DOMAIN,
                          "audit(1.000:1): domain=2 status=allocated mode=enforcing pid=5 uid=200001 "
                          "exe=\"/x uid=0 domain=9\" comm=\"a uid=1\""));
        assert_int_equal(rec.uid, 200001);
        assert_int_equal(rec.domain, 2);
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS,
                          "audit(1.000:1): domain=2 blockers=fs.read_file path=\"/a blockers=net.x path=/b\" "
                          "dev=\"vda\" ino=1"));
        assert_int_equal(rec.what, EVIDENCE_FILE_DENIED);
        assert_memory_equal(rec.path, "/a blockers=net.x path=/b", rec.path_len);
}

static void long_lists_of_rights_are_cut_between_names(void **state) {
        assert_true(parse(AUDIT_TYPE_LANDLOCK_ACCESS,
                          "audit(1.000:1): domain=2 blockers=fs.execute,fs.write_file,fs.read_file,fs.read_dir,"
                          "fs.remove_dir,fs.remove_file,fs.make_char path=\"/a\" dev=\"vda\" ino=1"));
        assert_string_equal(rec.access, "fs.execute,fs.write_file,fs.read_file,fs.read_dir,fs.remove_dir");
        assert_memory_equal(rec.path, "/a", 2);
}

static void what_is_no_landlock_record_is_refused(void **state) {
        static const char *const bad[] = {
                "",
                "audit",
                "audit(1.000:1): ",
                "audit(1.000:1): domain=xyz blockers=fs.read_file",
                "audit(1.000:1): domain=11112222333344445 blockers=fs.read_file",
                "audit(1.1000:1): domain=1 blockers=fs.read_file",
                "audit(99999999999999999999.000:1): domain=1 blockers=fs.read_file",
                "audit(1.000:1): domain=1 path=\"/x\"",
                "audit(1.000:1): domain=1 blockers=fs.read_file path=\"/x",
                "audit(1.000:1): blockers=fs.read_file domain=1",
                "audit(1.000:1): domain=1 status=gone",
        };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_false(parse(AUDIT_TYPE_LANDLOCK_ACCESS, bad[i]));
                assert_false(parse(AUDIT_TYPE_LANDLOCK_DOMAIN, bad[i]));
        }
        assert_false(parse(1300, "audit(1.000:1): domain=1 blockers=fs.read_file path=\"/x\""));
}

static void check_join(const char *dir, const char *path, const char *want) {
        char out[64];
        size_t n = parse_join(dir, strlen(dir), path, strlen(path), out, sizeof(out));

        if (n != strlen(want) || memcmp(out, want, n) != 0)
                fail_msg("'%s' + '%s' gave '%.*s'", dir, path, (int)n, out);
}

static void paths_are_joined_and_cleaned(void **state) {
        check_join("", "/a/b", "/a/b");
        check_join("", "/", "/");
        check_join("", "//a///b/", "/a/b");
        check_join("", "/a/./b/../c", "/a/c");
        check_join("", "/../../a", "/a");
        check_join("", "/..", "/");
        check_join("/w/d", "x", "/w/d/x");
        check_join("/w/d", "../x", "/w/x");
        check_join("/w/d", ".", "/w/d");
        check_join("/", "x", "/x");
        check_join("", "x", "");
        check_join("pipe:[1]", "x", "");
        check_join("/", "0123456789012345678901234567890123456789012345678901234567890123456789", "");
}

static void a_neighbour_is_not_within(void **state) {
        assert_true(parse_within("/a/b", 4, "/a/b", 4));
        assert_true(parse_within("/a/b/", 5, "/a/b/c", 6));
        assert_false(parse_within("/a/b", 4, "/a/bc", 5));
        assert_false(parse_within("/a/b", 4, "/a", 2));
        assert_true(parse_within("/", 1, "/x", 2));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(denials_of_files_are_read),
                cmocka_unit_test(denials_of_connections_name_address_and_port),
                cmocka_unit_test(what_reaches_out_of_the_jail_is_told_apart),
                cmocka_unit_test(domains_are_read),
                cmocka_unit_test(names_cannot_forge_fields),
                cmocka_unit_test(long_lists_of_rights_are_cut_between_names),
                cmocka_unit_test(what_is_no_landlock_record_is_refused),
                cmocka_unit_test(paths_are_joined_and_cleaned),
                cmocka_unit_test(a_neighbour_is_not_within),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
