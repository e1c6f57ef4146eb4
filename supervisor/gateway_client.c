/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   started --GATE_HELLO--> up --hang-up--> down --after 0, 1, 5, 30 s--> started ...
 *      |                    +--no answer to a policy, or no word at all, in time--> down
 *      +--hang-up, or no hello in time------> down
 *
 * A gateway that was up for a minute has earned an immediate restart again.  Nothing is handed to a gateway before its
 * GATE_HELLO; whatever one leaves behind ends with it.
 */
#include "gateway_client.h"

#include "approvals.h"
#include "ca_bundle.h"
#include "channel.h"
#include "common/util.h"
#include "crewd.h"
#include "gateway_slot.h"
#include "gateway_watch.h"
#include "instance.h"
#include "journal.h"
#include "launcher.h"
#include "network_record.h"
#include "rundir.h"
#include "supervisor/policy/netpolicy_make.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define HELLO_NS 20000000000ull /* a credential may come from a command */
#define ANSWER_NS 5000000000ull /* the next one has the policy: what it forbids does not go on because this one hangs */
#define PROVEN_NS 60000000000ull
#define GATHER_MS 2u /* a busy gateway's reports: two a connection, which would wake crewd for each */

static const uint64_t delays_ns[] = {0, 1000000000ull, 5000000000ull, 30000000000ull};

struct gateway {
        struct crewd *crewd;
        struct channel *launcher; /* NULL: it is gone, and no gateway comes any more */
        struct channel *channel;  /* NULL: no gateway now */
        bool up, settled, needed; /* needed: no agent may be started without what the first one says */
        bool inspects;
        uint64_t started_ns, hello_by_ns, answer_by_ns, down_ns, start_at_ns; /* 0: not pending */
        struct gateway_watch watch;
        unsigned failures;   /* in a row */
        unsigned removing;   /* instances whose last reports are to come */
        unsigned unanswered; /* policies sent */
        uint32_t restarts;
        char cause[GATE_TEXT_MAX]; /* of the last death */
        struct ca_bundle ca;
        bool ca_written;
        struct gateway_slot *slots; /* one an agent */
};

/* --- which agent --- */

static struct gateway_slot *slot_of(struct gateway *g, uint32_t id) {
        uint32_t index = id & ((1u << INSTANCE_INDEX_BITS) - 1);

        return id && index < g->crewd->n_agents && g->slots[index].id == id ? &g->slots[index] : NULL;
}

/* Reports about an instance come until after the agent's next one has begun. */
static struct agent *agent_of(struct gateway *g, uint32_t id) {
        uint32_t index = id & ((1u << INSTANCE_INDEX_BITS) - 1);

        if (index >= g->crewd->n_agents || id >> INSTANCE_INDEX_BITS > g->crewd->agents[index].incarnation)
                return NULL;
        return &g->crewd->agents[index];
}

static struct agent *agent_at(struct gateway *g, const struct gateway_slot *s) {
        return &g->crewd->agents[s - g->slots];
}

/* --- new policies --- */

static void answer_pending(struct gateway *g, struct gateway_slot *s, bool applied, uint32_t closed, const char *text) {
        const struct gateway_outcome o = {
                .applied = applied, .generation = s->pending.generation, .closed = closed, .text = text};
        gateway_policy_cb cb = s->pending.cb;
        void *user = s->pending.user;
        uint32_t id = s->id;

        if (s->pending.policy < 0)
                return;
        if (s->pending.sent)
                g->answer_by_ns = --g->unanswered ? crew_now_ns() + ANSWER_NS : 0;
        journal_network_policy(agent_at(g, s), o.generation, s->sha256, s->pending.sha256, closed, applied ? NULL : text);
        if (applied)
                gateway_slot_settle(s);
        else
                crew_close(&s->pending.policy);
        cb(g->crewd, id, &o, user);
}

