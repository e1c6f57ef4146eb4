/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The router.  A message that cannot be handed over yet is a parcel in its receiver's queue; it and every delivered ask
 * hold an entry in the table of calls in flight, which owns the quotas.
 */
#include "router.h"

#include "bytes.h"
#include "common/util.h"
#include "inflight.h"
#include "supervisor/schema/schema.h"

#include <errno.h>
#include <string.h>

struct parcel {
        struct parcel *next;
        struct inflight_call *call;
        bool ask;
        char payload[];
};

struct queue {
        struct parcel *head, **tail;
};

struct askers {
        uint32_t of, n;  /* whose are looked for; how many are known */
        uint32_t list[]; /* n_agents; the one that is asked first */
};

struct router {
        struct router_callbacks cb;
        void *user;
        struct inflight *calls;
        struct askers *askers; /* owned; for router_each_asker() */
        uint32_t n_agents;
        struct queue queues[];
};

struct router *router_new(uint32_t n_agents, const struct router_callbacks *cb, void *user) {
        static const struct inflight_limits limits = {
                .per_caller = ROUTER_OPEN_MAX, .per_callee = ROUTER_OWED_MAX, .callee_bytes = ROUTER_OWED_BYTES};
        struct router *r = calloc(1, sizeof(*r) + n_agents * sizeof(r->queues[0]));

        if (!r)
                return NULL;
        r->cb = *cb;
        r->user = user;
        r->n_agents = n_agents;
        r->calls = inflight_new(n_agents, &limits);
        r->askers = malloc(sizeof(*r->askers) + n_agents * sizeof(r->askers->list[0]));
        if (!r->calls || !r->askers)
                return router_free(r);
        for (uint32_t i = 0; i < n_agents; i++)
                r->queues[i].tail = &r->queues[i].head;
        return r;
}

struct router *router_free(struct router *r) {
        if (!r)
                return NULL;
        for (uint32_t i = 0; i < r->n_agents; i++) {
                struct parcel *next;
                for (struct parcel *p = r->queues[i].head; p; p = next) {
                        next = p->next;
                        free(p);
                }
        }
        inflight_free(r->calls);
        free(r->askers);
        free(r);
        return NULL;
}

/* The terminal message; caller.seq is 0 when nobody waits for one. */
static void tell(struct router *r, const struct inflight_end *caller, const char *target, const struct call_reply *what) {
        if (caller->seq)
                r->cb.reply(caller->agent, caller->seq, what, r->user);
        else if (!what->ok && what->code != CALL_DENIED)
                r->cb.lost(caller->agent, target, what, r->user);
}

/* The caller's terminal message, if it has not had one. */
static void settle(struct router *r, struct inflight_call *c, const struct call_reply *what) {
        if (inflight_settle(r->calls, c))
                tell(r, &c->caller, r->cb.name(c->callee.agent, r->user), what);
}

static void settle_error(struct router *r, struct inflight_call *c, enum call_code code, const char *message) {
        settle(r, c, &(struct call_reply){.code = code, .message = message});
}

/* --- the queue of one receiver --- */

static int queue_put(struct queue *q, struct inflight_call *c, bool ask, const char *payload, size_t n) {
        struct parcel *p = malloc(sizeof(*p) + n + 1);

        if (!p)
                return -ENOMEM;
        *p = (struct parcel){.call = c, .ask = ask};
        memcpy(p->payload, payload, n);
        p->payload[n] = '\0';
        *q->tail = p;
        q->tail = &p->next;
        return 0;
}

/* Takes call's parcel out and frees it; false when it was not (or no longer) queued. */
static bool queue_remove(struct queue *q, const struct inflight_call *call) {
        for (struct parcel **at = &q->head; *at; at = &(*at)->next) {
                struct parcel *p = *at;
                if (p->call != call)
                        continue;
                *at = p->next;
                if (!p->next)
                        q->tail = at;
                free(p);
                return true;
        }
        return false;
}

/* --- sending --- */

/* Delivers, and leaves the call either owed by the receiver (an ask) or finished. */
static void hand_over(struct router *r, struct inflight_call *c, bool ask, const char *payload) {
        struct router_message m = {.from = c->caller.agent,
                                   .to = c->callee.agent,
                                   .ask = ask,
                                   .payload = payload,
                                   .deadline_ns = c->deadline_ns};
        uint64_t seq = 0;
        int err = r->cb.deliver(&m, &seq, r->user);

        if (err == 0 && ask) {
                c->callee.seq = seq;
                return;
        }
        if (err == 0)
                settle(r, c, &(struct call_reply){.ok = true, .result = "{\"delivered\":true}"});
        else if (err == -EAGAIN)
                settle_error(r, c, CALL_QUEUE_FULL, "the receiver's queue is full");
        else
                settle_error(r, c, CALL_NOT_RUNNING,
                             err == -EIO ? "the audit cannot be written" : "the receiver is not running");
        inflight_drop(r->calls, c);
}

static struct inflight_end sender_of(const struct router_send *s) {
        return (struct inflight_end){.agent = s->from, .incarnation = s->incarnation, .seq = s->unanswered ? 0 : s->seq};
}

