/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles what one instance may reach: each endpoint of its policy is a rule, and an entry of the crew file's `endpoints:`
 * says where one of them lives.  Such an entry becomes a rule of its own only below a wildcard of the policy, with the
 * wildcard's rules about requests.  For what the policy does not list it allows nothing; where the policy asks or only
 * records, it says where that is dialled.
 */
#include "netpolicy_make.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

struct maker {
        const struct policy_image *p;
        const struct crew_file *crew;
        struct netpolicy_spec_rule *rules;
        uint32_t n, room;
        const char **texts; /* the lists of all rules, one after the other */
        size_t n_texts, room_texts;
        char (*where)[NETPOLICY_WHERE_MAX + 1]; /* one for each rule */
};

static enum netpolicy_kind kind_of(const char *host, bool literal, bool wildcard) {
        return wildcard            ? NETPOLICY_WILDCARD
               : !literal          ? NETPOLICY_NAME
               : strchr(host, ':') ? NETPOLICY_ADDR6
                                   : NETPOLICY_ADDR4;
}

static void set_addr(enum netpolicy_kind kind, const char *host, uint8_t addr[16]) {
        if (kind == NETPOLICY_ADDR4 || kind == NETPOLICY_ADDR6)
                crew_assert(inet_pton(kind == NETPOLICY_ADDR4 ? AF_INET : AF_INET6, host, addr) == 1);
}

static const char *const *copy_texts(struct maker *m, size_t i, uint32_t n,
                                     const char *(*at)(const struct policy_image *, size_t, size_t)) {
        const char **list = m->texts + m->n_texts;

        crew_assert(n <= m->room_texts - m->n_texts);
        for (uint32_t k = 0; k < n; k++)
                m->texts[m->n_texts++] = at(m->p, i, k);
        return list;
}

/* The entry of the crew file for this host and port, if it has one. */
static const struct crew_endpoint *place_of(const struct maker *m, const char *host, uint16_t port) {
        for (size_t i = 0; m->crew && i < m->crew->n_endpoints; i++)
                if (m->crew->endpoints[i].port == port && strcmp(m->crew->endpoints[i].host, host) == 0)
                        return &m->crew->endpoints[i];
        return NULL;
}

static bool is_literal(const char *host) {
        struct in6_addr any;

        return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static void set_place(struct netpolicy_spec_rule *r, const struct crew_endpoint *place) {
        r->fixed.flags |= NETPOLICY_TO;
        r->fixed.to_kind = kind_of(place->to_host, is_literal(place->to_host), false);
        r->fixed.to_port = place->to_port;
        r->to_host = place->to_host;
        set_addr((enum netpolicy_kind)r->fixed.to_kind, place->to_host, r->fixed.to_addr);
        r->ca = place->ca;
        r->ca_bytes = place->ca_bytes;
}

/* Endpoint i of the policy for host (its own, or a name below its wildcard). */
static void add_rule(struct maker *m, size_t i, const char *host, const struct crew_endpoint *place) {
        struct policy_endpoint e = policy_endpoint_at(m->p, i);
        bool own = host == NULL;
        uint32_t n = m->n++;
        struct netpolicy_spec_rule *r = &m->rules[n];

        crew_assert(n < m->room);
        snprintf(m->where[n], sizeof(m->where[n]), "%s:%u", e.file, e.mark.line);
        r->fixed.kind = own ? kind_of(e.host, e.literal, e.wildcard) : NETPOLICY_NAME;
        r->host = !own ? host : e.wildcard ? e.host + 2 : e.host;
        set_addr((enum netpolicy_kind)r->fixed.kind, r->host, r->fixed.addr);
        r->fixed.port = e.port;
        r->fixed.flags = (e.inspect ? NETPOLICY_INSPECT : 0u) | (policy_endpoint_is_http(&e) ? NETPOLICY_HTTP : 0u) |
                         (e.audit ? NETPOLICY_AUDIT : 0u);
        r->credential = e.credential;
        r->where = m->where[n];
        r->n_methods = e.n_methods;
        r->n_paths = e.n_paths;
        r->methods = copy_texts(m, i, e.n_methods, policy_endpoint_method);
        r->paths = copy_texts(m, i, e.n_paths, policy_endpoint_path);
        if (place)
                set_place(r, place);
}

/* The entry of a host that is not listed.  No ca: such a connection is never inspected. */
static void add_place(struct maker *m, const struct crew_endpoint *place) {
        uint32_t n = m->n++;
        struct netpolicy_spec_rule *r = &m->rules[n];

        crew_assert(n < m->room);
        snprintf(m->where[n], sizeof(m->where[n]), "%s:%u", m->crew->path, place->mark.line);
        r->fixed.kind = kind_of(place->host, is_literal(place->host), false);
        r->host = place->host;
        set_addr((enum netpolicy_kind)r->fixed.kind, r->host, r->fixed.addr);
        r->fixed.port = place->port;
        r->where = m->where[n];
        set_place(r, place);
        r->fixed.flags |= NETPOLICY_PLACE;
        r->ca = NULL;
        r->ca_bytes = 0;
}

static bool named(const struct policy_image *p, const struct crew_endpoint *place) {
        for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                struct policy_endpoint e = policy_endpoint_at(p, i);
                if (e.port == place->port && strcmp(e.host, place->host) == 0)
                        return true;
        }
        return false;
}

