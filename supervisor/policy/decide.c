/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions: pure functions of the frozen image and the request.  Default deny.
 *
 * Files: a hole beats everything, read_only beats write; of the grants that remain the longest path is the one named.
 * Tools: a name in denied, then a name in allowed, then '*' in denied, then '*' in allowed.
 */
#include "decide.h"

#include "check.h"
#include "common/util.h"
#include "path.h"

#include <limits.h>
#include <string.h>

const char *const policy_verb_names[POLICY_VERB_N] = {
        [POLICY_DO_READ] = "read", [POLICY_DO_WRITE] = "write",     [POLICY_DO_EXEC] = "exec", [POLICY_DO_TOOL] = "tool",
        [POLICY_DO_SEND] = "send", [POLICY_DO_CONNECT] = "connect", [POLICY_DO_HTTP] = "http",
};

#define KIND(k) (1u << POLICY_##k)

/* --- verdicts --- */

void verdict_rule(struct policy_verdict *v, const char *file, struct policy_mark m) {
        v->file = file;
        v->mark = m;
        snprintf(v->rule, sizeof(v->rule), "%s:%u", file, m.line);
}

struct policy_verdict verdict_ruled(const struct policy_image *p, bool allowed, enum image_section s,
                                    struct policy_mark m) {
        struct policy_verdict v = {.allowed = allowed, .section = image_section_names[s]};

        verdict_rule(&v, policy_file(p), m);
        snprintf(v.text, sizeof(v.text), "%s by %s", allowed ? "allowed" : "denied", v.section);
        return v;
}

struct policy_verdict verdict_unlisted(const struct policy_image *p, enum image_section s) {
        struct policy_verdict v = {.section = image_section_names[s], .file = policy_file(p)};
        struct policy_mark m = image_section_at(p, s);

        if (m.line)
                snprintf(v.rule, sizeof(v.rule), "%s:%u", v.file, m.line);
        return v;
}

void verdict_append(char *buf, size_t size, const char *fmt, ...) {
        size_t used = strlen(buf);
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(buf + used, size - used, fmt, ap);
        va_end(ap);
}

/* --- files --- */

struct file_verb {
        unsigned kinds;             /* what grants it */
        enum image_section section; /* what a person would extend */
        const char *unlisted;
};
static const struct file_verb file_verbs[] = {
        [POLICY_DO_READ] = {KIND(READ) | KIND(WRITE) | KIND(EXEC) | KIND(READ_ONLY) | KIND(RUNTIME) | KIND(RUNTIME_READ),
                            IMAGE_READ, "not in read policy"},
        [POLICY_DO_WRITE] = {KIND(WRITE), IMAGE_WRITE, "not in write policy"},
        [POLICY_DO_EXEC] = {KIND(EXEC) | KIND(RUNTIME), IMAGE_EXEC, "not in exec policy"},
};

enum { R = 1u << POLICY_DO_READ, RW = R | 1u << POLICY_DO_WRITE, RX = R | 1u << POLICY_DO_EXEC };

/* What every jail has, whatever its policy says. */
static const struct builtin {
        const char *path, *text;
        unsigned verbs;
        bool tree;
        bool private_copy; /* the host has another thing at this path */
} builtins[] = {
        {"/tmp", "the agent has a private, empty /tmp there", RW, true, true},
        {"/home/agent", "the agent has a private home there", RW, true, true},
        {"/dev/shm", "private, as /tmp is", RW, true, true},
        {"/proc", "the jail's own /proc", R, true, false},
        {"/run/crew", "the agent's socket and crew-call", RX, true, false},
        {"/dev/null", "in every jail", RW, false, false},
        {"/dev/zero", "in every jail", RW, false, false},
        {"/dev/full", "in every jail", RW, false, false},
        {"/dev/random", "in every jail", R, false, false},
        {"/dev/urandom", "in every jail", R, false, false},
        {"/dev/fd", "the program's own descriptors", RW, true, false},
        {"/dev/stdin", "the program's own descriptors", RW, false, false},
        {"/dev/stdout", "the program's own descriptors", RW, false, false},
        {"/dev/stderr", "the program's own descriptors", RW, false, false},
        {"/dev", "the jail's own", R, false, false},
        {"/etc", "the jail's own", R, false, false},
        {"/etc/passwd", "the jail's own, with one user", R, false, false},
        {"/etc/group", "the jail's own, with one group", R, false, false},
        {"/etc/hosts", "the jail's own", R, false, false},
        {"/etc/resolv.conf", "the jail's own", R, false, false},
        {"/etc/nsswitch.conf", "the jail's own", R, false, false},
};

