/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frozen by an operator: every process of an agent stands still, nothing is lost and nothing counts against it.
 *
 * While it lasts no work goes to it, messages for it wait (their senders' own time-outs run), frames it had sent before
 * wait unread, its heartbeat is not asked for, and the deadlines of its task and of its tool calls are put off by as long
 * as it lasted.  A kill ends it; a stop or a new task does not.
 */
#pragma once

#include "agent.h"

enum hold_outcome {
        HOLD_ASKED,   /* the answer comes when the spawner has done it */
        HOLD_ALREADY, /* it is so already */
        HOLD_BUSY,    /* another freeze or thaw is under way */
        HOLD_NOT_NOW, /* it is starting, ending, or not running */
        HOLD_NO_AUDIT,
};
struct hold_request {
        uint64_t client, corr; /* who gets AgentHeld */
        bool thaw;
        const char *initiator, *reason;
};
/* Records it, durably, and asks the spawner. */
enum hold_outcome hold_ask(struct agent *a, const struct hold_request *r);
/* From the spawner: 0, or the errno that kept it from being so. */
void hold_on_reply(struct agent *a, uint32_t cookie, int err);
/* It was taken over from another crewd: what that one has asked the spawner for is asked again. */
void hold_ask_again(struct agent *a);
/* The instance is gone: who waits is told. */
void hold_forget(struct agent *a);
bool hold_is_on(const struct agent *a);
