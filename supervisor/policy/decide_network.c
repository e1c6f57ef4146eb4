/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions about connections and requests.  The gateway decides by the compiled form (common/netpolicy.h); the order here
 * is the same: an exact name beats a wildcard, the first in the file otherwise, and all entries for one host and port
 * speak for its requests.  A unit test holds the two against each other.
 */
#include "decide.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "endpoint.h"

#include <string.h>

/* --- connections --- */

/* What stands for endpoint i in a list of all: itself once, and a preset's by the preset's name, once. */
static bool entry_text(const struct policy_image *p, size_t i, char *buf, size_t size) {
        struct policy_endpoint e = policy_endpoint_at(p, i);

        for (size_t k = 0; k < i; k++) {
                struct policy_endpoint q = policy_endpoint_at(p, k);
                if (e.preset ? q.preset && strcmp(e.preset, q.preset) == 0
                             : q.port == e.port && strcmp(q.host, e.host) == 0)
                        return false;
        }
        if (e.preset)
                snprintf(buf, size, "preset %s", e.preset);
        else
                policy_endpoint_text(&e, buf, size);
        return true;
}

static void list_endpoints(const struct policy_image *p, char *buf, size_t size) {
        char text[ENDPOINT_HOST_MAX + 16];
        size_t n = policy_n_endpoints(p), shown = 0;

        verdict_append(buf, size, "network.allowed_endpoints lists %s", n ? "only " : "nothing");
        for (size_t i = 0; i < n; i++) {
                if (!entry_text(p, i, text, sizeof(text)))
                        continue;
                if (strlen(buf) + strlen(text) + sizeof(", ...") > size) {
                        verdict_append(buf, size, "%s", ", ...");
                        return;
                }
                verdict_append(buf, size, "%s%s", shown++ ? ", " : "", text);
        }
}

static bool find_endpoint(const struct policy_image *p, const struct endpoint_text *to, struct policy_endpoint *out) {
        for (int wildcard = 0; wildcard < 2; wildcard++) {
                for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                        *out = policy_endpoint_at(p, i);
                        if (out->wildcard == wildcard && endpoint_matches(out, to))
                                return true;
                }
        }
        return false;
}

static struct policy_verdict by_endpoint(const struct policy_image *p, bool allowed, const struct policy_endpoint *e) {
        struct policy_verdict v = verdict_ruled(p, allowed, e->preset ? IMAGE_PRESETS : IMAGE_ENDPOINTS, e->mark);

        if (!e->preset)
                return v;
        verdict_rule(&v, e->file, e->mark);
        snprintf(v.detail, sizeof(v.detail), "preset %s, listed in %s:%u", e->preset, policy_file(p), e->listed.line);
        return v;
}

static struct policy_verdict not_listed(const struct policy_image *p, const char *object, const char *why) {
        struct policy_network net = policy_network_of(p);
        struct policy_verdict v = verdict_unlisted(p, IMAGE_ENDPOINTS);

        snprintf(v.text, sizeof(v.text), why ? "not in allowed_endpoints: %s" : "not in allowed_endpoints", why ? why : "");
        if (net.audit && !why) {
                v = verdict_ruled(p, true, IMAGE_ENFORCEMENT, image_section_at(p, IMAGE_ENFORCEMENT));
                snprintf(v.text, sizeof(v.text), "not in allowed_endpoints, but 'enforcement: audit' lets it through");
                return v;
        }
        v.asks = net.ask && !why;
        list_endpoints(p, v.detail, sizeof(v.detail));
        if (!why)
                snprintf(v.next_step, sizeof(v.next_step), "add \"%.120s\" to network.allowed_endpoints", object);
        return v;
}

/* The verdict about the connection; *e is the endpoint when it says allowed and *listed. */
static struct policy_verdict connection(const struct policy_image *p, const char *object, struct policy_endpoint *e,
                                        bool *listed) {
        struct endpoint_text to;
        const char *why, *hint;
        int bad = endpoint_parse(object, &to, &why, &hint);

        *listed = bad == 0 && !to.wildcard && find_endpoint(p, &to, e);
        if (*listed)
                return by_endpoint(p, true, e);
        if (image_deny_all(p))
                return verdict_ruled(p, false, IMAGE_DENY_ALL, image_section_at(p, IMAGE_DENY_ALL));
        if (bad == 0 && to.wildcard)
                return not_listed(p, object, "one host is expected, not a wildcard");
        return not_listed(p, object, bad ? why : NULL);
}

struct policy_verdict decide_connect(const struct policy_image *p, enum policy_verb verb, const char *object) {
        struct policy_endpoint e;
        bool listed;

        return connection(p, object, &e, &listed);
}

/* --- requests --- */

struct request {
        char method[NETPOLICY_METHOD_MAX + 1];
        char to[ENDPOINT_HOST_MAX + 16]; /* host:port */
        char path[4096];
        bool tls;
};

