/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_crewd.h"

#include "common/util.h"
#include "worker/worker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PATIENCE_MS 60000 /* for what comes at once unless the machine is busy */

/* ---- the worker's side ---- */

static pid_t plain_exec(const struct plan *plan, const struct jail_exec *x) {
        pid_t pid = fork();

        if (pid != 0)
                return pid < 0 ? -errno : pid;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (x->new_session)
                setsid();
        for (int i = 0; i < 3; i++)
                dup2(x->stdio[i], i);
        execve(x->argv[0], (char *const *)(uintptr_t)x->argv, (char *const *)(uintptr_t)x->envp);
        _exit(127);
}

static void add_program(struct plan_builder *b, enum plan_program_kind kind, enum plan_driver driver, const char *name,
                        const char *interpreter, const char *script, uint64_t timeout_ms, uint64_t max_output) {
        const char *argv[] = {interpreter, "-c", script};

        assert_true(plan_add_program(b, kind, driver, name, argv, 3, 1, timeout_ms, max_output) >= 0);
}

static void *make_plan(const struct fake_agent *a) {
        struct plan head = {.crew = "test-crew",
                            .agent = "tester",
                            .incarnation = 1,
                            .host_uid = 1000,
                            .host_gid = 1000,
                            .inner_uid = 1000,
                            .inner_gid = 1000};
        struct crew_err err = CREW_ERR_NULL;
        void *block = NULL;
        size_t n;

        struct plan_builder *b = plan_builder_new(&head);
        assert_non_null(b);
        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_layer(b, PLAN_LAYER_AGENT);
        plan_add_env(b, "PATH", "/usr/local/bin:/usr/bin:/bin");
        add_program(b, PLAN_PROGRAM_AGENT, a->driver, "tester", a->python ? "/usr/bin/python3" : "/bin/sh",
                    a->python ? a->python : a->script, 0, a->max_output ? a->max_output : 4u << 20);
        for (size_t i = 0; i < ELEMENTSOF(a->tools) && a->tools[i].name; i++)
                add_program(b, PLAN_PROGRAM_TOOL, PLAN_DRIVER_NONE, a->tools[i].name, "/bin/sh", a->tools[i].script,
                            a->tools[i].timeout_ms ? a->tools[i].timeout_ms : 10000, 65536);
        if (plan_builder_finish(b, &block, &n, &err) < 0)
                fail_msg("plan: %s", err.msg);
        plan_builder_free(b);
        return block;
}

static _Noreturn void run_worker(struct fake_crewd *f, int fd) {
        const struct worker_config c = {.plan = f->plan, .link_fd = fd, .socket_path = f->socket, .exec = plain_exec};

        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
                dprintf(2, "# cannot mount /proc in the namespace: %s\n", strerror(errno));
        close(f->fd);
        _exit(worker_run(&c));
}

/* ---- crewd's side ---- */

static void send_bytes(struct fake_crewd *f, const void *p, size_t n) {
        if (crew_write_full(f->fd, p, n) < 0 && errno != EPIPE)
                fail_msg("cannot write to the worker: %s", strerror(errno));
}

uint64_t fake_send(struct fake_crewd *f, Crew__Envelope *e) {
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *bytes;
        size_t n;

        e->version = 1;
        e->seq = ++f->seq_out;
        if (ipc_pack(e, SPWIRE_HEADER_BYTES, &bytes, &n, &err) < 0)
                fail_msg("pack: %s", err.msg);
        spwire_header(bytes, n);
        send_bytes(f, bytes, SPWIRE_HEADER_BYTES + n);
        free(bytes);
        return f->seq_out;
}

static bool read_more(struct fake_crewd *f) {
        struct pollfd p = {.fd = f->fd, .events = POLLIN};
        uint8_t *where;
        size_t room;

        if (poll(&p, 1, PATIENCE_MS) <= 0)
                fail_msg("the worker says nothing");
        assert_int_equal(spwire_in_room(&f->in, &where, &room), 0);
        ssize_t r = recv(f->fd, where, room, 0);
        if (r <= 0)
                return false;
        spwire_in_added(&f->in, (size_t)r);
        return true;
}

bool fake_is_quiet(struct fake_crewd *f, int ms) {
        struct pollfd p = {.fd = f->fd, .events = POLLIN};

        return f->in.taken == f->in.used && poll(&p, 1, ms) == 0;
}

const Crew__Envelope *fake_next(struct fake_crewd *f) {
        const Crew__Envelope *e;
        struct ipc_refusal ref;
        const uint8_t *frame;
        size_t n;
        int r;

        while ((r = spwire_in_next(&f->in, &frame, &n)) == 0)
                if (!read_more(f))
                        return NULL;
        assert_int_equal(r, 1);
        if (ipc_accept(f->arena, IPC_WORKER, IPC_STATE_ANY, frame, n, &e, &ref) != IPC_ACCEPTED)
                fail_msg("the worker's frame is refused: %s %s", ref.field, ref.rule);
        assert_true(ipc_seq_next(&f->seq_in, e->seq));
        return e;
}

