/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nng wire format over a stream socket (SP ipc mapping, pair1), without nng's own message layer: for the worker, which
 * must stay single-threaded, for crewctl, for the control socket, where an nng listener would wedge on a client that
 * leaves during the handshake, and for supervisor/link.c, which says why.
 *
 * Both sides send 00 'S' 'P' 00 <protocol u16 BE> 00 00 (pair1 = 0x0011).  A message is 01 <length u64 BE> <bytes>;
 * a pair1 payload starts with a u32 BE hop count of 1.  Source: nanomsg RFC sp-ipc, nng 1.5 pair1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPWIRE_HELLO_BYTES 8
#define SPWIRE_HEADER_BYTES 13 /* type, length, hop count */
extern const uint8_t spwire_hello[SPWIRE_HELLO_BYTES];

/* Fills the header of a message of n payload bytes. */
void spwire_header(uint8_t out[SPWIRE_HEADER_BYTES], size_t n);

/* Incremental decoder for one direction of one connection.  Never holds more than max_frame + header bytes. */
struct spwire_in {
        uint8_t *buf; /* owned */
        size_t used, room, max_frame;
        size_t taken; /* bytes of buf already given out */
        bool greeted;
};
#define SPWIRE_IN_NULL ((struct spwire_in){0})
void spwire_in_init(struct spwire_in *in, size_t max_frame);
void spwire_in_fini(struct spwire_in *in);
/* A place to read(2) into; grows the buffer with what came, up to its bound.  0, -ENOMEM, -ENOBUFS while whole frames wait
 * (take them first), or the error spwire_in_next would give. */
int spwire_in_room(struct spwire_in *in, uint8_t **where, size_t *n);
void spwire_in_added(struct spwire_in *in, size_t n);
/* 1: *frame,*n is the next whole payload (valid until the next call); 0: need more; -EPROTO: not our protocol or a bad
 * hop count or type; -EMSGSIZE: announced length over max_frame (rejected before any allocation). */
int spwire_in_next(struct spwire_in *in, const uint8_t **frame, size_t *n);
