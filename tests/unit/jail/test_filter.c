/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seccomp programs, judged by an interpreter of our own instead of by the kernel: every property is asked of every
 * built-in profile, with clean arguments and with garbage in the upper half of the ones the kernel takes as int.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf_run.h"

#include "common/util.h"
#include "worker/sandbox/filter.h"
#include "worker/sandbox/filter_build.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define NO(e) (SECCOMP_RET_ERRNO | (e))
#define HIGH 0xdead000000000000ull

static struct program load(const char *profile) {
        struct program p = {0};
        struct crew_err err = CREW_ERR_NULL;

        if (filter_compile(profile, &p.insns, &p.n, &err) < 0)
                fail_msg("%s", err.msg);
        return p;
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

static uint32_t ask(const struct program *p, int nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) {
        struct seccomp_data d = {.nr = nr, .arch = ARCH, .args = {a0, a1, a2, a3}};
        return bpf_run(p, &d);
}

struct row {
        int nr;
        uint64_t args[4];
        uint64_t int_args; /* bit i: argument i is an int to the kernel */
        uint32_t want;
};

/* As asked, and with bits the kernel does not look at: the verdict must not change. */
static void check_rows(const struct program *p, const struct row *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const struct row *r = &rows[i];
                uint64_t dirty[4];
                for (size_t k = 0; k < 4; k++)
                        dirty[k] = r->args[k] | (r->int_args >> k & 1 ? HIGH : 0);
                uint32_t got = ask(p, r->nr, r->args[0], r->args[1], r->args[2], r->args[3]);
                if (got != r->want)
                        fail_msg("row %zu (call %d): 0x%x, must be 0x%x", i, r->nr, got, r->want);
                got = ask(p, r->nr, dirty[0], dirty[1], dirty[2], dirty[3]);
                if (got != r->want)
                        fail_msg("row %zu (call %d) with upper bits: 0x%x, must be 0x%x", i, r->nr, got, r->want);
        }
}

static void for_each_builtin(void (*check)(const struct program *p)) {
        for (const char *const *name = filter_builtin_names(); *name; name++) {
                struct program p = load(*name);
                check(&p);
                free(p.insns);
        }
}

/* --- properties of every profile --- */

