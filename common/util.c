/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define FDS_MAX CREW_FDS_MAX

void crew_close(int *fd) {
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

int crew_read_full(int fd, void *buf, size_t n) {
        char *p = buf;

        while (n > 0) {
                ssize_t r = read(fd, p, n);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        return -EPIPE;
                p += r;
                n -= (size_t)r;
        }
        return 0;
}

int crew_write_full(int fd, const void *buf, size_t n) {
        const char *p = buf;

        while (n > 0) {
                ssize_t r = write(fd, p, n);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                p += r;
                n -= (size_t)r;
        }
        return 0;
}

int crew_read_fd(int fd, size_t max_bytes, char **out, size_t *out_len, struct crew_err *err) {
        _cleanup_free_ char *buf = NULL;
        size_t used = 0, room = 0;
        struct stat st;

        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size <= max_bytes)
                room = (size_t)st.st_size + 2;
        for (;;) {
                if (!buf || used + 1 >= room) {
                        room = buf ? room * 2 : MAX_OF(room, (size_t)4096);
                        char *grown = realloc(buf, room);
                        if (!grown)
                                return crew_fail(err, ENOMEM, "out of memory reading %zu bytes", room);
                        buf = grown;
                }
                ssize_t r = read(fd, buf + used, room - used - 1);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return crew_fail_errno(err, "cannot read");
                if (r == 0)
                        break;
                used += (size_t)r;
                if (used > max_bytes)
                        return crew_fail(err, EFBIG, "larger than %zu bytes", max_bytes);
        }
        buf[used] = '\0';
        *out = crew_steal_ptr(&buf);
        if (out_len)
                *out_len = used;
        return 0;
}

int crew_read_file(const char *path, size_t max_bytes, char **out, size_t *out_len, struct crew_err *err) {
        /* O_NONBLOCK so that a FIFO in place of the file cannot hang the reader. */
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if (fstat(fd, &st) < 0)
                return crew_fail_errno(err, "cannot stat %s", path);
        if (!S_ISREG(st.st_mode))
                return crew_fail(err, EINVAL, "%s is not a regular file", path);
        int r = crew_read_fd(fd, max_bytes, out, out_len, err);
        if (r < 0)
                crew_err_add(err, "%s", path);
        return r;
}

int crew_write_file_atomic(const char *path, const void *buf, size_t n, mode_t mode, struct crew_err *err) {
        char tmp[PATH_MAX];

        if ((size_t)snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path) >= sizeof(tmp))
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", path);
        _cleanup_close_ int fd = mkostemp(tmp, O_CLOEXEC);
        if (fd < 0)
                return crew_fail_errno(err, "cannot create %s", tmp);
        int r = crew_write_full(fd, buf, n);
        if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(tmp, path) < 0))
                r = -errno;
        if (r < 0) {
                unlink(tmp);
                return crew_fail(err, -r, "cannot write %s: %s", path, strerror(-r));
        }
        return 0;
}

int crew_mkdir_p(const char *path, mode_t mode, struct crew_err *err) {
        char part[PATH_MAX];
        size_t n = strlen(path);

        if (n == 0 || n >= sizeof(part))
                return crew_fail(err, ENAMETOOLONG, "bad directory path '%s'", path);
        memcpy(part, path, n + 1);
        for (char *p = part + 1;; p++) {
                if (*p != '/' && *p != '\0')
                        continue;
                char c = *p;
                *p = '\0';
                if (mkdir(part, mode) < 0 && errno != EEXIST)
                        return crew_fail_errno(err, "cannot make directory %s", part);
                *p = c;
                if (c == '\0')
                        return 0;
        }
}

