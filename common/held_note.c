/* SPDX-License-Identifier: Apache-2.0 */
#include "held_note.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC 0x31444c48u /* "HLD1" */

static_assert(sizeof(struct held_note) == 16 + 64 + HELD_REASON_MAX, "no padding: it goes into a file");

int held_note_add(int fd, uint32_t id, uint32_t uid, const char *agent, const char *reason) {
        struct held_note note = {.magic = MAGIC, .id = id, .uid = uid};
        struct stat st;

        if (strlen(agent) >= sizeof(note.agent) || strlen(reason) >= sizeof(note.reason))
                return -EINVAL;
        strcpy(note.agent, agent);
        strcpy(note.reason, reason);
        if (fstat(fd, &st) < 0)
                return -errno;
        if ((uint64_t)st.st_size >= (uint64_t)HELD_NOTES_MAX * sizeof(note))
                return -ENOSPC;
        return crew_write_full(fd, &note, sizeof(note));
}

static bool text_ok(const char *text, size_t room) {
        size_t n = strnlen(text, room);

        for (size_t i = n; i < room; i++) {
                if (text[i])
                        return false;
        }
        return n < room && crew_utf8_ok(text, n);
}

static bool note_ok(const struct held_note *n) {
        return n->magic == MAGIC && n->zero == 0 && n->id != 0 && text_ok(n->agent, sizeof(n->agent)) &&
               crew_agent_name_ok(n->agent) && text_ok(n->reason, sizeof(n->reason));
}

int held_notes_read(int fd, struct held_note **out, size_t *n) {
        struct held_note *all = malloc(HELD_NOTES_MAX * sizeof(*all)), note;
        size_t have = 0;
        ssize_t got = 0;

        *out = NULL;
        *n = 0;
        if (!all)
                return -ENOMEM;
        for (size_t i = 0; i < HELD_NOTES_MAX; i++) {
                got = pread(fd, &note, sizeof(note), (off_t)(i * sizeof(note)));
                if (got != (ssize_t)sizeof(note))
                        break;
                if (note_ok(&note))
                        all[have++] = note;
        }
        int r = got < 0 ? -errno : 0;
        if (have == 0) {
                free(all);
                return r;
        }
        *out = all;
        *n = have;
        return 0;
}

void held_initiator(uint32_t uid, char *out, size_t size) {
        snprintf(out, size, "uid %u (crewctl)", (unsigned)uid);
}
