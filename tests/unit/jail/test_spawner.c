/* SPDX-License-Identifier: Apache-2.0 */
/* The spawner as crewd sees it: messages in, messages and descriptors out, nothing left when crewd goes. */
#include "fixture.h"

#include "common/util.h"
#include "worker/spawner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PATIENCE_MS 60000 /* for what comes at once unless the machine is busy */

static int sock;
static pid_t spawner;

/* The "worker": says who it is over its link, then does what the link says. */
static void worker(const struct jail_child *c, void *user) {
        char cmd = 0;

        if (c->link_fd >= 0 && (write(c->link_fd, "up", 2) != 2 || read(c->link_fd, &cmd, 1) != 1))
                _exit(9);
        if (cmd == 'f' && fork() == 0) {
                (void)!write(c->link_fd, "f", 1);
                for (;;)
                        pause();
        }
        if (cmd == 'x')
                _exit(5);
        for (;;)
                pause();
}

static struct spawn_msg receive(int *fds, size_t *n_fds) {
        struct spawn_msg m;
        struct pollfd p = {.fd = sock, .events = POLLIN};
        size_t none = 0;

        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        assert_int_equal(crew_recv_fds(sock, &m, sizeof(m), fds, n_fds ? n_fds : &none, 0), sizeof(m));
        return m;
}

static int setup(void **state) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        spawner = fork();
        if (spawner == 0) {
                close(pair[0]);
                _exit(spawner_main(pair[1], worker));
        }
        close(pair[1]);
        sock = pair[0];
        struct spawn_msg hello = receive(NULL, NULL);
        assert_int_equal(hello.op, SPAWN_HELLO);
        return 0;
}

static int teardown(void **state) {
        int status;

        crew_close(&sock);
        assert_int_equal(waitpid(spawner, &status, 0), spawner);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
}

static void ask(uint32_t op, uint32_t id, const char *text, const int *fds, size_t n) {
        struct spawn_msg m = {.op = op, .id = id};

        snprintf(m.text, sizeof(m.text), "%s", text);
        assert_int_equal(crew_send_fds(sock, &m, sizeof(m), fds, n), sizeof(m));
}

static uint32_t plan_flags;

/* A fresh sealed memfd of the standard plan. */
static int plan_fd(void) {
        const struct plan *plan = fixture_standard(plan_flags);
        int fd = crew_sealed_memfd("plan", plan, plan->total_bytes, NULL);

        plan_close(plan);
        assert_true(fd >= 0);
        return fd;
}

static char link_path[64];
static int link_listen_at(void) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(link_path, sizeof(link_path), "/tmp/crew-link-%d", getpid());
        unlink(link_path);
        strcpy(a.sun_path, link_path);
        assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(s, 8), 0);
        return s;
}

/* Starts instance id; *link is connected, *pidfd ours. */
static struct spawn_msg start(uint32_t id, int *link, int *pidfd) {
        _cleanup_close_ int listener = link_listen_at(), plan = plan_fd();
        char up[2];
        size_t n = 1;

        ask(SPAWN_START, id, link_path, &plan, 1);
        struct spawn_msg m = receive(pidfd, &n);
        if (m.op != SPAWN_READY)
                fail_msg("%s: %s", m.step, m.text);
        assert_int_equal(m.id, id);
        assert_int_equal(n, 1);
        *link = accept(listener, NULL, NULL);
        unlink(link_path);
        struct ucred cred;
        socklen_t len = sizeof(cred);
        assert_int_equal(getsockopt(*link, SOL_SOCKET, SO_PEERCRED, &cred, &len), 0);
        assert_int_equal(cred.pid, m.att.pid); /* what crewd compares before it handles a frame */
        assert_int_equal(crew_read_full(*link, up, 2), 0);
        return m;
}

static void a_jail_is_started_attested_and_linked(void **state) {
        int link, pidfd;
        struct spawn_msg m = start(7, &link, &pidfd);

        assert_int_equal(m.att.seccomp_mode, 2);
        assert_int_equal(write(link, "x", 1), 1);
        m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_EXITED);
        assert_int_equal(m.id, 7);
        assert_int_equal(m.exit.code, 5);
        close(link);
        close(pidfd);
}

static void a_kill_is_answered_when_all_are_gone(void **state) {
        int link, pidfd;

        start(1, &link, &pidfd);
        char forked;
        assert_int_equal(write(link, "f", 1), 1);
        assert_int_equal(read(link, &forked, 1), 1);
        ask(SPAWN_KILL, 1, "", NULL, 0);
        ask(SPAWN_KILL, 1, "", NULL, 0); /* twice is once */
        ask(SPAWN_KILL, 99, "", NULL, 0);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_EXITED);
        assert_int_equal(m.exit.signal, SIGKILL);
        assert_int_equal(m.exit.processes, 2);
        assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), -1);
        assert_int_equal(errno, ESRCH);
        close(link);
        close(pidfd);
}

