/* SPDX-License-Identifier: Apache-2.0 */
/* The stream, shared by the writer (audit.c), the check on opening (audit_tail.c) and folding (audit_fold.c). */
#pragma once

#include "audit.h"

#include "common/merkle.h"

#include <limits.h>

#define AUDIT_BUFFER (2 * RECORD_LINE_MAX)
#define AUDIT_RESERVE (4 * RECORD_LINE_MAX) /* disk space asked for at a time */
#define AUDIT_FOLD_ENTRIES 1024u
#define AUDIT_FOLD_SLOTS (2 * AUDIT_FOLD_ENTRIES) /* open addressing, half full at most */
#define AUDIT_FOLD_BYTES (512u * 1024)

struct fold_entry {
        uint8_t key[16]; /* of SHA-256, so that no two observations can be made to look alike */
        uint64_t pending;
        struct record *record; /* heap, only as long as its contents */
};

struct fold { /* owned by the stream; the tables exist only while something is folded */
        struct fold_entry *entries;
        uint16_t *slots; /* index + 1 */
        uint32_t n;
        size_t bytes;
        uint64_t window_start_ns;
        uint64_t tokens_ns; /* last refill */
        uint64_t tokens;
        struct {
                uint64_t count, since_ns, until_ns;
        } overflow[RECORD_KIND_N];
        bool overflowed;
};

struct audit_stream {
        int fd;
        int sync_fd; /* the same file, opened once more: errors of the disk are told to each open file once */
        int dirfd;   /* owned */
        int poison;  /* errno */
        bool dirty;  /* written since the last fdatasync */
        bool no_reserve;
        uint32_t incarnation;
        uint64_t seq;
        uint64_t size;     /* bytes in the file, whole lines */
        uint64_t begun;    /* size when audit_sync_begin() was called */
        uint64_t reserved; /* file offset up to which blocks are allocated */
        uint64_t counts[RECORD_KIND_N];
        uint64_t (*clock)(void);
        char prev_hex[CREW_SHA256_HEX];
        char crew[64], agent[64];
        char path[PATH_MAX];
        struct fold fold;
        const struct sign_key *key; /* NULL: no checkpoints */
        struct merkle tree;         /* over the whole lines that are in the file */
        uint64_t signed_lines;      /* in the checkpoint on disk */
        uint64_t signed_ns;         /* when that was, or was tried */
        bool sign_soon;
        bool holding;    /* what is accepted waits in held, for audit_release() */
        bool sync_asked; /* some of that is to be on disk once it is let go */
        char *held;      /* owned */
        size_t n_held, held_room;
        size_t used;
        char buf[AUDIT_BUFFER];
};

struct audit_tail {
        uint64_t records;
        uint64_t size; /* of the whole lines */
        uint64_t torn_bytes;
        char torn_file[32];
        char prev_hex[CREW_SHA256_HEX];
        const char *unlike;          /* it: "cut", "changed", "unsigned"; NULL: it is as it should be */
        uint64_t checkpoint_records; /* that it is of */
};
/* Finds where the stream in s->fd stands; moves a torn last line out of it. */
int audit_tail_check(const struct audit_stream *s, struct audit_tail *out, struct crew_err *err);
/* The tree of what is there: the checkpoint's where that goes on as it says, else anew from the first line. */
int audit_tree_restore(struct audit_stream *s, struct audit_tail *t, struct crew_err *err);
/* Whole lines that have got into the file. */
void audit_tree_add(struct audit_stream *s, const char *lines, size_t n);
void audit_origin(const struct audit_stream *s, char out[NOTE_ORIGIN_MAX]);
int audit_read_at(int fd, char *buf, size_t n, uint64_t off);

void fold_fini(struct fold *f);
/* Tests: a clock of their own (ns, monotonic). */
void audit_set_clock(struct audit_stream *s, uint64_t (*clock)(void));
