/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trip of a 1 KiB request and a 1 KiB answer, worker -> supervisor -> worker.
 *
 * Real: the worker packs a ToolCall and writes it with common/spwire; the supervisor takes it from link.c in a libuv loop,
 * accepts it, packs a CallResult and sends that back; the worker accepts it.  Every frame is validated on both sides.
 * Floor: 1 KiB there and back over a raw SOCK_SEQPACKET pair, with the same libuv loop on the supervisor's side.
 * The two take turns in short blocks within one run, so that noise of the machine meets both.
 *
 * usage: bench_roundtrip [--json] [BLOCKS]      exit 1 when the ratio of the medians is over the target
 */
#include "common/spwire.h"
#include "common/util.h"
#include "ipc-schema/ipc.h"
#include "supervisor/link.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PAYLOAD_BYTES 1024u
#define BLOCK 250u
#define WARM_UP 2u /* blocks that do not count */
#define TARGET_RATIO 5.0

static _Noreturn void die(const char *what) {
        fprintf(stderr, "bench_roundtrip: %s: %s\n", what, strerror(errno));
        exit(125);
}

/* A JSON string of PAYLOAD_BYTES. */
static const char *payload(void) {
        static char text[PAYLOAD_BYTES + 1];

        memset(text, 'x', PAYLOAD_BYTES);
        text[0] = text[PAYLOAD_BYTES - 1] = '"';
        return text;
}

/* ---- the worker's side: blocking, one thread, no library but ours ---- */

struct worker {
        int link, raw;
        struct spwire_in in;
        struct ipc_arena *arena;
        uint64_t seq;
};

static void worker_send(struct worker *w) {
        Crew__ToolCall call = CREW__TOOL_CALL__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *frame;
        size_t n;

        call.tool = "market_api_tool";
        call.arguments = (char *)payload();
        e.version = 1;
        e.seq = ++w->seq;
        e.body_case = CREW__ENVELOPE__BODY_TOOL_CALL;
        e.tool_call = &call;
        if (ipc_pack(&e, SPWIRE_HEADER_BYTES, &frame, &n, &err) < 0)
                die(err.msg);
        spwire_header(frame, n);
        if (crew_write_full(w->link, frame, SPWIRE_HEADER_BYTES + n) < 0)
                die("write");
        free(frame);
}

static void worker_receive(struct worker *w) {
        const Crew__Envelope *e;
        struct ipc_refusal refusal;
        const uint8_t *frame;
        uint8_t *room;
        size_t n;
        int r;

        while ((r = spwire_in_next(&w->in, &frame, &n)) == 0) {
                if (spwire_in_room(&w->in, &room, &n) < 0)
                        die("spwire_in_room");
                ssize_t got = read(w->link, room, n);
                if (got <= 0)
                        die("read");
                spwire_in_added(&w->in, (size_t)got);
        }
        if (r < 0 || ipc_accept(w->arena, IPC_SUPERVISOR, IPC_STATE_ANY, frame, n, &e, &refusal) != IPC_ACCEPTED ||
            e->body_case != CREW__ENVELOPE__BODY_CALL_RESULT || e->corr != w->seq)
                die("the answer was not accepted");
}

static uint64_t link_trip(struct worker *w) {
        uint64_t start = crew_now_ns();

        worker_send(w);
        worker_receive(w);
        return crew_now_ns() - start;
}

static uint64_t raw_trip(struct worker *w) {
        uint8_t buf[PAYLOAD_BYTES];
        uint64_t start = crew_now_ns();

        if (send(w->raw, payload(), PAYLOAD_BYTES, 0) < 0 || recv(w->raw, buf, sizeof(buf), 0) != PAYLOAD_BYTES)
                die("raw pair");
        return crew_now_ns() - start;
}

static int by_value(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return (x > y) - (x < y);
}

struct figures {
        double p50, p99, p999;
};

static double us_at(const uint64_t *sorted, size_t n, size_t per_mille) {
        size_t at = n * per_mille / 1000;

        return (double)sorted[at] / 1e3;
}

static struct figures figures_of(uint64_t *v, size_t n) {
        qsort(v, n, sizeof(*v), by_value);
        return (struct figures){us_at(v, n, 500), us_at(v, n, 990), us_at(v, n, 999)};
}

static int report(bool json, uint64_t *link, uint64_t *raw, size_t n) {
        struct figures l = figures_of(link, n), r = figures_of(raw, n);
        double ratio = l.p50 / r.p50;

        if (json) {
                printf("{\"bench\": \"roundtrip\", \"unit\": \"us\", \"samples\": %zu, "
                       "\"link\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f}, "
                       "\"raw\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f}, \"ratio\": %.2f, \"target\": %.1f}\n",
                       n, l.p50, l.p99, l.p999, r.p50, r.p99, r.p999, ratio, TARGET_RATIO);
        } else {
                printf("round trip, 1 KiB, %zu samples        p50      p99    p99.9\n", n);
                printf("  link, validated on both sides   %7.1f  %7.1f  %7.1f us\n", l.p50, l.p99, l.p999);
                printf("  raw SOCK_SEQPACKET and libuv    %7.1f  %7.1f  %7.1f us\n", r.p50, r.p99, r.p999);
                printf("  ratio of the medians            %7.2f  (target %.1f or less)\n", ratio, TARGET_RATIO);
        }
        return ratio <= TARGET_RATIO ? 0 : 1;
}

