/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Yardstick for kills: SIGKILL by pidfd to the init of a PID namespace that holds N sleeping processes, until it is
 * reaped, which is when the kernel has reaped them all.  usage: bench-kill-bare N ROUNDS; prints microseconds a round.
 * bench-kill-bare --hold N makes the same N processes and waits, to be killed by somebody else: inside a jail.
 */
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/sched.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static double now_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

_Noreturn static void hold(int n, int ready, const char *word) {
        for (int i = 0; i < n; i++) {
                if (fork() == 0)
                        for (;;)
                                pause();
        }
        if (write(ready, word, strlen(word)) < 0)
                _exit(1);
        for (;;)
                pause();
}

static double round_us(int n) {
        int pidfd = -1, ready[2];
        struct clone_args a = {.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_PIDFD,
                               .pidfd = (uint64_t)(uintptr_t)&pidfd,
                               .exit_signal = SIGCHLD};
        char c;

        if (pipe(ready) < 0)
                exit(1);
        long pid = syscall(SYS_clone3, &a, sizeof(a));
        if (pid < 0) {
                perror("clone3");
                exit(1);
        }
        if (pid == 0)
                hold(n - 1, ready[1], "r");
        if (read(ready[0], &c, 1) != 1)
                exit(1);
        usleep(20000);
        double start = now_us();
        siginfo_t info;
        if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 || waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
                exit(1);
        double took = now_us() - start;
        close(pidfd);
        close(ready[0]);
        close(ready[1]);
        return took;
}

int main(int argc, char **argv) {
        if (argc == 3 && strcmp(argv[1], "--hold") == 0)
                hold(atoi(argv[2]) - 1, 1, "up\n");
        int n = argc > 1 ? atoi(argv[1]) : 10, rounds = argc > 2 ? atoi(argv[2]) : 5;

        if (n < 1 || n > 5000 || rounds < 1 || rounds > 1000) {
                fputs("usage: bench-kill-bare N ROUNDS\n", stderr);
                return 2;
        }
        for (int i = 0; i < rounds; i++)
                printf("%.0f\n", round_us(n));
        return 0;
}
