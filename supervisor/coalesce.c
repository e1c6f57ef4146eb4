/* SPDX-License-Identifier: Apache-2.0 */
#include "coalesce.h"

void coalesce_note(struct coalesce *c, bool waited) {
        c->n = waited ? 0 : c->n + 1;
        c->on &= !waited;
}

uint64_t coalesce_rest_ns(struct coalesce *c, uint64_t now_ns) {
        if (now_ns - c->since_ns >= COALESCE_WINDOW_NS) {
                c->on = c->n >= COALESCE_MANY;
                c->n = 0;
                c->since_ns = now_ns;
        }
        return c->on ? COALESCE_REST_NS : 0;
}
