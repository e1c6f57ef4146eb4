/* SPDX-License-Identifier: Apache-2.0 */
#include "approvals.h"

#include "asks.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "events.h"
#include "gateway_client.h"
#include "instance.h"
#include "journal.h"
#include "reload.h"
#include "text.h"

#include <assert.h>
#include <string.h>

#define LATE_NS 2000000000ull /* what the gateway may be late with saying that nobody waits */
#define LIST_MAX 4096u

struct approvals {
        struct asks *asks;
};

struct approvals *approvals_new(void) {
        struct approvals *p = calloc(1, sizeof(*p));

        if (p && !(p->asks = asks_new()))
                return approvals_free(p);
        return p;
}

struct approvals *approvals_free(struct approvals *p) {
        if (p)
                asks_free(p->asks);
        free(p);
        return NULL;
}

/* --- telling --- */

static const Crew__ApprovalState states[ASK_STATE_N] = {
        [ASK_WAITING] = CREW__APPROVAL_STATE__APPROVAL_WAITING, [ASK_GRANTED] = CREW__APPROVAL_STATE__APPROVAL_GRANTED,
        [ASK_REFUSED] = CREW__APPROVAL_STATE__APPROVAL_REFUSED, [ASK_EXPIRED] = CREW__APPROVAL_STATE__APPROVAL_EXPIRED,
        [ASK_GONE] = CREW__APPROVAL_STATE__APPROVAL_GONE,
};
static const enum ask_scope scopes[] = {
        [CREW__APPROVAL_SCOPE__APPROVAL_SCOPE_UNSET] = ASK_NO_SCOPE,
        [CREW__APPROVAL_SCOPE__APPROVAL_ONCE] = ASK_ONCE,
        [CREW__APPROVAL_SCOPE__APPROVAL_SESSION] = ASK_SESSION,
        [CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS] = ASK_ALWAYS,
};
static_assert(ELEMENTSOF(scopes) == ASK_SCOPE_N, "a scope for each of the protocol's");

static void fill(const struct crewd *c, const struct ask *k, char file[PATH_MAX], Crew__Approval *out) {
        const struct agent *a = &c->agents[k->agent];
        uint64_t now = crew_now_ns();

        crew__approval__init(out);
        out->id = (char *)k->id;
        out->agent = (char *)agent_name(a);
        out->incarnation = k->incarnation;
        out->host = (char *)k->host;
        out->port = k->port;
        out->state = states[k->state];
        out->waiting = k->waiting;
        out->age_ms = (now - k->asked_ns) / 1000000u;
        if (k->state == ASK_WAITING && k->expires_ns > now)
                out->expires_in_ms = (k->expires_ns - now) / 1000000u;
        if (!realpath(a->decl->policy_file, file))
                snprintf(file, PATH_MAX, "%s", a->decl->policy_file);
        out->policy_file = file;
        out->policy_agent = (char *)policy_agent(a->decl->policy);
        out->by = (char *)k->by;
        out->scope = (Crew__ApprovalScope)k->scope;
}

static void tell(struct crewd *c, const struct ask *k) {
        Crew__ApprovalChanged body = CREW__APPROVAL_CHANGED__INIT;
        char file[PATH_MAX], text[512];
        Crew__Approval pb;

        fill(c, k, file, &pb);
        body.approval = &pb;
        control_approval(c->control, &body);
        if (k->state == ASK_WAITING && k->waiting > 1)
                return;
        if (k->state == ASK_WAITING)
                snprintf(text, sizeof(text), "%s waits to connect to %.255s:%u: crewctl approve %s", pb.agent, k->host,
                         k->port, k->id);
        else
                snprintf(text, sizeof(text), "%s: connection to %.255s:%u %s", pb.agent, k->host, k->port,
                         ask_state_names[k->state]);
        events_text(c->events, "approval", text);
}

