/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/http_conn.c over a seam of our own: what either side says is a string, at most `step` bytes of it at a time. */
#include "test.h"

#include "gateway/http_conn.h"
#include "gateway/http_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SECRET "sk-test-0123456789"
#define HOST " HTTP/1.1\r\nHost: api.test\r\n"
#define HOST_8080 " HTTP/1.1\r\nHost: api.test:8080\r\n"

struct stream {
        char bytes[1 << 17];
        size_t n, at; /* at: read so far */
        bool end;
};

struct conn {
        const struct netpolicy_head *policy;
        struct stream in[CONN_SIDE_N], out[CONN_SIDE_N];
        size_t step, spliced;
        bool blocked[CONN_SIDE_N], shut[CONN_SIDE_N], ended, again, crewd_slow, crewd_gone;
        char why[256];
        char reports[4096];
        void *state;
        uint32_t deadline;
};

static struct conn c;

const char *conn_name(const struct conn *x) {
        return "api.test";
}
uint16_t conn_port(const struct conn *x) {
        return x->policy ? netpolicy_rule_at(x->policy, 0)->port : 80;
}
const char *conn_peer(const struct conn *x) {
        return "192.0.2.1:80";
}
uint64_t conn_id(const struct conn *x) {
        return 1;
}
const struct netpolicy_head *conn_policy(const struct conn *x) {
        return x->policy;
}
const struct netpolicy_rule *conn_rule(const struct conn *x) {
        return netpolicy_rule_at(x->policy, 0);
}
ssize_t conn_recv(struct conn *x, enum conn_side from, void *buf, size_t n) {
        struct stream *s = &x->in[from];
        n = MIN_OF(MIN_OF(n, x->step), s->n - s->at);
        memcpy(buf, s->bytes + s->at, n);
        s->at += n;
        return n ? (ssize_t)n : s->end ? 0 : -EAGAIN;
}
ssize_t conn_send(struct conn *x, enum conn_side to, const void *buf, size_t n) {
        struct stream *s = &x->out[to];
        assert_false(x->shut[to] || x->ended);
        if (x->blocked[to])
                return -EAGAIN;
        n = MIN_OF(MIN_OF(n, x->step), sizeof(s->bytes) - 1 - s->n);
        memcpy(s->bytes + s->n, buf, n);
        s->n += n;
        s->bytes[s->n] = '\0';
        return (ssize_t)n;
}
ssize_t conn_splice(struct conn *x, enum conn_side from, uint64_t n) {
        char buf[8192];

        assert_true(n > 0);
        if (x->blocked[!from])
                return -EAGAIN;
        ssize_t k = conn_recv(x, from, buf, MIN_OF(n, (uint64_t)sizeof(buf)));
        x->spliced += k > 0 ? (size_t)k : 0;
        for (ssize_t done = 0, put; done < k; done += put) {
                put = conn_send(x, !from, buf + done, (size_t)(k - done));
                assert_true(put > 0);
        }
        return k;
}
void conn_shutdown(struct conn *x, enum conn_side to) {
        x->shut[to] = true;
}
void conn_again(struct conn *x) {
        x->again = true;
}
void conn_deadline(struct conn *x, uint32_t ms) {
        x->deadline = ms;
}
int conn_report_http(struct conn *x, enum gate_verdict verdict, const char *text, const char *why, unsigned status) {
        static const char *const names[] = {"refuse", "let", "would-refuse"};
        size_t n = strlen(x->reports);
        if (x->crewd_slow || x->crewd_gone)
                return x->crewd_gone ? -EPIPE : -EAGAIN;
        snprintf(x->reports + n, sizeof(x->reports) - n, "%s %s %u%s%s\n", names[verdict], text, status, why ? " " : "",
                 why ? why : "");
        assert_null(strstr(x->reports, SECRET));
        return 0;
}
void conn_end(struct conn *x, const char *why) {
        assert_false(x->ended);
        x->ended = true;
        http_taker.gone(x->state); /* first: why may not be part of it */
        snprintf(x->why, sizeof(x->why), "%s", why ? why : "");
        assert_null(strstr(x->why, SECRET));
}

