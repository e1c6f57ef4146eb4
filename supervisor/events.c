/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include "common/util.h"
#include "text.h"

#include <string.h>

struct held {
        uint64_t number;
        uint8_t *bytes; /* packed crew.Event */
        size_t n;
};

struct events {
        void (*on_event)(const Crew__Event *e, void *user);
        void *user;
        uint64_t last;
        size_t bytes; /* held in all */
        uint32_t first, n;
        struct held ring[EVENTS_HELD];
};

struct events *events_new(void (*on_event)(const Crew__Event *e, void *user), void *user) {
        struct events *ev = calloc(1, sizeof(*ev));

        if (!ev)
                return NULL;
        ev->on_event = on_event;
        ev->user = user;
        return ev;
}

static void drop_oldest(struct events *ev) {
        struct held *h = &ev->ring[ev->first];

        ev->bytes -= h->n;
        free(h->bytes);
        *h = (struct held){0};
        ev->first = (ev->first + 1) % EVENTS_HELD;
        ev->n--;
}

struct events *events_free(struct events *ev) {
        if (!ev)
                return NULL;
        while (ev->n > 0)
                drop_oldest(ev);
        free(ev);
        return NULL;
}

static void hold(struct events *ev, const Crew__Event *e) {
        size_t n = crew__event__get_packed_size(e);
        uint8_t *bytes = malloc(n);

        if (!bytes)
                return; /* a later subscriber misses it; those attached now do not */
        crew__event__pack(e, bytes);
        while (ev->n > 0 && (ev->n == EVENTS_HELD || ev->bytes + n > EVENTS_BYTES))
                drop_oldest(ev);
        ev->ring[(ev->first + ev->n) % EVENTS_HELD] = (struct held){.number = e->event_seq, .bytes = bytes, .n = n};
        ev->n++;
        ev->bytes += n;
}

void events_add(struct events *ev, Crew__Event *e) {
        e->event_seq = ++ev->last;
        e->time_ms = crew_realtime_ns() / 1000000u;
        hold(ev, e);
        ev->on_event(e, ev->user);
}

void events_text(struct events *ev, const char *kind, const char *text) {
        Crew__Event e = CREW__EVENT__INIT;
        char cut[2048];

        text_copy(cut, sizeof(cut), text, SIZE_MAX);
        e.kind = (char *)kind;
        e.text = cut;
        events_add(ev, &e);
}

void events_replay(struct events *ev, uint64_t since, void (*fn)(const Crew__Event *e, void *user), void *user) {
        for (uint32_t i = 0; i < ev->n; i++) {
                const struct held *h = &ev->ring[(ev->first + i) % EVENTS_HELD];
                if (h->number < since)
                        continue;
                Crew__Event *e = crew__event__unpack(NULL, h->n, h->bytes);
                if (!e)
                        continue;
                fn(e, user);
                crew__event__free_unpacked(e, NULL);
        }
}

uint64_t events_last(const struct events *ev) {
        return ev->last;
}