static void begin_record(struct record *r, enum record_kind kind, const struct ask *k) {
        record_init(r, kind, "crewd");
        record_str(r, "host", k->host);
        record_int(r, "port", k->port);
        record_str(r, "proto", "tcp");
        record_str(r, "approval", k->id[0] ? k->id : NULL);
}

/* --- the end of one --- */

static void end(struct crewd *c, struct ask *k, enum ask_state state, const char *why) {
        struct agent *a = &c->agents[k->agent];
        struct record r;

        begin_record(&r, RECORD_APPROVAL_EXPIRED, k);
        record_str(&r, "verdict", ask_state_names[state]);
        record_str(&r, "reason", why);
        journal_write(a, &r, false);
        tell(c, asks_end(c->approvals->asks, k, state, ASK_NO_SCOPE, "", crew_now_ns()));
}

/* A reload lists it: whoever had it done has approved it. */
static void end_listed(struct crewd *c, struct ask *k) {
        struct agent *a = &c->agents[k->agent];
        const char *by = reload_initiator(c->reload);
        struct record r;

        begin_record(&r, RECORD_APPROVAL_GRANTED, k);
        record_str(&r, "scope", ask_scope_names[ASK_ALWAYS]);
        record_str(&r, "initiator", by);
        record_str(&r, "reason", "the policy lists it now");
        journal_write(a, &r, false); /* the decision is on disk: policy.reloaded */
        tell(c, asks_end(c->approvals->asks, k, ASK_GRANTED, ASK_ALWAYS, by, crew_now_ns()));
}

void approvals_on_gone(struct crewd *c, struct agent *a, const struct gate_msg *m) {
        struct ask *k = m->id == a->in.id ? asks_by_number(c->approvals->asks, a->index, a->incarnation, m->ask) : NULL;

        if (!k)
                return; /* decided: the gateway has let go of it by our word */
        if (m->verdict == GATE_LET)
                return end_listed(c, k);
        bool late = strcmp(m->text, "expired") == 0 || crew_now_ns() >= k->expires_ns;
        end(c, k, late ? ASK_EXPIRED : ASK_GONE, late ? "nobody answered in time" : m->text);
}

static void end_all(struct crewd *c, const struct agent *of, uint64_t expired_by_ns, enum ask_state state,
                    const char *why) {
        uint64_t cursor = 0;
        struct ask *k;

        while ((k = asks_next(c->approvals->asks, &cursor))) {
                if ((!of || k->agent == of->index) && k->expires_ns <= expired_by_ns)
                        end(c, k, state, why);
        }
}

void approvals_on_gateway_gone(struct crewd *c) {
        end_all(c, NULL, UINT64_MAX, ASK_GONE, "crew-gateway died");
}

void approvals_agent_gone(struct crewd *c, const struct agent *a) {
        end_all(c, a, UINT64_MAX, ASK_GONE, "the agent's instance has ended");
}

void approvals_expire(struct crewd *c, uint64_t now_ns) {
        if (now_ns > LATE_NS)
                end_all(c, NULL, now_ns - LATE_NS, ASK_EXPIRED, "nobody answered in time");
}

uint64_t approvals_next_deadline(const struct crewd *c) {
        uint64_t cursor = 0, next = UINT64_MAX;
        struct ask *k;

        while ((k = asks_next(c->approvals->asks, &cursor)))
                next = MIN_OF(next, k->expires_ns + LATE_NS);
        return next;
}

/* --- asked --- */

static bool somebody_to_ask(const struct crewd *c) {
        return c->file->approvals == CREW_APPROVALS_OPERATOR || control_followed(c->control);
}

/* Not held: the gateway is told at once.  An agent can repeat it at will, so equal ones are folded. */
static void refuse_at_once(struct crewd *c, struct agent *a, const struct ask *k, const char *why) {
        struct record r;

        begin_record(&r, RECORD_APPROVAL_REFUSED, k);
        record_str(&r, "initiator", "crewd");
        record_str(&r, "reason", why);
        journal_observe(a, &r, MAX_OF(k->waiting, 1u), false);
        gateway_answer(c->gateway, instance_id(k->agent, k->incarnation), k->number, GATE_REFUSE, GATE_ONCE, why);
}