int crew_open_beneath(int dirfd, const char *path, int flags, mode_t mode) {
        struct open_how how = {
                .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                .mode = (flags & (O_CREAT | __O_TMPFILE)) ? mode : 0,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        return fd < 0 ? -errno : (int)fd;
}

int crew_sealed_memfd(const char *name, const void *buf, size_t n, struct crew_err *err) {
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* since Linux 6.3 */
#endif
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return crew_fail_errno(err, "cannot create memfd %s", name);
        int r = crew_write_full(fd, buf, n);
        if (r < 0)
                return crew_fail(err, -r, "cannot write memfd %s: %s", name, strerror(-r));
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return crew_fail_errno(err, "cannot seal memfd %s", name);
        return crew_steal_fd(&fd);
}

ssize_t crew_send_fds(int sock, const void *buf, size_t n, const int *fds, size_t n_fds) {
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        } control = {0};
        struct iovec iov = {.iov_base = (void *)buf, .iov_len = n};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n_fds > FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                msg.msg_control = control.bytes;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        for (;;) {
                ssize_t r = sendmsg(sock, &msg, MSG_NOSIGNAL);
                if (r >= 0)
                        return r;
                if (errno != EINTR)
                        return -errno;
        }
}

ssize_t crew_recv_fds(int sock, void *buf, size_t n, int *fds, size_t *n_fds, int flags) {
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        } control;
        struct iovec iov = {.iov_base = buf, .iov_len = n};
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
        size_t room = n_fds ? *n_fds : 0, got = 0;
        ssize_t r;
        bool bad = false;

        do
                r = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
        while (r < 0 && errno == EINTR);
        if (n_fds)
                *n_fds = 0;
        if (r < 0)
                return -errno;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < k; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (got < room) {
                                fds[got++] = fd;
                        } else {
                                close(fd);
                                bad = true;
                        }
                }
        }
        if (bad || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
                for (size_t i = 0; i < got; i++)
                        close(fds[i]);
                return -EPROTO;
        }
        if (n_fds)
                *n_fds = got;
        return r;
}

static uint64_t clock_ns(clockid_t id) {
        struct timespec ts;

        clock_gettime(id, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t crew_now_ns(void) {
        return clock_ns(CLOCK_MONOTONIC);
}

uint64_t crew_realtime_ns(void) {
        return clock_ns(CLOCK_REALTIME);
}

int crew_parse_u64(const char *s, uint64_t *out) {
        uint64_t v = 0;

        if (!isdigit((unsigned char)*s))
                return -EINVAL;
        for (; isdigit((unsigned char)*s); s++) {
                if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
                        return -ERANGE;
        }
        if (*s)
                return -EINVAL;
        *out = v;
        return 0;
}

struct unit {
        const char *name;
        uint64_t factor;
};

/* digits, then exactly one unit of the table ("" allowed when listed). */
static int parse_with_unit(const char *s, const struct unit *units, size_t n, uint64_t *out) {
        char digits[24];
        size_t k = strspn(s, "0123456789");
        uint64_t v;

        if (k == 0 || k >= sizeof(digits))
                return k == 0 ? -EINVAL : -ERANGE;
        memcpy(digits, s, k);
        digits[k] = '\0';
        int r = crew_parse_u64(digits, &v);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                if (strcmp(s + k, units[i].name) != 0)
                        continue;
                return __builtin_mul_overflow(v, units[i].factor, out) ? -ERANGE : 0;
        }
        return -EINVAL;
}

int crew_parse_duration(const char *s, uint64_t *out_ns) {
        static const struct unit units[] = {
                {"ms", 1000000u}, {"s", 1000000000u}, {"m", 60000000000u}, {"h", 3600000000000u}};
        return parse_with_unit(s, units, ELEMENTSOF(units), out_ns);
}

int crew_parse_size(const char *s, uint64_t *out_bytes) {
        static const struct unit units[] = {{"", 1},
                                            {"B", 1},
                                            {"KiB", 1ull << 10},
                                            {"MiB", 1ull << 20},
                                            {"GiB", 1ull << 30},
                                            {"TiB", 1ull << 40},
                                            {"KB", 1000},
                                            {"MB", 1000000},
                                            {"GB", 1000000000}};
        return parse_with_unit(s, units, ELEMENTSOF(units), out_bytes);
}

unsigned crew_edit_distance(const char *a, const char *b) {
        enum { MAX = 64 };
        size_t la = strlen(a), lb = strlen(b);
        unsigned d[3][MAX + 1];

        if (la > MAX || lb > MAX)
                return UINT_MAX;
        for (size_t j = 0; j <= lb; j++)
                d[0][j] = (unsigned)j;
        for (size_t i = 1; i <= la; i++) {
                unsigned *cur = d[i % 3], *up = d[(i - 1) % 3], *up2 = d[(i + 1) % 3];
                cur[0] = (unsigned)i;
                for (size_t j = 1; j <= lb; j++) {
                        unsigned v = up[j - 1] + (a[i - 1] != b[j - 1]);
                        v = MIN_OF(v, MIN_OF(up[j], cur[j - 1]) + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                v = MIN_OF(v, up2[j - 2] + 1);
                        cur[j] = v;
                }
        }
        return d[la % 3][lb];
}

const char *crew_nearest(const char *word, const char *const *names, size_t n) {
        size_t third = strlen(word) / 3;
        unsigned best = (unsigned)MAX_OF(third, (size_t)2) + 1;
        const char *found = NULL;

        for (size_t i = 0; i < n; i++) {
                unsigned d = crew_edit_distance(word, names[i]);
                if (d < best && d < strlen(names[i])) {
                        best = d;
                        found = names[i];
                }
        }
        return found;
}

static bool name_ok(const char *s, bool underscore) {
        size_t n = strlen(s);

        if (n == 0 || n > 63 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
                return false;
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)s[i];
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || (underscore && c == '_')))
                        return false;
        }
        return true;
}

