/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint syntax.  Strict on purpose: every spelling that some resolver reads as another address (short, octal and hex
 * forms, trailing dots, v4-mapped) is refused, so that the text of a policy has one meaning.
 */
#include "endpoint.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

static int fail(const char **why, const char **hint, const char *w, const char *h) {
        *why = w;
        *hint = h;
        return -EINVAL;
}

static bool label_ok(const char *s, size_t n) {
        if (n == 0 || n > 63 || s[0] == '-' || s[n - 1] == '-')
                return false;
        for (size_t i = 0; i < n; i++)
                if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-')
                        return false;
        return true;
}

/* inet_aton() and browsers read a name whose last label is a number as an address. */
static bool ends_in_number(const char *host) {
        const char *last = strrchr(host, '.');

        last = last ? last + 1 : host;
        if (strncmp(last, "0x", 2) == 0)
                return last[2] == '\0' || strspn(last + 2, "0123456789abcdef") == strlen(last + 2);
        return *last && strspn(last, "0123456789") == strlen(last);
}

static int check_name(const char *host, bool wildcard, const char **why, const char **hint) {
        const char *name = wildcard ? host + 2 : host;
        size_t dots = 0;

        for (const char *c = host; *c; c++)
                if ((unsigned char)*c >= 0x80)
                        return fail(why, hint, "a host name in ASCII is expected", "write the xn-- form of the name");
        if (!*name)
                return fail(why, hint, "the host is missing", "");
        if (name[strlen(name) - 1] == '.')
                return fail(why, hint, "a trailing dot is not accepted", "leave the dot out");
        for (const char *p = name;; p++) {
                size_t k = strcspn(p, ".");
                if (memchr(p, '*', k))
                        return fail(why, hint, "'*' stands for the whole first label only",
                                    "write it as *.example.com:443");
                if (!label_ok(p, k))
                        return fail(why, hint, "not a host name", "labels of a-z 0-9 - separated by dots");
                p += k;
                if (!*p)
                        break;
                dots++;
        }
        if (ends_in_number(name))
                return fail(why, hint, "an address in a form that is read in several ways",
                            "write all four numbers in decimal");
        if (wildcard && dots == 0)
                return fail(why, hint, "a wildcard over a whole top-level domain",
                            "name the domain, as in *.example.com:443");
        return 0;
}

static int check_v4(uint32_t a, const char **why, const char **hint) {
        if (a >> 24 == 0)
                return fail(why, hint, "0.0.0.0 is every address, not a destination", "name the address");
        if (a >= 0xe0000000u)
                return fail(why, hint, "a multicast, broadcast or reserved address is not a destination", "");
        return 0;
}

static int check_v6(const struct in6_addr *a, const char **why, const char **hint) {
        if (IN6_IS_ADDR_UNSPECIFIED(a))
                return fail(why, hint, ":: is every address, not a destination", "name the address");
        if (IN6_IS_ADDR_MULTICAST(a))
                return fail(why, hint, "a multicast, broadcast or reserved address is not a destination", "");
        if (IN6_IS_ADDR_V4MAPPED(a) || (IN6_IS_ADDR_V4COMPAT(a) && !IN6_IS_ADDR_LOOPBACK(a)))
                return fail(why, hint, "an IPv4 address in IPv6 clothes", "write the IPv4 address");
        return 0;
}

static int set_host(const char *host, bool bracketed, struct endpoint_text *out, const char **why, const char **hint) {
        struct in6_addr a6;
        struct in_addr a4;
        size_t n = strlen(host);

        if (n >= sizeof(out->host))
                return fail(why, hint, "the host name is longer than 253 characters", "");
        if (inet_pton(AF_INET6, host, &a6) == 1) {
                if (!bracketed)
                        return fail(why, hint, "an IPv6 address stands in brackets", "write it as [2001:db8::1]:443");
                out->literal = true;
                inet_ntop(AF_INET6, &a6, out->host, sizeof(out->host));
                return check_v6(&a6, why, hint);
        }
        if (bracketed)
                return fail(why, hint, "brackets are for IPv6 addresses", "");
        if (inet_pton(AF_INET, host, &a4) == 1) {
                out->literal = true;
                inet_ntop(AF_INET, &a4, out->host, sizeof(out->host));
                return check_v4(ntohl(a4.s_addr), why, hint);
        }
        for (size_t i = 0; i <= n; i++)
                out->host[i] = (char)tolower((unsigned char)host[i]);
        if (strcmp(out->host, "*") == 0)
                return fail(why, hint, "'*' alone would allow every host",
                            "name the hosts, or *.example.com for one label");
        out->wildcard = strncmp(out->host, "*.", 2) == 0;
        return check_name(out->host, out->wildcard, why, hint);
}

