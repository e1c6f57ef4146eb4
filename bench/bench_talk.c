/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent that sends messages at a steady rate and times those that come in (driver stdio-rpc).  A task's description is
 * "TARGET RATE SECONDS EXPECT BEGIN HOW": RATE messages a second to agent TARGET for SECONDS, the first one at BEGIN (ns),
 * and EXPECT messages to wait for.  HOW is "told" when the sender is to hear of each that it was taken (a request),
 * "untold" when not (a notification).  Each carries the time it was due, so a sender that is held up counts as late
 * (CLOCK_MONOTONIC is one for all jails). Result: {"sent", "accepted", "refused", "received", "us": [latency of each]}.
 *
 * It is to cost little beside what is measured: it sleeps until a message is due or one comes in, reads what became of
 * those it sent some at a time, as an agent does that has nothing to do but send, and formats no more than the numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 65536
#define MESSAGES_MAX 65536u
#define ANSWERS_AT_ONCE 16
#define PATIENCE_NS 3000000000u /* for the last messages, after the last was sent */

struct wire {
        int fd;
        size_t n;
        char in[LINE_BYTES];
};

struct talk {
        bool busy; /* with a task */
        unsigned id, rate;
        char target[64];
        bool told;
        size_t all, expect, sent, accepted, refused, received;
        uint64_t started_ns, end_ns;
        uint32_t us[MESSAGES_MAX]; /* what comes before the task counts for it */
        struct wire crew, in;
        size_t n_middle;
        char middle[160]; /* of a message: between its id and the time it was due */
};

static uint64_t now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void give_up(const char *what) {
        fprintf(stderr, "bench-talk: %s: %s\n", what, strerror(errno));
        exit(1);
}

static int dial(void) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        const char *path = getenv("CREW_SOCKET");
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (!path || strlen(path) >= sizeof(to.sun_path))
                give_up("CREW_SOCKET");
        strcpy(to.sun_path, path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                give_up(path);
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                give_up("fcntl");
        return fd;
}

static char *put(char *at, const char *text, size_t n) {
        memcpy(at, text, n);
        return at + n;
}

static char *put_number(char *at, uint64_t value) {
        char digits[20];
        size_t n = 0;

        do
                digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
        while ((value /= 10));
        return put(at, digits + sizeof(digits) - n, n);
}

static void send_one(struct talk *t, uint64_t due_ns) {
        static const char head[] = "{\"jsonrpc\":\"2.0\",", id[] = "\"id\":", tail[] = "}}}\n";
        char line[sizeof(t->middle) + 128], *at = put(line, head, sizeof(head) - 1);

        if (t->told) {
                at = put_number(put(at, id, sizeof(id) - 1), t->sent);
                *at++ = ',';
        }
        at = put_number(put(at, t->middle, t->n_middle), due_ns);
        at = put(at, tail, sizeof(tail) - 1);
        if (write(t->crew.fd, line, (size_t)(at - line)) != at - line)
                give_up("write");
        t->sent++;
}

static uint64_t due_ns(const struct talk *t) {
        return t->started_ns + t->sent * 1000000000ull / t->rate;
}

static void begin(struct talk *t, const char *line) {
        const char *id = strstr(line, "\"id\":"), *what = strstr(line, "\"description\":\"");
        unsigned seconds;
        char how[8];

        if (!id || !what || sscanf(id + 5, "%u", &t->id) != 1 ||
            sscanf(what + 15, "%63s %u %u %zu %" SCNu64 " %7[a-z]", t->target, &t->rate, &seconds, &t->expect,
                   &t->started_ns, how) != 6 ||
            t->expect > MESSAGES_MAX) {
                fputs("bench-talk: the task is not 'TARGET RATE SECONDS EXPECT BEGIN HOW'\n", stderr);
                exit(2);
        }
        t->told = strcmp(how, "told") == 0;
        t->n_middle =
                (size_t)snprintf(t->middle, sizeof(t->middle),
                                 "\"method\":\"crew/send\",\"params\":{\"target\":\"%s\",\"payload\":{\"due\":", t->target);
        t->all = (size_t)t->rate * seconds;
        t->end_ns = t->started_ns + seconds * 1000000000ull;
        t->busy = true;
}

static void report(struct talk *t) {

        printf("{\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":{\"sent\":%zu,\"accepted\":%zu,\"refused\":%zu,\"received\":%zu,"
               "\"us\":[",
               t->id, t->sent, t->accepted, t->refused, t->received);
        for (size_t i = 0; i < t->received; i++)
                printf("%s%u", i ? "," : "", t->us[i]);
        puts("]}}");
        fflush(stdout);
        t->sent = t->accepted = t->refused = t->received = 0;
        t->busy = false;
}

static void on_input(struct talk *t, const char *line) {
        const char *due = strstr(line, "\"due\":");

        if (due && t->received < MESSAGES_MAX)
                t->us[t->received++] = (uint32_t)((now_ns() - strtoull(due + 6, NULL, 10)) / 1000u);
        else if (strstr(line, "\"method\":\"task\""))
                begin(t, line);
}

static void on_answer(struct talk *t, const char *line) {
        if (strstr(line, "\"error\""))
                t->refused++;
        else
                t->accepted++;
}

static void take_lines(struct talk *t, struct wire *w, void (*on_line)(struct talk *t, const char *line)) {
        ssize_t n = read(w->fd, w->in + w->n, sizeof(w->in) - w->n - 1);
        char *at = w->in, *end;

        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0)
                exit(n < 0); /* the crew ends */
        w->n += (size_t)n;
        w->in[w->n] = '\0';
        while ((end = strchr(at, '\n'))) {
                *end = '\0';
                on_line(t, at);
                at = end + 1;
        }
        w->n -= (size_t)(at - w->in);
        memmove(w->in, at, w->n);
}

static void send_due(struct talk *t) {
        while (t->busy && t->sent < t->all && due_ns(t) <= now_ns()) {
                send_one(t, due_ns(t));
                if (t->told && t->sent % ANSWERS_AT_ONCE == 0)
                        take_lines(t, &t->crew, on_answer);
        }
}

static bool done(const struct talk *t) {
        return now_ns() >= t->end_ns + PATIENCE_NS ||
               (t->sent == t->all && (!t->told || t->accepted + t->refused == t->all) && t->received == t->expect);
}

static void sleep_until(struct talk *t, struct pollfd p[2]) {
        uint64_t now = now_ns(), due = t->sent < t->all ? due_ns(t) : t->end_ns + PATIENCE_NS,
                 left = due > now ? due - now : 0;
        struct timespec time = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};

        p[0] = (struct pollfd){.fd = t->in.fd, .events = POLLIN};
        p[1] = (struct pollfd){.fd = t->crew.fd, .events = POLLIN};
        if (ppoll(p, t->sent < t->all ? 1 : 2, t->busy ? &time : NULL, NULL) < 0 && errno != EINTR)
                give_up("poll");
}

int main(void) {
        static struct talk t;
        struct pollfd p[2];

        t.crew.fd = dial();
        prctl(PR_SET_TIMERSLACK, 1ul); /* else every message is 50 us late */
        for (;;) {
                sleep_until(&t, p);
                if (p[0].revents)
                        take_lines(&t, &t.in, on_input);
                if (p[1].revents)
                        take_lines(&t, &t.crew, on_answer);
                send_due(&t);
                if (t.busy && done(&t))
                        report(&t);
        }
}
