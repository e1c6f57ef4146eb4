/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl audit verify: chain, tree and checkpoints of audit logs, offline: of crews here, of copies, and of exports. */
#include "cli.h"

#include "audit_check.h"
#include "audit_report.h"
#include "common/tree.h"
#include "common/util.h"
#include "crews.h"
#include "tar.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct options {
        const char *crew, *agent, *key, *checkpoint;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "only this agent", CLI_COMPLETE_AGENT},
        CLI_OPTION_CREW(struct options),
        {"key", 0, CLI_STRING, offsetof(struct options, key), "FILE",
         "the crew's public key, kept elsewhere: what it did not sign counts for nothing", CLI_COMPLETE_FILE},
        {"checkpoint", 0, CLI_STRING, offsetof(struct options, checkpoint), "FILE",
         "an older checkpoint, kept elsewhere: its log must begin with those records", CLI_COMPLETE_FILE},
        CLI_OPTION_JSON(struct options),
};

/* What all that is checked has in common, and the words of the command. */
struct verify {
        const struct options *o;
        struct audit_report report;
        struct verify_key key;  /* with --key */
        struct audit_kept kept; /* with --checkpoint */
        struct cli_problem *p;
};

/* A directory of streams. */
struct place {
        const char *base, *shown; /* where it is, and as what */
        const char *prefix;       /* of the names in the rows */
        bool whole;
};

static struct audit_check begin(struct verify *v, const char *base) {
        struct audit_check c = {0};

        snprintf(c.base, sizeof(c.base), "%s", base);
        if (v->o->key) {
                c.pinned = c.has_key = true;
                c.key = v->key;
        }
        c.kept = v->o->checkpoint ? &v->kept : NULL;
        audit_check_begin(&c);
        return c;
}

static int unreadable(struct verify *v, int r, const struct crew_err *err) {
        bool usage = r == -ENOENT || r == -EINVAL || r == -ELOOP || r == -EISDIR;

        return cli_problem_set(v->p, usage ? CLI_USAGE : CLI_FAILED, "io", "%s", err->msg);
}

static void show(struct verify *v, const struct place *at, const char *agent, const struct audit_finding *f) {
        char name[CREW_NAME_MAX * 2 + 8], path[PATH_MAX * 2];

        snprintf(name, sizeof(name), "%s%s", at->prefix, agent);
        snprintf(path, sizeof(path), "%s/%s/log.jsonl", at->shown, agent);
        audit_report_stream(&v->report, name, path, f);
}

/* The crew's own first.  Of one agent only: it is shown if something is wrong with it. */
static int verify_crew_log(struct verify *v, const struct place *at, struct audit_check *c) {
        struct crew_err err = CREW_ERR_NULL;
        struct audit_finding f;

        if (!c->crew_log)
                return 0;
        int r = audit_check_stream(c, AUDIT_CHECK_CREW, &f, &err);
        if (r < 0)
                return unreadable(v, r, &err);
        if (!v->o->agent || f.problem[0])
                show(v, at, AUDIT_CHECK_CREW, &f);
        return 0;
}

static bool wanted(const struct verify *v, const char *agent) {
        return !v->o->agent || strcmp(v->o->agent, agent) == 0;
}

/* What the crew's log knows and nobody has seen: new since we looked; gone from where it was written; in a copy elsewhere.
 */
static int show_rest(struct verify *v, const struct place *at, struct audit_check *c, size_t *found) {
        struct crew_err err = CREW_ERR_NULL;
        struct audit_finding f;

        for (size_t i = 0; i < c->n_known; i++) {
                const char *agent = c->known[i].agent;
                if (c->known[i].seen || !wanted(v, agent))
                        continue;
                ++*found;
                int r = audit_check_stream(c, agent, &f, &err);
                if (r < 0 && r != -ENOENT)
                        return unreadable(v, r, &err);
                if (r < 0 && !at->whole) {
                        v->report.streams_elsewhere++;
                        continue;
                }
                if (r < 0)
                        audit_check_gone(&c->known[i], &f);
                show(v, at, agent, &f);
        }
        return 0;
}