static const struct row always[] = {
        /* namespaces, mounts */
        {SYS_clone3, {0}, 0, NO(ENOSYS)},
        {SYS_clone, {SIGCHLD}, 0, ALLOW},
        {SYS_clone, {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM}, 0, ALLOW},
        {SYS_clone, {CLONE_NEWUSER | SIGCHLD}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWNET}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWNS}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWPID}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWCGROUP}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWIPC}, 0, NO(EPERM)},
        {SYS_clone, {CLONE_NEWUTS}, 0, NO(EPERM)},
        {SYS_unshare, {CLONE_NEWUSER}, 0, NO(EPERM)},
        {SYS_setns, {3}, 0, NO(EPERM)},
        {SYS_mount, {0}, 0, NO(EPERM)},
        {SYS_umount2, {0}, 0, NO(EPERM)},
        {SYS_pivot_root, {0}, 0, NO(EPERM)},
        {SYS_chroot, {0}, 0, NO(EPERM)},
        {SYS_fsopen, {0}, 0, NO(EPERM)},
        {SYS_fsmount, {0}, 0, NO(EPERM)},
        {SYS_move_mount, {0}, 0, NO(EPERM)},
        {SYS_open_tree, {0}, 0, NO(EPERM)},
        {SYS_mount_setattr, {0}, 0, NO(EPERM)},
        {467, {0}, 0, NO(EPERM)}, /* open_tree_attr */
        /* kernel surface */
        {SYS_bpf, {0}, 0, NO(EPERM)},
        {SYS_perf_event_open, {0}, 0, NO(EPERM)},
        {SYS_userfaultfd, {0}, 0, NO(EPERM)},
        {SYS_io_uring_setup, {0}, 0, NO(ENOSYS)},
        {SYS_io_uring_enter, {0}, 0, NO(ENOSYS)},
        {SYS_io_uring_register, {0}, 0, NO(ENOSYS)},
        {SYS_keyctl, {0}, 0, NO(EPERM)},
        {SYS_add_key, {0}, 0, NO(EPERM)},
        {SYS_request_key, {0}, 0, NO(EPERM)},
        {SYS_open_by_handle_at, {0}, 0, NO(EPERM)},
        {SYS_name_to_handle_at, {0}, 0, NO(EPERM)},
        {SYS_pidfd_getfd, {0}, 0, NO(EPERM)},
        {SYS_kexec_load, {0}, 0, NO(EPERM)},
        {SYS_init_module, {0}, 0, NO(EPERM)},
        {SYS_finit_module, {0}, 0, NO(EPERM)},
        {SYS_reboot, {0}, 0, NO(EPERM)},
        {SYS_swapon, {0}, 0, NO(EPERM)},
        {SYS_clock_settime, {0}, 0, NO(EPERM)},
        {SYS_settimeofday, {0}, 0, NO(EPERM)},
        {SYS_sethostname, {0}, 0, NO(EPERM)},
        {SYS_openat2, {0}, 0, NO(ENOSYS)},
        {SYS_fanotify_init, {0}, 0, NO(EPERM)},
        /* sockets */
        {SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0}, 7, ALLOW},
        {SYS_socket, {AF_UNIX, SOCK_SEQPACKET, 0}, 7, ALLOW},
        {SYS_socket, {AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP}, 7, ALLOW},
        {SYS_socket, {AF_INET6, SOCK_DGRAM, IPPROTO_UDP}, 7, ALLOW},
        {SYS_socket, {AF_INET, SOCK_STREAM, 262}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_PACKET, SOCK_RAW, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_socket, {0xffffffff, SOCK_STREAM, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0}, 7, ALLOW},
        {SYS_socketpair, {AF_TIPC, SOCK_STREAM, 0}, 7, NO(EAFNOSUPPORT)},
        {SYS_setsockopt, {3, SOL_SOCKET, SO_REUSEADDR}, 7, ALLOW},
        {SYS_setsockopt, {3, SOL_SOCKET, SO_ATTACH_FILTER}, 7, NO(EPERM)},
        {SYS_setsockopt, {3, SOL_SOCKET, SO_ATTACH_BPF}, 7, NO(EPERM)},
        {SYS_setsockopt, {3, IPPROTO_TCP, TCP_NODELAY}, 7, ALLOW},
        {SYS_setsockopt, {3, IPPROTO_TCP, TCP_ULP}, 7, NO(EPERM)},
        /* terminals */
        {SYS_ioctl, {0, TCGETS}, 3, ALLOW},
        {SYS_ioctl, {0, TIOCSTI}, 3, NO(EPERM)},
        {SYS_ioctl, {0, TIOCLINUX}, 3, NO(EPERM)},
        {SYS_ioctl, {0, TIOCSETD}, 3, NO(EPERM)},
        /* set-user-ID files */
        {SYS_fchmod, {3, 0755}, 3, ALLOW},
        {SYS_fchmod, {3, 04755}, 3, NO(EPERM)},
        {SYS_fchmod, {3, 02755}, 3, NO(EPERM)},
        {SYS_fchmodat, {3, 0, 01777}, 5, ALLOW},
        {SYS_fchmodat, {3, 0, 06755}, 5, NO(EPERM)},
        {452, {3, 0, 0644}, 5, ALLOW},
        {452, {3, 0, 04755}, 5, NO(EPERM)},               /* fchmodat2 */
        {SYS_openat, {3, 0, O_RDONLY, 04755}, 13, ALLOW}, /* no mode is looked at */
        {SYS_openat, {3, 0, O_CREAT | O_WRONLY, 0644}, 13, ALLOW},
        {SYS_openat, {3, 0, O_CREAT | O_WRONLY, 04755}, 13, NO(EPERM)},
        {SYS_openat, {3, 0, O_CREAT | O_WRONLY, 02755}, 13, NO(EPERM)},
        {SYS_openat, {3, 0, O_TMPFILE | O_WRONLY, 04700}, 13, NO(EPERM)},
        {SYS_mknodat, {3, 0, S_IFIFO | 0600}, 5, ALLOW},
        {SYS_mknodat, {3, 0, S_IFCHR | 0600, 0x103}, 5, NO(EPERM)},
        {SYS_mknodat, {3, 0, S_IFBLK | 0600}, 5, NO(EPERM)},
        {SYS_mknodat, {3, 0, S_IFREG | 04755}, 5, NO(EPERM)},
        /* core dumps */
        {SYS_prlimit64, {0, RLIMIT_CORE, 0}, 3, ALLOW},
        {SYS_prlimit64, {0, RLIMIT_CORE, 0x7fff00001000}, 3, NO(EPERM)},
        {SYS_prlimit64, {0, RLIMIT_NOFILE, 0x7fff00001000}, 3, ALLOW},
        {SYS_setrlimit, {RLIMIT_CORE, 0x7fff00001000}, 1, NO(EPERM)},
        /* itself */
        {SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 0}, 1, ALLOW},
        {SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 1 << 3}, 1, NO(EPERM)},
        {SYS_seccomp, {SECCOMP_GET_NOTIF_SIZES, 0}, 1, NO(EINVAL)},
        {SYS_prctl, {PR_SET_NAME}, 1, ALLOW},
        {SYS_prctl, {PR_SET_PDEATHSIG, SIGKILL}, 1, ALLOW},
        {SYS_prctl, {PR_SET_PDEATHSIG, 0}, 1, NO(EINVAL)},
        {SYS_prctl, {PR_SET_PDEATHSIG, SIGCONT}, 1, NO(EINVAL)},
        {SYS_prctl, {PR_SET_NO_NEW_PRIVS}, 1, ALLOW},
        {SYS_prctl, {PR_SET_MM}, 1, NO(EINVAL)},
        {SYS_prctl, {PR_SCHED_CORE}, 1, NO(EINVAL)},
        {SYS_prctl, {59}, 1, NO(EINVAL)}, /* PR_SET_SYSCALL_USER_DISPATCH */
        /* the ordinary */
        {SYS_read, {0}, 0, ALLOW},
        {SYS_execve, {0}, 0, ALLOW},
        {SYS_futex, {0}, 0, ALLOW},
        {SYS_mmap, {0}, 0, ALLOW},
        {SYS_epoll_pwait, {0}, 0, ALLOW},
        {SYS_restart_syscall, {0}, 0, ALLOW},
        {SYS_shmget, {0}, 0, ALLOW},
