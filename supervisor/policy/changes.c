/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each part of a policy becomes a list of (key, value) in words; two lists are then compared, whatever part they are of.
 */
#include "changes.h"

#include "arena.h"
#include "common/util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct item {
        const char *key, *value;
};

struct items {
        struct arena *arena;
        struct item *all;
        size_t n;
        bool failed; /* out of memory */
};

static void add(struct items *l, const char *key, const char *value) {
        if (l->failed || !key || !value || arena_grow(l->arena, &l->all, l->n, sizeof(*l->all)) < 0) {
                l->failed = true;
                return;
        }
        l->all[l->n++] = (struct item){key, value};
}

/* --- parts in words --- */

static const char *joined(struct arena *a, const char *so_far, const char *word) {
        return so_far ? arena_printf(a, "%s%s%s", so_far, *so_far ? " " : "", word) : NULL;
}

static const char *endpoint_rules(struct arena *a, const struct policy_image *p, size_t i,
                                  const struct policy_endpoint *e) {
        const char *text = "";

        for (size_t k = 0; k < e->n_methods; k++)
                text = joined(a, text, policy_endpoint_method(p, i, k));
        for (size_t k = 0; k < e->n_paths; k++)
                text = joined(a, text, policy_endpoint_path(p, i, k));
        if (e->inspect)
                text = joined(a, text, "inspected");
        if (e->credential)
                text = joined(a, joined(a, text, "credential"), e->credential);
        return e->audit ? joined(a, text, "audit only") : text;
}

static void list_network(struct items *l, const struct policy_image *p) {
        struct policy_network net = policy_network_of(p);
        char text[300];

        for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                struct policy_endpoint e = policy_endpoint_at(p, i);
                policy_endpoint_text(&e, text, sizeof(text));
                add(l, arena_strndup(l->arena, text, strlen(text)), endpoint_rules(l->arena, p, i, &e));
        }
        add(l, "on_unlisted", net.ask ? "ask" : "deny");
        add(l, "enforcement", net.audit ? "audit" : "enforce");
        if (net.ask)
                add(l, "ask_timeout", arena_printf(l->arena, "%u s", net.ask_s));
}

static void list_names(struct items *l, const struct policy_image *p, enum policy_list which, const char *prefix) {
        for (size_t i = 0; i < policy_n_names(p, which); i++)
                add(l, arena_printf(l->arena, "%s%s", prefix, policy_name_at(p, which, i).name), "");
}

static void list_tools(struct items *l, const struct policy_image *p) {
        list_names(l, p, POLICY_TOOLS_ALLOWED, "");
        list_names(l, p, POLICY_TOOLS_DENIED, "denied ");
}

static void list_targets(struct items *l, const struct policy_image *p) {
        list_names(l, p, POLICY_TARGETS, "");
}

static void list_degraded(struct items *l, const struct policy_image *p) {
        list_names(l, p, POLICY_DEGRADED, "");
}

static void list_paths(struct items *l, const struct policy_image *p) {
        static const char *const kinds[POLICY_PATH_KIND_N] = {
                [POLICY_READ] = "read",           [POLICY_WRITE] = "write",     [POLICY_EXEC] = "exec",
                [POLICY_DENY] = "deny",           [POLICY_RUNTIME] = "runtime", [POLICY_RUNTIME_READ] = "runtime",
                [POLICY_READ_ONLY] = "read_only",
        };

        for (size_t i = 0; i < policy_n_paths(p); i++) {
                struct policy_path at = policy_path_at(p, i);
                add(l, arena_printf(l->arena, "%s %s%s", kinds[at.kind], at.path, at.tree ? "/" : ""),
                    at.optional ? "optional" : "");
        }
}

static void list_audit(struct items *l, const struct policy_image *p) {
        static const char *const files[] = {
                [POLICY_AUDIT_ALL] = "all", [POLICY_AUDIT_WRITES] = "writes", [POLICY_AUDIT_DENIED] = "denied"};

        add(l, "files", files[policy_audit_files_of(p)]);
}

static void list_syscalls(struct items *l, const struct policy_image *p) {
        add(l, "profile", policy_syscall_profile(p));
}

static void (*const parts[])(struct items *l, const struct policy_image *p) = {
        [POLICY_PART_NETWORK] = list_network,   [POLICY_PART_TOOLS] = list_tools,
        [POLICY_PART_IPC] = list_targets,

        [POLICY_PART_AUDIT] = list_audit,       [POLICY_PART_FILESYSTEM] = list_paths,
        [POLICY_PART_SYSCALLS] = list_syscalls, [POLICY_PART_DEGRADED] = list_degraded,
};
static_assert(ELEMENTSOF(parts) == POLICY_PART_N, "words for each part");

/* --- comparing --- */

struct sink {
        char *out;
        size_t used;
        bool full;
};

static void say(struct sink *s, const char *sign, const struct item *i, const char *arrow, const char *now) {
        char word[512];
        int n = snprintf(word, sizeof(word), "%s%s%s%s%s%s%s", s->used ? ", " : "", sign, i->key, i->value[0] ? " " : "",
                         i->value, arrow, now);

        if (s->full)
                return;
        if (n < 0 || s->used + (size_t)n + sizeof(", ...") > POLICY_CHANGE_MAX) {
                s->full = true;
                s->used += (size_t)snprintf(s->out + s->used, POLICY_CHANGE_MAX - s->used, "%s...", s->used ? ", " : "");
                return;
        }
        memcpy(s->out + s->used, word, (size_t)n + 1);
        s->used += (size_t)n;
}

