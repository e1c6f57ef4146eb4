/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include "bytes.h"
#include "common/util.h"
#include "link.h"

#include <errno.h>

int outbox_add(struct outbox *o, uint64_t seq, const uint8_t *bytes, size_t n) {
        struct outbox_frame *f = malloc(sizeof(*f) + n);

        if (!f)
                return -ENOMEM;
        *f = (struct outbox_frame){.seq = seq, .n = n};
        memcpy(f->bytes, bytes, n);
        if (o->last)
                o->last->next = f;
        else
                o->first = f;
        o->last = f;
        if (!o->unsent)
                o->unsent = f;
        o->unsent_bytes += n;
        o->n_unsent++;
        o->bytes += sizeof(*f) + n;
        return 0;
}

static void sent_one(struct outbox *o) {
        o->unsent_bytes -= o->unsent->n;
        o->n_unsent--;
        o->unsent = o->unsent->next;
}

void outbox_acknowledged(struct outbox *o, uint64_t seq) {
        while (o->first && o->first->seq <= seq) {
                struct outbox_frame *f = o->first;
                if (o->unsent == f)
                        sent_one(o);
                o->first = f->next;
                if (!o->first)
                        o->last = NULL;
                o->bytes -= sizeof(*f) + f->n;
                free(f);
        }
}

uint64_t outbox_first(const struct outbox *o) {
        return o->first ? o->first->seq : 0;
}

void outbox_rewind(struct outbox *o) {
        o->unsent = o->first;
        o->unsent_bytes = o->n_unsent = 0;
        for (const struct outbox_frame *f = o->first; f; f = f->next) {
                o->unsent_bytes += f->n;
                o->n_unsent++;
        }
}

void outbox_flush(struct outbox *o, struct link *l) {
        while (o->unsent && link_send(l, o->unsent->bytes, o->unsent->n) == 0)
                sent_one(o);
}

void outbox_clear(struct outbox *o) {
        outbox_acknowledged(o, UINT64_MAX);
}

void outbox_save(const struct outbox *o, struct bytes_out *b) {
        for (const struct outbox_frame *f = o->first; f; f = f->next) {
                bytes_put_u64(b, f->seq);
                bytes_put_text(b, (const char *)f->bytes, f->n);
        }
        bytes_put_u64(b, 0);
}

int outbox_load(struct outbox *o, struct bytes_in *b) {
        uint64_t seq;

        while ((seq = bytes_get_u64(b)) != 0) {
                size_t n;
                _cleanup_free_ char *bytes = bytes_get_text(b, &n);
                if (b->failed || !bytes)
                        return -EBADMSG;
                int r = outbox_add(o, seq, (const uint8_t *)bytes, n);
                if (r < 0)
                        return r;
        }
        return b->failed ? -EBADMSG : 0;
}
