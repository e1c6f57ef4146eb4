/* SPDX-License-Identifier: Apache-2.0 */
/* The file system of a jail, and what an agent may have prepared in it against the next start. */
#include "fixture.h"

#include "common/landlock.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define RW ((1ULL << 16) - 1)

/* A host directory with: data/ (to be granted), data/a/b/secret, outside/file.  Owned by whoever we are, 0755. */
static char host[64];

static void host_path(char out[128], const char *rest) {
        snprintf(out, 128, "%s/%s", host, rest);
}

static void host_dir(const char *rest) {
        char path[128];
        host_path(path, rest);
        assert_int_equal(crew_mkdir_p(path, 0755, NULL), 0);
}

static void host_file(const char *rest, const char *text) {
        char path[128];
        host_path(path, rest);
        assert_int_equal(crew_write_file_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static int setup(void **state) {
        strcpy(host, "/tmp/crew-view-XXXXXX");
        assert_non_null(mkdtemp(host));
        chmod(host, 0755);
        host_dir("data/a/b");
        host_dir("outside");
        host_file("data/a/b/secret", "s");
        host_file("data/plain", "p");
        host_file("outside/file", "o");
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}
static int teardown(void **state) {
        return nftw(host, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct extra {
        enum plan_mount_kind kind;
        uint32_t flags;
        const char *src, *dst; /* below host; dst NULL: nothing more */
};

/* Standard jail plus data/ read-write at its host path, plus extras. */
static const struct plan *plan_with(uint32_t data_flags, const struct extra *extra) {
        struct plan_builder *b = fixture_builder(0, "default", NULL, 0, 1);
        char data[128], src[128], dst[128];

        host_path(data, "data");
        fixture_view(b);
        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_NOEXEC | PLAN_MOUNT_IDMAP | data_flags, data, data, 0, 0, geteuid(),
                       getegid());
        for (; extra && extra->dst; extra++) {
                host_path(src, extra->src ? extra->src : "");
                host_path(dst, extra->dst);
                plan_add_mount(b, extra->kind, extra->flags, extra->src ? src : NULL, dst, 0, 0, geteuid(), getegid());
        }
        for (int layer = 0; layer < 2; layer++) {
                plan_add_layer(b, layer ? PLAN_LAYER_AGENT : PLAN_LAYER_OUTER);
                plan_add_rule(b, data, RW, PLAN_MOUNT_OPTIONAL);
                plan_add_rule(b, "/usr", 13, 0);
                plan_add_rule(b, "/dev", 14, 0);
                plan_add_rule(b, "/tmp", RW, 0);
        }
        return fixture_plan(b);
}

/* In the jail the tests' own path is the same; /tmp there is private, and data lies below it. */
static const char *in(const char *rest) {
        static char path[4][128];
        static unsigned n;
        char *p = path[n++ % 4];
        host_path(p, rest);
        return p;
}

static int fails(long r, int errno_, int code) {
        return r < 0 && errno == errno_ ? 0 : code;
}

static int writes_a_file(const struct jail_child *c) {
        struct stat st;
        int fd = open(in("data/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, "x", 1) != 1 || fstat(fd, &st) < 0 || st.st_uid != 1000)
                return 1;
        return stat(in("data/plain"), &st) < 0 || st.st_uid != 1000 ? 2 : 0;
}

static void a_file_the_agent_writes_belongs_to_the_tree_owner_outside(void **state) {
        const struct plan *plan = plan_with(0, NULL);
        struct stat st;

        assert_int_equal(fixture_run(plan, writes_a_file), 0);
        assert_int_equal(stat(in("data/new"), &st), 0);
        assert_int_equal(st.st_uid, geteuid());
        assert_int_equal(st.st_gid, getegid());
        plan_close(plan);
}

static int sees_only_what_is_listed(const struct jail_child *c) {
        struct stat st;

        if (stat("/etc/hostname", &st) == 0 || stat("/home/user", &st) == 0 || stat("/run", &st) == 0 ||
            stat("/sys", &st) == 0)
                return 1;
        if (fails(stat(in("outside"), &st), ENOENT, 2) || fails(stat(in("outside/file"), &st), ENOENT, 2))
                return 2;
        if (fails(open("/etc/shadow", O_RDONLY), EACCES, 3) || stat("/etc/shadow", &st) < 0 || st.st_size != 0)
                return 3;
        if (fails(open("/root/.ssh", O_RDONLY | O_DIRECTORY), EACCES, 4))
                return 4;
        return fails(open("/proc/self/root/etc/hostname", O_RDONLY), ENOENT, 5);
}

static void only_what_the_plan_lists_is_there(void **state) {
        const struct plan *plan = plan_with(0, NULL);

        assert_int_equal(fixture_run(plan, sees_only_what_is_listed), 0);
        plan_close(plan);
}

static int cannot_change_read_only(const struct jail_child *c) {
        struct timespec now[2] = {{0}, {0}};
        const char *file = in("data/plain"), *dir = in("data");
        int n = 1;
        const long results[] = {
                open(file, O_WRONLY),
                errno == EROFS ? open(file, O_RDONLY | O_TRUNC) : 0,
                errno == EROFS ? truncate(file, 0) : 0,
                errno == EROFS ? chmod(file, 0600) : 0,
                errno == EROFS ? chown(file, 1000, 1000) : 0,
                errno == EROFS ? utimensat(AT_FDCWD, file, now, 0) : 0,
                errno == EROFS ? setxattr(file, "user.x", "1", 1, 0) : 0,
                errno == EROFS ? unlink(file) : 0,
                errno == EROFS ? mkdir(in("data/x"), 0700) : 0,
                errno == EROFS ? open(dir, O_TMPFILE | O_WRONLY, 0600) : 0,
                errno == EROFS ? link(file, in("data/y")) : 0,
                errno == EROFS ? rename(file, in("data/z")) : 0,
        };

        for (size_t i = 0; i < ELEMENTSOF(results); i++, n++) {
                if (results[i] >= 0)
                        return n;
        }
        return errno == EROFS ? 0 : 100;
}

static void a_read_only_tree_cannot_be_changed_in_any_way(void **state) {
        const struct plan *plan = plan_with(PLAN_MOUNT_RO, NULL);

        assert_int_equal(fixture_run(plan, cannot_change_read_only), 0);
        plan_close(plan);
}

static int cannot_execute_what_it_wrote(const struct jail_child *c) {
        static const char script[] = "#!/usr/bin/sh\nexit 0\n";
        const char *path = in("data/run.sh");
        const char *const direct[] = {path, NULL};
        const char *const loader[] = {"/usr/lib64/ld-linux-x86-64.so.2", in("data/true"), NULL};
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);

        if (fd < 0 || write(fd, script, sizeof(script) - 1) != sizeof(script) - 1)
                return 1;
        close(fd);
        if (fixture_exec(c, direct) != -EACCES)
                return 2;
        /* A copy of a program, through the loader: the mapping is refused on a noexec mount. */
        const char *const copy[] = {"/usr/bin/cp", "/usr/bin/true", in("data/true"), NULL};
        if (fixture_exec(c, copy) != 0)
                return 3;
        return access(loader[0], F_OK) < 0 || fixture_exec(c, loader) != 0 ? 0 : 4;
}

static void what_the_agent_writes_cannot_be_executed(void **state) {
        const struct plan *plan = plan_with(0, NULL);

        assert_int_equal(fixture_run(plan, cannot_execute_what_it_wrote), 0);
        plan_close(plan);
}

static void refused(const struct plan *plan, const char *text) {
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;
        int r = fixture_spawn(plan, sees_only_what_is_listed, &j, &err);

        if (r == 0 || !strstr(err.msg, text))
                fail_msg("%d: '%s' does not say '%s'", r, err.msg, text);
        plan_close(plan);
}

static void a_link_planted_in_a_source_fails_the_start(void **state) {
        const struct extra direct[] = {{
                                               PLAN_MOUNT_BIND,
                                               PLAN_MOUNT_RO,
                                               "data/link",
                                               "data/link",
                                       },
                                       {0}};
        const struct extra below[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO, "data/link/file", "mnt"}, {0}};
        char target[128], path[128];

        host_path(target, "outside");
        host_path(path, "data/link");
        assert_int_equal(symlink(target, path), 0);
        refused(plan_with(0, direct), "data/link: a symbolic link on the way");
        refused(plan_with(0, below), "data/link/file: a symbolic link on the way");
        /* Control: the runtime's own links may be followed where the plan says so. */
        const struct extra follow[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW, "data/link/file", "mnt"}, {0}};
        const struct plan *plan = plan_with(0, follow);
        struct spawn_exit ex;
        struct jail j;
        assert_int_equal(fixture_spawn(plan, writes_a_file, &j, NULL), 0);
        jail_reap(&j, true, &ex);
        plan_close(plan);
}

static void a_link_planted_under_a_mount_point_fails_the_start(void **state) {
        /* dst goes through a link inside the agent's own tree, the source does not. */
        const struct extra extra[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO, "outside", "data/link/x"}, {0}};
        const struct extra hole[] = {{PLAN_MOUNT_HOLE, 0, NULL, "data/link"}, {0}};
        char path[128];

        host_path(path, "data/link");
        assert_int_equal(symlink("/", path), 0);
        refused(plan_with(0, extra), strerror(ELOOP));
        refused(plan_with(0, hole), strerror(ELOOP));
}

static void a_link_in_a_rule_grants_nothing(void **state) {
        struct plan_builder *b = fixture_builder(0, "default", NULL, 0, 1);
        char data[128], path[128];

        host_path(data, "data");
        host_path(path, "data/link");
        assert_int_equal(symlink("/usr", path), 0);
        fixture_view(b);
        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_IDMAP, data, data, 0, 0, geteuid(), getegid());
        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_rule(b, path, RW, 0);
        refused(fixture_plan(b), "landlock: rule for");
}