static int verify_streams(struct verify *v, const struct place *at, const struct crew_names *agents, const char *crew) {
        struct audit_check c = begin(v, at->base);
        struct crew_err err = CREW_ERR_NULL;
        struct audit_finding f;
        size_t found = 0;

        for (size_t i = 0; i < agents->n; i++)
                v->report.width = MAX_OF(v->report.width, strlen(agents->items[i]) + strlen(at->prefix));
        if (c.crew_log && !v->o->agent)
                v->report.width = MAX_OF(v->report.width, strlen(AUDIT_CHECK_CREW) + strlen(at->prefix));
        int r = verify_crew_log(v, at, &c);
        for (size_t i = 0; i < agents->n && r == 0; i++) {
                if (!wanted(v, agents->items[i]))
                        continue;
                found++;
                if ((r = audit_check_stream(&c, agents->items[i], &f, &err)) < 0)
                        r = unreadable(v, r, &err);
                else
                        show(v, at, agents->items[i], &f);
        }
        if (r == 0)
                r = show_rest(v, at, &c, &found);
        audit_check_fini(&c);
        return r == 0 && v->o->agent && found == 0 ? crew_unknown_agent(v->p, crew, v->o->agent, agents) : r;
}

static int verify_crew(struct verify *v, const struct crew_paths *paths, const char *crew, bool several) {
        _cleanup_names_ struct crew_names agents = {0};
        char base[PATH_MAX + CREW_NAME_MAX + 8], prefix[CREW_NAME_MAX + 1] = "";
        int r = crew_recorded_agents(paths, crew, &agents);

        if (r < 0)
                return cli_problem_set(v->p, CLI_FAILED, "io", "cannot read the audit of crew %s: %s", crew, strerror(-r));
        snprintf(base, sizeof(base), "%s/%s/audit", paths->state, crew);
        if (several)
                snprintf(prefix, sizeof(prefix), "%s/", crew);
        return verify_streams(v, &(struct place){.base = base, .shown = base, .prefix = prefix, .whole = true}, &agents,
                              crew);
}

/* Without a name: all that was recorded here.  A check that leaves a crew out unasked would look like a pass of it. */
static int verify_crews(struct verify *v) {
        _cleanup_names_ struct crew_names crews = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_paths paths;
        char crew[CREW_NAME_MAX];

        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(v->p, CLI_FAILED, "paths", "%s", err.msg);
        if (!v->o->crew && !v->o->agent && crews_recorded(&paths, &crews) == 0 && crews.n > 1) {
                for (size_t i = 0; i < crews.n; i++) {
                        if (verify_crew(v, &paths, crews.items[i], true) < 0)
                                return -1;
                }
                return 0;
        }
        if (crew_choose_recorded(&paths, v->o->crew, crew, v->p) < 0)
                return -1;
        return verify_crew(v, &paths, crew, false);
}

/* --- operands --- */

static int verify_file(struct verify *v, const char *path) {
        const char *slash = strrchr(path, '/');
        char base[PATH_MAX];
        struct crew_err err = CREW_ERR_NULL;
        struct audit_finding f;

        snprintf(base, sizeof(base), "%.*s%s..", slash ? (int)(slash - path) : 0, path, slash ? "/" : "");
        struct audit_check c = begin(v, base);
        int r = audit_check_file(&c, path, &f, &err);
        audit_check_fini(&c);
        if (r < 0)
                return unreadable(v, r, &err);
        audit_report_stream(&v->report, path, path, &f);
        return 0;
}

static int verify_dir(struct verify *v, const char *dir, const char *shown) {
        _cleanup_names_ struct crew_names agents = {0};
        char log[PATH_MAX + 32];
        int r;

        snprintf(log, sizeof(log), "%s/log.jsonl", dir);
        if (access(log, F_OK) == 0)
                return verify_file(v, log);
        if ((r = crew_agents_in(dir, &agents)) < 0)
                return cli_problem_set(v->p, CLI_FAILED, "io", "cannot read %s: %s", shown, strerror(-r));
        snprintf(log, sizeof(log), "%s/" AUDIT_CHECK_CREW "/log.jsonl", dir);
        if (agents.n == 0 && access(log, F_OK) < 0)
                return cli_problem_set(v->p, CLI_USAGE, "io", "there is no audit log in %s", shown);
        return verify_streams(v, &(struct place){.base = dir, .shown = shown, .prefix = ""}, &agents, shown);
}

