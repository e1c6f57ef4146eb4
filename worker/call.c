/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-call: an agent's shell command for tools and for the other agents.
 *
 * One request on $CREW_SOCKET, its answer on stdout.  Runs inside the jail with the agent's rights: it can do nothing
 * that a program speaking to the socket itself could not.  See crew-call(1) for the exit codes.
 */
#include "call_relay.h"
#include "common/util.h"
#include "jsonrpc.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define MAX_INPUT RPC_MAX_LINE
#define MAX_REPLY (16u << 20)
#define DEFAULT_SOCKET "/run/crew/agent.sock"
#define REPLY_GRACE_MS 1000u /* the other end times the call out; we only guard against its silence */

enum {
        EXIT_OK = 0,
        EXIT_INTERNAL = 1,
        EXIT_USAGE = 2,
        EXIT_DENIED = 3,
        EXIT_INVALID = 4,
        EXIT_FAILED = 5,
        EXIT_NO_SOCKET = 69,
        EXIT_DONE = -1, /* inside only: all is said, status 0 */
};

struct options {
        const struct verb *verb;
        const char *name;  /* tool, agent or ask */
        const char *error; /* answer --error */
        uint64_t timeout_ms;
        bool has_timeout;
};

/* ---- the request ---- */

static void put_member(struct strbuf *b, const char *key, const char *value) {
        strbuf_printf(b, "\"%s\":", key);
        strbuf_json_string(b, value, strlen(value));
}

static void put_input(struct strbuf *b, const char *key, struct json_span input) {
        strbuf_printf(b, ",\"%s\":", key);
        strbuf_json_text(b, input.p, input.n);
}

static void put_timeout(struct strbuf *b, const struct options *o, const char *comma) {
        if (o->has_timeout)
                strbuf_printf(b, "%s\"timeout_ms\":%llu", comma, (unsigned long long)o->timeout_ms);
}

static void params_tool(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "name", o->name);
        put_input(b, "arguments", input);
}

static void params_letter(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "target", o->name);
        put_input(b, "payload", input);
        put_timeout(b, o, ",");
}

static void params_receive(struct strbuf *b, const struct options *o, struct json_span input) {
        put_timeout(b, o, "");
}

static void params_answer(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "id", o->name);
        if (o->error) {
                strbuf_puts(b, ",");
                put_member(b, "error", o->error);
        } else {
                put_input(b, "payload", input);
        }
}

/* The members of the object on stdin behind the operand's. */
static void put_members(struct strbuf *b, struct json_span object) {
        struct json_span key, value;

        for (size_t at = 0; json_is(object, JSON_T_OBJECT) && json_next(object, &at, &key, &value);) {
                strbuf_puts(b, ",");
                strbuf_put(b, key.p, key.n);
                strbuf_puts(b, ":");
                strbuf_json_text(b, value.p, value.n);
        }
}

static void params_submit(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "agent", o->name);
        put_members(b, input);
        put_timeout(b, o, ",");
}

static void params_release(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "task", o->name);
        put_members(b, input);
        put_timeout(b, o, ",");
}

static void params_task_id(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "task_id", o->name);
        put_members(b, input);
        put_timeout(b, o, ",");
}

static void params_agent(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "agent", o->name);
        put_members(b, input);
}

/* What is no number is a string, which the other end refuses by name. */
static void params_seen(struct strbuf *b, const struct options *o, struct json_span input) {
        uint64_t id;

        if (crew_parse_u64(o->name, &id) == 0)
                strbuf_printf(b, "\"id\":%llu", (unsigned long long)id);
        else
                put_member(b, "id", o->name);
}

/* SPACE/KEY, or SPACE alone. */
static void put_place(struct strbuf *b, const struct options *o, bool key) {
        size_t n = key ? strcspn(o->name, "/") : strlen(o->name);

        strbuf_puts(b, "\"space\":");
        strbuf_json_string(b, o->name, n);
        if (key) {
                strbuf_puts(b, ",");
                put_member(b, "key", o->name[n] ? o->name + n + 1 : "");
        }
}

static void params_memory_put(struct strbuf *b, const struct options *o, struct json_span input) {
        put_place(b, o, true);
        put_input(b, "value", input);
}

static void params_memory_get(struct strbuf *b, const struct options *o, struct json_span input) {
        put_place(b, o, true);
}

static void params_memory_list(struct strbuf *b, const struct options *o, struct json_span input) {
        put_place(b, o, false);
}

static void params_request(struct strbuf *b, const struct options *o, struct json_span input) {
        put_member(b, "tool", o->name);
        put_members(b, input);
}