int endpoint_make(const char *host, uint64_t port, struct endpoint_text *out, const char **why, const char **hint) {
        char inner[ENDPOINT_HOST_MAX + 2];
        size_t n = strlen(host);
        bool bracketed = n >= 2 && host[0] == '[' && host[n - 1] == ']';

        memset(out, 0, sizeof(*out));
        if (n >= sizeof(inner))
                return fail(why, hint, "the host name is longer than 253 characters", "");
        memcpy(inner, host + bracketed, n - (bracketed ? 2 : 0));
        inner[n - (bracketed ? 2 : 0)] = '\0';
        int r = set_host(inner, bracketed, out, why, hint);
        if (r < 0)
                return r;
        if (port < 1 || port > 65535)
                return fail(why, hint, "the port must be 1 to 65535", "");
        out->port = (uint16_t)port;
        return 0;
}

int endpoint_parse(const char *text, struct endpoint_text *out, const char **why, const char **hint) {
        const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
        char host[ENDPOINT_HOST_MAX + 2];
        uint64_t port;

        if (strstr(text, "://") || strchr(text, '/'))
                return fail(why, hint, "a host and a port are expected, not a URL", "write it as host:443");
        if (strchr(text, '@'))
                return fail(why, hint, "a user name is not accepted", "write it as host:443");
        if (strcmp(text, "*") == 0)
                return fail(why, hint, "'*' alone would allow every host",
                            "name the hosts, or *.example.com:443 for one label");
        if (!colon || (bracket && colon < bracket))
                return fail(why, hint, "the port is missing", "write it as host:443");
        size_t n = (size_t)(colon - text);
        if (n >= sizeof(host))
                return fail(why, hint, "the host name is longer than 253 characters", "");
        memcpy(host, text, n);
        host[n] = '\0';
        if (strchr(host, ':') && host[0] != '[')
                return fail(why, hint, "an IPv6 address stands in brackets", "write it as [2001:db8::1]:443");
        int r = crew_parse_u64(colon + 1, &port);
        if (r == -EINVAL)
                return fail(why, hint, colon[1] ? "the port must be a number from 1 to 65535" : "the port is missing", "");
        return endpoint_make(host, r < 0 ? 65536 : port, out, why, hint);
}

bool endpoint_matches(const struct policy_endpoint *rule, const struct endpoint_text *to) {
        if (rule->port != to->port || rule->literal != to->literal || to->wildcard)
                return false;
        if (!rule->wildcard)
                return strcmp(rule->host, to->host) == 0;
        const char *dot = strchr(to->host, '.');
        return dot && dot != to->host && strcmp(rule->host + 1, dot) == 0;
}

bool policy_endpoint_is_http(const struct policy_endpoint *e) {
        return e->n_methods || e->n_paths || e->credential || e->inspect;
}

const char *policy_endpoint_text(const struct policy_endpoint *e, char *buf, size_t size) {
        bool v6 = e->literal && strchr(e->host, ':');

        snprintf(buf, size, "%s%s%s:%u", v6 ? "[" : "", e->host, v6 ? "]" : "", e->port);
        return buf;
}

const char *endpoint_doubt(const struct endpoint_text *e) {
        size_t n = strlen(e->host);

        if (strcmp(e->host, "169.254.169.254") == 0 || strcmp(e->host, "fd00:ec2::254") == 0)
                return "this is the cloud metadata service: it hands out credentials";
        if (e->literal ? strncmp(e->host, "127.", 4) == 0 || strcmp(e->host, "::1") == 0
                       : strcmp(e->host, "localhost") == 0 || (n > 10 && strcmp(e->host + n - 10, ".localhost") == 0))
                return "loopback is the jail's own: list another name, and let 'endpoints' in the crew file say that it "
                       "lives there (connect_to: \"127.0.0.1:5432\")";
        return NULL;
}
