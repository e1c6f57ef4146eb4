/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a compromised program tries from inside, each with the exact outcome.  Calls are made by pid 1 of the jail where
 * the wall is the whole jail's, by a program in the agent layer where it is the layer's.
 */
#include "fixture.h"

#include "common/landlock.h"
#include "common/util.h"
#include "worker/sandbox/landlock_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Asked before the jail is made, where nobody can. */
static char abi_text[12]; /* Landlock's */
static bool memfds_without_exec;

static void survives_with(uint32_t flags, fixture_fn attack) {
        const struct plan *plan = fixture_standard(flags);
        int r = fixture_run(plan, attack);

        if (r != 0)
                fail_msg("attack %d got through", r);
        plan_close(plan);
}

/* PLAN_SANDBOX passes standard error on: what got through is said. */
static void survives(fixture_fn attack) {
        survives_with(PLAN_SANDBOX, attack);
}

#define MUST_FAIL(call, errno_, code)                                                                                      \
        do {                                                                                                               \
                errno = 0;                                                                                                 \
                if ((long)(call) >= 0 || errno != (errno_)) {                                                              \
                        dprintf(2, "# %s: errno %d\n", #call, errno);                                                      \
                        return (code);                                                                                     \
                }                                                                                                          \
        } while (0)

/* --- other processes --- */

static int namespaces(const struct jail_child *c) {
        struct clone_args a = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
        int self = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);

        MUST_FAIL(unshare(CLONE_NEWUSER), EPERM, 1);
        MUST_FAIL(unshare(CLONE_NEWNET), EPERM, 2);
        MUST_FAIL(unshare(0x80), EPERM, 3); /* CLONE_NEWTIME */
        MUST_FAIL(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), EPERM, 4);
        MUST_FAIL(syscall(SYS_clone, (1ull << 32) | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0), EPERM, 5);
        MUST_FAIL(syscall(SYS_clone3, &a, sizeof(a)), ENOSYS, 6);
        MUST_FAIL(setns(self, 0), EPERM, 7);
        MUST_FAIL(setns((int)syscall(SYS_pidfd_open, getpid(), 0), CLONE_NEWNET), EPERM, 8);
        return 0;
}
static void no_namespace_can_be_made_or_joined(void **state) {
        survives(namespaces);
}

static int tracing(const struct jail_child *c) {
        char buf[8];
        struct iovec iov = {buf, sizeof(buf)};
        pid_t victim = fork();

        if (victim == 0) {
                pause();
                _exit(0);
        }
        MUST_FAIL(ptrace(PTRACE_SEIZE, victim, 0, 0), EPERM, 1);
        MUST_FAIL(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM, 2);
        MUST_FAIL(process_vm_readv(victim, &iov, 1, &iov, 1, 0), EPERM, 3);
        MUST_FAIL(process_vm_writev(victim, &iov, 1, &iov, 1, 0), EPERM, 4);
        int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);
        if (pidfd < 0)
                return 5;
        MUST_FAIL(syscall(SYS_pidfd_getfd, pidfd, 0, 0), EPERM, 6);
        MUST_FAIL(syscall(SYS_kcmp, 1, victim, 0, 0, 0), EPERM, 7);
        kill(victim, SIGKILL);
        return 0;
}
static void no_process_can_be_traced_or_read(void **state) {
        survives(tracing);
}

/* The agent program and its pid 1: other domain, not dumpable, invisible.  Before Landlock's scopes a signal may be sent to
 * it, and pid 1 of a namespace gets none that it does not wait for: that it goes on is what the exit status says. */
