/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of a worker's link, for tests: a real worker as pid 1 of a real pid namespace, on a real socket pair with
 * the real wire; only the jail around it is missing (programs are forked and executed, nothing more).
 */
#pragma once

#include "common/plan.h"
#include "common/spwire.h"
#include "ipc-schema/ipc.h"

#include <sys/types.h>

struct fake_tool {
        const char *name, *script; /* sh -c */
        uint64_t timeout_ms;
};

struct fake_agent {
        enum plan_driver driver;
        const char *script;  /* sh -c */
        const char *python;  /* instead: python3 -c */
        uint64_t max_output; /* 0: 4 MiB */
        struct fake_tool tools[4];
        bool no_welcome;
};

struct fake_crewd {
        pid_t pid; /* the worker, as we see it */
        int fd;
        char dir[64], socket[96];
        void *plan;
        struct spwire_in in;
        struct ipc_arena *arena;
        uint64_t seq_out, seq_in;
        /* What was passed over on the way to an expected frame. */
        uint64_t stderr_bytes, stderr_dropped;
        char stderr_text[512];
        char observed[4096]; /* "what: detail\n" each */
};

#define FAKE_ENVELOPE(case_, ...)                                                                                          \
        ((Crew__Envelope){PROTOBUF_C_MESSAGE_INIT(&crew__envelope__descriptor), .body_case = CREW__ENVELOPE__BODY_##case_, \
                          __VA_ARGS__})

/* Started, greeted, ready.  Any failure fails the test. */
void fake_start(struct fake_crewd *f, const struct fake_agent *a);
/* Hangs up (if still up) and waits; the worker's exit code, or 128 + its signal. */
int fake_stop(struct fake_crewd *f);
/* Waits for the worker to end by itself. */
int fake_wait(struct fake_crewd *f);

uint64_t fake_send(struct fake_crewd *f, Crew__Envelope *e);
/* The next frame of this kind; Stderr and Observed are counted and passed over, anything else fails the test. */
const Crew__Envelope *fake_expect(struct fake_crewd *f, Crew__Envelope__BodyCase body);
/* True when no frame waits and none comes for so long. */
bool fake_is_quiet(struct fake_crewd *f, int ms);
/* The next frame whatever it is. */
const Crew__Envelope *fake_next(struct fake_crewd *f);

void fake_task(struct fake_crewd *f, const char *id, const char *input, uint64_t timeout_ms);
const Crew__TaskResult *fake_result(struct fake_crewd *f);
/* Processes in the namespace, pid 1 included. */
unsigned fake_processes(struct fake_crewd *f);
/* Waits until that many are left. */
void fake_processes_become(struct fake_crewd *f, unsigned n);

/* A program's connection to $CREW_SOCKET. */
int agent_connect(struct fake_crewd *f);
void agent_say(int fd, const char *line);
/* One line into a static buffer, without its end; NULL at the end of file. */
const char *agent_hear(int fd);
