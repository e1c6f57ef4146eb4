/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real crew-evidence against the real kernel: small jails made by hand do what an agent would, and what crewd would
 * be told is compared with what was done.  Root mode needs root and Landlock ABI 7; rootless mode is tried as nobody.
 */
#include "common/evidence.h"
#include "common/kernel.h"
#include "common/landlock.h"
#include "common/sanitized.h"
#include "common/util.h"
#include "supervisor/evidence/marks.h"
#include "tests/unit/skipped.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cmocka.h>

#define AGENT_UID 265000u /* of the range for agents, far from the slots that a crew takes first */
#define LOG_NEW_EXEC_ON 2u
#define MESSAGES_MAX 20000
#define PATIENCE_MS 60000 /* for what comes at once unless the machine is busy */

static const char *program; /* crew-evidence */
static char base[64];

struct helper {
        int fd;
        pid_t pid;
        uint32_t sources;
};

static struct evidence_msg *got; /* events and losses, in order */
static size_t n_got;

static bool receive(struct helper *h, struct evidence_msg *m, int timeout_ms) {
        struct pollfd p = {.fd = h->fd, .events = POLLIN};

        if (poll(&p, 1, timeout_ms) != 1)
                return false;
        ssize_t n = recv(h->fd, m, sizeof(*m), 0);
        return n == (ssize_t)sizeof(*m);
}

static void start_helper(struct helper *h, uid_t uid) {
        struct evidence_msg m;
        int pair[2];
        char number[12];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        fflush(NULL);
        h->pid = fork();
        assert_true(h->pid >= 0);
        if (h->pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGTERM);
                close(pair[0]);
                if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
                        _exit(99);
                snprintf(number, sizeof(number), "%d", pair[1]);
                execl(program, program, "--fd", number, NULL);
                _exit(99);
        }
        close(pair[1]);
        h->fd = pair[0];
        fcntl(h->fd, F_SETFD, FD_CLOEXEC);
        assert_true(receive(h, &m, PATIENCE_MS));
        assert_int_equal(m.op, EVIDENCE_HELLO);
        h->sources = m.flags;
        n_got = 0;
}

static void stop_helper(struct helper *h) {
        int status = -1;

        close(h->fd);
        assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void watch(struct helper *h, uint32_t id, pid_t pid, uid_t uid, const char *path, int notify_fd) {
        struct evidence_msg m = {.op = EVIDENCE_WATCH, .id = id, .pid = pid, .uid = uid};

        m.path_len = path ? (uint32_t)strlen(path) + 1 : 0;
        if (path)
                strcpy(m.path, path);
        assert_int_equal(crew_send_fds(h->fd, &m, sizeof(m), &notify_fd, notify_fd >= 0), sizeof(m));
}

/* Collects everything of the instance until it is forgotten. */
static void forget(struct helper *h, uint32_t id) {
        struct evidence_msg m = {.op = EVIDENCE_FORGET, .id = id};

        assert_int_equal(send(h->fd, &m, sizeof(m), 0), sizeof(m));
        while (receive(h, &m, PATIENCE_MS)) {
                if (m.op == EVIDENCE_FORGOTTEN && m.id == id)
                        return;
                assert_true(n_got < MESSAGES_MAX);
                got[n_got++] = m;
        }
        fail_msg("instance %u is not forgotten", id);
}

/* It does what it is told in order: all that was said before has been done when it has forgotten one that it never knew. */
static void be_heard(struct helper *h) {
        forget(h, 4711);
}

/* How often it was reported; access NULL: any. */
static uint64_t reported(uint32_t id, uint32_t what, const char *access, const char *path) {
        uint64_t sum = 0;

        for (size_t i = 0; i < n_got; i++) {
                const struct evidence_msg *m = &got[i];
                if (m->op == EVIDENCE_EVENT && m->id == id && m->what == what &&
                    (!access || strcmp(m->access, access) == 0) &&
                    (!path || (m->path_len == strlen(path) && memcmp(m->path, path, m->path_len) == 0)))
                        sum += m->count;
        }
        return sum;
}

static uint64_t lost(uint32_t id, uint64_t *unknown) {
        uint64_t sum = 0;

        *unknown = 0;
        for (size_t i = 0; i < n_got; i++) {
                if (got[i].op == EVIDENCE_LOST && (got[i].id == id || got[i].id == 0)) {
                        sum += got[i].count;
                        *unknown += got[i].count == 0;
                }
        }
        return sum;
}

static void dump(void) {
        for (size_t i = 0; i < n_got && i < 60; i++)
                fprintf(stderr, "# op %u id %u source %u what %u count %u pid %d access %s path %.*s\n", got[i].op,
                        got[i].id, got[i].source, got[i].what, got[i].count, got[i].pid, got[i].access,
                        (int)got[i].path_len, got[i].path);
}

static void expect(uint32_t id, uint32_t what, const char *access, const char *path, uint64_t count) {
        uint64_t n = reported(id, what, access, path);

        if (n != count) {
                dump();
                fail_msg("%s of %s was reported %llu times, not %llu", access ? access : "any", path ? path : "any",
                         (unsigned long long)n, (unsigned long long)count);
        }
}

/* --- a jail made by hand --- */

struct jail {
        pid_t pid;
        int to, from; /* one byte each way */
        int notify;
};

typedef void (*agent_fn)(void);

static int restrict_self(const char *readable, uint32_t flags) {
        struct {
                uint64_t fs, net, scoped;
        } attr = {.fs = (1u << 16) - 1, .net = 3, .scoped = 3};
        int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
        struct landlock_path_beneath_attr rule = {.allowed_access =
                                                          LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                                                          LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                                                          LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_REMOVE_FILE};

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (readable) {
                rule.parent_fd = open(readable, O_PATH | O_CLOEXEC);
                if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                        return -errno;
        }
        return (int)syscall(SYS_landlock_restrict_self, ruleset, flags);
}

static void meet(int from, int to) {
        char c = 0;

        if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
                _exit(1);
}

/* View: / is a tmpfs with /data (the bind mount of <base>/data), /secret (a decoy) and nothing else. */
static void enter_view(void) {
        char from[128];

        snprintf(from, sizeof(from), "%s/data", base);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", "/mnt", "tmpfs", 0, NULL) < 0 || mkdir("/mnt/data", 0755) < 0 || mkdir("/mnt/old", 0755) < 0 ||
            mount(from, "/mnt/data", NULL, MS_BIND, NULL) < 0 || chdir("/mnt") < 0)
                _exit(90);
        int fd = open("secret", O_CREAT | O_WRONLY, 0444);
        close(fd);
        fd = open("se\n\"cret", O_CREAT | O_WRONLY, 0444);
        close(fd);
        fd = open("prog", O_CREAT | O_WRONLY, 0555);
        close(fd);
        if (syscall(SYS_pivot_root, ".", "old") < 0 || umount2("/old", MNT_DETACH) < 0 || chdir("/") < 0)
                _exit(91);
}

