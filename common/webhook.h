/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd <-> crew-webhook, which delivers what crewd keeps in its outbox.  One message a datagram, both ways, cut off
 * behind its text but for CONFIG.
 *
 * CONFIG first, answered by READY or REFUSED.  Then SEND, each answered by FAILED for every attempt that failed and, last,
 * by SENT or GIVEN_UP.  Nothing secret is in any of them: crew-webhook reads the key itself, and the address is not in its
 * arguments, for addresses of some services are secrets.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WEBHOOK_TEXT_MAX 60000u
#define WEBHOOK_URL_MAX 2048u
#define WEBHOOK_WAITING_MAX 64u
#define WEBHOOK_ATTEMPTS_MAX 16u

enum webhook_op {
        WEBHOOK_CONFIG, /* text: url, secret's file, ca's file, each with its NUL; the last may be empty */
        WEBHOOK_READY,
        WEBHOOK_REFUSED, /* text: why */
        WEBHOOK_SEND,    /* text: the JSON */
        WEBHOOK_SENT,
        WEBHOOK_FAILED, /* text: why; it is tried again */
        WEBHOOK_GIVEN_UP,
};

struct webhook_msg {
        uint32_t op;
        uint32_t n; /* bytes of text, without a NUL behind it */
        uint64_t id;
        uint32_t agent; /* index, comes back; UINT32_MAX: of an earlier crewd */
        uint32_t attempt;
        char text[WEBHOOK_TEXT_MAX];
};
#define WEBHOOK_MSG_HEAD offsetof(struct webhook_msg, text)
