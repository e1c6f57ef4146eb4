/* SPDX-License-Identifier: Apache-2.0 */
#include "creds_file.h"

#include "http_head.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES 1024

struct parser {
        struct creds_file *out;
        struct cred_spec *spec; /* the section we are in */
        uint32_t seen;          /* bits of keys[] */
        unsigned line;
        struct crew_err *err;
};

static int copy(struct parser *p, const char *key, char *to, size_t room, const char *value) {
        if (strlen(value) >= room)
                return crew_fail(p->err, EINVAL, "%u: %s: at most %zu characters", p->line, key, room - 1);
        strcpy(to, value);
        return 0;
}

static int take_host(struct parser *p, const char *key, const char *value) {
        char name[NETPOLICY_NAME_MAX];

        netpolicy_canonical(value, name);
        if (!name[0])
                return crew_fail(p->err, EINVAL, "%u: host: expected one host name, without wildcard, port or address",
                                 p->line);
        return copy(p, key, p->spec->host, sizeof(p->spec->host), name);
}

static int take_port(struct parser *p, const char *key, const char *value) {
        uint64_t v;

        if (crew_parse_u64(value, &v) < 0 || v == 0 || v > 65535)
                return crew_fail(p->err, EINVAL, "%u: port: expected a number from 1 to 65535", p->line);
        p->spec->port = (uint16_t)v;
        return 0;
}

static int take_path(struct parser *p, const char *key, const char *value) {
        if (p->spec->n_paths == CRED_PATHS_MAX)
                return crew_fail(p->err, EINVAL, "%u: path: at most %d of them", p->line, CRED_PATHS_MAX);
        if (value[0] != '/' || strpbrk(value, "?#\\"))
                return crew_fail(p->err, EINVAL, "%u: path: expected a pattern that begins with \"/\", like /v1/**",
                                 p->line);
        return copy(p, key, p->spec->paths[p->spec->n_paths++], CRED_TEXT_MAX, value);
}

/* Fields that frame or route a message are not for injecting. */
static int take_header(struct parser *p, const char *key, const char *value) {
        static const char *const taken[] = {
                "host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "accept-encoding",
                "te",   "trailer",        "keep-alive",        "date"};
        if (!http_token_ok(value, strlen(value)))
                return crew_fail(p->err, EINVAL, "%u: header: expected the name of a header", p->line);
        for (size_t i = 0; i < ELEMENTSOF(taken); i++) {
                if (strcasecmp(value, taken[i]) == 0)
                        return crew_fail(p->err, EINVAL, "%u: header: %s cannot carry a credential", p->line, taken[i]);
        }
        return copy(p, key, p->spec->header, sizeof(p->spec->header), value);
}

static int take_prefix(struct parser *p, const char *key, const char *value) {
        p->spec->prefix_given = true;
        return copy(p, key, p->spec->prefix, sizeof(p->spec->prefix), value);
}

static int take_plain(struct parser *p, const char *key, const char *value) {
        p->spec->plain_http = strcmp(value, "yes") == 0;
        if (!p->spec->plain_http && strcmp(value, "no") != 0)
                return crew_fail(p->err, EINVAL, "%u: plain_http: expected yes or no", p->line);
        return 0;
}

/* What crewd(8) keeps, or hands to its helpers. */
static bool is_shared(const char *variable) {
        static const char *const prefixes[] = {"CREWD_", "XDG_", "LD_"};

        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        }
        return false;
}

static int take_source(struct parser *p, const char *key, const char *value) {
        if (p->spec->source != CRED_NONE)
                return crew_fail(p->err, EINVAL,
                                 "%u: %s: the secret has a source already; exactly one of file, env, command", p->line,
                                 key);
        p->spec->source = key[0] == 'f' ? CRED_FILE : key[0] == 'e' ? CRED_ENV : CRED_COMMAND;
        if (p->spec->source == CRED_ENV && is_shared(value))
                return crew_fail(
                        p->err, EINVAL,
                        "%u: env: variables named CREWD_, XDG_ or LD_ are not for secrets: other programs get them too",
                        p->line);
        if (p->spec->source == CRED_COMMAND && value[0] != '/')
                return crew_fail(p->err, EINVAL, "%u: command: expected the absolute path of a program first", p->line);
        return copy(p, key, p->spec->from, sizeof(p->spec->from), value);
}

static const struct key {
        const char *name;
        int (*take)(struct parser *p, const char *key, const char *value);
        bool many;
} keys[] = {
        {"host", take_host, false},     {"port", take_port, false},     {"path", take_path, true},
        {"header", take_header, false}, {"prefix", take_prefix, false}, {"plain_http", take_plain, false},
        {"file", take_source, false},   {"env", take_source, false},    {"command", take_source, false},
};

