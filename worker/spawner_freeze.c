/* SPDX-License-Identifier: Apache-2.0 */
/* Freeze and thaw for crewd.  The others are not kept waiting while a busy machine lets one of them come to its stop. */
#include "spawner_internal.h"

#include "common/util.h"

#include <errno.h>

#define PATIENCE_NS 10000000000ull
#define LOOK_NS 1000000u
#define LOOK_SPARE 2u /* looks take a third of a CPU at most: one by signals costs as much as there are processes */

static void answer(struct spawner *s, uint32_t id, uint32_t cookie, int r) {
        const struct spawn_msg m = {.op = SPAWN_FREEZE_REPLY, .id = id, .cookie = cookie, .errno_ = -r};

        spawner_reply(s, &m, NULL, 0);
}

static void answer_all(struct spawner *s, struct instance *i, int r) {
        const struct freezing f = i->freezing;

        i->freezing = (struct freezing){0};
        if (f.asked)
                answer(s, i->id, f.cookie, r);
        if (f.unrecorded)
                answer(s, i->id, SPAWN_UNRECORDED, r);
}

static void look(struct spawner *s, struct instance *i) {
        bool late = crew_now_ns() >= i->freezing.by_ns, must = i->freezing.unrecorded;
        int r = jail_is_frozen(&i->jail);

        if (r == -EAGAIN && !late) {
                s->freeze_at_ns = MIN_OF(s->freeze_at_ns, crew_now_ns() + LOOK_NS);
                return;
        }
        if (r < 0 && !must)
                (void)jail_thaw(&i->jail);
        answer_all(s, i, r == -EAGAIN ? -ETIMEDOUT : r);
        spawner_govern_soon(s, i);
}

void spawner_see_freezing(struct spawner *s) {
        uint64_t cpu = spawner_cpu_now_ns();

        s->freeze_at_ns = UINT64_MAX;
        for (struct instance *i = s->instances; i; i = i->next) {
                if (i->freezing.by_ns)
                        look(s, i);
        }
        if (s->freeze_at_ns != UINT64_MAX)
                s->freeze_at_ns = MAX_OF(s->freeze_at_ns, crew_now_ns() + (spawner_cpu_now_ns() - cpu) * LOOK_SPARE);
}

static void thaw(struct spawner *s, struct instance *i, const struct spawn_msg *m) {
        answer_all(s, i, -ECANCELED);
        answer(s, m->id, m->cookie, jail_thaw(&i->jail));
        spawner_govern_soon(s, i);
}

void spawner_freeze(struct spawner *s, struct instance *i, const struct spawn_msg *m) {
        int r = i ? 0 : -ESRCH;

        if (r == 0 && m->op == SPAWN_THAW)
                return thaw(s, i, m);
        if (r == 0)
                r = jail_freeze(&i->jail);
        if (r < 0)
                return answer(s, m->id, m->cookie, r);
        i->freezing.by_ns = crew_now_ns() + PATIENCE_NS;
        if (m->cookie == SPAWN_UNRECORDED) {
                i->freezing.unrecorded = true;
        } else {
                i->freezing.asked = true;
                i->freezing.cookie = m->cookie;
        }
        look(s, i);
}
