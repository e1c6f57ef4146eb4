/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What whoever takes crew-gateway, its resolver or the resolver's keeper over finds: calls are made from within the real
 * processes, with a debugger's means.  Needs root, and a build that is not sanitized (such a one is not confined).
 */
#include "gatelib.h"

#include "common/sanitized.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cmocka.h>

#define SECRET "sesame-0123456789"

#ifdef __x86_64__

/* --- calls from within --- */

static struct user_regs_struct was;
static long text_at; /* where a path can be put: below the stack's red zone */

static bool waits_in_a_call(pid_t pid) {
        int status;

        assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
        assert_int_equal(waitpid(pid, &status, __WALL), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &was), 0);
        return (ptrace(PTRACE_PEEKTEXT, pid, was.rip - 2, 0) & 0xffff) == 0x050f;
}

static void seize(pid_t pid) {
        assert_int_equal(ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
        for (int i = 0; !waits_in_a_call(pid); i++) { /* it has just been started */
                assert_in_range(i, 0, 1000);
                assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
                usleep(10000);
        }
        text_at = (long)((was.rsp - 4096) & ~15ull);
}

static void let_go(pid_t pid) {
        assert_int_equal(ptrace(PTRACE_SETREGS, pid, 0, &was), 0);
        assert_int_equal(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
}

/* It stands behind the instruction of the call in which it waited: that one is run again. */
static long call(pid_t pid, long nr, long a, long b, long c) {
        struct user_regs_struct r = was;
        int status;

        r.rip -= 2;
        r.orig_rax = (unsigned long long)-1; /* nothing to restart */
        r.rax = (unsigned long long)nr;
        r.rdi = (unsigned long long)a;
        r.rsi = (unsigned long long)b;
        r.rdx = (unsigned long long)c;
        r.r10 = r.r8 = 0;
        assert_int_equal(ptrace(PTRACE_SETREGS, pid, 0, &r), 0);
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0);
        assert_int_equal(waitpid(pid, &status, __WALL), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &r), 0);
        return (long)r.rax;
}

static long call_with_path(pid_t pid, long nr, const char *path, long first, long more) {
        for (size_t i = 0; i <= strlen(path); i += sizeof(long)) {
                long word = 0;
                memcpy(&word, path + i, MIN_OF(sizeof(word), strlen(path) + 1 - i));
                assert_int_equal(ptrace(PTRACE_POKEDATA, pid, text_at + (long)i, word), 0);
        }
        return nr == SYS_execve ? call(pid, nr, text_at, 0, 0) : call(pid, nr, first, text_at, more);
}

static long opened(pid_t pid, const char *path, int flags) {
        return call_with_path(pid, SYS_openat, path, AT_FDCWD, flags);
}

/* --- which processes --- */

static pid_t child_of(pid_t parent) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
        for (int i = 0; i < 1000; i++) {
                _cleanup_free_ char *text = NULL;
                if (crew_read_file(path, 4096, &text, NULL, NULL) == 0 && *text)
                        return (pid_t)strtol(text, NULL, 10);
                usleep(20000);
        }
        fail_msg("process %d has no child", parent);
        return -1;
}

/* Until it is as confined as it gets. */
static void await_confined(pid_t pid) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        for (int i = 0; i < 1000; i++) {
                _cleanup_free_ char *text = NULL;
                assert_int_equal(crew_read_file(path, 65536, &text, NULL, NULL), 0);
                if (strstr(text, "\nSeccomp:\t2\n")) {
                        assert_non_null(strstr(text, "\nNoNewPrivs:\t1\n"));
                        assert_non_null(strstr(text, "\nCapPrm:\t0000000000000000\n"));
                        assert_non_null(strstr(text, "\nUid:\t65534\t65534\t65534\t65534\n"));
                        return;
                }
                usleep(20000);
        }
        fail_msg("process %d is not confined", pid);
}

static void expect_nothing_to_run(pid_t pid) {
        assert_int_equal(call_with_path(pid, SYS_execve, "/bin/true", 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_ptrace, PTRACE_ATTACH, getpid(), 0), -EPERM);
        assert_int_equal(call(pid, SYS_process_vm_readv, getpid(), 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_kill, getpid(), 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_unshare, CLONE_NEWUSER, 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_listen, 0, 1, 0), -EPERM);
        assert_int_equal(call(pid, SYS_io_uring_setup, 1, 0, 0), -EPERM);
}

