/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a compiled network policy, and the decisions made by it.
 *
 * netpolicy_check() trusts no byte: after it every offset lies inside the image, every string ends there, every value is
 * one this build knows, and what cannot hold together (a path rule without HTTP, an address that is not its text) was
 * refused.  The decisions are pure, never fail, and what no rule names is not allowed.
 */
#include "netpolicy.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RULE_FLAGS_ALL (NETPOLICY_INSPECT | NETPOLICY_HTTP | NETPOLICY_AUDIT | NETPOLICY_TO | NETPOLICY_PLACE)
#define HEAD_FLAGS_ALL (NETPOLICY_ASK | NETPOLICY_AUDIT_ALL)
/* What rules for one host and port must agree on: it is settled before the first request is seen. */
#define SHARED_FLAGS RULE_FLAGS_ALL
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* --- access --- */

const struct netpolicy_rule *netpolicy_rule_at(const struct netpolicy_head *p, uint32_t i) {
        crew_assert(i < p->n_rules);
        return (const struct netpolicy_rule *)((const char *)p + p->rules) + i;
}

const char *netpolicy_text(const struct netpolicy_head *p, uint32_t offset) {
        return offset ? (const char *)p + offset : NULL;
}

const char *netpolicy_listed(const struct netpolicy_head *p, uint32_t list, uint32_t i) {
        return netpolicy_text(p, ((const uint32_t *)(const void *)((const char *)p + list))[i]);
}

/* --- the check: values --- */

static bool range_ok(const struct netpolicy_head *p, uint32_t off, uint64_t bytes) {
        uint32_t strings = p->rules + p->n_rules * (uint32_t)sizeof(struct netpolicy_rule);

        return off >= strings && off <= p->bytes && bytes <= p->bytes - off;
}

/* The image ends in a zero byte, so that a string ends if it starts inside.  NULL for anything but 1..max characters. */
static const char *string_at(const struct netpolicy_head *p, uint32_t off, size_t max) {
        const char *s = range_ok(p, off, 1) ? (const char *)p + off : "";

        return *s && strnlen(s, max + 1) <= max ? s : NULL;
}

static bool all_of(const char *s, const char *set) {
        return strspn(s, set) == strlen(s);
}

static bool method_ok(const char *s) {
        return strlen(s) <= NETPOLICY_METHOD_MAX && all_of(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-");
}

static bool pattern_ok(const char *s) {
        for (const char *c = s; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        return false;
        return s[0] == '/' && !strpbrk(s, "?#%") && crew_utf8_ok(s, strlen(s));
}

static bool list_ok(const struct netpolicy_head *p, uint32_t list, uint32_t n, bool (*ok)(const char *)) {
        if (n == 0)
                return list == 0;
        if (n > NETPOLICY_LIST_MAX || list % sizeof(uint32_t) || !range_ok(p, list, (uint64_t)n * sizeof(uint32_t)))
                return false;
        for (uint32_t i = 0; i < n; i++) {
                uint32_t off = ((const uint32_t *)(const void *)((const char *)p + list))[i];
                const char *s = string_at(p, off, NETPOLICY_PATTERN_MAX);
                if (!s || !ok(s))
                        return false;
        }
        return true;
}

/* The text and the bytes of an address say the same, in the form that a connection is looked up by. */
static bool address_ok(uint32_t kind, const char *text, const uint8_t addr[16]) {
        uint8_t read[16] = {0};

        if (inet_pton(kind == NETPOLICY_ADDR4 ? AF_INET : AF_INET6, text, read) != 1 || memcmp(read, addr, 16) != 0)
                return false;
        return kind == NETPOLICY_ADDR4 || !IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)read);
}