/* What the gateway refuses or rewrites before it looks at rules has no verdict here. */
static bool path_plain(const char *s) {
        size_t n = strlen(s);

        return !strpbrk(s, "%\\") && !strstr(s, "//") && !strstr(s, "/./") && !strstr(s, "/../") &&
               !(n >= 2 && strcmp(s + n - 2, "/.") == 0) && !(n >= 3 && strcmp(s + n - 3, "/..") == 0);
}

/* "GET https://host:port/path?query": NULL, or what is wrong with it. */
static const char *parse_request(const char *text, struct request *q) {
        static const char usage[] = "a request is written \"GET https://host/path\"";
        size_t method = strcspn(text, " ");

        if (!text[method] || method == 0 || method > NETPOLICY_METHOD_MAX)
                return usage;
        memcpy(q->method, text, method);
        q->method[method] = '\0';
        const char *url = text + method + 1;
        q->tls = strncmp(url, "https://", 8) == 0;
        if (!q->tls && strncmp(url, "http://", 7) != 0)
                return usage;
        url += q->tls ? 8 : 7;
        size_t host = strcspn(url, "/?#");
        bool port = memchr(url, ':', host) && url[host - 1] != ']';
        if (host == 0 || memchr(url, '@', host) ||
            (size_t)snprintf(q->to, sizeof(q->to), "%.*s%s", (int)host, url,
                             port     ? ""
                             : q->tls ? ":443"
                                      : ":80") >= sizeof(q->to))
                return usage;
        const char *path = url[host] == '/' ? url + host : "/";
        size_t n = strcspn(path, "?#");
        if (n >= sizeof(q->path))
                return "the path is too long";
        memcpy(q->path, path, n);
        q->path[n] = '\0';
        return path_plain(q->path) ? NULL : "write the path decoded, without '//', '.' and '..'";
}

static bool method_listed(const struct policy_image *p, size_t i, uint32_t n, const char *method) {
        for (uint32_t k = 0; k < n; k++)
                if (strcmp(policy_endpoint_method(p, i, k), method) == 0)
                        return true;
        return n == 0;
}

static bool path_listed(const struct policy_image *p, size_t i, uint32_t n, const char *path) {
        for (uint32_t k = 0; k < n; k++)
                if (netpolicy_glob(policy_endpoint_path(p, i, k), path))
                        return true;
        return n == 0;
}

/* The entry for of's host and port that allows the request; when none does, *last is the one that comes nearest. */
static bool find_allowing(const struct policy_image *p, const struct policy_endpoint *of, const struct request *q,
                          struct policy_endpoint *out, bool *path_known) {
        struct policy_endpoint nearest = *of;

        *path_known = false;
        for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                *out = policy_endpoint_at(p, i);
                if (out->port != of->port || strcmp(out->host, of->host) != 0 || !path_listed(p, i, out->n_paths, q->path))
                        continue;
                if (method_listed(p, i, out->n_methods, q->method))
                        return true;
                if (!*path_known)
                        nearest = *out;
                *path_known = true;
        }
        *out = nearest;
        return false;
}

static struct policy_verdict no_rule(const struct policy_image *p, const struct policy_endpoint *e, const struct request *q,
                                     bool path_known) {
        struct policy_verdict v = by_endpoint(p, e->audit, e);

        if (path_known)
                snprintf(v.text, sizeof(v.text), "method %s is not in methods", q->method);
        else
                snprintf(v.text, sizeof(v.text), "path %.180s is not in paths", q->path);
        if (e->audit)
                verdict_append(v.text, sizeof(v.text), ", but 'enforcement: audit' lets it through");
        else
                snprintf(v.next_step, sizeof(v.next_step), "add \"%.180s\" to %s of the endpoint",
                         path_known ? q->method : q->path, path_known ? "methods" : "paths");
        return v;
}

struct policy_verdict decide_http(const struct policy_image *p, enum policy_verb verb, const char *object) {
        struct policy_endpoint e, by;
        struct request q;
        bool listed, path_known;
        const char *bad = parse_request(object, &q);

        if (bad) {
                struct policy_verdict v = verdict_unlisted(p, IMAGE_ENDPOINTS);
                snprintf(v.text, sizeof(v.text), "%s", bad);
                return v;
        }
        struct policy_verdict v = connection(p, q.to, &e, &listed);
        if (!listed)
                return v;
        if (!policy_endpoint_is_http(&e)) {
                verdict_append(v.detail, sizeof(v.detail), "%sany request: the endpoint has no rules about requests",
                               v.detail[0] ? "; " : "");
                return v;
        }
        if (q.tls && !e.inspect) {
                v = by_endpoint(p, false, &e);
                snprintf(v.text, sizeof(v.text), "TLS on an endpoint that must be plain HTTP");
                snprintf(v.next_step, sizeof(v.next_step), "add 'tls: inspect' to the endpoint");
                return v;
        }
        if (!find_allowing(p, &e, &q, &by, &path_known))
                return no_rule(p, &by, &q, path_known);
        v = by_endpoint(p, true, &by);
        if (by.credential)
                verdict_append(v.detail, sizeof(v.detail), "%swith credential %s", v.detail[0] ? "; " : "", by.credential);
        return v;
}