static const struct item *find(const struct items *l, const char *key, size_t hint) {
        if (hint < l->n && strcmp(l->all[hint].key, key) == 0)
                return &l->all[hint];
        for (size_t i = 0; i < l->n; i++) {
                if (strcmp(l->all[i].key, key) == 0)
                        return &l->all[i];
        }
        return NULL;
}

static bool same(const struct items *a, const struct items *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++) {
                if (strcmp(a->all[i].key, b->all[i].key) != 0 || strcmp(a->all[i].value, b->all[i].value) != 0)
                        return false;
        }
        return true;
}

static void describe(const struct items *from, const struct items *to, char *detail) {
        struct sink s = {.out = detail};

        for (size_t i = 0; i < to->n && !s.full; i++) {
                const struct item *old = find(from, to->all[i].key, i);
                if (!old)
                        say(&s, "+ ", &to->all[i], "", "");
                else if (strcmp(old->value, to->all[i].value) != 0)
                        say(&s, "", old, " -> ", to->all[i].value[0] ? to->all[i].value : "plain");
        }
        for (size_t i = 0; i < from->n && !s.full; i++) {
                if (!find(to, from->all[i].key, i))
                        say(&s, "- ", &from->all[i], "", "");
        }
        if (s.used == 0)
                snprintf(detail, POLICY_CHANGE_MAX, "another order");
}

int policy_part_changed(const struct policy_image *from, const struct policy_image *to, enum policy_part part,
                        char detail[POLICY_CHANGE_MAX]) {
        struct arena arena = {0};
        struct items a = {.arena = &arena}, b = {.arena = &arena};

        detail[0] = '\0';
        parts[part](&a, from);
        parts[part](&b, to);
        int r = a.failed || b.failed ? -ENOMEM : !same(&a, &b);
        if (r > 0)
                describe(&a, &b, detail);
        arena_fini(&arena);
        return r;
}

/* --- limits --- */

static void in_bytes(uint64_t n, char out[32]) {
        static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
        size_t u = 0;

        while (u + 1 < ELEMENTSOF(units) && n > 0 && n % 1024 == 0) {
                n /= 1024;
                u++;
        }
        snprintf(out, 32, n ? "%" PRIu64 " %s" : "none", n, units[u]);
}

static void in_time(uint64_t ms, char out[32]) {
        if (ms % 1000)
                snprintf(out, 32, "%" PRIu64 " ms", ms);
        else
                snprintf(out, 32, ms ? "%" PRIu64 " s" : "none", ms / 1000);
}

static void in_cores(uint64_t milli, char out[32]) {
        snprintf(out, 32, milli ? "%" PRIu64 ".%03u" : "none", milli / 1000, (unsigned)(milli % 1000));
}

static void in_number(uint64_t n, char out[32]) {
        snprintf(out, 32, "%" PRIu64, n);
}

#define LIMIT(name, member, in)                                                                                            \
        { name, offsetof(struct policy_limits, member), sizeof(((struct policy_limits *)NULL)->member), in }
static const struct {
        const char *name;
        size_t offset, size;
        void (*in_words)(uint64_t n, char out[32]);
} limits[] = {
        [POLICY_LIMIT_MEMORY] = LIMIT("memory", memory_bytes, in_bytes),
        [POLICY_LIMIT_PROCESSES] = LIMIT("processes", processes, in_number),
        [POLICY_LIMIT_CPU] = LIMIT("cpu", cpu_milli, in_cores),
        [POLICY_LIMIT_OPEN_FILES] = LIMIT("open_files", open_files, in_number),
        [POLICY_LIMIT_TMP] = LIMIT("tmp", tmp_bytes, in_bytes),
        [POLICY_LIMIT_OUTPUT] = LIMIT("output", output_bytes, in_bytes),
        [POLICY_LIMIT_WALL_TIME] = LIMIT("wall_time", wall_ms, in_time),
        [POLICY_LIMIT_CONNECTIONS] = LIMIT("connections", connections, in_number),
        [POLICY_LIMIT_HALF_OPEN] = LIMIT("half_open", half_open, in_number),
        [POLICY_LIMIT_DNS] = LIMIT("dns", dns_per_s, in_number),
        [POLICY_LIMIT_BANDWIDTH] = LIMIT("bandwidth", bandwidth, in_bytes),
        [POLICY_LIMIT_MESSAGES] = LIMIT("messages", messages_per_s, in_number),
};
#undef LIMIT
static_assert(ELEMENTSOF(limits) == POLICY_LIMIT_N, "a row for each limit");

static uint64_t limit_of(const struct policy_limits *l, enum policy_limit which) {
        const char *at = (const char *)l + limits[which].offset;
        uint64_t wide;
        uint32_t narrow;

        if (limits[which].size == sizeof(wide)) {
                memcpy(&wide, at, sizeof(wide));
                return wide;
        }
        memcpy(&narrow, at, sizeof(narrow));
        return narrow;
}

bool policy_limit_changed(const struct policy_limits *from, const struct policy_limits *to, enum policy_limit which,
                          char detail[POLICY_LIMIT_CHANGE_MAX]) {
        uint64_t a = limit_of(from, which), b = limit_of(to, which);
        char was[32], now[32];

        limits[which].in_words(a, was);
        limits[which].in_words(b, now);
        snprintf(detail, POLICY_LIMIT_CHANGE_MAX, "%s %s -> %s", limits[which].name, was, now);
        return a != b;
}