static bool below_wildcard(const struct policy_endpoint *e, const struct crew_endpoint *place) {
        struct endpoint_text to = {.port = place->port, .literal = is_literal(place->host)};

        snprintf(to.host, sizeof(to.host), "%s", place->host);
        return e->wildcard && endpoint_matches(e, &to);
}

static bool is_listed(const struct maker *m, const struct crew_endpoint *place) {
        for (size_t i = 0; i < policy_n_endpoints(m->p); i++) {
                struct policy_endpoint e = policy_endpoint_at(m->p, i);
                if (below_wildcard(&e, place))
                        return true;
        }
        return named(m->p, place);
}

static void add_places(struct maker *m) {
        struct policy_network net = policy_network_of(m->p);

        for (size_t k = 0; m->crew && (net.ask || net.audit) && k < m->crew->n_endpoints; k++) {
                if (is_listed(m, &m->crew->endpoints[k]))
                        continue;
                if (m->rules)
                        add_place(m, &m->crew->endpoints[k]);
                else
                        m->room++;
        }
}

/* With rules == NULL: only counts. */
static void add_all(struct maker *m) {
        for (size_t i = 0; i < policy_n_endpoints(m->p); i++) {
                struct policy_endpoint e = policy_endpoint_at(m->p, i);
                size_t lists = e.n_methods + e.n_paths;
                if (m->rules)
                        add_rule(m, i, NULL, e.wildcard ? NULL : place_of(m, e.host, e.port));
                else
                        m->room++, m->room_texts += lists;
                for (size_t k = 0; m->crew && k < m->crew->n_endpoints; k++) {
                        const struct crew_endpoint *place = &m->crew->endpoints[k];
                        if (!below_wildcard(&e, place) || named(m->p, place))
                                continue;
                        if (m->rules)
                                add_rule(m, i, place->host, place);
                        else
                                m->room++, m->room_texts += lists;
                }
        }
        add_places(m);
}

static void fill_spec(struct netpolicy_spec *spec, const struct policy_image *p, uint32_t generation) {
        struct policy_limits limits = policy_limits_of(p);
        struct policy_network net = policy_network_of(p);

        spec->fixed.generation = generation;
        spec->fixed.flags = (net.ask ? NETPOLICY_ASK : 0u) | (net.audit ? NETPOLICY_AUDIT_ALL : 0u);
        spec->fixed.ask_s = net.ask_s;
        spec->fixed.max_conns = limits.connections;
        spec->fixed.max_half_open = limits.half_open;
        spec->fixed.max_dns_per_s = limits.dns_per_s;
        spec->fixed.max_bytes_per_s = limits.bandwidth;
        memcpy(spec->fixed.policy_sha256, policy_image_sha256(p), sizeof(spec->fixed.policy_sha256));
}

int netpolicy_make(const struct policy_image *p, const struct crew_file *crew, uint32_t generation, struct crew_err *err) {
        struct maker m = {.p = p, .crew = crew};
        _cleanup_free_ struct netpolicy_spec_rule *rules = NULL;
        _cleanup_free_ const char **texts = NULL;
        _cleanup_free_ void *where = NULL;
        struct netpolicy_spec spec = {0};
        char at[NETPOLICY_WHERE_MAX + 1];

        add_all(&m);
        rules = calloc(m.room + 1u, sizeof(*rules));
        texts = calloc(m.room_texts + 1u, sizeof(*texts));
        where = calloc(m.room + 1u, sizeof(*m.where));
        if (!rules || !texts || !where)
                return crew_fail(err, ENOMEM, "%s: out of memory", policy_file(p));
        m.rules = rules;
        m.texts = texts;
        m.where = where;
        add_all(&m);
        fill_spec(&spec, p, generation);
        snprintf(at, sizeof(at), "%s:%u", policy_file(p), policy_network_mark(p).line);
        spec.where = at;
        spec.rules = rules;
        spec.n_rules = m.n;
        int fd = netpolicy_build(&spec, err);
        if (fd < 0)
                crew_err_add(err, "%s", policy_file(p));
        return fd;
}
