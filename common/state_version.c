/* SPDX-License-Identifier: Apache-2.0 */
/* One line: "VERSION\n", or while another directory is taking its place "VERSION NEXT DEV INODE\n"; with " unsaid" at its
 * end until whoever had it do so has put that on record. */
#include "state_version.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

unsigned state_version_stop_before;

#define UNSAID " unsaid\n"

struct line {
        uint32_t version, next;
        bool under_way, unsaid;
        unsigned long long dev, ino;
};

static void name_of(const char *agent, const char *suffix, char out[128]) {
        snprintf(out, 128, "%.100s%s", agent, suffix);
}

static int read_line(int at, const char *agent, struct line *l, struct crew_err *err) {
        char name[128], text[128] = "";

        *l = (struct line){0};
        name_of(agent, ".version", name);
        _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : crew_fail_errno(err, "cannot open %s", name);
        ssize_t n = read(fd, text, sizeof(text) - 1);
        int fields = n <= 0 ? 0 : sscanf(text, "%u %u %llu %llu", &l->version, &l->next, &l->dev, &l->ino);
        if ((fields != 1 && fields != 4) || text[n - 1] != '\n' || l->version > STATE_VERSION_MAX ||
            l->next > STATE_VERSION_MAX)
                return crew_fail(err, EBADMSG, "%s is not what crewd writes; crewctl state reset, or import", name);
        l->under_way = fields == 4;
        l->unsaid = l->under_way && strstr(text, UNSAID);
        return 0;
}

static int write_line(int at, const char *agent, const struct line *l, struct crew_err *err) {
        char name[128], part[128], text[128];

        name_of(agent, ".version", name);
        name_of(agent, ".version.part", part);
        int n = l->under_way ? snprintf(text, sizeof(text), "%u %u %llu %llu%s", l->version, l->next, l->dev, l->ino,
                                        l->unsaid ? UNSAID : "\n")
                             : snprintf(text, sizeof(text), "%u\n", l->version);
        _cleanup_close_ int fd = openat(at, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : crew_write_full(fd, text, (size_t)n);
        if (r == 0 && (fsync(fd) < 0 || renameat(at, part, at, name) < 0 || fsync(at) < 0))
                r = -errno;
        return r < 0 ? crew_fail(err, -r, "cannot write %s: %s", name, strerror(-r)) : 0;
}

static int read_version(int at, const char *agent, struct line *l, uint32_t *out, struct crew_err *err) {
        struct stat st;
        int r = read_line(at, agent, l, err);

        if (r < 0)
                return r;
        *out = l->version;
        /* Both directories were there when that was written, so no other can have the number. */
        if (l->under_way && fstatat(at, agent, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
                *out = l->next;
        return 0;
}

int state_version_read(int at, const char *agent, uint32_t *out, struct crew_err *err) {
        struct line l;

        return read_version(at, agent, &l, out, err);
}

int state_version_settle(int at, const char *agent, uint32_t *out, struct crew_err *err) {
        struct line l;
        int r = read_version(at, agent, &l, out, err);

        return r < 0 || !l.under_way ? r : state_version_write(at, agent, *out, err);
}

int state_version_write(int at, const char *agent, uint32_t version, struct crew_err *err) {
        const struct line l = {.version = version};
        char name[128];

        if (version)
                return write_line(at, agent, &l, err);
        name_of(agent, ".version", name);
        if (unlinkat(at, name, 0) < 0)
                return errno == ENOENT ? 0 : crew_fail_errno(err, "cannot remove %s", name);
        return fsync(at) < 0 ? crew_fail_errno(err, "cannot remove %s", name) : 0;
}

static bool stops(unsigned step) {
        return state_version_stop_before == step;
}

static int exchange(int at, const char *agent, const char *fresh, struct line *l, struct crew_err *err) {
        struct stat st;

        if (fstatat(at, fresh, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return crew_fail_errno(err, "cannot look at %s", fresh);
        l->dev = st.st_dev;
        l->ino = st.st_ino;
        int r = stops(1) ? -EINTR : write_line(at, agent, l, err);
        if (r < 0)
                return r;
        if (stops(2))
                return -EINTR;
        if (syscall(SYS_renameat2, at, fresh, at, agent, RENAME_EXCHANGE) < 0)
                return crew_fail_errno(err, "cannot put the migrated directory in its place");
        return fsync(at) < 0 ? crew_fail_errno(err, "cannot put the migrated directory in its place") : 0;
}

int state_version_swap(int at, const char *agent, const char *fresh, uint32_t from, uint32_t to, struct crew_err *err) {
        struct line l = {.version = from, .next = to, .under_way = true};
        int r = exchange(at, agent, fresh, &l, err);

        if (r < 0)
                return r;
        return stops(3) ? -EINTR : state_version_write(at, agent, to, err);
}

int state_version_swap_unsaid(int at, const char *agent, const char *fresh, uint32_t from, uint32_t to,
                              struct crew_err *err) {
        struct line l = {.version = from, .next = to, .under_way = true, .unsaid = true};

        return exchange(at, agent, fresh, &l, err);
}

int state_version_unsaid(int at, const char *agent, uint32_t *from, uint32_t *to, struct crew_err *err) {
        struct line l;
        int r = read_version(at, agent, &l, to, err);

        *from = l.version;
        return r < 0 ? r : l.unsaid && *to == l.next;
}
