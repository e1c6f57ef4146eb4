/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.lock: which files a crew consists of, each with its SHA-256.
 *
 * Files that crewd parses are taken down as they are read, so the digest is that of the very bytes that were parsed.
 * Programs are run by path, by others, later: their digest is that of the file as it was looked at, and
 * crew_lock_recheck() looks again (stat(2), and the bytes once that differs) before each start of an agent.
 */
#pragma once

#include "arena.h"
#include "crew_file.h"

#include <sys/types.h>
#include <time.h>

#define LOCK_FILE "crew.lock"
#define LOCK_MAX_BYTES (1u << 20)

enum lock_kind { /* in the order of the file: by name */
                 LOCK_CA,
                 LOCK_CREW,
                 LOCK_HOOK,
                 LOCK_POLICY,
                 LOCK_PRESET,
                 LOCK_PROGRAM,
                 LOCK_RUNTIME,
                 LOCK_SCHEMA,
                 LOCK_SECCOMP,
                 LOCK_TOOL,
                 LOCK_KIND_N,
};
extern const char *const lock_kind_names[LOCK_KIND_N];

struct lock_stamp { /* while it is the same, so are the bytes */
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec mtime, ctime;
};

struct lock_file {
        enum lock_kind kind;
        const char *name; /* as crew.lock has it: relative to the crew's directory, absolute, or of a preset and such */
        const char *path; /* where it was read; NULL when this is a line of crew.lock */
        uint8_t sha256[32];
        uint32_t line; /* in crew.lock; 0: this was found */
        struct lock_stamp stamp;
};

struct lock_list {
        struct arena *arena;
        const char *dir; /* the crew's */
        struct lock_file *items;
        size_t n;
};

/* A file whose bytes were read; name NULL: its path, as crew.lock writes it.  l NULL: nobody wants to know.  0 or -ENOMEM.
 */
int lock_note(struct lock_list *l, enum lock_kind kind, const char *name, const char *path, const void *bytes, size_t n);
/* A file that others will run; read and stamped here.  0 or -errno. */
int lock_note_program(struct lock_list *l, enum lock_kind kind, const char *path, struct crew_err *err);
/* By kind, then name; what was noted twice is there once. */
void lock_sort(struct lock_list *l);

/* *text is malloc'd.  -EINVAL: a name cannot be written. */
int lock_format(const struct lock_list *l, const char *crew, char **text, size_t *n, struct crew_err *err);
/* Strict: every problem goes to the report, then -EINVAL.  crew NULL: any. */
int lock_parse(struct lock_list *l, const char *file, const char *crew, const char *text, size_t n,
               struct policy_report *report, struct crew_err *err);
/* One error in the report for each file that differs, is new, or is no longer used.  Both lists are sorted. */
void lock_compare(const struct lock_list *want, const struct lock_list *have, const char *file,
                  struct policy_report *report);

/* --- of a whole crew --- */

struct crew_lock { /* owned by whoever took it */
        struct arena arena;
        struct lock_list files;
        uint8_t sha256[32]; /* of crew.lock; zero when the files were only taken down */
};
struct crew_lock *crew_lock_free(struct crew_lock *l);
/* Every file of a crew that was loaded, programs read now. */
int crew_lock_take(const struct crew_file *c, struct crew_lock **out, struct crew_err *err);
/* "DIR/crew.lock" of the crew. */
int crew_lock_path(const struct crew_file *c, char *out, size_t size);
/*
 * Are the crew's files those of its crew.lock?  Each that is not, and each problem of crew.lock, goes to the report, then
 * -EKEYREJECTED.  *out (may be NULL): what was found, for crew_lock_recheck().
 */
int crew_lock_verify(const struct crew_file *c, struct crew_lock **out, struct policy_report *report, struct crew_err *err);
/* A program or a profile that the two locks have with different bytes, from *at on; NULL: no more. */
const struct lock_file *crew_lock_changed(const struct crew_lock *from, const struct crew_lock *to, size_t *at);
/* Does this agent name that file: in its command, its health check, a tool that its policy allows, or as its profile? */
bool crew_lock_uses(const struct crew_file *c, const struct crew_agent *a, const struct lock_file *f);
/* The programs again: -EKEYREJECTED with the first one that has changed since. */
int crew_lock_recheck(struct crew_lock *l, struct crew_err *err);
