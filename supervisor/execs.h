/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `crewctl exec`: one command in a live agent's jail, its streams relayed between one client and the worker.  The client
 * gets exactly one Done or Refused.
 */
#pragma once

#include "agent.h"

#define EXECS_MAX 32u
#define EXEC_WINDOW (1u << 20) /* bytes of a command's output on their way to its client */

struct execs;
struct execs *execs_new(struct crewd *c);
struct execs *execs_free(struct execs *x);
/* For the next crewd: its commands run on without anybody, and are killed by execs_client_gone() of client 0. */
struct bytes_out;
struct bytes_in;
void execs_save(const struct execs *x, struct bytes_out *b);
int execs_load(struct execs *x, struct bytes_in *b);

/* corr: the ClientExec's seq.  0 or -errno with err. */
int execs_start(struct execs *x, struct agent *a, uint64_t client, uint64_t corr, const Crew__ClientExec *what,
                struct crew_err *err);
/* ExecInput with corr of the ClientExec; false: no such command. */
bool execs_input(struct execs *x, uint64_t client, const Crew__Envelope *e);
/*
 * From the worker; false: no such command.  A client that does not keep up holds the command back, as a pipe would: the
 * worker stops reading it until execs_client_reads(), which says that what was queued for the client has left.
 */
bool execs_output(struct execs *x, struct agent *a, const Crew__Envelope *e);
bool execs_exit(struct execs *x, struct agent *a, const Crew__Envelope *e);
void execs_agent_gone(struct execs *x, uint32_t agent, const char *why);
void execs_client_reads(struct execs *x, uint64_t client);
/* The client has hung up: its commands are killed. */
void execs_client_gone(struct execs *x, uint64_t client);
