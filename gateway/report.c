/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

/* One more for the others of each of tcp, udp and dns. */
#define SLOTS (REPORT_DIFFERENT_MAX + 3)

struct report_item {
        struct report_item *next;
        void (*sent)(void *user);
        void *user;
        struct gate_msg msg;
};

struct denial {
        struct gate_msg msg; /* .count: not sent yet */
};

void report_init(struct report *r, int fd) {
        *r = (struct report){.fd = fd};
        r->tail = &r->head;
}

void report_fini(struct report *r) {
        while (r->head) {
                struct report_item *i = r->head;
                r->head = i->next;
                free(i);
        }
        r->tail = &r->head;
        r->n_queued = 0;
}

/* 0: written; 1: the socket is full. */
static int write_one(struct report *r, const struct gate_msg *m) {
        ssize_t n = crew_send_fds(r->fd, m, sizeof(*m), NULL, 0);

        if (n == -EAGAIN || n == -ENOBUFS)
                return 1;
        return n < 0 ? (int)n : 0;
}

int report_send(struct report *r, const struct gate_msg *m, void (*sent)(void *user), void *user) {
        int rc = r->head ? 1 : write_one(r, m);

        if (rc <= 0)
                return rc;
        struct report_item *i = malloc(sizeof(*i));
        if (!i)
                return -ENOMEM;
        *i = (struct report_item){.sent = sent, .user = user, .msg = *m};
        *r->tail = i;
        r->tail = &i->next;
        r->n_queued++;
        return 1;
}

int report_write(struct report *r) {
        while (r->head) {
                struct report_item *i = r->head;
                int rc = write_one(r, &i->msg);
                if (rc != 0)
                        return rc < 0 ? rc : 0;
                r->head = i->next;
                if (!r->head)
                        r->tail = &r->head;
                r->n_queued--;
                if (i->sent)
                        i->sent(i->user);
                free(i);
        }
        return 0;
}

static struct gate_msg *find(struct denials *d, const struct gate_msg *m) {
        for (size_t i = 0; i < d->n; i++) {
                struct gate_msg *p = &d->slot[i].msg;
                if (p->proto == m->proto && p->port == m->port && p->verdict == m->verdict &&
                    strcmp(p->name, m->name) == 0 && strcmp(p->text, m->text) == 0)
                        return p;
        }
        return NULL;
}

static int note_first(struct report *r, struct denials *d, struct gate_msg *m) {
        if (!d->slot && !(d->slot = calloc(SLOTS, sizeof(*d->slot))))
                return -ENOMEM;
        if (!d->listed) {
                d->listed = true;
                d->next = r->pending;
                r->pending = d;
        }
        /* Behind, the first of its kind waits for its window too: a queue of denials would have no bound. */
        if (!r->head) {
                int rc = report_send(r, m, NULL, NULL);
                if (rc < 0)
                        return rc;
                m->count = 0;
        }
        d->slot[d->n++].msg = *m;
        d->n_names += m->proto == GATE_DNS;
        return 0;
}

int report_denied(struct report *r, struct denials *d, const struct gate_msg *denial) {
        struct gate_msg m = *denial;
        struct gate_msg *same;

        m.op = GATE_DENIED;
        m.count = MAX_OF(m.count, 1u);
        same = find(d, &m);
        /* A jail that makes names up may not keep crewd, and with it every other jail, waiting. */
        if (!same && (d->n >= REPORT_DIFFERENT_MAX || (m.proto == GATE_DNS && d->n_names >= REPORT_NAMES_MAX))) {
                m.port = 0;
                m.verdict = GATE_REFUSE;
                snprintf(m.name, sizeof(m.name), "%s", REPORT_OTHERS);
                snprintf(m.text, sizeof(m.text), "more different ones than are listed");
                same = find(d, &m);
        }
        if (!same)
                return note_first(r, d, &m);
        same->count += MIN_OF(m.count, UINT32_MAX - same->count);
        return 0;
}

static int send_counts(struct report *r, struct denials *d) {
        int rc = 0;

        for (size_t i = 0; i < d->n && rc >= 0; i++) {
                if (d->slot[i].msg.count > 0)
                        rc = report_send(r, &d->slot[i].msg, NULL, NULL);
        }
        d->n = d->n_names = 0;
        free(crew_steal_ptr(&d->slot));
        return rc < 0 ? rc : 0;
}

static void unlist(struct report *r, struct denials *d) {
        for (struct denials **p = &r->pending; *p; p = &(*p)->next) {
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        }
        d->next = NULL;
        d->listed = false;
}

int report_flush_one(struct report *r, struct denials *d) {
        if (d->listed)
                unlist(r, d);
        return send_counts(r, d);
}

int report_flush(struct report *r) {
        int rc = 0;

        while (r->pending && !r->head && rc == 0)
                rc = report_flush_one(r, r->pending);
        return rc;
}
