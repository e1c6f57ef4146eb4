/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: what is written reads the same here and in tar(1); what is read is plain or refused. */
#include "cli/killed.h"
#include "cli/tar.h"

#include "cli/tar_block.h"
#include "common/tree.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

struct place {
        char dir[32];
        int top;
};

static int setup(void **state) {
        struct place *p = calloc(1, sizeof(*p));

        strcpy(p->dir, "/tmp/crew-tar-XXXXXX");
        assert_non_null(mkdtemp(p->dir));
        p->top = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        struct place *p = *state;

        assert_int_equal(tree_remove(AT_FDCWD, p->dir), 0);
        close(p->top);
        free(p);
        return 0;
}

static int memory(void) {
        int fd = memfd_create("tar", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void finish(struct tar *t) {
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(tar_end(t, &err), 0);
        lseek(t->fd, 0, SEEK_SET);
}

static void assert_holds(int top, const char *name, const char *want) {
        char buf[64] = "";
        _cleanup_close_ int fd = openat(top, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_true(read(fd, buf, sizeof(buf) - 1) >= 0);
        assert_string_equal(buf, want);
}

static void what_was_written_is_read(void **state) {
        const struct place *p = *state;
        char path[300], part[101];
        struct crew_err err = CREW_ERR_NULL;
        struct tar_counts counts;
        struct tar t = {.fd = memory(), .mtime = 1000000000};

        memset(part, 'n', 100);
        part[100] = '\0';
        snprintf(path, sizeof(path), "%s/%s/f", part, part);
        tar_put_dir(&t, "sub/", 0700, 5);
        tar_put_bytes(&t, "sub/a", "one", 3);
        tar_put_bytes(&t, path, "far", 3); /* a name that only a pax record holds */
        tar_put_bytes(&t, part, "", 0);    /* 100 bytes: the field without a NUL */
        finish(&t);
        int r = tar_extract(t.fd, p->top, 1000, &counts, &err);
        /* The last is a directory already. */
        assert_int_equal(r, -EEXIST);
        assert_int_equal(counts.files, 2);
        assert_holds(p->top, "sub/a", "one");
        assert_holds(p->top, path, "far");
        close(t.fd);
}

/* One entry of any kind and name. */
static int extract_one(const struct place *p, char type, const char *name, uint64_t bytes_max, struct crew_err *err) {
        struct tar_header h = {0};
        struct tar_counts counts;
        char zeros[2 * TAR_BLOCK] = "";
        _cleanup_close_ int fd = memory();

        memcpy(h.name, name, strlen(name));
        strcpy(h.mode, "0004777");
        strcpy(h.size, "00000000000");
        strcpy(h.link, "/etc/passwd");
        memcpy(h.magic, "ustar", 6);
        h.type = type;
        snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h));
        assert_int_equal(crew_write_full(fd, &h, sizeof(h)), 0);
        assert_int_equal(crew_write_full(fd, zeros, sizeof(zeros)), 0);
        lseek(fd, 0, SEEK_SET);
        *err = CREW_ERR_NULL;
        return tar_extract(fd, p->top, bytes_max, &counts, err);
}

static void only_plain_entries_are_taken(void **state) {
        static const struct {
                char type;
                const char *name, *why; /* NULL: taken */
        } cases[] = {
                {'0', "fine", NULL},
                {'0', "./also", NULL},
                {'5', "dir/", NULL},
                {'5', "./", NULL},
                {'0', "olddir/", NULL},
                {'0', "/etc/x", "absolute"},
                {'0', "../x", "plain relative"},
                {'0', "a/../x", "plain relative"},
                {'0', "a//b", "plain relative"},
                {'0', "a/.", "plain relative"},
                {'0', "..", "plain relative"},
                {'5', "..", "plain relative"},
                {'0', "", "not imported"},
                {'1', "l", "hard link"},
                {'2', "l", "symbolic link"},
                {'3', "l", "character device"},
                {'4', "l", "block device"},
                {'6', "l", "pipe"},
                {'L', "l", "too long"}, /* of no length */
                {'S', "l", "not imported"},
                {'K', "l", "long target of a link"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct crew_err err;
                int r = extract_one(*state, cases[i].type, cases[i].name, 100, &err);
                assert_int_equal(r, cases[i].why ? -EINVAL : 0);
                if (cases[i].why)
                        assert_non_null(strstr(err.msg, cases[i].why));
        }
        struct stat st;
        assert_int_equal(fstatat(((struct place *)*state)->top, "fine", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode & 07777, 0777); /* no set-user-ID */
}

/* What GNU tar puts before an entry: `n` bytes of a name, then the entry with one of its own that counts no more. */
static int extract_long(const struct place *p, const char *name, size_t n, unsigned times, struct crew_err *err) {
        struct tar_header h = {.name = "././@LongLink", .mode = "0000644", .type = 'L', .magic = "ustar ", .version = " "};
        _cleanup_free_ char *padded = calloc(1, n + TAR_BLOCK);
        struct tar_counts counts;
        char zeros[2 * TAR_BLOCK] = "";
        _cleanup_close_ int fd = memory();

        assert_non_null(padded);
        memcpy(padded, name, n);
        snprintf(h.size, sizeof(h.size), "%011zo", n);
        snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h));
        for (unsigned i = 0; i < times; i++) {
                assert_int_equal(crew_write_full(fd, &h, sizeof(h)), 0);
                assert_int_equal(crew_write_full(fd, padded, (n + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK), 0);
        }
        h = (struct tar_header){.name = "cut", .mode = "0000644", .type = '0', .magic = "ustar ", .version = " "};
        memcpy(h.prefix, "15300433334", 11); /* a time, where others have the rest of a name */
        strcpy(h.size, "00000000000");
        snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h));
        assert_int_equal(crew_write_full(fd, &h, sizeof(h)), 0);
        assert_int_equal(crew_write_full(fd, zeros, sizeof(zeros)), 0);
        lseek(fd, 0, SEEK_SET);
        *err = CREW_ERR_NULL;
        return tar_extract(fd, p->top, 100, &counts, err);
}