/* What is refused before it is a call. */
static void refuse(struct router *r, const struct router_send *s, const struct call_reply *what) {
        const struct inflight_end caller = sender_of(s);

        tell(r, &caller, s->target, what);
}

static bool permitted(struct router *r, const struct router_send *s) {
        struct policy_verdict v = r->cb.permit(s->from, s->target, r->user);
        char text[512];

        if (v.allowed)
                return true;
        snprintf(text, sizeof(text), "agent '%s' is %s", s->target, v.text[0] ? v.text : "not in ipc.allowed_targets");
        refuse(r, s, &(struct call_reply){.code = CALL_DENIED, .message = text, .rule = v.rule, .next_step = v.next_step});
        return false;
}

static bool payload_ok(struct router *r, const struct router_send *s) {
        struct crew_err err = CREW_ERR_NULL;
        char text[CREW_ERR_MSG_MAX + 32];

        if (schema_check(NULL, s->payload, s->payload_len, &err) == 0)
                return true;
        snprintf(text, sizeof(text), "payload is not valid JSON: %s", err.msg);
        refuse(r, s, &(struct call_reply){.code = CALL_REJECTED, .message = text});
        return false;
}

static bool reachable(struct router *r, const struct router_send *s, struct router_peer *peer) {
        char text[160];

        *peer = r->cb.find(s->target, r->user);
        if (peer->presence == ROUTER_UP || peer->presence == ROUTER_STARTING)
                return true;
        snprintf(text, sizeof(text),
                 peer->presence == ROUTER_UNKNOWN ? "no agent '%s' in this crew" : "agent '%s' is not running", s->target);
        refuse(r, s, &(struct call_reply){.code = CALL_NOT_RUNNING, .message = text});
        return false;
}

static void refuse_full(struct router *r, const struct router_send *s, const char *what) {
        refuse(r, s, &(struct call_reply){.code = CALL_QUEUE_FULL, .message = what});
}

void router_send(struct router *r, const struct router_send *s, uint64_t now_ns) {
        struct router_peer peer;
        struct inflight_call *c;

        if (!permitted(r, s) || !payload_ok(r, s) || !reachable(r, s, &peer))
                return;
        uint64_t timeout = s->timeout_ns ? MIN_OF(s->timeout_ns, ROUTER_TIMEOUT_MAX_NS) : ROUTER_TIMEOUT_NS;
        struct inflight_call want = {.caller = sender_of(s),
                                     .callee = {.agent = peer.index, .incarnation = peer.incarnation},
                                     .started_ns = now_ns,
                                     .deadline_ns = now_ns + timeout,
                                     .bytes = s->payload_len};
        int out = inflight_add(r->calls, &want, &c);
        if (out == INFLIGHT_CALLER_FULL)
                return refuse_full(r, s, "too many of your messages wait");
        if (out != INFLIGHT_ADDED)
                return refuse_full(r, s, "the receiver's queue is full");
        if (peer.presence == ROUTER_UP)
                return hand_over(r, c, s->ask, s->payload);
        if (queue_put(&r->queues[peer.index], c, s->ask, s->payload, s->payload_len) < 0) {
                settle_error(r, c, CALL_QUEUE_FULL, "out of memory");
                inflight_drop(r->calls, c);
        }
}

enum router_answer_outcome router_answer(struct router *r, uint32_t from, uint64_t corr, bool ok, const char *payload,
                                         size_t payload_len, const char *error, struct crew_err *err) {
        /* corr 0 would match a parcel that still waits for delivery. */
        struct inflight_call *c = corr ? inflight_owed(r->calls, from, corr) : NULL;
        enum router_answer_outcome out = ROUTER_ANSWERED;

        if (!c)
                return ROUTER_NO_SUCH_ASK;
        if (c->settled) {
                out = ROUTER_ANSWERED_LATE;
        } else if (!ok) {
                settle_error(r, c, CALL_TOOL_FAILED, error && *error ? error : "the agent answered with an error");
        } else if (schema_check(NULL, payload, payload_len, err) != 0) {
                settle_error(r, c, CALL_REJECTED, "the answer was not valid JSON");
                out = ROUTER_BAD_ANSWER;
        } else {
                settle(r, c, &(struct call_reply){.ok = true, .result = payload});
        }
        inflight_drop(r->calls, c);
        return out;
}

/* --- life and death of agents --- */

void router_agent_up(struct router *r, uint32_t agent, uint64_t now_ns) {
        struct queue *q = &r->queues[agent];

        while (q->head) {
                struct parcel *p = q->head;
                q->head = p->next;
                if (!q->head)
                        q->tail = &q->head;
                if (now_ns >= p->call->deadline_ns) {
                        settle_error(r, p->call, CALL_TIMED_OUT, "the receiver did not come up in time");
                        inflight_drop(r->calls, p->call);
                } else {
                        hand_over(r, p->call, p->ask, p->payload);
                }
                free(p);
        }
}

