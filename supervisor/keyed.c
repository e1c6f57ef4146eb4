/* SPDX-License-Identifier: Apache-2.0 */
#include "keyed.h"

#include "bytes.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

struct keyed {
        struct keyed_task *items[KEYED_MAX]; /* owned */
        size_t n, bytes;
        uint64_t ages;
};

struct keyed *keyed_new(void) {
        return calloc(1, sizeof(struct keyed));
}

static void task_free(struct keyed_task *t) {
        free(t->outcome);
        free(t);
}

struct keyed *keyed_free(struct keyed *k) {
        for (size_t i = 0; k && i < k->n; i++)
                task_free(k->items[i]);
        free(k);
        return NULL;
}

/* Each with its length in front: no two requests are the same bytes. */
void keyed_digest(const char *const *parts, size_t n_parts, const uint64_t *numbers, size_t n_numbers,
                  uint8_t out[CREW_SHA256_BYTES]) {
        uint8_t digests[8 * CREW_SHA256_BYTES + 8 * sizeof(uint64_t)];
        size_t n = 0;

        crew_assert(n_parts <= 8 && n_numbers <= 8);
        for (size_t i = 0; i < n_parts; i++, n += CREW_SHA256_BYTES)
                crew_sha256(parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) : 0, digests + n);
        memcpy(digests + n, numbers, n_numbers * sizeof(*numbers));
        crew_sha256(digests, n + n_numbers * sizeof(*numbers), out);
}

struct keyed_task *keyed_find(struct keyed *k, const char *key) {
        for (size_t i = 0; i < k->n; i++) {
                if (strcmp(k->items[i]->key, key) == 0)
                        return k->items[i];
        }
        return NULL;
}

void keyed_drop(struct keyed *k, struct keyed_task *t) {
        size_t i = 0;

        while (i < k->n && k->items[i] != t)
                i++;
        crew_assert(i < k->n);
        k->bytes -= t->n;
        task_free(t);
        k->items[i] = k->items[--k->n];
}

/* Of those that are done, and hold something if they must. */
static struct keyed_task *oldest(struct keyed *k, bool holding, const struct keyed_task *but) {
        struct keyed_task *found = NULL;

        for (size_t i = 0; i < k->n; i++) {
                struct keyed_task *t = k->items[i];
                if (t->done && t != but && (!holding || t->outcome) && (!found || t->age < found->age))
                        found = t;
        }
        return found;
}

struct keyed_task *keyed_add(struct keyed *k, const char *key, const uint8_t request[CREW_SHA256_BYTES]) {
        struct keyed_task *t, *old = k->n == KEYED_MAX ? oldest(k, false, NULL) : NULL;

        if ((k->n == KEYED_MAX && !old) || !(t = calloc(1, sizeof(*t))))
                return NULL;
        if (old)
                keyed_drop(k, old);
        snprintf(t->key, sizeof(t->key), "%s", key);
        memcpy(t->request, request, CREW_SHA256_BYTES);
        t->age = ++k->ages;
        k->items[k->n++] = t;
        return t;
}

bool keyed_wait(struct keyed_task *t, uint64_t client, uint64_t corr) {
        if (t->n_waiters == KEYED_WAITERS_MAX)
                return false;
        t->waiters[t->n_waiters++] = (struct keyed_waiter){.client = client, .corr = corr};
        return true;
}

void keyed_finish(struct keyed *k, struct keyed_task *t, const uint8_t *outcome, size_t n) {
        struct keyed_task *old;

        crew_assert(!t->done);
        t->done = true;
        t->let_go = !outcome;
        if (!outcome)
                return;
        while (k->bytes + n > KEYED_BYTES && (old = oldest(k, true, t))) {
                k->bytes -= old->n;
                free(crew_steal_ptr(&old->outcome));
                old->n = 0;
                old->let_go = true;
        }
        t->outcome = k->bytes + n <= KEYED_BYTES ? malloc(MAX_OF(n, (size_t)1)) : NULL;
        t->let_go = !t->outcome;
        if (!t->outcome)
                return;
        memcpy(t->outcome, outcome, n);
        t->n = n;
        k->bytes += n;
}

/* --- for the next crewd --- */

void keyed_save(const struct keyed *k, struct bytes_out *b) {
        bytes_put_u64(b, k->ages);
        bytes_put_u64(b, k->n);
        for (size_t i = 0; i < k->n; i++) {
                const struct keyed_task *t = k->items[i];
                BYTES_PUT(b, t->key);
                BYTES_PUT(b, t->id);
                BYTES_PUT(b, t->request);
                bytes_put_u64(b, t->done);
                bytes_put_u64(b, t->age);
                bytes_put_text(b, (const char *)t->outcome, t->n);
        }
}

static int load_task(struct keyed *k, struct bytes_in *b) {
        struct keyed_task *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        k->items[k->n++] = t; /* a bad one, too: so it is freed */
        BYTES_GET(b, t->key);
        BYTES_GET(b, t->id);
        BYTES_GET(b, t->request);
        t->done = bytes_get_u64(b) != 0;
        t->age = bytes_get_u64(b);
        t->outcome = (uint8_t *)bytes_get_text(b, &t->n);
        t->let_go = t->done && !t->outcome;
        if (b->failed || !memchr(t->key, '\0', sizeof(t->key)) || !memchr(t->id, '\0', sizeof(t->id)) ||
            (t->outcome && !t->done) || t->n > KEYED_BYTES - k->bytes)
                return -EBADMSG;
        k->bytes += t->n;
        return 0;
}

int keyed_load(struct keyed *k, struct bytes_in *b) {
        int r = 0;

        k->ages = bytes_get_u64(b);
        uint64_t n = bytes_get_u64(b);
        if (n > KEYED_MAX || k->n > 0)
                return -EBADMSG;
        for (uint64_t i = 0; i < n && r == 0; i++)
                r = load_task(k, b);
        return b->failed ? -EBADMSG : r;
}