/* uid AGENT_UID + n; the agent part runs in a further domain of a child, as under a worker. */
static struct jail start_jail(unsigned n, agent_fn self_test, agent_fn agent) {
        int up[2], down[2];

        assert_int_equal(pipe(up), 0);
        assert_int_equal(pipe(down), 0);
        fflush(NULL);
        struct jail j = {.pid = fork(), .to = down[1], .from = up[0], .notify = -1};
        assert_true(j.pid >= 0);
        if (j.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(down[1]);
                close(up[0]);
                enter_view();
                if (setgroups(0, NULL) || setresgid(AGENT_UID + n, AGENT_UID + n, AGENT_UID + n) ||
                    setresuid(AGENT_UID + n, AGENT_UID + n, AGENT_UID + n) || restrict_self("/data", LOG_NEW_EXEC_ON) < 0)
                        _exit(92);
                if (self_test)
                        self_test();
                meet(down[0], up[1]); /* up */
                pid_t child = fork();
                if (child == 0) {
                        if (restrict_self("/data", LOG_NEW_EXEC_ON) == 0)
                                agent();
                        _exit(0);
                }
                waitpid(child, NULL, 0);
                meet(down[0], up[1]); /* done */
                _exit(0);
        }
        close(down[0]);
        close(up[1]);
        char c;
        assert_int_equal(read(j.from, &c, 1), 1);
        return j;
}

static void let_go(struct jail *j) {
        assert_int_equal(write(j->to, "", 1), 1);
}

static void end_jail(struct jail *j) {
        int status = -1;
        char c;

        assert_int_equal(read(j->from, &c, 1), 1);
        let_go(j);
        assert_int_equal(waitpid(j->pid, &status, 0), j->pid);
        assert_int_equal(status, 0);
        close(j->to);
        close(j->from);
}

static void need_root_mode(void) {
        if (geteuid() != 0)
                skip_because("root mode needs root");
        if (crew_landlock_abi() < 7)
                skip_because("this kernel has no Landlock ABI 7");
        if (crew_probe(CREW_PROBE_AUDIT) < 0)
                skip_because("this kernel has no auditing");
}

/* --- root mode --- */

static void try_secret(void) {
        close(open("/secret", O_RDONLY));
}

static void try_denials(void) {
        char path[32];

        for (int i = 0; i < 3; i++)
                close(open("/secret", O_RDONLY));
        close(open("/se\n\"cret", O_RDONLY));
        snprintf(path, sizeof(path), "/new");
        close(open(path, O_CREAT | O_WRONLY, 0600));
        execl("/prog", "prog", NULL);
        mkdir("/data/dir", 0700);
}

