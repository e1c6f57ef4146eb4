/* SPDX-License-Identifier: Apache-2.0 */
#include "interrupt.h"

#include "common/util.h"

#include <signal.h>

static const int watched[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t seen;

static void on_signal(int sig) {
        seen = sig;
}

/* What whoever started us had ignored (nohup) stays so. */
static void set(void (*handler)(int)) {
        const struct sigaction action = {.sa_handler = handler, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
        struct sigaction was;

        for (size_t i = 0; i < ELEMENTSOF(watched); i++) {
                if (sigaction(watched[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
                        sigaction(watched[i], &action, NULL);
        }
}

void interrupt_watch(void) {
        seen = 0;
        set(on_signal);
}

void interrupt_unwatch(void) {
        set(SIG_DFL);
}

int interrupt_seen(void) {
        return seen;
}
