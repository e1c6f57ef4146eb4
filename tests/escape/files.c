/* SPDX-License-Identifier: Apache-2.0 */
/* Files: what is outside the policy, what is read-only, and what must not become a program. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* PATH: reads a piece, or names if it is a directory */
static int read_path(char **a) {
        char buf[8192];
        int fd = open(a[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
                return denied(errno);
        ssize_t n = read(fd, buf, sizeof(buf));
        if (n < 0 && errno == EISDIR)
                n = syscall(SYS_getdents64, fd, buf, sizeof(buf));
        return n < 0 ? denied(errno) : won("read %zd bytes of %s", n, a[0]);
}

/* DIR PATH: by dirfd and enough dots */
static int read_dots(char **a) {
        char path[512];
        int dir = open(a[0], O_PATH | O_DIRECTORY);

        if (dir < 0)
                return broken("%s", a[0]);
        snprintf(path, sizeof(path), "../../../../../../../../../../..%s", a[1]);
        return judge(openat(dir, path, O_RDONLY));
}

/* DIR TARGET: a link of ours to a place that is not ours */
static int by_symlink(char **a) {
        char link[512];

        snprintf(link, sizeof(link), "%s/link", a[0]);
        unlink(link);
        if (symlink(a[1], link) < 0)
                return broken("symlink %s", link);
        return judge(open(link, O_RDONLY));
}

/* DIR TARGET */
static int by_hardlink(char **a) {
        char new[512];

        snprintf(new, sizeof(new), "%s/hard", a[0]);
        unlink(new);
        return judge(link(a[1], new));
}

/* PATH: through an O_PATH descriptor */
static int reopen_path(char **a) {
        char self[64];
        int fd = open(a[0], O_PATH | O_CLOEXEC);

        if (fd < 0)
                return denied(errno);
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        return judge(open(self, O_RDONLY));
}

/* PATH: read-only first, then for writing by the descriptor's link */
static int reopen_write(char **a) {
        char self[64];
        int fd = open(a[0], O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return broken("%s", a[0]);
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        return judge(open(self, O_RDWR));
}

/* DIR1 DIR2: exchange them */
static int exchange(char **a) {
        return judge(syscall(SYS_renameat2, AT_FDCWD, a[0], AT_FDCWD, a[1], 2 /* RENAME_EXCHANGE */));
}

static int move(char **a) {
        return judge(rename(a[0], a[1]));
}

static int open_trunc(char **a) {
        return judge(open(a[0], O_WRONLY | O_TRUNC));
}

static int truncate_path(char **a) {
        return judge(truncate(a[0], 0));
}

static int allocate(char **a) {
        int fd = open(a[0], O_RDONLY);
        return fd < 0 ? broken("%s", a[0]) : judge(fallocate(fd, 0, 0, 4096));
}

static int write_mapping(char **a) {
        int fd = open(a[0], O_RDONLY);

        if (fd < 0)
                return broken("%s", a[0]);
        void *p = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return p == MAP_FAILED ? denied(errno) : won("mapped");
}

static int change_mode(char **a) {
        return judge(chmod(a[0], 0666));
}

static int change_owner(char **a) {
        return judge(chown(a[0], getuid(), getgid()));
}

static int change_times(char **a) {
        return judge(utimensat(AT_FDCWD, a[0], NULL, 0));
}

static int set_attribute(char **a) {
        return judge(setxattr(a[0], "user.escape", "x", 1, 0));
}

static int get_attribute(char **a) {
        char value[8];
        return reached(getxattr(a[0], "user.none", value, sizeof(value)), ENODATA);
}

static int watch(char **a) {
        return judge(inotify_add_watch(inotify_init1(0), a[0], IN_ALL_EVENTS));
}

/* DIR: a file of our own there that nobody else may open before we give it back */
static int take_lease(char **a) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/leased.%d", a[0], (int)getpid());
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
                return broken("open");
        unlink(path);
        return judge(fcntl(fd, F_SETLEASE, F_WRLCK));
}

static int notify_directory(char **a) {
        int fd = open(a[0], O_RDONLY | O_DIRECTORY);

        signal(SIGIO, SIG_IGN); /* others use that directory too */
        return fd < 0 ? broken("open") : judge(fcntl(fd, F_NOTIFY, DN_ACCESS | DN_CREATE));
}

static int stat_path(char **a) {
        struct stat st;
        return judge(stat(a[0], &st));
}

/* DIR1 DIR2: an unnamed file of the one, named in the other */
static int tmpfile_link(char **a) {
        char self[64], name[512];
        int fd = open(a[0], O_TMPFILE | O_RDWR, 0600);

        if (fd < 0)
                return broken("O_TMPFILE in %s", a[0]);
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        snprintf(name, sizeof(name), "%s/planted", a[1]);
        return judge(linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW));
}

/* DIR */
static int make_fifo(char **a) {
        char path[512];

        snprintf(path, sizeof(path), "%s/fifo", a[0]);
        unlink(path);
        return judge(mkfifo(path, 0666));
}

static int create_in(char **a) {
        char path[512];

        snprintf(path, sizeof(path), "%s/made", a[0]);
        return judge(open(path, O_WRONLY | O_CREAT, 0666));
}

static int remove_path(char **a) {
        return judge(unlink(a[0]));
}

/* DIR: a set-user-ID file, by each of the ways to make one */
static int make_setuid(char **a) {
        char path[512];

        snprintf(path, sizeof(path), "%s/suid", a[0]);
        unlink(path);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 04755);
        struct stat st;
        if (fd < 0 && errno == EPERM)
                fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0755);
        if (fd < 0)
                return broken("%s", path);
        int e = fchmod(fd, 04755) < 0 ? errno : 0;
        if (chmod(path, 06755) < 0 && !e)
                e = errno;
        return fstat(fd, &st) == 0 && (st.st_mode & 06000) ? won("mode %o", st.st_mode) : denied(e ? e : EPERM);
}

