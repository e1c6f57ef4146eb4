/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_slot.h"

#include "common/netpolicy.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define TCP_LISTENERS 2u /* the first two */
#define BACKLOG 128

int gateway_slot_digest(int memfd, uint8_t sha256[CREW_SHA256_BYTES], struct crew_err *err) {
        const struct netpolicy_head *p;
        int r = netpolicy_open(memfd, &p, err);

        if (r < 0)
                return r;
        crew_sha256(p, p->bytes, sha256);
        netpolicy_close(p);
        return 0;
}

int gateway_slot_take(struct gateway_slot *s, const int fds[GATE_LISTENERS]) {
        for (size_t i = 0; i < GATE_LISTENERS; i++) {
                s->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
                if (s->fds[i] >= 0)
                        continue;
                int r = -errno;
                while (i > 0)
                        crew_close(&s->fds[--i]);
                return r;
        }
        /* Inherited by the connections it takes, whose remains (TIME_WAIT) would else keep it from listening again. */
        for (size_t i = 0; i < TCP_LISTENERS; i++)
                setsockopt(s->fds[i], SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        s->listed = true;
        return 0;
}

/* A connected UDP socket is not there for anybody else.  Nobody in a jail can be port 1. */
static void turn_away(int fd) {
        struct sockaddr_storage own = {0};
        socklen_t n = sizeof(own);
        const struct sockaddr_in to4 = {
                .sin_family = AF_INET, .sin_port = htons(GATE_TCP_PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        const struct sockaddr_in6 to6 = {
                .sin6_family = AF_INET6, .sin6_port = htons(GATE_TCP_PORT), .sin6_addr = IN6ADDR_LOOPBACK_INIT};

        if (getsockname(fd, (struct sockaddr *)&own, &n) == 0 && own.ss_family == AF_INET6)
                (void)!connect(fd, (const struct sockaddr *)&to6, sizeof(to6));
        else
                (void)!connect(fd, (const struct sockaddr *)&to4, sizeof(to4));
}

void gateway_slot_shut(struct gateway_slot *s) {
        for (size_t i = 0; s->listed && i < GATE_LISTENERS; i++) {
                if (i < TCP_LISTENERS)
                        shutdown(s->fds[i], SHUT_RDWR);
                else
                        turn_away(s->fds[i]);
        }
}

int gateway_slot_listen(struct gateway_slot *s) {
        const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

        for (size_t i = 0; s->listed && i < GATE_LISTENERS; i++) {
                int r = i < TCP_LISTENERS ? listen(s->fds[i], BACKLOG) : connect(s->fds[i], &nobody, sizeof(nobody));
                if (r < 0)
                        return -errno;
        }
        return 0;
}

void gateway_slot_settle(struct gateway_slot *s) {
        if (s->pending.policy < 0)
                return;
        crew_close(&s->policy);
        s->policy = crew_steal_fd(&s->pending.policy);
        memcpy(s->sha256, s->pending.sha256, sizeof(s->sha256));
}

void gateway_slot_fini(struct gateway_slot *s) {
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                crew_close(&s->fds[i]);
        crew_close(&s->policy);
        crew_close(&s->pending.policy);
        *s = GATEWAY_SLOT_NULL;
}
