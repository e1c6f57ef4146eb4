/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper and the resolver.  The resolver trusts nothing it reads; it may read the system's configuration and
 * libraries, talk to name servers, and start no program.  Both end when the gateway's end of the socket closes.
 */
#include "resolver.h"

#include "common/confine.h"
#include "common/util.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define THREADS 32
#define STACK_BYTES (256u * 1024)
#define PAUSE_MAX_MS 2000u

static void look_up(const char *name, struct resolver_answer *out) {
        const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found = NULL;

        out->error = getaddrinfo(name, NULL, &hints, &found);
        for (struct addrinfo *a = out->error ? NULL : found; a && out->n < RESOLVER_ADDRS_MAX; a = a->ai_next) {
                if (a->ai_family == AF_INET)
                        memcpy(out->addrs[out->n].addr, &((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr, 4);
                else if (a->ai_family == AF_INET6)
                        memcpy(out->addrs[out->n].addr, &((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr, 16);
                else
                        continue;
                out->addrs[out->n++].family = (uint32_t)a->ai_family;
        }
        if (found)
                freeaddrinfo(found);
}

static void *serve(void *arg) {
        const int fd = *(const int *)arg;
        struct resolver_ask ask;

        for (;;) {
                ssize_t n = recv(fd, &ask, sizeof(ask), 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n != (ssize_t)sizeof(ask))
                        _exit(0); /* the gateway is gone */
                struct resolver_answer answer = {.id = ask.id};
                ask.name[sizeof(ask.name) - 1] = '\0';
                look_up(ask.name, &answer);
                crew_send_fds(fd, &answer, sizeof(answer), NULL, 0);
        }
}

static _Noreturn void resolver_main(int fd) {
        pthread_attr_t attr;
        pthread_t thread;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "crew-resolver");
        /* A name means itself, never itself with the host's search domains behind it. */
        setenv("LOCALDOMAIN", ".", 1);
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, STACK_BYTES);
        for (int i = 1; i < THREADS; i++) {
                if (pthread_create(&thread, &attr, serve, &fd) != 0)
                        break; /* fewer, but one at least */
        }
        serve(&fd);
        _exit(0);
}

/* The operator's environment may hold secrets that are meant for the gateway alone. */
static void wipe_environment(void) {
        for (char **e = environ; e && *e; e++)
                explicit_bzero(*e, strlen(*e));
        clearenv();
}

static _Noreturn void keeper_main(int fd) {
        struct crew_err err = CREW_ERR_NULL;
        unsigned pause_ms = 0;

        prctl(PR_SET_NAME, "crew-keeper");
        wipe_environment();
        if (confine_self_to_lookups(&err) < 0) {
                fprintf(stderr, "crew-gateway: resolver: %s\n", err.msg);
                _exit(1);
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
                uint64_t started = crew_now_ns();
                int status = 0;
                pid_t pid = fork();
                if (pid == 0)
                        resolver_main(fd);
                if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
                        _exit(0);
                fprintf(stderr, "crew-gateway: the resolver died (status 0x%x); starting it again\n", (unsigned)status);
                if (crew_now_ns() - started > 10000000000ull)
                        pause_ms = 0;
                usleep(pause_ms * 1000);
                pause_ms = MIN_OF(pause_ms * 2 + 50, PAUSE_MAX_MS);
        }
}

int resolver_fork(int *fd, struct crew_err *err) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return crew_fail_errno(err, "cannot make a socket pair for the resolver");
        pid_t pid = fork();
        if (pid < 0) {
                close(pair[0]);
                close(pair[1]);
                return crew_fail_errno(err, "cannot start the resolver");
        }
        if (pid == 0) {
                /* Nothing else of the gateway's: not its socket to crewd above all.  The resolver's own goes to 3. */
                if (dup2(pair[1], 3) < 0 || close_range(4, ~0u, 0) < 0)
                        _exit(1);
                keeper_main(3);
        }
        close(pair[1]);
        *fd = pair[0];
        return 0;
}