#ifdef __x86_64__
        {SYS_open, {0, O_CREAT | O_RDWR, 04755}, 6, NO(EPERM)},
        {SYS_open, {0, O_CREAT | O_RDWR, 0644}, 6, ALLOW},
        {SYS_creat, {0, 04755}, 2, NO(EPERM)},
        {SYS_chmod, {0, 04755}, 2, NO(EPERM)},
        {SYS_mknod, {0, S_IFCHR | 0600}, 2, NO(EPERM)},
        {SYS_iopl, {3}, 1, NO(EPERM)},
        {SYS_modify_ldt, {0}, 0, NO(ENOSYS)},
#endif
};

static void check_always(const struct program *p) {
        check_rows(p, always, ELEMENTSOF(always));
}
static void every_profile_keeps_the_walls(void **state) {
        for_each_builtin(check_always);
}

static void check_unknown(const struct program *p) {
        for (int nr = 470; nr < 1024; nr++)
                assert_int_equal(ask(p, nr, 0, 0, 0, 0), NO(ENOSYS));
}
static void future_calls_do_not_exist(void **state) {
        for_each_builtin(check_unknown);
}

static void check_foreign(const struct program *p) {
        const uint32_t archs[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_X86_64 ^ AUDIT_ARCH_AARCH64 ^ ARCH};
        for (size_t i = 0; i < ELEMENTSOF(archs); i++) {
                for (int nr = 0; nr < 512; nr++) {
                        struct seccomp_data d = {.nr = nr, .arch = archs[i]};
                        assert_int_equal(bpf_run(p, &d), KILL);
                }
        }
#ifdef __x86_64__
        for (int nr = 0; nr < 600; nr++) /* x32 */
                assert_int_equal(ask(p, nr | 0x40000000, 0, 0, 0, 0), KILL);
#endif
}
static void foreign_architectures_are_killed(void **state) {
        for_each_builtin(check_foreign);
}

/* --- profiles --- */

static void check_debug_rows(const char *profile, uint32_t ptrace, uint32_t memfd_exec, uint32_t personality) {
        struct program p = load(profile);
        const struct row rows[] = {
                {SYS_ptrace, {0}, 0, ptrace},
                {SYS_process_vm_readv, {0}, 0, ptrace},
                {SYS_memfd_create, {0, 8}, 2, ALLOW},
                {SYS_memfd_create, {0, 1}, 2, memfd_exec},
                {SYS_personality, {0}, 1, ALLOW},
                {SYS_personality, {0xffffffff}, 1, ALLOW},
                {SYS_personality, {0x0040000}, 1, personality},
        };
        check_rows(&p, rows, ELEMENTSOF(rows));
        free(p.insns);
}

static void profiles_add_what_they_say_and_no_more(void **state) {
        check_debug_rows("default", NO(EPERM), NO(EACCES), NO(EPERM));
        check_debug_rows("jit", NO(EPERM), ALLOW, NO(EPERM));
        check_debug_rows("debug", ALLOW, NO(EACCES), ALLOW);
        check_debug_rows("numa", NO(EPERM), NO(EACCES), NO(EPERM));
        struct program aio = load("aio"), plain = load("default");
        assert_int_equal(ask(&aio, SYS_io_setup, 0, 0, 0, 0), ALLOW);
        assert_int_equal(ask(&plain, SYS_io_setup, 0, 0, 0, 0), NO(ENOSYS));
        free(aio.insns);
        free(plain.insns);
}

