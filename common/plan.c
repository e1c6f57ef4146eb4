/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawn plan's builder (crewd's side) and its checker (the spawner's and the worker's side).
 *
 * The checker is what stands between a fixed-layout block and privileged code, so it trusts no byte of it: after
 * plan_check() every offset lies inside the block, every string ends there, every index is in range and every path is
 * absolute and without "..".  The builder ends by running the checker on its own output.
 */
#include "plan.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

const char *const plan_feature_names[PLAN_FEATURE_N] = {
        [PLAN_FEATURE_LANDLOCK] = "landlock",
        [PLAN_FEATURE_LANDLOCK_ABI] = "landlock-abi",
        [PLAN_FEATURE_NETNS] = "netns",
        [PLAN_FEATURE_CGROUP_MEMORY] = "cgroup-memory",
        [PLAN_FEATURE_CGROUP_PIDS] = "cgroup-pids",
        [PLAN_FEATURE_CGROUP_CPU] = "cgroup-cpu",
        [PLAN_FEATURE_EVIDENCE] = "evidence",
};

#define MOUNT_FLAGS_ALL                                                                                                    \
        (PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_IDMAP | PLAN_MOUNT_OPTIONAL | PLAN_MOUNT_CREATE |                  \
         PLAN_MOUNT_WATCH | PLAN_MOUNT_FOLLOW)
#define RULE_FLAGS_ALL (PLAN_MOUNT_OPTIONAL | PLAN_MOUNT_FOLLOW)
#define PLAN_FLAGS_ALL (PLAN_ROOT_MODE | PLAN_NETRULES | PLAN_NOTIFY | PLAN_LANDLOCK_LOG | PLAN_SANDBOX | PLAN_HOLD)
#define PLAN_PATH_MAX 4096u

/* --- checker --- */

static bool range_ok(const struct plan *p, uint32_t off, uint64_t bytes) {
        return off >= sizeof(*p) && off <= p->total_bytes && bytes <= p->total_bytes - off;
}

static bool string_ok(const struct plan *p, plan_off off) {
        return range_ok(p, off, 1) && memchr((const char *)p + off, '\0', p->total_bytes - off);
}

/* Absolute, no empty, "." or ".." component, no trailing slash. */
static bool path_text_ok(const char *s) {
        size_t n = strnlen(s, PLAN_PATH_MAX);

        if (s[0] != '/' || n >= PLAN_PATH_MAX)
                return false;
        if (n == 1)
                return true;
        for (const char *c = s; *c;) {
                size_t len = strcspn(++c, "/");
                if (len == 0 || (len == 1 && c[0] == '.') || (len == 2 && c[0] == '.' && c[1] == '.'))
                        return false;
                c += len;
        }
        return true;
}

static bool path_ok(const struct plan *p, plan_off off) {
        return string_ok(p, off) && path_text_ok((const char *)p + off);
}

static bool array_name_ok(const char *s, size_t room) {
        return memchr(s, '\0', room) && crew_agent_name_ok(s);
}

static int check_head(const struct plan *p, size_t n, struct crew_err *err) {
        if (p->magic != PLAN_MAGIC || p->version != PLAN_VERSION)
                return crew_fail(err, EPROTO, "spawn plan: not made by this build of crewd");
        if (p->total_bytes != n)
                return crew_fail(err, EPROTO, "spawn plan: says %u bytes, has %zu", p->total_bytes, n);
        if (p->flags & ~(uint32_t)PLAN_FLAGS_ALL)
                return crew_fail(err, EPROTO, "spawn plan: unknown flags 0x%x", p->flags);
        if (!array_name_ok(p->agent, sizeof(p->agent)))
                return crew_fail(err, EPROTO, "spawn plan: bad agent name");
        if (!array_name_ok(p->crew, sizeof(p->crew)) && !((p->flags & PLAN_SANDBOX) && p->crew[0] == '\0'))
                return crew_fail(err, EPROTO, "spawn plan: bad crew name");
        if (!p->host_uid || !p->host_gid || !p->inner_uid || !p->inner_gid || p->host_uid == UINT32_MAX ||
            p->host_gid == UINT32_MAX || p->inner_uid == UINT32_MAX || p->inner_gid == UINT32_MAX)
                return crew_fail(err, EPROTO, "spawn plan: uid or gid 0 or -1 (an agent is never root)");
        if (p->allow_degraded >> PLAN_FEATURE_N)
                return crew_fail(err, EPROTO, "spawn plan: unknown feature in allow_degraded");
        if (p->workdir && !path_ok(p, p->workdir))
                return crew_fail(err, EPROTO, "spawn plan: bad working directory");
        return 0;
}

