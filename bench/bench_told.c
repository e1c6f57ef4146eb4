/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench_told.py needs beside crewd, each as cheap as it can be: whoever waits must cost the machine nothing.
 *
 * usage: bench-told kill PID...           kills them all at once; "PID NS" for each, when its pidfd says that it is dead
 *        bench-told hook FILE             appends "ID NS" of the record on standard input: when it began to run
 *        bench-told receive FILE          listens; its port, then "ID NS" of each POST in FILE when all of it has come
 *        bench-told bare N FILE [DIR]     the yardstick: N processes in namespaces like a jail's, killed at once and
 * reaped, and for each a plain fork and exec of the hook; "PID NS" as kill does.  With DIR each is put on disk before,
 * three times as crewd does: at the end of a file that they share, in a file of its own, and at the end of one that was
 * there All times are CLOCK_MONOTONIC, nanoseconds.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/sched.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define MANY 256
#define REQUEST_MAX 65536

static uint64_t now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what) {
        perror(what);
        exit(1);
}

/* --- deaths --- */

struct victim {
        int pid, pidfd;
        uint64_t dead_ns;
};
static struct victim victims[MANY];
static int n_victims;

static void open_victim(int pid) {
        struct victim *v = &victims[n_victims++];

        v->pid = pid;
        v->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (v->pidfd < 0)
                die("pidfd_open");
}

/* The first to be told of a death are those that poll for it. */
static int watch(void) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        for (int i = 0; i < n_victims; i++) {
                struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = (uint32_t)i};
                if (epoll_ctl(epoll, EPOLL_CTL_ADD, victims[i].pidfd, &e) < 0)
                        die("epoll_ctl");
        }
        return epoll;
}

static void see_deaths(int epoll) {
        struct epoll_event e[MANY];

        for (int left = n_victims; left > 0;) {
                int n = epoll_wait(epoll, e, MANY, 10000);
                uint64_t now = now_ns();
                if (n <= 0)
                        die("epoll_wait");
                for (int i = 0; i < n; i++)
                        victims[e[i].data.u32].dead_ns = now;
                left -= n;
        }
}

static void kill_all(void) {
        for (int i = 0; i < n_victims; i++) {
                if (syscall(SYS_pidfd_send_signal, victims[i].pidfd, SIGKILL, NULL, 0) < 0)
                        die("pidfd_send_signal");
        }
}

static void print_deaths(void) {
        for (int i = 0; i < n_victims; i++)
                printf("%d %llu\n", victims[i].pid, (unsigned long long)victims[i].dead_ns);
}

static int do_kill(int n, char **pids) {
        for (int i = 0; i < n && i < MANY; i++)
                open_victim(atoi(pids[i]));
        int epoll = watch();
        kill_all();
        see_deaths(epoll);
        print_deaths();
        return 0;
}

/* --- receivers --- */

static unsigned long long id_of(const char *json) {
        const char *p = strstr(json, "\"id\":");

        return p ? strtoull(p + 5, NULL, 10) : 0;
}

static void note(int fd, const char *json, uint64_t when) {
        char line[64];
        int n = snprintf(line, sizeof(line), "%llu %llu\n", id_of(json), (unsigned long long)when);

        if (write(fd, line, (size_t)n) != n)
                die("write");
}

static int open_notes(const char *path) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

        if (fd < 0)
                die(path);
        return fd;
}

static int do_hook(const char *path) {
        static char json[REQUEST_MAX];
        uint64_t began = now_ns();
        size_t n = 0;
        ssize_t r;

        while (n < sizeof(json) - 1 && (r = read(0, json + n, sizeof(json) - 1 - n)) > 0)
                n += (size_t)r;
        note(open_notes(path), json, began);
        return 0;
}

/* True: all of the request is there, and was answered. */
static int take_request(int fd, char *text, size_t *n, int notes) {
        static const char answer[] = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        ssize_t r = read(fd, text + *n, REQUEST_MAX - 1 - *n);

        if (r <= 0)
                return 1;
        uint64_t now = now_ns();
        text[ *n += (size_t)r] = '\0';
        const char *body = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
        if (!body || !length || text + *n < body + 4 + atoi(length + 15))
                return 0;
        note(notes, body, now);
        (void)!write(fd, answer, sizeof(answer) - 1);
        return 1;
}