static bool host_ok(const struct netpolicy_head *p, uint32_t kind, uint32_t off, const uint8_t addr[16]) {
        static const uint8_t none[16];
        const char *s = string_at(p, off, NETPOLICY_NAME_MAX - 1);
        char canonical[NETPOLICY_NAME_MAX];

        if (!s || kind > NETPOLICY_ADDR6)
                return false;
        if (kind == NETPOLICY_ADDR4 || kind == NETPOLICY_ADDR6)
                return address_ok(kind, s, addr);
        netpolicy_canonical(s, canonical);
        return strcmp(s, canonical) == 0 && memcmp(addr, none, sizeof(none)) == 0;
}

static bool to_ok(const struct netpolicy_head *p, const struct netpolicy_rule *r) {
        static const uint8_t none[16];

        if (!(r->flags & NETPOLICY_TO))
                return !r->to_kind && !r->to_host && !r->to_port && memcmp(r->to_addr, none, sizeof(none)) == 0;
        return r->to_kind != NETPOLICY_WILDCARD && r->to_port && host_ok(p, r->to_kind, r->to_host, r->to_addr);
}

static bool ca_ok(const struct netpolicy_head *p, const struct netpolicy_rule *r) {
        if (!r->ca)
                return r->ca_bytes == 0;
        const char *s = string_at(p, r->ca, NETPOLICY_CA_MAX);
        return s && strlen(s) == r->ca_bytes;
}

/* It must not look like a permission in any way. */
static bool place_ok(const struct netpolicy_rule *r) {
        return !(r->flags & NETPOLICY_PLACE) ||
               (r->flags == (NETPOLICY_PLACE | NETPOLICY_TO) && r->kind != NETPOLICY_WILDCARD && !r->ca);
}

static bool http_ok(const struct netpolicy_head *p, const struct netpolicy_rule *r) {
        bool needs = r->n_methods || r->n_paths || r->credential || r->flags & NETPOLICY_INSPECT;
        const char *credential = r->credential ? string_at(p, r->credential, 63) : NULL;

        if (needs != ((r->flags & NETPOLICY_HTTP) != 0) || (r->flags & NETPOLICY_AUDIT && !needs))
                return false;
        return !r->credential || (credential && crew_name_ok(credential));
}

/* --- the check: structure --- */

static int check_rule(const struct netpolicy_head *p, uint32_t i, struct crew_err *err) {
        const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
        const char *what = NULL;

        if (r->flags & ~(uint32_t)RULE_FLAGS_ALL)
                what = "unknown flags";
        else if (!r->port || !host_ok(p, r->kind, r->host, r->addr))
                what = "bad host or port";
        else if (!to_ok(p, r))
                what = "bad connect_to";
        else if (!ca_ok(p, r))
                what = "bad ca";
        else if (!place_ok(r))
                what = "a place that is more than one";
        else if (!list_ok(p, r->methods, r->n_methods, method_ok))
                what = "bad methods";
        else if (!list_ok(p, r->paths, r->n_paths, pattern_ok))
                what = "bad paths";
        else if (!http_ok(p, r))
                what = "HTTP rules that do not fit together";
        else if (!string_at(p, r->where, NETPOLICY_WHERE_MAX))
                what = "no origin";
        return what ? crew_fail(err, EPROTO, "network policy: rule %u: %s", i, what) : 0;
}

static bool same_text(const struct netpolicy_head *p, uint32_t a, uint32_t b) {
        return a == b || (a && b && strcmp(netpolicy_text(p, a), netpolicy_text(p, b)) == 0);
}

static bool same_endpoint(const struct netpolicy_head *p, const struct netpolicy_rule *a, const struct netpolicy_rule *b) {
        return a->kind == b->kind && a->port == b->port && same_text(p, a->host, b->host);
}

static bool same_way(const struct netpolicy_head *p, const struct netpolicy_rule *a, const struct netpolicy_rule *b) {
        return (a->flags & SHARED_FLAGS) == (b->flags & SHARED_FLAGS) && a->to_port == b->to_port &&
               same_text(p, a->to_host, b->to_host) && same_text(p, a->ca, b->ca);
}

