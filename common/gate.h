/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd <-> crew-gateway: fixed-layout messages over one SOCK_SEQPACKET pair.
 *
 * The gateway owns the capture listeners of every jail (identity is the channel they came in on) and one compiled policy
 * (common/netpolicy.h) for each.  An instance without a policy reaches nothing.
 */
#pragma once

#include <stdint.h>

#define GATE_NAME_MAX 256
#define GATE_TEXT_MAX 160
/* Where the capture listeners are bound inside each jail, on 127.0.0.1 and ::1; privileged, so an agent can never bind
 * them. The redirections to them are in common/netrules.h. */
#define GATE_TCP_PORT 1
#define GATE_UDP_PORT 53
#define GATE_LISTENERS 4
#define GATE_INSTANCES_MAX 4096 /* at a time */

enum gate_op {
        /* crewd -> gateway */
        GATE_ADD = 1, /* fds: the capture listeners tcp4, tcp6, udp4, udp6 of instance .id, then its netpolicy memfd */
        GATE_REMOVE,  /* everything of .id is closed at once; answered by its GATE_CLOSEDs, then GATE_REMOVED */
        GATE_POLICY,  /* fd: a new netpolicy memfd for .id.  All or nothing; answered by GATE_APPLIED or GATE_REJECTED */
        GATE_ANSWER,  /* to GATE_ASK of .id: .ask, .verdict (GATE_LET or GATE_REFUSE), .scope, .text: why it is refused */
        GATE_PING,    /* answered by GATE_PONG */
        /* gateway -> crewd */
        /* Ready for GATE_ADD.  fd, when the crew inspects TLS: a memfd with the crew's CA certificate, PEM.  With .text: it
         * cannot be, why (a credentials file that others may read), and it ends. */
        GATE_HELLO = 64,
        GATE_DENIED,  /* .proto .port .name .count .text .where */
        GATE_ALLOWED, /* .conn: let through, before the first byte goes out.  .name .port .where, .peer: what was dialled */
        GATE_CLOSED,  /* .conn: .up .down bytes, .duration_us, .text when it failed (why) */
        GATE_HTTP,    /* one request under HTTP rules, or one of plain HTTP that is refused: .conn .verdict .text "GET
                         /v1/quotes", .status; .count like a denial */
        GATE_ASK, /* .ask .proto .port .name: a connection that waits for an answer; .count: how many wait for the same */
        GATE_ASK_GONE, /* .ask: nobody waits any more (expired, the client gave up, or the instance is gone: .text);
                          .verdict GATE_LET: a new policy lists it, and those that waited were let go */
        GATE_APPLIED,  /* .generation, .count: connections closed because it forbids them */
        GATE_REJECTED, /* .generation, .text: the former policy stays */
        GATE_REMOVED,
        GATE_PONG, /* it still does something */
};

enum gate_proto { GATE_TCP = 6, GATE_UDP = 17, GATE_DNS = 53 };
enum gate_verdict { GATE_REFUSE, GATE_LET, GATE_WOULD_REFUSE /* enforcement: audit */ };
enum gate_scope { GATE_ONCE = 1 /* those that wait now */, GATE_SESSION /* until the instance ends */ };

struct gate_msg {
        uint32_t op;
        uint32_t id;
        uint32_t proto;
        uint32_t port;  /* original destination port; 0 for names */
        uint32_t count; /* identical reports folded into this one, at least 1 */
        uint32_t generation;
        uint32_t ask;
        uint32_t scope;
        uint32_t verdict;
        uint32_t status;   /* HTTP status of the answer, 0 when there was none */
        uint64_t conn;     /* unique for the gateway's life */
        uint64_t up, down; /* bytes out of the jail, into it */
        uint64_t duration_us;
        char name[GATE_NAME_MAX];  /* address in presentation form, or the name, escaped to printable ASCII */
        char peer[64];             /* "203.0.113.7:443" */
        char where[GATE_NAME_MAX]; /* the deciding rule, "x.yaml:14" */
        char text[GATE_TEXT_MAX];  /* the reason in words: "not in allowed_endpoints"; GATE_HTTP: the request */
        char why[96];              /* GATE_HTTP: the reason in words, when it was refused */
};
