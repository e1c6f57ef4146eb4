/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What messages between agents cost when nothing is done with them: the same processes and hops (agent, worker, hub,
 * worker, agent), one read and one write each, no jail, no rules, no records.  usage: bench-relay PAIRS SENDERS RATE
 * SECONDS
 *
 * SENDERS of PAIRS agents send RATE messages a second each to the next agent, evenly spread.  A message is the time it was
 * due.  Prints {"n", "p50", "p99"}: microseconds until the receiver has it.  Beside bench_talk.c it tells what part of a
 * tail is the machine's.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 256u
#define SECOND_NS 1000000000ull
#define PATIENCE_NS (SECOND_NS / 2)
#define BATCH 64

static unsigned n_pairs, n_senders, rate, seconds;
static uint64_t begin_ns;
static int hub_end[PAIRS_MAX], worker_end[PAIRS_MAX];

/* Shared: what each agent has measured. */
static struct seen {
        uint32_t n;
        uint32_t us[];
} * seen[PAIRS_MAX];

static uint64_t now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static _Noreturn void give_up(const char *what) {
        fprintf(stderr, "bench-relay: %s: %s\n", what, strerror(errno));
        exit(1);
}

static void watch(int epoll, int fd, uint32_t word) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = word};

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
                give_up("epoll_ctl");
}

/* What has come from one goes to the other; false: it is over. */
static bool pass_on(int from, int to) {
        uint64_t messages[BATCH];
        ssize_t n = read(from, messages, sizeof(messages));

        return n > 0 && write(to, messages, (size_t)n) == n;
}

static _Noreturn void be_hub(void) {
        struct epoll_event ev[BATCH];
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        for (uint32_t i = 0; i < n_pairs; i++)
                watch(epoll, hub_end[i], i);
        for (;;) {
                int n = epoll_wait(epoll, ev, BATCH, -1);
                for (int k = 0; k < n; k++)
                        if (!pass_on(hub_end[ev[k].data.u32], hub_end[(ev[k].data.u32 + 1) % n_pairs]))
                                _exit(1);
        }
}

static _Noreturn void be_worker(int hub, int from_agent, int to_agent) {
        struct epoll_event ev;
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        watch(epoll, hub, true);
        watch(epoll, from_agent, false);
        for (;;) {
                if (epoll_wait(epoll, &ev, 1, -1) == 1 &&
                    !(ev.data.u32 ? pass_on(hub, to_agent) : pass_on(from_agent, hub)))
                        _exit(1);
        }
}

static void take(struct seen *s, int in) {
        uint64_t due[BATCH], now;
        ssize_t n = read(in, due, sizeof(due));

        now = now_ns();
        for (ssize_t i = 0; i < n / (ssize_t)sizeof(due[0]) && s->n < 2 * rate * seconds; i++)
                s->us[s->n++] = (uint32_t)((now - due[i]) / 1000u);
}

static _Noreturn void be_agent(uint32_t i, int in, int out) {
        uint64_t start = begin_ns + i * SECOND_NS / rate / n_pairs, end = begin_ns + seconds * SECOND_NS + PATIENCE_NS, now;
        uint32_t all = i < n_senders ? rate * seconds : 0, sent = 0;

        prctl(PR_SET_TIMERSLACK, 1ul);
        while ((now = now_ns()) < end) {
                uint64_t due = sent < all ? start + sent * SECOND_NS / rate : end;
                if (due <= now && sent < all) {
                        if (write(out, &due, sizeof(due)) != sizeof(due))
                                give_up("write");
                        sent++;
                        continue;
                }
                struct timespec left = {(time_t)((due - now) / SECOND_NS), (long)((due - now) % SECOND_NS)};
                struct pollfd p = {.fd = in, .events = POLLIN};
                if (ppoll(&p, 1, &left, NULL) == 1)
                        take(seen[i], in);
        }
        _exit(0);
}

/* An agent sends through a socket and reads from a pipe, as those of crewd do. */
static pid_t start_pair(uint32_t i) {
        int up[2], in[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, up) < 0 || pipe(in) < 0)
                give_up("socketpair");
        if ((pid = fork()) == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                be_worker(worker_end[i], up[0], in[1]);
        }
        if (pid > 0 && (pid = fork()) == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                be_agent(i, in[0], up[1]);
        }
        if (pid < 0)
                give_up("fork");
        return pid;
}

static int compare(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

static void report(void) {
        uint32_t *all = malloc(sizeof(*all) * 2 * rate * seconds * n_pairs);
        size_t n = 0;

        if (!all)
                give_up("malloc");
        for (uint32_t i = 0; i < n_pairs; i++) {
                memcpy(all + n, seen[i]->us, seen[i]->n * sizeof(*all));
                n += seen[i]->n;
        }
        qsort(all, n, sizeof(*all), compare);
        printf("{\"n\": %zu, \"p50\": %" PRIu32 ", \"p99\": %" PRIu32 "}\n", n, n ? all[n / 2] : 0,
               n ? all[n * 99 / 100] : 0);
        free(all);
}

int main(int argc, char **argv) {
        pid_t agents[PAIRS_MAX];
        int pair[2];

        if (argc != 5 || sscanf(argv[1], "%u", &n_pairs) != 1 || sscanf(argv[2], "%u", &n_senders) != 1 ||
            sscanf(argv[3], "%u", &rate) != 1 || sscanf(argv[4], "%u", &seconds) != 1 || n_pairs == 0 || rate == 0 ||
            n_pairs > PAIRS_MAX || n_senders > n_pairs || (uint64_t)rate * seconds > 1000000u) {
                fputs("usage: bench-relay PAIRS SENDERS RATE SECONDS\n", stderr);
                return 2;
        }
        begin_ns = now_ns() + SECOND_NS / 2;
        for (uint32_t i = 0; i < n_pairs; i++) {
                size_t room = sizeof(struct seen) + sizeof(uint32_t) * 2 * rate * seconds;
                seen[i] = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                if (seen[i] == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                        give_up("mmap or socketpair");
                hub_end[i] = pair[0];
                worker_end[i] = pair[1];
        }
        for (uint32_t i = 0; i < n_pairs; i++)
                agents[i] = start_pair(i);
        pid_t hub = fork();
        if (hub == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                be_hub();
        }
        for (uint32_t i = 0; i < n_pairs; i++)
                waitpid(agents[i], NULL, 0);
        report();
        return 0; /* the hub and the workers die with us */
}