static int check_rules(const struct netpolicy_head *p, struct crew_err *err) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < p->n_rules; i++)
                r = check_rule(p, i, err);
        for (uint32_t i = 0; r == 0 && i < p->n_rules; i++) {
                const struct netpolicy_rule *first = netpolicy_rule_at(p, i);
                for (uint32_t k = 0; k < i; k++)
                        if (same_endpoint(p, netpolicy_rule_at(p, k), first) &&
                            !same_way(p, netpolicy_rule_at(p, k), first))
                                return crew_fail(err, EPROTO, "network policy: rules %u and %u contradict each other", k,
                                                 i);
        }
        return r;
}

static int check_head(const struct netpolicy_head *p, size_t n, struct crew_err *err) {
        if (p->magic != NETPOLICY_MAGIC || p->version != NETPOLICY_VERSION)
                return crew_fail(err, EPROTO, "network policy: not made by this build of crewd");
        if (p->bytes != n)
                return crew_fail(err, EPROTO, "network policy: says %u bytes, has %zu", p->bytes, n);
        if (p->flags & ~(uint32_t)HEAD_FLAGS_ALL)
                return crew_fail(err, EPROTO, "network policy: unknown flags 0x%x", p->flags);
        if (p->n_rules > NETPOLICY_RULES_MAX)
                return crew_fail(err, EPROTO, "network policy: %u rules, at most %u", p->n_rules, NETPOLICY_RULES_MAX);
        if (p->rules != sizeof(*p) || p->n_rules * sizeof(struct netpolicy_rule) > n - sizeof(*p))
                return crew_fail(err, EPROTO, "network policy: rules outside the image");
        if (((const char *)p)[n - 1] != '\0')
                return crew_fail(err, EPROTO, "network policy: text without an end");
        if (!p->generation || !p->max_conns || !p->max_half_open || !p->max_dns_per_s)
                return crew_fail(err, EPROTO, "network policy: a generation or limit of 0");
        if (p->flags & NETPOLICY_ASK && !p->ask_s)
                return crew_fail(err, EPROTO, "network policy: asks, but waits 0 s");
        if (p->where && !string_at(p, p->where, NETPOLICY_WHERE_MAX))
                return crew_fail(err, EPROTO, "network policy: bad origin");
        return 0;
}

int netpolicy_check(const void *bytes, size_t n, struct crew_err *err) {
        if (n < sizeof(struct netpolicy_head) || n > NETPOLICY_BYTES_MAX)
                return crew_fail(err, EPROTO, "network policy: %zu bytes", n);
        int r = check_head(bytes, n, err);
        return r < 0 ? r : check_rules(bytes, err);
}

int netpolicy_open(int fd, const struct netpolicy_head **out, struct crew_err *err) {
        struct stat st;

        *out = NULL;
        if (fstat(fd, &st) < 0)
                return crew_fail_errno(err, "network policy");
        /* Only what nobody can change any more is checked once. */
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || (seals & SEALS) != SEALS)
                return crew_fail(err, EPROTO, "network policy: not a sealed memfd");
        if (st.st_size < (off_t)sizeof(struct netpolicy_head) || st.st_size > (off_t)NETPOLICY_BYTES_MAX)
                return crew_fail(err, EPROTO, "network policy: %lld bytes", (long long)st.st_size);
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return crew_fail_errno(err, "network policy: cannot map");
        int r = netpolicy_check(map, (size_t)st.st_size, err);
        if (r < 0)
                munmap(map, (size_t)st.st_size);
        else
                *out = map;
        return r;
}

void netpolicy_close(const struct netpolicy_head *p) {
        if (p)
                munmap((void *)p, p->bytes);
}

/* --- names --- */

static bool label_ok(const char *s, size_t n) {
        return n >= 1 && n <= 63 && s[0] != '-' && s[n - 1] != '-';
}

/* inet_aton() and browsers read a name whose last label is a number, also 0x and nothing, as an address. */
static bool is_number(const char *s) {
        return strncmp(s, "0x", 2) == 0 ? all_of(s + 2, "0123456789abcdef") : all_of(s, "0123456789");
}