static int check_tables(const struct plan *p, struct crew_err *err) {
        const struct {
                const char *name;
                plan_off off;
                uint32_t n, max;
                size_t size;
        } tables[] = {
                {"mounts", p->mounts, p->n_mounts, PLAN_MAX_MOUNTS, sizeof(struct plan_mount)},
                {"rules", p->rules, p->n_rules, PLAN_MAX_RULES, sizeof(struct plan_rule)},
                {"layers", p->layers, p->n_layers, PLAN_MAX_LAYERS, sizeof(struct plan_layer)},
                {"programs", p->programs, p->n_programs, PLAN_MAX_PROGRAMS, sizeof(struct plan_program)},
                {"strings", p->strings, p->n_strings, PLAN_MAX_STRINGS, sizeof(plan_off)},
                {"bpf", p->bpf, p->n_bpf, PLAN_MAX_BPF, sizeof(struct sock_filter)},
                {"netrules", p->netrules, p->netrules_bytes, PLAN_MAX_BYTES, 1},
        };

        for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
                if (tables[i].n == 0)
                        continue;
                if (tables[i].n > tables[i].max)
                        return crew_fail(err, EPROTO, "spawn plan: %u %s, at most %u", tables[i].n, tables[i].name,
                                         tables[i].max);
                if (tables[i].off % 8 != 0 || !range_ok(p, tables[i].off, (uint64_t)tables[i].n * tables[i].size))
                        return crew_fail(err, EPROTO, "spawn plan: %s outside the block", tables[i].name);
        }
        return 0;
}

/* What src and dst must be for each kind of mount. */
enum { SRC_NONE, SRC_PATH, SRC_TEXT, SRC_BYTES };
static const uint8_t mount_src[PLAN_MOUNT_KIND_N] = {
        [PLAN_MOUNT_BIND] = SRC_PATH,
        [PLAN_MOUNT_FILE] = SRC_BYTES,
        [PLAN_MOUNT_SYMLINK] = SRC_TEXT,
};

static bool mount_src_ok(const struct plan *p, const struct plan_mount *m) {
        switch (mount_src[m->kind]) {
        case SRC_PATH:
                return path_ok(p, m->src);
        case SRC_TEXT:
                return string_ok(p, m->src) && *plan_str(p, m->src);
        case SRC_BYTES:
                return m->src_len == 0 || range_ok(p, m->src, m->src_len);
        default:
                return true;
        }
}

static int check_mounts(const struct plan *p, struct crew_err *err) {
        for (uint32_t i = 0; i < p->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(p, i);
                if (m->kind >= PLAN_MOUNT_KIND_N || (m->flags & ~(uint32_t)MOUNT_FLAGS_ALL) || (m->mode & ~07777u))
                        return crew_fail(err, EPROTO, "spawn plan: mount %u: unknown kind, flag or mode", i);
                if (!path_ok(p, m->dst))
                        return crew_fail(err, EPROTO, "spawn plan: mount %u: bad destination path", i);
                if (!mount_src_ok(p, m))
                        return crew_fail(err, EPROTO, "spawn plan: mount %u: bad source", i);
        }
        return 0;
}