static void gnu_names_are_bounded_and_as_plain_as_others(void **state) {
        const struct place *p = *state;
        static char much[TREE_PATH_MAX + 100];
        struct crew_err err;

        assert_int_equal(extract_long(p, "a/b", 4, 1, &err), 0);
        assert_holds(p->top, "a/b", "");
        assert_int_equal(extract_long(p, "a/c", 3, 1, &err), 0); /* without its NUL */
        assert_holds(p->top, "a/c", "");
        assert_int_equal(extract_long(p, "", 0, 0, &err), 0); /* none: the entry's own, and no prefix */
        assert_holds(p->top, "cut", "");
        static const struct {
                const char *name, *why;
                size_t n;
                unsigned times;
        } bad[] = {
                {"../x", "plain relative", 5, 1},
                {"/x", "absolute", 3, 1},
                {"a/x\0/y", "a long name that is none", 7, 1},
                {"", "a long name that is none", 1, 1},
                {"x", "two headers", 2, 2},
        };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(extract_long(p, bad[i].name, bad[i].n, bad[i].times, &err), -EINVAL);
                assert_non_null(strstr(err.msg, bad[i].why));
        }
        memset(much, 'm', sizeof(much));
        assert_int_equal(extract_long(p, much, sizeof(much), 1, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "too long"));
        for (size_t i = TREE_PATH_MAX; i < TREE_PATH_MAX + 16; i++) { /* about as long as there is room */
                assert_int_equal(extract_long(p, much, i, 1, &err), -EINVAL);
        }
        for (size_t i = 1; i < sizeof(much); i += 2)
                much[i] = '/';
        assert_int_equal(extract_long(p, much, 2 * TREE_DEPTH_MAX + 1, 1, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "too deep"));
        assert_int_equal(extract_long(p, much, 2 * TREE_DEPTH_MAX - 1, 1, &err), 0);
}

