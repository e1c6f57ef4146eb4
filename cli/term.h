/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal: how wide it is, whether it takes colour and UTF-8, and a live block at its end.
 *
 * Nothing but plain text is ever written to what is not a terminal.  Colour also needs NO_COLOR to be unset and TERM
 * not to be "dumb".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct term {
        FILE *out;
        bool tty, colour, utf8;
        bool moves;      /* the cursor can be moved: live lines are possible */
        size_t live_now; /* lines of the live block on the screen */
};

enum term_style { TERM_PLAIN, TERM_BOLD, TERM_DIM, TERM_RED, TERM_GREEN, TERM_YELLOW, TERM_STYLE_N };
enum term_mark { TERM_OK, TERM_FAIL, TERM_WARN, TERM_WAIT, TERM_MARK_N };

void term_init(struct term *t, FILE *out);
/* True if the environment says that text is UTF-8. */
bool term_env_utf8(void);
/* Columns now; 0 when it is no terminal: unlimited. */
size_t term_width(const struct term *t);
size_t term_height(const struct term *t);

/* The escape that switches a style on, and the one that ends it; "" without colour. */
const char *term_on(const struct term *t, enum term_style s);
const char *term_off(const struct term *t, enum term_style s);
/* One-column marks (two in ASCII, all alike). */
const char *term_mark(const struct term *t, enum term_mark m);
enum term_style term_mark_style(enum term_mark m);
const char *term_spinner(const struct term *t, uint64_t now_ns);
/* " · " or " - " */
const char *term_dot(const struct term *t);

/* Untrusted text, made safe, without a newline. */
void term_put(const struct term *t, const char *s);
/* The same padded to columns. */
void term_put_padded(const struct term *t, const char *s, size_t columns);

/* The live block: erase it, print what stays, draw it anew line by line. */
void term_live_clear(struct term *t);
/* One line of the block; safe text, cut to the width.  Style applies to the mark only. */
void term_live_line(struct term *t, enum term_style mark_style, const char *mark, const char *text);
