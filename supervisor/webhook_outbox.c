/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is put off is in ids[], or its id is at least `from` and `more` is true: no record is in neither. */
#include "webhook_outbox.h"

#include "common/util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

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
        uint64_t done[WEBHOOK_OUTBOX_DONE]; /* delivered, their files not removed yet */
        uint32_t n_done;
        uint64_t spare; /* a bit for each file that is made */
        bool unsynced;  /* the names of some */
        DIR *names;     /* owned; stays open, so that no look can fail */
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

/* --- what was delivered --- */

static int done_path(const struct webhook_outbox *o, uint64_t id, char out[PATH_MAX]) {
        return (size_t)snprintf(out, PATH_MAX, "%s/%020llu.done", o->dir, (unsigned long long)id) >= PATH_MAX
                       ? -ENAMETOOLONG
                       : 0;
}

void webhook_outbox_remove(const struct webhook_outbox *o, const struct webhook_outbox_done *done) {
        char path[PATH_MAX];

        for (uint32_t i = 0; i < done->n; i++) {
                if (done_path(o, done->ids[i], path) == 0)
                        unlink(path);
        }
}

void webhook_outbox_take_done(struct webhook_outbox *o, struct webhook_outbox_done *out) {
        out->n = MIN_OF(o->n_done, WEBHOOK_OUTBOX_DONE_STEP);
        o->n_done -= out->n;
        memcpy(out->ids, o->done + o->n_done, out->n * sizeof(out->ids[0]));
}

static void remove_done(struct webhook_outbox *o) {
        struct webhook_outbox_done done;

        for (webhook_outbox_take_done(o, &done); done.n > 0; webhook_outbox_take_done(o, &done))
                webhook_outbox_remove(o, &done);
}

static void put_away(struct webhook_outbox *o, uint64_t id) {
        char from[PATH_MAX], to[PATH_MAX];

        if (path_of(o, id, from) < 0)
                return;
        if (o->n_done < WEBHOOK_OUTBOX_DONE && done_path(o, id, to) == 0 && rename(from, to) == 0)
                o->done[o->n_done++] = id;
        else
                unlink(from);
}

void webhook_outbox_end(struct webhook_outbox *o, uint64_t id, bool delivered) {
        for (uint32_t i = 0; i < o->n_sent; i++) {
                if (o->sent[i] == id)
                        o->sent[i] = o->sent[--o->n_sent];
        }
        if (delivered)
                put_away(o, id);
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

static bool id_of(const char *name, const char *ending, uint64_t *id) {
        const char *dot = strchr(name, '.');
        char number[32];

        if (!dot || strcmp(dot, ending) != 0 || dot - name != 20)
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
                if (id_of(e->d_name, ".done", &id) && o->n_done < WEBHOOK_OUTBOX_DONE)
                        o->done[o->n_done++] = id; /* by a crewd that was killed, or already known of */
                if (!id_of(e->d_name, ".json", &id) || id < o->from || is_sent(o, id))
                        continue;
                o->found++;
                insert(o, id);
        }
        return false;
}

/* --- files --- */

static_assert(WEBHOOK_OUTBOX_SPARE <= 64, "a bit for each");

/* Their names are ours alone, and there are so many of them: what a crewd that was killed has left is in the way of none.
 */
static void spare_name(unsigned i, char out[16]) {
        snprintf(out, 16, "spare.%u", i);
}

bool webhook_outbox_prepare(struct webhook_outbox *o) {
        char name[16];
        unsigned made = 0;

        for (unsigned i = 0; i < WEBHOOK_OUTBOX_SPARE; i++) {
                if (o->spare & UINT64_C(1) << i)
                        continue;
                if (made++ == WEBHOOK_OUTBOX_MADE)
                        return true;
                spare_name(i, name);
                unlinkat(dirfd(o->names), name, 0);
                _cleanup_close_ int fd = openat(dirfd(o->names), name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                if (fd < 0)
                        return false; /* what is wrong shows, and is told, with the next record */
                o->spare |= UINT64_C(1) << i;
        }
        return false;
}

static int fill(int fd, const char *json, size_t n) {
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_size != 0 || (st.st_mode & 07777) != 0600)
                return -EINVAL;
        int r = crew_write_full(fd, json, n);
        return r == 0 && fsync(fd) < 0 ? -errno : r;
}

/* False: there is none, or something is wrong with it. */
static bool write_spare(struct webhook_outbox *o, const char *path, const char *json, size_t n) {
        char name[16];

        if (!o->spare)
                return false;
        unsigned i = (unsigned)__builtin_ctzll(o->spare);
        o->spare &= o->spare - 1;
        spare_name(i, name);
        _cleanup_close_ int fd = openat(dirfd(o->names), name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fill(fd, json, n) == 0 && renameat(dirfd(o->names), name, AT_FDCWD, path) == 0)
                return true;
        unlinkat(dirfd(o->names), name, 0);
        return false;
}

static void remove_spares(struct webhook_outbox *o) {
        char name[16];

        for (; o->spare; o->spare &= o->spare - 1) {
                spare_name((unsigned)__builtin_ctzll(o->spare), name);
                unlinkat(dirfd(o->names), name, 0);
        }
}

int webhook_outbox_write(struct webhook_outbox *o, uint64_t id, const char *json, size_t n, struct crew_err *err) {
        char path[PATH_MAX];

        if (path_of(o, id, path) < 0)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", o->dir);
        if (write_spare(o, path, json, n)) {
                o->unsynced = true;
                return 0;
        }
        return crew_write_file_atomic(path, json, n, 0600, err);
}

int webhook_outbox_sync(struct webhook_outbox *o, struct crew_err *err) {
        if (!o->unsynced)
                return 0;
        o->unsynced = false;
        return fsync(dirfd(o->names)) < 0 ? crew_fail_errno(err, "cannot write %s", o->dir) : 0;
}

int webhook_outbox_read(const struct webhook_outbox *o, uint64_t id, char **json, size_t *n, struct crew_err *err) {
        char path[PATH_MAX];

        if (path_of(o, id, path) < 0)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s", o->dir);
        return crew_read_file(path, WEBHOOK_TEXT_MAX, json, n, err);
}

void webhook_outbox_forget(struct webhook_outbox *o, bool (*which)(const char *json, void *user), void *user) {
        const struct dirent *e;
        uint64_t id;

        rewinddir(o->names);
        while ((e = readdir(o->names))) {
                _cleanup_free_ char *json = NULL;
                size_t n = 0;
                if (id_of(e->d_name, ".json", &id) && webhook_outbox_read(o, id, &json, &n, NULL) == 0 && which(json, user))
                        unlinkat(dirfd(o->names), e->d_name, 0);
        }
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
        remove_spares(o);
        remove_done(o);
        closedir(o->names);
        free(o);
        return NULL;
}