static int agent_against_pid1(const struct jail_child *c) {
        static const char script[] =
                "import os, signal, errno, sys\n"
                "def must(e, f, *a):\n"
                "    try: f(*a)\n"
                "    except OSError as x:\n"
                "        if x.errno == e: return\n"
                "        raise\n"
                "    raise SystemExit('%s %s succeeded' % (f, a))\n"
                "for pid in (1, os.getppid()):\n"
                "    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):\n"
                "        if int(sys.argv[1]) >= 6: must(errno.EPERM, os.kill, pid, sig)\n"
                "        else: os.kill(pid, sig)\n"
                "for p in ('environ', 'mem', 'maps', 'cmdline', 'status', 'root/etc/passwd', 'fd/0'):\n"
                "    must(errno.ENOENT, open, '/proc/1/' + p)\n"
                "for p in ('uid_map', 'gid_map', 'setgroups', 'oom_score_adj', 'mem', 'attr/current'):\n"
                "    for how in ('r+', 'w'):\n"
                "        try: open('/proc/self/' + p, how).close()\n"
                "        except OSError as x:\n"
                "            assert x.errno in (errno.EROFS, errno.EACCES, errno.ENOENT), (p, x)\n"
                "        else: raise SystemExit(p)\n"
                "must(errno.EROFS, open, '/proc/sys/kernel/core_pattern', 'w')\n"
                "must(errno.EACCES, open, '/etc/shadow')\n"
                "must(errno.EACCES, os.listdir, '/')\n"
                "must(errno.ENOENT, open, '/proc/self/root/../home/x')\n"
                "assert [p for p in os.listdir('/proc') if p.isdigit()] == [str(os.getpid())]\n"
                "assert os.listdir('/proc/self/fd') == ['0', '1', '2', '3']\n"
                "must(errno.EPERM, os.chroot, '/tmp')\n"
                "must(errno.EINVAL, os.setresuid, 0, 0, 0)\n"
                "must(errno.EPERM, os.setgroups, [0])\n"
                "try: os.kill(-1, signal.SIGKILL)\n"
                "except ProcessLookupError: pass\n"
                "except PermissionError: pass\n";
        static const char *const argv[] = {"python3", "-c", script, abi_text, NULL};
        return fixture_exec(c, argv);
}
static void the_agent_can_not_touch_its_pid_1(void **state) {
        survives(agent_against_pid1);
}

/* --- kernel surface --- */

static int dies_of_sigsys(void (*fn)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                fn();
                _exit(0);
        }
        waitpid(pid, &status, 0);
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

#ifdef __x86_64__
static void int80(void) {
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory"); /* getpid of i386 */
}
static void x32(void) {
        syscall(0x40000000 | SYS_getpid);
}
static int other_abis(const struct jail_child *c) {
        return !dies_of_sigsys(int80) ? 1 : !dies_of_sigsys(x32) ? 2 : 0;
}
static void other_abis_are_killed(void **state) {
        survives(other_abis);
}
#endif

static int surface(const struct jail_child *c) {
        char buf[256] = {0};

        MUST_FAIL(syscall(SYS_io_uring_setup, 8, buf), ENOSYS, 1);
        MUST_FAIL(syscall(SYS_bpf, 0, buf, sizeof(buf)), EPERM, 2);
        MUST_FAIL(syscall(SYS_perf_event_open, buf, 0, -1, -1, 0), EPERM, 3);
        MUST_FAIL(syscall(SYS_userfaultfd, 1), EPERM, 4);
        MUST_FAIL(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL), EPERM, 5);
        MUST_FAIL(syscall(SYS_umount2, "/usr", 2), EPERM, 6);
        MUST_FAIL(syscall(SYS_fsopen, "tmpfs", 0), EPERM, 7);
        MUST_FAIL(syscall(SYS_open_tree, AT_FDCWD, "/", 1), EPERM, 8);
        MUST_FAIL(syscall(SYS_move_mount, -1, "", -1, "", 0), EPERM, 9);
        MUST_FAIL(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, buf, 32), EPERM, 10);
        MUST_FAIL(syscall(SYS_pivot_root, ".", "."), EPERM, 11);
        MUST_FAIL(syscall(SYS_chroot, "/tmp"), EPERM, 12);
        MUST_FAIL(syscall(SYS_open_by_handle_at, AT_FDCWD, buf, O_RDONLY), EPERM, 13);
        MUST_FAIL(mknod("/tmp/null", S_IFCHR | 0666, 0x103), EPERM, 14);
        MUST_FAIL(mknod("/tmp/whiteout", S_IFCHR | 0666, 0), EPERM, 15);
        MUST_FAIL(syscall(SYS_kexec_load, 0, 0, 0, 0), EPERM, 16);
        MUST_FAIL(syscall(SYS_finit_module, -1, "", 0), EPERM, 17);
        MUST_FAIL(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL), EPERM, 18);
        MUST_FAIL(syscall(SYS_swapon, "/tmp/x", 0), EPERM, 19);
        MUST_FAIL(syscall(SYS_clock_settime, 0, buf), EPERM, 20);
        MUST_FAIL(sethostname("x", 1), EPERM, 21);
        MUST_FAIL(syscall(SYS_personality, 0x0400000), EPERM, 22); /* READ_IMPLIES_EXEC */
        MUST_FAIL(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), EPERM, 23);
        MUST_FAIL(syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_SESSION_KEYRING), EPERM, 24);
        if (mkfifo("/tmp/fifo", 0600) < 0)
                return 25; /* control: the harmless kind works */
        return 0;
}
static void kernel_surface_is_closed(void **state) {
        survives(surface);
}