static void builtin_programs_are_what_the_compiler_makes(void **state) {
        static struct filter_program made;
        for (const struct filter_builtin *b = filter_builtins; b->name; b++) {
                struct filter_profile profile;
                assert_int_equal(filter_profile_parse(b->name, b->text, b->text_len, &profile, NULL), 0);
                assert_int_equal(filter_build(&profile, &made, NULL), 0);
                assert_int_equal(made.n, b->n_insns);
                assert_memory_equal(made.insns, b->insns, made.n * sizeof(made.insns[0]));
        }
}

static void a_profile_cannot_open_the_jail(void **state) {
        static const char *const never[] = {"clone",   "clone3",      "unshare",           "mount",
                                            "setns",   "socket",      "io_uring_setup",    "bpf",
                                            "keyctl",  "openat2",     "pidfd_getfd",       "prctl",
                                            "seccomp", "userfaultfd", "open_by_handle_at", "perf_event_open"};
        for (size_t i = 0; i < ELEMENTSOF(never); i++) {
                char text[64];
                struct filter_profile out;
                struct crew_err err = CREW_ERR_NULL;
                int n = snprintf(text, sizeof(text), "allow %s\n", never[i]);
                assert_int_equal(filter_profile_parse("x.profile", text, (size_t)n, &out, &err), -EINVAL);
                assert_non_null(strstr(err.msg, "x.profile:1: "));
                assert_non_null(strstr(err.msg, never[i]));
        }
}

static void bad_profiles_are_refused_with_their_line(void **state) {
        static const struct {
                const char *text, *want;
        } rows[] = {
                {"# ok\nallow\n", "p:2: expected 'allow NAME'"},
                {"deny ptrace\n", "p:1: expected 'allow NAME'"},
                {"allow ptrace kcmp\n", "p:1: expected 'allow NAME'"},
                {"allow ptrace\n\nallow ptracee # typo\n", "p:3: no system call is named 'ptracee'"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct filter_profile out;
                struct crew_err err = CREW_ERR_NULL;
                assert_int_equal(filter_profile_parse("p", rows[i].text, strlen(rows[i].text), &out, &err), -EINVAL);
                if (strncmp(err.msg, rows[i].want, strlen(rows[i].want)) != 0)
                        fail_msg("'%s' does not begin with '%s'", err.msg, rows[i].want);
        }
        struct filter_profile out;
        assert_int_equal(filter_profile_parse("p", "allow ptrace\0allow bpf\n", 23, &out, NULL), -EINVAL);
}

static void unknown_profile_lists_the_known(void **state) {
        struct sock_filter *insns;
        struct crew_err err = CREW_ERR_NULL;
        size_t n;

        assert_int_equal(filter_compile("jitt", &insns, &n, &err), -ENOENT);
        assert_non_null(strstr(err.msg, "jit, numa"));
        assert_int_equal(filter_compile("../default", &insns, &n, &err), -ENOENT);
}

static void profile_of_the_operator_is_compiled_when_used(void **state) {
        char dir[] = "/tmp/crew-filter-XXXXXX", path[128];
        struct sock_filter *insns;
        size_t n;

        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/etc/seccomp", dir);
        assert_int_equal(crew_mkdir_p(path, 0700, NULL), 0);
        snprintf(path, sizeof(path), "%s/etc/seccomp/mine.profile", dir);
        assert_int_equal(crew_write_file_atomic(path, "allow ptrace\n", 13, 0600, NULL), 0);
        setenv("CREWD_HOME", dir, 1);
        assert_int_equal(filter_compile("mine", &insns, &n, NULL), 0);
        struct program p = {insns, n};
        assert_int_equal(ask(&p, SYS_ptrace, 0, 0, 0, 0), ALLOW);
        assert_int_equal(ask(&p, SYS_kcmp, 0, 0, 0, 0), NO(EPERM));
        free(insns);
        unlink(path);
        snprintf(path, sizeof(path), "%s/etc/seccomp", dir);
        rmdir(path);
        *strrchr(path, '/') = '\0';
        rmdir(path);
        rmdir(dir);
        unsetenv("CREWD_HOME");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_profile_keeps_the_walls),
                cmocka_unit_test(future_calls_do_not_exist),
                cmocka_unit_test(foreign_architectures_are_killed),
                cmocka_unit_test(profiles_add_what_they_say_and_no_more),
                cmocka_unit_test(builtin_programs_are_what_the_compiler_makes),
                cmocka_unit_test(a_profile_cannot_open_the_jail),
                cmocka_unit_test(bad_profiles_are_refused_with_their_line),
                cmocka_unit_test(unknown_profile_lists_the_known),
                cmocka_unit_test(profile_of_the_operator_is_compiled_when_used),
        };
        setenv("CREWD_HOME", "/nonexistent", 1);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
