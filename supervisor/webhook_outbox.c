/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is put off is in ids[], or its id is at least `from` and `more` is true: no record is in neither. */
#include "webhook_outbox.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

struct webhook_outbox {
        char dir[PATH_MAX];
        uint64_t sent[WEBHOOK_WAITING_MAX]; /* on their way, in no order */
        uint32_t n_sent;
        uint64_t ids[WEBHOOK_OUTBOX_IDS]; /* put off; n_ids of them from first on, ascending */
        uint32_t first, n_ids;
        uint64_t from; /* what was not looked at yet has no lesser id */
        bool more;     /* there may be such */
        bool looking;  /* ids[] is not whole yet */
        uint64_t found;
        DIR *names; /* owned; stays open, so that no look can fail */
};

static int path_of(const struct webhook_outbox *o, uint64_t id, char out[PATH_MAX]) {
        return (size_t)snprintf(out, PATH_MAX, "%s/%020llu.json", o->dir, (unsigned long long)id) >= PATH_MAX
                       ? -ENAMETOOLONG
                       : 0;
}

static bool is_sent(const struct webhook_outbox *o, uint64_t id) {
        for (uint32_t i = 0; i < o->n_sent; i++) {
                if (o->sent[i] == id)
                        return true;
        }
        return false;
}

static void add_sent(struct webhook_outbox *o, uint64_t id) {
        o->sent[o->n_sent++] = id;
}

/* --- what is put off --- */

/* The greatest makes room for one before it, and is looked for later. */
static void make_room(struct webhook_outbox *o) {
        if (o->first + o->n_ids < WEBHOOK_OUTBOX_IDS)
                return;
        memmove(o->ids, o->ids + o->first, o->n_ids * sizeof(o->ids[0]));
        o->first = 0;
        if (o->n_ids < WEBHOOK_OUTBOX_IDS)
                return;
        o->n_ids--;
        o->more = true;
        if (!o->looking) /* a look sets it when it ends */
                o->from = o->ids[o->n_ids];
}

static void insert(struct webhook_outbox *o, uint64_t id) {
        uint32_t at = o->first + o->n_ids;

        while (at > o->first && o->ids[at - 1] > id)
                at--;
        if (at > o->first && o->ids[at - 1] == id)
                return;
        if (at == o->first + o->n_ids && o->n_ids == WEBHOOK_OUTBOX_IDS) {
                if (!o->looking)
                        o->from = o->more ? MIN_OF(o->from, id) : id;
                o->more = true;
                return;
        }
        at -= o->first;
        make_room(o);
        at += o->first;
        memmove(o->ids + at + 1, o->ids + at, (o->first + o->n_ids - at) * sizeof(o->ids[0]));
        o->ids[at] = id;
        o->n_ids++;
}

static void put_off(struct webhook_outbox *o, uint64_t id) {
        if (o->more && !o->looking && id >= o->from)
                return; /* it is among those to look for */
        insert(o, id);
}

bool webhook_outbox_putting_off(const struct webhook_outbox *o) {
        return o->n_ids > 0 || o->more || o->looking;
}

bool webhook_outbox_send(struct webhook_outbox *o, uint64_t id) {
        if (webhook_outbox_putting_off(o) || o->n_sent == WEBHOOK_WAITING_MAX) {
                put_off(o, id);
                return false;
        }
        add_sent(o, id);
        return true;
}

bool webhook_outbox_next(struct webhook_outbox *o, uint64_t *id) {
        if (o->looking || o->n_ids == 0 || o->n_sent == WEBHOOK_WAITING_MAX)
                return false;
        *id = o->ids[o->first++];
        if (--o->n_ids == 0)
                o->first = 0;
        add_sent(o, *id);
        return true;
}

void webhook_outbox_end(struct webhook_outbox *o, uint64_t id, bool delivered) {
        char path[PATH_MAX];

        for (uint32_t i = 0; i < o->n_sent; i++) {
                if (o->sent[i] == id)
                        o->sent[i] = o->sent[--o->n_sent];
        }
        if (delivered && path_of(o, id, path) == 0)
                unlink(path);
}

uint32_t webhook_outbox_sent(const struct webhook_outbox *o) {
        return o->n_sent;
}

/* --- looking --- */

void webhook_outbox_look(struct webhook_outbox *o) {
        o->looking = false;
        o->n_sent = o->n_ids = o->first = 0;
        o->from = 0;
        o->more = true;
}

bool webhook_outbox_must_look(const struct webhook_outbox *o) {
        return o->looking || (o->more && o->n_ids == 0);
}

static bool id_of(const char *name, uint64_t *id) {
        const char *dot = strchr(name, '.');
        char number[32];

        if (!dot || strcmp(dot, ".json") != 0 || dot - name != 20)
                return false;
        snprintf(number, sizeof(number), "%.20s", name);
        return crew_parse_u64(number, id) == 0;
}

/* What it has not kept has greater ids than what it has. */
static bool end_look(struct webhook_outbox *o, uint64_t *found) {
        o->looking = false;
        if (o->more)
                o->from = o->ids[o->first + o->n_ids - 1] + 1;
        *found = o->found;
        return true;
}

bool webhook_outbox_step(struct webhook_outbox *o, uint64_t *found) {
        const struct dirent *e;
        uint64_t id;

        if (!o->looking) {
                o->looking = true;
                o->found = 0;
                o->more = false;
                rewinddir(o->names);
        }
        for (uint32_t i = 0; i < WEBHOOK_OUTBOX_NAMES; i++) {
                if (!(e = readdir(o->names)))
                        return end_look(o, found);
                if (!id_of(e->d_name, &id) || id < o->from || is_sent(o, id))
                        continue;
                o->found++;
                insert(o, id);
        }
        return false;
}

/* --- files --- */

int webhook_outbox_write(const struct webhook_outbox *o, uint64_t id, const char *json, size_t n, struct crew_err *err) {
        char path[PATH_MAX];

        if (path_of(o, id, path) < 0)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", o->dir);
        return crew_write_file_atomic(path, json, n, 0600, err);
}

int webhook_outbox_read(const struct webhook_outbox *o, uint64_t id, char **json, size_t *n, struct crew_err *err) {
        char path[PATH_MAX];

        if (path_of(o, id, path) < 0)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", o->dir);
        return crew_read_file(path, WEBHOOK_TEXT_MAX, json, n, err);
}

int webhook_outbox_open(const char *dir, struct webhook_outbox **out, struct crew_err *err) {
        struct webhook_outbox *o;

        int r = crew_mkdir_p(dir, 0700, err);
        if (r < 0)
                return r;
        if (!(o = calloc(1, sizeof(*o))))
                return crew_fail(err, ENOMEM, "out of memory");
        snprintf(o->dir, sizeof(o->dir), "%s", dir);
        if (!(o->names = opendir(dir))) {
                r = crew_fail_errno(err, "cannot read %s", dir);
                free(o);
                return r;
        }
        *out = o;
        return 0;
}

struct webhook_outbox *webhook_outbox_close(struct webhook_outbox *o) {
        if (!o)
                return NULL;
        closedir(o->names);
        free(o);
        return NULL;
}