/* The longest listed path of these kinds that covers the object; false when there is none. */
static bool longest(const struct policy_image *p, unsigned kinds, const char *object, struct policy_path *best) {
        bool found = false;

        for (size_t i = 0; i < policy_n_paths(p); i++) {
                struct policy_path q = policy_path_at(p, i);
                if (!(kinds & 1u << q.kind) || !path_covers(&q, object))
                        continue;
                if (!found || strlen(q.path) > strlen(best->path))
                        *best = q;
                found = true;
        }
        return found;
}

static const struct builtin *builtin_find(enum policy_verb verb, const char *object) {
        for (size_t i = 0; i < ELEMENTSOF(builtins); i++) {
                const struct builtin *b = &builtins[i];
                bool hit = b->tree ? path_within(b->path, object) : strcmp(b->path, object) == 0;
                if (hit && b->verbs & 1u << verb)
                        return b;
        }
        return NULL;
}

static void list_paths(const struct policy_image *p, enum image_section s, char *buf, size_t size) {
        size_t n = 0;

        verdict_append(buf, size, "%s lists ", image_section_names[s]);
        for (size_t i = 0; i < policy_n_paths(p); i++) {
                struct policy_path q = policy_path_at(p, i);
                if (image_section_of_path(q.kind) == s)
                        verdict_append(buf, size, "%s%s%s", n++ ? ", " : "only ", q.path, q.tree ? "/" : "");
        }
        if (!n)
                verdict_append(buf, size, "nothing");
}

/* The tree a person would list to allow the object: its directory, or itself right below the root. */
static void suggest_path(const struct policy_image *p, enum policy_verb verb, const char *object, bool tree, char *buf,
                         size_t size) {
        const char *slash = strrchr(object, '/');
        bool parent = !tree && slash != object && verb != POLICY_DO_EXEC;
        char dir[PATH_MAX];

        snprintf(dir, sizeof(dir), "%.*s", (int)(slash - object), object);
        parent = parent && !place_refused(verb == POLICY_DO_READ ? POLICY_READ : POLICY_WRITE, dir);
        bool warns = verb == POLICY_DO_READ && !policy_network_denied(p) && path_is_private(object, image_crew_dir(p));

        snprintf(buf, size, "add \"%.*s%s\" to %s%s", (int)(parent ? slash - object : (long)strlen(object)), object,
                 parent || tree ? "/" : "", image_section_names[file_verbs[verb].section],
                 warns ? " (policy check will warn: this agent has network endpoints)" : "");
}

static struct policy_verdict file_unlisted(const struct policy_image *p, enum policy_verb verb, const char *object,
                                           bool tree) {
        struct policy_verdict v = verdict_unlisted(p, file_verbs[verb].section);
        const struct builtin *b = builtin_find(verb, object);
        struct policy_path granted;

        if (b && !b->private_copy) {
                v = (struct policy_verdict){.allowed = true, .section = "built-in", .file = v.file};
                snprintf(v.text, sizeof(v.text), "%s", b->text);
                return v;
        }
        if (b && longest(p, file_verbs[POLICY_DO_READ].kinds, object, &granted))
                b = NULL; /* a policy mount covers the jail's own thing */
        v.private_place = b != NULL;
        snprintf(v.text, sizeof(v.text), "%s%s%s", file_verbs[verb].unlisted, b ? "; " : "", b ? b->text : "");
        list_paths(p, file_verbs[verb].section, v.detail, sizeof(v.detail));
        suggest_path(p, verb, object, tree, v.next_step, sizeof(v.next_step));
        return v;
}

static struct policy_verdict decide_file(const struct policy_image *p, enum policy_verb verb, const char *object) {
        char path[PATH_MAX];
        struct policy_path hit;
        struct policy_verdict v;
        size_t n = strlen(object);

        if (!path_normalise(object, path, sizeof(path))) {
                v = verdict_unlisted(p, file_verbs[verb].section);
                snprintf(v.text, sizeof(v.text), "not an absolute path");
                return v;
        }
        if (longest(p, KIND(DENY), path, &hit)) {
                v = verdict_ruled(p, false, IMAGE_DENY, hit.mark);
                snprintf(v.next_step, sizeof(v.next_step), "take it out of filesystem.deny");
                return v;
        }
        if (verb == POLICY_DO_WRITE && longest(p, KIND(READ_ONLY), path, &hit)) {
                v = verdict_ruled(p, false, IMAGE_READ_ONLY, hit.mark);
                snprintf(v.text, sizeof(v.text), "read-only by filesystem.read_only");
                return v;
        }
        if (!longest(p, file_verbs[verb].kinds, path, &hit))
                return file_unlisted(p, verb, path, n > 1 && object[n - 1] == '/');
        return verdict_ruled(p, true, image_section_of_path(hit.kind), hit.mark);
}