static int sockets(const struct jail_child *c) {
        static const struct {
                int family, type, protocol;
        } bad[] = {
                {AF_NETLINK, SOCK_RAW, 0},    {AF_PACKET, SOCK_RAW, 0},    {AF_VSOCK, SOCK_STREAM, 0},
                {AF_ALG, SOCK_SEQPACKET, 0},  {AF_BLUETOOTH, SOCK_RAW, 0}, {AF_INET, SOCK_RAW, 1},
                {AF_INET, SOCK_DGRAM, 1},     {AF_INET, SOCK_STREAM, 132}, {AF_INET, SOCK_STREAM, 262},
                {AF_INET6, SOCK_STREAM, 262}, {AF_INET, SOCK_RAW, 255},    {AF_XDP, SOCK_RAW, 0},
                {AF_SMC, SOCK_STREAM, 0},     {AF_TIPC, SOCK_STREAM, 0},   {AF_KEY, SOCK_RAW, 2},
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                MUST_FAIL(syscall(SYS_socket, bad[i].family, bad[i].type, bad[i].protocol), EAFNOSUPPORT, (int)i + 1);
        MUST_FAIL(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &on, sizeof(on)), EPERM, 30);
        MUST_FAIL(setsockopt(fd, 6, 31, "tls", 3), EPERM, 31);
        return fd < 0 ? 32 : 0;
}
static void only_plain_sockets_exist(void **state) {
        survives(sockets);
}

static int terminal(const struct jail_child *c) {
        MUST_FAIL(ioctl(0, TIOCSTI, "x"), EPERM, 1);
        MUST_FAIL(syscall(SYS_ioctl, 0, (1ull << 32) | TIOCSTI, "x"), EPERM, 2); /* the kernel ignores the upper half */
        MUST_FAIL(ioctl(0, TIOCLINUX, "\3"), EPERM, 3);
        return open("/dev/tty", O_RDWR) >= 0 ? 4 : 0;
}
static void nothing_can_be_typed_into_a_terminal(void **state) {
        survives(terminal);
}

static int setid(const struct jail_child *c) {
        struct stat st;

        MUST_FAIL(open("/tmp/x", O_CREAT | O_RDWR, 04755), EPERM, 1);
        MUST_FAIL(open("/tmp", O_TMPFILE | O_RDWR, 04755), EPERM, 2);
        int fd = open("/tmp/x", O_CREAT | O_RDWR | O_CLOEXEC, 0755);
        if (fd < 0)
                return 3;
        MUST_FAIL(fchmod(fd, 04755), EPERM, 4);
        MUST_FAIL(chmod("/tmp/x", 02755), EPERM, 5);
        MUST_FAIL(syscall(452, AT_FDCWD, "/tmp/x", 04755, 0), EPERM, 6); /* fchmodat2 */
        struct {
                uint64_t flags, mode, resolve;
        } how = {O_CREAT | O_RDWR, 04755, 0};
        MUST_FAIL(syscall(SYS_openat2, AT_FDCWD, "/tmp/y", &how, sizeof(how)), ENOSYS, 7);
        return fstat(fd, &st) < 0 || (st.st_mode & 06000) ? 8 : 0;
}
static void no_set_user_id_file_can_be_made(void **state) {
        survives(setid);
}

static int memfd(const struct jail_child *c) {
        MUST_FAIL(syscall(SYS_memfd_create, "x", 0), EACCES, 1);
        MUST_FAIL(syscall(SYS_memfd_create, "x", 0x10), EACCES, 2);    /* MFD_EXEC */
        int fd = (int)syscall(SYS_memfd_create, "x", 8 | MFD_CLOEXEC); /* MFD_NOEXEC_SEAL */
        if (fd < 0)
                return memfds_without_exec || errno != EINVAL ? 3 : 0; /* before 6.3 there are none at all */
        static const char script[] = "#!/usr/bin/sh\n";
        if (write(fd, script, sizeof(script) - 1) < 0)
                return 4;
        static const char *const argv[] = {"x", NULL};
        MUST_FAIL(fchmod(fd, 0755), EPERM, 5); /* F_SEAL_EXEC */
        MUST_FAIL(syscall(SYS_execveat, fd, "", argv, argv, AT_EMPTY_PATH), EACCES, 6);
        return 0;
}
static void a_memfd_can_not_be_executed(void **state) {
        survives(memfd);
}

