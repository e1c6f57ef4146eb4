/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include "capture.h"
#include "conn_internal.h"
#include "held.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define NOT_LIMITED_DNS 50u /* queries a second of an instance without a policy: all are refused */

void agent_ref(struct agent *a) {
        a->refs++;
}

void agent_unref(struct agent *a) {
        if (--a->refs > 0)
                return;
        resolver_forget(a->hub->resolver, &a->lookups);
        names_free(a->names);
        netpolicy_close(a->policy);
        free(a);
}

int agent_report(struct agent *a, struct gate_msg *m, void (*sent)(void *user), void *user) {
        m->id = a->id;
        int r = report_send(&a->hub->report, m, sent, user);
        if (r < 0)
                hub_stop_unheard(a->hub, r);
        return r;
}

static void denied(struct agent *a, struct gate_msg *m, const char *name, const char *text) {
        const char *where = a->policy ? netpolicy_text(a->policy, a->policy->where) : NULL;

        m->id = a->id;
        snprintf(m->name, sizeof(m->name), "%s", name);
        snprintf(m->text, sizeof(m->text), "%s", text);
        snprintf(m->where, sizeof(m->where), "%s", where ? where : "");
        int r = report_denied(&a->hub->report, &a->denials, m);
        if (r < 0)
                hub_stop_unheard(a->hub, r);
}

void agent_denied(struct agent *a, enum gate_proto proto, const char *name, uint16_t port, enum gate_verdict verdict,
                  const char *text) {
        struct gate_msg m = {.proto = proto, .port = port, .verdict = verdict};

        denied(a, &m, name, text);
}

/* --- names --- */

static void on_only_looked_up(void *user, const char *name, uint32_t lookups) {
        struct gate_msg m = {.proto = GATE_DNS, .verdict = GATE_REFUSE, .count = lookups};

        denied(user, &m, name, "not in allowed_endpoints; looked up, not dialled");
}

static void on_lookups_late(struct hub_deadline *d) {
        struct agent *a = (struct agent *)((char *)d - offsetof(struct agent, lookups_late));
        uint64_t next_ms = unlisted_tell_late(a->unlisted, a->hub->now_ms);

        if (next_ms)
                hub_deadline_set(a->hub, d, next_ms);
}

int agent_unlisted_address(struct agent *a, const char *canonical, enum unlisted_type type, struct in_addr *out) {
        if (!a->unlisted && !(a->unlisted = unlisted_new(on_only_looked_up, a)))
                return -ENOMEM;
        int r = unlisted_ask(a->unlisted, canonical, type, a->hub->now_ms, out);
        if (r == 0 && !a->lookups_late.prev)
                hub_deadline_set(a->hub, &a->lookups_late, UNLISTED_WAIT_MS);
        return r;
}

const char *agent_dialled_name(struct agent *a, const struct sockaddr *to) {
        const struct sockaddr_in *in4 = (const void *)to;
        const char *name = to->sa_family == AF_INET ? names_find(a->names, in4->sin_addr) : NULL;

        if (!name && to->sa_family == AF_INET)
                name = unlisted_dialled(a->unlisted, in4->sin_addr);
        return name;
}

/* --- limits --- */

static void set_rates(struct agent *a, bool first) {
        const struct netpolicy_head *p = a->policy;
        uint64_t now = crew_now_ns(), dns = p ? p->max_dns_per_s : NOT_LIMITED_DNS, bytes = p ? p->max_bytes_per_s : 0;

        if (first) {
                bucket_init(&a->dns, dns, 0, now);
                bucket_init(&a->bytes, bytes, 0, now);
                return;
        }
        bucket_change(&a->dns, dns, 0, now);
        bucket_change(&a->bytes, bytes, 0, now);
}

uint64_t agent_allowance(struct agent *a) {
        if (a->bytes.rate == 0)
                return UINT64_MAX;
        if (a->throttled && !a->in_turn)
                return 0;
        const uint64_t level = bucket_level(&a->bytes, crew_now_ns());
        return a->in_turn ? MIN_OF(level, a->share) : level;
}