static void run(void) {
        do {
                c.again = false;
                if (!c.ended)
                        http_taker.on_ready(c.state);
        } while (c.again);
}

static void say(enum conn_side who, const char *text) {
        struct stream *s = &c.in[who];

        memcpy(s->bytes + s->n, text, strlen(text));
        s->n += strlen(text);
}

static void start(const struct one_rule *rule, const char *first, size_t step) {
        struct conn_first f = {.bytes = (const uint8_t *)first, .n = strlen(first)};
        struct crew_err err = CREW_ERR_NULL;

        memset(&c, 0, sizeof(c));
        c.policy = one_rule_policy(rule);
        c.step = step;
        assert_int_equal(http_taker.take(&c, &f, &c.state, &err), 0);
        run();
}

static void stop(void) {
        if (!c.ended)
                http_taker.gone(c.state);
        netpolicy_close(c.policy);
}

/* From one to all bytes at once. */
#define ANY_STEP(s) for (size_t s = 1; s < 1u << 17; s = s * 3 + 1)

static const struct one_rule any = {.methods = {"GET", "HEAD", "POST"}, .paths = {"/v1/**"}};

static void a_request_and_its_answer_pass(void **state) {
        ANY_STEP(step) {
                start(&any, "P", step);
                say(CONN_JAIL, "OST /v1/x" HOST "Content-Length: 5\r\n\r\nhello");
                run();
                assert_string_equal(c.out[CONN_PEER].bytes, "POST /v1/x" HOST "Content-Length: 5\r\n\r\nhello");
                assert_string_equal(c.reports, "let POST /v1/x 0\n");
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
                run();
                assert_string_equal(c.out[CONN_JAIL].bytes,
                                    "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
                assert_string_equal(c.reports, "let POST /v1/x 0\nlet POST /v1/x 200\n");
                assert_false(c.ended);
                c.in[CONN_JAIL].end = true;
                run();
                assert_true(c.ended);
                assert_string_equal(c.why, "");
                stop();
        }
}

static void pipelined_requests_go_one_by_one(void **state) {
        ANY_STEP(step) {
                start(&any, "GET /v1/1" HOST "\r\nGET /v1/2" HOST "\r\nGET /admin" HOST "\r\nGET /v1/3" HOST "\r\n", step);
                assert_string_equal(c.out[CONN_PEER].bytes, "GET /v1/1" HOST "\r\n");
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
                run();
                assert_non_null(strstr(c.out[CONN_PEER].bytes, "/v1/2"));
                assert_null(strstr(c.out[CONN_PEER].bytes, "/v1/3"));
                say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
                run();
                assert_null(strstr(c.out[CONN_PEER].bytes, "/admin"));
                assert_non_null(strstr(c.out[CONN_PEER].bytes, "/v1/3"));
                assert_non_null(strstr(c.out[CONN_JAIL].bytes, "HTTP/1.1 403 Forbidden\r\n"));
                assert_string_equal(c.reports, "let GET /v1/1 0\nlet GET /v1/1 200\nlet GET /v1/2 0\nlet GET /v1/2 204\n"
                                               "refuse GET /admin 403 the path is not in paths\nlet GET /v1/3 0\n");
                stop();
        }
}

static void a_refused_request_leaves_the_connection_but_its_body_does_not(void **state) {
        ANY_STEP(step) {
                start(&any, "DELETE /v1/x" HOST "\r\n", step);
                assert_int_equal(c.out[CONN_PEER].n, 0);
                assert_non_null(strstr(c.out[CONN_JAIL].bytes, "\"rule\": \"policies/x.yaml:14\""));
                assert_null(strstr(c.out[CONN_JAIL].bytes, "Connection: close"));
                assert_false(c.ended);
                say(CONN_JAIL, "PUT /v1/x" HOST "Content-Length: 100\r\n\r\nGET /v1/smuggled" HOST "\r\n");
                run();
                assert_non_null(strstr(c.out[CONN_JAIL].bytes, "Connection: close"));
                assert_true(c.shut[CONN_JAIL]);
                assert_false(c.ended);
                c.in[CONN_JAIL].end = true;
                run();
                assert_true(c.ended);
                assert_int_equal(c.out[CONN_PEER].n, 0);
                stop();
        }
}

static void nothing_malformed_reaches_the_server(void **state) {
        ANY_STEP(step) {
                start(&any, "GET /v1/x HTTP/1.1\nHost: api.test\r\n\r\n", step);
                assert_int_equal(c.out[CONN_PEER].n, 0);
                assert_int_equal(strncmp(c.out[CONN_JAIL].bytes, "HTTP/1.1 400 ", 13), 0);
                assert_true(c.shut[CONN_JAIL]);
                assert_int_equal(strncmp(c.reports, "refuse - - 400 a line", 21), 0);
                stop();
        }
}

static void a_body_that_breaks_its_framing_ends_the_connection(void **state) {
        start(&any, "POST /v1/x" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcGET /admin", 1000);
        assert_true(c.ended);
        assert_true(strlen(c.why) > 0);
        assert_null(strstr(c.out[CONN_PEER].bytes, "admin"));
        stop();
}

static void interim_answers_pass_and_switching_does_not(void **state) {
        start(&any, "POST /v1/x" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", 1000);
        assert_non_null(strstr(c.out[CONN_PEER].bytes, "Expect: 100-continue"));
        say(CONN_PEER, "HTTP/1.1 100 Continue\r\n\r\n");
        run();
        assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 100 Continue\r\n\r\n");
        say(CONN_JAIL, "ab");
        run();
        say(CONN_PEER, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n");
        run();
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 "));
        assert_non_null(strstr(c.reports, "let POST /v1/x 502 the server's answer changes"));
        stop();
}

static void an_answer_nobody_asked_for_ends_the_connection(void **state) {
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
        run();
        assert_null(strstr(c.out[CONN_JAIL].bytes, "forged"));
        assert_true(c.shut[CONN_JAIL]);
        say(CONN_JAIL, "GET /v1/y" HOST "\r\n");
        run();
        assert_null(strstr(c.out[CONN_JAIL].bytes, "forged"));
        stop();
}

static void a_broken_answer_becomes_a_502(void **state) {
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 OK\nX: y\r\n\r\n");
        run();
        assert_int_equal(strncmp(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 ", 13), 0);
        stop();
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        c.in[CONN_PEER].end = true;
        run();
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "without an answer"));
        stop();
}

static void an_answer_that_stops_short_is_a_reset(void **state) {
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
        c.in[CONN_PEER].end = true;
        run();
        assert_true(c.ended);
        assert_string_equal(c.why, "the server ended in the middle of an answer");
        stop();
}

static void without_a_length_the_end_of_the_stream_ends_the_answer(void **state) {
        start(&any, "GET /v1/x" HOST "\r\n", 7);
        say(CONN_PEER, "HTTP/1.0 200 OK\r\n\r\nall of it");
        run();
        assert_false(c.shut[CONN_JAIL]);
        c.in[CONN_PEER].end = true;
        run();
        assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
        assert_true(c.shut[CONN_JAIL]);
        stop();
}

static void an_early_answer_ends_the_connection_when_it_is_complete(void **state) {
        start(&any, "POST /v1/x" HOST "Content-Length: 1000\r\n\r\npart", 1000);
        say(CONN_PEER, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
        run();
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "413"));
        assert_true(c.shut[CONN_JAIL]);
        say(CONN_JAIL, "GET /v1/y" HOST "\r\n");
        run();
        assert_null(strstr(c.out[CONN_PEER].bytes, "/v1/y"));
        stop();
}

/* A body of any size goes through bounded memory: with a side that takes nothing, no more than the buffers is read. */
static void a_slow_reader_holds_the_other_side_back(void **state) {
        char *big = malloc(100001);

        memset(big, 'x', 100000);
        big[100000] = '\0';
        start(&any, "POST /v1/x" HOST "Content-Length: 100000\r\n\r\n", 100000);
        c.blocked[CONN_PEER] = true;
        say(CONN_JAIL, big);
        run();
        assert_true(c.in[CONN_JAIL].at < 48000);
        c.blocked[CONN_PEER] = false;
        run();
        assert_int_equal(c.in[CONN_JAIL].at, c.in[CONN_JAIL].n);
        assert_memory_equal(c.out[CONN_PEER].bytes + c.out[CONN_PEER].n - 100000, big, 100000);
        stop();
        free(big);
}

/* Long bodies that nobody looks at go another way; what follows them does not. */
static void a_long_plain_body_is_spliced_to_its_end_and_no_further(void **state) {
        static char answer[1 << 17];
        const size_t body = 90000;
        int n = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", body);

        memset(answer + n, 'b', body);
        for (size_t step = 100; step < 1u << 17; step *= 3) {
                start(&any, "GET /v1/1" HOST "\r\nGET /v1/2" HOST "\r\n", step);
                say(CONN_PEER, answer);
                run();
                assert_true(c.spliced > body / 2 && c.spliced <= body);
                assert_string_equal(c.out[CONN_JAIL].bytes, answer);
                assert_non_null(strstr(c.out[CONN_PEER].bytes, "/v1/2")); /* it has ended */
                say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
                run();
                assert_string_equal(c.out[CONN_JAIL].bytes + n + body, "HTTP/1.1 204 No\r\n\r\n");
                assert_non_null(strstr(c.reports, "let GET /v1/2 204\n"));
                stop();
        }
}

/* The same for a chunk: what frames it is read, whatever has come of it. */
static void a_long_chunk_is_spliced_and_its_framing_is_not(void **state) {
        static char chunk[1 << 17];
        const size_t size = 0x15f90;

        memset(chunk, 'b', size);
        strcpy(chunk + size, "\r\n0\r\n\r\n");
        start(&any, "GET /v1/1" HOST "\r\nGET /v1/2" HOST "\r\n", 1 << 16);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15f90");
        run();
        say(CONN_PEER, "\r\n");
        run();
        say(CONN_PEER, chunk);
        run();
        assert_true(c.spliced > size / 2 && c.spliced <= size);
        assert_non_null(strstr(c.out[CONN_PEER].bytes, "/v1/2"));
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        const char *end = c.out[CONN_JAIL].bytes + c.out[CONN_JAIL].n;
        assert_string_equal(end - 19 - 7, "\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n");
        stop();
}

/* From the agent, too; the request behind it is judged. */
static void a_long_request_body_is_spliced_to_its_end_and_no_further(void **state) {
        static char body[90001];

        memset(body, 'b', sizeof(body) - 1);
        for (size_t step = 100; step < 1u << 17; step *= 3) {
                start(&any, "POST /v1/1" HOST "Content-Length: 90000\r\n\r\n", step);
                say(CONN_JAIL, body);
                say(CONN_JAIL, "GET /admin" HOST "\r\n");
                run();
                assert_true(c.spliced > sizeof(body) / 2 && c.spliced < sizeof(body));
                assert_null(strstr(c.out[CONN_PEER].bytes, "admin"));
                say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
                run();
                assert_null(strstr(c.out[CONN_PEER].bytes, "admin"));
                assert_non_null(strstr(c.reports, "refuse GET /admin 403"));
                stop();
        }
}

static void nothing_goes_out_before_crewd_was_told(void **state) {
        struct conn_first f = {.bytes = (const uint8_t *)"GET /v1/x" HOST "\r\n", .n = strlen("GET /v1/x" HOST "\r\n")};
        struct crew_err err = CREW_ERR_NULL;

        memset(&c, 0, sizeof(c));
        c.policy = one_rule_policy(&any);
        c.step = 1000;
        c.crewd_slow = true;
        assert_int_equal(http_taker.take(&c, &f, &c.state, &err), 0);
        run();
        assert_int_equal(c.out[CONN_PEER].n, 0);
        c.crewd_slow = false;
        run();
        assert_true(c.out[CONN_PEER].n > 0);
        stop();
}

static void nothing_comes_back_before_crewd_was_told_and_nothing_when_it_is_gone(void **state) {
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        c.crewd_slow = true;
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        run();
        assert_int_equal(c.out[CONN_JAIL].n, 0);
        c.crewd_slow = false;
        run();
        assert_true(c.out[CONN_JAIL].n > 0);
        c.crewd_gone = true;
        say(CONN_JAIL, "GET /v1/second" HOST "\r\n");
        run();
        assert_true(c.ended);
        assert_string_equal(c.why, "crewd cannot be told");
        assert_null(strstr(c.out[CONN_PEER].bytes, "second"));
        stop();
        for (int refused = 0; refused < 2; refused++) {
                start(&any, "GET /v1/x" HOST "\r\n", 1000);
                c.crewd_gone = true;
                say(CONN_PEER, refused ? "nonsense\r\n\r\n" : "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
                run();
                assert_true(c.ended);
                assert_string_equal(c.why, "crewd cannot be told");
                assert_int_equal(c.out[CONN_JAIL].n, 0);
                stop();
        }
        start(&any, "G", 1000);
        c.crewd_slow = true;
        say(CONN_JAIL, "ET /admin" HOST "\r\n");
        run();
        assert_int_equal(c.out[CONN_JAIL].n, 0);
        assert_false(c.ended);
        c.crewd_slow = false;
        run();
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "HTTP/1.1 403 Forbidden"));
        stop();
}

/* The body that an answer to HEAD speaks of does not come: what follows it is the next answer. */
static void an_answer_to_head_has_no_body(void **state) {
        ANY_STEP(step) {
                start(&any, "HEAD /v1/1" HOST "\r\nGET /v1/2" HOST "\r\n", step);
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
                run();
                assert_non_null(strstr(c.out[CONN_PEER].bytes, "/v1/2"));
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
                run();
                assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
                                                            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
                assert_false(c.shut[CONN_JAIL]);
                stop();
        }
        start(&any, "HEAD /admin" HOST "\r\n", 1000);
        const char *end = strstr(c.out[CONN_JAIL].bytes, "\r\n\r\n");
        assert_non_null(end);
        assert_string_equal(end, "\r\n\r\n");
        stop();
}

static void interim_answers_have_an_end_and_an_old_client_sees_none(void **state) {
        static const char early[] = "HTTP/1.1 103 Early\r\n\r\n";

        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        for (int i = 0; i < 64; i++) {
                say(CONN_PEER, early);
                run();
        }
        assert_int_equal(c.out[CONN_JAIL].n, 64 * strlen(early));
        say(CONN_PEER, early);
        run();
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 "));
        assert_true(c.shut[CONN_JAIL]);
        stop();
        start(&any, "GET /v1/1" HOST "\r\nGET /v1/2" HOST "\r\n", 1000); /* counted anew for each */
        for (int i = 0; i < 64; i++)
                say(CONN_PEER, early);
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        say(CONN_PEER, early);
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        assert_null(strstr(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 "));
        stop();
        start(&any, "GET /v1/x HTTP/1.0\r\nHost: api.test\r\n\r\n", 1000);
        say(CONN_PEER, early);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        run();
        assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        assert_true(c.shut[CONN_JAIL]);
        stop();
        start(&any, "GET /v1/x HTTP/1.0\r\nHost: api.test\r\n\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        run();
        assert_int_equal(strncmp(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 ", 13), 0);
        stop();
}

static void whoever_says_close_is_believed(void **state) {
        ANY_STEP(step) {
                start(&any, "GET /v1/1" HOST "Connection: close\r\n\r\nGET /v1/2" HOST "\r\n", step);
                assert_string_equal(c.out[CONN_PEER].bytes, "GET /v1/1" HOST "Connection: close\r\n\r\n");
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
                run();
                assert_string_equal(c.out[CONN_JAIL].bytes,
                                    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1");
                assert_true(c.shut[CONN_JAIL]);
                assert_null(strstr(c.out[CONN_PEER].bytes, "/v1/2"));
                stop();
                start(&any, "GET /v1/1" HOST "\r\nGET /v1/2" HOST "\r\n", step);
                say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1");
                run();
                assert_non_null(strstr(c.out[CONN_JAIL].bytes, "Connection: close\r\n\r\n1"));
                assert_true(c.shut[CONN_JAIL]);
                assert_null(strstr(c.out[CONN_PEER].bytes, "/v1/2"));
                stop();
        }
}

/* As any server may between two requests: the client makes another connection. */
static void a_server_that_has_had_enough_ends_the_connection_in_order(void **state) {
        start(&any, "GET /v1/1" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        c.in[CONN_PEER].end = true;
        run();
        assert_true(c.shut[CONN_JAIL]);
        assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 204 No\r\n\r\n");
        stop();
        start(&any, "GET /v1/1" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        say(CONN_JAIL, "GET /v1/2" HOST "\r\n"); /* it had not seen that yet */
        run();
        c.in[CONN_PEER].end = true;
        run();
        assert_true(c.shut[CONN_JAIL]);
        assert_string_equal(c.out[CONN_JAIL].bytes, "HTTP/1.1 204 No\r\n\r\n");
        stop();
}

static void what_stops_short_is_never_made_to_look_whole(void **state) {
        start(&any, "POST /v1/x" HOST "Content-Length: 10\r\n\r\n12345", 1000);
        c.in[CONN_JAIL].end = true;
        run();
        assert_true(c.ended);
        assert_string_equal(c.why, "the agent ended in the middle of a request");
        stop();
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n");
        run();
        assert_true(c.ended);
        assert_non_null(strstr(c.why, "a chunk that does not end where its size says"));
        assert_null(strchr(c.out[CONN_JAIL].bytes, 'X'));
        stop();
        start(&any, "GET /v1/x" HOST "\r\n", 1000);
        say(CONN_PEER, "HTTP/1.1 200 O");
        c.in[CONN_PEER].end = true;
        run();
        assert_int_equal(strncmp(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 ", 13), 0);
        stop();
}

/* Heads wait until what was written before is out: no buffer grows, nothing is cut. */
static void a_head_waits_for_room(void **state) {
        static char big[16000];

        memset(big, 'y', sizeof(big) - 1);
        start(&any, "GET /v1/1" HOST "\r\n", 1 << 16);
        c.blocked[CONN_JAIL] = true;
        say(CONN_PEER, "HTTP/1.1 103 Early\r\nX: ");
        say(CONN_PEER, big);
        say(CONN_PEER, "\r\n\r\nHTTP/1.1 103 Early\r\nX: ");
        say(CONN_PEER, big);
        say(CONN_PEER, "\r\n\r\nHTTP/1.1 204 No\r\n\r\n");
        run();
        c.blocked[CONN_JAIL] = false;
        run();
        assert_int_equal(c.out[CONN_JAIL].n, 2 * (strlen("HTTP/1.1 103 Early\r\nX: \r\n\r\n") + sizeof(big) - 1) + 19);
        stop();
}

static void tls_where_it_is_not_inspected_is_not_taken(void **state) {
        const struct one_rule inspect = {.flags = NETPOLICY_INSPECT};
        struct conn_first f = {.bytes = (const uint8_t *)"\x16\x03", .n = 2, .tls = true};
        struct crew_err err = CREW_ERR_NULL;
        void *s = NULL;

        memset(&c, 0, sizeof(c));
        c.policy = one_rule_policy(&any);
        assert_int_equal(http_taker.take(&c, &f, &s, &err), -EPROTO);
        netpolicy_close(c.policy);
        c.policy = one_rule_policy(&inspect);
        f.tls = false;
        assert_int_equal(http_taker.take(&c, &f, &s, &err), -EPROTO);
        netpolicy_close(c.policy);
}

static void a_half_request_is_not_waited_for_for_ever(void **state) {
        start(&any, "GET /v1/x HTT", 1000);
        assert_int_equal(c.deadline, 30000);
        say(CONN_JAIL, "P/1.1\r\nHost: api.test\r\n\r\n");
        run();
        assert_int_equal(c.deadline, 0); /* the server may think as long as it likes */
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        run();
        assert_int_equal(c.deadline, 120000);
        stop();
}

/* --- credentials --- */

static const struct one_rule with_key = {.port = 8080, .paths = {"/**"}, .credential = "key"};

static void a_credential_is_put_in_and_masked_on_the_way_back(void **state) {
        ANY_STEP(step) {
                start(&with_key, "GET /v1/x" HOST_8080 "Authorization: Bearer mine\r\nAccept-Encoding: gzip\r\n\r\n", step);
                assert_string_equal(c.out[CONN_PEER].bytes,
                                    "GET /v1/x" HOST_8080 "Accept-Encoding: identity\r\nAuthorization: Bearer " SECRET
                                    "\r\n\r\n");
                say(CONN_PEER, "HTTP/1.1 200 " SECRET "\r\nX-Echo: Bearer " SECRET "\r\nContent-Length: 64\r\n\r\n"
                               "a " SECRET " b " SECRET " and sk-test-01234567xx");
                run();
                assert_null(strstr(c.out[CONN_JAIL].bytes, SECRET));
                assert_non_null(strstr(c.out[CONN_JAIL].bytes, "X-Echo: Bearer ******************\r\n"));
                assert_non_null(strstr(c.out[CONN_JAIL].bytes,
                                       "\r\n\r\na ****************** b ****************** and sk-test-01234567xx"));
                assert_false(c.ended);
                stop();
        }
}

static void a_credential_stays_where_it_is_bound(void **state) {
        start(&with_key, "GET /v2/x" HOST_8080 "Authorization: Bearer mine\r\n\r\n", 1000);
        assert_string_equal(c.out[CONN_PEER].bytes, "GET /v2/x" HOST_8080 "Accept-Encoding: identity\r\n\r\n");
        stop();
}

/* Audit mode lets it through; what the rules would have refused is not for a secret. */
static void what_is_only_overlooked_carries_no_credential(void **state) {
        const struct one_rule audit = {
                .port = 8080, .methods = {"GET"}, .paths = {"/**"}, .credential = "key", .flags = NETPOLICY_AUDIT};

        start(&audit, "DELETE /v1/x" HOST_8080 "Authorization: Bearer mine\r\n\r\n", 1000);
        assert_string_equal(c.out[CONN_PEER].bytes, "DELETE /v1/x" HOST_8080 "Accept-Encoding: identity\r\n\r\n");
        say(CONN_PEER, "HTTP/1.1 204 No\r\n\r\n");
        run();
        assert_string_equal(c.reports, "would-refuse DELETE /v1/x 0 DELETE is not in methods\n"
                                       "would-refuse DELETE /v1/x 204 DELETE is not in methods\n");
        say(CONN_JAIL, "GET /v1/x" HOST_8080 "\r\n");
        run();
        assert_non_null(strstr(c.out[CONN_PEER].bytes, "Authorization: Bearer " SECRET "\r\n"));
        stop();
}

/* An answer that may hold a secret is looked at to its last byte. */
static void an_answer_from_where_a_secret_goes_is_not_spliced(void **state) {
        static char body[1 << 17];

        start(&with_key, "GET /v1/x" HOST_8080 "\r\n", 1 << 16);
        memset(body, 'b', 100000);
        memcpy(body + 99000, SECRET, strlen(SECRET));
        say(CONN_PEER, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        run();
        say(CONN_PEER, body);
        run();
        assert_int_equal(c.spliced, 0);
        assert_null(strstr(c.out[CONN_JAIL].bytes, SECRET));
        assert_non_null(strstr(c.out[CONN_JAIL].bytes, "b******************b"));
        stop();
}

static void a_credential_that_is_not_there_is_a_502(void **state) {
        const struct one_rule unknown = {.port = 8080, .paths = {"/**"}, .credential = "nobody"};

        start(&unknown, "GET /v1/x" HOST_8080 "\r\n", 1000);
        assert_int_equal(c.out[CONN_PEER].n, 0);
        assert_int_equal(strncmp(c.out[CONN_JAIL].bytes, "HTTP/1.1 502 ", 13), 0);
        stop();
}

static int set_up(void **state) {
        char dir[] = "/tmp/crewd-http-XXXXXX", path[64], token[64];
        const struct http_options o = {.credentials = path};
        struct crew_err err = CREW_ERR_NULL;

        if (!mkdtemp(dir))
                return -1;
        snprintf(path, sizeof(path), "%s/creds", dir);
        snprintf(token, sizeof(token), "%s/token", dir);
        const char text[] = "[key]\nhost = api.test\nport = 8080\npath = /v1/**\nplain_http = yes\nfile = token\n";
        int r = crew_write_file_atomic(path, text, sizeof(text) - 1, 0600, &err);
        if (r == 0)
                r = crew_write_file_atomic(token, SECRET, strlen(SECRET), 0600, &err);
        if (r == 0)
                r = http_open(&o, &err);
        unlink(path);
        unlink(token);
        rmdir(dir);
        return r;
}

static int tear_down(void **state) {
        http_close();
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_and_its_answer_pass),
                cmocka_unit_test(pipelined_requests_go_one_by_one),
                cmocka_unit_test(a_refused_request_leaves_the_connection_but_its_body_does_not),
                cmocka_unit_test(nothing_malformed_reaches_the_server),
                cmocka_unit_test(a_body_that_breaks_its_framing_ends_the_connection),
                cmocka_unit_test(interim_answers_pass_and_switching_does_not),
                cmocka_unit_test(an_answer_nobody_asked_for_ends_the_connection),
                cmocka_unit_test(a_broken_answer_becomes_a_502),
                cmocka_unit_test(an_answer_that_stops_short_is_a_reset),
                cmocka_unit_test(without_a_length_the_end_of_the_stream_ends_the_answer),
                cmocka_unit_test(an_early_answer_ends_the_connection_when_it_is_complete),
                cmocka_unit_test(a_slow_reader_holds_the_other_side_back),
                cmocka_unit_test(a_long_plain_body_is_spliced_to_its_end_and_no_further),
                cmocka_unit_test(nothing_goes_out_before_crewd_was_told),
                cmocka_unit_test(nothing_comes_back_before_crewd_was_told_and_nothing_when_it_is_gone),
                cmocka_unit_test(a_long_chunk_is_spliced_and_its_framing_is_not),
                cmocka_unit_test(a_long_request_body_is_spliced_to_its_end_and_no_further),
                cmocka_unit_test(an_answer_to_head_has_no_body),
                cmocka_unit_test(interim_answers_have_an_end_and_an_old_client_sees_none),
                cmocka_unit_test(whoever_says_close_is_believed),
                cmocka_unit_test(a_server_that_has_had_enough_ends_the_connection_in_order),
                cmocka_unit_test(what_stops_short_is_never_made_to_look_whole),
                cmocka_unit_test(a_head_waits_for_room),
                cmocka_unit_test(what_is_only_overlooked_carries_no_credential),
                cmocka_unit_test(an_answer_from_where_a_secret_goes_is_not_spliced),
                cmocka_unit_test(tls_where_it_is_not_inspected_is_not_taken),
                cmocka_unit_test(a_half_request_is_not_waited_for_for_ever),
                cmocka_unit_test(a_credential_is_put_in_and_masked_on_the_way_back),
                cmocka_unit_test(a_credential_stays_where_it_is_bound),
                cmocka_unit_test(a_credential_that_is_not_there_is_a_502),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
