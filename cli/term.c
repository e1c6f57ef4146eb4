/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal: capabilities, styles and a live block. */
#include "term.h"

#include "common/util.h"
#include "text.h"

#include <assert.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>

bool term_env_utf8(void) {
        static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const char *v = getenv(names[i]);
                if (v && *v)
                        return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
        }
        return false;
}

void term_init(struct term *t, FILE *out) {
        const char *no = getenv("NO_COLOR"), *kind = getenv("TERM");
        bool dumb = !kind || !*kind || strcmp(kind, "dumb") == 0;

        *t = (struct term){.out = out, .tty = isatty(fileno(out)) == 1, .utf8 = term_env_utf8()};
        t->moves = t->tty && !dumb;
        t->colour = t->moves && !(no && *no);
}

static struct winsize size_of(const struct term *t) {
        struct winsize w = {0};

        if (t->tty)
                (void)ioctl(fileno(t->out), TIOCGWINSZ, &w);
        return w;
}

size_t term_width(const struct term *t) {
        uint64_t columns = 0;

        if (!t->tty)
                return 0;
        columns = size_of(t).ws_col;
        if (columns == 0 && getenv("COLUMNS") && crew_parse_u64(getenv("COLUMNS"), &columns) < 0)
                columns = 0;
        if (columns == 0)
                return 80;
        return MAX_OF((size_t)MIN_OF(columns, (uint64_t)1000), (size_t)16);
}

size_t term_height(const struct term *t) {
        size_t rows = size_of(t).ws_row;

        return rows ? rows : 24;
}

static const char *const style_on[] = {
        [TERM_PLAIN] = "",       [TERM_BOLD] = "\033[1m",   [TERM_DIM] = "\033[2m",
        [TERM_RED] = "\033[31m", [TERM_GREEN] = "\033[32m", [TERM_YELLOW] = "\033[33m",
};
static_assert(ELEMENTSOF(style_on) == TERM_STYLE_N, "a style without its escape");

const char *term_on(const struct term *t, enum term_style s) {
        return t->colour ? style_on[s] : "";
}

const char *term_off(const struct term *t, enum term_style s) {
        return t->colour && s != TERM_PLAIN ? "\033[0m" : "";
}

static const struct {
        const char *utf8, *ascii;
        enum term_style style;
} marks[] = {
        [TERM_OK] = {"\xe2\x9c\x93", "ok", TERM_GREEN},
        [TERM_FAIL] = {"\xe2\x9c\x97", "no", TERM_RED},
        [TERM_WARN] = {"!", "!!", TERM_YELLOW},
        [TERM_WAIT] = {"\xc2\xb7", "..", TERM_DIM},
};
static_assert(ELEMENTSOF(marks) == TERM_MARK_N, "a mark without its forms");

const char *term_mark(const struct term *t, enum term_mark m) {
        return t->utf8 ? marks[m].utf8 : marks[m].ascii;
}

enum term_style term_mark_style(enum term_mark m) {
        return marks[m].style;
}

const char *term_spinner(const struct term *t, uint64_t now_ns) {
        static const char *const dots[] = {"\xe2\xa0\x8b", "\xe2\xa0\x99", "\xe2\xa0\xb9", "\xe2\xa0\xb8", "\xe2\xa0\xbc",
                                           "\xe2\xa0\xb4", "\xe2\xa0\xa6", "\xe2\xa0\xa7", "\xe2\xa0\x87", "\xe2\xa0\x8f"};
        static const char *const ascii[] = {"| ", "/ ", "- ", "\\ "};
        uint64_t step = now_ns / 100000000u;

        return t->utf8 ? dots[step % ELEMENTSOF(dots)] : ascii[step % ELEMENTSOF(ascii)];
}

const char *term_dot(const struct term *t) {
        return t->utf8 ? " \xc2\xb7 " : " - ";
}

void term_put(const struct term *t, const char *s) {
        _cleanup_free_ char *safe = text_safe_dup(s, strlen(s), t->utf8);

        if (safe)
                fputs(safe, t->out);
}

void term_put_padded(const struct term *t, const char *s, size_t columns) {
        _cleanup_free_ char *safe = text_safe_dup(s, strlen(s), t->utf8);

        if (!safe)
                return;
        size_t have = text_columns(safe);
        fprintf(t->out, "%s%*s", safe, have < columns ? (int)(columns - have) : 0, "");
}

void term_live_clear(struct term *t) {
        if (t->live_now > 0)
                fprintf(t->out, "\r\033[%zuA\033[J", t->live_now);
        t->live_now = 0;
}

void term_live_line(struct term *t, enum term_style mark_style, const char *mark, const char *text) {
        _cleanup_free_ char *safe = text_safe_dup(text, strlen(text), t->utf8);
        size_t width = term_width(t), taken = 3 + text_columns(mark);

        if (!safe)
                return;
        text_fit(safe, width > taken ? width - taken : 0, t->utf8);
        fprintf(t->out, "  %s%s%s %s\n", term_on(t, mark_style), mark, term_off(t, mark_style), safe);
        t->live_now++;
}