static void the_gateway_has_connections_and_nothing_else(void **state) {
        static const int families[] = {AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG};
        const pid_t pid = world.gateway;

        await_confined(pid);
        seize(pid);
        assert_int_equal(opened(pid, "/etc/passwd", O_RDONLY), -EPERM);
        assert_int_equal(opened(pid, "/proc/self/environ", O_RDONLY), -EPERM);
        assert_int_equal(opened(pid, "/tmp/x", O_RDWR | O_CREAT), -EPERM);
        for (size_t i = 0; i < ELEMENTSOF(families); i++)
                assert_int_equal(call(pid, SYS_socket, families[i], SOCK_DGRAM, 0), -EAFNOSUPPORT);
        assert_int_equal(call(pid, SYS_clone, SIGCHLD, 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_clone3, 0, 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_bind, 0, 0, 0), -EPERM);
        assert_int_equal(call(pid, SYS_pidfd_open, 1, 0, 0), -EPERM);
        expect_nothing_to_run(pid);
        assert_in_range(call(pid, SYS_socket, AF_INET, SOCK_STREAM, 0), 3, 4096); /* its work */
        let_go(pid);
}

static void the_resolver_reads_configuration_and_nothing_else(void **state) {
        const pid_t keeper = child_of(world.gateway);

        await_confined(keeper);
        const pid_t pids[] = {keeper, child_of(keeper)};
        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                const pid_t pid = pids[i];
                seize(pid);
                assert_in_range(opened(pid, "/etc/resolv.conf", O_RDONLY), 3, 4096); /* its work */
                assert_int_equal(opened(pid, "/etc/shadow", O_RDONLY), -EACCES);
                assert_int_equal(opened(pid, "/proc/self/status", O_RDONLY), -EACCES);
                assert_int_equal(opened(pid, "/tmp", O_RDONLY | O_DIRECTORY), -EACCES);
                assert_int_equal(opened(pid, "/tmp/crew-taken-over", O_RDWR | O_CREAT), -EACCES);
                assert_int_equal(call(pid, SYS_memfd_create, text_at, 0, 0), -EPERM);
                expect_nothing_to_run(pid);
                let_go(pid);
        }
}

/* Nor the descriptors: its own, and standard input to error. */
static void the_resolver_has_nothing_of_the_gateways(void **state) {
        const pid_t keeper = child_of(world.gateway), pids[] = {keeper, child_of(keeper)};
        char path[64];

        await_confined(keeper);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                _cleanup_free_ char *environment = NULL;
                size_t n;
                snprintf(path, sizeof(path), "/proc/%d/environ", pids[i]);
                assert_int_equal(crew_read_file(path, 1 << 20, &environment, &n, NULL), 0);
                assert_null(memmem(environment, n, SECRET, strlen(SECRET)));
                for (int fd = 4; fd < 64; fd++) {
                        snprintf(path, sizeof(path), "/proc/%d/fd/%d", pids[i], fd);
                        assert_int_equal(access(path, F_OK), -1);
                }
        }
}

#endif

/* crewd waits for it, whatever has become of the instance. */
static void each_removal_is_answered(void **state) {
        add(0);
        for (uint32_t id = 6; id < 9; id++) {
                world_send(&world, (struct gate_msg){.op = GATE_REMOVE, .id = id}, NULL, 0);
                assert_int_equal(world_expect(&world, GATE_REMOVED).id, id);
        }
}

/* The one that is there keeps what it has. */
static void an_instance_is_added_once(void **state) {
        int in, out;

        add(0);
        world_add(&world, &jail, 7, policy_of(NULL, 0, 0, 2));
        for (int i = 0; i < 8; i++) {
                pair_up(&in, &out);
                close(in);
                close(out);
                world_expect(&world, GATE_ALLOWED);
                world_expect(&world, GATE_CLOSED);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                SCENE(each_removal_is_answered),
                SCENE(an_instance_is_added_once),
#ifdef __x86_64__
                SCENE(the_resolver_has_nothing_of_the_gateways),
                SCENE(the_gateway_has_connections_and_nothing_else),
                SCENE(the_resolver_reads_configuration_and_nothing_else),
#endif
        };
        const size_t all = ELEMENTSOF(tests), simple = 2;

        setenv("A_SECRET", SECRET, 1);
        return scene_main(argc, argv, tests, geteuid() == 0 && !CREW_SANITIZED ? all : simple);
}
