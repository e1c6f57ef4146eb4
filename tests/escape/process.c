/* SPDX-License-Identifier: Apache-2.0 */
/* Other processes: their memory, descriptors, signals, namespaces, keys and shared memory. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t pid_arg(const char *s) {
        return (pid_t)strtol(s, NULL, 10);
}

static int open_proc(const char *pid, const char *name, int flags) {
        char path[128];

        snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
        return open(path, flags | O_CLOEXEC);
}

/* PID */
static int proc_mem(char **a) {
        return judge(open_proc(a[0], "mem", O_RDWR));
}

static int proc_environ(char **a) {
        char byte;
        int fd = open_proc(a[0], "environ", O_RDONLY);

        if (fd < 0)
                return denied(errno);
        ssize_t n = read(fd, &byte, 1);
        return n < 0 ? denied(errno) : n == 0 ? denied(ENODATA) : won("read the environment of %s", a[0]);
}

static int proc_root(char **a) {
        return judge(open_proc(a[0], "root/etc/passwd", O_RDONLY));
}

static int proc_cwd(char **a) {
        return judge(open_proc(a[0], "cwd", O_RDONLY | O_DIRECTORY));
}

/* The file behind a running program, as for overwriting a container's runner. */
static int proc_exe(char **a) {
        return judge(open_proc(a[0], "exe", O_RDONLY));
}

static int proc_fd(char **a) {
        return judge(open_proc(a[0], "fd", O_RDONLY | O_DIRECTORY));
}

static int ptrace_seize(char **a) {
        return judge(ptrace(PTRACE_SEIZE, pid_arg(a[0]), 0, 0));
}

static int ptrace_traceme(char **a) {
        return judge(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

static int vm_readv(char **a) {
        char buf[8];
        struct iovec mine = {buf, sizeof(buf)}, theirs = {(void *)(uintptr_t)strtoull(a[1], NULL, 16), sizeof(buf)};
        return reached(process_vm_readv(pid_arg(a[0]), &mine, 1, &theirs, 1, 0), EFAULT);
}

static int vm_writev(char **a) {
        char buf[8] = "";
        struct iovec mine = {buf, sizeof(buf)}, theirs = {(void *)(uintptr_t)strtoull(a[1], NULL, 16), sizeof(buf)};
        return reached(process_vm_writev(pid_arg(a[0]), &mine, 1, &theirs, 1, 0), EFAULT);
}

static int steal_fd(char **a) {
        int pidfd = (int)syscall(SYS_pidfd_open, pid_arg(a[0]), 0);
        return pidfd < 0 ? denied(errno) : judge(syscall(SYS_pidfd_getfd, pidfd, 0, 0));
}

/* PID SIGNAL */
static int kill_one(char **a) {
        return judge(kill(pid_arg(a[0]), (int)strtol(a[1], NULL, 10)));
}

static int kill_thread(char **a) {
        return judge(syscall(SYS_tgkill, pid_arg(a[0]), pid_arg(a[0]), (int)strtol(a[1], NULL, 10)));
}

static int kill_all(char **a) {
        return judge(kill(-1, SIGKILL));
}

static int kill_parent(char **a) {
        pid_t parent = getppid();

        if (kill(parent, SIGKILL) < 0)
                return denied(errno);
        usleep(100000);
        return getppid() != parent ? won("the parent is gone") : denied(EPERM);
}

/* PID: SIGIO through the owner of a descriptor; with the signal chosen, this kills. */
static int kill_by_owner(char **a) {
        int pipes[2];
        struct f_owner_ex owner = {.type = F_OWNER_PID, .pid = pid_arg(a[0])};

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pipes) < 0)
                return broken("socketpair");
        if (fcntl(pipes[0], F_SETOWN_EX, &owner) < 0 || fcntl(pipes[0], F_SETSIG, SIGKILL) < 0 ||
            fcntl(pipes[0], F_SETFL, O_ASYNC) < 0)
                return denied(errno);
        /* Set and kept silently even where no signal will arrive: the driver looks at the victim. */
        return write(pipes[1], "x", 1) == 1 ? won("sent") : denied(errno);
}

/* NS */
static int set_ns(char **a) {
        int fd = open_proc("self/ns", a[0], O_RDONLY);
        return fd < 0 ? denied(errno) : judge(syscall(SYS_setns, fd, 0));
}

static int unshare_user(char **a) {
        return judge(unshare(CLONE_NEWUSER));
}