static void on_policy_answer(struct gateway *g, const struct gate_msg *m) {
        struct gateway_slot *s = slot_of(g, m->id);

        if (s && s->pending.policy >= 0 && s->pending.generation == m->generation)
                answer_pending(g, s, m->op == GATE_APPLIED, m->count, m->op == GATE_APPLIED ? "" : m->text);
}

int gateway_policy(struct gateway *g, uint32_t id, int memfd, uint32_t generation, gateway_policy_cb cb, void *user) {
        const struct gate_msg m = {.op = GATE_POLICY, .id = id, .generation = generation};
        struct gateway_slot *s = g ? slot_of(g, id) : NULL;
        struct gateway_pending p = {.generation = generation, .cb = cb, .user = user};

        if (!s)
                return -ESRCH;
        if (s->pending.policy >= 0)
                return -EBUSY;
        int r = gateway_slot_digest(memfd, p.sha256, NULL);
        if (r < 0)
                return r;
        if ((p.policy = fcntl(memfd, F_DUPFD_CLOEXEC, 3)) < 0)
                return -errno;
        if (g->up && s->listed && (r = channel_send(g->channel, &m, &memfd, 1)) < 0) {
                close(p.policy);
                return r;
        }
        p.sent = g->up && s->listed;
        s->pending = p;
        if (p.sent && g->unanswered++ == 0)
                g->answer_by_ns = crew_now_ns() + ANSWER_NS;
        if (!p.sent) /* nothing is let through now; it is the first the next gateway hears of it */
                answer_pending(g, s, true, 0, "");
        return 0;
}

/* --- reports --- */

static void on_report(struct gateway *g, const struct gate_msg *m) {
        struct agent *a = agent_of(g, m->id);
        struct record r;

        if (!a)
                return;
        enum network_record kind = network_record_make(&r, m);
        if (kind == NETWORK_RECORD_NONE)
                return;
        if (m->id >> INSTANCE_INDEX_BITS != a->incarnation)
                record_int(&r, "instance", m->id >> INSTANCE_INDEX_BITS);
        else
                usage_network(a, m);
        journal_observe(a, &r, MAX_OF(m->count, 1u), kind == NETWORK_RECORD_DENIAL);
}

static void on_ask(struct gateway *g, const struct gate_msg *m) {
        struct agent *a = agent_of(g, m->id);

        if (a && m->op == GATE_ASK)
                approvals_on_ask(g->crewd, a, m);
        else if (a)
                approvals_on_gone(g->crewd, a, m);
}

int gateway_answer(struct gateway *g, uint32_t id, uint32_t ask, enum gate_verdict verdict, enum gate_scope scope,
                   const char *why) {
        struct gate_msg m = {.op = GATE_ANSWER, .id = id, .ask = ask, .verdict = verdict, .scope = scope};

        text_copy(m.text, sizeof(m.text), why, SIZE_MAX);
        return g && g->up ? channel_send(g->channel, &m, NULL, 0) : -EPIPE;
}

/* --- up and down --- */

static int add(struct gateway *g, const struct gateway_slot *s) {
        const struct gate_msg m = {.op = GATE_ADD, .id = s->id};
        int fds[GATE_LISTENERS + 1];

        memcpy(fds, s->fds, sizeof(s->fds));
        fds[GATE_LISTENERS] = s->policy;
        return channel_send(g->channel, &m, fds, ELEMENTSOF(fds));
}

/* The listeners of every live instance, for a gateway that has just come up. */
static void add_all(struct gateway *g) {
        for (uint32_t i = 0; i < g->crewd->n_agents; i++) {
                struct gateway_slot *s = &g->slots[i];
                int r = s->listed ? gateway_slot_listen(s) : 0;

                if (s->listed && r == 0)
                        r = add(g, s);
                if (r < 0) {
                        crewd_log(g->crewd, "crew-gateway cannot have the listeners of agent %s: %s",
                                  agent_name(&g->crewd->agents[i]), strerror(-r));
                        journal_evidence_lost(&g->crewd->agents[i], "gateway", 0,
                                              "the new crew-gateway does not have its listeners");
                }
                if (s->listed && g->restarts > 0)
                        journal_gateway_restarted(&g->crewd->agents[i], g->cause, g->failures, crew_now_ns() - g->down_ns);
        }
}