/* As deep and as long as a walk goes. */
static void what_is_exported_is_taken_back_however_long_its_names(void **state) {
        const struct place *p = *state;
        struct tar t = {.fd = memory()};
        struct tar_tree tree = {.prefix = ""};
        struct tree_size was, is;
        struct tar_counts counts;
        struct crew_err err = CREW_ERR_NULL;
        struct place *out = NULL;
        char name[NAME_MAX + 1];

        memset(name, 'n', NAME_MAX);
        name[NAME_MAX] = '\0';
        int at = fcntl(p->top, F_DUPFD_CLOEXEC, 3);
        for (unsigned i = 1; i < TREE_DEPTH_MAX; i++) {
                assert_int_equal(mkdirat(at, name, 0700), 0);
                int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                close(at);
                at = next;
        }
        assert_int_equal(mkdirat(at, name, 0700), 0);
        close(at);
        assert_int_equal(tar_put_tree(&t, p->top, &tree, &err), 0);
        assert_int_equal(tree.left_out, 1); /* what may be in the last one */
        finish(&t);
        setup((void **)&out);
        assert_int_equal(tar_extract(t.fd, out->top, 0, &counts, &err), 0);
        assert_int_equal(tree_measure(p->top, 0, &was), 0);
        assert_int_equal(tree_measure(out->top, 0, &is), 0);
        assert_int_equal(is.entries, TREE_DEPTH_MAX);
        assert_int_equal(is.entries, was.entries);
        teardown((void **)&out);
        close(t.fd);
}

static void count_why(const char *path, const char *why, void *user) {
        (void)path;
        assert_true(strcmp(why, "too many files") == 0 || strcmp(why, "too large") == 0);
        ++*(unsigned *)user;
}

