/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people.  Knows UTF-8 by itself: no locale is loaded, so it costs nothing at start. */
#include "text.h"

#include "common/util.h"

#include <string.h>

/* Length of the valid UTF-8 sequence at s (at most n bytes), its code point in *cp; 0 if there is none. */
static size_t decode(const char *s, size_t n, uint32_t *cp) {
        const unsigned char c = (unsigned char)s[0];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

        if (len > n || !crew_utf8_ok(s, len))
                return 0;
        *cp = len == 1 ? c : c & (0xffu >> (len + 1));
        for (size_t i = 1; i < len; i++)
                *cp = *cp << 6 | ((unsigned char)s[i] & 0x3f);
        return len;
}

struct range {
        uint32_t first, last;
};

static bool in_ranges(uint32_t cp, const struct range *r, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (cp >= r[i].first && cp <= r[i].last)
                        return true;
        }
        return false;
}

/* C0, C1, line and paragraph separators, zero-width and direction controls, tags, noncharacters, private use. */
static bool is_unsafe(uint32_t cp) {
        static const struct range ranges[] = {
                {0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},      {0x180e, 0x180e},
                {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xe000, 0xf8ff},    {0xfdd0, 0xfdef},
                {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0x10ffff},
        };
        return in_ranges(cp, ranges, ELEMENTSOF(ranges));
}

static unsigned columns_of(uint32_t cp) {
        static const struct range none[] = {
                {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},
                {0x900, 0x902},   {0x93c, 0x93c},   {0x941, 0x948},   {0xe31, 0xe31},   {0xe34, 0xe3a},
                {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f},
        };
        static const struct range wide[] = {
                {0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xac00, 0xd7a3},
                {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
                {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
        };
        if (cp < 0x300)
                return 1;
        if (in_ranges(cp, none, ELEMENTSOF(none)))
                return 0;
        return in_ranges(cp, wide, ELEMENTSOF(wide)) ? 2 : 1;
}

/* What one unit of input (a character or a stray byte) becomes; returns how many input bytes it took. */
static size_t unit_safe(const char *s, size_t n, bool utf8, char out[16]) {
        uint32_t cp = 0;
        size_t len = decode(s, n, &cp);

        if (len == 0) {
                snprintf(out, 16, "\\x%02x", (unsigned char)s[0]);
                return 1;
        }
        if (cp == '\t')
                snprintf(out, 16, " ");
        else if (cp == '\n')
                snprintf(out, 16, "\\n");
        else if (is_unsafe(cp))
                snprintf(out, 16, cp < 0x80 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%06x", (unsigned)cp);
        else if (cp >= 0x80 && !utf8)
                snprintf(out, 16, "?");
        else
                snprintf(out, 16, "%.*s", (int)len, s);
        return len;
}

size_t text_safe(const char *s, size_t n, bool utf8, char *out, size_t out_size) {
        size_t used = 0;

        for (size_t i = 0; i < n;) {
                char unit[16];
                i += unit_safe(s + i, n - i, utf8, unit);
                size_t k = strlen(unit);
                if (used + k + 1 > out_size)
                        break;
                memcpy(out + used, unit, k);
                used += k;
        }
        if (out_size > 0)
                out[used] = '\0';
        return used;
}

char *text_safe_dup(const char *s, size_t n, bool utf8) {
        size_t room = n * 8 + 4; /* "\U10ffff" is the longest for four bytes, "\x1b" for one */
        char *out = malloc(room);

        if (out)
                text_safe(s, n, utf8, out, room);
        return out;
}

size_t text_columns(const char *s) {
        size_t n = strlen(s), columns = 0;
        uint32_t cp = 0;

        for (size_t i = 0; i < n;) {
                size_t len = decode(s + i, n - i, &cp);
                columns += len ? columns_of(cp) : 1;
                i += len ? len : 1;
        }
        return columns;
}

void text_fit(char *s, size_t columns, bool utf8) {
        const char *mark = utf8 ? "\xe2\x80\xa6" : "..";
        size_t mark_columns = utf8 ? 1 : 2, n = strlen(s), used = 0, i = 0;

        if (text_columns(s) <= columns)
                return;
        if (columns < mark_columns) {
                s[0] = '\0';
                return;
        }
        while (i < n) {
                uint32_t cp = 0;
                size_t len = decode(s + i, n - i, &cp);
                size_t w = len ? columns_of(cp) : 1;
                if (used + w > columns - mark_columns)
                        break;
                used += w;
                i += len ? len : 1;
        }
        memcpy(s + i, mark, strlen(mark) + 1);
}

const char *text_duration(uint64_t ns, char out[TEXT_WORD]) {
        uint64_t s = ns / 1000000000u;

        if (ns < 1000000u)
                snprintf(out, TEXT_WORD, "%u us", (unsigned)(ns / 1000));
        else if (ns < 100000000u)
                snprintf(out, TEXT_WORD, "%.1f ms", (double)ns / 1e6);
        else if (ns < 59950000000u)
                snprintf(out, TEXT_WORD, "%.1f s", (double)ns / 1e9);
        else if (s < 3600)
                snprintf(out, TEXT_WORD, "%u m %02u s", (unsigned)(s / 60), (unsigned)(s % 60));
        else if (s < 86400)
                snprintf(out, TEXT_WORD, "%u h %02u m", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
        else
                snprintf(out, TEXT_WORD, "%llu d %u h", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
        return out;
}

const char *text_duration_short(uint64_t ns, char out[TEXT_WORD]) {
        uint64_t s = ns / 1000000000u;

        if (s < 60)
                snprintf(out, TEXT_WORD, "%us", (unsigned)s);
        else if (s < 3600)
                snprintf(out, TEXT_WORD, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
        else if (s < 86400)
                snprintf(out, TEXT_WORD, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
        else
                snprintf(out, TEXT_WORD, "%llud%uh", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
        return out;
}

const char *text_size(uint64_t bytes, uint64_t max, char out[2 * TEXT_WORD]) {
        static const struct {
                const char *name;
                unsigned shift;
        } units[] = {{"GiB", 30}, {"MiB", 20}, {"KiB", 10}};
        uint64_t largest = max ? max : bytes;
        size_t i = 0;

        /* 2048 MiB reads better as 2 GiB, 1536 MiB better as it is. */
        while (i < ELEMENTSOF(units) - 1 &&
               (largest >> units[i].shift == 0 || largest & ((1ull << units[i].shift) / 4 - 1)))
                i++;
        if (i == ELEMENTSOF(units) - 1 && largest >> 20)
                i = 1;
        double unit = (double)(1ull << units[i].shift), used = (double)bytes / unit;
        int digits = used > 0 && used < 10 && bytes & ((1ull << units[i].shift) - 1) ? 1 : 0;
        if (max)
                snprintf(out, 2 * TEXT_WORD, "%.*f / %.0f %s", digits, used, (double)max / unit, units[i].name);
        else
                snprintf(out, 2 * TEXT_WORD, "%.*f %s", digits, used, units[i].name);
        return out;
}
