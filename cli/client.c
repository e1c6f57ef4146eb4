/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the control socket: poll(2), the nng wire, the accept pipeline. */
#include "client.h"

#include "common/spwire.h"
#include "common/util.h"
#include "crews.h"
#include "held.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define ARENA_MAX (64u << 20)
#define HELLO_MS 5000
#define CALL_MS 30000

struct client {
        int fd; /* owned */
        struct spwire_in in;
        struct ipc_arena *arena;
        uint64_t sent, received; /* last sequence numbers */
        uint8_t *out;            /* owned; bytes not yet written */
        size_t out_used, out_room;
        char crew[CREW_NAME_MAX];
        char crew_file[4097];
        uint32_t server_pid;
};

const char *client_crew(const struct client *c) {
        return c->crew;
}

const char *client_crew_file(const struct client *c) {
        return c->crew_file;
}

uint32_t client_server_pid(const struct client *c) {
        return c->server_pid;
}

int client_fd(const struct client *c) {
        return c->fd;
}

bool client_wants_write(const struct client *c) {
        return c->out_used > 0;
}

struct client *client_free(struct client *c) {
        if (!c)
                return NULL;
        crew_close(&c->fd);
        spwire_in_fini(&c->in);
        ipc_arena_free(c->arena);
        free(c->out);
        free(c);
        return NULL;
}

static int closed(struct client *c, struct cli_problem *p) {
        return cli_problem_set(p, CLI_FAILED, "closed", "crew %s went away: crewd closed the connection", c->crew);
}

static int broken(struct client *c, struct cli_problem *p, const char *what) {
        return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd of crew %s does not speak our protocol: %s", c->crew,
                               what);
}

/* --- out --- */

static int queue(struct client *c, const uint8_t *bytes, size_t n) {
        if (c->out_used + n > c->out_room) {
                size_t room = MAX_OF(c->out_room * 2, c->out_used + n);
                uint8_t *grown = realloc(c->out, room);
                if (!grown)
                        return -ENOMEM;
                c->out = grown;
                c->out_room = room;
        }
        memcpy(c->out + c->out_used, bytes, n);
        c->out_used += n;
        return 0;
}

static int flush_out(struct client *c, struct cli_problem *p) {
        size_t done = 0;

        while (done < c->out_used) {
                ssize_t r = send(c->fd, c->out + done, c->out_used - done, MSG_NOSIGNAL);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0 && errno == EAGAIN)
                        break;
                if (r < 0) {
                        /* What crewd said before it hung up is still to be read. */
                        c->out_used = 0;
                        return errno == EPIPE || errno == ECONNRESET ? 0 : closed(c, p);
                }
                done += (size_t)r;
        }
        memmove(c->out, c->out + done, c->out_used - done);
        c->out_used -= done;
        return 0;
}

int client_send(struct client *c, Crew__Envelope *e, uint64_t *seq, struct cli_problem *p) {
        _cleanup_free_ uint8_t *frame = NULL;
        struct crew_err err = CREW_ERR_NULL;
        size_t n = 0;

        e->version = 1;
        e->seq = c->sent + 1;
        if (ipc_pack(e, SPWIRE_HEADER_BYTES, &frame, &n, &err) < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-request", "cannot ask crewd that: %s", err.msg);
        spwire_header(frame, n);
        if (queue(c, frame, SPWIRE_HEADER_BYTES + n) < 0)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        c->sent++;
        if (seq)
                *seq = c->sent;
        return flush_out(c, p);
}

/* --- in --- */

static int read_in(struct client *c, struct cli_problem *p) {
        for (int budget = 64; budget > 0; budget--) {
                uint8_t *where = NULL;
                size_t room = 0;
                int got = spwire_in_room(&c->in, &where, &room);
                if (got == -ENOMEM)
                        return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
                if (got < 0) /* whole frames wait to be taken, or client_take() will say what is wrong */
                        return 0;
                ssize_t r = recv(c->fd, where, room, 0);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0 && errno == EAGAIN)
                        return 0;
                if (r <= 0)
                        return closed(c, p);
                spwire_in_added(&c->in, (size_t)r);
                if ((size_t)r < room)
                        return 0;
        }
        return 0;
}