static int hole_is_empty(const struct jail_child *c) {
        struct stat st;

        if (fails(open(in("data/a/b/secret"), O_RDONLY), EACCES, 1) || stat(in("data/a/b/secret"), &st) < 0 ||
            st.st_size != 0)
                return 1;
        /* Its directories can not be carried away, so the path will name it at the next start too. */
        if (fails(rename(in("data/a"), in("data/moved")), EBUSY, 2) ||
            fails(rename(in("data/a/b"), in("data/a/c")), EBUSY, 3))
                return 2;
        if (fails(unlink(in("data/a/b/secret")), EBUSY, 4))
                return 4;
        return rename(in("data/plain"), in("data/plain2")) < 0 ? 5 : 0; /* the rest of the tree is the agent's */
}

static void a_hole_hides_and_stays_where_it_is(void **state) {
        const struct extra extra[] = {
                {PLAN_MOUNT_HOLE, 0, NULL, "data/a/b/secret"}, {PLAN_MOUNT_HOLE, 0, NULL, "data/none"}, {0}};
        const struct plan *plan = plan_with(0, extra);
        struct stat st;

        assert_int_equal(fixture_run(plan, hole_is_empty), 0);
        assert_int_equal(stat(in("data/a/b/secret"), &st), 0);
        assert_int_equal(st.st_size, 1);
        plan_close(plan);
}

