/* SPDX-License-Identifier: Apache-2.0 */
#include "held.h"

#include "conn_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define UPDATE_MS 200u /* a change of how many wait is told after so long at the latest */

struct held {
        struct agent *agent;
        struct held *next, **prev;
        uint32_t ask; /* GATE_ASK's number */
        uint16_t port;
        unsigned waiting, told;
        uint64_t until_ms;
        struct conn *conns;
        struct hub_deadline deadline; /* the next update, or the end */
        char name[NETPOLICY_NAME_MAX];
};

/* What was said for longer than the connections that waited. */
struct grant {
        bool let, once;
        uint16_t port;
        uint64_t until_ms; /* with once */
        char name[NETPOLICY_NAME_MAX];
};
struct grants {
        unsigned n;
        struct grant grant[GRANTS_MAX];
};

static uint64_t now_ms(const struct agent *a) {
        return a->hub->now_ms;
}

/* --- grants --- */

static void forget(struct grants *g, unsigned i) {
        g->grant[i] = g->grant[--g->n];
}

static void expire(struct agent *a) {
        for (unsigned i = 0; a->grants && i < a->grants->n;) {
                const struct grant *g = &a->grants->grant[i];
                if (g->once && g->until_ms <= now_ms(a))
                        forget(a->grants, i);
                else
                        i++;
        }
}

static struct grant *find_grant(const struct agent *a, const char *name, uint16_t port) {
        for (unsigned i = 0; a->grants && i < a->grants->n; i++) {
                struct grant *g = &a->grants->grant[i];
                if (g->port == port && strcmp(g->name, name) == 0)
                        return g;
        }
        return NULL;
}

enum held_known held_known(struct agent *a, const char *name, uint16_t port) {
        expire(a);
        struct grant *g = find_grant(a, name, port);
        if (!g)
                return HELD_UNKNOWN;
        bool let = g->let;
        if (g->once)
                forget(a->grants, (unsigned)(g - a->grants->grant));
        return let ? HELD_LET : HELD_REFUSED;
}

/* Without room it is asked again the next time: that is the safe side. */
static void remember(const struct held *h, bool let, bool once) {
        struct agent *a = h->agent;

        expire(a);
        if (!a->grants)
                a->grants = calloc(1, sizeof(*a->grants));
        if (!a->grants || a->grants->n == GRANTS_MAX)
                return;
        struct grant *g = &a->grants->grant[a->grants->n++];
        *g = (struct grant){.let = let, .once = once, .port = h->port, .until_ms = h->until_ms};
        memcpy(g->name, h->name, sizeof(g->name));
}

/* --- asks --- */

static void tell(struct held *h, enum gate_op op, enum gate_verdict verdict, const char *text) {
        struct gate_msg m = {
                .op = op, .ask = h->ask, .proto = GATE_TCP, .port = h->port, .count = h->waiting, .verdict = verdict};

        snprintf(m.name, sizeof(m.name), "%s", h->name);
        snprintf(m.text, sizeof(m.text), "%s", text);
        h->told = h->waiting;
        agent_report(h->agent, &m, NULL, NULL);
}

static struct held *held_free(struct held *h) {
        struct agent *a = h->agent;

        hub_deadline_clear(&h->deadline);
        *h->prev = h->next;
        if (h->next)
                h->next->prev = h->prev;
        a->n_asks--;
        free(h);
        return NULL;
}

/* The ask is off the table before any of its connections moves: nothing that they do finds it again. */
static void settle(struct held *h, bool let, const char *why) {
        struct conn *first = h->conns;

        for (struct conn *c = first; c; c = c->held_next) {
                c->held = NULL;
                c->held_prev = NULL;
        }
        held_free(h);
        for (struct conn *c = first, *next; c; c = next) {
                next = c->held_next;
                conn_answered(c, let, why);
        }
}

