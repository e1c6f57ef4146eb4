/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks.on_agent_terminated.webhook: each termination record is put into <state>/<crew>/webhook.outbox before it is handed
 * to crew-webhook, and taken out when the receiver has it.  What is in there when crewd starts is sent again: at least
 * once, with the same id.
 *
 * A crew-webhook that dies is started again, at growing intervals; what it had not delivered is handed to the next one.
 */
#pragma once

#include "agent.h"

struct webhook;

/* Our ends of what webhook_start() made; owned by whoever has them. */
struct webhook_fds {
        int launcher, channel; /* -1: none */
};
#define WEBHOOK_FDS_NULL ((struct webhook_fds){-1, -1})

/* Before the rights are dropped: starts crew-webhook by a launcher and waits until it has its key.  0 or -errno. */
int webhook_start(const struct crew_file *file, struct webhook_fds *out, pid_t *pid, struct crew_err *err);

/* Takes both descriptors over. */
int webhook_open(struct crewd *c, struct webhook_fds *fds, struct webhook **out, struct crew_err *err);
void webhook_close(struct webhook *w);
/* On disk with the next webhook_sync(), and on its way.  False: neither, and webhook_missed() puts that on record, once the
 * termination is.  w NULL, here and in what follows: there is none. */
bool webhook_keep(struct webhook *w, struct agent *a, const struct termination *t);
void webhook_sync(struct webhook *w);
void webhook_missed(struct agent *a);
/* Of what is left from an earlier run, those of which it says so; before any is sent. */
void webhook_forget(struct webhook *w, bool (*which)(const char *json, void *user), void *user);
/* What is kept in between is not sent before the end of it: when it is on record too. */
void webhook_wait(struct webhook *w);
void webhook_let_go(struct webhook *w);
/* Each record has had its first attempt. */
bool webhook_idle(const struct webhook *w);
uint64_t webhook_next_deadline(const struct webhook *w); /* UINT64_MAX: none */
void webhook_expire(struct webhook *w, uint64_t now_ns);