static void start(struct gateway *g);

static void go_down(struct gateway *g, const char *what) {
        struct crewd *c = g->crewd;
        uint64_t now = crew_now_ns();

        channel_close(crew_steal_ptr(&g->channel));
        if (g->up && now - g->started_ns >= PROVEN_NS)
                g->failures = 0;
        bool was_up = g->up;
        g->up = false;
        g->removing = 0;
        g->hello_by_ns = 0;
        g->watch = (struct gateway_watch){0};
        if (was_up)
                g->down_ns = now;
        for (uint32_t i = 0; i < c->n_agents; i++) {
                gateway_slot_shut(&g->slots[i]);
                c->agents[i].in.usage.connections = 0;
                if (was_up && g->slots[i].id)
                        journal_evidence_lost(&c->agents[i], "gateway", 0, what);
                answer_pending(g, &g->slots[i], true, 0, "");
        }
        g->unanswered = 0;
        g->answer_by_ns = 0;
        if (was_up)
                approvals_on_gateway_gone(c);
        if (g->needed && !g->settled)
                return crewd_fail(c, "crew-gateway did not start: %s", g->cause[0] ? g->cause : "see its words above");
        g->settled = true;
        crewd_progress(c);
        crewd_log(c, "%s", what);
        if (!g->launcher || c->phase >= CREWD_FLUSHING)
                return;
        g->start_at_ns = now + delays_ns[MIN_OF(g->failures, ELEMENTSOF(delays_ns) - 1)];
        g->failures++;
        if (g->start_at_ns == now)
                start(g);
}

static int take_ca(struct gateway *g, int *fds, size_t n_fds, struct crew_err *err) {
        struct crewd *c = g->crewd;
        int r = 0;

        if (!g->inspects)
                return 0;
        if (n_fds != 1)
                return crew_fail(err, EPROTO, "it gives no CA");
        if (g->ca.fd < 0)
                r = ca_bundle_open(&g->ca, rundir_path(c->rundir), err);
        if (r == 0)
                r = ca_bundle_write(&g->ca, fds[0], err);
        g->ca_written |= r == 0;
        return r;
}

static void on_hello(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        struct crew_err err = CREW_ERR_NULL;

        if (g->up)
                return;
        if (*m->text || take_ca(g, fds, n_fds, &err) < 0) {
                text_copy(g->cause, sizeof(g->cause), *m->text ? m->text : err.msg, SIZE_MAX);
                if (g->settled) /* else it ends the start, which says it */
                        crewd_log(g->crewd, "crew-gateway: %s", g->cause);
                return go_down(g, "crew-gateway could not start; every connection is refused");
        }
        g->up = g->settled = true;
        g->hello_by_ns = 0;
        gateway_watch_begin(&g->watch, crew_now_ns());
        add_all(g);
        if (g->restarts > 0)
                crewd_log(g->crewd, "crew-gateway is up again");
        crewd_progress(g->crewd);
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        struct gateway *g = user;
        struct gate_msg m;

        memcpy(&m, bytes, sizeof(m));
        network_message_end(&m);
        gateway_watch_heard(&g->watch);
        switch (m.op) {
        case GATE_HELLO:
                on_hello(g, &m, fds, n_fds);
                break;
        case GATE_ASK:
        case GATE_ASK_GONE:
                on_ask(g, &m);
                break;
        case GATE_REMOVED:
                g->removing -= g->removing > 0;
                crewd_progress(g->crewd);
                break;
        case GATE_APPLIED:
        case GATE_REJECTED:
                on_policy_answer(g, &m);
                break;
        case GATE_PONG:
                break;
        default:
                on_report(g, &m);
                break;
        }
}