static int check_layers(const struct plan *p, struct crew_err *err) {
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct plan_rule *r = plan_rule_at(p, i);
                if (!path_ok(p, r->path) || (r->flags & ~(uint32_t)RULE_FLAGS_ALL))
                        return crew_fail(err, EPROTO, "spawn plan: rule %u: bad path or flag", i);
        }
        for (uint32_t i = 0; i < p->n_layers; i++) {
                const struct plan_layer *l = plan_layer_at(p, i);
                if (l->flags & ~(uint32_t)PLAN_LAYER_AS_OUTER || (l->flags && (i == 0 || l->n_rules > 0)))
                        return crew_fail(err, EPROTO, "spawn plan: layer %u: bad flags", i);
                if (l->kind >= PLAN_LAYER_KIND_N || (i == 0) != (l->kind == PLAN_LAYER_OUTER))
                        return crew_fail(err, EPROTO, "spawn plan: layer %u: the outer layer comes first, once", i);
                if (l->first_rule > p->n_rules || l->n_rules > p->n_rules - l->first_rule)
                        return crew_fail(err, EPROTO, "spawn plan: layer %u: rules out of range", i);
        }
        return 0;
}

static bool program_ok(const struct plan *p, const struct plan_program *g) {
        if (g->kind >= PLAN_PROGRAM_KIND_N || g->driver >= PLAN_DRIVER_N)
                return false;
        if (!string_ok(p, g->name) || (g->kind == PLAN_PROGRAM_AGENT ? !crew_agent_name_ok(plan_str(p, g->name))
                                                                     : !crew_tool_name_ok(plan_str(p, g->name))))
                return false;
        if (g->n_args == 0 || g->first_arg > p->n_strings || g->n_args > p->n_strings - g->first_arg)
                return false;
        /* Programs run one layer below the outer one, never in it. */
        return g->layer > 0 && g->layer < p->n_layers;
}

static int check_programs(const struct plan *p, struct crew_err *err) {
        const plan_off *words = (const plan_off *)((const char *)p + p->strings);

        for (uint32_t i = 0; i < p->n_strings; i++) {
                if (!string_ok(p, words[i]))
                        return crew_fail(err, EPROTO, "spawn plan: string %u outside the block", i);
        }
        for (uint32_t i = 0; i < p->n_programs; i++) {
                if (!program_ok(p, plan_program_at(p, i)))
                        return crew_fail(err, EPROTO, "spawn plan: program %u: bad name, words or layer", i);
        }
        if (p->first_env > p->n_strings || p->n_env > p->n_strings - p->first_env)
                return crew_fail(err, EPROTO, "spawn plan: environment out of range");
        for (uint32_t i = 0; i < p->n_env; i++) {
                const char *e = plan_string_at(p, p->first_env + i);
                if (e[0] == '=' || !strchr(e, '='))
                        return crew_fail(err, EPROTO, "spawn plan: environment word %u is not NAME=VALUE", i);
        }
        return 0;
}

int plan_check(const void *block, size_t n, struct crew_err *err) {
        static int (*const checks[])(const struct plan *, struct crew_err *) = {check_tables, check_mounts, check_layers,
                                                                                check_programs};
        const struct plan *p = block;

        if ((uintptr_t)block % _Alignof(struct plan) != 0 || n < sizeof(*p) || n > PLAN_MAX_BYTES)
                return crew_fail(err, EPROTO, "spawn plan: %zu bytes, misaligned, too short or too long", n);
        int r = check_head(p, n, err);
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(checks); i++)
                r = checks[i](p, err);
        return r;
}

int plan_open(int memfd, const struct plan **out, struct crew_err *err) {
        const int need = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
        int seals = fcntl(memfd, F_GET_SEALS);
        struct stat st;

        if (seals < 0 || (seals & need) != need)
                return crew_fail(err, EPROTO, "spawn plan: not a sealed memfd");
        if (fstat(memfd, &st) < 0)
                return crew_fail_errno(err, "spawn plan: cannot stat");
        if (st.st_size < (off_t)sizeof(struct plan) || st.st_size > (off_t)PLAN_MAX_BYTES)
                return crew_fail(err, EPROTO, "spawn plan: %lld bytes", (long long)st.st_size);
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, memfd, 0);
        if (p == MAP_FAILED)
                return crew_fail_errno(err, "spawn plan: cannot map");
        int r = plan_check(p, (size_t)st.st_size, err);
        if (r < 0) {
                munmap(p, (size_t)st.st_size);
                return r;
        }
        *out = p;
        return 0;
}

