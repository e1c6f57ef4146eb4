/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times two commands as whole processes, in turn: from before the fork to after the wait, with vfork so that the timer's
 * own size is in neither.  usage: bench-exec ROUNDS 'COMMAND A' 'COMMAND B'   (words split at blanks; no shell)
 * Prints {"a": {"min_us", "median_us"}, "b": ..., "ratio": median of the ratios pair by pair}.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 64
#define ROUNDS_MAX 5000

static double now_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void split(char *text, char *words[WORDS + 1]) {
        int n = 0;

        for (char *w = strtok(text, " "); w && n < WORDS; w = strtok(NULL, " "))
                words[n++] = w;
        words[n] = NULL;
        if (n == 0) {
                fputs("bench-exec: an empty command\n", stderr);
                exit(2);
        }
}

static double run_us(char *const *words) {
        int status;
        double start = now_us();
        pid_t pid = vfork();

        if (pid == 0) {
                execvp(words[0], words);
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "bench-exec: %s failed\n", words[0]);
                exit(1);
        }
        return now_us() - start;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

static double median(double *v, int n) {
        qsort(v, (size_t)n, sizeof(*v), compare);
        return v[n / 2];
}

int main(int argc, char **argv) {
        static double a[ROUNDS_MAX], b[ROUNDS_MAX], ratio[ROUNDS_MAX];
        char *first[WORDS + 1], *second[WORDS + 1];
        int rounds = argc == 4 ? atoi(argv[1]) : 0;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (rounds < 1 || rounds > ROUNDS_MAX) {
                fputs("usage: bench-exec ROUNDS 'COMMAND A' 'COMMAND B'\n", stderr);
                return 2;
        }
        dup2(null, 0);
        split(argv[2], first);
        split(argv[3], second);
        for (int i = 0; i < 5; i++) /* caches */
                (void)run_us(first), (void)run_us(second);
        for (int i = 0; i < rounds; i++) {
                a[i] = run_us(first);
                b[i] = run_us(second);
                ratio[i] = a[i] / b[i];
        }
        double ma = median(a, rounds), mb = median(b, rounds), mr = median(ratio, rounds);
        printf("{\"a\": {\"min_us\": %.0f, \"median_us\": %.0f}, \"b\": {\"min_us\": %.0f, \"median_us\": %.0f}, "
               "\"ratio\": %.3f}\n",
               a[0], ma, b[0], mb, mr);
        return 0;
}