bool crew_name_ok(const char *s) {
        return name_ok(s, false);
}

bool crew_agent_name_ok(const char *s) {
        const char *mark = strchr(s, '#');
        size_t n = mark ? (size_t)(mark - s) : 0, digits = mark ? strspn(mark + 1, "0123456789") : 0;
        char base[64];

        if (!mark)
                return crew_name_ok(s);
        if (n >= sizeof(base) || n + 1 + digits > 63 || digits == 0 || digits > 2 || mark[1 + digits] || mark[1] == '0' ||
            strcmp(mark, "#1") == 0)
                return false;
        memcpy(base, s, n);
        base[n] = '\0';
        return crew_name_ok(base);
}

bool crew_tool_name_ok(const char *s) {
        return name_ok(s, true);
}

/* RFC 3629: no overlong forms, no surrogates, at most U+10FFFF. */
bool crew_utf8_ok(const char *s, size_t n) {
        const uint8_t *p = (const uint8_t *)s, *end = p + n;

        while (p < end) {
                uint8_t c = *p++;
                unsigned more;
                uint32_t cp, low;
                if (c < 0x80)
                        continue;
                if (c >= 0xc2 && c <= 0xdf)
                        more = 1, cp = c & 0x1f, low = 0x80;
                else if (c >= 0xe0 && c <= 0xef)
                        more = 2, cp = c & 0x0f, low = 0x800;
                else if (c >= 0xf0 && c <= 0xf4)
                        more = 3, cp = c & 0x07, low = 0x10000;
                else
                        return false;
                if ((size_t)(end - p) < more)
                        return false;
                while (more-- > 0) {
                        if ((*p & 0xc0) != 0x80)
                                return false;
                        cp = cp << 6 | (*p++ & 0x3f);
                }
                if (cp < low || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
                        return false;
        }
        return true;
}

void crew_hex(const uint8_t *in, size_t n, char *out) {
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < n; i++) {
                out[2 * i] = digits[in[i] >> 4];
                out[2 * i + 1] = digits[in[i] & 15];
        }
        out[2 * n] = '\0';
}
