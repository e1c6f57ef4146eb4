/* SPDX-License-Identifier: Apache-2.0 */
/* An array in order of age: few wait at any time, and the oldest are asked for first. */
#include "notices.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

struct notices {
        struct notice items[NOTICES_MAX];
        size_t n, bytes;
        uint64_t lost;
};

struct notices *notices_new(void) {
        return calloc(1, sizeof(struct notices));
}

static void drop(struct notices *l, size_t i) {
        l->bytes -= l->items[i].n;
        free(l->items[i].record);
        l->n--;
        memmove(&l->items[i], &l->items[i + 1], (l->n - i) * sizeof(l->items[0]));
}

struct notices *notices_free(struct notices *l) {
        while (l && l->n > 0)
                drop(l, l->n - 1);
        free(l);
        return NULL;
}

int notices_add(struct notices *l, uint64_t id, const char *agent, const char *record, size_t n) {
        char *copy = n <= NOTICES_BYTES ? malloc(n + 1) : NULL;
        int dropped = 0;

        if (!copy) {
                l->lost++;
                return -ENOMEM;
        }
        for (; l->n == NOTICES_MAX || l->bytes + n > NOTICES_BYTES; dropped++)
                drop(l, 0);
        l->lost += (uint64_t)dropped;
        memcpy(copy, record, n);
        copy[n] = '\0';
        struct notice *i = &l->items[l->n++];
        *i = (struct notice){.id = id, .record = copy, .n = n};
        snprintf(i->agent, sizeof(i->agent), "%s", agent);
        l->bytes += n;
        return dropped;
}

bool notices_seen(struct notices *l, uint64_t id) {
        for (size_t i = 0; i < l->n; i++) {
                if (l->items[i].id != id)
                        continue;
                drop(l, i);
                return true;
        }
        return false;
}

struct notice *notices_next(struct notices *l, uint32_t incarnation) {
        for (size_t i = 0; i < l->n; i++) {
                if (l->items[i].told != incarnation)
                        return &l->items[i];
        }
        return NULL;
}

size_t notices_count(const struct notices *l) {
        return l->n;
}

void notices_write(const struct notices *l, struct json_text *t) {
        json_open(t, '{');
        json_key(t, "terminations");
        json_open(t, '[');
        for (size_t i = 0; i < l->n; i++)
                json_raw(t, l->items[i].record, l->items[i].n);
        json_close(t, ']');
        json_key(t, "lost"), json_int(t, (int64_t)l->lost);
        json_close(t, '}');
}
