/* SPDX-License-Identifier: Apache-2.0 */
#include "edit.h"

#include "arena.h"
#include "common/util.h"
#include "node.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct edit {
        const char *file, *bytes;
        size_t n;
        const char *endpoint;
        struct arena arena;
        const struct node *doc, *network, *list; /* list NULL: there is none yet */
        struct policy_edit *out;
};

static int refuse(struct edit *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct edit *e, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(e->out->why, sizeof(e->out->why), fmt, ap);
        va_end(ap);
        return POLICY_EDIT_REFUSED;
}

/* --- places in the text --- */

/* Lines as YAML ends them, columns in characters.  What it counts otherwise (U+2028 and such) shows in the comparison. */
static size_t offset_of(const struct edit *e, struct policy_mark m) {
        size_t at = 0;

        for (uint32_t line = 1; line < m.line && at < e->n; at++) {
                bool pair = e->bytes[at] == '\r' && at + 1 < e->n && e->bytes[at + 1] == '\n';
                line += e->bytes[at] == '\n' || (e->bytes[at] == '\r' && !pair);
        }
        for (uint32_t column = 1; column < m.column && at < e->n; column++) {
                at++;
                while (at < e->n && ((unsigned char)e->bytes[at] & 0xc0) == 0x80)
                        at++;
        }
        return at;
}

/* 0 behind the end: marks may be off where YAML counts lines and we do not. */
static char byte_at(const struct edit *e, size_t at) {
        return at < e->n ? e->bytes[at] : '\0';
}

static size_t line_start(const struct edit *e, size_t at) {
        while (at > 0 && e->bytes[at - 1] != '\n')
                at--;
        return at;
}

/* Behind the line's end; e->n for a last line without one. */
static size_t line_end(const struct edit *e, size_t at) {
        while (at < e->n && e->bytes[at] != '\n')
                at++;
        return MIN_OF(at + 1, e->n);
}

static const char *newline(const struct edit *e) {
        const char *first = memchr(e->bytes, '\n', e->n);

        return first && first > e->bytes && first[-1] == '\r' ? "\r\n" : "\n";
}

static size_t skip_blanks(const struct edit *e, size_t at) {
        while (at < e->n && (e->bytes[at] == ' ' || e->bytes[at] == '\t'))
                at++;
        return at;
}

static bool is_flow(const struct node *n) {
        return n->end.line != 0;
}

/* Where the text of a node ends. */
static size_t end_of(const struct edit *e, const struct node *n) {
        while (!is_flow(n) && n->first) {
                n = n->first;
                while (n->next)
                        n = n->next;
        }
        return offset_of(e, is_flow(n) ? n->end : n->mark);
}

static const struct node *last_of(const struct node *list) {
        const struct node *n = list->first;

        while (n && n->next)
                n = n->next;
        return n;
}

/* --- making the new text --- */

struct piece {
        size_t at; /* into the old text */
        const char *text;
};

/* Pieces in order of their places. */
static int put_together(struct edit *e, const struct piece *pieces, size_t n_pieces) {
        size_t n = e->n, from = 0;

        for (size_t i = 0; i < n_pieces; i++)
                n += strlen(pieces[i].text);
        char *to = e->out->bytes = malloc(n + 1);
        if (!to)
                return -ENOMEM;
        for (size_t i = 0; i < n_pieces; i++) {
                memcpy(to, e->bytes + from, pieces[i].at - from);
                to = stpcpy(to + (pieces[i].at - from), pieces[i].text);
                from = pieces[i].at;
        }
        memcpy(to, e->bytes + from, e->n - from);
        to[e->n - from] = '\0';
        e->out->n = n;
        return 0;
}

/* As those before it are written: quoted in their way, or not. */
static const char *item_text(struct edit *e, const struct node *like) {
        char quote = like && like->kind == NODE_SCALAR ? byte_at(e, offset_of(e, like->mark)) : '"';
        bool needs = strpbrk(e->endpoint, "[]*{}#\"'") != NULL;

        if (quote == '\'')
                return arena_printf(&e->arena, "'%s'", e->endpoint);
        return arena_printf(&e->arena, quote == '"' || needs ? "\"%s\"" : "%s", e->endpoint);
}

/*   - "a:443"   # why
 * + - "b:443"                */