static void params_none(struct strbuf *b, const struct options *o, struct json_span input) {
}

static const struct verb {
        const char *name, *operand, *method, *empty_input; /* empty_input NULL: stdin is not read */
        void (*put_params)(struct strbuf *b, const struct options *o, struct json_span input);
        const char *help;
} verbs[] = {
        {"tool", "NAME", "tools/call", "{}", params_tool, "run a tool; arguments on stdin, result on stdout"},
        {"tools", NULL, "tools/list", NULL, params_none, "list the tools this agent may run"},
        {"send", "AGENT", "crew/send", "null", params_letter, "send the JSON on stdin to another agent"},
        {"ask", "AGENT", "crew/ask", "null", params_letter, "the same, and print its answer"},
        {"receive", NULL, "crew/receive", NULL, params_receive,
         "print the next message or ask; null when the time is over"},
        {"answer", "ID", "crew/answer", "null", params_answer, "answer an ask that receive printed"},
        {"memory-put", "SPACE/KEY", "memory/put", "null", params_memory_put, "put the JSON on stdin into a shared memory"},
        {"memory-get", "SPACE/KEY", "memory/get", NULL, params_memory_get, "print what is there"},
        {"memory-list", "SPACE", "memory/list", NULL, params_memory_list, "list the keys of a shared memory"},
        {"request", "TOOL", "tools/request", "{}", params_request, "ask for a tool; {\"reason\": ...} on stdin"},
        {"agents", NULL, "crew/agents", NULL, params_none, "manager: list the agents it may address"},
        {"submit", "AGENT", "crew/submit", "{}", params_submit, "manager: hand the task on stdin to an agent"},
        {"release", "TASK", "crew/submit", "{}", params_release, "manager: hand a task of the crew file out"},
        {"wait", "ID", "crew/wait", NULL, params_task_id, "manager: wait for a task's outcome"},
        {"result", "ID", "crew/result", NULL, params_task_id, "manager: what is known of a task now"},
        {"cancel", "ID", "crew/cancel", "{}", params_task_id, "manager: call a task off"},
        {"reprioritise", "ID", "crew/reprioritise", "{}", params_task_id, "manager: {\"priority\": N} on stdin"},
        {"terminations", NULL, "crew/terminations", NULL, params_none, "manager: ends of agents not acknowledged yet"},
        {"seen", "ID", "crew/seen", NULL, params_seen, "manager: acknowledge the end of an agent"},
        {"spawn", "AGENT", "crew/spawn", "{}", params_agent, "manager: start one more instance of an agent"},
        {"retire", "AGENT", "crew/retire", "{}", params_agent, "manager: end an instance it had started"},
        {"mcp", NULL, NULL, NULL, params_none, "be an MCP server on stdin and stdout"},
};

static void usage(FILE *to) {
        fprintf(to, "usage: crew-call VERB [NAME] [--timeout 30s] < in.json\n");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                char head[32];
                snprintf(head, sizeof(head), "%s %s", verbs[i].name, verbs[i].operand ? verbs[i].operand : "");
                fprintf(to, "  %-21s %s\n", head, verbs[i].help);
        }
        fprintf(to, "exit: 0 done, 2 usage, 3 denied by policy, 4 invalid, 5 failed or timed out, 69 not inside a jail\n");
}

/* ---- the answer ---- */

static int exit_code_of(int code) {
        switch (code) {
        case RPC_DENIED:
                return EXIT_DENIED;
        case RPC_BAD_ARGUMENTS:
        case RPC_INVALID_PARAMS:
        case RPC_INVALID_REQUEST:
        case RPC_PARSE_ERROR:
                return EXIT_INVALID;
        default:
                return EXIT_FAILED;
        }
}

/* {"error": OBJECT} on stdout for programs, its text on stderr for people. */
static int print_error(struct json_span error) {
        struct json_span code = json_member(error, "code"), rule = json_member(json_member(error, "data"), "rule");
        char digits[16] = "", message[1100] = "failed", where[700];

        printf("{\"error\":%.*s}\n", (int)error.n, error.p);
        (void)json_decode(json_member(error, "message"), message, sizeof(message));
        fprintf(stderr, "crew-call: %s\n", message);
        if (json_decode(rule, where, sizeof(where)) > 0)
                fprintf(stderr, "  %s\n", where);
        if (code.p)
                snprintf(digits, sizeof(digits), "%.*s", (int)MIN_OF(code.n, sizeof(digits) - 1), code.p);
        return exit_code_of((int)strtol(digits, NULL, 10));
}