static int core(const struct jail_child *c) {
        struct rlimit r;

        if (getrlimit(RLIMIT_CORE, &r) < 0 || r.rlim_cur != 1 || r.rlim_max != 1)
                return 1;
        r.rlim_cur = 0;
        MUST_FAIL(setrlimit(RLIMIT_CORE, &r), EPERM, 2);
        return 0;
}
static void no_core_dump_starts_anything_on_the_host(void **state) {
        survives(core);
}

static int listener(const struct jail_child *c) {
        MUST_FAIL(syscall(SYS_seccomp, 1, 1 << 3, NULL), EPERM, 1);
        MUST_FAIL(syscall(SYS_prctl, PR_SET_MM, 1, 0, 0, 0), EINVAL, 2);
        return 0;
}
static int runner(const struct jail_child *c) {
        MUST_FAIL(open("/proc/self/exe", O_WRONLY), EACCES, 1);
        MUST_FAIL(open("/proc/1/exe", O_RDONLY), EACCES, 2);
        MUST_FAIL(open("/proc/self/root/proc/1/exe", O_WRONLY), EACCES, 3);
        MUST_FAIL(prctl(PR_SET_PDEATHSIG, 0), EINVAL, 4);
        return 0;
}
static void process_1_can_not_overwrite_its_program_nor_outlive_its_spawner(void **state) {
        survives(runner);
}
static void no_second_seccomp_listener(void **state) {
        survives(listener);
}

/* A key of this run: the tests run in parallel. It is found before the jail is made, and the jail's
 * processes inherit it. */
static key_t ipc_key(void) {
        static key_t key;

        if (key == 0)
                key = (key_t)(0x100000 + getpid());
        return key;
}

static int ipc_make(const struct jail_child *c) {
        return shmget(ipc_key(), 4096, IPC_CREAT | 0666) < 0 ? 1 : 0;
}
static int ipc_find(const struct jail_child *c) {
        MUST_FAIL(shmget(ipc_key(), 4096, 0), ENOENT, 1);
        MUST_FAIL(mq_open("/crew-unit", O_RDONLY), ENOENT, 2);
        return 0;
}
static void ipc_objects_are_not_shared(void **state) {
        int id = shmget(ipc_key(), 4096, IPC_CREAT | 0666); /* ours, outside */

        assert_true(id >= 0);
        survives(ipc_find);
        assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
        survives(ipc_make);
        assert_int_equal(shmget(ipc_key(), 4096, 0), -1);
}

static int network(const struct jail_child *c) {
        static const char script[] =
                "import socket, errno, os, sys\n"
                "ports = int(sys.argv[1]) >= 4\n"
                "def must(es, f, *a):\n"
                "    try: f(*a)\n"
                "    except OSError as x:\n"
                "        if x.errno in es: return\n"
                "        raise\n"
                "    raise SystemExit('%s %s succeeded' % (f, a))\n"
                "s = socket.socket(); must([errno.EACCES if ports else errno.ECONNREFUSED], s.connect, ('127.0.0.1', 22))\n"
                "s = socket.socket()\n"
                "if ports: must([errno.EACCES], s.bind, ('127.0.0.1', 8080))\n"
                "s = socket.socket(); must([errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL], s.sendto, b'x', "
                "0x20000000, ('192.0.2.1', 443))\n"
                "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                "must([errno.ENETUNREACH], u.sendto, b'x', ('192.0.2.1', 53))\n"
                "a = socket.socket(socket.AF_UNIX); must([errno.ECONNREFUSED, errno.EPERM], a.connect, "
                "'\\0crew-unit-abstract')\n"
                "assert open('/proc/net/dev').read().count(':') == 1\n";
        static const char *const argv[] = {"python3", "-c", script, abi_text, NULL};
        return fixture_exec(c, argv);
}
static void there_is_no_network(void **state) {
        struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0crew-unit-abstract"};
        _cleanup_close_ int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* ours, outside */

        bind(s, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + 18));
        listen(s, 1);
        survives_with(0, network); /* in crewctl sandbox loopback TCP is the command's own */
}

