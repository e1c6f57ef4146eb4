/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway's loop inside of the test, with a clock that stands still until the test moves it: connections are handed to
 * it as if a jail had dialled them, and crewd and the resolver are played by the test.  No namespace, no process, no
 * waiting for time to pass.
 *
 * Programs that use it are linked with --wrap=crew_now_ns.
 */
#pragma once

#include "gateway/agent.h"
#include "gateway/conn.h"

#include "common/gate.h"

struct loop {
        struct hub hub;
        struct agent *agent; /* instance 7 */
        int gate;            /* crewd's end */
        int lookups;         /* the resolver's end */
        int dns;             /* a UDP socket connected to the jail's name server */
};
extern struct loop loop;

/* Takes the policy. */
void loop_start(int policy);
void loop_stop(void);

/* The scene of each test: gatelib.h's server, which does not block, and the loop with the program's policy.  That is
 * defined by the program, and may name server_port. */
#define LOOP(test) cmocka_unit_test_setup_teardown(test, loop_scene, loop_scene_end)
int loop_scene(void **state);
int loop_scene_end(void **state);
int loop_policy(void);

/* The next turns of the loop, none of which waits. */
void loop_turns(unsigned n);
/* Time passes; then what is due happens. */
void loop_pass(uint64_t ms);
/* Turns until this is so; fails when it takes longer than a loaded machine may need. */
#define loop_until(condition)                                                                                              \
        for (unsigned turns_ = 0; !(condition); turns_++)                                                                  \
        loop_turn_of_many(turns_, #condition)
void loop_turn_of_many(unsigned n, const char *what);

/* The next message to crewd, which has to be this one.  quiet: there is none. */
struct gate_msg loop_expect(enum gate_op op);
bool loop_quiet(void);

/* A program of the jail has dialled this address, or the address that this name has: the program's end.  Non-blocking. */
int loop_dial(const char *host, uint16_t port);
/* The other end of what is said: 1 when there is something or it has ended, after some turns. */
bool loop_readable(int fd);
/* As read_end() of gatelib.h, with turns in between. */
int loop_end_of(int fd);

/* What the resolver is asked, and its answer: addresses in text, NULL at the end. */
struct resolver_ask loop_asked(void);
void loop_answer(const struct resolver_ask *ask, const char *const addrs[]);