void plan_close(const struct plan *p) {
        if (p)
                munmap((void *)p, p->total_bytes);
}

static const void *row(const struct plan *p, plan_off table, uint32_t n, uint32_t i, size_t size) {
        return i < n ? (const char *)p + table + (size_t)i * size : NULL;
}
const struct plan_mount *plan_mount_at(const struct plan *p, uint32_t i) {
        return row(p, p->mounts, p->n_mounts, i, sizeof(struct plan_mount));
}
const struct plan_rule *plan_rule_at(const struct plan *p, uint32_t i) {
        return row(p, p->rules, p->n_rules, i, sizeof(struct plan_rule));
}
const struct plan_layer *plan_layer_at(const struct plan *p, uint32_t i) {
        return row(p, p->layers, p->n_layers, i, sizeof(struct plan_layer));
}
const struct plan_program *plan_program_at(const struct plan *p, uint32_t i) {
        return row(p, p->programs, p->n_programs, i, sizeof(struct plan_program));
}
const char *plan_string_at(const struct plan *p, uint32_t i) {
        const plan_off *o = row(p, p->strings, p->n_strings, i, sizeof(plan_off));
        return o ? plan_str(p, *o) : NULL;
}

const struct plan_program *plan_program_find(const struct plan *p, enum plan_program_kind kind, const char *name) {
        for (uint32_t i = 0; i < p->n_programs; i++) {
                const struct plan_program *g = plan_program_at(p, i);
                if (g->kind == kind && strcmp(plan_str(p, g->name), name) == 0)
                        return g;
        }
        return NULL;
}

/* --- builder --- */

struct table {
        char *rows;
        uint32_t n, room;
};

/* Offsets held in rows count from the pool's start plus one, so that 0 stays "absent", until finish moves them. */
struct plan_builder {
        struct plan head;
        struct table mounts, rules, layers, programs, words, env, bpf, netrules, pool;
        struct crew_err err;
};

struct plan_builder *plan_builder_new(const struct plan *head) {
        struct plan_builder *b = calloc(1, sizeof(*b));

        if (!b)
                return NULL;
        b->head = *head;
        b->head.workdir = b->head.mounts = b->head.rules = b->head.layers = b->head.programs = 0;
        b->head.strings = b->head.bpf = b->head.netrules = 0;
        b->head.n_mounts = b->head.n_rules = b->head.n_layers = b->head.n_programs = b->head.n_strings = 0;
        b->head.n_bpf = b->head.netrules_bytes = b->head.first_env = b->head.n_env = 0;
        return b;
}

struct plan_builder *plan_builder_free(struct plan_builder *b) {
        if (b) {
                struct table *const all[] = {&b->mounts, &b->rules, &b->layers,   &b->programs, &b->words,
                                             &b->env,    &b->bpf,   &b->netrules, &b->pool};
                for (size_t i = 0; i < ELEMENTSOF(all); i++)
                        free(all[i]->rows);
                free(b);
        }
        return NULL;
}

/* Appends n rows; a failure sticks in b->err. */
static int append(struct plan_builder *b, struct table *t, const void *rows, size_t n, size_t size, uint32_t max,
                  const char *what) {
        if (b->err.code)
                return -b->err.code;
        if (n > max - t->n)
                return crew_fail(&b->err, E2BIG, "spawn plan: more than %u %s", max, what);
        if (t->n + n > t->room) {
                size_t room = MAX_OF((size_t)t->room * 2, t->n + n + 16);
                char *grown = realloc(t->rows, room * size);
                if (!grown)
                        return crew_fail(&b->err, ENOMEM, "spawn plan: out of memory");
                t->rows = grown;
                t->room = (uint32_t)room;
        }
        if (n > 0)
                memcpy(t->rows + t->n * size, rows, n * size);
        t->n += (uint32_t)n;
        return 0;
}

static plan_off pool_bytes(struct plan_builder *b, const void *p, size_t n) {
        plan_off at = b->pool.n + 1;
        return append(b, &b->pool, p, n, 1, PLAN_MAX_BYTES, "bytes of text") < 0 ? 0 : at;
}

