/* SPDX-License-Identifier: Apache-2.0 */
/* Reports to crewd, folded.  The socket is blocking: crewd reads it, and a gateway that waits for crewd fails closed. */
#include "report.h"

#include "common/util.h"

#include <string.h>

void report_init(struct report *r, int fd) {
        r->fd = fd;
        r->n = 0;
}

static int send_msg(struct report *r, const struct gate_msg *m) {
        ssize_t n = crew_send_fds(r->fd, m, sizeof(*m), NULL, 0);
        return n < 0 ? (int)n : 0;
}

int report_send(struct report *r, enum gate_op op, uint32_t id) {
        struct gate_msg m = {.op = op, .id = id};
        return send_msg(r, &m);
}

/* Also counts how many different ones this instance has in the window. */
static struct gate_msg *find(struct report *r, const struct gate_msg *m, unsigned *different) {
        *different = 0;
        for (size_t i = 0; i < r->n; i++) {
                struct gate_msg *p = &r->pending[i];
                *different += p->id == m->id;
                if (p->id == m->id && p->proto == m->proto && p->port == m->port && strcmp(p->name, m->name) == 0)
                        return p;
        }
        return NULL;
}

int report_denied(struct report *r, uint32_t id, enum gate_proto proto, uint32_t port, const char *name) {
        struct gate_msg m = {.op = GATE_DENIED, .id = id, .proto = proto, .port = port, .count = 1};
        struct gate_msg *same;
        unsigned different;

        snprintf(m.name, sizeof(m.name), "%s", name);
        same = find(r, &m, &different);
        /* A jail that makes names up may not keep crewd, and through the blocking socket every other jail, waiting. */
        if (!same && different >= REPORT_DIFFERENT_MAX) {
                m.port = 0;
                snprintf(m.name, sizeof(m.name), "%s", REPORT_OTHERS);
                same = find(r, &m, &different);
        }
        if (same) {
                same->count++;
                return 0;
        }
        int rc = send_msg(r, &m);
        if (rc < 0)
                return rc;
        /* Too many different ones in a window: their counts go out early instead of growing the table. */
        if (r->n == REPORT_SLOTS && (rc = report_flush(r)) < 0)
                return rc;
        m.count = 0;
        r->pending[r->n++] = m;
        return 0;
}

int report_flush(struct report *r) {
        int rc = 0;

        for (size_t i = 0; i < r->n && rc == 0; i++) {
                if (r->pending[i].count > 0)
                        rc = send_msg(r, &r->pending[i]);
        }
        r->n = 0;
        return rc;
}

bool report_pending(const struct report *r) {
        return r->n > 0;
}