static int add_to_block(struct edit *e) {
        const struct node *last = last_of(e->list);
        size_t dash = offset_of(e, e->list->mark), start = line_start(e, dash), at = line_end(e, end_of(e, last));
        bool open = at > 0 && e->bytes[at - 1] != '\n'; /* the file's last line has no end */
        const char *item = item_text(e, last), *nl = newline(e);

        if (byte_at(e, dash) != '-' || skip_blanks(e, start) != dash)
                return refuse(e, "the list does not begin on a line of its own");
        const char *line = !item ? NULL
                                 : arena_printf(&e->arena, "%s%.*s- %s%s", open ? nl : "", (int)(dash - start),
                                                e->bytes + start, item, open ? "" : nl);
        return line ? put_together(e, &(struct piece){at, line}, 1) : -ENOMEM;
}

/* The item has a line of its own: so does the new one. */
static int add_flow_line(struct edit *e, size_t start, size_t first, size_t end) {
        size_t comma = skip_blanks(e, end);
        bool has_comma = byte_at(e, comma) == ',';
        const char *item = item_text(e, last_of(e->list));
        const char *line = !item ? NULL
                                 : arena_printf(&e->arena, "%.*s%s%s%s", (int)(first - start), e->bytes + start, item,
                                                has_comma ? "," : "", newline(e));
        const struct piece pieces[] = {{end, has_comma ? "" : ","}, {line_end(e, end), line}};

        return line ? put_together(e, pieces, ELEMENTSOF(pieces)) : -ENOMEM;
}

static int add_to_flow(struct edit *e) {
        const struct node *last = last_of(e->list);
        size_t open = offset_of(e, e->list->mark);
        const char *item = item_text(e, last);

        if (!item)
                return -ENOMEM;
        if (byte_at(e, open) != '[')
                return refuse(e, "the list could not be found in the text");
        if (!last)
                return put_together(e, &(struct piece){open + 1, item}, 1);
        size_t first = offset_of(e, last->mark), end = end_of(e, last), start = line_start(e, first);
        size_t closing = offset_of(e, e->list->end);
        if (skip_blanks(e, start) == first && closing > line_end(e, end))
                return add_flow_line(e, start, first, end);
        const char *text = arena_printf(&e->arena, ", %s", item);
        return text ? put_together(e, &(struct piece){end, text}, 1) : -ENOMEM;
}

/* network has no list yet: its first key. */
static int add_list(struct edit *e) {
        const struct node *first = e->network->first;
        const char *item = item_text(e, NULL), *text;

        if (!first)
                return refuse(e, "network is empty");
        if (is_flow(e->network)) {
                size_t open = offset_of(e, e->network->mark);
                text = item ? arena_printf(&e->arena, "allowed_endpoints: [%s], ", item) : NULL;
                if (byte_at(e, open) != '{')
                        return refuse(e, "the map could not be found in the text");
                return text ? put_together(e, &(struct piece){open + 1, text}, 1) : -ENOMEM;
        }
        size_t key = offset_of(e, first->key->mark), start = line_start(e, key);
        if (skip_blanks(e, start) != key)
                return refuse(e, "the keys of network do not begin on a line of their own");
        text = item ? arena_printf(&e->arena, "%.*sallowed_endpoints: [%s]%s", (int)(key - start), e->bytes + start, item,
                                   newline(e))
                    : NULL;
        return text ? put_together(e, &(struct piece){start, text}, 1) : -ENOMEM;
}

/* --- finding the place --- */

static const struct node *document_of(const struct node *docs, const char *agent) {
        for (const struct node *d = docs; d; d = d->next) {
                const struct node *name = node_get(d, "agent");
                if (agent ? name && name->kind == NODE_SCALAR && strcmp(name->text, agent) == 0 : !docs->next)
                        return d;
        }
        return NULL;
}

static int parse(struct edit *e, const char *bytes, size_t n, struct node **docs, struct crew_err *err) {
        struct policy_report report = {0};
        int r = node_parse(e->file, bytes, n, &e->arena, docs, &report, err);

        if (r < 0 && report.n > 0)
                crew_fail(err, EINVAL, "%s:%d:%d: %s", e->file, report.items[0].line, report.items[0].column,
                          report.items[0].text);
        policy_report_fini(&report);
        return r;
}

