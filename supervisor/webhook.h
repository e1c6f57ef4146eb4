/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks.on_agent_terminated.webhook: each termination record is put into <state>/<crew>/webhook.outbox before it is handed
 * to crew-webhook, and taken out when the receiver has it.  What is in there when crewd starts is sent again: at least
 * once, with the same id.
 */
#pragma once

#include "agent.h"

struct webhook;

/* Before the rights are dropped: starts crew-webhook and waits until it has its key.  Our end of the channel, or -errno. */
int webhook_start(const struct crew_file *file, pid_t *pid, struct crew_err *err);

int webhook_open(struct crewd *c, int fd, struct webhook **out, struct crew_err *err);
void webhook_close(struct webhook *w);
/* On disk when it returns, and on its way. */
void webhook_keep(struct webhook *w, struct agent *a, const struct termination *t); /* w NULL: none */
/* Each record has had its first attempt. */
bool webhook_idle(const struct webhook *w);
