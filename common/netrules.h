/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of a jail's network namespace as ready netlink messages, the same for every jail and so made once, at build
 * time (tools/gen_netrules.c): lo up, every address local, all TCP to one capture port, UDP 53 to one DNS port, the
 * rest rejected.  127.0.0.0/8 and ::1 stay the jail's own.
 *
 * A block is a sequence of sections, each a struct netrules_section and then .bytes bytes: one or more netlink messages
 * for one socket of .protocol, to be sent in one sendmsg(2); .acks NLMSG_ERROR replies with error 0 must come back.
 * In a plan (plan.h) the same bytes are at .netrules.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct netrules_section {
        uint32_t protocol; /* NETLINK_ROUTE, NETLINK_NETFILTER */
        uint32_t acks;
        uint32_t bytes; /* multiple of 4 */
};

extern const uint8_t crew_netrules[];
extern const size_t crew_netrules_bytes;
