/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Problems found in files a user wrote, and how they look on a terminal.  What is quoted from a file is printed without
 * control characters, whatever bytes it holds.
 */
#include "policy.h"

#include "common/util.h"
#include "load.h"
#include "node.h"

#include <errno.h>
#include <string.h>

#define REPORT_MAX 64
#define SNIPPET_MAX 100 /* columns of a source line */

void policy_report_fini(struct policy_report *r) {
        free(r->items);
        *r = (struct policy_report){0};
}

/* A cut text must not end inside a character, nor carry control characters to the terminal. */
static void make_printable(char *s) {
        size_t n = strlen(s);

        while (n > 0 && !crew_utf8_ok(s, n))
                n--;
        s[n] = '\0';
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)s[i];
                if (c < 0x20 || c == 0x7f)
                        s[i] = ' ';
                else if (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0) /* C1 controls */
                        s[i] = s[i + 1] = ' ';
        }
}

void policy_report_add(struct policy_report *r, bool warning, const char *file, int line, int column, const char *hint,
                       const char *fmt, ...) {
        va_list ap;

        *(warning ? &r->warnings : &r->errors) += 1;
        if (r->n >= REPORT_MAX)
                return;
        if (!r->items)
                r->items = calloc(REPORT_MAX, sizeof(*r->items));
        if (!r->items)
                return; /* still counted: the load fails */
        struct policy_problem *p = &r->items[r->n++];
        p->warning = warning;
        p->line = line;
        p->column = column;
        snprintf(p->file, sizeof(p->file), "%s", file ? file : "");
        snprintf(p->hint, sizeof(p->hint), "%s", hint ? hint : "");
        va_start(ap, fmt);
        vsnprintf(p->text, sizeof(p->text), fmt, ap);
        va_end(ap);
        make_printable(p->file);
        make_printable(p->hint);
        make_printable(p->text);
}

struct source { /* the file last quoted */
        char file[sizeof(((struct policy_problem *)0)->file)];
        char *bytes;
        size_t n;
};

static void source_open(struct source *s, const char *file) {
        if (s->bytes && strcmp(s->file, file) == 0)
                return;
        free(s->bytes);
        s->bytes = NULL;
        s->n = 0;
        snprintf(s->file, sizeof(s->file), "%s", file);
        if (crew_read_file(file, NODE_MAX_BYTES, &s->bytes, &s->n, NULL) < 0)
                s->bytes = NULL;
}

/* Line number `line` without its newline, or NULL. */
static const char *source_line(const struct source *s, int line, size_t *len) {
        const char *p = s->bytes, *end = s->bytes + s->n;

        for (; p && line > 1; line--) {
                p = memchr(p, '\n', (size_t)(end - p));
                if (p)
                        p++;
        }
        if (!p || p >= end)
                return NULL;
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        *len = (size_t)((nl ? nl : end) - p);
        return p;
}

/* Columns count characters, as libyaml does. */
static size_t column_offset(const char *s, size_t n, size_t column) {
        size_t i = 0;

        for (size_t c = 1; c < column && i < n; c++) {
                i++;
                while (i < n && ((unsigned char)s[i] & 0xc0) == 0x80)
                        i++;
        }
        return i;
}

static size_t token_columns(const char *s, size_t n) {
        size_t i = 0, columns = 0;
        char quote = n && (*s == '"' || *s == '\'') ? *s : 0;

        for (; i < n; i++) {
                if (quote ? (i > 0 && s[i] == quote) : strchr(" \t\r,]}", s[i]) != NULL)
                        break;
                if (!quote && s[i] == ':' && (i + 1 == n || strchr(" \t\r", s[i + 1])))
                        break;
                columns += ((unsigned char)s[i] & 0xc0) != 0x80;
        }
        return MAX_OF(columns + (quote && i < n), (size_t)1);
}

static void print_snippet(FILE *f, const struct policy_problem *p, const char *text, size_t len, const char *on,
                          const char *off) {
        char shown[4 * SNIPPET_MAX + 1];
        size_t column = p->column > 0 ? (size_t)p->column : 1;
        size_t skip = column > SNIPPET_MAX * 3 / 4 ? column - SNIPPET_MAX / 2 : 0;
        size_t from = column_offset(text, len, skip + 1), at = column_offset(text, len, column);
        size_t to = column_offset(text, len, skip + SNIPPET_MAX + 1);

        to = MIN_OF(to, from + sizeof(shown) - 1); /* bytes that are not UTF-8 */
        memcpy(shown, text + from, to - from);
        shown[to - from] = '\0';
        make_printable(shown);
        fprintf(f, "%5d | %s\n", p->line, shown);
        if (p->column <= 0)
                return;
        size_t width = MIN_OF(token_columns(text + at, len - at), SNIPPET_MAX - (column - skip) + 1);
        fprintf(f, "      | %*s%s^", (int)(column - skip - 1), "", on);
        for (size_t i = 1; i < width; i++)
                fputc('~', f);
        fprintf(f, "%s%s%s\n", off, p->hint[0] ? " " : "", p->hint);
}

static void print_problem(FILE *f, struct source *src, const struct policy_problem *p, bool colour) {
        const char *on = !colour ? "" : p->warning ? "\033[33m" : "\033[31m", *off = colour ? "\033[0m" : "";
        const char *text = NULL;
        size_t len = 0;

        fprintf(f, "%s", p->file);
        if (p->line > 0)
                fprintf(f, ":%d", p->line);
        if (p->line > 0 && p->column > 0)
                fprintf(f, ":%d", p->column);
        fprintf(f, ": %s%s%s%s\n", p->warning ? on : "", p->warning ? "warning: " : "", p->warning ? off : "", p->text);
        if (p->line > 0) {
                source_open(src, p->file);
                text = source_line(src, p->line, &len);
        }
        if (text)
                print_snippet(f, p, text, len, on, off);
        if ((!text || p->column <= 0) && p->hint[0])
                fprintf(f, "      %s\n", p->hint);
}

void policy_report_print(const struct policy_report *r, void *file, bool colour) {
        struct source src = {0};
        FILE *f = file;

        for (size_t i = 0; i < r->n; i++)
                print_problem(f, &src, &r->items[i], colour);
        free(src.bytes);
        if (r->errors + r->warnings > r->n)
                fprintf(f, "(%zu more are not shown)\n", r->errors + r->warnings - r->n);
        if (r->errors)
                fprintf(f, "%zu error%s", r->errors, r->errors == 1 ? "" : "s");
        if (r->warnings)
                fprintf(f, "%s%zu warning%s", r->errors ? ", " : "", r->warnings, r->warnings == 1 ? "" : "s");
        if (r->errors + r->warnings)
                fputc('\n', f);
}

int report_refuse(const struct policy_report *report, size_t from, const char *file, struct crew_err *err) {
        for (size_t i = from; i < report->n; i++) {
                const struct policy_problem *p = &report->items[i];
                if (p->warning)
                        continue;
                if (p->line > 0)
                        return crew_fail(err, EINVAL, "%s:%d:%d: %s", p->file, p->line, p->column, p->text);
                return crew_fail(err, EINVAL, "%s: %s", p->file, p->text);
        }
        return crew_fail(err, EINVAL, "%s is not valid", file);
}