static int make_setgid_creat(char **a) {
        char path[512];
        struct stat st;

        snprintf(path, sizeof(path), "%s/sgid", a[0]);
        unlink(path);
        int fd = (int)syscall(SYS_creat, path, 02755);
        if (fd < 0)
                return denied(errno);
        return fstat(fd, &st) == 0 && (st.st_mode & 06000) ? won("mode %o", st.st_mode) : denied(EPERM);
}

/* --- what must not become a program --- */

static int run_it(const char *path, char *const argv[]) {
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                execv(path, argv);
                _exit(errno == ENOEXEC ? 0 : errno);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return broken("fork");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return won("%s ran", path);
        return denied(WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
}

/* PATH: a program that exits 0 */
static int run_path(char **a) {
        return run_it(a[0], (char *[]){a[0], NULL});
}

static int copy_file(const char *from, int to) {
        char buf[65536];
        int in = open(from, O_RDONLY);
        ssize_t n;

        if (in < 0)
                return -1;
        while ((n = read(in, buf, sizeof(buf))) > 0)
                if (write(to, buf, (size_t)n) != n)
                        return -1;
        close(in);
        return n < 0 ? -1 : 0;
}

/* PROGRAM DIR: a copy of it there */
static int run_copy(char **a) {
        char path[512];

        snprintf(path, sizeof(path), "%s/copy", a[1]);
        unlink(path);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
        if (fd < 0)
                return broken("%s", path);
        if (copy_file(a[0], fd) < 0)
                return denied(errno);
        close(fd);
        return run_it(path, (char *[]){path, NULL});
}

static int memfd_run(unsigned flags, const char *program) {
        int fd = memfd_create("program", flags);

        if (fd < 0)
                return denied(errno);
        if (!*program)
                return won("made");
        if (copy_file(program, fd) < 0)
                return broken("copy %s", program);
        fchmod(fd, 0755);
        syscall(SYS_execveat, fd, "", (char *[]){"memfd", NULL}, (char *[]){NULL}, AT_EMPTY_PATH);
        return denied(errno);
}

/* PROGRAM; "": only asks whether the kernel makes such a file */
static int memfd_exec(char **a) {
        return memfd_run(0, a[0]);
}

static int memfd_noexec_exec(char **a) {
        return memfd_run(MFD_NOEXEC_SEAL, a[0]);
}

/* PATH: its bytes as code, by mapping and by changing a mapping */
static int map_code(char **a) {
        int fd = open(a[0], O_RDONLY);

        if (fd < 0)
                return denied(errno);
        void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        return p == MAP_FAILED ? denied(errno) : won("mapped as code");
}

static int protect_code(char **a) {
        int fd = open(a[0], O_RDONLY);

        if (fd < 0)
                return denied(errno);
        void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
                return denied(errno);
        return judge(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

const struct attack file_attacks[] = {
        {"read_path", read_path, 1},
        {"read_dots", read_dots, 2},
        {"by_symlink", by_symlink, 2},
        {"by_hardlink", by_hardlink, 2},
        {"reopen_path", reopen_path, 1},
        {"reopen_write", reopen_write, 1},
        {"exchange", exchange, 2},
        {"move", move, 2},
        {"open_trunc", open_trunc, 1},
        {"truncate_path", truncate_path, 1},
        {"allocate", allocate, 1},
        {"write_mapping", write_mapping, 1},
        {"change_mode", change_mode, 1},
        {"change_owner", change_owner, 1},
        {"change_times", change_times, 1},
        {"set_attribute", set_attribute, 1},
        {"get_attribute", get_attribute, 1},
        {"watch", watch, 1},
        {"take_lease", take_lease, 1},
        {"notify_directory", notify_directory, 1},
        {"stat_path", stat_path, 1},
        {"tmpfile_link", tmpfile_link, 2},
        {"make_fifo", make_fifo, 1},
        {"create_in", create_in, 1},
        {"remove_path", remove_path, 1},
        {"make_setuid", make_setuid, 1},
        {"make_setgid_creat", make_setgid_creat, 1},
        {"run_path", run_path, 1},
        {"run_copy", run_copy, 2},
        {"memfd_exec", memfd_exec, 1},
        {"memfd_noexec_exec", memfd_noexec_exec, 1},
        {"map_code", map_code, 1},
        {"protect_code", protect_code, 1},
        {NULL, NULL, 0},
};
