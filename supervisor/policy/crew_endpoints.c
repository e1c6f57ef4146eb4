/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `endpoints:` of a crew file: where a name in a policy really lives, and by whose certificate it is known there.  The
 * certificates are read once, here, so that the gateway needs no file and a reload sees what the crew started with.
 */
#include "crew_draft.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "endpoint.h"

#include <errno.h>
#include <string.h>

struct endpoint_dest {
        const char *connect_to, *ca;
};
static const struct bind_field dest_fields[] = {
        {"connect_to", bind_text, offsetof(struct endpoint_dest, connect_to), .required = true},
        {"ca", bind_text, offsetof(struct endpoint_dest, ca)},
};
static const struct bind_table dest_table = {"in an endpoint", dest_fields, ELEMENTSOF(dest_fields)};

/* 0, 1 reported */
static int parse_endpoint(struct bind *b, const struct node *at, const char *text, struct endpoint_text *out) {
        const char *why, *hint;
        int r = endpoint_parse(text, out, &why, &hint);

        if (r == 0 && out->wildcard) {
                why = "a wildcard has no single place to live";
                hint = "name the host";
                r = -EINVAL;
        }
        if (r < 0)
                bind_error(b, at, hint, "endpoint '%.200s': %s", text, why);
        return r < 0;
}

/* What a file of certificates must be, or NULL. */
static const char *ca_fault(const char *text, size_t n) {
        if (strlen(text) != n)
                return "is not text: certificates in PEM are expected";
        if (strstr(text, "PRIVATE KEY-----"))
                return "holds a private key: only certificates belong there";
        return strstr(text, "-----BEGIN CERTIFICATE-----") ? NULL : "holds no certificate in PEM";
}

static int bind_ca(struct bind *b, const struct node *at, const char *text, struct crew_endpoint *out) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *bytes = NULL;
        size_t n;
        int r = crew_path(b, at, text, &out->ca_file);

        if (r != 0)
                return MIN_OF(r, 0);
        r = crew_read_file(out->ca_file, NETPOLICY_CA_MAX, &bytes, &n, &err);
        if (r < 0) {
                bind_error(b, at, "", "'ca': %.300s: %s", out->ca_file,
                           r == -EFBIG    ? "it is larger than 1 MiB"
                           : r == -EINVAL ? "not a regular file"
                                          : strerror(-r));
                return 0;
        }
        if ((r = lock_note(b->used, LOCK_CA, NULL, out->ca_file, bytes, n)) < 0)
                return r;
        const char *fault = ca_fault(bytes, n);
        if (fault) {
                bind_error(b, at, "", "'ca': %.300s %s", out->ca_file, fault);
                return 0;
        }
        out->ca = arena_strndup(b->arena, bytes, n);
        out->ca_bytes = n;
        return out->ca ? 0 : -ENOMEM;
}

static bool listed_before(struct bind *b, const struct crew_file *c, const struct node *e,
                          const struct endpoint_text *from) {
        for (size_t i = 0; i < c->n_endpoints; i++) {
                const struct crew_endpoint *have = &c->endpoints[i];
                if (have->port != from->port || strcmp(have->host, from->host) != 0)
                        continue;
                bind_error(b, e->key, "", "endpoint '%.200s' is listed twice (first on line %u)", e->key->text,
                           have->mark.line);
                return true;
        }
        return false;
}

static int bind_endpoint(struct bind *b, struct crew_file *c, const struct node *e) {
        struct endpoint_dest dest = {NULL};
        struct endpoint_text from, to;
        int r = bind_map(b, e, &dest_table, &dest);

        if (r < 0 || parse_endpoint(b, e->key, e->key->text, &from) || listed_before(b, c, e, &from) || !dest.connect_to ||
            parse_endpoint(b, node_get(e, "connect_to"), dest.connect_to, &to))
                return MIN_OF(r, 0);
        struct crew_endpoint *p = &c->endpoints[c->n_endpoints];
        *p = (struct crew_endpoint){.port = from.port, .to_port = to.port, .mark = e->key->mark};
        p->host = arena_strndup(b->arena, from.host, strlen(from.host));
        p->to_host = arena_strndup(b->arena, to.host, strlen(to.host));
        if (!p->host || !p->to_host)
                return -ENOMEM;
        c->n_endpoints++;
        return dest.ca ? bind_ca(b, node_get(e, "ca"), dest.ca, p) : 0;
}

int crew_bind_endpoints(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_file *c = ((struct crew_draft *)out)->c;

        if (!bind_is(b, v, NODE_MAP, "a map of \"host:port\""))
                return 0;
        c->endpoints = arena_alloc(b->arena, v->n * sizeof(*c->endpoints));
        if (!c->endpoints)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next) {
                int r = bind_endpoint(b, c, e);
                if (r < 0)
                        return r;
        }
        return 0;
}
