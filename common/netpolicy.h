/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one agent may reach, compiled: crewd makes it from the policy and the crew file, the gateway decides by it.
 *
 * It travels as a sealed memfd (GATE_ADD, GATE_POLICY).  A fixed head, then fixed rules, then everything of variable length
 * in one string area; offsets are from the start of the image, 0 is "none", strings end with a zero byte.  The reader
 * checks every offset once, in netpolicy_open(); the decisions below are pure and never fail.
 */
#pragma once

#include "common/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETPOLICY_MAGIC 0x4c504e43u /* "CNPL" */
#define NETPOLICY_VERSION 1u
#define NETPOLICY_RULES_MAX 1024u
#define NETPOLICY_BYTES_MAX (4u << 20)
#define NETPOLICY_LIST_MAX 64u     /* methods or paths of one rule */
#define NETPOLICY_METHOD_MAX 32u   /* characters: capital letters and hyphens */
#define NETPOLICY_PATTERN_MAX 512u /* bytes of a path's glob: decoded UTF-8 from '/' on, without '?', '#' and '%' */
#define NETPOLICY_CA_MAX (1u << 20)
#define NETPOLICY_WHERE_MAX 640u

enum netpolicy_kind {
        NETPOLICY_NAME,     /* host is the name, lower case, no trailing dot */
        NETPOLICY_WILDCARD, /* host is what follows "*.": exactly one label in front of it */
        NETPOLICY_ADDR4,    /* addr[0..3]; host is its text */
        NETPOLICY_ADDR6,
};

enum netpolicy_rule_flags {
        NETPOLICY_INSPECT = 1u << 0, /* tls: inspect */
        NETPOLICY_HTTP = 1u << 1,    /* methods, paths, credential or inspect are set: the connection must be HTTP/1 */
        NETPOLICY_AUDIT = 1u << 2,   /* enforcement: audit: what its HTTP rules forbid is recorded and let through */
        NETPOLICY_TO = 1u << 3,      /* connect_to: dial to_host (to_addr when to_kind is an address) : to_port instead */
        NETPOLICY_PLACE = 1u << 4,   /* allows nothing: says where an unlisted host lives, should it be let through */
};

struct netpolicy_rule {
        uint32_t kind, flags;
        uint32_t host;
        uint8_t addr[16];
        uint16_t port, to_port;
        uint32_t to_kind, to_host;
        uint8_t to_addr[16];
        uint32_t ca, ca_bytes;       /* PEM, used instead of the system's certificates when the gateway itself speaks TLS */
        uint32_t methods, n_methods; /* offset of n u32 string offsets; none: any */
        uint32_t paths, n_paths;     /* globs: "*" within a segment, "**" across; matched against the normalised path */
        uint32_t credential;         /* a name of the gateway's credentials file */
        uint32_t where;              /* "policies/roles/x.yaml:14", or the preset's file and line */
};

enum netpolicy_flags {
        NETPOLICY_ASK = 1u << 0,       /* on_unlisted: ask */
        NETPOLICY_AUDIT_ALL = 1u << 1, /* enforcement: audit: what is not listed is recorded and let through */
};

struct netpolicy_head {
        uint32_t magic, version, bytes, flags;
        uint32_t generation; /* counts the reloads of this instance, from 1 */
        uint32_t n_rules, rules;
        uint32_t where;     /* of the network section */
        uint32_t ask_s;     /* how long a held connection waits for an answer; not 0 with NETPOLICY_ASK */
        uint32_t max_conns; /* at once; this and the next two are never 0 */
        uint32_t max_half_open;
        uint32_t max_dns_per_s;
        uint64_t max_bytes_per_s; /* both ways together; 0: no limit */
        uint8_t policy_sha256[32];
};

/* Everything the reader relies on, for a block of n bytes aligned to 8.  0, or -EPROTO with text. */
int netpolicy_check(const void *bytes, size_t n, struct crew_err *err);
/* Maps and checks a sealed memfd; fd stays the caller's.  -EPROTO with text on anything out of place. */
int netpolicy_open(int fd, const struct netpolicy_head **out, struct crew_err *err);
void netpolicy_close(const struct netpolicy_head *p); /* NULL is fine */
const struct netpolicy_rule *netpolicy_rule_at(const struct netpolicy_head *p, uint32_t i);
/* NULL for offset 0. */
const char *netpolicy_text(const struct netpolicy_head *p, uint32_t offset);
const char *netpolicy_listed(const struct netpolicy_head *p, uint32_t list, uint32_t i);

/* name: as typed by a client, any case, perhaps one trailing dot; an address in any notation never matches a name.
 * Writes the canonical form ("" when it is not a host name at all: RFC 1123 letters, digits, hyphens, labels of 1-63). */
#define NETPOLICY_NAME_MAX 254
void netpolicy_canonical(const char *name, char out[NETPOLICY_NAME_MAX]);
/* Any rule for this name, whatever the port: is it to get an address at all? */
bool netpolicy_knows_name(const struct netpolicy_head *p, const char *canonical);
/* An exact name beats a wildcard; the first in file order otherwise.  NULL: not listed. */
const struct netpolicy_rule *netpolicy_match_name(const struct netpolicy_head *p, const char *canonical, uint16_t port);
/* v4-mapped addresses are matched as IPv4. */
const struct netpolicy_rule *netpolicy_match_addr(const struct netpolicy_head *p, const struct sockaddr *to);
/* Of what no rule lists: where it is dialled when it is let through all the same.  NULL: where its name leads. */
const struct netpolicy_rule *netpolicy_place_name(const struct netpolicy_head *p, const char *canonical, uint16_t port);
const struct netpolicy_rule *netpolicy_place_addr(const struct netpolicy_head *p, const struct sockaddr *to);

/* --- HTTP --- */

enum netpolicy_http { NETPOLICY_HTTP_OK, NETPOLICY_HTTP_METHOD, NETPOLICY_HTTP_PATH };
/*
 * One host and port may be listed several times, with different methods and paths: r is what netpolicy_match_*() gave for
 * the connection, and all the rules that name the same host and port speak for it.  Their tls, enforcement, connect_to
 * and ca are the same (the reader checks it); their credentials may differ.
 * path: decoded and without query (http_path.h of the gateway).
 */
enum netpolicy_http netpolicy_http_decide(const struct netpolicy_head *p, const struct netpolicy_rule *r,
                                          const char *method, const char *path);
/* The rule that allows this request, whose credential goes with it; NULL when netpolicy_http_decide() is not OK. */
const struct netpolicy_rule *netpolicy_http_rule(const struct netpolicy_head *p, const struct netpolicy_rule *r,
                                                 const char *method, const char *path);
/* "*" is any run without '/', "**" any run; a whole segment "**" may also be no segment.  Time: at most length by length.
 */
bool netpolicy_glob(const char *pattern, const char *path);

/* --- building (crewd) --- */

struct netpolicy_spec_rule {         /* strings are copied */
        struct netpolicy_rule fixed; /* kind, flags, addr, port, to_*; the offsets are filled in */
        const char *host, *to_host, *credential, *where;
        const char *ca;
        size_t ca_bytes;
        const char *const *methods, *const *paths;
        uint32_t n_methods, n_paths;
};
struct netpolicy_spec {
        struct netpolicy_head fixed; /* flags, generation, limits, sha; the rest is filled in */
        const char *where;
        const struct netpolicy_spec_rule *rules;
        uint32_t n_rules;
};
/* A sealed memfd, or negative with err.  Refuses what netpolicy_open() would. */
int netpolicy_build(const struct netpolicy_spec *spec, struct crew_err *err);