static int reap(long pid) {
        if (pid < 0)
                return denied(errno);
        if (pid == 0)
                _exit(0);
        waitpid((pid_t)pid, NULL, 0);
        return won("a child in a new user namespace");
}

static int clone_user(char **a) {
        return reap(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}

static int clone3_user(char **a) {
        struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
        return reap(syscall(SYS_clone3, &args, sizeof(args)));
}

static int seccomp_listener(char **a) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog prog = {1, &allow};

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return judge(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
}

static int tiocsti(char **a) {
        char c = '\n';

        for (int fd = 0; fd < 3; fd++)
                if (isatty(fd))
                        return judge(ioctl(fd, TIOCSTI, &c));
        return broken("no terminal");
}

/* RDEV: is one of our streams the operator's terminal? */
static int shared_terminal(char **a) {
        unsigned long theirs = strtoul(a[0], NULL, 10);

        for (int fd = 0; fd < 3; fd++) {
                struct stat st;
                if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && (unsigned long)st.st_rdev == theirs)
                        return won("descriptor %d is the operator's terminal", fd);
        }
        return denied(ENOTTY);
}

static int controlling_terminal(char **a) {
        return judge(open("/dev/tty", O_RDWR));
}

static int session_keyring(char **a) {
        return judge(syscall(SYS_add_key, "user", "crewd-escape", "x", 1, -3 /* session keyring */));
}

static int read_keys(char **a) {
        return judge(syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3, 0));
}

/* KEY: made by the driver outside */
static int shm_key(char **a) {
        return judge(shmget((key_t)strtol(a[0], NULL, 10), 0, 0));
}

static int msg_key(char **a) {
        return judge(msgget((key_t)strtol(a[0], NULL, 10), 0));
}

static int sem_key(char **a) {
        return judge(semget((key_t)strtol(a[0], NULL, 10), 0, 0));
}

/* NAME */
static int posix_mq(char **a) {
        return judge(mq_open(a[0], O_RDONLY));
}

static int posix_shm(char **a) {
        char path[128];

        snprintf(path, sizeof(path), "/dev/shm/%s", a[0]);
        return judge(open(path, O_RDONLY));
}

/* PATH, or @NAME for the abstract namespace */
static int unix_connect(char **a) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        if (fd < 0)
                return denied(errno);
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", a[0]);
        socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(addr.sun_path));
        if (addr.sun_path[0] == '@')
                addr.sun_path[0] = '\0';
        return judge(connect(fd, (struct sockaddr *)&addr, n));
}

/* How many processes of others can be seen?  More than OURS is too many. */
static int see_processes(char **a) {
        int seen = 0;

        for (int pid = 1; pid < 65536; pid++) {
                char path[64];
                snprintf(path, sizeof(path), "/proc/%d", pid);
                seen += access(path, F_OK) == 0;
        }
        return seen > (int)strtol(a[0], NULL, 10) ? won("%d processes", seen) : denied(ESRCH);
}

const struct attack process_attacks[] = {
        {"proc_mem", proc_mem, 1},
        {"proc_environ", proc_environ, 1},
        {"proc_root", proc_root, 1},
        {"proc_cwd", proc_cwd, 1},
        {"proc_exe", proc_exe, 1},
        {"proc_fd", proc_fd, 1},
        {"ptrace_seize", ptrace_seize, 1},
        {"ptrace_traceme", ptrace_traceme, 0},
        {"vm_readv", vm_readv, 2},
        {"vm_writev", vm_writev, 2},
        {"steal_fd", steal_fd, 1},
        {"kill_one", kill_one, 2},
        {"kill_thread", kill_thread, 2},
        {"kill_all", kill_all, 0},
        {"kill_parent", kill_parent, 0},
        {"kill_by_owner", kill_by_owner, 1},
        {"set_ns", set_ns, 1},
        {"unshare_user", unshare_user, 0},
        {"clone_user", clone_user, 0},
        {"clone3_user", clone3_user, 0},
        {"seccomp_listener", seccomp_listener, 0},
        {"tiocsti", tiocsti, 0},
        {"shared_terminal", shared_terminal, 1},
        {"controlling_terminal", controlling_terminal, 0},
        {"session_keyring", session_keyring, 0},
        {"read_keys", read_keys, 0},
        {"shm_key", shm_key, 1},
        {"msg_key", msg_key, 1},
        {"sem_key", sem_key, 1},
        {"posix_mq", posix_mq, 1},
        {"posix_shm", posix_shm, 1},
        {"unix_connect", unix_connect, 1},
        {"see_processes", see_processes, 1},
        {NULL, NULL, 0},
};