static int unpack(const char *path, int top, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        struct tar_counts counts;
        struct stat st;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        if (fd < 0 || fstat(fd, &st) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot read %s: %s", path, strerror(errno));
        if (tar_extract(fd, top, (uint64_t)st.st_size, &counts, &err) < 0)
                return cli_problem_set(p, CLI_USAGE, "io", "cannot unpack %s: %s", path, err.msg);
        return 0;
}

/* In a directory of its own, which is gone afterwards. */
static int verify_tar(struct verify *v, const char *path) {
        const char *tmp = getenv("TMPDIR");
        char dir[PATH_MAX];

        if ((size_t)snprintf(dir, sizeof(dir), "%s/crewctl-audit.XXXXXX", tmp && *tmp ? tmp : "/tmp") >= sizeof(dir) ||
            !mkdtemp(dir))
                return cli_problem_set(v->p, CLI_FAILED, "io", "cannot make a directory to unpack %s in: %s", path,
                                       strerror(errno));
        _cleanup_close_ int top = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int r = top < 0 ? cli_problem_set(v->p, CLI_FAILED, "io", "cannot open %s: %s", dir, strerror(errno))
                        : unpack(path, top, v->p);
        if (r == 0)
                r = verify_dir(v, dir, path);
        (void)tree_remove(AT_FDCWD, dir);
        return r;
}

static int verify_operand(struct verify *v, const char *path) {
        size_t n = strlen(path);
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return verify_dir(v, path, path);
        if (n > 4 && strcmp(path + n - 4, ".tar") == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode))
                return verify_tar(v, path);
        return verify_file(v, path);
}

static int verify_operands(struct verify *v, const struct cli_operands *rest) {
        for (size_t i = 0; i < rest->n; i++)
                v->report.width = MAX_OF(v->report.width, text_columns(rest->items[i]));
        for (size_t i = 0; i < rest->n; i++) {
                if (verify_operand(v, rest->items[i]) < 0)
                        return -1;
        }
        return 0;
}

/* --- all of it --- */

static int read_pinned(struct verify *v) {
        struct crew_err err = CREW_ERR_NULL;

        if ((v->o->key && audit_check_key(v->o->key, &v->key, &err) < 0) ||
            (v->o->checkpoint && audit_check_kept(v->o->checkpoint, &v->kept, &err) < 0))
                return cli_problem_set(v->p, CLI_USAGE, "io", "%s", err.msg);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        struct verify v = {.o = &o, .p = &problem};
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n > 0 && (o.crew || o.agent))
                return cli_fail(o.json, CLI_USAGE, "usage", "give files, or --crew and --agent, not both");
        term_init(&v.report.term, stdout);
        v.report.streams = o.json ? json_array() : NULL;
        int r = read_pinned(&v);
        if (r == 0)
                r = rest.n > 0 ? verify_operands(&v, &rest) : verify_crews(&v);
        if (r == 0 && o.checkpoint && !v.kept.seen && v.report.streams_bad == 0)
                r = cli_problem_set(&problem, CLI_FAILED, "no-such-log", "%s is of %s, of which no log was checked",
                                    o.checkpoint, v.kept.origin);
        if (r == 0)
                audit_report_end(&v.report);
        json_decref(v.report.streams);
        if (r < 0)
                return cli_report(&problem, o.json);
        return v.report.streams_bad ? CLI_FAILED : CLI_OK;
}

const struct cli_verb verb_audit_verify = {
        .group = "audit",
        .name = "verify",
        .synopsis = "[--crew NAME] [--agent AGENT] [--key FILE] [--checkpoint FILE] [--json] [FILE...]",
        .summary = "check chain, tree and signatures of audit logs, name what does not fit",
        .details = "Without files: every agent of the crew, without --crew every crew that has an audit here.\n"
                   "A file is a log, an audit directory, or what audit export made (.tar).\n"
                   "Needs no daemon.  Exit 1 when something is broken.\n"
                   "\n"
                   "  crewctl audit verify\n"
                   "  crewctl audit verify --agent data-collector\n"
                   "  crewctl audit verify --key /safe/key.pub --checkpoint /safe/checkpoint\n"
                   "  crewctl audit verify financial-analysis-audit.tar\n"
                   "  crewctl audit verify /backup/data-collector/log.jsonl\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
