/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiling a checked draft into the frozen image, and reading it.
 *
 * The image is written by this process and sealed at once, so the accessors trust its offsets; nothing in it is a
 * pointer.  Padding is zero: the hash depends on the policy alone.
 */
#include "image.h"

#include "common/util.h"
#include "draft.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define IMAGE_MAGIC 0x4c4f5043u /* "CPOL" */
#define IMAGE_VERSION 2u

const char *const image_section_names[IMAGE_SECTION_N] = {
        [IMAGE_READ] = "filesystem.read",
        [IMAGE_WRITE] = "filesystem.write",
        [IMAGE_EXEC] = "filesystem.exec",
        [IMAGE_DENY] = "filesystem.deny",
        [IMAGE_READ_ONLY] = "filesystem.read_only",
        [IMAGE_RUNTIME] = "filesystem.runtime",
        [IMAGE_ENDPOINTS] = "network.allowed_endpoints",
        [IMAGE_DENY_ALL] = "network.deny_all",
        [IMAGE_PRESETS] = "network.presets",
        [IMAGE_ON_UNLISTED] = "network.on_unlisted",
        [IMAGE_ENFORCEMENT] = "network.enforcement",
        [IMAGE_NETWORK] = "network",
        [IMAGE_TOOLS_ALLOWED] = "tools.allowed",
        [IMAGE_TOOLS_DENIED] = "tools.denied",
        [IMAGE_TARGETS] = "ipc.allowed_targets",
};

struct image_path {
        uint32_t kind, path, tree, optional;
        struct policy_mark mark;
};
struct image_list {
        uint32_t at, n;
};
struct image_endpoint {
        uint32_t host, port, literal, wildcard, inspect, audit;
        uint32_t credential, preset, file; /* 0: none */
        uint32_t pad;
        struct image_list methods, paths; /* of offsets of strings */
        struct policy_mark mark, listed;
};
struct image_name {
        uint32_t name;
        struct policy_mark mark;
};

struct image_head {
        uint32_t magic, version, bytes, audit_files;
        uint32_t agent, file, crew_dir, profile; /* offsets of strings */
        uint32_t deny_all, ask, audit, ask_s;
        struct policy_limits limits;
        struct policy_mark sections[IMAGE_SECTION_N];
        struct image_list paths, endpoints, names[POLICY_LIST_N];
};

struct policy_image {
        uint32_t refs;
        int fd;
        const struct image_head *head;
        uint8_t sha256[CREW_SHA256_BYTES];
};

/* --- writing --- */

struct writer {
        char *bytes; /* NULL while only counting */
        size_t used;
};

static uint32_t put(struct writer *w, const void *p, size_t n) {
        size_t at = w->used;

        if (w->bytes)
                memcpy(w->bytes + at, p, n);
        w->used = (at + n + 7) / 8 * 8;
        return (uint32_t)at;
}

static uint32_t put_str(struct writer *w, const char *s) {
        return put(w, s ? s : "", strlen(s ? s : "") + 1);
}

static struct image_list put_paths(struct writer *w, const struct draft *d) {
        struct image_list l = {.n = (uint32_t)d->n_paths};
        struct writer rows = *w;

        l.at = (uint32_t)w->used;
        w->used += d->n_paths * sizeof(struct image_path);
        for (size_t i = 0; i < d->n_paths; i++) {
                const struct policy_path *p = &d->paths[i];
                struct image_path row = {p->kind, put_str(w, p->path), p->tree, p->optional, p->mark};
                put(&rows, &row, sizeof(row));
        }
        return l;
}

static uint32_t put_optional(struct writer *w, const char *s) {
        return s ? put_str(w, s) : 0;
}

static struct image_list put_texts(struct writer *w, const char *const *texts, uint32_t n) {
        struct image_list l = {.at = (uint32_t)w->used, .n = n};
        char *bytes = w->bytes;

        w->used = (w->used + n * sizeof(uint32_t) + 7) / 8 * 8;
        for (uint32_t i = 0; i < n; i++) {
                uint32_t off = put_str(w, texts[i]);
                if (bytes)
                        memcpy(bytes + l.at + i * sizeof(off), &off, sizeof(off));
        }
        return l;
}

static struct image_list put_endpoints(struct writer *w, const struct draft *d) {
        struct image_list l = {.n = (uint32_t)d->n_endpoints};
        struct writer rows = *w;