static void set_deadline(struct held *h) {
        uint64_t now = now_ms(h->agent), left = h->until_ms > now ? h->until_ms - now : 0;
        bool news = h->waiting != h->told && h->waiting > 0;

        hub_deadline_set(h->agent->hub, &h->deadline, news ? MIN_OF(left, (uint64_t)UPDATE_MS) : left);
}

static void on_deadline(struct hub_deadline *d) {
        struct held *h = (struct held *)((char *)d - offsetof(struct held, deadline));

        if (now_ms(h->agent) >= h->until_ms) {
                tell(h, GATE_ASK_GONE, GATE_REFUSE, h->waiting ? "expired" : "the client gave up");
                return settle(h, false, "nobody approved it in time");
        }
        if (h->waiting != h->told && h->waiting > 0)
                tell(h, GATE_ASK, GATE_REFUSE, "");
        set_deadline(h);
}

static struct held *find_held(struct agent *a, const char *name, uint16_t port) {
        struct held *h = a->asks;

        while (h && (h->port != port || strcmp(h->name, name) != 0))
                h = h->next;
        return h;
}

static struct held *held_new(struct agent *a, const char *name, uint16_t port) {
        struct held *h = a->n_asks < HELD_ASKS_MAX ? calloc(1, sizeof(*h)) : NULL;

        if (!h)
                return NULL;
        h->agent = a;
        h->ask = ++a->hub->last_ask;
        h->port = port;
        h->until_ms = now_ms(a) + a->policy->ask_s * 1000ull;
        h->deadline.on_deadline = on_deadline;
        snprintf(h->name, sizeof(h->name), "%s", name);
        h->next = a->asks;
        h->prev = &a->asks;
        if (h->next)
                h->next->prev = &h->next;
        a->asks = h;
        a->n_asks++;
        return h;
}

int held_join(struct conn *c) {
        struct agent *a = c->agent;
        struct held *h = find_held(a, c->name, c->port);
        bool first = !h;

        if (first && !(h = held_new(a, c->name, c->port)))
                return -ENOSPC;
        c->held = h;
        c->held_next = h->conns;
        c->held_prev = &h->conns;
        if (c->held_next)
                c->held_next->held_prev = &c->held_next;
        h->conns = c;
        h->waiting++;
        if (first)
                tell(h, GATE_ASK, GATE_REFUSE, "");
        set_deadline(h);
        return 0;
}

void held_leave(struct conn *c) {
        struct held *h = c->held;

        *c->held_prev = c->held_next;
        if (c->held_next)
                c->held_next->held_prev = c->held_prev;
        c->held = NULL;
        c->held_prev = NULL;
        h->waiting--;
}

void held_answer(struct agent *a, uint32_t ask, enum gate_verdict verdict, enum gate_scope scope, const char *why) {
        struct held *h = a->asks;
        bool let = verdict == GATE_LET;

        while (h && h->ask != ask)
                h = h->next;
        if (!h)
                return;
        if (scope == GATE_SESSION)
                remember(h, let, false);
        else if (let && h->waiting == 0)
                remember(h, let, true);
        settle(h, let, *why ? why : "refused by the operator");
}

/* Settling one may end connections, but makes and frees no other ask: those come from the jail's next dials. */
void held_reload(struct agent *a) {
        bool asks = a->policy->flags & NETPOLICY_ASK;

        for (struct held *h = a->asks, *next; h; h = next) {
                next = h->next;
                bool listed = h->conns && conn_match(h->conns) != NULL;
                if (asks && !listed)
                        continue;
                tell(h, GATE_ASK_GONE, listed ? GATE_LET : GATE_REFUSE,
                     listed ? "the policy lists it now" : "the policy does not ask any more");
                settle(h, listed, "not in allowed_endpoints");
        }
}

void held_fini(struct agent *a) {
        while (a->asks) {
                tell(a->asks, GATE_ASK_GONE, GATE_REFUSE, "the instance is gone");
                held_free(a->asks);
        }
        free(crew_steal_ptr(&a->grants));
}