void router_agent_gone(struct router *r, uint32_t agent, const char *why) {
        struct inflight_call *c;
        char text[256];

        /* First what it sent: nothing of a dead sender may come out of a queue any more. */
        while ((c = inflight_any_by_caller(r->calls, agent))) {
                inflight_settle(r->calls, c);
                if (queue_remove(&r->queues[c->callee.agent], c))
                        inflight_drop(r->calls, c);
        }
        snprintf(text, sizeof(text), "agent '%s' %s", r->cb.name(agent, r->user), why);
        while ((c = inflight_any_by_callee(r->calls, agent))) {
                queue_remove(&r->queues[agent], c);
                settle_error(r, c, CALL_TERMINATED, text);
                inflight_drop(r->calls, c);
        }
}

void router_expire(struct router *r, uint64_t now_ns) {
        struct inflight_call *c;

        while ((c = inflight_overdue(r->calls, now_ns))) {
                bool queued = queue_remove(&r->queues[c->callee.agent], c);
                settle_error(r, c, CALL_TIMED_OUT, queued ? "the receiver did not come up in time" : "no answer in time");
                if (queued)
                        inflight_drop(r->calls, c);
        }
}

uint64_t router_next_deadline(const struct router *r) {
        return inflight_next_deadline(r->calls);
}

struct describe {
        struct router *router;
        uint32_t agent;
        void (*fn)(const char *text, void *user);
        void *user;
};

static void describe_call(const struct inflight_call *c, void *user) {
        struct describe *d = user;
        bool asks = c->caller.agent == d->agent;
        char text[128];

        if (c->settled)
                return;
        snprintf(text, sizeof(text), "message %s %s", asks ? "to" : "from",
                 d->router->cb.name(asks ? c->callee.agent : c->caller.agent, d->router->user));
        d->fn(text, d->user);
}

void router_describe(struct router *r, uint32_t agent, void (*fn)(const char *text, void *user), void *user) {
        inflight_each(r->calls, agent, describe_call,
                      &(struct describe){.router = r, .agent = agent, .fn = fn, .user = user});
}

static void note_asker(const struct inflight_call *c, void *user) {
        struct askers *k = user;

        if (c->callee.agent != k->of || !c->callee.seq)
                return;
        for (uint32_t i = 0; i < k->n; i++) {
                if (k->list[i] == c->caller.agent)
                        return;
        }
        k->list[k->n++] = c->caller.agent;
}

void router_each_asker(struct router *r, uint32_t agent, void (*fn)(uint32_t asker, void *user), void *user) {
        struct askers *k = r->askers;

        k->n = 1;
        k->list[0] = agent;
        for (uint32_t i = 0; i < k->n; i++) {
                k->of = k->list[i];
                inflight_each(r->calls, k->of, note_asker, k);
        }
        for (uint32_t i = 1; i < k->n; i++)
                fn(k->list[i], user);
}

uint32_t router_open(const struct router *r, uint32_t agent) {
        return inflight_open(r->calls, agent);
}

uint32_t router_owes(const struct router *r, uint32_t agent) {
        return inflight_owes(r->calls, agent);
}

/* --- for the next crewd --- */

struct save {
        struct router *router;
        struct bytes_out *out;
        uint64_t n;
};

static void count_call(const struct inflight_call *c, void *user) {
        (void)c;
        ((struct save *)user)->n++;
}

static const struct parcel *parcel_of(const struct router *r, const struct inflight_call *c) {
        for (const struct parcel *p = r->queues[c->callee.agent].head; p; p = p->next) {
                if (p->call == c)
                        return p;
        }
        return NULL;
}

static void save_call(const struct inflight_call *c, void *user) {
        struct save *s = user;
        const struct parcel *p = parcel_of(s->router, c);

        inflight_save(c, s->out);
        bytes_put_u64(s->out, p && p->ask);
        bytes_put_text(s->out, p ? p->payload : NULL, p ? strlen(p->payload) : 0);
}

void router_save(struct router *r, struct bytes_out *b) {
        struct save s = {.router = r, .out = b};

        inflight_all(r->calls, count_call, &s);
        bytes_put_u64(b, s.n);
        inflight_all(r->calls, save_call, &s);
}

static int load_call(struct router *r, struct bytes_in *b) {
        struct inflight_call was, *c;

        inflight_load(&was, b);
        bool ask = bytes_get_u64(b);
        size_t n;
        _cleanup_free_ char *payload = bytes_get_text(b, &n);

        if (b->failed)
                return -EBADMSG;
        int f = inflight_restore(r->calls, &was, &c);
        return f == 0 && payload ? queue_put(&r->queues[c->callee.agent], c, ask, payload, n) : f;
}

int router_load(struct router *r, struct bytes_in *b) {
        uint64_t n = bytes_get_u64(b);
        int f = 0;

        for (uint64_t i = 0; i < n && f == 0; i++)
                f = load_call(r, b);
        return b->failed ? -EBADMSG : f;
}

void router_put_off(struct router *r, int64_t ns) {
        for (uint32_t i = 0; i < r->n_agents; i++)
                inflight_put_off(r->calls, i, ns);
}