        l.at = (uint32_t)w->used;
        w->used += d->n_endpoints * sizeof(struct image_endpoint);
        for (size_t i = 0; i < d->n_endpoints; i++) {
                const struct policy_endpoint *e = &d->endpoints[i].e;
                struct image_endpoint row = {
                        .host = put_str(w, e->host),
                        .port = e->port,
                        .literal = e->literal,
                        .wildcard = e->wildcard,
                        .inspect = e->inspect,
                        .audit = e->audit,
                        .credential = put_optional(w, e->credential),
                        .preset = put_optional(w, e->preset),
                        .file = e->preset ? put_str(w, e->file) : 0,
                        .methods = put_texts(w, d->endpoints[i].methods, e->n_methods),
                        .paths = put_texts(w, d->endpoints[i].paths, e->n_paths),
                        .mark = e->mark,
                        .listed = e->listed,
                };
                put(&rows, &row, sizeof(row));
        }
        return l;
}

static struct image_list put_names(struct writer *w, const struct draft_list *names) {
        struct image_list l = {.n = (uint32_t)names->n};
        struct writer rows = *w;

        l.at = (uint32_t)w->used;
        w->used = (w->used + names->n * sizeof(struct image_name) + 7) / 8 * 8;
        for (size_t i = 0; i < names->n; i++) {
                struct image_name row = {put_str(w, names->items[i].name), names->items[i].mark};
                if (rows.bytes)
                        memcpy(rows.bytes + l.at + i * sizeof(row), &row, sizeof(row));
        }
        return l;
}

static void write_image(struct writer *w, const struct draft *d, const char *file, const char *crew_dir) {
        struct image_head head;

        memset(&head, 0, sizeof(head));
        w->used = (sizeof(head) + 7) / 8 * 8;
        head.magic = IMAGE_MAGIC;
        head.version = IMAGE_VERSION;
        head.audit_files = d->audit_files;
        head.agent = put_str(w, d->agent);
        head.file = put_str(w, file);
        head.crew_dir = put_str(w, crew_dir);
        head.profile = put_str(w, d->profile);
        head.deny_all = d->deny_all != NULL;
        head.ask = d->network.ask;
        head.audit = d->network.audit;
        head.ask_s = d->network.ask_s;
        head.limits = d->limits;
        memcpy(head.sections, d->sections, sizeof(head.sections));
        head.paths = put_paths(w, d);
        head.endpoints = put_endpoints(w, d);
        for (size_t i = 0; i < POLICY_LIST_N; i++)
                head.names[i] = put_names(w, &d->names[i]);
        head.bytes = (uint32_t)w->used;
        if (w->bytes)
                memcpy(w->bytes, &head, sizeof(head));
}

/* The sealed memfd and its size. */
static int seal_image(const struct draft *d, const char *file, const char *crew_dir, size_t *n, struct crew_err *err) {
        static_assert(sizeof(struct image_path) % 8 == 0 && sizeof(struct image_endpoint) % 8 == 0 &&
                              sizeof(struct policy_limits) % 8 == 0,
                      "rows need no padding");
        struct writer w = {0};

        write_image(&w, d, file, crew_dir);
        if (w.used > UINT32_MAX / 2)
                return crew_fail(err, EFBIG, "%s: the compiled policy is too large", file);
        *n = w.used;
        _cleanup_free_ char *bytes = calloc(1, *n);
        if (!bytes)
                return crew_fail(err, ENOMEM, "%s: out of memory", file);
        w = (struct writer){.bytes = bytes};
        write_image(&w, d, file, crew_dir);
        return crew_sealed_memfd("crew-policy", bytes, *n, err);
}

int image_make(const struct draft *d, const char *file, const char *crew_dir, struct policy_image **out,
               struct crew_err *err) {
        size_t n = 0;
        _cleanup_close_ int fd = seal_image(d, file, crew_dir, &n, err);

        if (fd < 0)
                return fd;
        struct policy_image *p = calloc(1, sizeof(*p));
        if (!p)
                return crew_fail(err, ENOMEM, "%s: out of memory", file);
        void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
                int r = crew_fail_errno(err, "cannot map the policy image");
                free(p);
                return r;
        }
        p->refs = 1;
        p->fd = crew_steal_fd(&fd);
        p->head = map;
        crew_sha256(map, n, p->sha256);
        *out = p;
        return 0;
}

struct policy_image *policy_image_ref(struct policy_image *p) {
        if (p)
                p->refs++;
        return p;
}

struct policy_image *policy_image_free(struct policy_image *p) {
        if (!p || --p->refs > 0)
                return NULL;
        munmap((void *)p->head, p->head->bytes);
        close(p->fd);
        free(p);
        return NULL;
}

/* --- reading --- */

static const void *at(const struct policy_image *p, uint32_t off) {
        crew_assert(off < p->head->bytes);
        return (const char *)p->head + off;
}

