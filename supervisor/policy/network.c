/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network section of a role policy: its keys as tables, and what must hold of it.
 *
 * An endpoint whose rules could not be enforced is an error, never a rule that is quietly weaker: requests can be seen
 * only on plain HTTP or with `tls: inspect`.
 */
#include "draft.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "endpoint.h"

#include <errno.h>
#include <string.h>

#define HTTPS_PORT 443

/* --- lists of an endpoint --- */

struct texts {
        const char **items;
        uint32_t n;
};

static const char *const methods_known[] = {"GET",     "HEAD",  "POST",     "PUT",       "PATCH", "DELETE",
                                            "OPTIONS", "TRACE", "PROPFIND", "PROPPATCH", "MKCOL", "COPY",
                                            "MOVE",    "LOCK",  "UNLOCK",   "REPORT",    "SEARCH"};

/* False after reporting. */
static bool method_fits(struct bind *b, const struct node *v) {
        char upper[NETPOLICY_METHOD_MAX + 1], hint[256];
        size_t n = strlen(v->text);

        for (size_t i = 0; i <= n && n < sizeof(upper); i++)
                upper[i] = v->text[i] >= 'a' && v->text[i] <= 'z' ? (char)(v->text[i] - 'a' + 'A') : v->text[i];
        if (n == 0 || n >= sizeof(upper) || strspn(v->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != n) {
                snprintf(hint, sizeof(hint), "methods are written in capitals, as in %s",
                         n && n < sizeof(upper) && strspn(upper, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == n ? upper : "GET");
                bind_error(b, v, hint, "'%.40s' is not a method", v->text);
                return false;
        }
        if (strcmp(v->text, "CONNECT") == 0) {
                bind_error(b, v, "list the endpoint that lies behind the proxy",
                           "CONNECT would open a tunnel past all rules");
                return false;
        }
        for (size_t i = 0; i < ELEMENTSOF(methods_known); i++)
                if (strcmp(methods_known[i], v->text) == 0)
                        return true;
        bind_warning(b, v, bind_suggest(hint, sizeof(hint), v->text, methods_known, ELEMENTSOF(methods_known)),
                     "'%s' is not a usual method", v->text);
        return true;
}

/* Why no request's path could ever match it, or what else is wrong; NULL when it is fine. */
static const char *path_fault(const char *s, const char **hint) {
        *hint = "";
        if (s[0] != '/') {
                *hint = "as in \"/v1/**\"";
                return "a path starts with '/'";
        }
        if (strlen(s) > NETPOLICY_PATTERN_MAX)
                return "it is longer than 512 bytes";
        for (const char *c = s; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        return "a control character";
        if (strchr(s, '?')) {
                *hint = "leave the query out: it is not looked at, and any is allowed";
                return "'?' is no wildcard here";
        }
        if (strchr(s, '#'))
                return "a fragment is never sent to a server";
        if (strchr(s, '%')) {
                *hint = "write the character itself";
                return "paths are compared decoded, without percent signs";
        }
        if (strstr(s, "***")) {
                *hint = "'*' within a segment, '**' across segments";
                return "three stars";
        }
        if (strstr(s, "//") || strstr(s, "/./") || strstr(s, "/../") || strchr(s, '\\')) {
                *hint = "such requests are refused in any case";
                return "no request has '//', '.', '..' or '\\' in its path";
        }
        return NULL;
}

static bool path_fits(struct bind *b, const struct node *v) {
        const char *hint, *fault = path_fault(v->text, &hint);

        if (fault)
                bind_error(b, v, hint, "path '%.200s': %s", v->text, fault);
        return !fault;
}

/* An empty list would read as "nothing", and mean "any" to the gateway. */
static int bind_texts(struct bind *b, const struct node *v, const char *what, const char *one,
                      bool (*fits)(struct bind *, const struct node *), struct texts *out) {
        if (!bind_is(b, v, NODE_LIST, what))
                return 0;
        if (v->n == 0 || v->n > NETPOLICY_LIST_MAX) {
                bind_error(b, v, v->n ? "" : "leave the key out to allow any, or the endpoint to allow none",
                           "'%s': expected 1 to %u entries, got %zu", v->key->text, NETPOLICY_LIST_MAX, v->n);
                return 0;
        }
        out->items = arena_alloc(b->arena, v->n * sizeof(*out->items));
        if (!out->items)
                return -ENOMEM;
        for (const struct node *e = v->first; e; e = e->next)
                if (bind_is(b, e, NODE_SCALAR, one) && fits(b, e))
                        out->items[out->n++] = e->text;
        return 0;
}

static int bind_methods(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_texts(b, v, "a list of methods", "a method", method_fits, out);
}

static int bind_url_paths(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_texts(b, v, "a list of paths", "a path", path_fits, out);
}

/* --- one endpoint --- */

enum tls { TLS_UNSAID, TLS_INSPECT, TLS_PASSTHROUGH };

struct endpoint_item {
        const char *host, *credential;
        uint32_t port, tls, audit;
        struct texts methods, paths;
};

static int bind_tls(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        static const char *const names[] = {"inspect", "passthrough"};
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){names, ELEMENTSOF(names)}};
        uint32_t choice = UINT32_MAX;
        int r = bind_enum(b, v, &of, &choice);

        if (choice != UINT32_MAX)
                *(uint32_t *)out = choice + 1;
        return r;
}

static const char *const enforcement_names[] = {"enforce", "audit"};
static const struct bind_names enforcement_enum = {enforcement_names, ELEMENTSOF(enforcement_names)};

static const struct bind_field endpoint_item_fields[] = {
        {"host", bind_text, offsetof(struct endpoint_item, host), .required = true},
        {"port", bind_u32, offsetof(struct endpoint_item, port), .required = true, .min = 1, .max = 65535},
        {"methods", bind_methods, offsetof(struct endpoint_item, methods)},
        {"paths", bind_url_paths, offsetof(struct endpoint_item, paths)},
        {"tls", bind_tls, offsetof(struct endpoint_item, tls)},
        {"credential", bind_name, offsetof(struct endpoint_item, credential)},
        {"enforcement", bind_enum, offsetof(struct endpoint_item, audit), .arg = &enforcement_enum},
};
static const struct bind_table endpoint_item_table = {"in an endpoint", endpoint_item_fields,
                                                      ELEMENTSOF(endpoint_item_fields)};

/* The first of the keys that make a rule about requests. */
static const struct node *http_key(const struct node *v) {
        static const char *const keys[] = {"methods", "paths", "credential"};
        const struct node *found = NULL;

        for (size_t i = 0; !found && i < ELEMENTSOF(keys); i++)
                found = node_get(v, keys[i]);
        return found;
}

/* Can what was written be enforced at all?  False after reporting. */
static bool check_item(struct bind *b, const struct node *v, const struct endpoint_item *item) {
        const struct node *http = http_key(v);
        size_t before = b->report->errors;

        if (http && item->tls == TLS_PASSTHROUGH)
                bind_error(b, http, "write 'tls: inspect'",
                           "'%s' cannot be enforced with 'tls: passthrough', which leaves requests unread",
                           http->key->text);
        else if (http && item->tls == TLS_UNSAID && item->port == HTTPS_PORT)
                bind_error(b, http, "add 'tls: inspect', or leave the key out",
                           "'%s' cannot be enforced on port 443 without 'tls: inspect': requests are inside TLS",
                           http->key->text);
        if (item->audit && !http)
                bind_error(b, node_get(v, "enforcement"), "it is about methods and paths",
                           "'enforcement: audit' on an endpoint without rules about requests");
        else if (item->audit)
                bind_warning(b, node_get(v, "enforcement"), "remove it once the rules fit",
                             "requests to '%.200s:%u' that its rules forbid are recorded and let through", item->host,
                             item->port);
        if (item->credential && item->tls != TLS_INSPECT && b->report->errors == before)
                bind_warning(b, node_get(v, "credential"), "use an https endpoint with 'tls: inspect'",
                             "credential '%s' is sent in the clear, over plain HTTP", item->credential);
        return b->report->errors == before;
}

/* 0 and *e, 1 when reported, negative fault. */
static int read_endpoint(struct bind *b, const struct node *v, struct endpoint_item *item, struct endpoint_text *e) {
        const char *why, *hint;
        int r;

        if (v->kind == NODE_MAP) {
                size_t before = b->report->errors;
                if ((r = bind_map(b, v, &endpoint_item_table, item)) < 0)
                        return r;
                if (b->report->errors != before || !check_item(b, v, item))
                        return 1;
                r = endpoint_make(item->host, item->port, e, &why, &hint);
        } else if (bind_is(b, v, NODE_SCALAR, "\"host:port\"")) {
                item->host = v->text;
                r = endpoint_parse(v->text, e, &why, &hint);
        } else {
                return 1;
        }
        if (r == 0)
                return 0;
        bind_error(b, v, hint, "endpoint '%.200s': %s", item->host, why);
        return 1;
}

/* --- the list --- */

static const struct policy_endpoint *find_endpoint(const struct draft *d, const struct policy_endpoint *e) {
        for (size_t i = 0; i < d->n_endpoints; i++)
                if (d->endpoints[i].e.port == e->port && strcmp(d->endpoints[i].e.host, e->host) == 0)
                        return &d->endpoints[i].e;
        return NULL;
}

/* Beside an earlier entry for the same host and port: is it to be added?  What the policy says itself beats a preset. */
static bool joins(struct bind *b, const struct node *v, const struct policy_endpoint *have,
                  const struct policy_endpoint *e) {
        char text[ENDPOINT_HOST_MAX + 16];

        if (e->preset && (!have->preset || strcmp(have->preset, e->preset) != 0))
                return false;
        policy_endpoint_text(e, text, sizeof(text));
        if (!policy_endpoint_is_http(have) && !policy_endpoint_is_http(e)) {
                bind_warning(b, v, "", "endpoint '%s' is listed twice (first on line %u)", text, have->mark.line);
                return false;
        }
        if (policy_endpoint_is_http(have) && policy_endpoint_is_http(e) && have->inspect == e->inspect &&
            have->audit == e->audit)
                return true; /* different methods and paths of one server */
        bind_error(b, v, "one host and port has one tls and one enforcement, and rules about requests on all its entries",
                   "endpoint '%s' contradicts line %u", text, have->mark.line);
        return false;
}

static int add_endpoint(struct bind *b, struct draft *d, const struct node *v, const struct endpoint_item *item,
                        const struct endpoint_text *text, const struct preset_ref *preset) {
        struct policy_endpoint e = {
                .host = arena_strndup(b->arena, text->host, strlen(text->host)),
                .port = text->port,
                .literal = text->literal,
                .wildcard = text->wildcard,
                .inspect = item->tls == TLS_INSPECT,
                .audit = item->audit,
                .n_methods = item->methods.n,
                .n_paths = item->paths.n,
                .credential = item->credential,
                .preset = preset ? preset->name : NULL,
                .file = b->file,
                .mark = v->mark,
                .listed = preset ? preset->listed : v->mark,
        };

        if (!e.host)
                return -ENOMEM;
        const struct policy_endpoint *have = find_endpoint(d, &e);
        if (have && !joins(b, v, have, &e))
                return 0;
        if (d->n_endpoints == NETPOLICY_RULES_MAX) {
                bind_error(b, v, "", "more than %u endpoints", NETPOLICY_RULES_MAX);
                return 0;
        }
        int r = arena_grow(b->arena, &d->endpoints, d->n_endpoints, sizeof(*d->endpoints));
        if (r == 0)
                d->endpoints[d->n_endpoints++] =
                        (struct draft_endpoint){.e = e, .methods = item->methods.items, .paths = item->paths.items};
        return r;
}

int endpoints_bind(struct bind *b, const struct node *list, struct draft *d, const struct preset_ref *preset) {
        if (!bind_is(b, list, NODE_LIST, "a list of \"host:port\""))
                return 0;
        for (const struct node *n = list->first; n; n = n->next) {
                struct endpoint_item item = {.host = NULL};
                struct endpoint_text e;
                int r = read_endpoint(b, n, &item, &e);
                if (r == 0 && endpoint_doubt(&e))
                        bind_warning(b, n, "", "endpoint '%s:%u': %s", e.host, e.port, endpoint_doubt(&e));
                if (r == 0)
                        r = add_endpoint(b, d, n, &item, &e, preset);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- the section --- */

static struct policy_mark key_mark(const struct node *v) {
        return v->key ? v->key->mark : v->mark;
}

static int bind_endpoints(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        d->sections[IMAGE_ENDPOINTS] = key_mark(v);
        return endpoints_bind(b, v, d, NULL);
}

static int bind_presets(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;

        if (!bind_is(b, v, NODE_LIST, "a list of presets"))
                return 0;
        d->sections[IMAGE_PRESETS] = key_mark(v);
        d->presets = v;
        return 0;
}

static int bind_deny_all(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;
        bool yes = false;
        int r = bind_bool(b, v, f, &yes);

        d->sections[IMAGE_DENY_ALL] = yes ? key_mark(v) : (struct policy_mark){0};
        d->deny_all = yes ? v : NULL;
        return r;
}

static int bind_deny_all_other(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        bool yes = true;
        int r = bind_bool(b, v, f, &yes);

        if (!yes)
                bind_error(b, v, "write true, or leave the line out",
                           "'deny_all_other' cannot be false: what is not listed is always denied");
        return r;
}

static int bind_on_unlisted(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        static const char *const names[] = {"deny", "ask"};
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){names, ELEMENTSOF(names)}};
        struct draft *d = out;
        uint32_t choice = 0;
        int r = bind_enum(b, v, &of, &choice);

        d->sections[IMAGE_ON_UNLISTED] = key_mark(v);
        d->network.ask = choice == 1;
        d->on_unlisted = v;
        return r;
}

static int bind_enforcement(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        const struct bind_field of = {f->key, .arg = &enforcement_enum};
        struct draft *d = out;
        uint32_t choice = 0;
        int r = bind_enum(b, v, &of, &choice);

        d->sections[IMAGE_ENFORCEMENT] = key_mark(v);
        d->network.audit = choice == 1;
        d->enforcement = v;
        return r;
}

static int bind_ask_timeout(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct draft *d = out;
        uint64_t ms = d->network.ask_s * 1000ull;
        int r = bind_duration(b, v, f, &ms);

        d->network.ask_s = (uint32_t)((ms + 999) / 1000);
        d->ask_timeout = v;
        return r;
}

static const struct bind_field network_fields[] = {
        {"deny_all", bind_deny_all},       {"allowed_endpoints", bind_endpoints},
        {"presets", bind_presets},         {"deny_all_other", bind_deny_all_other},
        {"on_unlisted", bind_on_unlisted}, {"ask_timeout", bind_ask_timeout, .min = 1000, .max = 3600000},
        {"enforcement", bind_enforcement},
};
const struct bind_table network_table = {"under network", network_fields, ELEMENTSOF(network_fields)};

int network_finish(struct bind *b, struct draft *d) {
        for (const struct node *e = d->presets ? d->presets->first : NULL; e; e = e->next) {
                const struct node *earlier = d->presets->first;
                if (!bind_is(b, e, NODE_SCALAR, "the name of a preset"))
                        continue;
                while (earlier != e && !(earlier->kind == NODE_SCALAR && strcmp(earlier->text, e->text) == 0))
                        earlier = earlier->next;
                if (earlier != e) {
                        bind_warning(b, e, "", "preset '%.60s' is listed twice (first on line %u)", e->text,
                                     earlier->mark.line);
                        continue;
                }
                int r = preset_add(b, d, e, e->text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void check_beside_deny_all(struct bind *b, const struct draft *d) {
        static const char hint[] = "keep one of the two";
        const struct {
                bool there;
                const struct node *at;
                const char *what;
        } rows[] = {{d->presets && d->presets->n, d->presets, "presets"},
                    {d->network.ask, d->on_unlisted, "'on_unlisted: ask'"},
                    {d->network.audit, d->enforcement, "'enforcement: audit'"}};

        if (!d->deny_all)
                return;
        if (d->n_endpoints && !d->endpoints[0].e.preset)
                policy_report_add(b->report, false, b->file, (int)d->endpoints[0].e.mark.line,
                                  (int)d->endpoints[0].e.mark.column, hint,
                                  "allowed_endpoints beside 'deny_all: true' of line %u", d->deny_all->mark.line);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].there)
                        bind_error(b, rows[i].at, hint, "%s beside 'deny_all: true' of line %u", rows[i].what,
                                   d->deny_all->mark.line);
}

void network_check(struct bind *b, const struct draft *d) {
        check_beside_deny_all(b, d);
        if (d->network.ask && d->network.audit)
                bind_error(b, d->on_unlisted, "keep one of the two",
                           "'on_unlisted: ask' beside 'enforcement: audit' of line %u, which lets everything through",
                           d->enforcement->mark.line);
        if (d->ask_timeout && !d->network.ask)
                bind_warning(b, d->ask_timeout, "write 'on_unlisted: ask' beside it",
                             "'ask_timeout' has nothing to wait for");
        if (d->network.audit && !d->deny_all)
                bind_warning(b, d->enforcement, "remove it once the list is complete",
                             "'enforcement: audit': connections that are not listed are recorded and let through");
}
