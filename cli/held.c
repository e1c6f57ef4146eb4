/* SPDX-License-Identifier: Apache-2.0 */
#include "held.h"

#include "common/spawn.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S 5
#define DEATHS_S 30
#define POLL_US 5000
#define KNOCKS 20

static int open_dir(const struct crew_paths *paths, const char *crew) {
        char dir[PATH_MAX + CREW_NAME_MAX];

        snprintf(dir, sizeof(dir), "%s/%s", paths->run, crew);
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int read_token(int at, uint8_t token[SPAWN_TOKEN_BYTES]) {
        _cleanup_close_ int fd = openat(at, "held.token", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return -errno;
        return read(fd, token, SPAWN_TOKEN_BYTES) == SPAWN_TOKEN_BYTES ? 0 : -EBADMSG;
}

/* Nobody listens, or has ever: it is not held. */
static int connect_in(int at) {
        const struct timeval patience = {.tv_sec = PATIENCE_S};
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
                return -errno;
        snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/held.sock", at);
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return errno == ENOENT || errno == ECONNREFUSED ? -ESRCH : -errno;
        return crew_steal_fd(&fd);
}

/* The name, and behind its end the reason, as far as there is room. */
static void put_words(struct spawn_msg *m, const char *agent, const char *reason) {
        size_t n = (size_t)snprintf(m->text, sizeof(m->text), "%s", agent) + 1;

        if (n < sizeof(m->text))
                snprintf(m->text + n, sizeof(m->text) - n, "%s", reason ? reason : "");
}

static int ask_once(const struct crew_paths *paths, const char *crew, const struct spawn_msg *question,
                    struct held_state *out) {
        struct spawn_msg m = *question;
        _cleanup_close_ int at = open_dir(paths, crew);
        _cleanup_close_ int fd = at < 0 ? -ESRCH : connect_in(at);
        int r = fd < 0 ? fd : read_token(at, m.hold.token);

        if (r < 0)
                return r;
        ssize_t n = crew_send_fds(fd, &m, sizeof(m), NULL, 0);
        if (n >= 0)
                n = crew_recv_fds(fd, &m, sizeof(m), NULL, NULL, 0);
        /* It listens while it has a crewd, too, but answers nobody. */
        if (n == -EAGAIN)
                return -ESRCH;
        if (n <= 0)
                return n == 0 ? -ECONNRESET : (int)n;
        if (n != (ssize_t)sizeof(m) || m.op != SPAWN_HELD_END)
                return -EPROTO;
        *out = (struct held_state){.living = m.cookie,
                                   .killed = m.id,
                                   .ending = (uint32_t)m.errno_,
                                   .left_ms = m.hold.ms,
                                   .lost_ms = m.hold.lost_ms};
        return 0;
}

/* Whoever comes before the spawner has noticed that its crewd is gone is turned away. */
static int ask(const struct crew_paths *paths, const char *crew, const struct spawn_msg *question, struct held_state *out) {
        int r = -ECONNRESET;

        for (int i = 0; i < KNOCKS && (r == -ECONNRESET || r == -EPIPE); i++) {
                if (i > 0)
                        usleep(POLL_US);
                r = ask_once(paths, crew, question, out);
        }
        return r;
}

int held_ask(const struct crew_paths *paths, const char *crew, const char *agent, struct held_state *out) {
        struct spawn_msg m = {.op = SPAWN_HELD_ASK};

        put_words(&m, agent, NULL);
        return ask(paths, crew, &m, out);
}

bool held_choose(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX], struct held_state *state) {
        struct crew_names names = {0};
        size_t found = 0;

        if (crews_in_run(paths, &names) < 0)
                return false;
        for (size_t i = 0; i < names.n && found < 2; i++) {
                struct held_state s;
                _cleanup_close_ int control = -1;
                if (wanted && strcmp(wanted, names.items[i]) != 0)
                        continue;
                control = crew_connect(paths, names.items[i], 0);
                if (control >= 0 || control == -EAGAIN || held_ask(paths, names.items[i], "", &s) < 0)
                        continue;
                snprintf(out, CREW_NAME_MAX, "%s", names.items[i]);
                *state = s;
                found++;
        }
        crew_names_fini(&names);
        return found == 1;
}

static bool has_crewd(const struct crew_paths *paths, const char *crew) {
        _cleanup_close_ int control = crew_connect(paths, crew, 0);

        return control >= 0 || control == -EAGAIN;
}

static bool is_gone(int r) {
        return r == -ESRCH || r == -ENOENT || r == -ECONNRESET || r == -EPIPE;
}

int held_end(const struct crew_paths *paths, const char *crew, const char *agent, const char *reason) {
        uint64_t until = crew_now_ns() + DEATHS_S * 1000000000ull;
        struct spawn_msg m = {.op = SPAWN_HELD_KILL};
        struct held_state s;

        put_words(&m, agent, reason);
        int r = ask(paths, crew, &m, &s);
        if (r < 0)
                return r;
        uint32_t killed = s.killed;
        while (!*agent || s.ending > 0) {
                r = held_ask(paths, crew, agent, &s);
                if (r < 0 && has_crewd(paths, crew))
                        return -EBUSY; /* its spawner speaks to nobody else now */
                if (is_gone(r))
                        break; /* the last one takes the spawner along */
                if (crew_now_ns() >= until)
                        return -ETIMEDOUT;
                usleep(POLL_US);
        }
        return (int)killed;
}