static int end_section(struct parser *p) {
        struct cred_spec *s = p->spec;

        if (!s)
                return 0;
        if (!s->host[0])
                return crew_fail(p->err, EINVAL, "%u: [%s] has no host", s->line, s->name);
        if (s->source == CRED_NONE)
                return crew_fail(p->err, EINVAL, "%u: [%s] has no source; exactly one of file, env, command", s->line,
                                 s->name);
        if (!s->prefix_given && strcasecmp(s->header, "authorization") == 0)
                strcpy(s->prefix, "Bearer ");
        if (s->n_paths == 0)
                strcpy(s->paths[s->n_paths++], "/**");
        return 0;
}

static int begin_section(struct parser *p, char *line, size_t n) {
        int r = end_section(p);

        if (r < 0)
                return r;
        if (line[n - 1] != ']')
                return crew_fail(p->err, EINVAL, "%u: expected [name]", p->line);
        line[n - 1] = '\0';
        if (!crew_name_ok(line + 1))
                return crew_fail(p->err, EINVAL, "%u: a name is 1-63 of a-z, 0-9 and \"-\"", p->line);
        for (unsigned i = 0; i < p->out->n; i++) {
                if (strcmp(p->out->specs[i].name, line + 1) == 0)
                        return crew_fail(p->err, EINVAL, "%u: [%s] is there already, line %u", p->line, line + 1,
                                         p->out->specs[i].line);
        }
        if (p->out->n == CREDS_MAX)
                return crew_fail(p->err, EINVAL, "%u: at most %d credentials", p->line, CREDS_MAX);
        p->spec = &p->out->specs[p->out->n++];
        p->seen = 0;
        *p->spec = (struct cred_spec){.line = p->line, .port = 443, .header = "Authorization"};
        strcpy(p->spec->name, line + 1);
        return 0;
}

/* Quotes keep the blanks at the ends; there are no escapes. */
static int unquote(struct parser *p, const char *key, char **value) {
        char *v = *value;
        size_t n = strlen(v);

        if (n >= 2 && v[0] == '"' && v[n - 1] == '"' && !memchr(v + 1, '"', n - 2)) {
                v[n - 1] = '\0';
                *value = v + 1;
                return 0;
        }
        if (n == 0 || strchr(v, '"') || v[n - 1] == ' ')
                return crew_fail(p->err, EINVAL,
                                 "%u: %s: expected a value; one that is empty or ends with a blank stands in \"quotes\"",
                                 p->line, key);
        return 0;
}

static int unknown_key(struct parser *p, const char *key) {
        const char *names[ELEMENTSOF(keys)], *near;

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                names[i] = keys[i].name;
        near = crew_nearest(key, names, ELEMENTSOF(keys));
        if (near)
                return crew_fail(p->err, EINVAL, "%u: unknown key; did you mean %s?", p->line, near);
        return crew_fail(p->err, EINVAL,
                         "%u: unknown key; expected host, port, path, header, prefix, plain_http, file, env or command",
                         p->line);
}

static int take_line(struct parser *p, char *line) {
        char *eq = strchr(line, '='), *value, *end;
        int r;

        if (!eq)
                return crew_fail(p->err, EINVAL, "%u: expected [name] or key = value", p->line);
        if (!p->spec)
                return crew_fail(p->err, EINVAL, "%u: a key before the first [name]", p->line);
        for (end = eq; end > line && end[-1] == ' '; end--)
                ;
        value = eq + 1 + strspn(eq + 1, " ");
        *end = '\0';
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                if (strcmp(line, keys[i].name) != 0)
                        continue;
                if (!keys[i].many && (p->seen & (1u << i)))
                        return crew_fail(p->err, EINVAL, "%u: %s is there twice", p->line, keys[i].name);
                p->seen |= 1u << i;
                r = unquote(p, keys[i].name, &value);
                return r < 0 ? r : keys[i].take(p, keys[i].name, value);
        }
        return unknown_key(p, line);
}

static int parse_line(struct parser *p, const char *at, size_t n) {
        char line[LINE_MAX_BYTES + 1];

        if (n > LINE_MAX_BYTES)
                return crew_fail(p->err, EINVAL, "%u: a line of more than %d bytes", p->line, LINE_MAX_BYTES);
        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)at[i] < 0x20 || (unsigned char)at[i] >= 0x7f)
                        return crew_fail(p->err, EINVAL, "%u: only printable ASCII, no tabs, lines end with a line feed",
                                         p->line);
        }
        while (n > 0 && *at == ' ')
                at++, n--;
        memcpy(line, at, n);
        line[n] = '\0';
        if (n == 0 || line[0] == '#')
                return 0;
        return line[0] == '[' ? begin_section(p, line, n) : take_line(p, line);
}

int creds_file_parse(const char *text, size_t n, struct creds_file *out, struct crew_err *err) {
        struct parser p = {.out = out, .err = err};

        out->n = 0;
        for (size_t at = 0; at < n;) {
                const char *lf = memchr(text + at, '\n', n - at);
                const size_t len = lf ? (size_t)(lf - text) - at : n - at;
                p.line++;
                int r = parse_line(&p, text + at, len);
                if (r < 0)
                        return r;
                at += len + 1;
        }
        return end_section(&p);
}
