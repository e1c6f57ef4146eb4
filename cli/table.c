/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned columns for the terminal. */
#include "table.h"

#include "common/util.h"
#include "text.h"

#include <stdarg.h>
#include <string.h>

#define GAP 2
#define SHRINK_MIN 6

struct cell {
        char *text; /* owned, raw */
        enum term_style style;
};

struct note {
        size_t row;
        char *text; /* owned, raw */
};

struct table {
        const struct table_column *columns;
        size_t n_columns, n_cells, room, n_notes;
        struct cell *cells; /* owned */
        struct note *notes; /* owned; by row */
};

/* How the table is laid out on one terminal. */
struct layout {
        size_t width[16];
        bool shown[16];
};

struct table *table_new(const struct table_column *columns, size_t n) {
        struct table *t = calloc(1, sizeof(*t));

        crew_assert(n <= ELEMENTSOF(((struct layout *)0)->width));
        if (t) {
                t->columns = columns;
                t->n_columns = n;
        }
        return t;
}

struct table *table_free(struct table *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i].text);
        for (size_t i = 0; i < t->n_notes; i++)
                free(t->notes[i].text);
        free(t->cells);
        free(t->notes);
        free(t);
        return NULL;
}

void table_cell(struct table *t, enum term_style style, const char *fmt, ...) {
        char *text = NULL;
        va_list ap;

        if (!t)
                return;
        if (t->n_cells == t->room) {
                size_t room = t->room ? t->room * 2 : 64;
                struct cell *grown = reallocarray(t->cells, room, sizeof(*grown));
                if (!grown)
                        return;
                t->cells = grown;
                t->room = room;
        }
        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                text = NULL;
        va_end(ap);
        t->cells[t->n_cells++] = (struct cell){text, style};
}

void table_note(struct table *t, const char *text) {
        struct note *grown = t && t->n_cells && *text ? reallocarray(t->notes, t->n_notes + 1, sizeof(*grown)) : NULL;

        if (!grown)
                return;
        t->notes = grown;
        t->notes[t->n_notes++] = (struct note){.row = (t->n_cells - 1) / t->n_columns, .text = strdup(text)};
}

static char *cell_safe(const struct cell *c, bool utf8) {
        return c->text ? text_safe_dup(c->text, strlen(c->text), utf8) : NULL;
}

static size_t total_width(const struct table *t, const struct layout *l, size_t indent) {
        size_t sum = indent, shown = 0;

        for (size_t c = 0; c < t->n_columns; c++) {
                if (!l->shown[c])
                        continue;
                sum += l->width[c];
                shown++;
        }
        return sum + (shown > 0 ? (shown - 1) * GAP : 0);
}

/* Leaves out the least important column still shown; false if none may go. */
static bool drop_one(const struct table *t, struct layout *l) {
        size_t worst = t->n_columns;

        for (size_t c = 0; c < t->n_columns; c++) {
                if (l->shown[c] && t->columns[c].drop > 0 &&
                    (worst == t->n_columns || t->columns[c].drop > t->columns[worst].drop))
                        worst = c;
        }
        if (worst == t->n_columns)
                return false;
        l->shown[worst] = false;
        return true;
}

static void shrink(const struct table *t, struct layout *l, size_t over) {
        while (over > 0) {
                size_t widest = t->n_columns;
                for (size_t c = 0; c < t->n_columns; c++) {
                        if (l->shown[c] && t->columns[c].shrink && l->width[c] > SHRINK_MIN &&
                            (widest == t->n_columns || l->width[c] > l->width[widest]))
                                widest = c;
                }
                if (widest == t->n_columns)
                        return;
                l->width[widest]--;
                over--;
        }
}

static struct layout lay_out(const struct table *t, const struct term *term, size_t indent) {
        struct layout l = {0};
        size_t limit = term_width(term);

        for (size_t c = 0; c < t->n_columns; c++) {
                l.shown[c] = true;
                l.width[c] = t->columns[c].head ? strlen(t->columns[c].head) : 0;
        }
        for (size_t i = 0; i < t->n_cells; i++) {
                _cleanup_free_ char *safe = cell_safe(&t->cells[i], term->utf8);
                size_t w = safe ? text_columns(safe) : 0, c = i % t->n_columns;
                l.width[c] = MAX_OF(l.width[c], w);
        }
        if (limit == 0)
                return l;
        while (total_width(t, &l, indent) > limit && drop_one(t, &l))
                ;
        size_t total = total_width(t, &l, indent);
        if (total > limit)
                shrink(t, &l, total - limit);
        return l;
}

/* The last column of a line that is not empty; row NULL: the header. */
static size_t last_shown(const struct table *t, const struct layout *l, const struct cell *row) {
        size_t last = 0;

        for (size_t c = 0; c < t->n_columns; c++) {
                if (l->shown[c] && (!row || (row[c].text && *row[c].text)))
                        last = c;
        }
        return last;
}

/* One cell; text is safe and owned by the caller.  Nothing trails the last column of a line. */
static void put_cell(const struct term *term, const struct table_column *col, size_t width, bool last, char *text,
                     enum term_style style) {
        text_fit(text, width, term->utf8);
        size_t have = text_columns(text);
        int pad = have < width ? (int)(width - have) : 0;

        if (col->right)
                fprintf(term->out, "%*s", pad, "");
        fprintf(term->out, "%s%s%s", term_on(term, style), text, term_off(term, style));
        if (!last)
                fprintf(term->out, "%*s", (col->right ? 0 : pad) + GAP, "");
}

static void print_row(const struct table *t, const struct layout *l, const struct term *term, const char *indent,
                      const struct cell *row) {
        size_t last = last_shown(t, l, row);

        fputs(indent, term->out);
        for (size_t c = 0; c <= last; c++) {
                struct cell head = {.text = (char *)t->columns[c].head, .style = TERM_BOLD};
                const struct cell *cell = row ? &row[c] : &head;
                _cleanup_free_ char *safe = cell_safe(cell, term->utf8);
                char none[1] = "";
                if (l->shown[c])
                        put_cell(term, &t->columns[c], l->width[c], c == last, safe ? safe : none, cell->style);
        }
        fputc('\n', term->out);
}

static void print_note(const struct term *term, const char *indent, const char *text) {
        _cleanup_free_ char *safe = text ? text_safe_dup(text, strlen(text), term->utf8) : NULL;
        size_t width = term_width(term), before = strlen(indent) + GAP;

        if (!safe)
                return;
        if (width > before)
                text_fit(safe, width - before, term->utf8);
        fprintf(term->out, "%s%*s%s%s%s\n", indent, GAP, "", term_on(term, TERM_DIM), safe, term_off(term, TERM_DIM));
}

void table_print(const struct table *t, const struct term *term, const char *indent) {
        if (!t || t->n_columns == 0)
                return;
        struct layout l = lay_out(t, term, strlen(indent));

        if (t->columns[0].head)
                print_row(t, &l, term, indent, NULL);
        size_t note = 0;
        for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns) {
                print_row(t, &l, term, indent, &t->cells[i]);
                for (; note < t->n_notes && t->notes[note].row <= i / t->n_columns; note++)
                        print_note(term, indent, t->notes[note].text);
        }
}
