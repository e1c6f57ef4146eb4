/* SPDX-License-Identifier: Apache-2.0 */
#include "environment.h"

#include "common/util.h"

#include <string.h>

extern char **environ;

#define HELPER_WORDS_MAX 16

/* What changes how a program of ours is loaded or where it looks; CREWD_ is ours. */
static const char *const helper_names[] = {
        "CREWD_", "LD_PRELOAD=", "LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "LSAN_OPTIONS=", "UBSAN_OPTIONS=", NULL};
static const char *const own_names[] = {"HOME=", "PATH=", "XDG_", "TZ=", "LANG=", "LC_ALL=", NULL};

static bool is_named(const char *word, const char *const *names) {
        for (; *names; names++)
                if (strncmp(word, *names, strlen(*names)) == 0)
                        return true;
        return false;
}

const char **environment_for_helpers(void) {
        static const char *words[HELPER_WORDS_MAX];
        size_t n = 0;

        for (char **e = environ; e && *e; e++)
                if (n + 1 < HELPER_WORDS_MAX && is_named(*e, helper_names))
                        words[n++] = *e;
        words[n] = NULL;
        return words;
}

void environment_wipe(void) {
        char **keep = environ;

        for (char **e = environ; e && *e; e++) {
                if (is_named(*e, own_names) || is_named(*e, helper_names))
                        *keep++ = *e;
                else
                        explicit_bzero(*e, strlen(*e));
        }
        if (keep)
                *keep = NULL;
}