static _Noreturn void do_receive(const char *path) {
        static char texts[MANY][REQUEST_MAX];
        static size_t lengths[MANY];
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(a);
        struct pollfd p[MANY];
        int n = 1, notes = open_notes(path);

        p[0] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN};
        if (bind(p[0].fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(p[0].fd, MANY) < 0 ||
            getsockname(p[0].fd, (struct sockaddr *)&a, &size) < 0)
                die("listen");
        printf("%d\n", ntohs(a.sin_port));
        fflush(stdout);
        for (int i = 1; i < MANY; i++)
                p[i] = (struct pollfd){.fd = -1, .events = POLLIN};
        for (;;) {
                if (poll(p, (nfds_t)n, -1) < 0)
                        die("poll");
                for (int i = 1; i < n; i++) {
                        if (p[i].fd >= 0 && p[i].revents && take_request(p[i].fd, texts[i], &lengths[i], notes)) {
                                close(p[i].fd);
                                p[i].fd = -1;
                        }
                }
                if (!p[0].revents)
                        continue;
                int i = 1;
                while (i < n && p[i].fd >= 0)
                        i++;
                if (i == MANY)
                        continue;
                p[i].fd = accept(p[0].fd, NULL, NULL);
                p[i].revents = 0;
                lengths[i] = 0;
                n = i == n ? n + 1 : n;
        }
}

/* --- the yardstick --- */

static int make_one(void) {
        struct clone_args a = {.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS |
                                        CLONE_NEWNET,
                               .exit_signal = SIGCHLD};
        long pid = syscall(SYS_clone3, &a, sizeof(a));

        if (pid < 0)
                die("clone3");
        while (pid == 0)
                pause();
        return (int)pid;
}

static int run_hook(int id, char *self, char *path) {
        char *const argv[] = {self, (char *)"hook", path, NULL};
        char json[32];
        int in[2], n = snprintf(json, sizeof(json), "{\"id\":%d}", id);

        if (pipe2(in, O_CLOEXEC) < 0)
                die("pipe");
        pid_t pid = fork();
        if (pid == 0) {
                dup2(in[0], 0);
                execv(self, argv);
                _exit(127);
        }
        (void)!write(in[1], json, (size_t)n);
        close(in[0]);
        close(in[1]);
        return pid;
}

/* As many wake-ups as there are with crewd: one who watches, and one who reaps and starts the hooks. */
static void *watcher(void *epoll) {
        see_deaths((int)(intptr_t)epoll);
        return NULL;
}

static void append(const char *dir, const char *name, int i, int flags) {
        static const char record[1024] = "a record";
        char path[512];

        snprintf(path, sizeof(path), "%s/%s%d", dir, name, i);
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | flags, 0600);
        if (fd < 0 || write(fd, record, sizeof(record)) != (ssize_t)sizeof(record) || fdatasync(fd) < 0)
                die(path);
        close(fd);
}

static int do_bare(int n, char *self, char *path, const char *dir) {
        int hooks[MANY], done = 0;
        pthread_t thread;

        for (int i = 0; i < n; i++) {
                open_victim(make_one());
                if (dir)
                        append(dir, "stream", i, 0);
        }
        usleep(20000);
        int theirs = watch(), ours = watch();
        if (pthread_create(&thread, NULL, watcher, (void *)(intptr_t)theirs) != 0)
                die("pthread_create");
        usleep(20000);
        kill_all();
        while (done < n) {
                struct epoll_event e;
                siginfo_t info;
                if (epoll_wait(ours, &e, 1, 10000) <= 0 ||
                    waitid(P_PIDFD, (id_t)victims[e.data.u32].pidfd, &info, WEXITED) < 0)
                        die("wait");
                if (dir) {
                        append(dir, "shared", 0, 0);
                        append(dir, "one", (int)e.data.u32, O_TRUNC);
                        append(dir, "stream", (int)e.data.u32, 0);
                }
                hooks[done++] = run_hook(victims[e.data.u32].pid, self, path);
        }
        for (int i = 0; i < n; i++)
                waitpid(hooks[i], NULL, 0);
        pthread_join(thread, NULL);
        print_deaths();
        return 0;
}

int main(int argc, char **argv) {
        const char *what = argc > 2 ? argv[1] : "";

        if (strcmp(what, "kill") == 0)
                return do_kill(argc - 2, argv + 2);
        if (strcmp(what, "hook") == 0)
                return do_hook(argv[2]);
        if (strcmp(what, "receive") == 0)
                do_receive(argv[2]);
        if (strcmp(what, "bare") == 0 && argc >= 4 && atoi(argv[2]) > 0 && atoi(argv[2]) < MANY)
                return do_bare(atoi(argv[2]), argv[0], argv[3], argv[4]);
        fputs("usage: bench-told kill PID... | hook FILE | receive FILE | bare N FILE [DIR]\n", stderr);
        return 2;
}
