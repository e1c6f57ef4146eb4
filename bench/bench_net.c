/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of what bench_egress.py measures, the same program in a jail, through a relay and directly.
 *
 *   serve WHAT             WHAT: source (sends without end), echo (1 KiB for 1 KiB), hold (one byte, then silence);
 *                          prints its port on 127.0.0.1
 *   pull HOST PORT MIB     reads that much of a source: MiB/s
 *   ask HOST PORT N        N times connect, 1 KiB there and back, close: median and 99th percentile in microseconds
 *   hold HOST PORT N       N connections through which a byte has come: prints "held", ends with its standard input
 *   dns SERVER PORT NAME N CPU
 *                          N questions from that CPU, one after the other: median and 99th percentile in microseconds
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 1024
#define CHUNK (256 * 1024)
#define WARM_UP 100

static _Noreturn void die(const char *what) {
        fprintf(stderr, "bench-net: %s: %s\n", what, strerror(errno));
        exit(125);
}

static double now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

static void print_times(double *us, size_t n) {
        qsort(us, n, sizeof(*us), by_value);
        printf("%.2f %.2f\n", us[n / 2], us[n * 99 / 100]);
}

static void read_all(int fd, void *buf, size_t n) {
        for (size_t got = 0; got < n;) {
                ssize_t r = read(fd, (char *)buf + got, n - got);
                if (r <= 0)
                        die(r < 0 ? "read" : "the other side hung up");
                got += (size_t)r;
        }
}

static void write_all(int fd, const void *buf, size_t n) {
        for (size_t put = 0; put < n;) {
                ssize_t r = write(fd, (const char *)buf + put, n - put);
                if (r < 0)
                        die("write");
                put += (size_t)r;
        }
}

/* --- servers --- */

static void *source(void *arg) {
        static const char zero[CHUNK];
        int fd = (int)(intptr_t)arg;

        while (write(fd, zero, sizeof(zero)) > 0)
                ;
        close(fd);
        return NULL;
}

static void *echo(void *arg) {
        int fd = (int)(intptr_t)arg, on = 1;
        char buf[MESSAGE];
        size_t got = 0;
        ssize_t r;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        while ((r = read(fd, buf + got, sizeof(buf) - got)) > 0) {
                got += (size_t)r;
                if (got == sizeof(buf)) {
                        if (write(fd, buf, sizeof(buf)) < 0)
                                break;
                        got = 0;
                }
        }
        close(fd);
        return NULL;
}

static void in_a_thread(void *(*f)(void *), int fd) {
        pthread_attr_t a;
        pthread_t t;

        pthread_attr_init(&a);
        pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&a, 64 * 1024);
        if (pthread_create(&t, &a, f, (void *)(intptr_t)fd) != 0)
                die("pthread_create");
        pthread_attr_destroy(&a);
}

static int serve(char **a) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t n = sizeof(at);
        int fd, l = socket(AF_INET, SOCK_STREAM, 0);

        if (bind(l, (struct sockaddr *)&at, n) < 0 || listen(l, 4096) < 0 || getsockname(l, (struct sockaddr *)&at, &n) < 0)
                die("listen");
        printf("%u\n", ntohs(at.sin_port));
        fflush(stdout);
        while ((fd = accept(l, NULL, NULL)) >= 0) {
                if (strcmp(a[0], "hold") == 0)
                        write_all(fd, "k", 1); /* and kept open */
                else
                        in_a_thread(strcmp(a[0], "echo") == 0 ? echo : source, fd);
        }
        die("accept");
}

/* --- clients --- */

static struct addrinfo *find(const char *host, const char *port, int type) {
        struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = type};
        int r = getaddrinfo(host, port, &hints, &found);

        if (r != 0) {
                fprintf(stderr, "bench-net: %s: %s\n", host, gai_strerror(r));
                exit(125);
        }
        return found;
}

static int dial(const struct addrinfo *to) {
        int fd = socket(to->ai_family, to->ai_socktype, 0), on = 1;

        if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0)
                die("connect");
        if (to->ai_socktype == SOCK_STREAM)
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        return fd;
}

