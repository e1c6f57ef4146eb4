/* SPDX-License-Identifier: Apache-2.0 */
/* Resources and life: each takes N of something, and wins when it got all of it. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static long count(const char *s) {
        return strtol(s, NULL, 10);
}

static int fork_bomb(char **a) {
        enum { MAX = 4096 };
        static pid_t pids[MAX];
        long want = count(a[0]), n = 0;
        int e = 0;

        for (; n < want && n < MAX && e == 0; n++) {
                pids[n] = fork();
                if (pids[n] < 0) {
                        e = errno;
                        break;
                }
                if (pids[n] == 0)
                        for (;;)
                                pause();
        }
        for (long i = 0; i < n; i++)
                kill(pids[i], SIGKILL);
        while (wait(NULL) > 0)
                ;
        return e ? denied(e) : won("%ld processes", n);
}

static void *sleep_thread(void *arg) {
        pause();
        return NULL;
}

static int thread_bomb(char **a) {
        pthread_attr_t attr;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 65536);
        for (long n = 0, want = count(a[0]); n < want; n++) {
                pthread_t t;
                int e = pthread_create(&t, &attr, sleep_thread, NULL);
                if (e)
                        return denied(e);
        }
        return won("%s threads", a[0]);
}

/* MIB: in one piece, touched and not only mapped */
static int memory_bomb(char **a) {
        size_t size = (size_t)count(a[0]) << 20;
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                return denied(errno);
        memset(p, 1, size);
        return won("%s MiB", a[0]);
}

/* MIB SECONDS: in pieces, and kept */
static int memory_hold(char **a) {
        for (long i = 0, want = count(a[0]); i < want; i++) {
                char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p == MAP_FAILED)
                        return denied(errno);
                memset(p, 1, 1 << 20);
        }
        sleep((unsigned)count(a[1]));
        return won("%s MiB for %s s", a[0], a[1]);
}

/* PATH MIB */
static int fill_file(char **a) {
        static char block[1 << 20];
        int fd = open(a[0], O_WRONLY | O_CREAT | O_TRUNC, 0600), e = 0;

        if (fd < 0)
                return broken("%s", a[0]);
        signal(SIGXFSZ, SIG_IGN);
        memset(block, 1, sizeof(block));
        long n = 0, want = count(a[1]);
        for (; n < want && e == 0; n++) {
                ssize_t w = write(fd, block, sizeof(block));
                e = w < 0 ? errno : w < (ssize_t)sizeof(block) ? (write(fd, block, 1) < 0 ? errno : EIO) : 0;
        }
        unlink(a[0]);
        return e ? denied(e) : won("%ld MiB", n);
}

/* PATH GIB */
static int sparse_file(char **a) {
        int fd = open(a[0], O_WRONLY | O_CREAT, 0600);

        if (fd < 0)
                return broken("%s", a[0]);
        signal(SIGXFSZ, SIG_IGN);
        int r = ftruncate(fd, (off_t)count(a[1]) << 30), e = errno;
        unlink(a[0]);
        errno = e;
        return judge(r);
}

static int open_many(char **a) {
        for (long n = 0, want = count(a[0]); n < want; n++)
                if (open("/dev/null", O_RDONLY) < 0)
                        return denied(errno);
        return won("%s descriptors", a[0]);
}

/* PATH: daemons that the end of the command must not leave behind; each would write there after a second */
static int leave_daemon(char **a) {
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if (fork() > 0)
                return won("started");
        setsid();
        if (fork() > 0)
                _exit(0);
        for (int s = 1; s < 32; s++)
                signal(s, SIG_IGN);
        for (int i = 0; i < 3; i++)
                close(i); /* nobody waits for our output */
        sleep(1);
        int fd = open(a[0], O_WRONLY | O_CREAT, 0666);
        if (fd >= 0 && write(fd, "alive", 5) == 5)
                for (;;)
                        pause();
        _exit(0);
}

static int write_forever(char **a) {
        static char block[65536];

        memset(block, 'x', sizeof(block));
        for (;;)
                if (write(STDOUT_FILENO, block, sizeof(block)) < 0)
                        _exit(ATTACK_DENIED);
}

/* PATH: says there when it runs, then stays whatever is sent */
static int stay(char **a) {
        for (int s = 1; s < 32; s++)
                signal(s, SIG_IGN);
        int fd = open(a[0], O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd < 0 || write(fd, "up", 2) != 2)
                return broken("%s", a[0]);
        for (;;)
                pause();
}

const struct attack resource_attacks[] = {
        {"fork_bomb", fork_bomb, 1},
        {"thread_bomb", thread_bomb, 1},
        {"memory_bomb", memory_bomb, 1},
        {"memory_hold", memory_hold, 2},
        {"fill_file", fill_file, 2},
        {"sparse_file", sparse_file, 2},
        {"open_many", open_many, 1},
        {"leave_daemon", leave_daemon, 1},
        {"write_forever", write_forever, 0},
        {"stay", stay, 1},
        {NULL, NULL, 0},
};
