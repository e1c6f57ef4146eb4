/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_report.h"

#include "jsonout.h"

#include <inttypes.h>
#include <string.h>

static bool chain_broken(const struct audit_finding *f) {
        return f->chain.bad_line != 0 || f->chain.bad_seq != 0;
}

static bool broken(const struct audit_finding *f) {
        return f->problem[0] != '\0';
}

static void stream_json(struct audit_report *t, const char *name, const char *path, const struct audit_finding *f) {
        json_t *o =
                json_pack("{s:o, s:o, s:I, s:I, s:b, s:b, s:b}", "stream", jsonout_text(name), "path", jsonout_text(path),
                          "records", (json_int_t)f->chain.records, "signed", (json_int_t)f->signed_records, "checkpoint",
                          (int)f->checkpoint, "intact", (int)!broken(f), "torn_tail", (int)f->chain.torn_tail);

        json_object_set_new(o, "head", jsonout_text(f->chain.head_hex));
        json_object_set_new(o, "root", jsonout_text(f->root_hex));
        if (chain_broken(f)) {
                json_object_set_new(o, "bad_line", json_integer((json_int_t)f->chain.bad_line));
                json_object_set_new(o, "bad_seq", json_integer((json_int_t)f->chain.bad_seq));
        }
        if (broken(f))
                json_object_set_new(o, "problem", jsonout_text(f->problem));
        json_array_append_new(t->streams, o);
}

static void put_intact(const struct audit_report *t, const struct audit_finding *f) {
        char how[48] = "signed";

        if (f->signed_records == 0)
                snprintf(how, sizeof(how), "not signed");
        else if (f->signed_records < f->chain.records)
                snprintf(how, sizeof(how), "%" PRIu64 " signed", f->signed_records);
        fprintf(t->term.out, "intact, %s   head %s\n", how, f->chain.head_hex);
}

static void put_broken(const struct audit_report *t, const char *path, const struct audit_finding *f) {
        const struct term *term = &t->term;

        if (chain_broken(f))
                fprintf(term->out, "BROKEN at line %" PRIu64 " (record %" PRIu64 ")\n      ", f->chain.bad_line,
                        f->chain.bad_seq);
        else
                fputs("BROKEN\n      ", term->out);
        term_put(term, f->problem);
        fputs("\n      ", term->out);
        term_put(term, path);
        fputc('\n', term->out);
}

static void stream_text(const struct audit_report *t, const char *name, const char *path, const struct audit_finding *f) {
        enum term_mark mark = broken(f) ? TERM_FAIL : f->chain.torn_tail || f->signed_records == 0 ? TERM_WARN : TERM_OK;
        enum term_style style = term_mark_style(mark);
        const struct term *term = &t->term;

        fprintf(term->out, "  %s%s%s ", term_on(term, style), term_mark(term, mark), term_off(term, style));
        term_put_padded(term, name, t->width);
        fprintf(term->out, "  %7" PRIu64 " record%s  ", f->chain.records, f->chain.records == 1 ? " " : "s");
        if (broken(f))
                put_broken(t, path, f);
        else
                put_intact(t, f);
        if (f->chain.torn_tail)
                fputs("      the last line is cut off: a write was interrupted; everything before it counts\n", term->out);
}

void audit_report_stream(struct audit_report *t, const char *name, const char *path, const struct audit_finding *f) {
        if (t->streams)
                stream_json(t, name, path, f);
        else
                stream_text(t, name, path, f);
        *(broken(f) ? &t->streams_bad : &t->streams_ok) += 1;
        t->records += f->chain.records;
}

void audit_report_end(const struct audit_report *t) {
        if (t->streams) {
                jsonout_print(json_pack("{s:b, s:I, s:i, s:O}", "intact", (int)(t->streams_bad == 0), "records",
                                        (json_int_t)t->records, "elsewhere", (int)t->streams_elsewhere, "streams",
                                        t->streams));
                return;
        }
        if (t->streams_elsewhere > 0)
                printf("%u other stream%s that the crew's log knows %s not here\n", t->streams_elsewhere,
                       t->streams_elsewhere == 1 ? "" : "s", t->streams_elsewhere == 1 ? "is" : "are");
        if (t->streams_bad == 0)
                printf("%u stream%s, %" PRIu64 " records: intact\n", t->streams_ok, t->streams_ok == 1 ? "" : "s",
                       t->records);
        else
                printf("%u of %u streams BROKEN\n", t->streams_bad, t->streams_bad + t->streams_ok);
}