/* --- tools --- */

static const struct plan *plan_with_tool(const char *host_dir, uint32_t flags) {
        struct plan_builder *b = fixture_builder(flags, "default", NULL, 0, 1);
        char tool[128];

        snprintf(tool, sizeof(tool), "%s/tool", host_dir);
        fixture_view(b);
        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO, tool, "/opt/tool", 0, 0, 0, 0);
        const uint64_t rx = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE;
        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_rule(b, "/usr", rx | LANDLOCK_ACCESS_FS_READ_DIR, 0);
        plan_add_rule(b, "/dev", 14, 0);
        plan_add_rule(b, "/opt/tool", rx, 0);
        plan_add_layer(b, PLAN_LAYER_AGENT);
        plan_add_rule(b, "/usr", rx | LANDLOCK_ACCESS_FS_READ_DIR, 0);
        plan_add_rule(b, "/dev", 14, 0);
        plan_add_layer(b, PLAN_LAYER_TOOL);
        plan_add_rule(b, "/usr", rx | LANDLOCK_ACCESS_FS_READ_DIR, 0);
        plan_add_rule(b, "/dev", 14, 0);
        plan_add_rule(b, "/opt/tool", rx, 0);
        return fixture_plan(b);
}

static int run_layer(const struct jail_child *c, uint32_t layer, const char *const *argv) {
        static const char *const envp[] = {"PATH=/usr/bin", NULL};
        struct jail_exec x = {.layer = layer, .argv = argv, .envp = envp, .stdio = {-1, -1, -1}};
        int status;
        pid_t pid = jail_exec_program(c->plan, &x);

        if (pid < 0)
                return pid;
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static int tool_layers(const struct jail_child *c) {
        const char *const direct[] = {"/opt/tool", NULL}, *const by_sh[] = {"sh", "/opt/tool", NULL};
        const char *const by_ld[] = {"/usr/lib64/ld-linux-x86-64.so.2", "/opt/tool", NULL};
        const char *const copy[] = {"cp", "/opt/tool", "/tmp/tool", NULL}, *const cat[] = {"cat", "/opt/tool", NULL};
        const char *const outer[] = {"true", NULL};

        if (run_layer(c, 2, direct) != 7)
                return 1; /* control: the tool's own layer runs it */
        if (run_layer(c, 1, direct) != -EACCES)
                return 2;
        if (run_layer(c, 1, by_sh) == 7 || run_layer(c, 1, by_ld) == 7)
                return 3;
        if (run_layer(c, 1, copy) == 0 || run_layer(c, 1, cat) == 0)
                return 4;
        return run_layer(c, 0, outer) == -EINVAL ? 0 : 5; /* nothing runs in the worker's own layer */
}

/* Once a program has run, too: each has a layer of its own, and none has Landlock. */
static int hidden_landlock(const struct jail_child *c) {
        static const char probe[] = "import ctypes, sys\n"
                                    "libc = ctypes.CDLL(None, use_errno=True)\n"
                                    "for nr in (444, 445, 446):\n"
                                    "    for word in (0, 1, 2**32 - 1, 2**64 - 1):\n"
                                    "        if libc.syscall(nr, 0, 0, 1, 0, 0, ctypes.c_uint64(word)) != -1 or "
                                    "ctypes.get_errno() != 38: sys.exit(1)\n"
                                    "sys.exit(42)\n";
        const char *const python[] = {"python3", "-I", "-c", probe, NULL}, *const direct[] = {"/opt/tool", NULL};

        for (uint32_t turn = 0; turn < 3; turn++) {
                if (run_layer(c, 1, python) != 42)
                        return 10;
                if (run_layer(c, 1, direct) != -EACCES)
                        return 11;
                if (run_layer(c, 2, python) != 42)
                        return 12;
                if (run_layer(c, 2, direct) != 7)
                        return 13;
        }
        return 0;
}

static void with_a_tool(uint32_t flags, int (*fn)(const struct jail_child *c)) {
        char dir[] = "/tmp/crew-tool-XXXXXX", path[64];

        assert_non_null(mkdtemp(dir));
        chmod(dir, 0755);
        snprintf(path, sizeof(path), "%s/tool", dir);
        assert_int_equal(crew_write_file_atomic(path, "#!/usr/bin/sh\nexit 7\n", 21, 0755, NULL), 0);
        const struct plan *plan = plan_with_tool(dir, flags);
        int r = fixture_run(plan, fn);
        unlink(path);
        rmdir(dir);
        assert_int_equal(r, 0);
        plan_close(plan);
}

static void a_tool_is_beyond_the_agents_reach(void **state) {
        with_a_tool(0, tool_layers);
}

static void no_program_sees_landlock_where_its_denials_are_evidence(void **state) {
        with_a_tool(PLAN_LANDLOCK_LOG, hidden_landlock);
        with_a_tool(PLAN_LANDLOCK_LOG, tool_layers);
}

static int exec_errors(const struct jail_child *c) {
        const char *const gone[] = {"no-such-program", NULL}, *const dir[] = {"/usr", NULL}, *const none[] = {NULL};

        if (run_layer(c, 1, gone) != -ENOENT || run_layer(c, 1, dir) != -EACCES || run_layer(c, 1, none) != -EINVAL)
                return 1;
        return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 2;
}
static void a_program_that_can_not_start_is_an_error_not_a_dead_child(void **state) {
        survives(exec_errors);
}

/* --- and the ordinary works --- */

static int ordinary(const struct jail_child *c) {
        static const char *const programs[][4] = {
                {"bash", "-c", "set -e; x=$(echo hi | tr a-z A-Z); test $x = HI; cat <(echo y) >/dev/null", NULL},
                {"python3", "-c",
                 "import threading, subprocess, json, ssl, multiprocessing as m, tempfile, socket\n"
                 "t = threading.Thread(target=print); t.start(); t.join()\n"
                 "assert subprocess.run(['true']).returncode == 0\n"
                 "tempfile.NamedTemporaryFile().write(b'x'); socket.socketpair()\n",
                 NULL},
                {"node", "-e",
                 "let f = 0; for (let i = 0; i < 1e6; i++) f += i; require('fs').readFileSync('/etc/passwd');"
                 "new Worker = 1",
                 NULL},
                {"node", "-e",
                 "let f = 0; for (let i = 0; i < 3e6; i++) f += i % 7; require('child_process').execFileSync('true');"
                 "new (require('worker_threads').Worker)('1', {eval: true})",
                 NULL},
                {"git", "--version", NULL},
                {"git", "init", "/tmp/repo", NULL},
                {"curl", "--version", NULL},
                {"sort", "/etc/passwd", NULL},
        };
        for (size_t i = 0; i < ELEMENTSOF(programs); i++) {
                int r = fixture_exec(c, programs[i]);
                bool broken = i == 2; /* control: a program that fails is seen to fail */
                if (r == -ENOENT)
                        continue; /* not installed here */
                if ((r != 0) != broken) {
                        dprintf(2, "# %s: %d\n", programs[i][0], r);
                        return (int)i + 1;
                }
        }
        return 0;
}
static void ordinary_programs_run(void **state) {
        survives(ordinary);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_namespace_can_be_made_or_joined),
                cmocka_unit_test(no_process_can_be_traced_or_read),
                cmocka_unit_test(the_agent_can_not_touch_its_pid_1),
#ifdef __x86_64__
                cmocka_unit_test(other_abis_are_killed),
#endif
                cmocka_unit_test(kernel_surface_is_closed),
                cmocka_unit_test(only_plain_sockets_exist),
                cmocka_unit_test(nothing_can_be_typed_into_a_terminal),
                cmocka_unit_test(no_set_user_id_file_can_be_made),
                cmocka_unit_test(a_memfd_can_not_be_executed),
                cmocka_unit_test(no_core_dump_starts_anything_on_the_host),
                cmocka_unit_test(no_second_seccomp_listener),
                cmocka_unit_test(process_1_can_not_overwrite_its_program_nor_outlive_its_spawner),
                cmocka_unit_test(ipc_objects_are_not_shared),
                cmocka_unit_test(there_is_no_network),
                cmocka_unit_test(a_tool_is_beyond_the_agents_reach),
                cmocka_unit_test(no_program_sees_landlock_where_its_denials_are_evidence),
                cmocka_unit_test(a_program_that_can_not_start_is_an_error_not_a_dead_child),
                cmocka_unit_test(ordinary_programs_run),
        };
        int why, fd = memfd_create("probe", 8);

        snprintf(abi_text, sizeof(abi_text), "%u", landlock_abi(&why));
        memfds_without_exec = fd >= 0;
        crew_close(&fd);
        return fixture_main("attacks", tests, ELEMENTSOF(tests), argc, argv);
}
