/* SPDX-License-Identifier: Apache-2.0 */
#include "handouts.h"

#include "common/util.h"
#include "text.h"

#include <string.h>

struct wait {
        uint32_t task; /* index */
        uint64_t seq, deadline_ns;
};

struct handouts {
        uint32_t at_once, total;
        uint32_t n, n_open;
        size_t result_bytes;
        uint32_t oldest; /* no result is held before it */
        struct wait waits[HANDOUTS_WAITS_MAX];
        uint32_t n_waits;
        struct handout items[];
};

struct handouts *handouts_new(uint32_t at_once, uint32_t total) {
        struct handouts *h = calloc(1, sizeof(*h) + total * sizeof(h->items[0]));

        if (!h)
                return NULL;
        h->at_once = at_once;
        h->total = total;
        return h;
}

struct handouts *handouts_free(struct handouts *h) {
        for (uint32_t i = 0; h && i < h->n; i++)
                free(h->items[i].result);
        free(h);
        return NULL;
}

enum handouts_room handouts_room(const struct handouts *h) {
        return h->n == h->total ? HANDOUTS_USED_UP : h->n_open >= h->at_once ? HANDOUTS_TOO_MANY : HANDOUTS_ROOM;
}

struct handout *handouts_add(struct handouts *h, const struct handout *what) {
        if (handouts_room(h) != HANDOUTS_ROOM)
                return NULL;
        struct handout *t = &h->items[h->n++];
        *t = (struct handout){.agent = what->agent};
        memcpy(t->id, what->id, sizeof(t->id));
        memcpy(t->key, what->key, sizeof(t->key));
        memcpy(t->task, what->task, sizeof(t->task));
        memcpy(t->scope, what->scope, sizeof(t->scope));
        memcpy(t->request, what->request, sizeof(t->request));
        h->n_open++;
        return t;
}

struct handout *handouts_find(struct handouts *h, const char *id) {
        for (uint32_t i = 0; i < h->n; i++)
                if (strcmp(h->items[i].id, id) == 0)
                        return &h->items[i];
        return NULL;
}

struct handout *handouts_by_key(struct handouts *h, const char *scope, const char *key) {
        for (uint32_t i = 0; *key && i < h->n; i++)
                if (strcmp(h->items[i].key, key) == 0 && strcmp(h->items[i].scope, scope) == 0)
                        return &h->items[i];
        return NULL;
}

/* Never the one that came last: whoever waits for it is told first. */
static void make_room(struct handouts *h, const struct handout *last) {
        for (; h->result_bytes > HANDOUTS_RESULT_BYTES && h->oldest < h->n; h->oldest++) {
                struct handout *t = &h->items[h->oldest];
                if (t == last)
                        return;
                if (!t->result)
                        continue;
                h->result_bytes -= t->result_len;
                free(crew_steal_ptr(&t->result));
                t->let_go = true;
        }
}

static void keep_result(struct handouts *h, struct handout *t, const struct handout *end) {
        uint32_t index = (uint32_t)(t - h->items);

        if (!end->result)
                return;
        t->result = strndup(end->result, end->result_len);
        t->let_go = !t->result;
        if (!t->result)
                return;
        t->result_len = end->result_len;
        h->result_bytes += t->result_len;
        h->oldest = MIN_OF(h->oldest, index);
        make_room(h, t);
}

/* The waits for task (or, task NULL, those that are overdue) leave the table before they are answered. */
static void answer_waits(struct handouts *h, const struct handout *task, uint64_t now_ns, handouts_answer answer,
                         void *user) {
        for (uint32_t i = 0; i < h->n_waits;) {
                struct wait w = h->waits[i];
                bool wanted = task ? &h->items[w.task] == task : now_ns >= w.deadline_ns;
                if (!wanted) {
                        i++;
                        continue;
                }
                h->waits[i] = h->waits[--h->n_waits];
                answer(w.seq, &h->items[w.task], !task, user);
        }
}

bool handouts_finish(struct handouts *h, const struct handout *end, handouts_answer answer, void *user) {
        struct handout *t = handouts_find(h, end->id);

        if (!t || t->done)
                return false;
        t->done = true;
        h->n_open--;
        t->outcome = end->outcome;
        t->attempts = end->attempts;
        t->ms = end->ms;
        text_copy(t->error, sizeof(t->error), end->error, SIZE_MAX);
        keep_result(h, t, end);
        answer_waits(h, t, 0, answer, user);
        return true;
}

bool handouts_wait(struct handouts *h, const struct handout *t, uint64_t seq, uint64_t deadline_ns) {
        if (h->n_waits == HANDOUTS_WAITS_MAX)
                return false;
        h->waits[h->n_waits++] = (struct wait){.task = (uint32_t)(t - h->items), .seq = seq, .deadline_ns = deadline_ns};
        return true;
}

void handouts_expire(struct handouts *h, uint64_t now_ns, handouts_answer answer, void *user) {
        answer_waits(h, NULL, now_ns, answer, user);
}

uint64_t handouts_next_deadline(const struct handouts *h) {
        uint64_t next = UINT64_MAX;

        for (uint32_t i = 0; i < h->n_waits; i++)
                next = MIN_OF(next, h->waits[i].deadline_ns);
        return next;
}

void handouts_forget_waits(struct handouts *h) {
        h->n_waits = 0;
}

void handouts_each_open(struct handouts *h, void (*fn)(const struct handout *t, void *user), void *user) {
        for (uint32_t i = 0; i < h->n; i++)
                if (!h->items[i].done)
                        fn(&h->items[i], user);
}