static void on_hangup(void *user) {
        go_down(user, "crew-gateway is gone; until the next one every connection is refused, unrecorded");
}

/* --- the launcher --- */

static void start(struct gateway *g) {
        static const struct channel_callbacks cb = {
                .on_message = on_message, .on_hangup = on_hangup, .gather_ms = GATHER_MS};
        const struct launch_msg m = {.op = LAUNCH_START};
        struct crew_err err = CREW_ERR_NULL;
        uint64_t now = crew_now_ns();
        int pair[2], r = channel_pair(pair);

        g->start_at_ns = 0;
        if (r == 0) {
                r = channel_open(&g->crewd->loop, pair[0], sizeof(struct gate_msg), &cb, g, &g->channel, &err);
                if (r == 0)
                        r = channel_send(g->launcher, &m, &pair[1], 1);
                close(pair[1]);
        }
        if (r < 0) {
                crewd_log(g->crewd, "crew-gateway cannot be started: %s", strerror(-r));
                channel_close(crew_steal_ptr(&g->channel));
                g->start_at_ns = now + delays_ns[ELEMENTSOF(delays_ns) - 1];
                return;
        }
        g->restarts += g->started_ns > 0;
        g->started_ns = now;
        g->hello_by_ns = now + HELLO_NS;
}

static void on_launch_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct launch_msg *m = bytes;
        struct gateway *g = user;
        int status = m->status;

        (void)fds;
        (void)n_fds;
        if (m->op == LAUNCH_FAILED)
                snprintf(g->cause, sizeof(g->cause), "no process: %s", strerror(status));
        else if (m->op == LAUNCH_ENDED && WIFSIGNALED(status))
                snprintf(g->cause, sizeof(g->cause), "signal %d", WTERMSIG(status));
        else if (m->op == LAUNCH_ENDED)
                snprintf(g->cause, sizeof(g->cause), "exit code %d", WEXITSTATUS(status));
}

static void on_launcher_gone(void *user) {
        struct gateway *g = user;

        channel_close(crew_steal_ptr(&g->launcher));
        g->start_at_ns = 0;
        crewd_log(g->crewd, "the launcher of crew-gateway is gone: no gateway is started any more");
        /* Rootless the gateway has died with it; one that could never be replaced is not kept in root mode either. */
        go_down(g, "crew-gateway ends with its launcher; every connection is refused");
}

/* --- the crew's side --- */

