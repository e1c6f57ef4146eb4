/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aligned columns.  On a terminal too narrow for all of them the least important are left out, then the widest that
 * may be is cut; in a pipe nothing is.
 */
#pragma once

#include "term.h"

#include <stddef.h>

struct table_column {
        const char *head; /* NULL in every column: no header line */
        bool right;       /* aligned right */
        unsigned drop;    /* 0: always shown; the highest is left out first */
        bool shrink;      /* may be cut */
};

struct table;
/* columns must outlive the table. */
struct table *table_new(const struct table_column *columns, size_t n);
struct table *table_free(struct table *t);
/* Cells fill row by row; text is made safe.  Memory that runs out shows as an empty cell. */
void table_cell(struct table *t, enum term_style style, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A line under the row of the last cell: what no column has room for.  "" is none; text is made safe, and cut on a
 * terminal. */
void table_note(struct table *t, const char *text);
void table_print(const struct table *t, const struct term *term, const char *indent);