static plan_off pool_str(struct plan_builder *b, const char *s) {
        return s ? pool_bytes(b, s, strlen(s) + 1) : 0;
}

int plan_add_mount(struct plan_builder *b, enum plan_mount_kind kind, uint32_t flags, const char *src, const char *dst,
                   uint32_t mode, uint64_t size, uint32_t disk_uid, uint32_t disk_gid) {
        struct plan_mount m = {
                .kind = kind,
                .flags = flags,
                .src = pool_str(b, src),
                .dst = pool_str(b, dst),
                .mode = mode,
                .disk_uid = disk_uid,
                .disk_gid = disk_gid,
                .size = size,
        };
        return append(b, &b->mounts, &m, 1, sizeof(m), PLAN_MAX_MOUNTS, "mounts");
}

int plan_add_file(struct plan_builder *b, const char *dst, const void *bytes, size_t n, uint32_t mode) {
        struct plan_mount m = {
                .kind = PLAN_MOUNT_FILE,
                .src = n ? pool_bytes(b, bytes, n) : 0,
                .src_len = (uint32_t)n,
                .dst = pool_str(b, dst),
                .mode = mode,
        };
        return append(b, &b->mounts, &m, 1, sizeof(m), PLAN_MAX_MOUNTS, "mounts");
}

int plan_add_layer(struct plan_builder *b, enum plan_layer_kind kind) {
        struct plan_layer l = {.kind = kind, .first_rule = b->rules.n};
        int r = append(b, &b->layers, &l, 1, sizeof(l), PLAN_MAX_LAYERS, "layers");
        return r < 0 ? r : (int)b->layers.n - 1;
}

int plan_set_layer_flags(struct plan_builder *b, uint32_t flags) {
        if (!b->err.code && b->layers.n == 0)
                return crew_fail(&b->err, EINVAL, "spawn plan: flags before their layer");
        if (!b->err.code)
                ((struct plan_layer *)b->layers.rows)[b->layers.n - 1].flags = flags;
        return -b->err.code;
}

int plan_add_rule(struct plan_builder *b, const char *path, uint64_t access, uint32_t flags) {
        struct plan_rule rule = {.path = pool_str(b, path), .flags = flags, .access = access};

        if (!b->err.code && b->layers.n == 0)
                return crew_fail(&b->err, EINVAL, "spawn plan: a rule before its layer");
        int r = append(b, &b->rules, &rule, 1, sizeof(rule), PLAN_MAX_RULES, "rules");
        if (r == 0)
                ((struct plan_layer *)b->layers.rows)[b->layers.n - 1].n_rules++;
        return r;
}

int plan_add_program(struct plan_builder *b, enum plan_program_kind kind, enum plan_driver driver, const char *name,
                     const char *const *argv, size_t n_args, uint32_t layer, uint64_t timeout_ms, uint64_t max_output) {
        struct plan_program g = {
                .kind = kind,
                .driver = driver,
                .name = pool_str(b, name),
                .first_arg = b->words.n,
                .n_args = (uint32_t)n_args,
                .layer = layer,
                .timeout_ms = timeout_ms,
                .max_output = max_output,
        };
        for (size_t i = 0; i < n_args; i++) {
                plan_off o = pool_str(b, argv[i]);
                append(b, &b->words, &o, 1, sizeof(o), PLAN_MAX_STRINGS, "words");
        }
        return append(b, &b->programs, &g, 1, sizeof(g), PLAN_MAX_PROGRAMS, "programs");
}

int plan_add_env(struct plan_builder *b, const char *name, const char *value) {
        plan_off o = pool_bytes(b, name, strlen(name));

        pool_bytes(b, "=", 1);
        pool_str(b, value);
        return append(b, &b->env, &o, 1, sizeof(o), PLAN_MAX_STRINGS, "words");
}

int plan_set_workdir(struct plan_builder *b, const char *path) {
        b->head.workdir = pool_str(b, path);
        return -b->err.code;
}

int plan_set_bpf(struct plan_builder *b, const void *insns, size_t n_insns) {
        b->bpf.n = 0;
        return append(b, &b->bpf, insns, n_insns, sizeof(struct sock_filter), PLAN_MAX_BPF, "seccomp instructions");
}

