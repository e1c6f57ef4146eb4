/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role policy: loaded from YAML, checked, compiled once into a flat image in a sealed memfd, then only read.
 *
 * There is no setter after the seal.  Decisions are pure functions (image, request) -> verdict + deciding rule, so
 * enforcement, `crewctl policy explain` and the audit line come from one value.
 */
#pragma once

#include "common/digest.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One problem found in a file, in the form the terminal shows it. */
struct policy_problem {
        bool warning;
        char file[512];
        int line, column; /* 1-based; 0 unknown */
        char text[512];   /* "unknown key 'filesytem' under sandbox" */
        char hint[256];   /* "did you mean 'filesystem'?" or "" */
};
struct policy_report {
        struct policy_problem *items; /* owned */
        size_t n, errors, warnings;   /* at most 64 are kept, all are counted */
};
void policy_report_fini(struct policy_report *r);
void policy_report_add(struct policy_report *r, bool warning, const char *file, int line, int column, const char *hint,
                       const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* Prints items as file:line:col: text, the source line, a caret line, hint; then "N errors, M warnings". */
void policy_report_print(const struct policy_report *r, void *file /* FILE * */, bool colour);

struct policy_mark {
        uint32_t line, column;
};

enum policy_path_kind {
        POLICY_READ,
        POLICY_WRITE,
        POLICY_EXEC,
        POLICY_DENY,
        POLICY_READ_ONLY,
        POLICY_RUNTIME,      /* from a runtime set: read and execute */
        POLICY_RUNTIME_READ, /* from a runtime set: read only (files under /etc, data) */
        POLICY_PATH_KIND_N,
};

struct policy_path {
        enum policy_path_kind kind;
        const char *path; /* absolute, normalised, ${CREW_DIR} expanded, no trailing '/' */
        bool tree;        /* was written with a trailing '/' (or is a runtime tree) */
        bool optional;
        struct policy_mark mark;
};

struct policy_endpoint {
        const char *host; /* lower case; "*.example.com" for one label; or a literal address */
        uint16_t port;
        bool literal, wildcard;
        bool inspect;                /* tls: inspect */
        bool audit;                  /* enforcement: audit */
        uint32_t n_methods, n_paths; /* 0: any; policy_endpoint_method(), _path() */
        const char *credential;      /* NULL: none */
        const char *preset;          /* the preset that lists it; NULL: the policy itself */
        const char *file;            /* that mark is of: the policy's, or the preset's */
        struct policy_mark mark;
        struct policy_mark listed; /* in the policy: the endpoint, or the preset's name */
};
/* Is it read as HTTP: methods, paths, credential or inspect? */
bool policy_endpoint_is_http(const struct policy_endpoint *e);
/* "api.example.com:443", "[2001:db8::1]:443" */
const char *policy_endpoint_text(const struct policy_endpoint *e, char *buf, size_t size);

struct policy_network {
        bool ask;       /* on_unlisted: ask */
        bool audit;     /* enforcement: audit: what is not listed is recorded and let through */
        uint32_t ask_s; /* how long a held connection waits */
};

struct policy_name { /* tools.allowed, tools.denied, ipc.allowed_targets, allow_degraded */
        const char *name;
        struct policy_mark mark;
};

struct policy_limits { /* 0: the built-in default was not overridden by "none"; defaults are filled in by the loader */
        uint64_t memory_bytes, tmp_bytes, output_bytes, wall_ms;
        uint64_t bandwidth; /* bytes a second, both ways together; 0: no limit */
        uint32_t processes, open_files, cpu_milli, connections;
        uint32_t half_open, dns_per_s, messages_per_s;
        uint32_t unused;
};

enum policy_audit_files { POLICY_AUDIT_ALL, POLICY_AUDIT_WRITES, POLICY_AUDIT_DENIED };

/* The frozen image.  Pointers returned below live as long as it does. */
struct policy_image;

/*
 * Loads the document whose `agent:` is agent_name from file (several documents in one file are allowed, separated by
 * ---; NULL takes the only one).  crew_dir expands ${CREW_DIR} (NULL: using it is an error).
 * Returns 0 and *out, or -EINVAL with every problem in report; warnings may be there on success too.
 */
int policy_load(const char *file, const char *agent_name, const char *crew_dir, struct policy_image **out,
                struct policy_report *report, struct crew_err *err);
/* The same from memory, for tests and fuzzing. */
int policy_load_bytes(const char *name, const char *bytes, size_t n, const char *agent_name, const char *crew_dir,
                      struct policy_image **out, struct policy_report *report, struct crew_err *err);
/* The agents a file holds policies for, in file order. */
int policy_agents(const char *file, char names[][64], size_t room, size_t *n_out, struct policy_report *report,
                  struct crew_err *err);
struct policy_image *policy_image_ref(struct policy_image *p); /* one more to be freed; NULL stays NULL */
struct policy_image *policy_image_free(struct policy_image *p);

int policy_image_fd(const struct policy_image *p); /* the sealed memfd, owned by the image */
const uint8_t *policy_image_sha256(const struct policy_image *p);
const char *policy_agent(const struct policy_image *p);
const char *policy_file(const struct policy_image *p);
size_t policy_n_paths(const struct policy_image *p);
struct policy_path policy_path_at(const struct policy_image *p, size_t i);
size_t policy_n_endpoints(const struct policy_image *p);
struct policy_endpoint policy_endpoint_at(const struct policy_image *p, size_t i);
const char *policy_endpoint_method(const struct policy_image *p, size_t i, size_t k);
const char *policy_endpoint_path(const struct policy_image *p, size_t i, size_t k);
struct policy_network policy_network_of(const struct policy_image *p);
/* Where `network:` stands; line 0: nowhere. */
struct policy_mark policy_network_mark(const struct policy_image *p);
enum policy_list { POLICY_TOOLS_ALLOWED, POLICY_TOOLS_DENIED, POLICY_TARGETS, POLICY_DEGRADED, POLICY_LIST_N };
size_t policy_n_names(const struct policy_image *p, enum policy_list which);
struct policy_name policy_name_at(const struct policy_image *p, enum policy_list which, size_t i);
struct policy_limits policy_limits_of(const struct policy_image *p);
enum policy_audit_files policy_audit_files_of(const struct policy_image *p);
const char *policy_syscall_profile(const struct policy_image *p); /* "default", "jit", ... */
bool policy_network_denied(const struct policy_image *p);         /* deny_all, or nothing that could be reached */

/* --- presets: named lists of endpoints --- */

/* Their names, sorted; names[i] is a copy.  At most room. */
size_t policy_preset_names(char names[][64], size_t room);
/* The preset as the policy that lists only it; policy_file() is its own file.  Errors as for policy_load(). */
int policy_preset_load(const char *name, struct policy_image **out, char *description, size_t size,
                       struct policy_report *report, struct crew_err *err);

/* --- decisions --- */
enum policy_verb {
        POLICY_DO_READ,
        POLICY_DO_WRITE,
        POLICY_DO_EXEC,
        POLICY_DO_TOOL,
        POLICY_DO_SEND,
        POLICY_DO_CONNECT,
        POLICY_DO_HTTP,
        POLICY_VERB_N
};
extern const char *const policy_verb_names[POLICY_VERB_N]; /* "read" "write" "exec" "tool" "send" "connect" "http" */

struct policy_verdict {
        bool allowed;
        const char *section; /* "filesystem.read", "tools.allowed", ...; what decided or what would have to allow */
        const char *file;
        struct policy_mark mark; /* line 0: no rule, default deny (or built-in) */
        bool asks;               /* denied, unless the operator allows it: the connection is held (on_unlisted: ask) */
        bool private_place;      /* not granted, but the jail has something of its own there (/tmp, /home/agent): an agent
                                    that opens it touches nothing of the host's */
        char rule[640];          /* "policies/roles/x.yaml:5": the rule; by default deny, the list that would have to allow
                                    it, or empty when the policy has no such list */
        char text[256];          /* "not in tools.allowed"; "denied by filesystem.deny" */
        char detail[256];        /* "filesystem.read lists only /tmp/market-data/"; more about the rule, or "" */
        char next_step[256];     /* what a person could do; "" when nothing */
};
/* object: absolute path, tool name, agent name, "host:port", or "GET https://host:port/path". */
struct policy_verdict policy_decide(const struct policy_image *p, enum policy_verb verb, const char *object);
