/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd <-> crew-gateway: fixed-layout messages over one SOCK_SEQPACKET pair.
 *
 * The gateway owns the capture listeners of every jail (identity is the channel they came in on).  In this version it
 * lets nothing through: every connection is reset at once, every name answered REFUSED, each reported.
 */
#pragma once

#include <stdint.h>

#define GATE_NAME_MAX 256
/* Where the capture listeners are bound inside each jail, on 127.0.0.1 and ::1; privileged, so an agent can never bind
 * them. The redirections to them are in common/netrules.h. */
#define GATE_TCP_PORT 1
#define GATE_UDP_PORT 53

enum gate_op {
        GATE_ADD = 1, /* fds: the capture listeners tcp4, tcp6, udp4, udp6 of instance .id */
        GATE_REMOVE,
        GATE_HELLO = 64,
        GATE_DENIED,
        GATE_REMOVED,
};

enum gate_proto { GATE_TCP = 6, GATE_UDP = 17, GATE_DNS = 53 };

struct gate_msg {
        uint32_t op;
        uint32_t id;
        uint32_t proto;
        uint32_t port;  /* original destination port; 0 for names */
        uint32_t count; /* identical denials folded into this one, at least 1 */
        uint32_t pad;
        char name[GATE_NAME_MAX]; /* address in presentation form, or the queried name, escaped to printable ASCII */
};
