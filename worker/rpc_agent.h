/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stdio-rpc agent: one long-lived process that speaks JSON-RPC lines on its standard streams.
 *
 * Started when the worker is ready.  When it ends, the agent has ended: pid 1 exits with its status and crewd decides
 * about tasks in flight and a restart.  Lines that are no answer to an open request are counted; after
 * RPC_MAX_FAULTS the process is killed.
 */
#pragma once

#include "program.h"

#define RPC_MAX_FAULTS 16u

int rpc_agent_start(struct worker *w, struct crew_err *err);
void rpc_agent_task(struct worker *w, const Crew__TaskStart *t);
void rpc_agent_cancel(struct worker *w, const char *task_id);
/* An ask, answered with AskAnswer; a plain message.  False: it does not take more. */
bool rpc_agent_ask(struct worker *w, uint64_t seq, const char *from, const char *payload, uint64_t timeout_ms);
bool rpc_agent_message(struct worker *w, const char *from, const char *payload);
/* A notification of crewd's, of this method.  False: it does not take more. */
bool rpc_agent_notice(struct worker *w, const char *method, const char *params);
/* Pong, with corr seq, once it has answered the request "ping", with whatever: it is alive. */
void rpc_agent_ping(struct worker *w, uint64_t seq);
/* The notification, then the end of its standard input. */
bool rpc_agent_shutdown(struct worker *w, const char *params, size_t n);
