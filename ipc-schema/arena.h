/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bump arena a frame is unpacked into.  Private to ipc-schema.
 *
 * Blocks are never reused before a reset, so whatever order protobuf-c frees in cannot matter, and each block remembers
 * the size it was asked for: that is the only place where the length of an unpacked string can still be read.
 */
#pragma once

#include "ipc-schema/ipc.h"

/* Forgets everything and lets at most limit bytes (and never more than the arena's own maximum) be allocated next. */
void arena_begin(struct ipc_arena *a, size_t limit);
ProtobufCAllocator *arena_allocator(struct ipc_arena *a);
/* An allocation was refused since arena_begin(). */
bool arena_exhausted(const struct ipc_arena *a);
/* The size asked for; p came from this kind of arena. */
size_t arena_block_size(const void *p);
