/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

#include "common/util.h"

#include <string.h>

struct text {
        const char *p, *end;
};

struct field {
        const char *key, *value;
        size_t key_len, value_len;
        bool quoted;
};

static bool take_word(struct text *t, const char *word) {
        size_t n = strlen(word);

        if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
                return false;
        t->p += n;
        return true;
}

static bool digits_u64(const char *s, size_t n, uint64_t *out) {
        char buf[24];

        if (n == 0 || n >= sizeof(buf))
                return false;
        memcpy(buf, s, n);
        buf[n] = '\0';
        return crew_parse_u64(buf, out) == 0;
}

static bool take_u64(struct text *t, uint64_t *out) {
        const char *start = t->p;

        while (t->p < t->end && *t->p >= '0' && *t->p <= '9')
                t->p++;
        return digits_u64(start, (size_t)(t->p - start), out);
}

/* "audit(SECONDS.MILLISECONDS:SERIAL): " */
static bool take_stamp(struct text *t, struct parse_record *out) {
        uint64_t sec, ms;

        if (!take_word(t, "audit(") || !take_u64(t, &sec) || !take_word(t, ".") || !take_u64(t, &ms) ||
            !take_word(t, ":") || !take_u64(t, &out->serial) || !take_word(t, "): ") || sec > UINT32_MAX * 4ull || ms > 999)
                return false;
        out->time_ns = sec * 1000000000u + ms * 1000000u;
        return true;
}

/* key=value or key="value"; the kernel never puts a quote inside of quotes (it prints such values in hex). */
static bool take_field(struct text *t, struct field *f) {
        while (t->p < t->end && *t->p == ' ')
                t->p++;
        f->key = t->p;
        while (t->p < t->end && *t->p != '=' && *t->p != ' ')
                t->p++;
        f->key_len = (size_t)(t->p - f->key);
        if (f->key_len == 0 || t->p == t->end || *t->p != '=')
                return false;
        f->value = ++t->p;
        f->quoted = t->p < t->end && *t->p == '"';
        if (f->quoted)
                f->value = ++t->p;
        while (t->p < t->end && *t->p != (f->quoted ? '"' : ' '))
                t->p++;
        f->value_len = (size_t)(t->p - f->value);
        if (f->quoted && t->p++ == t->end)
                return false;
        return true;
}

static bool key_is(const struct field *f, const char *key) {
        return f->key_len == strlen(key) && memcmp(f->key, key, f->key_len) == 0;
}

static bool value_is(const struct field *f, const char *value) {
        return f->value_len == strlen(value) && memcmp(f->value, value, f->value_len) == 0;
}

static bool starts_with(const struct field *f, const char *prefix) {
        return f->value_len >= strlen(prefix) && memcmp(f->value, prefix, strlen(prefix)) == 0;
}

static int hex_digit(char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                      : -1;
}

static bool hex_u64(const struct field *f, uint64_t *out) {
        *out = 0;
        for (size_t i = 0; i < f->value_len; i++) {
                int d = hex_digit(f->value[i]);
                if (d < 0)
                        return false;
                *out = *out << 4 | (uint64_t)d;
        }
        return f->value_len > 0 && f->value_len <= 16;
}

/* A value with unusual bytes comes unquoted, as pairs of hexadecimal digits. */
static size_t copy_name(const struct field *f, char *out, size_t room) {
        size_t n = 0;

        bool hex = !f->quoted && f->value_len % 2 == 0 && f->value_len > 0;
        for (size_t i = 0; i < f->value_len && hex; i++)
                hex = hex_digit(f->value[i]) >= 0;
        if (!hex) {
                n = MIN_OF(f->value_len, room);
                memcpy(out, f->value, n);
                return n;
        }
        for (; n < f->value_len / 2 && n < room; n++)
                out[n] = (char)((unsigned)hex_digit(f->value[2 * n]) << 4 | (unsigned)hex_digit(f->value[2 * n + 1]));
        return n;
}

/* Whole right names only. */
static void copy_access(const struct field *f, struct parse_record *out) {
        size_t n = MIN_OF(f->value_len, sizeof(out->access) - 1);

        if (n < f->value_len)
                while (n > 0 && f->value[n] != ',')
                        n--;
        memcpy(out->access, f->value, n);
        out->access[n] = '\0';
        out->what = starts_with(f, "net.")                                 ? EVIDENCE_NET_DENIED
                    : starts_with(f, "scope.") || starts_with(f, "ptrace") ? EVIDENCE_SCOPE_DENIED
                                                                           : EVIDENCE_FILE_DENIED;
}

struct net_peer {
        struct field address, port;
};

static void note_net(const struct field *f, struct net_peer *peer) {
        if (key_is(f, "daddr") || key_is(f, "saddr"))
                peer->address = *f;
        else if (key_is(f, "dest") || key_is(f, "src"))
                peer->port = *f;
}

