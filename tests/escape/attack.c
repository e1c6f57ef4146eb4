/* SPDX-License-Identifier: Apache-2.0 */
#include "attack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int won(const char *fmt, ...) {
        va_list ap;

        printf("won: ");
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
        return ATTACK_WON;
}

int denied(int error) {
        const char *name = strerrorname_np(error);

        printf("denied: %s\n", name ? name : "?");
        return ATTACK_DENIED;
}

int broken(const char *fmt, ...) {
        int e = errno;
        va_list ap;

        printf("broken: ");
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf(" (%s)\n", strerror(e));
        return ATTACK_BROKEN;
}

int judge(long result) {
        return result < 0 ? denied(errno) : won("%ld", result);
}

int reached(long result, int error) {
        if (result >= 0 || errno == error)
                return won("reached the kernel's code");
        return denied(errno);
}

static const struct attack *find(const char *name) {
        const struct attack *const groups[] = {process_attacks, kernel_attacks, file_attacks,
                                               network_attacks, egress_attacks, resource_attacks};

        for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
                for (const struct attack *a = groups[g]; a->name; a++)
                        if (strcmp(a->name, name) == 0)
                                return a;
        return NULL;
}

int main(int argc, char **argv) {
        const struct attack *a = argc > 1 ? find(argv[1]) : NULL;

        setvbuf(stdout, NULL, _IONBF, 0);
        if (!a || argc - 2 < a->n_args) {
                fprintf(stderr, "usage: attack NAME [ARG...]\n");
                return ATTACK_BROKEN;
        }
        return a->run(argv + 2);
}
