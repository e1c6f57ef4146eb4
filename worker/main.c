/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-worker: the spawner of a crew, and by its forks the workers.
 *
 * Not for people: crewd starts it with one end of its spawn socket.  Jails are cloned from this process without another
 * exec, so it stays small and keeps nothing worth reading.
 */
#include "common/util.h"
#include "worker.h"
#include "worker/spawner.h"

#include <malloc.h>
#include <string.h>

/* What runs in a sealed jail. */
static void worker_main(const struct jail_child *c, void *user) {
        const struct worker_config config = {.plan = c->plan,
                                             .link_fd = c->link_fd,
                                             .lifeline = c->lifeline,
                                             .socket_path = WORKER_SOCKET,
                                             .exec = jail_exec_program,
                                             .take_link = jail_take_link};

        _exit(worker_run(&config));
}

int main(int argc, char **argv) {
        uint64_t fd;

        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
                printf("crew-worker %s\n", CREW_VERSION);
                return 0;
        }
        if (argc != 3 || strcmp(argv[1], "--spawner") != 0 || crew_parse_u64(argv[2], &fd) < 0 || fd > 1023) {
                fprintf(stderr, "crew-worker is started by crewd (usage: crew-worker --spawner FD)\n");
                return 2;
        }
        /* Fixed thresholds: a large frame is given back to the system as soon as it is freed. */
        mallopt(M_MMAP_THRESHOLD, 64 << 10);
        mallopt(M_TRIM_THRESHOLD, 64 << 10);
        return spawner_main((int)fd, worker_main);
}
