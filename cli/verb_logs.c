/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl logs: the audit of one agent, or of all by time, as text or as it stands.
 *
 * Reads the files, so it works when no crew runs.  What a file says is untrusted: nothing of it reaches the terminal
 * unescaped, and a line that is no record is shown as such.
 */
#include "cli.h"

#include "common/record.h"
#include "common/util.h"
#include "crews.h"
#include "jsonout.h"
#include "merge.h"
#include "since.h"
#include "term.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#define LOOK_MS 1000 /* even if no notification came: the file may lie on a file system without them */

struct options {
        const char *crew, *agent, *filter, *since;
        uint64_t last;
        bool json, follow;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "only this agent", CLI_COMPLETE_AGENT},
        {"last", 'n', CLI_U64, offsetof(struct options, last), "N", "the last N records", CLI_COMPLETE_NONE},
        {"filter", 0, CLI_STRING, offsetof(struct options, filter), "F",
         "denied network file tool task message lifecycle all", CLI_COMPLETE_FILTER},
        {"follow", 'f', CLI_FLAG, offsetof(struct options, follow), NULL, "go on with what is written from now on",
         CLI_COMPLETE_NONE},
        {"since", 0, CLI_STRING, offsetof(struct options, since), "T", "5m ago, 09:15, 2026-03-20 09:15, @SECONDS",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

#define UNBOUNDED UINT64_MAX

struct view {
        const struct options *o;
        struct term term;
        size_t width; /* of the agent column; 0: none */
        bool gone;    /* nobody reads our output any more */
};

/* A canonical line is printable ASCII throughout; anything else was not written by crewd. */
static bool looks_canonical(const char *line, size_t n) {
        if (n < 2 || line[0] != '{' || line[n - 1] != '}')
                return false;
        for (size_t i = 0; i < n; i++) {
                if (line[i] < 0x20 || line[i] > 0x7e)
                        return false;
        }
        return true;
}

static void emit_json(const char *agent, const char *line, size_t n) {
        if (looks_canonical(line, n)) {
                fwrite(line, 1, n, stdout);
                fputc('\n', stdout);
                return;
        }
        char *text = strndup(line, n);
        json_t *v = json_pack("{s:s, s:o}", "agent", agent, "unreadable", jsonout_text(text ? text : ""));
        free(text);
        json_dumpf(v, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(v);
}

static void emit_text(struct view *v, const char *agent, const char *line, size_t n) {
        static char text[RECORD_TEXT_MAX], shown[RECORD_TEXT_MAX];
        const struct term *t = &v->term;

        if (v->width > 0)
                fprintf(t->out, "%s%-*s%s  ", term_on(t, TERM_DIM), (int)v->width, agent, term_off(t, TERM_DIM));
        if (record_render(line, n, text, sizeof(text)) < 0) {
                fprintf(t->out, "%snot a record:%s ", term_on(t, TERM_RED), term_off(t, TERM_RED));
                text_safe(line, MIN_OF(n, (size_t)200), t->utf8, text, sizeof(text));
                fprintf(t->out, "%s\n", text);
                return;
        }
        text_safe(text, strlen(text), t->utf8, shown, sizeof(shown));
        char *verdict = strstr(shown, ": DENIED");
        if (verdict) {
                *verdict = '\0';
                fprintf(t->out, "%s: %sDENIED%s", shown, term_on(t, TERM_RED), term_off(t, TERM_RED));
        }
        fprintf(t->out, "%s\n", verdict ? verdict + strlen(": DENIED") : shown);
}

static bool on_record(const char *agent, const char *line, size_t n, void *user) {
        struct view *v = user;

        if (v->o->json)
                emit_json(agent, line, n);
        else
                emit_text(v, agent, line, n);
        v->gone = ferror(stdout) != 0;
        return !v->gone;
}

static void on_cut(const char *agent, void *user) {
        fflush(stdout);
        fprintf(stderr, "crewctl: the log of %s was shortened; reading it from its start\n", agent);
}

/* --- follow --- */

static void watch_dir(int inotify, const char *audit_dir, const char *agent) {
        char path[PATH_MAX];

        if (inotify < 0 || (size_t)snprintf(path, sizeof(path), "%s/%s", audit_dir, agent) >= sizeof(path))
                return;
        (void)inotify_add_watch(inotify, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM);
}

/* Agents whose first record came after we started. */
static void add_new_agents(struct merge *m, const struct crew_paths *paths, const char *crew, const char *audit_dir,
                           int inotify) {
        _cleanup_names_ struct crew_names agents = {0};
        struct crew_err ignored = CREW_ERR_NULL; /* it is tried again at the next look */

        if (crew_recorded_agents(paths, crew, &agents) < 0)
                return;
        for (size_t i = 0; i < agents.n; i++) {
                if (!merge_has(m, agents.items[i]) && merge_add(m, audit_dir, agents.items[i], &ignored) == 0)
                        watch_dir(inotify, audit_dir, agents.items[i]);
        }
}

/* Until something may have changed, or the reader of a pipe went away. */
static void wait_for_change(struct view *v, int inotify) {
        char events[4096];
        struct pollfd fds[] = {{.fd = inotify, .events = POLLIN}, {.fd = STDOUT_FILENO, .events = 0}};

        if (poll(fds, ELEMENTSOF(fds), inotify < 0 ? LOOK_MS / 10 : LOOK_MS) < 0)
                return;
        if (fds[0].revents)
                while (read(inotify, events, sizeof(events)) > 0)
                        ;
        if (fds[1].revents & (POLLERR | POLLNVAL))
                v->gone = true;
}

static int follow(struct view *v, struct merge *m, const struct merge_sink *sink, const struct crew_paths *paths,
                  const char *crew, const char *audit_dir, struct crew_err *err) {
        _cleanup_names_ struct crew_names agents = {0};
        _cleanup_close_ int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        int r = 0;

        crew_recorded_agents(paths, crew, &agents);
        for (size_t i = 0; i < agents.n; i++) {
                if (merge_has(m, agents.items[i]))
                        watch_dir(inotify, audit_dir, agents.items[i]);
        }
        watch_dir(inotify, audit_dir, ".");
        while (r == 0 && !v->gone) {
                if (fflush(stdout) != 0)
                        return 0;
                wait_for_change(v, inotify);
                if (!v->o->agent)
                        add_new_agents(m, paths, crew, audit_dir, inotify);
                r = merge_run(m, sink, err);
        }
        return r;
}

/* --- the verb --- */

static size_t n_filters(void) {
        size_t n = 0;

        while (record_filters[n])
                n++;
        return n;
}

static int check_filter(const struct options *o, struct cli_problem *p) {
        char all[256] = "";

        for (size_t i = 0; i < n_filters(); i++) {
                if (!o->filter || strcmp(o->filter, record_filters[i]) == 0)
                        return 0;
                size_t used = strlen(all);
                snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", record_filters[i]);
        }
        const char *near = crew_nearest(o->filter, record_filters, n_filters());
        cli_problem_set(p, CLI_USAGE, "usage", "unknown filter '%s'", o->filter);
        cli_problem_hint(p, "filters: %s%s%s%s", all, near ? "   (did you mean " : "", near ? near : "", near ? "?)" : "");
        return -1;
}

static int make_filter(const struct options *o, struct merge_filter *f, struct cli_problem *p) {
        *f = (struct merge_filter){.filter = o->filter, .last = o->last, .bounded = o->last != UNBOUNDED};
        if (check_filter(o, p) < 0)
                return -1;
        if (o->since && since_parse(o->since, crew_realtime_ns(), &f->since_ns) < 0) {
                cli_problem_set(p, CLI_USAGE, "usage", "--since does not know the time '%s'", o->since);
                cli_problem_hint(p, "it takes 5m (ago), 09:15, \"2026-03-20 09:15\", 2026-03-20T09:15:00Z, @1774000000");
                return -1;
        }
        return 0;
}

static int open_streams(struct merge *m, const struct options *o, const struct crew_paths *paths, const char *crew,
                        const char *audit_dir, struct cli_problem *p) {
        _cleanup_names_ struct crew_names agents = {0};
        struct crew_err err = CREW_ERR_NULL;
        bool found = false;
        int r = crew_recorded_agents(paths, crew, &agents);

        if (r < 0) {
                cli_problem_set(p, CLI_FAILED, "io", "cannot read %s: %s", audit_dir, strerror(-r));
                if (r == -EACCES && geteuid() != 0)
                        cli_problem_hint(p, "the audit belongs to the user that runs the crew; try sudo crewctl logs");
                return -1;
        }
        for (size_t i = 0; i < agents.n; i++) {
                if (o->agent && strcmp(o->agent, agents.items[i]) != 0)
                        continue;
                found = true;
                if (merge_add(m, audit_dir, agents.items[i], &err) < 0)
                        return cli_problem_set(p, CLI_FAILED, "io", "%s", err.msg);
        }
        return o->agent && !found ? crew_unknown_agent(p, crew, o->agent, &agents) : 0;
}

static int show(const struct options *o, const struct merge_filter *filter, struct cli_problem *p) {
        char crew[CREW_NAME_MAX], audit_dir[PATH_MAX + CREW_NAME_MAX + 8];
        struct view view = {.o = o};
        struct merge_sink sink = {.emit = on_record, .cut = on_cut, .user = &view};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;

        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        if (crew_choose_recorded(&paths, o->crew, crew, p) < 0)
                return -1;
        snprintf(audit_dir, sizeof(audit_dir), "%s/%s/audit", paths.state, crew);
        struct merge *m = merge_new(filter);
        if (!m)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        int r = open_streams(m, o, &paths, crew, audit_dir, p);
        if (r == 0) {
                term_init(&view.term, stdout);
                view.width = o->agent ? 0 : merge_width(m);
                r = merge_run(m, &sink, &err);
                if (r == 0 && o->follow && !view.gone)
                        r = follow(&view, m, &sink, &paths, crew, audit_dir, &err);
                if (r < 0)
                        cli_problem_set(p, CLI_FAILED, "io", "%s", err.msg);
        }
        merge_free(m);
        return r;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {.last = UNBOUNDED};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct merge_filter filter;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (make_filter(&o, &filter, &problem) < 0 || show(&o, &filter, &problem) < 0)
                return cli_report(&problem, o.json);
        return CLI_OK;
}

const struct cli_verb verb_logs = {
        .name = "logs",
        .synopsis = "[--agent AGENT] [--last N] [--filter F] [--since T] [--follow] [--crew NAME] [--json]",
        .summary = "show what agents did and tried; also when the crew no longer runs",
        .details = "Without --agent the records of all agents are merged by time.  --json prints the records as they\n"
                   "stand in the audit, one a line.\n"
                   "\n"
                   "  crewctl logs --agent data-collector --filter denied\n"
                   "  crewctl logs --follow --last 0\n"
                   "  crewctl logs --since 10m --filter tool --json | jq .tool\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