int client_pump(struct client *c, struct cli_problem *p) {
        int r = flush_out(c, p);

        return r < 0 ? r : read_in(c, p);
}

int client_take(struct client *c, const Crew__Envelope **out, struct cli_problem *p) {
        const uint8_t *frame = NULL;
        struct ipc_refusal refusal = {0};
        size_t n = 0;
        int r = spwire_in_next(&c->in, &frame, &n);

        if (r == 0)
                return 0;
        if (r < 0)
                return broken(c, p, r == -EMSGSIZE ? "a frame is too large" : "bad framing");
        if (ipc_accept(c->arena, IPC_SUPERVISOR, IPC_STATE_ANY, frame, n, out, &refusal) != IPC_ACCEPTED) {
                broken(c, p, ipc_reject_names[refusal.why]);
                cli_problem_hint(p, "field %s breaks %s; are crewctl and crewd of the same version?", refusal.field,
                                 refusal.rule);
                return -1;
        }
        if ((*out)->seq != c->received + 1)
                return broken(c, p, "a frame is missing");
        c->received++;
        return 1;
}

int client_next(struct client *c, int timeout_ms, const Crew__Envelope **out, struct cli_problem *p) {
        uint64_t deadline = crew_now_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * 1000000u;

        for (;;) {
                int r = client_take(c, out, p);
                if (r != 0)
                        return r;
                uint64_t now = crew_now_ns();
                int left = timeout_ms < 0 ? -1 : now >= deadline ? 0 : (int)((deadline - now + 999999u) / 1000000u);
                struct pollfd fd = {.fd = c->fd, .events = (short)(POLLIN | (client_wants_write(c) ? POLLOUT : 0))};
                r = poll(&fd, 1, left);
                if (r < 0 && errno != EINTR)
                        return cli_problem_set(p, CLI_INTERNAL, "io", "poll: %s", strerror(errno));
                if (r == 0)
                        return 0;
                if (r > 0 && client_pump(c, p) < 0) {
                        /* Frames that came in before the hang-up come first. */
                        struct cli_problem end = *p;
                        r = client_take(c, out, p);
                        if (r == 0)
                                *p = end;
                        return r != 0 ? r : -1;
                }
        }
}

int client_refused(const Crew__Refused *r, struct cli_problem *p) {
        static const struct {
                const char *code;
                int status;
        } statuses[] = {{"unknown-agent", CLI_ABSENT}, {"unknown-task", CLI_ABSENT}, {"unknown-approval", CLI_ABSENT},
                        {"not-running", CLI_ABSENT},   {"denied", CLI_REFUSED},      {"usage", CLI_USAGE}};
        int status = CLI_FAILED;

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                if (strcmp(r->code, statuses[i].code) == 0)
                        status = statuses[i].status;
        }
        cli_problem_set(p, status, r->code, "%s", r->message);
        if (r->hint[0])
                cli_problem_hint(p, "%s", r->hint);
        return -1;
}

int client_call(struct client *c, Crew__Envelope *e, int timeout_ms, const Crew__Envelope **answer, struct cli_problem *p) {
        uint64_t seq = 0, deadline = crew_now_ns() + (uint64_t)timeout_ms * 1000000u;
        int r = client_send(c, e, &seq, p);

        if (r < 0)
                return r;
        for (;;) {
                uint64_t now = crew_now_ns();
                int left = timeout_ms < 0 ? -1 : now >= deadline ? 0 : (int)((deadline - now) / 1000000u);
                r = client_next(c, left, answer, p);
                if (r < 0)
                        return r;
                if (r == 0)
                        return cli_problem_set(p, CLI_FAILED, "timeout", "crewd of crew %s (pid %u) does not answer",
                                               c->crew, c->server_pid);
                crew_assert(*answer);
                if ((*answer)->corr != seq || (*answer)->body_case == CREW__ENVELOPE__BODY_EVENT)
                        continue;
                if ((*answer)->body_case == CREW__ENVELOPE__BODY_REFUSED)
                        return client_refused((*answer)->refused, p);
                return 0;
        }
}