static uint64_t patience_ns(const struct agent *a) {
        return policy_network_of(a->decl->policy).ask_s * 1000000000ull;
}

void approvals_on_ask(struct crewd *c, struct agent *a, const struct gate_msg *m) {
        struct ask want = {.agent = a->index,
                           .incarnation = a->incarnation,
                           .number = m->ask,
                           .port = (uint16_t)m->port,
                           .waiting = MAX_OF(m->count, 1u),
                           .expires_ns = crew_now_ns() + patience_ns(a)},
                   *k;
        const char *never = ask_never(m->name);
        char why[96];
        struct record r;

        if (m->id != a->in.id || a->in.cut)
                return; /* of an instance that is ending: the gateway lets go of it */
        text_copy(want.host, sizeof(want.host), m->name, SIZE_MAX);
        if (never) {
                snprintf(why, sizeof(why), "%s can never be approved", never);
                return refuse_at_once(c, a, &want, why);
        }
        if (!somebody_to_ask(c) && !asks_by_number(c->approvals->asks, a->index, a->incarnation, m->ask))
                return refuse_at_once(c, a, &want, "nobody to ask");
        enum asks_added added = asks_add(c->approvals->asks, &want, crew_now_ns(), &k);
        if (added == ASKS_FULL)
                return refuse_at_once(c, a, &want, "too many connections of this agent wait already");
        if (added == ASKS_NEW) {
                begin_record(&r, RECORD_APPROVAL_ASKED, k);
                record_int(&r, "waits_s", (int64_t)(patience_ns(a) / 1000000000u));
                /* The stream cannot be written: the agent is frozen, and nothing is let through for it. */
                if (journal_write(a, &r, false) < 0)
                        return;
        }
        tell(c, k);
}

/* --- answered --- */

static void name_waiting(struct crewd *c, char *out, size_t size) {
        uint64_t cursor = 0;
        size_t n = 0;
        struct ask *k;

        snprintf(out, size, "%s", "nothing waits");
        while ((k = asks_next(c->approvals->asks, &cursor)) && n < size)
                n += (size_t)snprintf(out + n, size - n, "%s%s %.200s:%u", n ? "\n" : "waiting: ", k->id, k->host, k->port);
}

static void refuse_unknown(struct crewd *c, uint64_t client, const Crew__Envelope *e, const struct ask *ended) {
        char hint[900];

        if (!ended) {
                name_waiting(c, hint, sizeof(hint));
                control_refuse(c->control, client, e->seq, "unknown-approval", hint, "no approval '%s' in crew %s",
                               e->answer_approval->id, c->file->name);
                return;
        }
        unsigned long long ago = (crew_now_ns() - ended->ended_ns) / 1000000000u;
        control_refuse(c->control, client, e->seq, "decided", "", "approval %s (%.255s:%u) is %s already, %llu s ago%s%s",
                       ended->id, ended->host, ended->port, ask_state_names[ended->state], ago, ended->by[0] ? ", by " : "",
                       ended->by);
}

/* The record is on disk before the connection goes on. */
static int record_answer(struct agent *a, const struct ask *k, bool grant, enum ask_scope scope, const char *by) {
        struct record r;

        begin_record(&r, grant ? RECORD_APPROVAL_GRANTED : RECORD_APPROVAL_REFUSED, k);
        record_str(&r, "scope", ask_scope_names[scope]);
        record_str(&r, "initiator", by);
        record_int(&r, "count", k->waiting);
        return journal_write(a, &r, grant);
}