int gateway_open(struct crewd *c, int fd, struct gateway **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {.on_message = on_launch_message, .on_hangup = on_launcher_gone};
        struct gateway *g = calloc(1, sizeof(*g));

        if (g)
                g->slots = calloc(c->room, sizeof(*g->slots));
        if (!g || !g->slots) {
                free(g);
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        g->crewd = c;
        g->ca = CA_BUNDLE_NULL;
        g->inspects = ca_bundle_wanted_by_any(c->file);
        g->needed = c->file->credentials || g->inspects;
        g->settled = !g->needed;
        for (uint32_t i = 0; i < c->room; i++)
                g->slots[i] = GATEWAY_SLOT_NULL;
        int r = channel_open(&c->loop, fd, sizeof(struct launch_msg), &cb, g, &g->launcher, err);
        if (r < 0) {
                gateway_close(g);
                return r;
        }
        start(g);
        *out = g;
        return 0;
}

void gateway_close(struct gateway *g) {
        if (!g)
                return;
        channel_close(g->channel);
        channel_close(g->launcher);
        for (uint32_t i = 0; i < g->crewd->n_agents; i++)
                gateway_slot_fini(&g->slots[i]);
        ca_bundle_close(&g->ca);
        free(g->slots);
        free(g);
}

bool gateway_settled(const struct gateway *g) {
        return !g || g->settled;
}

uint64_t gateway_next_deadline(const struct gateway *g) {
        uint64_t next = UINT64_MAX;

        if (g && g->hello_by_ns)
                next = g->hello_by_ns;
        if (g && g->answer_by_ns)
                next = MIN_OF(next, g->answer_by_ns);
        if (g && g->watch.due_ns)
                next = MIN_OF(next, g->watch.due_ns);
        return g && g->start_at_ns ? MIN_OF(next, g->start_at_ns) : next;
}

/* True: it hangs. */
static bool look_after(struct gateway *g, uint64_t now_ns) {
        const struct gate_msg ping = {.op = GATE_PING};
        enum gateway_watch_what what = gateway_watch_look(&g->watch, now_ns);

        /* What the socket has no room for waits, and counts; no memory is not the gateway's fault. */
        if (what == GATEWAY_ASK && channel_send(g->channel, &ping, NULL, 0) < 0)
                gateway_watch_unasked(&g->watch, now_ns);
        return what == GATEWAY_HANGS || (g->answer_by_ns && now_ns >= g->answer_by_ns);
}

void gateway_expire(struct gateway *g, uint64_t now_ns) {
        if (!g)
                return;
        if (g->hello_by_ns && now_ns >= g->hello_by_ns)
                go_down(g, "crew-gateway did not say that it is ready");
        if (g->up && look_after(g, now_ns))
                go_down(g, "crew-gateway does not answer; until the next one every connection is refused, unrecorded");
        if (g->start_at_ns && now_ns >= g->start_at_ns)
                start(g);
}

bool gateway_idle(const struct gateway *g) {
        return !g || g->removing == 0;
}

bool gateway_up(const struct gateway *g) {
        return g && g->up;
}

void gateway_state(const struct gateway *g, char *out, size_t out_size) {
        const char *text = !g                          ? "no gateway: no network at all, dials unrecorded"
                           : g->up                     ? ""
                           : !g->launcher              ? "gateway gone: every connection refused"
                           : g->restarts + g->failures ? "gateway restarting: every connection refused"
                                                       : "gateway starting";
        snprintf(out, out_size, "%s", text);
}

const char *gateway_ca_bundle(const struct gateway *g, const struct agent *a) {
        return g && g->ca_written && ca_bundle_wanted(a->decl->policy, a->file) ? g->ca.path : NULL;
}

int gateway_prepare(struct gateway *g, struct agent *a, uint8_t sha256[32], struct crew_err *err) {
        struct gateway_slot *s;

        if (!g)
                return 0;
        s = &g->slots[a->index];
        gateway_slot_fini(s);
        s->policy = netpolicy_make(a->decl->policy, a->file, 1, err);
        if (s->policy < 0)
                return s->policy;
        int r = gateway_slot_digest(s->policy, s->sha256, err);
        if (r < 0)
                return r;
        s->id = a->in.id;
        memcpy(sha256, s->sha256, sizeof(s->sha256));
        return 0;
}

int gateway_add(struct gateway *g, const struct agent *a, const int fds[GATE_LISTENERS]) {
        struct gateway_slot *s = g ? slot_of(g, a->in.id) : NULL;

        if (!s)
                return -ESRCH;
        int r = gateway_slot_take(s, fds);
        if (r < 0)
                return r;
        if (g->up)
                return add(g, s);
        if (!g->channel || g->restarts > 0)
                gateway_slot_shut(s);
        return 0;
}

void gateway_remove(struct gateway *g, uint32_t id) {
        struct gateway_slot *s = g ? slot_of(g, id) : NULL;

        if (!s)
                return;
        if (g->up && s->listed) {
                const struct gate_msg m = {.op = GATE_REMOVE, .id = id};
                g->removing += channel_send(g->channel, &m, NULL, 0) == 0;
        }
        answer_pending(g, s, false, 0, "the instance is gone");
        gateway_slot_fini(s);
}