static void others_live_on_when_one_is_killed(void **state) {
        int link[2], pidfd[2];

        start(1, &link[0], &pidfd[0]);
        start(2, &link[1], &pidfd[1]);
        ask(SPAWN_KILL, 1, "", NULL, 0);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.id, 1);
        assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd[1], 0, NULL, 0), 0);
        ask(SPAWN_STATS, 2, "", NULL, 0);
        m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_STATS_REPLY);
        assert_int_equal(m.id, 2);
        assert_int_equal(m.stats.processes, 1);
        for (int i = 0; i < 2; i++) {
                close(link[i]);
                close(pidfd[i]);
        }
}

static void a_bad_plan_is_answered_not_believed(void **state) {
        _cleanup_close_ int garbage = crew_sealed_memfd("plan", "garbage", 7, NULL), good = plan_fd();

        ask(SPAWN_START, 1, "", &garbage, 1);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_FAILED);
        assert_int_equal(m.errno_, EPROTO);
        assert_string_equal(m.step, "plan");
        ask(SPAWN_START, 2, "", NULL, 0);
        assert_int_equal(receive(NULL, NULL).op, SPAWN_FAILED);
        /* Nobody listens: the child says so, by its own step. */
        ask(SPAWN_START, 3, "/tmp/crew-nobody-listens", &good, 1);
        m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_FAILED);
        assert_int_equal(m.errno_, ENOENT);
        assert_string_equal(m.step, "link");
        assert_string_equal(m.text, "/tmp/crew-nobody-listens: No such file or directory");
        /* An id in use. */
        int link, pidfd;
        start(4, &link, &pidfd);
        ask(SPAWN_START, 4, "", &good, 1);
        assert_int_equal(receive(NULL, NULL).op, SPAWN_FAILED);
        close(link);
        close(pidfd);
}

static bool gone_within(pid_t pid, int ms) {
        for (int i = 0; i < ms; i++) {
                if (kill(pid, 0) < 0 && errno == ESRCH)
                        return true;
                usleep(1000);
        }
        return false;
}

/* A jail that does not get on: its first word is for a listener that takes no more connections. */
struct stuck {
        int listener, other;
        char path[64];
};

static void start_stuck(struct stuck *s, uint32_t id) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        _cleanup_close_ int plan = plan_fd();

        s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        s->other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        snprintf(s->path, sizeof(s->path), "/tmp/crew-stuck-%d", getpid());
        unlink(s->path);
        strcpy(a.sun_path, s->path);
        assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(s->listener, 0), 0);
        assert_int_equal(connect(s->other, (struct sockaddr *)&a, sizeof(a)), 0);
        ask(SPAWN_START, id, s->path, &plan, 1);
}

/* Its turn has come. */
static void let_get_on(struct stuck *s) {
        close(accept(s->listener, NULL, NULL));
}

static void end_stuck(struct stuck *s) {
        unlink(s->path);
        close(s->listener);
        close(s->other);
}

static void a_start_that_hangs_keeps_no_other_waiting(void **state) {
        struct stuck stuck;
        int link, pidfd;
        size_t n = 1;

        start_stuck(&stuck, 1);
        start(2, &link, &pidfd);
        assert_int_equal(write(link, "x", 1), 1);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_EXITED);
        assert_int_equal(m.id, 2);
        close(pidfd);
        let_get_on(&stuck);
        m = receive(&pidfd, &n);
        assert_int_equal(m.op, SPAWN_READY);
        assert_int_equal(m.id, 1);
        close(link);
        close(pidfd);
        end_stuck(&stuck);
}

static void a_start_can_be_killed(void **state) {
        struct stuck stuck;

        start_stuck(&stuck, 1);
        ask(SPAWN_KILL, 1, "", NULL, 0);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_EXITED);
        assert_int_equal(m.id, 1);
        assert_int_equal(m.exit.signal, SIGKILL);
        end_stuck(&stuck);
}

static void what_is_asked_of_a_start_is_done_when_it_is_made(void **state) {
        struct stuck stuck;
        size_t n = 1;
        int pidfd;

        start_stuck(&stuck, 1);
        ask(SPAWN_STATS, 1, "", NULL, 0);
        let_get_on(&stuck);
        assert_int_equal(receive(&pidfd, &n).op, SPAWN_READY);
        struct spawn_msg m = receive(NULL, NULL);
        assert_int_equal(m.op, SPAWN_STATS_REPLY);
        assert_int_equal(m.stats.processes, 1);
        close(pidfd);
        end_stuck(&stuck);
}

/* Looks for the plan in the memory of the next one's jail. */
static void a_start_is_not_in_the_memory_of_the_next(void **state) {
        char path[64], line[512];
        struct stuck stuck;
        int link, pidfd, plans = 0;

        start_stuck(&stuck, 1);
        struct spawn_msg m = start(2, &link, &pidfd);
        snprintf(path, sizeof(path), "/proc/%d/maps", m.att.pid);
        FILE *f = fopen(path, "re");
        if (!f) { /* not dumpable any more, and we are not root */
                print_message("skipped: %s cannot be read\n", path);
        } else {
                while (fgets(line, sizeof(line), f))
                        plans += strstr(line, "/memfd:plan") != NULL;
                fclose(f);
                assert_int_equal(plans, 1); /* its own */
        }
        ask(SPAWN_KILL, 1, "", NULL, 0);
        assert_int_equal(receive(NULL, NULL).op, SPAWN_EXITED);
        close(link);
        close(pidfd);
        end_stuck(&stuck);
}

