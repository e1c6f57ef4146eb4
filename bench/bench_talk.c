/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent that sends messages at a steady rate and times those that come in (driver stdio-rpc).  A task's description is
 * "TARGET RATE SECONDS EXPECT BEGIN HOW": RATE messages a second to agent TARGET for SECONDS, the first one at BEGIN (ns),
 * and EXPECT messages to wait for.  HOW is "told" when the sender is to hear of each that it was taken (a request),
 * "untold" when not (a notification).  Each carries the time it was due, so a sender that is held up counts as late
 * (CLOCK_MONOTONIC is one for all jails). Result: {"sent", "accepted", "refused", "received", "us": [latency of each]}.
 *
 * It is to cost little beside what is measured: it sleeps until a message is due or one comes in, and reads what became of
 * those it sent some at a time, as an agent does that has nothing to do but send.
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
#include <sys/socket.h>
#include <sys/timerfd.h>
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
        int timer;
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

static void send_one(struct talk *t, uint64_t due_ns) {
        char line[512];
        int n = snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",");

        if (t->told)
                n += snprintf(line + n, sizeof(line) - (size_t)n, "\"id\":%zu,", t->sent);
        n += snprintf(line + n, sizeof(line) - (size_t)n,
                      "\"method\":\"crew/send\",\"params\":{\"target\":\"%s\",\"payload\":{\"due\":%" PRIu64 "}}}\n",
                      t->target, due_ns);

        if (write(t->crew.fd, line, (size_t)n) != n)
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
        long period = t->rate ? 1000000000l / t->rate : 50000000l;
        struct itimerspec every = {{0, period},
                                   {(time_t)(t->started_ns / 1000000000u), (long)(t->started_ns % 1000000000u)}};
        if (period >= 1000000000l || timerfd_settime(t->timer, TFD_TIMER_ABSTIME, &every, NULL) < 0)
                give_up("timer");
        t->told = strcmp(how, "told") == 0;
        t->all = (size_t)t->rate * seconds;
        t->end_ns = t->started_ns + seconds * 1000000000ull;
        t->busy = true;
}

static void report(struct talk *t) {
        const struct itimerspec never = {{0, 0}, {0, 0}};

        printf("{\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":{\"sent\":%zu,\"accepted\":%zu,\"refused\":%zu,\"received\":%zu,"
               "\"us\":[",
               t->id, t->sent, t->accepted, t->refused, t->received);
        for (size_t i = 0; i < t->received; i++)
                printf("%s%u", i ? "," : "", t->us[i]);
        puts("]}}");
        fflush(stdout);
        timerfd_settime(t->timer, 0, &never, NULL);
        t->sent = t->accepted = t->refused = t->received = 0;
        t->busy = false;
}

static void on_input(struct talk *t, const char *line) {
        const char *due = strstr(line, "\"due\":");

        if (strstr(line, "\"method\":\"task\""))
                begin(t, line);
        else if (due && t->received < MESSAGES_MAX)
                t->us[t->received++] = (uint32_t)((now_ns() - strtoull(due + 6, NULL, 10)) / 1000u);
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

static void on_tick(struct talk *t) {
        uint64_t times;

        if (read(t->timer, &times, sizeof(times)) < 0)
                give_up("timer");
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

int main(void) {
        static struct talk t;

        t.crew.fd = dial();
        t.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        for (;;) {
                struct pollfd p[3] = {{.fd = t.in.fd, .events = POLLIN},
                                      {.fd = t.sent < t.all ? -1 : t.crew.fd, .events = POLLIN},
                                      {.fd = t.timer, .events = POLLIN}};
                if (poll(p, 3, -1) < 0 && errno != EINTR)
                        give_up("poll");
                if (p[0].revents)
                        take_lines(&t, &t.in, on_input);
                if (p[1].revents)
                        take_lines(&t, &t.crew, on_answer);
                if (p[2].revents)
                        on_tick(&t);
                if (t.busy && done(&t))
                        report(&t);
        }
}