static int read_only_part(const struct jail_child *c) {
        if (fails(open(in("data/a/b/new"), O_CREAT | O_WRONLY, 0600), EROFS, 1))
                return 1;
        if (fails(rename(in("data/a"), in("data/moved")), EBUSY, 2))
                return 2;
        return open(in("data/a/new"), O_CREAT | O_WRONLY, 0600) < 0 ? 3 : 0;
}

static void a_read_only_part_of_a_write_tree_stays_so(void **state) {
        const struct extra extra[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO, "data/a/b", "data/a/b"}, {0}};
        const struct plan *plan = plan_with(0, extra);

        assert_int_equal(fixture_run(plan, read_only_part), 0);
        plan_close(plan);
}

static void a_decoy_is_never_made_in_a_tree_of_the_host(void **state) {
        const struct extra extra[] = {
                {PLAN_MOUNT_DECOY_DIR, 0, NULL, "data/.ssh"}, {PLAN_MOUNT_DECOY_FILE, 0, NULL, "other/x"}, {0}};
        const struct plan *plan = plan_with(0, extra);
        struct spawn_exit ex;
        struct stat st;
        struct jail j;

        assert_int_equal(fixture_spawn(plan, writes_a_file, &j, NULL), 0);
        assert_int_equal(j.att.tripwires, 3); /* two of the fixture, one of ours */
        jail_reap(&j, true, &ex);
        assert_int_equal(stat(in("data/.ssh"), &st), -1);
        assert_int_equal(stat(in("other"), &st), -1);
        plan_close(plan);
}

