/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-evidence --fd N: started by crewd, tells it what the kernel saw (common/evidence.h).
 *
 * Root mode: Landlock audit and fanotify; it keeps the four capabilities those need and no other, and runs as nobody.
 * Where the kernel has no such audit: seccomp notifications and fanotify.
 * Rootless: seccomp notifications; no capability at all.  No new privileges, an allow-list of system calls, ends when
 * crewd's end of the socket does.  It parses what the kernel prints and nothing that an agent sends.
 */
#include "common/confine.h"
#include "common/kernel.h"
#include "common/util.h"
#include "landlock.h"
#include "marks.h"
#include "notify.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define LANDLOCK_AUDIT_ABI 7

static const int syscalls[] = {
        /* the loop */
        SYS_epoll_wait,
        SYS_epoll_pwait,
        SYS_epoll_ctl,
        SYS_recvmsg,
        SYS_recvmmsg,
        SYS_recvfrom,
        SYS_sendto,
        SYS_read,
        SYS_close,
        SYS_clock_gettime,
        /* restoring kernel auditing */
        SYS_poll,
        SYS_flock,
        SYS_pread64,
        SYS_pwrite64,
        SYS_ftruncate,
        /* marks and their events */
        SYS_openat,
        SYS_openat2,
        SYS_statx,
        SYS_fstatfs,
        SYS_readlink,
        SYS_fanotify_init,
        SYS_fanotify_mark,
        /* notifications */
        SYS_ioctl,
        SYS_process_vm_readv,
        /* memory, the message to stderr, the end */
        SYS_brk,
        SYS_mmap,
        SYS_munmap,
        SYS_mremap,
        SYS_madvise,
        SYS_mprotect,
        SYS_futex,
        SYS_getpid,
        SYS_getrandom,
        SYS_write,
        SYS_fstat,
        SYS_newfstatat,
        SYS_rt_sigreturn,
        SYS_restart_syscall,
        SYS_exit,
        SYS_exit_group,
};

static struct server server = {.epoll = -1, .crewd = {.fd = -1}};

static void on_term(int sig) {
        (void)sig;
        server.stop = true;
}

/* SIGINT from the terminal goes to the whole foreground group: crewd decides when to end, and we end after it. */
static void set_signals(void) {
        struct sigaction term = {.sa_handler = on_term};

        sigaction(SIGTERM, &term, NULL);
        signal(SIGINT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
}

static uint32_t open_root_sources(struct server *sv) {
        struct crew_err err = CREW_ERR_NULL;
        uint32_t sources = 0;

        if (crew_landlock_abi() < LANDLOCK_AUDIT_ABI)
                fprintf(stderr, "crew-evidence: no Landlock audit: the kernel's Landlock ABI is below 7\n");
        else if (landlock_open(sv, &err) < 0)
                fprintf(stderr, "crew-evidence: no Landlock audit: %s\n", err.msg);
        else
                sources |= EVIDENCE_LANDLOCK;
        if (!(sources & EVIDENCE_LANDLOCK) && listener_works_here()) {
                fprintf(stderr, "crew-evidence: denials are told by seccomp notification, as attempts\n");
                sources |= EVIDENCE_NOTIFY;
        }
        if (marks_work_here())
                sources |= EVIDENCE_FANOTIFY;
        else
                fprintf(stderr, "crew-evidence: no fanotify: %s\n", strerror(errno));
        return sources;
}

static int confine(const struct server *sv, struct crew_err *err) {
        const uint64_t root_caps = 1ull << CAP_AUDIT_CONTROL /* to switch back */ | 1ull << CAP_SYS_ADMIN /* fanotify */ |
                                   1ull << CAP_SYS_PTRACE /* /proc/PID/root */ | 1ull << CAP_DAC_READ_SEARCH;
        const struct confine c = {
                .uid = sv->root ? CONFINE_NOBODY : 0,
                .gid = sv->root ? CONFINE_NOBODY : 0,
                .keep_caps = sv->root ? root_caps : 0,
                .syscalls = syscalls,
                .n_syscalls = ELEMENTSOF(syscalls),
        };
        return confine_self(&c, err);
}

static bool is_seqpacket(int fd) {
        int type = 0;
        socklen_t len = sizeof(type);

        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int run(int fd, struct crew_err *err) {
        struct evidence_msg hello = {.op = EVIDENCE_HELLO};

        server.crewd.fd = fd;
        server.crewd_pid = getppid();
        server.root = geteuid() == 0;
        server.epoll = epoll_create1(EPOLL_CLOEXEC);
        if (server.epoll < 0)
                return crew_fail_errno(err, "cannot make an event loop");
        hello.flags = server.root ? open_root_sources(&server) : listener_works_here() ? EVIDENCE_NOTIFY : 0;
        int r = confine(&server, err);
        if (r == 0)
                r = server_send(&server, &hello);
        return r < 0 ? r : server_run(&server, err);
}

int main(int argc, char **argv) {
        struct crew_err err = CREW_ERR_NULL;
        uint64_t fd;

        if (argc != 3 || strcmp(argv[1], "--fd") != 0 || crew_parse_u64(argv[2], &fd) < 0 || fd > 65535 ||
            !is_seqpacket((int)fd)) {
                fprintf(stderr,
                        "usage: crew-evidence --fd N\nN is a SOCK_SEQPACKET socket to crewd, which starts this program.\n");
                return 2;
        }
        (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
        set_signals();
        int r = run((int)fd, &err);
        if (r < 0 && err.msg[0])
                fprintf(stderr, "crew-evidence: %s\n", err.msg);
        return r < 0 ? 1 : 0;
}