static void starts_die_with_crewd(void **state) {
        struct stuck stuck;

        start_stuck(&stuck, 1);
        crew_close(&sock);
        end_stuck(&stuck); /* teardown() waits for the spawner, which ends when nothing of it lives */
}

static void everything_dies_with_crewd(void **state) {
        int link[3], pidfd[3];
        pid_t pid[3];

        for (uint32_t i = 0; i < 3; i++)
                pid[i] = start(i, &link[i], &pidfd[i]).att.pid;
        crew_close(&sock); /* as when crewd is killed */
        for (int i = 0; i < 3; i++) {
                assert_true(gone_within(pid[i], PATIENCE_MS));
                close(link[i]);
                close(pidfd[i]);
        }
}

static void hold_for(uint64_t ms, const int fds[2]) {
        const struct spawn_msg m = {.op = SPAWN_HOLD, .hold.ms = ms};

        assert_int_equal(crew_send_fds(sock, &m, sizeof(m), fds, ms ? 2 : 0), sizeof(m));
}

static int listen_for_visitors(void) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/crew-held-%d", getpid());
        unlink(a.sun_path);
        assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(s, 4), 0);
        unlink(a.sun_path);
        return s;
}

static bool spawner_has_ended(int ms) {
        siginfo_t info = {0};

        for (int i = 0; i < ms && info.si_pid == 0; i++) {
                usleep(1000);
                assert_int_equal(waitid(P_PID, (id_t)spawner, &info, WEXITED | WNOHANG | WNOWAIT), 0);
        }
        return info.si_pid == spawner;
}

/* crewd dies right after it has said that nothing is to be held any more, and has not read all that it was told. */
static void the_last_word_of_a_crewd_counts(bool unread, bool asks_before) {
        int fds[2] = {listen_for_visitors(), crew_sealed_memfd("state", "state", 5, NULL)}, link, pidfd;

        plan_flags = PLAN_HOLD;
        start(1, &link, &pidfd);
        plan_flags = 0;
        hold_for(5 * PATIENCE_MS, fds);
        ask(SPAWN_STATS, 1, "", NULL, 0);
        assert_int_equal(poll(&(struct pollfd){.fd = sock, .events = POLLIN}, 1, PATIENCE_MS), 1);
        if (!unread)
                receive(NULL, NULL);
        kill(spawner, SIGSTOP);
        if (asks_before)
                ask(SPAWN_STATS, 1, "", NULL, 0);
        hold_for(0, NULL);
        crew_close(&sock);
        kill(spawner, SIGCONT);
        assert_true(spawner_has_ended(PATIENCE_MS));
        for (size_t i = 0; i < 2; i++)
                close(fds[i]);
        close(link);
        close(pidfd);
}

static void the_last_word_counts(void **state) {
        the_last_word_of_a_crewd_counts(false, false);
}

static void the_last_word_counts_of_one_that_has_not_read_all(void **state) {
        the_last_word_of_a_crewd_counts(true, false);
}

static void the_last_word_counts_behind_one_that_nobody_can_be_told_about(void **state) {
        the_last_word_of_a_crewd_counts(false, true);
}

static void everything_dies_with_the_spawner(void **state) {
        int link, pidfd, status;
        pid_t pid = start(1, &link, &pidfd).att.pid;
        char text[512];

        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
                         0); /* not every init of a container waits for orphans */
        kill(spawner, SIGKILL);
        assert_int_equal(waitpid(spawner, &status, 0), spawner);
        for (int i = 0; i < PATIENCE_MS && waitpid(pid, &status, WNOHANG) == 0; i++)
                usleep(1000);
        assert_true(gone_within(pid, 1));
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
        jail_sweep(text, sizeof(text));
        close(link);
        close(pidfd);
        crew_close(&sock);
        setup(state); /* and the next one starts clean */
}

int main(int argc, char **argv) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_jail_is_started_attested_and_linked),
                TEST(a_kill_is_answered_when_all_are_gone),
                TEST(others_live_on_when_one_is_killed),
                TEST(a_bad_plan_is_answered_not_believed),
                TEST(a_start_that_hangs_keeps_no_other_waiting),
                TEST(a_start_can_be_killed),
                TEST(what_is_asked_of_a_start_is_done_when_it_is_made),
                TEST(a_start_is_not_in_the_memory_of_the_next),
                TEST(starts_die_with_crewd),
                TEST(everything_dies_with_crewd),
                TEST(the_last_word_counts),
                TEST(the_last_word_counts_of_one_that_has_not_read_all),
                TEST(the_last_word_counts_behind_one_that_nobody_can_be_told_about),
                TEST(everything_dies_with_the_spawner),
        };
        (void)fixture_hold_sweeps(false); /* as long as we live */
        return fixture_main("spawner", tests, ELEMENTSOF(tests), argc, argv);
}