static int worker_connect(const char *path) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
            crew_write_full(fd, spwire_hello, sizeof(spwire_hello)) < 0)
                die("connect");
        return fd;
}

static int worker_main(const char *path, int raw, size_t blocks, bool json) {
        struct worker w = {.raw = raw, .link = worker_connect(path)};
        size_t n = blocks * BLOCK;
        uint64_t *link = calloc(n, sizeof(*link)), *direct = calloc(n, sizeof(*direct));

        spwire_in_init(&w.in, ipc_max_frame[IPC_SUPERVISOR]);
        w.arena = ipc_arena_new(ipc_max_frame[IPC_SUPERVISOR] + (128u << 10));
        if (!link || !direct || !w.arena)
                die("memory");
        for (size_t b = 0; b < blocks + WARM_UP; b++) {
                size_t at = b < WARM_UP ? 0 : (b - WARM_UP) * BLOCK;
                for (size_t i = 0; i < BLOCK; i++)
                        link[at + i] = link_trip(&w);
                for (size_t i = 0; i < BLOCK; i++)
                        direct[at + i] = raw_trip(&w);
        }
        int r = report(json, link, direct, n);
        fflush(stdout);
        spwire_in_fini(&w.in);
        ipc_arena_free(w.arena);
        free(link);
        free(direct);
        return r;
}

/* ---- the supervisor's side ---- */

struct supervisor {
        struct ipc_arena *arena;
        uv_poll_t raw;
        int raw_fd;
        uint64_t seq;
};

static void answer(struct link *l, struct supervisor *s, const Crew__Envelope *request) {
        Crew__CallResult result = CREW__CALL_RESULT__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *frame;
        size_t n;

        result.ok = true;
        result.result = (char *)payload();
        e.version = 1;
        e.seq = ++s->seq;
        e.corr = request->seq;
        e.body_case = CREW__ENVELOPE__BODY_CALL_RESULT;
        e.call_result = &result;
        if (ipc_pack(&e, 0, &frame, &n, &err) < 0)
                die(err.msg);
        if (link_send(l, frame, n) < 0)
                die("link_send");
        free(frame);
}

static void on_up(struct link *l, pid_t pid, uid_t uid, void *user) {
}

static void on_frame(struct link *l, const uint8_t *bytes, size_t n, void *user) {
        struct supervisor *s = user;
        const Crew__Envelope *e;
        struct ipc_refusal refusal;

        if (ipc_accept(s->arena, IPC_WORKER, IPC_STATE_WORKING, bytes, n, &e, &refusal) != IPC_ACCEPTED)
                die("the request was not accepted");
        answer(l, s, e);
}

static void on_down(struct link *l, int why, void *user) {
        struct supervisor *s = user;

        link_close(l, NULL, NULL);
        uv_close((uv_handle_t *)&s->raw, NULL);
}

static void on_raw(uv_poll_t *handle, int status, int events) {
        struct supervisor *s = handle->data;
        uint8_t buf[PAYLOAD_BYTES];

        ssize_t n = recv(s->raw_fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n == 0)
                uv_poll_stop(handle);
        else if (n != PAYLOAD_BYTES || send(s->raw_fd, buf, (size_t)n, 0) != n)
                die("raw pair");
}

static void supervise(const char *path, int raw, int go) {
        static const struct link_callbacks callbacks = {on_up, on_frame, on_down};
        struct supervisor s = {.raw_fd = raw};
        struct crew_err err = CREW_ERR_NULL;
        struct link *l;
        uv_loop_t loop;

        s.arena = ipc_arena_new(ipc_max_frame[IPC_WORKER] + (128u << 10));
        if (!s.arena || uv_loop_init(&loop) < 0 || uv_poll_init(&loop, &s.raw, raw) < 0)
                die("memory");
        s.raw.data = &s;
        uv_poll_start(&s.raw, UV_READABLE, on_raw);
        if (link_listen(&loop, path, ipc_max_frame[IPC_WORKER], &callbacks, &s, &l, &err) < 0)
                die(err.msg);
        if (crew_write_full(go, "g", 1) < 0)
                die("pipe");
        uv_run(&loop, UV_RUN_DEFAULT);
        uv_loop_close(&loop);
        ipc_arena_free(s.arena);
}

int main(int argc, char **argv) {
        bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
        size_t blocks = argc > 1 + json ? strtoul(argv[1 + json], NULL, 10) : 40;
        char dir[] = "/tmp/bench_roundtrip.XXXXXX", path[sizeof(dir) + 8], byte;
        int pair[2], go[2], status;

        if (!blocks || !mkdtemp(dir) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || pipe(go) < 0)
                die("setup");
        snprintf(path, sizeof(path), "%s/l", dir);
        pid_t child = fork(); /* before nng has threads */
        if (child < 0)
                die("fork");
        if (child == 0) {
                close(pair[0]);
                close(go[1]);
                if (crew_read_full(go[0], &byte, 1) < 0)
                        _exit(125);
                exit(worker_main(path, pair[1], blocks, json));
        }
        close(pair[1]);
        close(go[0]);
        supervise(path, pair[0], go[1]);
        rmdir(dir);
        return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
