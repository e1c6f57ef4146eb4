/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a compiled network policy: head, rules, then lists and strings as they come.  Runs twice, first to count.
 * The same spec gives the same bytes.  Ends with the reader's own check, so a bad spec never leaves crewd.
 */
#include "netpolicy.h"

#include "util.h"

#include <errno.h>
#include <string.h>

struct writer {
        char *bytes; /* NULL while only counting */
        uint64_t used;
};

static uint32_t put(struct writer *w, const void *p, size_t n, size_t align) {
        uint64_t at = (w->used + align - 1) / align * align;

        if (w->bytes && n)
                memcpy(w->bytes + at, p, n);
        w->used = at + n;
        return (uint32_t)at; /* cut only when the whole is refused for its size */
}

static uint32_t put_text(struct writer *w, const char *s, size_t n) {
        if (!s)
                return 0;
        uint32_t at = put(w, s, n, 1);
        put(w, "", 1, 1);
        return at;
}

static uint32_t put_string(struct writer *w, const char *s) {
        return put_text(w, s, s ? strlen(s) : 0);
}

static uint32_t put_list(struct writer *w, const char *const *items, uint32_t n) {
        uint32_t offsets[NETPOLICY_LIST_MAX];

        for (uint32_t i = 0; i < n; i++)
                offsets[i] = put_string(w, items[i]);
        return n ? put(w, offsets, n * sizeof(offsets[0]), sizeof(offsets[0])) : 0;
}

/* A crew's rules mostly share one ca: it is written once. */
static bool find_ca(const struct netpolicy_spec *spec, uint32_t i, uint32_t *earlier) {
        const struct netpolicy_spec_rule *s = &spec->rules[i];

        for (*earlier = 0; *earlier < i; ++*earlier) {
                const struct netpolicy_spec_rule *e = &spec->rules[*earlier];
                if (e->ca && s->ca && e->ca_bytes == s->ca_bytes && memcmp(e->ca, s->ca, s->ca_bytes) == 0)
                        return true;
        }
        return false;
}

static void put_rule(struct writer *w, const struct netpolicy_spec *spec, uint32_t i, struct netpolicy_rule *rules) {
        const struct netpolicy_spec_rule *s = &spec->rules[i];
        struct netpolicy_rule r = s->fixed;
        uint32_t earlier;

        r.host = put_string(w, s->host);
        r.to_host = put_string(w, s->to_host);
        r.ca = find_ca(spec, i, &earlier) ? rules[earlier].ca : put_text(w, s->ca, s->ca_bytes);
        r.ca_bytes = s->ca ? (uint32_t)s->ca_bytes : 0;
        r.methods = put_list(w, s->methods, s->n_methods);
        r.n_methods = s->n_methods;
        r.paths = put_list(w, s->paths, s->n_paths);
        r.n_paths = s->n_paths;
        r.credential = put_string(w, s->credential);
        r.where = put_string(w, s->where);
        rules[i] = r;
}

static void write_image(struct writer *w, const struct netpolicy_spec *spec, struct netpolicy_rule *rules) {
        struct netpolicy_head head = spec->fixed;

        w->used = sizeof(head) + spec->n_rules * sizeof(*rules);
        head.magic = NETPOLICY_MAGIC;
        head.version = NETPOLICY_VERSION;
        head.n_rules = spec->n_rules;
        head.rules = sizeof(head);
        head.where = put_string(w, spec->where);
        for (uint32_t i = 0; i < spec->n_rules; i++)
                put_rule(w, spec, i, rules);
        put(w, "", 1, 1);
        head.bytes = (uint32_t)w->used;
        if (!w->bytes)
                return;
        memcpy(w->bytes, &head, sizeof(head));
        if (spec->n_rules)
                memcpy(w->bytes + sizeof(head), rules, spec->n_rules * sizeof(*rules));
}

static int check_counts(const struct netpolicy_spec *spec, struct crew_err *err) {
        if (spec->n_rules > NETPOLICY_RULES_MAX)
                return crew_fail(err, E2BIG, "network policy: %u rules, at most %u", spec->n_rules, NETPOLICY_RULES_MAX);
        for (uint32_t i = 0; i < spec->n_rules; i++)
                if (spec->rules[i].n_methods > NETPOLICY_LIST_MAX || spec->rules[i].n_paths > NETPOLICY_LIST_MAX)
                        return crew_fail(err, E2BIG, "network policy: %s: more than %u methods or paths",
                                         spec->rules[i].where ? spec->rules[i].where : "a rule", NETPOLICY_LIST_MAX);
        return 0;
}

int netpolicy_build(const struct netpolicy_spec *spec, struct crew_err *err) {
        _cleanup_free_ struct netpolicy_rule *rules = NULL;
        _cleanup_free_ char *bytes = NULL;
        struct writer w = {0};
        int r = check_counts(spec, err);

        if (r < 0)
                return r;
        rules = calloc(spec->n_rules + 1u, sizeof(*rules));
        if (!rules)
                return crew_fail(err, ENOMEM, "network policy: out of memory");
        write_image(&w, spec, rules);
        if (w.used > NETPOLICY_BYTES_MAX)
                return crew_fail(err, EFBIG, "network policy: %llu bytes compiled, at most %u", (unsigned long long)w.used,
                                 NETPOLICY_BYTES_MAX);
        bytes = calloc(1, w.used);
        if (!bytes)
                return crew_fail(err, ENOMEM, "network policy: out of memory");
        size_t n = w.used;
        w = (struct writer){.bytes = bytes};
        write_image(&w, spec, rules);
        r = netpolicy_check(bytes, n, err);
        return r < 0 ? r : crew_sealed_memfd("crew-netpolicy", bytes, n, err);
}
