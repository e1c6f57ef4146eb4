/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox_net.h"

#include "common/gate.h"
#include "common/paths.h"
#include "common/util.h"
#include "supervisor/policy/netpolicy_make.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define INSTANCE 1u
#define GATEWAY_FD "3"
#define LAST_REPORTS_MS 10000 /* it answers at once, unless the machine is busy */

const char *sandbox_net_lacks(const struct policy_image *p) {
        for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                struct policy_endpoint e = policy_endpoint_at(p, i);
                if (e.inspect)
                        return "'tls: inspect'";
                if (e.credential)
                        return "a credential";
        }
        return NULL;
}

/* In a session of its own: an interrupt typed at the terminal is for the command. */
static int start(const char *path, int fd, pid_t *pid) {
        char *const argv[] = {(char *)path, "--fd", GATEWAY_FD, NULL};
        char *const nothing[] = {NULL};
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none;
        int r;

        if ((r = posix_spawn_file_actions_init(&files)) != 0)
                return -r;
        if ((r = posix_spawnattr_init(&attr)) != 0) {
                posix_spawn_file_actions_destroy(&files);
                return -r;
        }
        sigemptyset(&none);
        if ((r = posix_spawnattr_setsigmask(&attr, &none)) == 0 &&
            (r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK)) == 0 &&
            (r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)) == 0 &&
            (r = posix_spawn_file_actions_adddup2(&files, fd, GATEWAY_FD[0] - '0')) == 0 &&
            (r = posix_spawn_file_actions_addclosefrom_np(&files, GATEWAY_FD[0] - '0' + 1)) == 0)
                r = posix_spawn(pid, path, &files, &attr, argv, nothing);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&files);
        return -r;
}

int sandbox_net_open(struct sandbox_net *n, struct crew_err *err) {
        char path[PATH_MAX];
        int pair[2], r = crew_program_path("crew-gateway", path, err);

        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return crew_fail_errno(err, "cannot make a socket pair");
        _cleanup_close_ int ours = pair[0], theirs = pair[1];
        if ((r = start(path, theirs, &n->pid)) < 0)
                return crew_fail(err, -r, "cannot start %s: %s", path, strerror(-r));
        n->fd = crew_steal_fd(&ours);
        return 0;
}

int sandbox_net_serve(struct sandbox_net *n, const struct policy_image *p, int listeners[4], struct crew_err *err) {
        struct gate_msg m = {.op = GATE_ADD, .id = INSTANCE};
        int fds[GATE_LISTENERS + 1];

        _cleanup_close_ int policy = netpolicy_make(p, NULL, 1, err);
        if (policy < 0)
                return policy;
        memcpy(fds, listeners, GATE_LISTENERS * sizeof(*fds));
        fds[GATE_LISTENERS] = policy;
        ssize_t sent = crew_send_fds(n->fd, &m, sizeof(m), fds, ELEMENTSOF(fds));
        /* The gateway must be the only holder, or its end would not be noticed in the jail. */
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                crew_close(&listeners[i]);
        return sent < 0 ? crew_fail(err, (int)-sent, "crew-gateway is gone") : 0;
}

/* --- what it says --- */

static void say(const struct sandbox_net *n, const char *text) {
        dprintf(STDERR_FILENO, "crewctl: sandbox: %s%s", text, n->raw ? "\r\n" : "\n");
}

static void say_refused(const struct sandbox_net *n, const struct gate_msg *m, const char *what, const char *why) {
        char text[sizeof(m->name) + sizeof(m->text) * 2 + 64], port[16] = "", times[32] = "";

        if (m->port)
                snprintf(port, sizeof(port), ":%u", m->port);
        if (m->count > 1)
                snprintf(times, sizeof(times), ", %u times", m->count);
        snprintf(text, sizeof(text), "network %s: %s%s (%s%s)",
                 m->verdict == GATE_WOULD_REFUSE ? "would be denied" : "denied", what, port, why, times);
        say(n, text);
}

/* Nobody is there who could be asked. */
static void refuse(const struct sandbox_net *n, const struct gate_msg *ask) {
        struct gate_msg m = {
                .op = GATE_ANSWER, .id = INSTANCE, .ask = ask->ask, .verdict = GATE_REFUSE, .scope = GATE_SESSION};

        snprintf(m.text, sizeof(m.text), "not in allowed_endpoints, and a sandbox has nobody to ask");
        crew_send_fds(n->fd, &m, sizeof(m), NULL, 0);
}

/* False when there is nothing more to come. */
static bool take_report(struct sandbox_net *n, int flags) {
        struct gate_msg m;
        ssize_t got = crew_recv_fds(n->fd, &m, sizeof(m), NULL, NULL, flags);

        if (got == -EAGAIN || got == -EWOULDBLOCK || got == -EINTR)
                return false;
        if (got != (ssize_t)sizeof(m)) {
                say(n, "crew-gateway is gone: nothing can be reached any more");
                crew_close(&n->fd);
                return false;
        }
        m.name[sizeof(m.name) - 1] = m.text[sizeof(m.text) - 1] = m.why[sizeof(m.why) - 1] = '\0';
        if (m.op == GATE_HELLO && m.text[0])
                say(n, m.text);
        else if (m.op == GATE_DENIED)
                say_refused(n, &m, m.name, m.text);
        else if (m.op == GATE_HTTP && m.verdict != GATE_LET)
                say_refused(n, &m, m.text, m.why);
        else if (m.op == GATE_ASK)
                refuse(n, &m);
        return m.op != GATE_REMOVED;
}

void sandbox_net_on_report(struct sandbox_net *n) {
        while (n->fd >= 0 && take_report(n, MSG_DONTWAIT))
                ;
}

static void reap(struct sandbox_net *n) {
        struct pollfd p = {.fd = -1, .events = POLLIN};

        if (n->pid <= 0)
                return;
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, n->pid, 0);
        p.fd = pidfd;
        if (pidfd < 0 || poll(&p, 1, LAST_REPORTS_MS) != 1)
                kill(n->pid, SIGKILL);
        while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        n->pid = 0;
}

void sandbox_net_close(struct sandbox_net *n) {
        const struct gate_msg remove = {.op = GATE_REMOVE, .id = INSTANCE};
        struct pollfd p = {.fd = n->fd, .events = POLLIN};

        n->raw = false;
        if (n->fd >= 0 && crew_send_fds(n->fd, &remove, sizeof(remove), NULL, 0) >= 0)
                while (poll(&p, 1, LAST_REPORTS_MS) == 1 && take_report(n, MSG_DONTWAIT))
                        ;
        crew_close(&n->fd); /* it ends by that */
        reap(n);
}
