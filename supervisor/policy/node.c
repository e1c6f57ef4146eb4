/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The YAML reader.  The bytes may be anything: all that libyaml accepts beyond a plain tree of maps, lists and scalars
 * is refused here, and the tree is bounded in bytes, nodes, entries, depth and documents.
 */
#include "node.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

struct reader {
        yaml_parser_t parser;
        const char *file, *bytes;
        size_t n_bytes;
        struct arena *arena;
        struct policy_report *report;
        size_t n_nodes;
};

/* Outcome of the functions below besides 0 and -errno: the problem is in the report, stop reading. */
enum { READER_REPORTED = 1 };

static struct policy_mark mark_of(const yaml_mark_t *m) {
        return (struct policy_mark){.line = (uint32_t)m->line + 1, .column = (uint32_t)m->column + 1};
}

#define refuse(rd, m, hint, ...)                                                                                           \
        (policy_report_add((rd)->report, false, (rd)->file, (int)(m)->line + 1, (int)(m)->column + 1, (hint),              \
                           __VA_ARGS__),                                                                                   \
         READER_REPORTED)

static int syntax_error(struct reader *rd) {
        const yaml_parser_t *p = &rd->parser;
        const yaml_mark_t *m = &p->problem_mark;

        if (p->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        if (p->error == YAML_READER_ERROR) {
                size_t line = 1;
                for (size_t i = 0; i < p->problem_offset && i < rd->n_bytes; i++)
                        line += rd->bytes[i] == '\n';
                policy_report_add(rd->report, false, rd->file, (int)line, 0, "", "not UTF-8 text: %s", p->problem);
                return READER_REPORTED;
        }
        if (m->index < rd->n_bytes && rd->bytes[m->index] == '\t')
                return refuse(rd, m, "use spaces", "a tab cannot indent YAML");
        return refuse(rd, m, p->context ? p->context : "", "not valid YAML: %s", p->problem ? p->problem : "syntax error");
}

static int next_event(struct reader *rd, yaml_event_t *ev) {
        return yaml_parser_parse(&rd->parser, ev) ? 0 : syntax_error(rd);
}

static int node_new(struct reader *rd, const yaml_event_t *ev, enum node_kind kind, struct node **out) {
        if (++rd->n_nodes > NODE_MAX_NODES)
                return refuse(rd, &ev->start_mark, "", "more than %u values in one file", NODE_MAX_NODES);
        struct node *n = arena_alloc(rd->arena, sizeof(*n));
        if (!n)
                return -ENOMEM;
        n->kind = kind;
        n->mark = mark_of(&ev->start_mark);
        *out = n;
        return 0;
}

static int refuse_decoration(struct reader *rd, const yaml_event_t *ev, const yaml_char_t *anchor, const yaml_char_t *tag) {
        if (anchor)
                return refuse(rd, &ev->start_mark, "write the value out", "anchors are not accepted (&%.40s)", anchor);
        if (tag)
                return refuse(rd, &ev->start_mark, "leave it out; each key knows its type", "tags are not accepted (%.60s)",
                              tag);
        return 0;
}

static int read_scalar(struct reader *rd, const yaml_event_t *ev, struct node **out) {
        const char *text = (const char *)ev->data.scalar.value;
        size_t len = ev->data.scalar.length;
        int r = refuse_decoration(rd, ev, ev->data.scalar.anchor, ev->data.scalar.tag);

        if (r == 0 && memchr(text, '\0', len))
                r = refuse(rd, &ev->start_mark, "", "a NUL character is not accepted");
        if (r == 0)
                r = node_new(rd, ev, NODE_SCALAR, out);
        if (r != 0)
                return r;
        (*out)->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        (*out)->len = len;
        (*out)->end = mark_of(&ev->end_mark);
        (*out)->text = arena_strndup(rd->arena, text, len);
        return (*out)->text ? 0 : -ENOMEM;
}

static int read_value(struct reader *rd, yaml_event_t *ev, unsigned depth, struct node **out);

static int check_key(struct reader *rd, const struct node *map, const yaml_event_t *ev, const struct node *key) {
        if (key->kind != NODE_SCALAR)
                return refuse(rd, &ev->start_mark, "", "a key must be a single word, not %s",
                              key->kind == NODE_MAP ? "a map" : "a list");
        if (key->plain && strcmp(key->text, "<<") == 0)
                return refuse(rd, &ev->start_mark, "write the keys out", "merge keys (<<) are not accepted");
        for (const struct node *e = map->first; e; e = e->next) {
                if (e->key->len == key->len && memcmp(e->key->text, key->text, key->len) == 0)
                        return refuse(rd, &ev->start_mark, "keep one of them", "duplicate key '%.80s' (first on line %u)",
                                      key->text, e->key->mark.line);
        }
        return 0;
}

/* One entry of a collection; *end is set at its closing event. */
static int read_entry(struct reader *rd, struct node *parent, unsigned depth, struct node **entry, bool *end) {
        yaml_event_t ev;
        struct node *key = NULL;
        int r = next_event(rd, &ev);

        if (r != 0)
                return r;
        *end = ev.type == YAML_MAPPING_END_EVENT || ev.type == YAML_SEQUENCE_END_EVENT;
        if (*end && parent->end.line)
                parent->end = mark_of(&ev.end_mark);
        if (!*end && parent->kind == NODE_MAP) {
                r = read_value(rd, &ev, depth + 1, &key);
                if (r == 0)
                        r = check_key(rd, parent, &ev, key);
                yaml_event_delete(&ev);
                if (r != 0 || (r = next_event(rd, &ev)) != 0)
                        return r;
        }
        if (!*end)
                r = read_value(rd, &ev, depth + 1, entry);
        yaml_event_delete(&ev);
        if (!*end && r == 0)
                (*entry)->key = key;
        return r;
}

static int read_collection(struct reader *rd, const yaml_event_t *ev, unsigned depth, struct node **out) {
        bool map = ev->type == YAML_MAPPING_START_EVENT, end = false;
        struct node **tail;
        int r = map ? refuse_decoration(rd, ev, ev->data.mapping_start.anchor, ev->data.mapping_start.tag)
                    : refuse_decoration(rd, ev, ev->data.sequence_start.anchor, ev->data.sequence_start.tag);

        if (r == 0 && depth >= NODE_MAX_DEPTH)
                r = refuse(rd, &ev->start_mark, "", "nested more than %u levels deep", NODE_MAX_DEPTH);
        if (r == 0)
                r = node_new(rd, ev, map ? NODE_MAP : NODE_LIST, out);
        if (r != 0)
                return r;
        if (map ? ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                : ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE)
                (*out)->end = (*out)->mark; /* the closing event says where */
        tail = &(*out)->first;
        for (;;) {
                struct node *entry = NULL;
                r = read_entry(rd, *out, depth, &entry, &end);
                if (r != 0 || end)
                        return r;
                *tail = entry;
                tail = &entry->next;
                if (++(*out)->n > NODE_MAX_ENTRIES)
                        return refuse(rd, &ev->start_mark, "", "more than %u entries in one %s", NODE_MAX_ENTRIES,
                                      map ? "map" : "list");
        }
}

static int read_value(struct reader *rd, yaml_event_t *ev, unsigned depth, struct node **out) {
        if (ev->type == YAML_SCALAR_EVENT)
                return read_scalar(rd, ev, out);
        if (ev->type == YAML_MAPPING_START_EVENT || ev->type == YAML_SEQUENCE_START_EVENT)
                return read_collection(rd, ev, depth, out);
        if (ev->type == YAML_ALIAS_EVENT)
                return refuse(rd, &ev->start_mark, "write the value out", "aliases are not accepted (*%.40s)",
                              ev->data.alias.anchor);
        return refuse(rd, &ev->start_mark, "", "not valid YAML: a value was expected");
}

static int read_document(struct reader *rd, const yaml_event_t *start, struct node **root) {
        yaml_event_t ev;

        if (start->data.document_start.version_directive ||
            start->data.document_start.tag_directives.start != start->data.document_start.tag_directives.end)
                return refuse(rd, &start->start_mark, "leave the line out", "%% directives are not accepted");
        int r = next_event(rd, &ev);
        if (r != 0)
                return r;
        r = read_value(rd, &ev, 0, root);
        yaml_event_delete(&ev);
        if (r != 0 || (r = next_event(rd, &ev)) != 0) /* the end of the document */
                return r;
        yaml_event_delete(&ev);
        return 0;
}

static int read_documents(struct reader *rd, struct node **tail) {
        for (unsigned n = 0;;) {
                yaml_event_t ev;
                int r = next_event(rd, &ev);
                if (r != 0)
                        return r;
                bool end = ev.type == YAML_STREAM_END_EVENT;
                if (ev.type == YAML_DOCUMENT_START_EVENT)
                        r = ++n > NODE_MAX_DOCUMENTS ? refuse(rd, &ev.start_mark, "", "more than %u documents in one file",
                                                              NODE_MAX_DOCUMENTS)
                                                     : read_document(rd, &ev, tail);
                yaml_event_delete(&ev);
                if (r != 0 || end)
                        return r;
                if (*tail)
                        tail = &(*tail)->next;
        }
}

int node_parse(const char *file, const char *bytes, size_t n, struct arena *arena, struct node **docs,
               struct policy_report *report, struct crew_err *err) {
        struct reader rd = {.file = file, .bytes = bytes, .n_bytes = n, .arena = arena, .report = report};

        *docs = NULL;
        if (n > NODE_MAX_BYTES) {
                policy_report_add(report, false, file, 0, 0, "", "larger than %u bytes", NODE_MAX_BYTES);
                return crew_fail(err, EINVAL, "%s: larger than %u bytes", file, NODE_MAX_BYTES);
        }
        if (!yaml_parser_initialize(&rd.parser))
                return crew_fail(err, ENOMEM, "out of memory reading %s", file);
        yaml_parser_set_encoding(&rd.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&rd.parser, (const unsigned char *)bytes, n);
        int r = read_documents(&rd, docs);
        yaml_parser_delete(&rd.parser);
        if (r < 0)
                return crew_fail(err, -r, "out of memory reading %s", file);
        if (r == READER_REPORTED)
                return crew_fail(err, EINVAL, "%s cannot be read", file);
        return 0;
}

const struct node *node_get(const struct node *map, const char *key) {
        if (map->kind != NODE_MAP)
                return NULL;
        for (const struct node *e = map->first; e; e = e->next)
                if (strcmp(e->key->text, key) == 0)
                        return e;
        return NULL;
}

bool node_is_null(const struct node *n) {
        static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

        if (n->kind != NODE_SCALAR || !n->plain)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(nulls); i++)
                if (strcmp(n->text, nulls[i]) == 0)
                        return true;
        return false;
}

const char *node_describe(const struct node *n, char *buf, size_t size) {
        if (n->kind != NODE_SCALAR)
                return n->kind == NODE_MAP ? "a map" : "a list";
        if (node_is_null(n))
                return "nothing";
        snprintf(buf, size, "'%.60s'%s", n->text, n->len > 60 ? "..." : "");
        return buf;
}