static int pull(char **a) {
        static char buf[CHUNK];
        struct addrinfo *to = find(a[0], a[1], SOCK_STREAM);
        uint64_t left = strtoull(a[2], NULL, 10) << 20;
        int fd = dial(to);

        read_all(fd, buf, sizeof(buf)); /* the stream is up */
        double start = now_us();
        for (uint64_t n = left; n > 0;) {
                ssize_t r = read(fd, buf, sizeof(buf));
                if (r <= 0)
                        die("read");
                n -= (uint64_t)r > n ? n : (uint64_t)r;
        }
        printf("%.1f\n", (double)left / (1 << 20) / ((now_us() - start) / 1e6));
        freeaddrinfo(to);
        return 0;
}

static int ask(char **a) {
        struct addrinfo *to = find(a[0], a[1], SOCK_STREAM);
        size_t n = strtoul(a[2], NULL, 10);
        double *us = calloc(n, sizeof(*us));
        char buf[MESSAGE] = "a request";

        if (!us || n == 0)
                die("times");
        for (size_t i = 0; i < n + WARM_UP; i++) {
                double start = now_us();
                int fd = dial(to);
                write_all(fd, buf, sizeof(buf));
                read_all(fd, buf, sizeof(buf));
                if (i >= WARM_UP)
                        us[i - WARM_UP] = now_us() - start;
                close(fd);
        }
        print_times(us, n);
        free(us);
        freeaddrinfo(to);
        return 0;
}

static int hold(char **a) {
        struct addrinfo *to = find(a[0], a[1], SOCK_STREAM);
        size_t n = strtoul(a[2], NULL, 10);
        char c;

        for (size_t i = 0; i < n; i++)
                read_all(dial(to), &c, 1);
        puts("held");
        fflush(stdout);
        while (read(STDIN_FILENO, &c, 1) > 0)
                ;
        freeaddrinfo(to);
        return 0;
}

static size_t put_question(uint8_t *m, const char *name) {
        size_t n = 12;

        memset(m, 0, n);
        m[2] = 1; /* recursion desired, as every client says */
        m[5] = 1;
        while (*name) {
                size_t len = strcspn(name, ".");
                m[n++] = (uint8_t)len;
                memcpy(m + n, name, len);
                n += len;
                name += len + (name[len] == '.');
        }
        memcpy(m + n, "\0\0\1\0\1", 5);
        return n + 5;
}

static int dns(char **a) {
        struct addrinfo *to = find(a[0], a[1], SOCK_DGRAM);
        size_t n = strtoul(a[3], NULL, 10);
        double *us = calloc(n, sizeof(*us));
        uint8_t query[300], answer[512];
        size_t len = put_question(query, a[2]);
        int fd = dial(to);
        cpu_set_t cpu;

        CPU_ZERO(&cpu);
        CPU_SET(strtoul(a[4], NULL, 10), &cpu);
        if (sched_setaffinity(0, sizeof(cpu), &cpu) < 0)
                die("sched_setaffinity");
        if (!us || n == 0)
                die("times");
        for (size_t i = 0; i < n + WARM_UP; i++) {
                query[0] = (uint8_t)(i >> 8);
                query[1] = (uint8_t)i;
                double start = now_us();
                if (send(fd, query, len, 0) < 0)
                        die("send");
                ssize_t r = recv(fd, answer, sizeof(answer), 0);
                if (r < 12 || (answer[3] & 0xf) != 0 || answer[7] != 1 || memcmp(query, answer, 2) != 0) {
                        fprintf(stderr, "bench-net: answer %zu: %zd bytes, rcode %d, %d records\n", i, r,
                                r < 12 ? -1 : answer[3] & 0xf, r < 12 ? -1 : answer[7]);
                        return 125;
                }
                if (i >= WARM_UP)
                        us[i - WARM_UP] = now_us() - start;
        }
        print_times(us, n);
        free(us);
        freeaddrinfo(to);
        return 0;
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                int (*run)(char **args);
                int n;
        } verbs[] = {{"serve", serve, 1}, {"pull", pull, 3}, {"ask", ask, 3}, {"hold", hold, 3}, {"dns", dns, 5}};

        signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
                if (strcmp(argv[1], verbs[i].name) == 0 && argc - 2 == verbs[i].n)
                        return verbs[i].run(argv + 2);
        }
        fputs("usage: bench-net serve WHAT | pull HOST PORT MIB | ask HOST PORT N | hold HOST PORT N | dns SERVER PORT "
              "NAME N CPU\n",
              stderr);
        return 2;
}
