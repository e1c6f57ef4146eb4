/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who had an agent killed that was held while its crewd was gone: for the next crewd, should that not take the crew over
 * but find everybody dead.  The spawner appends, in a file of the crew's state directory that the crewd before has opened
 * for it.
 *
 * Fixed layout, each note written at once, so many at most; what is not exactly that when it is read is no note.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HELD_NOTES_MAX 8192u
#define HELD_REASON_MAX 256u

struct held_note {
        uint32_t magic;
        uint32_t id;  /* of the instance: spawn_msg.id */
        uint32_t uid; /* of whoever asked */
        uint32_t zero;
        char agent[64], reason[HELD_REASON_MAX]; /* each ends with a NUL, and has nothing behind it */
};

/* 0; -EINVAL: a text that is too long; -ENOSPC: there are enough of them; or another -errno. */
int held_note_add(int fd, uint32_t id, uint32_t uid, const char *agent, const char *reason);
/* Of a file that anything may have become.  *out is malloc'd, NULL when *n is 0.  0 or -errno. */
int held_notes_read(int fd, struct held_note **out, size_t *n);
/* As the initiator of a termination: "uid 1000 (crewctl)". */
void held_initiator(uint32_t uid, char *out, size_t size);