/* --- names --- */

static bool find_name(const struct policy_image *p, enum policy_list list, const char *name, struct policy_name *out) {
        for (size_t i = 0; i < policy_n_names(p, list); i++) {
                *out = policy_name_at(p, list, i);
                if (strcmp(out->name, name) == 0)
                        return true;
        }
        return false;
}

static void list_names(const struct policy_image *p, enum policy_list list, const char *section, char *buf, size_t size) {
        size_t n = policy_n_names(p, list);

        verdict_append(buf, size, "%s lists %s", section, n ? "only " : "nothing");
        for (size_t i = 0; i < n; i++)
                verdict_append(buf, size, "%s%s", i ? ", " : "", policy_name_at(p, list, i).name);
}

static struct policy_verdict name_unlisted(const struct policy_image *p, enum image_section s, enum policy_list list,
                                           const char *object, bool valid) {
        struct policy_verdict v = verdict_unlisted(p, s);

        snprintf(v.text, sizeof(v.text), "not in %s", v.section);
        list_names(p, list, v.section, v.detail, sizeof(v.detail));
        if (valid)
                snprintf(v.next_step, sizeof(v.next_step), "add \"%s\" to %s", object, v.section);
        return v;
}

static struct policy_verdict decide_tool(const struct policy_image *p, enum policy_verb verb, const char *object) {
        static const struct {
                enum policy_list list;
                enum image_section section;
                bool allowed, wildcard;
        } order[] = {{POLICY_TOOLS_DENIED, IMAGE_TOOLS_DENIED, false, false},
                     {POLICY_TOOLS_ALLOWED, IMAGE_TOOLS_ALLOWED, true, false},
                     {POLICY_TOOLS_DENIED, IMAGE_TOOLS_DENIED, false, true},
                     {POLICY_TOOLS_ALLOWED, IMAGE_TOOLS_ALLOWED, true, true}};
        bool valid = crew_tool_name_ok(object);
        struct policy_name hit;

        for (size_t i = 0; valid && i < ELEMENTSOF(order); i++) {
                if (!find_name(p, order[i].list, order[i].wildcard ? "*" : object, &hit))
                        continue;
                struct policy_verdict v = verdict_ruled(p, order[i].allowed, order[i].section, hit.mark);
                if (!order[i].allowed && order[i].wildcard) {
                        /* what a person has to change is the list of allowed names */
                        struct policy_verdict n = name_unlisted(p, IMAGE_TOOLS_ALLOWED, POLICY_TOOLS_ALLOWED, object, true);
                        n.mark = hit.mark;
                        n.section = v.section;
                        memcpy(n.rule, v.rule, sizeof(n.rule));
                        return n;
                }
                return v;
        }
        return name_unlisted(p, IMAGE_TOOLS_ALLOWED, POLICY_TOOLS_ALLOWED, object, valid);
}

static struct policy_verdict decide_send(const struct policy_image *p, enum policy_verb verb, const char *object) {
        struct policy_name hit;

        if (crew_name_ok(object) && find_name(p, POLICY_TARGETS, object, &hit))
                return verdict_ruled(p, true, IMAGE_TARGETS, hit.mark);
        return name_unlisted(p, IMAGE_TARGETS, POLICY_TARGETS, object, crew_name_ok(object));
}

struct policy_verdict policy_decide(const struct policy_image *p, enum policy_verb verb, const char *object) {
        static struct policy_verdict (*const deciders[POLICY_VERB_N])(const struct policy_image *, enum policy_verb,
                                                                      const char *) = {
                [POLICY_DO_READ] = decide_file, [POLICY_DO_WRITE] = decide_file, [POLICY_DO_EXEC] = decide_file,
                [POLICY_DO_TOOL] = decide_tool, [POLICY_DO_SEND] = decide_send,  [POLICY_DO_CONNECT] = decide_connect,
                [POLICY_DO_HTTP] = decide_http,
        };

        crew_assert((unsigned)verb < POLICY_VERB_N);
        return deciders[verb](p, verb, object);
}