static int locate(struct edit *e, const struct node *docs, const char *agent) {
        const struct node *deny_all, *sandbox;

        if (!(e->doc = document_of(docs, agent)))
                return refuse(e, "there is no policy for agent '%s' in it", agent ? agent : "");
        sandbox = node_get(e->doc, "sandbox");
        e->network = sandbox ? node_get(sandbox, "network") : NULL;
        if (!e->network || e->network->kind != NODE_MAP)
                return refuse(e, "it has no network section");
        deny_all = node_get(e->network, "deny_all");
        if (deny_all && deny_all->kind == NODE_SCALAR && strcmp(deny_all->text, "true") == 0)
                return refuse(e, "network.deny_all is true (line %u)", deny_all->mark.line);
        e->list = node_get(e->network, "allowed_endpoints");
        if (e->list && e->list->kind != NODE_LIST)
                return refuse(e, "network.allowed_endpoints is no list (line %u)", e->list->mark.line);
        for (const struct node *i = e->list ? e->list->first : NULL; i; i = i->next) {
                if (i->kind == NODE_SCALAR && strcasecmp(i->text, e->endpoint) == 0) {
                        e->out->line = i->mark.line;
                        return POLICY_EDIT_LISTED;
                }
        }
        return POLICY_EDIT_DONE;
}

/* --- the proof --- */

static bool same_scalar(const struct node *a, const struct node *b) {
        return a->plain == b->plain && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static bool is_the_item(const struct edit *e, const struct node *n) {
        return n && n->kind == NODE_SCALAR && !n->next && strcmp(n->text, e->endpoint) == 0;
}

static bool same(const struct edit *e, const struct node *old, const struct node *new);

/* Entry by entry; the new item, or the list with it, may be there in addition. */
static bool same_entries(const struct edit *e, const struct node *old, const struct node *new) {
        const struct node *a = old->first, *b = new->first;

        if (old == e->network && !e->list && b && b->key && strcmp(b->key->text, "allowed_endpoints") == 0) {
                if (b->kind != NODE_LIST || b->n != 1 || !is_the_item(e, b->first))
                        return false;
                e->out->line = b->first->mark.line;
                b = b->next;
        }
        for (; a && b; a = a->next, b = b->next) {
                if ((a->key || b->key) && (!a->key || !b->key || !same_scalar(a->key, b->key)))
                        return false;
                if (!same(e, a, b))
                        return false;
        }
        if (old == e->list && !a && is_the_item(e, b)) {
                e->out->line = b->mark.line;
                return true;
        }
        return !a && !b;
}

static bool same(const struct edit *e, const struct node *old, const struct node *new) {
        if (old->kind != new->kind)
                return false;
        return old->kind == NODE_SCALAR ? same_scalar(old, new) : same_entries(e, old, new);
}

static int prove(struct edit *e, const struct node *docs) {
        struct crew_err ignored = CREW_ERR_NULL;
        const struct node *a = docs;
        struct node *again, *b;

        e->out->line = 0;
        int r = parse(e, e->out->bytes, e->out->n, &again, &ignored);
        if (r == -ENOMEM)
                return r;
        for (b = r < 0 ? NULL : again; a && b && same(e, a, b); a = a->next, b = b->next) {
        }
        if (r < 0 || a || b || e->out->line == 0)
                return refuse(e, "its layout is one that cannot be edited safely");
        return POLICY_EDIT_DONE;
}

static int edit(struct edit *e, const char *agent, struct crew_err *err) {
        struct node *docs;
        int r = parse(e, e->bytes, e->n, &docs, err);

        if (r < 0 || (r = locate(e, docs, agent)) != POLICY_EDIT_DONE)
                return r;
        r = !e->list ? add_list(e) : is_flow(e->list) ? add_to_flow(e) : add_to_block(e);
        return r == 0 ? prove(e, docs) : r;
}

int policy_edit_add_endpoint(const char *file, const char *bytes, size_t n, const char *agent, const char *endpoint,
                             struct policy_edit *out, struct crew_err *err) {
        struct edit e = {.file = file, .bytes = bytes, .n = n, .endpoint = endpoint, .out = out};

        *out = (struct policy_edit){0};
        int r = edit(&e, agent, err);
        arena_fini(&e.arena);
        if (r != POLICY_EDIT_DONE)
                free(crew_steal_ptr(&out->bytes));
        return r == -ENOMEM ? crew_fail(err, ENOMEM, "%s: out of memory", file) : r;
}
