/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-evidence's one loop: descriptors with a callback each, the registry of instances, and what is due next.
 * Single-threaded.
 */
#pragma once

#include "common/err.h"
#include "common/evidence.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct source { /* embedded in what owns the descriptor */
        int fd;
        void (*on_ready)(struct source *s, uint32_t epoll_events);
};

struct outbox;
struct landlock_source;
struct marks;
struct listener;

struct instance { /* owned by the server */
        uint32_t id;
        uint32_t uid;
        int32_t pid;
        uint64_t pid_ns;    /* inode of its pid namespace, 0: unknown */
        uint64_t forget_ns; /* monotonic, 0: alive */
        uint64_t forget_realtime_ns;
        uint32_t domains; /* Landlock domains of it that the kernel has not let go of */
        struct outbox *outbox;
        struct listener *listener; /* rootless */
        struct marks *marks;       /* root */
        struct instance *next;
};

struct server {
        int epoll;
        struct source crewd;
        bool want_out;      /* crewd's socket is full */
        volatile bool stop; /* also set by SIGTERM */
        bool root;
        int32_t crewd_pid;
        struct instance *instances;
        size_t n_instances;
        struct landlock_source *landlock;
        uint32_t lost_sources; /* enum evidence_source: something of nobody in particular was lost, not said yet */
        uint64_t lost_said_ns;
};

int server_add(struct server *sv, struct source *s, uint32_t epoll_events, struct crew_err *err);
void server_remove(struct server *sv, struct source *s);
struct instance *server_instance(struct server *sv, uint32_t id);
/* By uid, and by pid namespace where both are known: other programs of this host may use an agent's uid. */
struct instance *server_instance_of(struct server *sv, uint32_t uid, uint64_t pid_ns);
uint64_t server_pid_ns(int32_t pid);
/* One message to crewd.  0, -EAGAIN (full, will be woken), or another errno: crewd is gone. */
int server_send(struct server *sv, const struct evidence_msg *m);
/* count 0: unknown; id 0: whose is unknown (then without a count, and at most once a second). */
void server_report_lost(struct server *sv, uint32_t id, enum evidence_source source, uint64_t count);
int server_run(struct server *sv, struct crew_err *err);
