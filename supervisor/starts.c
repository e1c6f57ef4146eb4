/* SPDX-License-Identifier: Apache-2.0 */
#include "starts.h"

#include "agent.h"
#include "common/util.h"
#include "crewd.h"
#include "state_dir.h"

uint32_t starts_places(void) {
        return MIN_OF(MAX_OF(STARTS_MIN, 2 * uv_available_parallelism()), STARTS_MAX);
}

void starts_init(struct starts *s) {
        *s = (struct starts){.max = starts_places()};
}

void starts_want(struct agent *a) {
        struct starts *s = &a->crewd->starts;

        if (a->start.waiting)
                return;
        a->start = (struct start){.before = s->last, .waiting = true, .placed = a->start.placed};
        *(s->last ? &s->last->start.after : &s->first) = a;
        s->last = a;
        crewd_progress(a->crewd);
}

void starts_unwant(struct agent *a) {
        struct starts *s = &a->crewd->starts;
        struct start *me = &a->start;

        if (!me->waiting)
                return;
        *(me->before ? &me->before->start.after : &s->first) = me->after;
        *(me->after ? &me->after->start.before : &s->last) = me->before;
        me->before = me->after = NULL;
        me->waiting = false;
}

void starts_take_place(struct agent *a) {
        starts_leave_place(a);
        a->start.placed = true;
        a->crewd->starts.n++;
}

void starts_sealed(struct agent *a, uint64_t now_ns) {
        if (a->start.placed)
                a->start.until_ns = now_ns + STARTS_TURN_NS;
}

void starts_leave_place(struct agent *a) {
        if (!a->start.placed)
                return;
        a->start.placed = false;
        a->start.until_ns = 0;
        a->crewd->starts.n--;
        if (a->crewd->starts.first)
                crewd_progress(a->crewd);
}

static bool may_go(struct agent *a, uint64_t now_ns) {
        struct start *s = &a->start;

        if (now_ns < s->look_ns)
                return false;
        if (!state_dir_in_use(a))
                return true;
        if (!s->in_use_ns) {
                s->in_use_ns = now_ns;
                crewd_log(a->crewd, "agent %s waits: its state directory is in use", agent_name(a));
        }
        s->look_ns = now_ns + STARTS_LOOK_NS;
        return now_ns >= s->in_use_ns + STARTS_IN_USE_NS;
}

static struct agent *next_start(struct starts *s, uint64_t now_ns) {
        struct agent *a = s->n < s->max ? s->first : NULL;

        while (a && !may_go(a, now_ns))
                a = a->start.after;
        return a;
}

void starts_poke(struct crewd *c, uint64_t now_ns) {
        struct agent *a;

        while (c->phase <= CREWD_RUNNING && (a = next_start(&c->starts, now_ns))) {
                starts_unwant(a);
                agent_event(a, AGENT_EV_START);
        }
}

void starts_expire(struct agent *a, uint64_t now_ns) {
        if (a->start.waiting && a->start.look_ns && now_ns >= a->start.look_ns) {
                a->start.look_ns = 0;
                crewd_progress(a->crewd);
        }
        if (a->start.until_ns && now_ns >= a->start.until_ns)
                starts_leave_place(a);
}

uint64_t starts_next_deadline(const struct agent *a) {
        const struct start *s = &a->start;
        uint64_t look = s->waiting && s->look_ns ? s->look_ns : UINT64_MAX;

        return s->until_ns ? MIN_OF(look, s->until_ns) : look;
}
