/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl audit verify: recomputes the hash chain of audit streams, offline. */
#include "cli.h"

#include "common/record.h"
#include "common/util.h"
#include "crews.h"
#include "jsonout.h"
#include "term.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct options {
        const char *crew, *agent;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "only this agent", CLI_COMPLETE_AGENT},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

struct tally {
        struct term term;
        json_t *streams; /* with --json */
        size_t width;
        unsigned streams_ok, streams_bad;
        uint64_t records;
};

static bool broken(const struct record_verify *v) {
        return v->bad_line != 0 || v->bad_seq != 0;
}

static void stream_json(struct tally *t, const char *name, const char *path, const struct record_verify *v) {
        json_t *o =
                json_pack("{s:o, s:o, s:I, s:b, s:b}", "stream", jsonout_text(name), "path", jsonout_text(path), "records",
                          (json_int_t)v->records, "intact", (int)(!broken(v)), "torn_tail", (int)v->torn_tail);

        json_object_set_new(o, "head", jsonout_text(v->head_hex));
        if (broken(v)) {
                json_object_set_new(o, "bad_line", json_integer((json_int_t)v->bad_line));
                json_object_set_new(o, "bad_seq", json_integer((json_int_t)v->bad_seq));
                json_object_set_new(o, "problem", jsonout_text(v->problem));
        }
        json_array_append_new(t->streams, o);
}

static void stream_text(struct tally *t, const char *name, const char *path, const struct record_verify *v) {
        enum term_mark mark = broken(v) ? TERM_FAIL : v->torn_tail ? TERM_WARN : TERM_OK;
        enum term_style style = term_mark_style(mark);
        const struct term *term = &t->term;

        fprintf(term->out, "  %s%s%s ", term_on(term, style), term_mark(term, mark), term_off(term, style));
        term_put_padded(term, name, t->width);
        fprintf(term->out, "  %7llu record%s  ", (unsigned long long)v->records, v->records == 1 ? " " : "s");
        if (!broken(v))
                fprintf(term->out, "intact   head %s\n", v->head_hex);
        else
                fprintf(term->out, "BROKEN at line %llu (record %llu)\n", (unsigned long long)v->bad_line,
                        (unsigned long long)v->bad_seq);
        if (broken(v)) {
                fputs("      ", term->out);
                term_put(term, v->problem);
                fputs("\n      ", term->out);
                term_put(term, path);
                fputc('\n', term->out);
        }
        if (v->torn_tail)
                fputs("      the last line is cut off: a write was interrupted; everything before it counts\n", term->out);
}

static int verify(struct tally *t, const char *name, const char *path, struct cli_problem *p) {
        struct record_verify v = {0};
        struct crew_err err = CREW_ERR_NULL;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_fclose_ FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
        struct stat st;

        if (!f || fstat(fd, &st) < 0)
                return cli_problem_set(p, errno == ENOENT ? CLI_USAGE : CLI_FAILED, "io", "cannot read %s: %s", path,
                                       strerror(errno));
        if (!S_ISREG(st.st_mode))
                return cli_problem_set(p, CLI_USAGE, "io", "cannot read %s: not a regular file", path);
        if (record_verify_stream(f, &v, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot read %s: %s", path, err.msg);
        if (t->streams)
                stream_json(t, name, path, &v);
        else
                stream_text(t, name, path, &v);
        *(broken(&v) ? &t->streams_bad : &t->streams_ok) += 1;
        t->records += v.records;
        return 0;
}

static int verify_agents(struct tally *t, const struct crew_paths *paths, const char *crew, const struct options *o,
                         bool several, struct cli_problem *p) {
        _cleanup_names_ struct crew_names agents = {0};
        char name[CREW_NAME_MAX * 2 + 1], path[PATH_MAX * 2];
        bool found = false;
        int r = crew_recorded_agents(paths, crew, &agents);

        if (r < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot read the audit of crew %s: %s", crew, strerror(-r));
        for (size_t i = 0; i < agents.n; i++)
                t->width = MAX_OF(t->width, strlen(agents.items[i]) + (several ? strlen(crew) + 1 : 0));
        for (size_t i = 0; i < agents.n; i++) {
                if (o->agent && strcmp(o->agent, agents.items[i]) != 0)
                        continue;
                found = true;
                snprintf(name, sizeof(name), "%s%s%s", several ? crew : "", several ? "/" : "", agents.items[i]);
                snprintf(path, sizeof(path), "%s/%s/audit/%s/log.jsonl", paths->state, crew, agents.items[i]);
                if (verify(t, name, path, p) < 0)
                        return -1;
        }
        return o->agent && !found ? crew_unknown_agent(p, crew, o->agent, &agents) : 0;
}

/* Without a name: all that was recorded here.  A check that leaves a crew out unasked would look like a pass of it. */
static int verify_crews(struct tally *t, const struct options *o, struct cli_problem *p) {
        _cleanup_names_ struct crew_names crews = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;
        char crew[CREW_NAME_MAX];

        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        if (!o->crew && !o->agent && crews_recorded(&paths, &crews) == 0 && crews.n > 1) {
                for (size_t i = 0; i < crews.n; i++) {
                        if (verify_agents(t, &paths, crews.items[i], o, true, p) < 0)
                                return -1;
                }
                return 0;
        }
        if (crew_choose_recorded(&paths, o->crew, crew, p) < 0)
                return -1;
        return verify_agents(t, &paths, crew, o, false, p);
}

static int verify_files(struct tally *t, const struct cli_operands *files, struct cli_problem *p) {
        for (size_t i = 0; i < files->n; i++)
                t->width = MAX_OF(t->width, text_columns(files->items[i]));
        for (size_t i = 0; i < files->n; i++) {
                if (verify(t, files->items[i], files->items[i], p) < 0)
                        return -1;
        }
        return 0;
}

static void summary(const struct tally *t) {
        if (t->streams)
                jsonout_print(json_pack("{s:b, s:I, s:O}", "intact", (int)(t->streams_bad == 0), "records",
                                        (json_int_t)t->records, "streams", t->streams));
        else if (t->streams_bad == 0)
                printf("%u stream%s, %llu records: intact\n", t->streams_ok, t->streams_ok == 1 ? "" : "s",
                       (unsigned long long)t->records);
        else
                printf("%u of %u streams BROKEN\n", t->streams_bad, t->streams_bad + t->streams_ok);
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        struct tally t = {0};
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n > 0 && (o.crew || o.agent))
                return cli_fail(o.json, CLI_USAGE, "usage", "give files, or --crew and --agent, not both");
        term_init(&t.term, stdout);
        t.streams = o.json ? json_array() : NULL;
        int r = rest.n > 0 ? verify_files(&t, &rest, &problem) : verify_crews(&t, &o, &problem);
        if (r == 0)
                summary(&t);
        json_decref(t.streams);
        if (r < 0)
                return cli_report(&problem, o.json);
        return t.streams_bad ? CLI_FAILED : CLI_OK;
}

const struct cli_verb verb_audit_verify = {
        .group = "audit",
        .name = "verify",
        .synopsis = "[--crew NAME] [--agent AGENT] [--json] [FILE...]",
        .summary = "recompute the hash chain of audit logs, name the first bad record",
        .details = "Without files: every agent of the crew, without --crew every crew that has an audit here.\n"
                   "Needs no daemon.  Exit 1 when a chain is broken.\n"
                   "\n"
                   "  crewctl audit verify\n"
                   "  crewctl audit verify --agent data-collector\n"
                   "  crewctl audit verify /backup/data-collector/log.jsonl\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
