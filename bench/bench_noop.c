/* SPDX-License-Identifier: Apache-2.0 */
/* The least program that does an agent's task: what is timed with it is what is around it. */
#include <unistd.h>

int main(void) {
        return write(1, "null\n", 5) == 5 ? 0 : 1;
}