static bool passed_over(struct fake_crewd *f, const Crew__Envelope *e) {
        size_t n = strlen(f->observed);

        if (e->body_case == CREW__ENVELOPE__BODY_OBSERVED) {
                snprintf(f->observed + n, sizeof(f->observed) - n, "%s: %s\n", e->observed->what, e->observed->detail);
                return true;
        }
        if (e->body_case != CREW__ENVELOPE__BODY_STDERR_TEXT)
                return false;
        f->stderr_bytes += e->stderr_text->text.len;
        f->stderr_dropped += e->stderr_text->dropped;
        n = strlen(f->stderr_text);
        snprintf(f->stderr_text + n, sizeof(f->stderr_text) - n, "%.*s", (int)e->stderr_text->text.len,
                 (const char *)e->stderr_text->text.data);
        return true;
}

const Crew__Envelope *fake_expect(struct fake_crewd *f, Crew__Envelope__BodyCase body) {
        for (;;) {
                const Crew__Envelope *e = fake_next(f);
                if (!e)
                        fail_msg("the worker hung up");
                if (e->body_case == body)
                        return e;
                if (!passed_over(f, e))
                        fail_msg("unexpected frame %s", ipc_body_name(e));
        }
}

static void greet(struct fake_crewd *f, const struct fake_agent *a) {
        Crew__Welcome welcome = CREW__WELCOME__INIT;

        send_bytes(f, spwire_hello, SPWIRE_HELLO_BYTES);
        const Crew__Envelope *e = fake_expect(f, CREW__ENVELOPE__BODY_HELLO);
        assert_string_equal(e->hello->agent, "tester");
        assert_int_equal(e->hello->incarnation, 1);
        if (a->no_welcome)
                return;
        welcome.protocol = 1;
        fake_send(f, &FAKE_ENVELOPE(WELCOME, .welcome = &welcome));
        fake_expect(f, CREW__ENVELOPE__BODY_READY);
}

void fake_start(struct fake_crewd *f, const struct fake_agent *a) {
        unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
        int fds[2];

        signal(SIGPIPE, SIG_IGN);
        mallopt(M_MMAP_THRESHOLD, 64 << 10); /* as crew-worker does */
        mallopt(M_TRIM_THRESHOLD, 64 << 10);
        *f = (struct fake_crewd){.plan = make_plan(a), .arena = ipc_arena_new(ipc_max_frame[IPC_WORKER] + (128u << 10))};
        spwire_in_init(&f->in, ipc_max_frame[IPC_WORKER]);
        strcpy(f->dir, "/tmp/crew-worker-test.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->socket, sizeof(f->socket), "%s/agent.sock", f->dir);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        f->fd = fds[0];
        fflush(NULL);
        f->pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
        assert_true(f->pid >= 0);
        if (f->pid == 0)
                run_worker(f, fds[1]);
        close(fds[1]);
        greet(f, a);
}

int fake_wait(struct fake_crewd *f) {
        int status;

        for (int i = 0; waitpid(f->pid, &status, WNOHANG) == 0; i++) {
                if (i * 5 > PATIENCE_MS)
                        fail_msg("the worker does not end");
                usleep(5000);
        }
        crew_close(&f->fd);
        unlink(f->socket);
        rmdir(f->dir);
        free(f->plan);
        spwire_in_fini(&f->in);
        ipc_arena_free(f->arena);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int fake_stop(struct fake_crewd *f) {
        crew_close(&f->fd);
        return fake_wait(f);
}

void fake_task(struct fake_crewd *f, const char *id, const char *input, uint64_t timeout_ms) {
        Crew__TaskStart t = CREW__TASK_START__INIT;

        t.task_id = (char *)id;
        t.task = (char *)"collect";
        t.input = (char *)input;
        t.timeout_ms = timeout_ms;
        fake_send(f, &FAKE_ENVELOPE(TASK_START, .task_start = &t));
}

const Crew__TaskResult *fake_result(struct fake_crewd *f) {
        return fake_expect(f, CREW__ENVELOPE__BODY_TASK_RESULT)->task_result;
}

unsigned fake_processes(struct fake_crewd *f) {
        Crew__Ping ping = CREW__PING__INIT;
        uint64_t seq = fake_send(f, &FAKE_ENVELOPE(PING, .ping = &ping));
        const Crew__Envelope *e = fake_expect(f, CREW__ENVELOPE__BODY_PONG);

        assert_int_equal(e->corr, seq);
        return e->pong->processes;
}

void fake_processes_become(struct fake_crewd *f, unsigned n) {
        unsigned have = 0;

        for (int i = 0; i * 5 < PATIENCE_MS; i++) {
                if ((have = fake_processes(f)) == n)
                        return;
                usleep(5000);
        }
        fail_msg("%u processes, not %u", have, n);
}

/* ---- a program's side ---- */

int agent_connect(struct fake_crewd *f) {
        struct sockaddr_un sun = {.sun_family = AF_UNIX};
        struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(sun.sun_path, f->socket);
        assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        return fd;
}

void agent_say(int fd, const char *line) {
        assert_int_equal(crew_write_full(fd, line, strlen(line)), 0);
        assert_int_equal(crew_write_full(fd, "\n", 1), 0);
}

const char *agent_hear(int fd) {
        static char line[1 << 16];
        size_t n = 0;

        while (n < sizeof(line) - 1) {
                ssize_t r = recv(fd, line + n, 1, 0);
                if (r < 0 && errno == EAGAIN)
                        fail_msg("no answer on the agent's socket");
                if (r <= 0)
                        return NULL;
                if (line[n] == '\n')
                        break;
                n++;
        }
        line[n] = '\0';
        return line;
}