static bool canonical_ok(const char *s) {
        const char *label = s;

        if (!all_of(s, "abcdefghijklmnopqrstuvwxyz0123456789-."))
                return false;
        for (;;) {
                size_t n = strcspn(label, ".");
                if (!label_ok(label, n))
                        return false;
                if (!label[n])
                        return !is_number(label);
                label += n + 1;
        }
}

void netpolicy_canonical(const char *name, char out[NETPOLICY_NAME_MAX]) {
        size_t n = strnlen(name, NETPOLICY_NAME_MAX + 1);

        if (n && name[n - 1] == '.')
                n--;
        out[0] = '\0';
        if (n >= NETPOLICY_NAME_MAX)
                return;
        for (size_t i = 0; i < n; i++)
                out[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
        out[n] = '\0';
        if (!canonical_ok(out))
                out[0] = '\0';
}

static bool rule_names(const struct netpolicy_head *p, const struct netpolicy_rule *r, enum netpolicy_kind kind,
                       const char *name) {
        const char *dot = strchr(name, '.');

        if (r->kind != (uint32_t)kind)
                return false;
        if (kind == NETPOLICY_WILDCARD)
                return dot && dot != name && strcmp(dot + 1, netpolicy_text(p, r->host)) == 0;
        return strcmp(name, netpolicy_text(p, r->host)) == 0;
}

bool netpolicy_knows_name(const struct netpolicy_head *p, const char *canonical) {
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                if (r->flags & NETPOLICY_PLACE)
                        continue;
                if (rule_names(p, r, NETPOLICY_NAME, canonical) || rule_names(p, r, NETPOLICY_WILDCARD, canonical))
                        return true;
        }
        return false;
}

/* place: 0 for what is listed, or NETPOLICY_PLACE. */
static const struct netpolicy_rule *find_name(const struct netpolicy_head *p, uint32_t place, const char *canonical,
                                              uint16_t port) {
        static const enum netpolicy_kind order[] = {NETPOLICY_NAME, NETPOLICY_WILDCARD};

        for (size_t k = 0; k < ELEMENTSOF(order); k++) {
                for (uint32_t i = 0; i < p->n_rules; i++) {
                        const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                        if ((r->flags & NETPOLICY_PLACE) == place && r->port == port &&
                            rule_names(p, r, order[k], canonical))
                                return r;
                }
        }
        return NULL;
}

const struct netpolicy_rule *netpolicy_match_name(const struct netpolicy_head *p, const char *canonical, uint16_t port) {
        return find_name(p, 0, canonical, port);
}

const struct netpolicy_rule *netpolicy_place_name(const struct netpolicy_head *p, const char *canonical, uint16_t port) {
        return find_name(p, NETPOLICY_PLACE, canonical, port);
}

/* --- addresses --- */

static const struct netpolicy_rule *find_addr(const struct netpolicy_head *p, uint32_t place, const struct sockaddr *to) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)to;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)to;
        uint32_t kind = NETPOLICY_ADDR4;
        uint8_t addr[16] = {0};
        uint16_t port;

        if (to->sa_family == AF_INET) {
                memcpy(addr, &in4->sin_addr, 4);
                port = ntohs(in4->sin_port);
        } else if (to->sa_family == AF_INET6) {
                bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
                memcpy(addr, (const uint8_t *)&in6->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
                kind = mapped ? NETPOLICY_ADDR4 : NETPOLICY_ADDR6;
                port = ntohs(in6->sin6_port);
        } else {
                return NULL;
        }
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                if ((r->flags & NETPOLICY_PLACE) == place && r->kind == kind && r->port == port &&
                    memcmp(r->addr, addr, sizeof(addr)) == 0)
                        return r;
        }
        return NULL;
}