static void format_peer(const struct net_peer *peer, struct parse_record *out) {
        const struct field *a = &peer->address;
        bool v6 = a->value_len > 0 && memchr(a->value, ':', a->value_len);
        int len = a->value_len ? (int)MIN_OF(a->value_len, (size_t)64) : 1;

        int n = snprintf(out->path, sizeof(out->path), "%s%.*s%s:%.*s", v6 ? "[" : "", len, a->value_len ? a->value : "*",
                         v6 ? "]" : "", (int)MIN_OF(peer->port.value_len, (size_t)8), peer->port.value);
        out->path_len = n > 0 ? (size_t)n : 0;
}

static bool parse_access(struct text *t, struct parse_record *out) {
        struct net_peer peer = {.port = {.value = ""}};
        struct field f;
        bool has_access = false;

        out->kind = PARSE_ACCESS;
        while (take_field(t, &f)) {
                if (key_is(&f, "blockers")) {
                        copy_access(&f, out);
                        has_access = true;
                } else if (key_is(&f, "path") || (key_is(&f, "name") && out->path_len == 0) || key_is(&f, "ocomm")) {
                        out->path_len = copy_name(&f, out->path, sizeof(out->path));
                } else {
                        note_net(&f, &peer);
                }
        }
        if (peer.port.value_len && out->path_len == 0)
                format_peer(&peer, out);
        return has_access && t->p == t->end;
}

static bool parse_domain(struct text *t, struct parse_record *out) {
        struct field f;
        uint64_t v;

        while (take_field(t, &f)) {
                if (key_is(&f, "status"))
                        out->kind = value_is(&f, "allocated")     ? PARSE_DOMAIN_ALLOCATED
                                    : value_is(&f, "deallocated") ? PARSE_DOMAIN_FREED
                                                                  : 0;
                else if (key_is(&f, "pid") && digits_u64(f.value, f.value_len, &v) && v <= INT32_MAX)
                        out->pid = (int32_t)v;
                else if (key_is(&f, "uid") && digits_u64(f.value, f.value_len, &v) && v <= UINT32_MAX)
                        out->uid = (uint32_t)v;
                else if (key_is(&f, "denials") && !digits_u64(f.value, f.value_len, &out->denials))
                        return false;
        }
        return out->kind != 0 && t->p == t->end;
}

bool parse_audit(uint32_t type, const char *text, size_t n, struct parse_record *out) {
        struct text t = {text, text + n};
        struct field f;

        memset(out, 0, offsetof(struct parse_record, path));
        out->pid = 0;
        out->uid = UINT32_MAX;
        out->denials = 0;
        while (t.end > t.p && (t.end[-1] == '\0' || t.end[-1] == ' '))
                t.end--; /* the netlink padding */
        if ((type != AUDIT_TYPE_LANDLOCK_ACCESS && type != AUDIT_TYPE_LANDLOCK_DOMAIN) || !take_stamp(&t, out))
                return false;
        if (!take_field(&t, &f) || !key_is(&f, "domain") || !hex_u64(&f, &out->domain))
                return false;
        return type == AUDIT_TYPE_LANDLOCK_ACCESS ? parse_access(&t, out) : parse_domain(&t, out);
}

/* Appends the components of path to out, which holds n bytes ("" means the root). */
static size_t join_components(const char *path, size_t len, char *out, size_t n, size_t room) {
        for (size_t at = 0; at < len;) {
                const char *part = path + at, *end = memchr(part, '/', len - at);
                size_t k = end ? (size_t)(end - part) : len - at;
                at += k + 1;
                if (k == 0 || (k == 1 && part[0] == '.'))
                        continue;
                if (k == 2 && part[0] == '.' && part[1] == '.') {
                        while (n > 0 && out[--n] != '/')
                                ;
                        continue;
                }
                if (n + k + 1 > room)
                        return SIZE_MAX;
                out[n++] = '/';
                memcpy(out + n, part, k);
                n += k;
        }
        return n;
}

size_t parse_join(const char *dir, size_t dir_len, const char *path, size_t path_len, char *out, size_t room) {
        size_t n = 0;

        if (room == 0)
                return 0;
        if (path_len == 0 || path[0] != '/') {
                if (dir_len == 0 || dir[0] != '/')
                        return 0;
                n = join_components(dir, dir_len, out, 0, room);
        }
        if (n != SIZE_MAX)
                n = join_components(path, path_len, out, n, room);
        if (n == SIZE_MAX)
                return 0;
        if (n == 0)
                out[n++] = '/';
        return n;
}

bool parse_within(const char *tree, size_t tree_len, const char *path, size_t path_len) {
        while (tree_len > 1 && tree[tree_len - 1] == '/')
                tree_len--;
        if (path_len < tree_len || memcmp(tree, path, tree_len) != 0)
                return false;
        return path_len == tree_len || path[tree_len] == '/' || tree_len == 1;
}