static void no_more_is_exported_than_is_taken_back(void **state) {
        const struct place *p = *state;
        unsigned left_out = 0;
        char name[200];
        struct tar t = {.fd = memory()};
        struct tar_tree tree = {
                .prefix = "", .entries_max = 10, .total_max = 100, .on_left_out = count_why, .user = &left_out};
        struct crew_err err = CREW_ERR_NULL;

        memset(name, 'n', sizeof(name));
        for (unsigned i = 0; i < 10; i++) { /* two headers each */
                snprintf(name + 150, sizeof(name) - 150, "%u", i);
                _cleanup_close_ int fd = openat(p->top, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                assert_int_equal(ftruncate(fd, i == 5 ? 101 : 1), 0);
        }
        assert_int_equal(tar_put_tree(&t, p->top, &tree, &err), 0);
        assert_int_equal(tree.files, 4);
        assert_int_equal(t.entries, 8);
        assert_int_equal(left_out, 6);
        finish(&t);
        close(t.fd);
}

static void no_more_than_allowed_is_unpacked(void **state) {
        const struct place *p = *state;
        struct crew_err err = CREW_ERR_NULL;
        struct tar_counts counts;
        struct tar t = {.fd = memory()};

        tar_put_bytes(&t, "a", "0123456789", 10);
        tar_put_bytes(&t, "b", "0123456789", 10);
        finish(&t);
        assert_int_equal(tar_extract(t.fd, p->top, 19, &counts, &err), -EFBIG);
        close(t.fd);
}

/* Cut anywhere, flipped anywhere: an answer, and nothing outside. */
static void damage_is_refused_or_harmless(void **state) {
        char path[160];
        struct tar t = {.fd = memory()};
        struct tar_counts counts;

        memset(path, 'p', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        tar_put_bytes(&t, path, "x", 1);
        finish(&t);
        off_t size = lseek(t.fd, 0, SEEK_END);
        for (off_t at = 0; at < size; at += 7) {
                struct place *p = NULL;
                struct crew_err err = CREW_ERR_NULL;
                uint8_t byte, other;
                setup((void **)&p);
                assert_int_equal(pread(t.fd, &byte, 1, at), 1);
                other = byte ^ 0x41;
                assert_int_equal(pwrite(t.fd, &other, 1, at), 1);
                lseek(t.fd, 0, SEEK_SET);
                (void)tar_extract(t.fd, p->top, 1000, &counts, &err);
                assert_int_equal(pwrite(t.fd, &byte, 1, at), 1);
                teardown((void **)&p);
        }
        for (off_t cut = 0; cut < size - 2 * (off_t)TAR_BLOCK; cut += 100) {
                struct place *p = NULL;
                struct crew_err err = CREW_ERR_NULL;
                _cleanup_close_ int half = memory();
                char buf[8192];
                setup((void **)&p);
                assert_int_equal(pread(t.fd, buf, (size_t)cut, 0), cut);
                assert_int_equal(crew_write_full(half, buf, (size_t)cut), 0);
                lseek(half, 0, SEEK_SET);
                assert_int_equal(tar_extract(half, p->top, 1000, &counts, &err), -EINVAL);
                teardown((void **)&p);
        }
        close(t.fd);
}

static void count_left_out(const char *path, const char *why, void *user) {
        (void)why;
        assert_true(strcmp(path, "l") == 0 || strcmp(path, "pipe") == 0 || strcmp(path, "big") == 0);
        ++*(unsigned *)user;
}

static void a_tree_is_archived_without_following(void **state) {
        const struct place *p = *state;
        unsigned left_out = 0;
        struct crew_err err = CREW_ERR_NULL;
        struct tar t = {.fd = memory()};
        struct tar_tree tree = {.prefix = "x/", .file_max = 1000, .on_left_out = count_left_out, .user = &left_out};
        struct tar_counts counts;
        struct place *out = NULL;

        assert_int_equal(symlinkat("/etc/passwd", p->top, "l"), 0);
        assert_int_equal(mkfifoat(p->top, "pipe", 0600), 0);
        int fd = openat(p->top, "big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, 1ll << 40), 0);
        close(fd);
        fd = openat(p->top, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
        assert_int_equal(crew_write_full(fd, "text", 4), 0);
        close(fd);
        assert_int_equal(tar_put_tree(&t, p->top, &tree, &err), 0);
        finish(&t);
        assert_int_equal(left_out, 3);
        assert_int_equal(tree.files, 1);
        setup((void **)&out);
        assert_int_equal(tar_extract(t.fd, out->top, 1000, &counts, &err), 0);
        assert_holds(out->top, "x/f", "text");
        teardown((void **)&out);
        close(t.fd);
}

static void a_role_is_its_text_or_its_policy(void **state) {
        Crew__AgentStatus a = CREW__AGENT_STATUS__INIT;

        a.role = (char *)"Web Researcher";
        a.policy = (char *)"researcher.yaml";
        assert_true(agent_has_role(&a, "Web Researcher"));
        assert_true(agent_has_role(&a, "researcher.yaml"));
        assert_true(agent_has_role(&a, "researcher"));
        assert_false(agent_has_role(&a, "research"));
        assert_false(agent_has_role(&a, "Web"));
        assert_false(agent_has_role(&a, ""));
        a.policy = (char *)"researcher";
        assert_false(agent_has_role(&a, "researche"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_was_written_is_read, setup, teardown),
                cmocka_unit_test_setup_teardown(only_plain_entries_are_taken, setup, teardown),
                cmocka_unit_test_setup_teardown(gnu_names_are_bounded_and_as_plain_as_others, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_exported_is_taken_back_however_long_its_names, setup, teardown),
                cmocka_unit_test_setup_teardown(no_more_is_exported_than_is_taken_back, setup, teardown),
                cmocka_unit_test_setup_teardown(no_more_than_allowed_is_unpacked, setup, teardown),
                cmocka_unit_test(damage_is_refused_or_harmless),
                cmocka_unit_test_setup_teardown(a_tree_is_archived_without_following, setup, teardown),
                cmocka_unit_test(a_role_is_its_text_or_its_policy),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