static int local_error(int code, const char *message) {
        struct strbuf b = STRBUF_MAX(4096);
        struct json_problem why;
        struct json_span error;

        strbuf_printf(&b, "{\"code\":%d,\"message\":", code);
        strbuf_json_string(&b, message, strlen(message));
        strbuf_puts(&b, "}");
        int r = json_check(b.p, b.n, &error, &why) == 0 ? print_error(error) : EXIT_INTERNAL;
        strbuf_fini(&b);
        return r;
}

/* A tool's result is the text of its first content item: the JSON it printed, byte for byte. */
static int print_tool_result(struct json_span result) {
        struct json_span items = json_member(result, "content"), key, item, text = JSON_ABSENT;
        size_t at = 0;

        if (json_is(json_member(result, "isError"), JSON_T_TRUE))
                return print_error(json_member(json_member(result, "structuredContent"), "error"));
        if (json_next(items, &at, &key, &item))
                text = json_member(item, "text");
        _cleanup_free_ char *out = malloc(text.n + 1);
        if (!out || json_decode(text, out, text.n + 1) < 0)
                return local_error(RPC_INTERNAL, "the answer holds no text");
        puts(out);
        return EXIT_OK;
}

static int print_reply(const struct options *o, const struct rpc_message *m) {
        int r = EXIT_OK;

        if (m->error.p)
                r = print_error(m->error);
        else if (o->verb->put_params == params_tool)
                r = print_tool_result(m->result);
        else
                printf("%.*s\n", (int)m->result.n, m->result.p);
        if (fflush(stdout) != 0)
                return EXIT_INTERNAL;
        return r;
}

/* ---- the connection ---- */

static int connect_socket(const char *path) {
        struct sockaddr_un sun = {.sun_family = AF_UNIX};

        if (strlen(path) >= sizeof(sun.sun_path))
                return -ENAMETOOLONG;
        strcpy(sun.sun_path, path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
                return -errno;
        return crew_steal_fd(&fd);
}

static int send_all(int fd, const struct strbuf *b) {
        for (size_t sent = 0; sent < b->n;) {
                ssize_t r = send(fd, b->p + sent, b->n - sent, MSG_NOSIGNAL);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno; /* the other end may have said why: read on */
                sent += (size_t)r;
        }
        return 0;
}

/* One line into b, without its end.  0, -ETIMEDOUT, -EPIPE, or -errno. */
static int read_line(int fd, struct strbuf *b, uint64_t end_ns) {
        for (;;) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                uint64_t now = crew_now_ns();
                if (end_ns && now >= end_ns)
                        return -ETIMEDOUT;
                int n = poll(&p, 1, end_ns ? (int)MIN_OF((end_ns - now) / 1000000u + 1, (uint64_t)86400000u) : -1);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n <= 0)
                        continue;
                char *where = strbuf_room(b, 4096);
                ssize_t r = where ? recv(fd, where, 4096, 0) : 0;
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return where ? -EPIPE : -EMSGSIZE;
                strbuf_added(b, (size_t)r);
                if (where[r - 1] == '\n') {
                        b->n--;
                        return 0; /* one request, so one line */
                }
        }
}

/* An MCP client starts its server with an environment of its own: the place is fixed, the variable only names it. */
static int open_socket(void) {
        const char *path = getenv("CREW_SOCKET");
        int fd = connect_socket(path && *path ? path : DEFAULT_SOCKET);

        if (fd < 0)
                fprintf(stderr,
                        "crew-call: cannot connect to %s: %s\n  it works inside a crewd jail only, for an agent's own "
                        "program\n",
                        path && *path ? path : DEFAULT_SOCKET, strerror(-fd));
        return fd;
}

static int relay(void) {
        int fd = open_socket(), r;

        if (fd < 0)
                return EXIT_NO_SOCKET;
        if ((r = call_relay(fd)) < 0)
                fprintf(stderr, "crew-call: %s\n", strerror(-r));
        close(fd);
        return r < 0 ? EXIT_FAILED : EXIT_OK;
}

static int exchange(const struct options *o, const struct strbuf *request) {
        struct strbuf reply = STRBUF_MAX(MAX_REPLY);
        struct rpc_message m;
        char what[200];
        int fd, r;

        if ((fd = open_socket()) < 0)
                return EXIT_NO_SOCKET;
        (void)send_all(fd, request);
        r = read_line(fd, &reply, o->has_timeout ? crew_now_ns() + (o->timeout_ms + REPLY_GRACE_MS) * 1000000u : 0);
        close(fd);
        if (r == -ETIMEDOUT)
                return local_error(RPC_TIMED_OUT, "no answer in time");
        if (r < 0) {
                snprintf(what, sizeof(what), "the connection ended without an answer: %s", strerror(-r));
                return local_error(RPC_INTERNAL, what);
        }
        rpc_parse(reply.p, reply.n, &m);
        r = m.kind == RPC_RESPONSE ? print_reply(o, &m) : local_error(RPC_INTERNAL, "the answer is not JSON-RPC");
        strbuf_fini(&reply);
        return r;
}

