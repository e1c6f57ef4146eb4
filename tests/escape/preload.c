/* SPDX-License-Identifier: Apache-2.0 */
/* A library whose loading alone proves that its code ran. */
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
        static const char text[] = "won: library code ran\n";
        ssize_t n = write(STDOUT_FILENO, text, sizeof(text) - 1);
        (void)n;
}