void agent_moved(struct agent *a, uint64_t n) {
        bucket_take(&a->bytes, n);
        a->share -= MIN_OF(a->share, n);
}

/* Those that waited longest go first, and each has its share of what there is: what one leaves is for those behind it. */
static void on_more_bandwidth(struct hub_deadline *d) {
        struct agent *a = (struct agent *)((char *)d - offsetof(struct agent, more_bandwidth));
        struct conn *oldest = NULL;
        unsigned n = 0;

        for (; a->throttled; n++) {
                struct conn *c = a->throttled;
                conn_throttle_clear(c);
                c->throttled_next = oldest;
                oldest = c;
        }
        a->in_turn = true;
        for (; oldest; n--) {
                struct conn *c = oldest;
                oldest = c->throttled_next;
                a->share = MAX_OF(bucket_level(&a->bytes, crew_now_ns()) / n, 1ull);
                conn_step(c);
        }
        a->in_turn = false;
}

/* --- life --- */

static int check_fds(const struct agent *a, size_t n_fds, struct crew_err *err) {
        if (n_fds != GATE_LISTENERS && n_fds != GATE_LISTENERS + 1)
                return crew_fail(err, EPROTO, "%zu descriptors for instance %u", n_fds, a->id);
        return 0;
}

static struct agent *agent_new(struct hub *h, uint32_t id) {
        struct agent *a = calloc(1, sizeof(*a));

        if (!a)
                return NULL;
        a->hub = h;
        a->id = id;
        a->refs = 1;
        a->more_bandwidth.on_deadline = on_more_bandwidth;
        a->lookups_late.on_deadline = on_lookups_late;
        a->names = names_new();
        if (!a->names) {
                free(a);
                return NULL;
        }
        return a;
}

int agent_open(struct hub *h, uint32_t id, int *fds, size_t n_fds, struct agent **out, struct crew_err *err) {
        struct agent *a = agent_new(h, id);
        int r = a ? check_fds(a, n_fds, err) : crew_fail(err, ENOMEM, "out of memory");

        if (r == 0 && n_fds == GATE_LISTENERS + 1)
                r = netpolicy_open(fds[GATE_LISTENERS], &a->policy, err);
        if (r == 0) {
                set_rates(a, true);
                r = capture_open(a, fds, &a->capture, err);
        }
        for (size_t i = 0; i < n_fds; i++)
                crew_close(&fds[i]);
        if (r == 0)
                *out = a;
        else if (a)
                agent_unref(a);
        return r;
}

void agent_close(struct agent *a) {
        if (a->closing)
                return;
        a->closing = true;
        capture_close(crew_steal_ptr(&a->capture));
        for (struct conn *c = a->conns, *next; c; c = next) {
                next = c->next;
                conn_abort(c, "the instance is gone");
        }
        held_fini(a);
        hub_deadline_clear(&a->more_bandwidth);
        hub_deadline_clear(&a->lookups_late);
        a->unlisted = unlisted_free(a->unlisted);
        int r = report_flush_one(&a->hub->report, &a->denials);
        if (r < 0)
                hub_stop_unheard(a->hub, r);
        agent_unref(a);
}

/* --- a new policy --- */

static uint32_t close_forbidden(struct agent *a, const struct netpolicy_head *former) {
        uint32_t closed = 0;

        for (struct conn *c = a->conns, *next; c; c = next) {
                next = c->next;
                if (conn_still_allowed(c, former))
                        continue;
                conn_abort(c, "the policy does not allow it any more");
                closed++;
        }
        return closed;
}

int agent_reload(struct agent *a, int fd, uint32_t *closed, struct crew_err *err) {
        const struct netpolicy_head *p = NULL, *former = a->policy;
        int r = netpolicy_open(fd, &p, err);

        if (r < 0)
                return r;
        if (former && p->generation <= former->generation) {
                r = crew_fail(err, ESTALE, "generation %u, and %u is in force", p->generation, former->generation);
                netpolicy_close(p);
                return r;
        }
        a->policy = p;
        set_rates(a, false);
        *closed = close_forbidden(a, former);
        held_reload(a);
        netpolicy_close(former);
        return 0;
}
