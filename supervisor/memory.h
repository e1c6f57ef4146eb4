/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agents of a crew share: values by key in the namespaces of the crew file, by nobody's hand but ours.
 *
 * Invariants: nobody reads or writes a namespace that does not grant it; a namespace never holds more keys or bytes than
 * it may, nor one agent more than its share; a put is whole or not at all.  It lives as long as crewd.  Pure.
 */
#pragma once

#include "supervisor/policy/crew_file.h"

#define MEMORY_VALUE_MAX 1048576u

enum memory_outcome {
        MEMORY_OK,
        MEMORY_NO_NAMESPACE,
        MEMORY_DENIED,
        MEMORY_TOO_MANY_KEYS,
        MEMORY_TOO_MUCH,
        MEMORY_SHARE_USED
};

struct memory;
/* NULL: out of memory. */
/* room: agents there can ever be. */
struct memory *memory_new(const struct crew_file *crew, uint32_t room);
/* The same memories in another crew file, whose agents have the same indices: what is in them stays. */
void memory_take_file(struct memory *m, const struct crew_file *crew);
struct memory *memory_free(struct memory *m);
/* For the next crewd of the same crew file.  0 or -EBADMSG, -ENOMEM. */
struct bytes_out;
struct bytes_in;
void memory_save(const struct memory *m, struct bytes_out *b);
int memory_load(struct memory *m, struct bytes_in *b);

struct memory_value {
        const char *key, *json; /* owned by the memory; gone with the next put */
        size_t len;
        uint32_t by; /* who put it */
};

/* What memory_put() would say but for -ENOMEM, with nothing changed. */
enum memory_outcome memory_may_put(const struct memory *m, uint32_t agent, const char *space, const char *key,
                                   const char *json, size_t len);
/* json NULL removes the key.  An outcome, or -ENOMEM. */
int memory_put(struct memory *m, uint32_t agent, const char *space, const char *key, const char *json, size_t len);
/* out->json NULL: there is no such key. */
int memory_get(const struct memory *m, uint32_t agent, const char *space, const char *key, struct memory_value *out);
/* Each key of the namespace, oldest first. */
int memory_list(const struct memory *m, uint32_t agent, const char *space,
                void (*fn)(const struct memory_value *v, void *user), void *user);
/* The namespace's declaration, or NULL. */
const struct crew_memory *memory_decl(const struct memory *m, const char *space);
uint64_t memory_bytes(const struct memory *m, const char *space);