const struct netpolicy_rule *netpolicy_match_addr(const struct netpolicy_head *p, const struct sockaddr *to) {
        return find_addr(p, 0, to);
}

const struct netpolicy_rule *netpolicy_place_addr(const struct netpolicy_head *p, const struct sockaddr *to) {
        return find_addr(p, NETPOLICY_PLACE, to);
}

/* --- HTTP --- */

/*
 * All ways through the pattern at once: on[k] says that its first k characters can have matched what was read so far.
 * No backtracking, so no path takes longer than pattern times path.
 */
#define GLOB_ROOM (NETPOLICY_PATTERN_MAX + 4)

static bool is_wide(const char *pattern, size_t k) {
        return pattern[k] == '*' && pattern[k + 1] == '*';
}

/* A star may also stand for nothing. */
static void glob_skip(const char *pattern, bool on[GLOB_ROOM]) {
        for (size_t k = 0; pattern[k]; k++)
                if (on[k] && pattern[k] == '*')
                        on[k + (is_wide(pattern, k) ? 2 : 1)] = true;
}

static void glob_step(const char *pattern, char c, const bool on[GLOB_ROOM], bool next[GLOB_ROOM]) {
        for (size_t k = 0; pattern[k]; k++) {
                if (!on[k])
                        continue;
                if (pattern[k] == '*' && (c != '/' || is_wide(pattern, k)))
                        next[k] = true;
                if (pattern[k] == '*' || pattern[k] != c)
                        continue;
                next[k + 1] = true;
                if (c == '/' && is_wide(pattern, k + 1) && pattern[k + 3] == '/')
                        next[k + 4] = true; /* a whole segment of two stars may be no segment */
        }
}

bool netpolicy_glob(const char *pattern, const char *path) {
        bool on[GLOB_ROOM] = {true}, next[GLOB_ROOM];
        size_t m = strnlen(pattern, NETPOLICY_PATTERN_MAX + 1);

        if (m > NETPOLICY_PATTERN_MAX)
                return false;
        glob_skip(pattern, on);
        for (; *path; path++) {
                memset(next, 0, sizeof(next));
                glob_step(pattern, *path, on, next);
                memcpy(on, next, sizeof(on));
                glob_skip(pattern, on);
        }
        return on[m];
}

static bool method_listed(const struct netpolicy_head *p, const struct netpolicy_rule *r, const char *method) {
        for (uint32_t i = 0; i < r->n_methods; i++)
                if (strcmp(netpolicy_listed(p, r->methods, i), method) == 0)
                        return true;
        return r->n_methods == 0;
}

static bool path_listed(const struct netpolicy_head *p, const struct netpolicy_rule *r, const char *path) {
        for (uint32_t i = 0; i < r->n_paths; i++)
                if (netpolicy_glob(netpolicy_listed(p, r->paths, i), path))
                        return true;
        return r->n_paths == 0;
}

/* When no rule allows the request: is at least its path one that some method may use?  Then the method is at fault. */
static const struct netpolicy_rule *http_find(const struct netpolicy_head *p, const struct netpolicy_rule *of,
                                              const char *method, const char *path, bool *path_known) {
        *path_known = false;
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                if (!same_endpoint(p, of, r) || !path_listed(p, r, path))
                        continue;
                *path_known = true;
                if (method_listed(p, r, method))
                        return r;
        }
        return NULL;
}

enum netpolicy_http netpolicy_http_decide(const struct netpolicy_head *p, const struct netpolicy_rule *r,
                                          const char *method, const char *path) {
        bool path_known;

        if (http_find(p, r, method, path, &path_known))
                return NETPOLICY_HTTP_OK;
        return path_known ? NETPOLICY_HTTP_METHOD : NETPOLICY_HTTP_PATH;
}

const struct netpolicy_rule *netpolicy_http_rule(const struct netpolicy_head *p, const struct netpolicy_rule *r,
                                                 const char *method, const char *path) {
        bool path_known;

        return http_find(p, r, method, path, &path_known);
}
