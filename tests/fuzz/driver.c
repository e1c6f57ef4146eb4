/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a corpus through a fuzz entry, then deterministic mutations of each seed, so that ordinary test runs (and the
 * sanitizer build) exercise every parser without libFuzzer.  FUZZ_ROUNDS sets the mutations a seed (default 2000).
 */
#include "common/util.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t rng = 0x9e3779b97f4a7c15u;
static uint32_t next_random(void) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        return (uint32_t)(rng >> 32);
}

static void run(const uint8_t *p, size_t n) {
        /* An exact-size heap copy lets the address sanitizer see one byte too far. */
        uint8_t *copy = malloc(n ? n : 1);
        if (!copy)
                exit(1);
        memcpy(copy, p, n);
        LLVMFuzzerTestOneInput(copy, n);
        free(copy);
}

static void mutate(const uint8_t *seed, size_t n, unsigned rounds) {
        size_t room = n + 64;
        uint8_t *m = malloc(room);
        if (!m)
                exit(1);
        for (unsigned r = 0; r < rounds; r++) {
                size_t len = n;
                memcpy(m, seed, n);
                for (unsigned k = next_random() % 4 + 1; k > 0; k--) {
                        size_t at = len ? next_random() % len : 0;
                        switch (next_random() % 5) {
                        case 0:
                                if (len)
                                        m[at] ^= (uint8_t)(1u << next_random() % 8);
                                break;
                        case 1:
                                if (len)
                                        m[at] = (uint8_t)next_random();
                                break;
                        case 2:
                                len = at;
                                break;
                        case 3:
                                if (len < room) {
                                        memmove(m + at + 1, m + at, len - at);
                                        m[at] = (uint8_t)next_random();
                                        len++;
                                }
                                break;
                        case 4:
                                if (len > 1) {
                                        memmove(m + at, m + at + 1, len - at - 1);
                                        len--;
                                }
                                break;
                        }
                }
                run(m, len);
        }
        free(m);
}

int main(int argc, char **argv) {
        const char *env = getenv("FUZZ_ROUNDS");
        unsigned rounds = env ? (unsigned)strtoul(env, NULL, 10) : 2000, seeds = 0;
        DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
        struct dirent *e;

        run((const uint8_t *)"", 0);
        while (d && (e = readdir(d))) {
                char path[PATH_MAX], *bytes;
                size_t n;
                if (e->d_name[0] == '.' ||
                    (size_t)snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name) >= sizeof(path))
                        continue;
                struct crew_err err = CREW_ERR_NULL;
                if (crew_read_file(path, 16u << 20, &bytes, &n, &err) < 0) {
                        fprintf(stderr, "%s\n", err.msg);
                        return 1;
                }
                run((const uint8_t *)bytes, n);
                mutate((const uint8_t *)bytes, n, rounds);
                free(bytes);
                seeds++;
        }
        if (d)
                closedir(d);
        if (!seeds) {
                fprintf(stderr, "no seeds in %s\n", argc > 1 ? argv[1] : "(no corpus directory given)");
                return 1;
        }
        printf("%u seeds, %u mutations each\n", seeds, rounds);
        return 0;
}