static const void *row(const struct policy_image *p, const struct image_list *l, size_t i, size_t size) {
        crew_assert(i < l->n);
        return at(p, l->at + (uint32_t)(i * size));
}

int policy_image_fd(const struct policy_image *p) {
        return p->fd;
}
const uint8_t *policy_image_sha256(const struct policy_image *p) {
        return p->sha256;
}
const char *policy_agent(const struct policy_image *p) {
        return at(p, p->head->agent);
}
const char *policy_file(const struct policy_image *p) {
        return at(p, p->head->file);
}
const char *image_crew_dir(const struct policy_image *p) {
        return at(p, p->head->crew_dir);
}
const char *policy_syscall_profile(const struct policy_image *p) {
        return at(p, p->head->profile);
}
size_t policy_n_paths(const struct policy_image *p) {
        return p->head->paths.n;
}
size_t policy_n_endpoints(const struct policy_image *p) {
        return p->head->endpoints.n;
}
size_t policy_n_names(const struct policy_image *p, enum policy_list which) {
        return p->head->names[which].n;
}
struct policy_limits policy_limits_of(const struct policy_image *p) {
        return p->head->limits;
}
enum policy_audit_files policy_audit_files_of(const struct policy_image *p) {
        return (enum policy_audit_files)p->head->audit_files;
}
bool policy_network_denied(const struct policy_image *p) {
        return p->head->deny_all || (p->head->endpoints.n == 0 && !p->head->ask && !p->head->audit);
}
bool image_deny_all(const struct policy_image *p) {
        return p->head->deny_all;
}
struct policy_mark image_section_at(const struct policy_image *p, enum image_section s) {
        return p->head->sections[s];
}

struct policy_path policy_path_at(const struct policy_image *p, size_t i) {
        const struct image_path *r = row(p, &p->head->paths, i, sizeof(*r));

        return (struct policy_path){(enum policy_path_kind)r->kind, at(p, r->path), r->tree, r->optional, r->mark};
}

static const char *optional_at(const struct policy_image *p, uint32_t off) {
        return off ? at(p, off) : NULL;
}

struct policy_endpoint policy_endpoint_at(const struct policy_image *p, size_t i) {
        const struct image_endpoint *r = row(p, &p->head->endpoints, i, sizeof(*r));

        return (struct policy_endpoint){
                .host = at(p, r->host),
                .port = (uint16_t)r->port,
                .literal = r->literal,
                .wildcard = r->wildcard,
                .inspect = r->inspect,
                .audit = r->audit,
                .n_methods = r->methods.n,
                .n_paths = r->paths.n,
                .credential = optional_at(p, r->credential),
                .preset = optional_at(p, r->preset),
                .file = r->file ? at(p, r->file) : policy_file(p),
                .mark = r->mark,
                .listed = r->listed,
        };
}

const char *policy_endpoint_method(const struct policy_image *p, size_t i, size_t k) {
        const struct image_endpoint *r = row(p, &p->head->endpoints, i, sizeof(*r));

        return at(p, *(const uint32_t *)row(p, &r->methods, k, sizeof(uint32_t)));
}

const char *policy_endpoint_path(const struct policy_image *p, size_t i, size_t k) {
        const struct image_endpoint *r = row(p, &p->head->endpoints, i, sizeof(*r));

        return at(p, *(const uint32_t *)row(p, &r->paths, k, sizeof(uint32_t)));
}

struct policy_network policy_network_of(const struct policy_image *p) {
        return (struct policy_network){.ask = p->head->ask, .audit = p->head->audit, .ask_s = p->head->ask_s};
}

struct policy_mark policy_network_mark(const struct policy_image *p) {
        return image_section_at(p, IMAGE_NETWORK);
}

struct policy_name policy_name_at(const struct policy_image *p, enum policy_list which, size_t i) {
        const struct image_name *r = row(p, &p->head->names[which], i, sizeof(*r));

        return (struct policy_name){at(p, r->name), r->mark};
}

enum image_section image_section_of_path(enum policy_path_kind kind) {
        static const enum image_section sections[POLICY_PATH_KIND_N] = {
                [POLICY_READ] = IMAGE_READ,           [POLICY_WRITE] = IMAGE_WRITE,
                [POLICY_EXEC] = IMAGE_EXEC,           [POLICY_DENY] = IMAGE_DENY,
                [POLICY_READ_ONLY] = IMAGE_READ_ONLY, [POLICY_RUNTIME] = IMAGE_RUNTIME,
                [POLICY_RUNTIME_READ] = IMAGE_RUNTIME};

        return sections[kind];
}
