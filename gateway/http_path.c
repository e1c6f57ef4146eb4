/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what an agent wrote.  Decodes once; matching and forwarding both use the result, so a rule for "/v1/" cannot be
 * passed by a target that the server takes for something else.
 */
#include "http_path.h"

#include "common/netpolicy.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static bool no(const char **why, const char *text) {
        *why = text;
        return false;
}

static int hex(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool unreserved(unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
               c == '_' || c == '~';
}

/* One character of a path: *used bytes of p. */
static bool decode(const char *p, size_t n, size_t *used, unsigned char *out, const char **why) {
        if (*p != '%') {
                *used = 1;
                *out = (unsigned char)*p;
                return *p == '\\' ? no(why, "a backslash in the path") : true;
        }
        if (n < 3 || hex(p[1]) < 0 || hex(p[2]) < 0)
                return no(why, "a percent sign that is not followed by two hexadecimal digits");
        *used = 3;
        *out = (unsigned char)(hex(p[1]) * 16 + hex(p[2]));
        if (*out == '/' || *out == '\\')
                return no(why, "an encoded slash or backslash in the path");
        if (*out < 0x20 || *out == 0x7f)
                return no(why, "an encoded control character in the path");
        return true;
}

/* Parameters (";...") do not make a dot segment another one: some servers cut them off first. */
static bool segment_ok(const char *s, size_t n, bool last, const char **why) {
        const char *params = memchr(s, ';', n);
        const size_t bare = params ? (size_t)(params - s) : n;

        if (bare == 0 && !(last && n == 0))
                return no(why, "an empty segment (\"//\") in the path");
        if ((bare == 1 && s[0] == '.') || (bare == 2 && s[0] == '.' && s[1] == '.'))
                return no(why, "a \".\" or \"..\" segment in the path");
        return true;
}

static bool segments_ok(const char *path, const char **why) {
        const char *at = path + 1;

        for (;;) {
                const char *end = strchrnul(at, '/');
                if (!segment_ok(at, (size_t)(end - at), *end == '\0', why))
                        return false;
                if (*end == '\0')
                        return true;
                at = end + 1;
        }
}

/* A server that decodes twice would see something else than the rule did. */
static bool decoded_ok(const char *path, const char **why) {
        if (!crew_utf8_ok(path, strlen(path))) /* overlong forms of "/" and "." among them */
                return no(why, "a path that is not UTF-8");
        for (const char *p = path; (p = strchr(p, '%')); p++) {
                if (hex(p[1]) >= 0 && hex(p[2]) >= 0)
                        return no(why, "a path that is percent-encoded twice");
        }
        return segments_ok(path, why);
}

static bool parse_path(const char *p, size_t n, struct http_target *out, const char **why) {
        const char *query = memchr(p, '?', n);
        const size_t path_n = query ? (size_t)(query - p) : n;
        size_t d = 0, w = 0;

        for (size_t at = 0, used; at < path_n; at += used) {
                unsigned char c;
                if (!decode(p + at, path_n - at, &used, &c, why))
                        return false;
                out->path[d++] = (char)c;
                if (unreserved(c)) {
                        out->wire[w++] = (char)c;
                } else {
                        memcpy(out->wire + w, p + at, used);
                        w += used;
                }
        }
        out->path[d] = '\0';
        memcpy(out->wire + w, p + path_n, n - path_n);
        out->wire[w + n - path_n] = '\0';
        return decoded_ok(out->path, why);
}

/* "http://authority/path": what follows goes on in origin-form. */
static bool cut_scheme(const char **p, size_t *n, const char *start, struct http_target *out, const char **why) {
        const size_t scheme = *n >= 7 && strncasecmp(*p, "http://", 7) == 0    ? 7
                              : *n >= 8 && strncasecmp(*p, "https://", 8) == 0 ? 8
                                                                               : 0;
        size_t end = scheme;

        if (!scheme)
                return no(why, "a target that does not begin with \"/\"");
        while (end < *n && (*p)[end] != '/' && (*p)[end] != '?')
                end++;
        if (memchr(*p, '@', end))
                return no(why, "user information in the target");
        out->absolute = true;
        out->tls = scheme == 8;
        out->authority = (struct http_span){.at = (uint16_t)(*p + scheme - start), .n = (uint16_t)(end - scheme)};
        *p += end;
        *n -= end;
        return true;
}

bool http_target_parse(const char *target, size_t n, const char *method, struct http_target *out, const char **why) {
        const char *p = target;

        out->absolute = out->tls = false;
        out->authority = (struct http_span){0};
        if (n == 0 || n >= HTTP_HEAD_MAX - 1)
                return no(why, "a target without a path");
        if (memchr(p, '#', n))
                return no(why, "a fragment in the target");
        if (n == 1 && *p == '*' && strcmp(method, "OPTIONS") == 0) {
                strcpy(out->path, "*");
                strcpy(out->wire, "*");
                return true;
        }
        if (*p != '/' && !cut_scheme(&p, &n, target, out, why))
                return false;
        if (n == 0 || *p != '/') {
                if (out->absolute && n == 0)
                        return parse_path("/", 1, out, why);
                return no(why, "a target without a path");
        }
        return parse_path(p, n, out, why);
}

static bool same_host(const char *host, const char *name) {
        char a[NETPOLICY_NAME_MAX], b[NETPOLICY_NAME_MAX];
        uint8_t x[16], y[16];

        for (int family = AF_INET;; family = AF_INET6) {
                if (inet_pton(family, name, y) == 1)
                        return inet_pton(family, host, x) == 1 && memcmp(x, y, family == AF_INET ? 4 : 16) == 0;
                if (family == AF_INET6)
                        break;
        }
        netpolicy_canonical(host, a);
        netpolicy_canonical(name, b);
        return a[0] && strcmp(a, b) == 0;
}

static bool port_is(const char *text, uint16_t port) {
        unsigned v = 0;

        for (size_t i = 0; text[i]; i++) {
                if (text[i] < '0' || text[i] > '9' || i == 5)
                        return false;
                v = v * 10 + (unsigned)(text[i] - '0');
        }
        return text[0] && v == port;
}

bool http_authority_is(const char *text, size_t n, const char *name, uint16_t port, uint16_t default_port) {
        char copy[NETPOLICY_NAME_MAX + 16], *host = copy, *end;

        if (n == 0 || n >= sizeof(copy) || memchr(text, '\0', n))
                return false;
        memcpy(copy, text, n);
        copy[n] = '\0';
        if (copy[0] == '[') {
                end = strchr(++host, ']');
                if (!end || !strchr(name, ':'))
                        return false;
                *end++ = '\0';
        } else {
                end = strchrnul(host, ':');
                if (strchr(name, ':'))
                        return false;
        }
        if (*end == ':') {
                *end++ = '\0';
                return port_is(end, port) && same_host(host, name);
        }
        return *end == '\0' && port == default_port && same_host(host, name);
}
