/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each row is one call whose errno tells which wall answered: where the kernel would have refused anyway, the call is
 * chosen so that it would refuse with another number.  Only calls without effect if they should succeed.
 */
#include "selftest.h"

#include "view.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static long try_open(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0)
                close(fd);
        return fd;
}
static long try_socket(int family, int type, int protocol) {
        int fd = socket(family, type | SOCK_CLOEXEC, protocol);
        if (fd >= 0)
                close(fd);
        return fd;
}

static long t_ungranted(void) {
        return try_open(VIEW_VOID_FILE, O_RDONLY);
}
static long t_root_write(void) {
        return mkdir("/.crew-selftest", 0700);
}
static long t_userns(void) {
        return unshare(CLONE_NEWUSER);
}
static long t_clone_userns(void) {
        long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0)
                _exit(0);
        return pid;
}
static long t_clone3(void) {
        return syscall(SYS_clone3, NULL, 0);
}
static long t_setns(void) {
        return setns(-1, 0); /* EBADF from the kernel itself */
}
static long t_mount(void) {
        return syscall(SYS_open_tree, -1, "", 0u); /* EBADF or ENOENT */
}
static long t_netlink(void) {
        return try_socket(AF_NETLINK, SOCK_RAW, 0);
}
static long t_vsock(void) {
        return try_socket(AF_VSOCK, SOCK_STREAM, 0);
}
static long t_mptcp(void) {
        return try_socket(AF_INET, SOCK_STREAM, 262);
}
static long t_io_uring(void) {
        return syscall(SYS_io_uring_setup, 0u, NULL); /* EFAULT */
}
static long t_bpf(void) {
        return syscall(SYS_bpf, -1, NULL, 0u); /* EINVAL */
}
static long t_keyctl(void) {
        return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
}
static long t_setuid(void) {
        return setresuid(0, 0, 0);
}
static long t_capset(void) {
        struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct d[2] = {{.effective = 1u << CAP_SYS_ADMIN, .permitted = 1u << CAP_SYS_ADMIN}};
        return syscall(SYS_capset, &h, d);
}
static long t_setid_bit(void) {
        return fchmod(-1, S_ISUID | 0700); /* EBADF */
}
static long t_tiocsti(void) {
        return ioctl(-1, TIOCSTI, ""); /* EBADF */
}
static long t_core_limit(void) {
        struct rlimit r = {0, 0};
        return setrlimit(RLIMIT_CORE, &r);
}

static const struct test {
        const char *name;
        int errno_;
        bool landlock;
        long (*run)(void);
} tests[] = {
        {"open a file that no rule grants", EACCES, true, t_ungranted},
        {"make a directory in the root", EROFS, false, t_root_write},
        {"unshare a user namespace", EPERM, false, t_userns},
        {"clone a user namespace", EPERM, false, t_clone_userns},
        {"clone3", ENOSYS, false, t_clone3},
        {"setns", EPERM, false, t_setns},
        {"open_tree", EPERM, false, t_mount},
        {"netlink socket", EAFNOSUPPORT, false, t_netlink},
        {"vsock socket", EAFNOSUPPORT, false, t_vsock},
        {"mptcp socket", EAFNOSUPPORT, false, t_mptcp},
        {"io_uring", ENOSYS, false, t_io_uring},
        {"bpf", EPERM, false, t_bpf},
        {"keyctl", EPERM, false, t_keyctl},
        {"become root", EINVAL, false, t_setuid},
        {"regain a capability", EPERM, false, t_capset},
        {"set-user-ID bit", EPERM, false, t_setid_bit},
        {"type into a terminal", EPERM, false, t_tiocsti},
        {"change the core limit", EPERM, false, t_core_limit},
};

int selftest_run(bool with_landlock, uint32_t *passed, struct crew_err *err) {
        *passed = 0;
        for (size_t i = 0; i < ELEMENTSOF(tests); i++) {
                if (tests[i].landlock && !with_landlock)
                        continue;
                errno = 0;
                long r = tests[i].run();
                if (r >= 0)
                        return crew_fail(err, EPERM, "%s: succeeded, must fail with %s", tests[i].name,
                                         strerrorname_np(tests[i].errno_));
                if (errno != tests[i].errno_)
                        return crew_fail(err, EPERM, "%s: failed with %s, must be %s", tests[i].name,
                                         strerrorname_np(errno), strerrorname_np(tests[i].errno_));
                (*passed)++;
        }
        return 0;
}