int plan_set_netrules(struct plan_builder *b, const void *bytes, size_t n) {
        b->netrules.n = 0;
        return append(b, &b->netrules, bytes, n, 1, PLAN_MAX_BYTES, "bytes of net rules");
}

/* Lays one table into the block at *at (kept 8-aligned) and returns its offset; 0 when it is empty. */
static plan_off lay(char *block, size_t *at, const struct table *t, size_t size) {
        size_t off = *at;

        if (t->n == 0)
                return 0;
        if (block)
                memcpy(block + off, t->rows, t->n * size);
        *at = (off + t->n * size + 7) & ~(size_t)7;
        return (plan_off)off;
}

static size_t lay_all(const struct plan_builder *b, struct plan *h, char *block) {
        size_t at = (sizeof(struct plan) + 7) & ~(size_t)7;

        h->mounts = lay(block, &at, &b->mounts, sizeof(struct plan_mount));
        h->rules = lay(block, &at, &b->rules, sizeof(struct plan_rule));
        h->layers = lay(block, &at, &b->layers, sizeof(struct plan_layer));
        h->programs = lay(block, &at, &b->programs, sizeof(struct plan_program));
        h->strings = lay(block, &at, &b->words, sizeof(plan_off));
        h->bpf = lay(block, &at, &b->bpf, sizeof(struct sock_filter));
        h->netrules = lay(block, &at, &b->netrules, 1);
        return at;
}

static void move_off(plan_off *o, size_t pool) {
        if (*o)
                *o += (plan_off)pool - 1;
}

static void move_all(struct plan *h, char *block, size_t pool) {
        for (uint32_t i = 0; i < h->n_mounts; i++) {
                move_off(&((struct plan_mount *)(block + h->mounts))[i].src, pool);
                move_off(&((struct plan_mount *)(block + h->mounts))[i].dst, pool);
        }
        for (uint32_t i = 0; i < h->n_rules; i++)
                move_off(&((struct plan_rule *)(block + h->rules))[i].path, pool);
        for (uint32_t i = 0; i < h->n_programs; i++)
                move_off(&((struct plan_program *)(block + h->programs))[i].name, pool);
        for (uint32_t i = 0; i < h->n_strings; i++)
                move_off(&((plan_off *)(block + h->strings))[i], pool);
        move_off(&h->workdir, pool);
}

int plan_builder_finish(struct plan_builder *b, void **out, size_t *out_len, struct crew_err *err) {
        /* The environment follows the programs' words in one table. */
        uint32_t n_words = b->words.n;

        append(b, &b->words, b->env.rows, b->env.n, sizeof(plan_off), PLAN_MAX_STRINGS, "words");
        if (b->err.code) {
                if (err)
                        *err = b->err;
                return -b->err.code;
        }
        struct plan *h = &b->head;
        size_t pool = lay_all(b, h, NULL), total = pool + b->pool.n;
        if (total > PLAN_MAX_BYTES)
                return crew_fail(err, E2BIG, "spawn plan: %zu bytes, at most %u", total, PLAN_MAX_BYTES);
        _cleanup_free_ char *block = calloc(1, total);
        if (!block)
                return crew_fail(err, ENOMEM, "spawn plan: out of memory");
        h->n_mounts = b->mounts.n;
        h->n_rules = b->rules.n;
        h->n_layers = b->layers.n;
        h->n_programs = b->programs.n;
        h->n_strings = b->words.n;
        h->n_bpf = b->bpf.n;
        h->netrules_bytes = b->netrules.n;
        h->first_env = n_words;
        h->n_env = b->env.n;
        h->magic = PLAN_MAGIC;
        h->version = PLAN_VERSION;
        h->total_bytes = (uint32_t)total;
        lay_all(b, h, block);
        if (b->pool.n)
                memcpy(block + pool, b->pool.rows, b->pool.n);
        move_all(h, block, pool);
        memcpy(block, h, sizeof(*h));
        int r = plan_check(block, total, err);
        if (r < 0)
                return r;
        *out = crew_steal_ptr(&block);
        *out_len = total;
        return 0;
}