/* ---- the command line ---- */

/* Standard input as one JSON value; nothing there (a terminal, an empty stream) is the verb's default. */
static int read_input(const struct options *o, char **text, struct json_span *value) {
        struct crew_err err = CREW_ERR_NULL;
        struct json_problem why;
        struct stat st;
        char what[160];
        size_t n = 0;
        int r;

        *value = (struct json_span){o->verb->empty_input, o->verb->empty_input ? strlen(o->verb->empty_input) : 0};
        if (!o->verb->empty_input || o->error || isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &st) < 0)
                return EXIT_OK;
        if ((r = crew_read_fd(STDIN_FILENO, MAX_INPUT, text, &n, &err)) < 0)
                return local_error(RPC_INVALID_REQUEST, r == -EFBIG ? "stdin: larger than 1 MiB" : "stdin: cannot read");
        if (strspn(*text, " \t\r\n") == n)
                return EXIT_OK;
        if (json_check(*text, n, value, &why) == 0)
                return EXIT_OK;
        snprintf(what, sizeof(what), "stdin is not one JSON value: %s at byte %zu", why.what, why.at);
        return local_error(RPC_PARSE_ERROR, what);
}

static int complain(const char *what, const char *arg) {
        fprintf(stderr, "crew-call: %s%s%s\n", what, arg ? " " : "", arg ? arg : "");
        usage(stderr);
        return EXIT_USAGE;
}

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

/* EXIT_OK with o->verb set; EXIT_DONE after --help and --version. */
static int parse_options(int argc, char **argv, struct options *o) {
        static const struct option long_options[] = {{"timeout", required_argument, NULL, 't'},
                                                     {"error", required_argument, NULL, 'e'},
                                                     {"help", no_argument, NULL, 'h'},
                                                     {"version", no_argument, NULL, 'V'},
                                                     {0}};
        uint64_t ns;

        for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
                switch (c) {
                case 't':
                        if (crew_parse_duration(optarg, &ns) < 0 || ns > 86400000000000u)
                                return complain("--timeout takes 250ms, 30s, 5m, 24h at most", NULL);
                        o->timeout_ms = ns / 1000000u;
                        o->has_timeout = true;
                        break;
                case 'e':
                        o->error = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        return EXIT_DONE;
                case 'V':
                        printf("crew-call %s\n", CREW_VERSION);
                        return EXIT_DONE;
                default:
                        usage(stderr); /* getopt has said what is wrong */
                        return EXIT_USAGE;
                }
        }
        return EXIT_OK;
}

static int parse(int argc, char **argv, struct options *o) {
        int r = parse_options(argc, argv, o), n = argc - optind;

        if (r != EXIT_OK)
                return r;
        if (n == 0)
                return complain("no verb", NULL);
        if (!(o->verb = find_verb(argv[optind])))
                return complain("unknown verb", argv[optind]);
        if (o->verb->operand && n < 2)
                return complain("missing", o->verb->operand);
        if (n > (o->verb->operand ? 2 : 1))
                return complain("unexpected", argv[argc - 1]);
        o->name = o->verb->operand ? argv[optind + 1] : NULL;
        if (o->name && !crew_utf8_ok(o->name, strlen(o->name)))
                return complain("not valid UTF-8:", o->verb->operand);
        return EXIT_OK;
}

static int call(const struct options *o) {
        struct strbuf request = STRBUF_MAX(2 * MAX_INPUT);
        _cleanup_free_ char *text = NULL;
        struct json_span input;
        int r = read_input(o, &text, &input);

        if (r != EXIT_OK)
                return r;
        strbuf_printf(&request, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":{", o->verb->method);
        o->verb->put_params(&request, o, input);
        strbuf_puts(&request, "}}\n");
        r = request.failed ? local_error(RPC_INVALID_REQUEST, "the request is larger than the socket takes")
                           : exchange(o, &request);
        strbuf_fini(&request);
        return r;
}

int main(int argc, char **argv) {
        struct options o = {0};
        int r = parse(argc, argv, &o);

        if (r != EXIT_OK)
                return r == EXIT_DONE ? EXIT_OK : r;
        return o.verb->method ? call(&o) : relay();
}