static void denials_carry_path_right_and_agent(void **state) {
        struct helper h;

        need_root_mode();
        start_helper(&h, 0);
        assert_true(h.sources & EVIDENCE_LANDLOCK);
        struct jail j = start_jail(0, NULL, try_denials);
        watch(&h, 7, j.pid, AGENT_UID, NULL, -1);
        be_heard(&h);
        let_go(&j);
        end_jail(&j);
        forget(&h, 7);
        expect(7, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret", 3);
        expect(7, EVIDENCE_FILE_DENIED, "fs.read_file", "/se\n\"cret", 1);
        expect(7, EVIDENCE_FILE_DENIED, "fs.make_reg", "/", 1);
        expect(7, EVIDENCE_FILE_DENIED, "fs.execute,fs.read_file", "/prog", 1);
        expect(7, EVIDENCE_FILE_DENIED, "fs.make_dir", "/data", 1);
        expect(7, EVIDENCE_FILE_DENIED, NULL, NULL, 7);
        stop_helper(&h);
}

/* The record may come before crewd has heard that the instance is up. */
static void denials_before_the_watch_are_not_lost(void **state) {
        struct helper h;

        need_root_mode();
        start_helper(&h, 0);
        struct jail j = start_jail(8, try_secret, try_secret);
        usleep(100000);
        watch(&h, 8, j.pid, AGENT_UID + 8, NULL, -1);
        let_go(&j);
        end_jail(&j);
        forget(&h, 8);
        expect(8, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret", 2);
        stop_helper(&h);
}

static void two_agents_are_told_apart(void **state) {
        struct helper h;

        need_root_mode();
        start_helper(&h, 0);
        struct jail a = start_jail(1, NULL, try_secret), b = start_jail(2, NULL, try_denials);
        watch(&h, 1, a.pid, AGENT_UID + 1, NULL, -1);
        watch(&h, 2, b.pid, AGENT_UID + 2, NULL, -1);
        be_heard(&h);
        let_go(&a);
        let_go(&b);
        end_jail(&a);
        end_jail(&b);
        forget(&h, 1);
        forget(&h, 2);
        expect(1, EVIDENCE_FILE_DENIED, NULL, NULL, 1);
        expect(2, EVIDENCE_FILE_DENIED, NULL, NULL, 7);
        stop_helper(&h);
}

/* Somebody else on this host, in a pid namespace of its own, under the agent's uid.  Has been denied, and lives on. */
static struct jail start_stranger(unsigned n) {
        int up[2], down[2], status = -1;

        assert_int_equal(pipe(up), 0);
        assert_int_equal(pipe(down), 0);
        struct jail s = {.pid = fork(), .to = down[1], .from = up[0]};
        if (s.pid == 0) {
                close(down[1]);
                close(up[0]);
                enter_view();
                if (unshare(CLONE_NEWPID) < 0)
                        _exit(1);
                pid_t child = fork();
                if (child == 0) {
                        if (setgroups(0, NULL) || setresgid(1, 1, 1) ||
                            setresuid(AGENT_UID + n, AGENT_UID + n, AGENT_UID + n) ||
                            restrict_self("/data", LOG_NEW_EXEC_ON) < 0)
                                _exit(1);
                        close(open("/secret", O_RDONLY));
                        meet(down[0], up[1]);
                        _exit(0);
                }
                close(up[1]);
                waitpid(child, &status, 0);
                _exit(status != 0);
        }
        close(down[0]);
        close(up[1]);
        char c;
        assert_int_equal(read(s.from, &c, 1), 1);
        return s;
}

static void end_stranger(struct jail *s) {
        int status = -1;

        let_go(s);
        assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
        assert_int_equal(status, 0);
        close(s->to);
        close(s->from);
}

static void a_stranger_with_the_same_uid_is_not_the_agent(void **state) {
        struct helper h;

        need_root_mode();
        start_helper(&h, 0);
        struct jail j = start_jail(9, NULL, try_denials), later = start_jail(10, NULL, try_secret);
        watch(&h, 9, j.pid, AGENT_UID + 9, NULL, -1);
        watch(&h, 10, later.pid, AGENT_UID + 10, NULL, -1);
        be_heard(&h);
        struct jail stranger = start_stranger(9);
        let_go(&later);
        end_jail(&later);
        forget(&h, 10); /* so what came before that has been looked at, while who did it was there */
        expect(10, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret", 1);
        end_stranger(&stranger);
        let_go(&j);
        end_jail(&j);
        forget(&h, 9);
        expect(9, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret", 3);
        expect(9, EVIDENCE_FILE_DENIED, NULL, NULL, 7);
        stop_helper(&h);
}

#define STORM 100000
static void storm(void) {
        for (int i = 0; i < STORM; i++)
                close(open("/secret", O_RDONLY));
}

static long resident_kib(pid_t pid) {
        char path[64], line[128];
        long kib = 0;

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                (void)sscanf(line, "VmHWM: %ld", &kib);
        fclose(f);
        return kib;
}

/* What arrived and what is said to be lost add up to what was done. */
static void a_storm_is_counted_exactly_in_bounded_memory(void **state) {
        struct helper h;
        uint64_t unknown;

        need_root_mode();
        start_helper(&h, 0);
        struct jail j = start_jail(3, NULL, storm);
        watch(&h, 3, j.pid, AGENT_UID + 3, NULL, -1);
        be_heard(&h);
        uint64_t t = crew_now_ns();
        let_go(&j);
        end_jail(&j);
        t = crew_now_ns() - t;
        forget(&h, 3);
        uint64_t n = reported(3, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret"), gone = lost(3, &unknown);
        fprintf(stderr, "# %d denials in %.0f ms, %llu reported, %llu lost, %zu messages, %ld KiB\n", STORM,
                (double)t / 1e6, (unsigned long long)n, (unsigned long long)gone, n_got, resident_kib(h.pid));
        /* A helper that had to wait for a processor too long lost records, and says that; the sum's was perhaps one of
         * them. */
        if (gone > 0 || !unknown)
                assert_int_equal(n + gone, STORM);
        else
                assert_true(n <= STORM);
        assert_true(n_got < 5000);
        assert_true(resident_kib(h.pid) < 64 * 1024);
        stop_helper(&h);
}

static void long_storm(void) {
        for (int i = 0; i < 4; i++)
                storm();
}

/* The helper sleeps through a storm that its receive buffer cannot hold: what the kernel dropped is reported, to the
 * record. */
static void what_the_kernel_drops_is_reported_exactly(void **state) {
        struct helper h;
        uint64_t unknown;

        need_root_mode();
        start_helper(&h, 0);
        struct jail j = start_jail(7, NULL, long_storm);
        watch(&h, 7, j.pid, AGENT_UID + 7, NULL, -1);
        be_heard(&h);
        kill(h.pid, SIGSTOP);
        let_go(&j);
        end_jail(&j);
        usleep(300000); /* the domain's last record comes late */
        kill(h.pid, SIGCONT);
        forget(&h, 7);
        uint64_t n = reported(7, EVIDENCE_FILE_DENIED, NULL, NULL), gone = lost(7, &unknown);
        fprintf(stderr, "# %llu reported, %llu lost, %llu times said that something is missing\n", (unsigned long long)n,
                (unsigned long long)gone, (unsigned long long)unknown);
        assert_true(unknown > 0);
        /* The record of the domain's end may be among the dropped; then that something is missing is all there is to say.
         */
        if (gone > 0)
                assert_int_equal(n + gone, 4 * STORM);
        else
                assert_true(n < 4 * STORM);
        stop_helper(&h);
}

static void different_paths(void) {
        char path[64];

        for (int i = 0; i < 20000; i++) {
                snprintf(path, sizeof(path), "/data/f%d", i);
                mkdir("/data/x", 0700);
                (void)!symlink("x", path); /* denied: names the directory only */
                snprintf(path, sizeof(path), "/secret");
                close(open(path, i % 2 ? O_RDONLY : O_RDWR));
        }
}

static void a_slow_crewd_gets_counts_not_a_queue(void **state) {
        struct helper h;
        uint64_t unknown;

        need_root_mode();
        start_helper(&h, 0);
        struct jail j = start_jail(4, NULL, different_paths);
        watch(&h, 4, j.pid, AGENT_UID + 4, NULL, -1);
        be_heard(&h);
        let_go(&j);
        end_jail(&j); /* nobody has read the socket so far */
        forget(&h, 4);
        uint64_t n = reported(4, EVIDENCE_FILE_DENIED, NULL, NULL), gone = lost(4, &unknown);
        /* Opening an empty 0444 file for writing is refused by its mode before Landlock is asked. */
        if (gone > 0 || !unknown)
                assert_int_equal(n + gone, 20000 + 20000 + 10000);
        else
                assert_true(n <= 20000 + 20000 + 10000);
        stop_helper(&h);
}

static void read_and_write(void) {
        int fd = open("/data/in", O_RDONLY);
        char c;

        (void)!read(fd, &c, 1);
        close(fd);
        usleep(20000);
        fd = open("/data/out", O_CREAT | O_WRONLY, 0600);
        (void)!write(fd, "x", 1);
        close(fd);
        usleep(20000);
        if (chdir("/data") == 0)
                close(open("s p\xff\n", O_RDONLY));
        close(open("/secret", O_RDONLY));
}

static void allowed_opens_and_writes_are_seen_on_policy_mounts(void **state) {
        struct helper h;
        char path[128];

        need_root_mode();
        snprintf(path, sizeof(path), "%s/data/in", base);
        close(open(path, O_CREAT | O_WRONLY, 0644));
        snprintf(path, sizeof(path), "%s/data/s p\xff\n", base);
        close(open(path, O_CREAT | O_WRONLY, 0644));
        start_helper(&h, 0);
        assert_true(h.sources & EVIDENCE_FANOTIFY);
        struct jail j = start_jail(5, NULL, read_and_write);
        watch(&h, 5, j.pid, AGENT_UID + 5, "/data", -1);
        be_heard(&h);
        snprintf(path, sizeof(path), "%s/data/in", base);
        close(open(path, O_RDONLY)); /* outside: another mount, no event */
        let_go(&j);
        end_jail(&j);
        forget(&h, 5);
        expect(5, EVIDENCE_FILE_OPEN_READ, NULL, "/data/in", 1);
        expect(5, EVIDENCE_FILE_MODIFIED, NULL, "/data/out", 1);
        expect(5, EVIDENCE_FILE_OPEN_READ, NULL, "/data/s p\xff\n", 1);
        expect(5, EVIDENCE_FILE_OPEN_READ, NULL, NULL, 2);
        expect(5, EVIDENCE_FILE_DENIED, "fs.read_file", "/secret", 1);
        for (size_t i = 0; i < n_got; i++)
                assert_true(got[i].source != EVIDENCE_FANOTIFY || got[i].pid > 0);
        stop_helper(&h);
}

/* More instances than there are queues: the last ones share one, with each other. */
static void those_without_a_queue_of_their_own_are_watched_too(void **state) {
        const uint32_t n = MARKS_OWN_QUEUES + 2;
        struct helper h;
        char path[128];

        need_root_mode();
        snprintf(path, sizeof(path), "%s/data/in", base);
        close(open(path, O_CREAT | O_WRONLY, 0644));
        start_helper(&h, 0);
        struct jail j = start_jail(5, NULL, read_and_write), k = start_jail(6, NULL, read_and_write);
        for (uint32_t id = 100; id < 100 + n; id++)
                watch(&h, id, j.pid, AGENT_UID + 5, id < 100 + MARKS_OWN_QUEUES ? "/data" : NULL, -1);
        watch(&h, 5, j.pid, AGENT_UID + 5, "/data", -1);
        watch(&h, 6, k.pid, AGENT_UID + 6, "/data", -1);
        be_heard(&h);
        let_go(&j);
        end_jail(&j);
        let_go(&k);
        end_jail(&k);
        forget(&h, 5);
        forget(&h, 6);
        expect(5, EVIDENCE_FILE_OPEN_READ, NULL, "/data/in", 1);
        expect(5, EVIDENCE_FILE_MODIFIED, NULL, "/data/out", 1); /* which then is no other agent's to write */
        expect(6, EVIDENCE_FILE_OPEN_READ, NULL, "/data/in", 1);
        stop_helper(&h);
}

struct audit_view {
        uint32_t enabled, backlog_limit, backlog_wait_time;
};

static struct audit_view audit_status(void) {
        struct {
                struct nlmsghdr head;
                char room[1024];
        } b = {.head = {.nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = AUDIT_GET, .nlmsg_flags = NLM_F_REQUEST}};
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
        struct audit_status s = {0};

        assert_int_equal(send(fd, &b, b.head.nlmsg_len, 0), b.head.nlmsg_len);
        assert_true(recv(fd, &b, sizeof(b), 0) > NLMSG_HDRLEN);
        memcpy(&s, NLMSG_DATA(&b.head), sizeof(s));
        return (struct audit_view){s.enabled, s.backlog_limit, s.backlog_wait_time};
}

/* The crews of this host that use auditing hold a lock on this file; looked at, not taken: that could keep one of them
 * from being the last. */
static bool used_by_others(void) {
        struct stat st;
        char want[64], line[256];
        bool used = false;

        if (stat("/run/crewd/audit-state", &st) < 0)
                return false;
        snprintf(want, sizeof(want), " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev), (unsigned long long)st.st_ino);
        FILE *f = fopen("/proc/locks", "r");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                used |= strstr(line, want) != NULL;
        fclose(f);
        return used;
}

/* The status at a moment when nobody else uses auditing; false: they did all the time. */
static bool status_of_nobody(struct audit_view *v) {
        for (int i = 0; i < 100; i++) {
                if (!used_by_others()) {
                        *v = audit_status();
                        if (!used_by_others())
                                return true;
                }
                usleep(100000);
        }
        return false;
}

static void kernel_auditing_is_put_back_by_the_last_user(void **state) {
        struct helper one, two;
        struct audit_view before, after;

        need_root_mode();
        if (!status_of_nobody(&before))
                skip_because("a crew of somebody else uses kernel auditing");
        start_helper(&one, 0);
        start_helper(&two, 0);
        struct audit_view on = audit_status();
        assert_int_equal(on.enabled, MAX_OF(before.enabled, 1u));
        /* No agent's denials make others wait; but where the host has its own auditing, the backlog is the host's. */
        assert_int_equal(on.backlog_wait_time, before.enabled ? before.backlog_wait_time : 0);
        assert_int_equal(on.backlog_limit, before.enabled ? before.backlog_limit : MAX_OF(before.backlog_limit, 65536u));
        stop_helper(&one);
        assert_int_equal(audit_status().enabled, MAX_OF(before.enabled, 1u));
        /* The other still hears. */
        struct jail j = start_jail(6, NULL, try_secret);
        watch(&two, 6, j.pid, AGENT_UID + 6, NULL, -1);
        be_heard(&two);
        let_go(&j);
        end_jail(&j);
        forget(&two, 6);
        expect(6, EVIDENCE_FILE_DENIED, NULL, "/secret", 1);
        stop_helper(&two);
        if (!status_of_nobody(&after)) /* which is the last now */
                skip_because("a crew of somebody else has come meanwhile");
        assert_int_equal(after.enabled, before.enabled);
        assert_int_equal(after.backlog_limit, before.backlog_limit);
        assert_int_equal(after.backlog_wait_time, before.backlog_wait_time);
}

#if !CREW_SANITIZED /* such a build keeps what its leak checker needs */
static void the_helper_keeps_four_capabilities_and_no_more(void **state) {
        struct helper h;
        char path[64], line[256];
        unsigned long long eff = 0, bnd = 0;
        int uid = -1, seccomp = -1, nnp = -1;

        need_root_mode();
        start_helper(&h, 0);
        snprintf(path, sizeof(path), "/proc/%d/status", h.pid);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                (void)sscanf(line, "CapEff: %llx", &eff);
                (void)sscanf(line, "CapBnd: %llx", &bnd);
                (void)sscanf(line, "Uid: %d", &uid);
                (void)sscanf(line, "Seccomp: %d", &seccomp);
                (void)sscanf(line, "NoNewPrivs: %d", &nnp);
        }
        fclose(f);
        assert_int_equal(__builtin_popcountll(eff), 4);
        assert_int_equal(seccomp, 2);
        assert_int_equal(nnp, 1);
        assert_int_equal(uid, 65534);
        stop_helper(&h);
}
#endif

/* --- rootless mode --- */

#define NOTIFY(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
#define NOTIFY_ROW(number, dir, path, what) NOTIFY(number),

static int install_listener(void) {
        struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                EVIDENCE_NOTIFY_CALLS(NOTIFY_ROW) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog prog = {.len = ELEMENTSOF(insns), .filter = insns};

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                            SECCOMP_FILTER_FLAG_NEW_LISTENER | (1u << 5) /* WAIT_KILLABLE_RECV */, &prog);
}

static struct jail start_listened(uid_t uid, agent_fn agent) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        fflush(NULL);
        struct jail j = {.pid = fork(), .to = pair[0], .from = pair[0], .notify = -1};
        assert_true(j.pid >= 0);
        if (j.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
                        _exit(90);
                prctl(PR_SET_DUMPABLE, 1);
                int fd = install_listener();
                if (fd < 0 || crew_send_fds(pair[1], "", 1, &fd, 1) != 1)
                        _exit(91);
                close(fd);
                char c;
                if (read(pair[1], &c, 1) != 1)
                        _exit(92);
                agent();
                _exit(0);
        }
        close(pair[1]);
        char c;
        size_t n = 1;
        assert_int_equal(crew_recv_fds(pair[0], &c, 1, &j.notify, &n, MSG_CMSG_CLOEXEC), 1);
        assert_int_equal(n, 1);
        return j;
}

static void end_listened(struct jail *j) {
        int status = -1;

        assert_int_equal(waitpid(j->pid, &status, 0), j->pid);
        assert_int_equal(status, 0);
        close(j->to);
}

static char link_there[128], none_there[160]; /* of this run: there may be another */

static void attempt_things(void) {
        char hostname_there[160], page_end[3 * 4096], *edge = (char *)(((uintptr_t)page_end + 8191) & ~(uintptr_t)4095) - 4;

        if (chdir("/etc/ssl/..") < 0)
                _exit(1);
        close(open("/etc/shadow", O_RDONLY));
        close(open("gshadow", O_RDONLY));
        close(openat(open("/etc", O_PATH), "../etc/./sudoers", O_RDONLY));
        const char *const links[] = {"/dev/fd/%d/fstab", "/proc/self/fd/%d/crypttab", "/dev/fd/%d/../srv/x"};
        for (size_t i = 0; i < ELEMENTSOF(links); i++) { /* round about */
                char path[64];
                snprintf(path, sizeof(path), "%.*s%d%s", (int)(strchr(links[i], '%') - links[i]), links[i],
                         open("/etc", O_PATH), strchr(links[i], '%') + 2);
                close(open(path, O_RDONLY));
        }
        close(open("/proc/self/root/etc/gshadow-", O_RDONLY));
        close(open("/proc/self/cwd/subuid", O_RDONLY));
        close(open("//dev/fd/../fd/0/x", O_RDONLY));
        close(open("/usr/lib/os-release", O_RDONLY)); /* runtime */
        close(open("/data/in", O_RDONLY));
        close(open("/tmp/watched/x\n", O_WRONLY | O_CREAT, 0600));
        close(open("/tmp/private", O_RDONLY));
        close(open(none_there, O_RDONLY)); /* nowhere */
        (void)!symlink("/etc", link_there);
        snprintf(hostname_there, sizeof(hostname_there), "%s/hostname", link_there);
        close(open(hostname_there, O_RDONLY)); /* out of the private directory */
        unlink(link_there);
        memcpy(edge, "/etc/a-b-c", 11); /* a path across two pages */
        close(open(edge, O_RDONLY));
        (void)!open((const char *)16, O_RDONLY);
        unlink("/etc/hostname-of-no-one");
        (void)!truncate("/srv/none", 0);
        if (fork() == 0) {
                execl("/bin/true", "true", NULL);
                _exit(1);
        }
        wait(NULL);
}

static void attempts_are_seen_rootless(void **state) {
        struct helper h;
        uid_t uid = geteuid() == 0 ? 65533 : 0;

        start_helper(&h, uid);
        if (!(h.sources & EVIDENCE_NOTIFY)) {
                stop_helper(&h);
                skip_because("this kernel has no seccomp user notification");
        }
        struct jail j = start_listened(uid, attempt_things);
        watch(&h, 9, j.pid, uid, "/tmp/watched", j.notify);
        close(j.notify);
        let_go(&j);
        end_listened(&j);
        forget(&h, 9);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/shadow", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/gshadow", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/sudoers", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/fstab", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/crypttab", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/srv/x", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/gshadow-", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/subuid", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/dev/fd/0/x", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/data/in", 1);
        expect(9, EVIDENCE_ATTEMPT, "write", "/tmp/watched/x\n", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/a-b-c", 1);
        expect(9, EVIDENCE_ATTEMPT, "write", "/etc/hostname-of-no-one", 1);
        expect(9, EVIDENCE_ATTEMPT, "write", "/srv/none", 1);
        expect(9, EVIDENCE_ATTEMPT, "exec", "/bin/true", 1);
        expect(9, EVIDENCE_ATTEMPT, "read", "/etc/hostname", 1);
        expect(9, EVIDENCE_ATTEMPT, NULL, none_there, 0);
        expect(9, EVIDENCE_ATTEMPT, NULL, "/usr/lib/os-release", 0);
        expect(9, EVIDENCE_ATTEMPT, NULL, "/tmp/private", 0);
        stop_helper(&h);
}

/* One program, three ways: as the worker, as what it forked, and executed again through a mount of the agent's view. */
static void be_the_worker_and_the_agent(void) {
        char again[128], self[256] = "";
        int status = -1;
        pid_t pid;

        close(open("/etc/as-the-worker", O_RDONLY));
        if ((pid = fork()) == 0) {
                close(open("/etc/as-its-fork", O_RDONLY));
                _exit(0);
        }
        waitpid(pid, NULL, 0);
        snprintf(again, sizeof(again), "%s/again", base);
        close(open(again, O_CREAT | O_WRONLY, 0755));
        if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount(self, again, NULL, MS_BIND, NULL) < 0)
                _exit(93);
        if ((pid = fork()) == 0) {
                execl(again, again, "--open", "/etc/as-the-agent", NULL);
                _exit(94);
        }
        waitpid(pid, &status, 0);
        _exit(status != 0);
}

static void the_worker_is_told_by_where_it_was_executed(void **state) {
        struct helper h;

        if (geteuid() != 0)
                skip_because("root mode needs root");
        start_helper(&h, 0);
        struct jail j = start_listened(0, be_the_worker_and_the_agent);
        watch(&h, 12, j.pid, 0, NULL, j.notify);
        close(j.notify);
        let_go(&j);
        end_listened(&j);
        forget(&h, 12);
        expect(12, EVIDENCE_ATTEMPT, NULL, "/etc/as-the-worker", 0);
        expect(12, EVIDENCE_ATTEMPT, NULL, "/etc/as-its-fork", 0);
        expect(12, EVIDENCE_ATTEMPT, "read", "/etc/as-the-agent", 1);
        stop_helper(&h);
}

#define DEATHS 300
static _Atomic unsigned *calls; /* that came to an end, in memory shared with those that make them */

/* Threads of several processes that die in the middle of notified calls must not hang the helper for the others. */
static void die_often(void) {
        for (unsigned i = 0; i < DEATHS; i++) {
                unsigned before = *calls;
                pid_t pid = fork();
                if (pid == 0) {
                        for (;; ++*calls)
                                close(open("/etc/shadow", O_RDONLY));
                }
                while (*calls == before) /* it is at it */
                        usleep(300);
                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
        }
}

static void processes_that_die_in_a_call_do_not_hang_the_helper(void **state) {
        struct helper h;
        uid_t uid = geteuid() == 0 ? 65533 : 0;

        start_helper(&h, uid);
        if (!(h.sources & EVIDENCE_NOTIFY)) {
                stop_helper(&h);
                skip_because("this kernel has no seccomp user notification");
        }
        struct jail a = start_listened(uid, die_often), b = start_listened(uid, attempt_things);
        watch(&h, 10, a.pid, uid, NULL, a.notify);
        watch(&h, 11, b.pid, uid, NULL, b.notify);
        close(a.notify);
        close(b.notify);
        let_go(&a);
        let_go(&b);
        end_listened(&b);
        end_listened(&a);
        forget(&h, 11);
        expect(11, EVIDENCE_ATTEMPT, "read", "/etc/shadow", 1);
        forget(&h, 10);
        uint64_t unknown, n = reported(10, EVIDENCE_ATTEMPT, "read", "/etc/shadow") + lost(10, &unknown);
        assert_true(*calls >= DEATHS);
        assert_true(n >= *calls || unknown);
        stop_helper(&h);
}

static void an_unknown_instance_is_forgotten_at_once(void **state) {
        struct helper h;

        start_helper(&h, geteuid() == 0 ? 65533 : 0);
        forget(&h, 4711);
        stop_helper(&h);
}

static void an_instance_too_many_is_said_to_be_lost(void **state) {
        struct evidence_msg m = {0};
        struct helper h;

        start_helper(&h, geteuid() == 0 ? 65534 : 0);
        for (uint32_t id = 1; id <= EVIDENCE_INSTANCES_MAX; id++)
                watch(&h, id, getpid(), AGENT_UID, NULL, -1);
        assert_false(receive(&h, &m, 200));
        watch(&h, EVIDENCE_INSTANCES_MAX + 1, getpid(), AGENT_UID, NULL, -1);
        assert_true(receive(&h, &m, PATIENCE_MS));
        assert_int_equal(m.op, EVIDENCE_LOST);
        assert_int_equal(m.id, EVIDENCE_INSTANCES_MAX + 1);
        assert_int_equal(m.source, EVIDENCE_NOTIFY);
        stop_helper(&h);
}

static int setup(void **state) {
        char path[80];

        strcpy(base, "/tmp/crew-evidence.XXXXXX");
        got = malloc(MESSAGES_MAX * sizeof(*got));
        calls = mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!got || calls == MAP_FAILED || !mkdtemp(base) || chmod(base, 0755) < 0)
                return -1;
        snprintf(link_there, sizeof(link_there), "%s/data/link", base);
        snprintf(none_there, sizeof(none_there), "%s/none", link_there);
        snprintf(path, sizeof(path), "%s/data", base);
        return mkdir(path, 0777) < 0 || chmod(path, 0777) < 0 ? -1 : 0;
}

static int teardown(void **state) {
        char cmd[128];

        free(got);
        snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
        return system(cmd);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(denials_carry_path_right_and_agent),
                cmocka_unit_test(denials_before_the_watch_are_not_lost),
                cmocka_unit_test(two_agents_are_told_apart),
                cmocka_unit_test(a_stranger_with_the_same_uid_is_not_the_agent),
                cmocka_unit_test(a_storm_is_counted_exactly_in_bounded_memory),
                cmocka_unit_test(what_the_kernel_drops_is_reported_exactly),
                cmocka_unit_test(a_slow_crewd_gets_counts_not_a_queue),
                cmocka_unit_test(allowed_opens_and_writes_are_seen_on_policy_mounts),
                cmocka_unit_test(those_without_a_queue_of_their_own_are_watched_too),
                cmocka_unit_test(kernel_auditing_is_put_back_by_the_last_user),
#if !CREW_SANITIZED
                cmocka_unit_test(the_helper_keeps_four_capabilities_and_no_more),
#endif
                cmocka_unit_test(attempts_are_seen_rootless),
                cmocka_unit_test(the_worker_is_told_by_where_it_was_executed),
                cmocka_unit_test(processes_that_die_in_a_call_do_not_hang_the_helper),
                cmocka_unit_test(an_unknown_instance_is_forgotten_at_once),
                cmocka_unit_test(an_instance_too_many_is_said_to_be_lost),
        };
        if (argc == 3 && strcmp(argv[1], "--open") == 0)
                return close(open(argv[2], O_RDONLY)) == 0;
        if (argc != 2)
                return 2;
        program = argv[1];
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