static void a_missing_write_directory_is_made_for_its_owner_only(void **state) {
        const struct extra extra[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_CREATE | PLAN_MOUNT_IDMAP, "made/deep", "made/deep"},
                                      {0}};
        const struct plan *plan = plan_with(0, extra);
        struct stat st;

        assert_int_equal(fixture_run(plan, writes_a_file), 0);
        assert_int_equal(stat(in("made/deep"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(st.st_uid, geteuid());
        plan_close(plan);
        /* But never through a link. */
        char path[128];
        host_path(path, "data/link");
        assert_int_equal(symlink(in("outside"), path), 0);
        const struct extra through[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_CREATE, "data/link/x", "made/x"}, {0}};
        refused(plan_with(0, through), "symbolic link");
        assert_int_equal(stat(in("outside/x"), &st), -1);
}

static void a_missing_source_fails_unless_optional(void **state) {
        const struct extra gone[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO, "gone", "gone"}, {0}};
        const struct extra optional[] = {{PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_OPTIONAL, "gone", "gone"}, {0}};

        refused(plan_with(0, gone), "gone: No such file or directory");
        const struct plan *plan = plan_with(0, optional);
        assert_int_equal(fixture_run(plan, writes_a_file), 0);
        plan_close(plan);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_file_the_agent_writes_belongs_to_the_tree_owner_outside, setup, teardown),
                cmocka_unit_test_setup_teardown(only_what_the_plan_lists_is_there, setup, teardown),
                cmocka_unit_test_setup_teardown(a_read_only_tree_cannot_be_changed_in_any_way, setup, teardown),
                cmocka_unit_test_setup_teardown(what_the_agent_writes_cannot_be_executed, setup, teardown),
                cmocka_unit_test_setup_teardown(a_link_planted_in_a_source_fails_the_start, setup, teardown),
                cmocka_unit_test_setup_teardown(a_link_planted_under_a_mount_point_fails_the_start, setup, teardown),
                cmocka_unit_test_setup_teardown(a_link_in_a_rule_grants_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(a_hole_hides_and_stays_where_it_is, setup, teardown),
                cmocka_unit_test_setup_teardown(a_read_only_part_of_a_write_tree_stays_so, setup, teardown),
                cmocka_unit_test_setup_teardown(a_decoy_is_never_made_in_a_tree_of_the_host, setup, teardown),
                cmocka_unit_test_setup_teardown(a_missing_write_directory_is_made_for_its_owner_only, setup, teardown),
                cmocka_unit_test_setup_teardown(a_missing_source_fails_unless_optional, setup, teardown),
        };
        return fixture_main("view", tests, ELEMENTSOF(tests), argc, argv);
}