int client_status(struct client *c, const Crew__Status **out, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__GetStatus get = CREW__GET_STATUS__INIT;
        const Crew__Envelope *answer = NULL;

        e.body_case = CREW__ENVELOPE__BODY_GET_STATUS;
        e.get_status = &get;
        if (client_call(c, &e, CALL_MS, &answer, p) < 0)
                return -1;
        crew_assert(answer);
        if (answer->body_case != CREW__ENVELOPE__BODY_STATUS)
                return broken(c, p, "no status came back");
        *out = answer->status;
        return 0;
}

static int greet(struct client *c, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__ClientHello hello = CREW__CLIENT_HELLO__INIT;
        const Crew__Envelope *answer = NULL;

        if (queue(c, spwire_hello, SPWIRE_HELLO_BYTES) < 0)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        hello.protocol = 1;
        hello.client = (char *)"crewctl " CREW_VERSION;
        e.body_case = CREW__ENVELOPE__BODY_CLIENT_HELLO;
        e.client_hello = &hello;
        if (client_call(c, &e, HELLO_MS, &answer, p) < 0)
                return -1;
        crew_assert(answer);
        if (answer->body_case != CREW__ENVELOPE__BODY_SERVER_HELLO)
                return broken(c, p, "no greeting came back");
        const Crew__ServerHello *s = answer->server_hello;
        snprintf(c->crew_file, sizeof(c->crew_file), "%s", s->crew_file);
        c->server_pid = s->pid;
        if (strcmp(s->crew, c->crew) != 0)
                return broken(c, p, "it serves another crew");
        return 0;
}

static int connect_problem(const char *crew, int r, struct cli_problem *p) {
        if (r == -EAGAIN)
                return cli_problem_set(
                        p, CLI_FAILED, "connect",
                        "crewd of crew %s lives and took in nobody for %d s: too many clients, or it is stopped", crew,
                        CREW_CONNECT_MS / 1000);
        cli_problem_set(p, r == -EACCES || r == -EPERM ? CLI_REFUSED : CLI_ABSENT, "connect",
                        "cannot reach crewd of crew %s: %s", crew, strerror(-r));
        if (r == -EACCES || r == -EPERM)
                cli_problem_hint(p, "the control socket takes its owner and root only");
        return -1;
}

/* Not running, and yet not over. */
static void say_held(const struct crew_paths *paths, const char *crew, struct cli_problem *p) {
        struct held_state s;
        char name[CREW_NAME_MAX];

        if (p->status != CLI_ABSENT || !held_choose(paths, crew, name, &s))
                return;
        cli_problem_set(p, CLI_ABSENT, "held", "the crewd of crew %s is gone, and %u agent%s held for another %.1f s", name,
                        s.living, s.living == 1 ? " is" : "s are", (double)s.left_ms / 1e3);
        cli_problem_hint(p, "crewctl up CREW.yaml takes them over, crewctl down ends them");
}

int client_open(const char *crew, struct client **out, struct cli_problem *p) {
        _cleanup_client_ struct client *c = calloc(1, sizeof(*c));
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;

        if (!c)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        c->fd = -1;
        spwire_in_init(&c->in, IPC_MAX_FRAME);
        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        if (crew_choose_running(&paths, crew, c->crew, p) < 0) {
                say_held(&paths, crew, p);
                return -1;
        }
        c->fd = crew_connect(&paths, c->crew, CREW_CONNECT_MS);
        if (c->fd < 0)
                return connect_problem(c->crew, c->fd, p);
        c->arena = ipc_arena_new(ARENA_MAX);
        if (!c->arena)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        if (greet(c, p) < 0)
                return -1;
        *out = crew_steal_ptr(&c);
        return 0;
}