static void send_answered(struct crewd *c, uint64_t client, uint64_t corr, const struct ask *k) {
        Crew__ApprovalAnswered body = CREW__APPROVAL_ANSWERED__INIT;
        Crew__Envelope out = CREW__ENVELOPE__INIT;
        char file[PATH_MAX];
        Crew__Approval pb;

        fill(c, k, file, &pb);
        body.approval = &pb;
        out.corr = corr;
        out.body_case = CREW__ENVELOPE__BODY_APPROVAL_ANSWERED;
        out.approval_answered = &body;
        control_send(c->control, client, &out);
}

static void decide(struct crewd *c, uint64_t client, uint64_t corr, struct ask *k, bool grant, enum ask_scope scope) {
        struct agent *a = &c->agents[k->agent];
        const char *by = control_client_name(c->control, client);

        if (record_answer(a, k, grant, scope, by) < 0)
                return control_refuse(c->control, client, corr, "failed", "", "the audit stream of %s cannot be written",
                                      agent_name(a));
        if (gateway_answer(c->gateway, instance_id(k->agent, k->incarnation), k->number, grant ? GATE_LET : GATE_REFUSE,
                           scope == ASK_SESSION ? GATE_SESSION : GATE_ONCE, "") < 0) {
                end(c, k, ASK_GONE, "crew-gateway does not take the answer");
                return control_refuse(c->control, client, corr, "failed", "", "crew-gateway does not take the answer");
        }
        const struct ask *ended =
                asks_end(c->approvals->asks, k, grant ? ASK_GRANTED : ASK_REFUSED, scope, by, crew_now_ns());
        send_answered(c, client, corr, ended);
        tell(c, ended);
}

void approvals_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__AnswerApproval *b = e->answer_approval;
        bool grant = b->verdict == CREW__APPROVAL_VERDICT__APPROVAL_APPROVE;
        enum ask_scope scope = scopes[b->scope];
        struct ask *k;

        if (asks_find(c->approvals->asks, b->id, &k) != ASKS_WAITS) {
                /* The rule that the client has had loaded has decided it: this is that same answer. */
                if (k && grant && scope == ASK_ALWAYS && k->state == ASK_GRANTED && k->scope == ASK_ALWAYS)
                        return send_answered(c, client, e->seq, k);
                return refuse_unknown(c, client, e, k);
        }
        if (!grant && scope == ASK_ALWAYS)
                return control_refuse(c->control, client, e->seq, "bad-request", "",
                                      "a refusal is for once or for the session: what no rule lists is denied anyway");
        decide(c, client, e->seq, k, grant, scope);
}

void approvals_list(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        uint32_t n = MIN_OF(asks_waiting(c->approvals->asks), LIST_MAX);
        _cleanup_free_ Crew__Approval *items = calloc(MAX_OF(n, 1u), sizeof(*items));
        _cleanup_free_ Crew__Approval **pointers = calloc(MAX_OF(n, 1u), sizeof(*pointers));
        _cleanup_free_ char(*files)[PATH_MAX] = malloc(MAX_OF(n, 1u) * sizeof(*files));
        Crew__ApprovalList body = CREW__APPROVAL_LIST__INIT;
        Crew__Envelope out = CREW__ENVELOPE__INIT;
        uint64_t cursor = 0;

        if (!items || !pointers || !files)
                return control_refuse(c->control, client, e->seq, "failed", "", "out of memory");
        if (e->list_approvals->follow)
                control_follow(c->control, client, e->seq);
        for (uint32_t i = 0; i < n; i++) {
                fill(c, asks_next(c->approvals->asks, &cursor), files[i], &items[i]);
                pointers[i] = &items[i];
        }
        body.items = pointers;
        body.n_items = n;
        body.held = somebody_to_ask(c);
        out.corr = e->seq;
        out.body_case = CREW__ENVELOPE__BODY_APPROVAL_LIST;
        out.approval_list = &body;
        control_send(c->control, client, &out);
}
