/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl state: the directories that agents keep between their runs.  Works on the files alone; no daemon is asked.
 *
 * crewd holds AGENT.lock while an instance may write there, so import and reset cannot meet one.  What is in the
 * directories was made by agents: no link is followed and no name is believed.
 */
#include "cli.h"

#include "common/state_version.h"
#include "common/tree.h"
#include "common/util.h"
#include "crews.h"
#include "jsonout.h"
#include "table.h"
#include "tar.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define IMPORT_MAX (64ull << 30)

struct options {
        const char *crew, *agent;
        bool yes, json;
};

static const struct cli_option list_options[] = {
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};
static const struct cli_option agent_options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "whose directory", CLI_COMPLETE_AGENT},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};
static const struct cli_option reset_options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "whose directory", CLI_COMPLETE_AGENT},
        {"yes", 'y', CLI_FLAG, offsetof(struct options, yes), NULL, "do not ask", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

/* Where the directories of one crew are. */
struct place {
        char crew[CREW_NAME_MAX];
        char path[PATH_MAX + CREW_NAME_MAX + 8];
        int fd; /* owned; -1: no agent has kept anything yet */
        struct crew_paths paths;
        struct crew_names agents;
        bool has_run; /* here; else the agents are those whose directories were imported */
};

static void place_fini(struct place *w) {
        crew_close(&w->fd);
        crew_names_fini(&w->agents);
}
#define _cleanup_place_ _cleanup_(place_fini)

/* A crew by its name needs no audit: what its agents are to begin with can be there before it. */
static int choose(struct place *w, const char *crew, bool any, struct cli_problem *p) {
        struct stat st;

        if (!crew || !crew_name_ok(crew) || strlen(crew) >= sizeof(w->crew))
                return crew_choose_recorded(&w->paths, crew, w->crew, p);
        snprintf(w->path, sizeof(w->path), "%s/%s/state", w->paths.state, crew);
        if (!any && lstat(w->path, &st) < 0)
                return crew_choose_recorded(&w->paths, crew, w->crew, p);
        snprintf(w->crew, sizeof(w->crew), "%s", crew);
        return 0;
}

/* any: of a crew that has left nothing here, too. */
static int place_open(struct place *w, const char *crew, bool any, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;

        w->fd = -1;
        if (crew_paths_init(&w->paths, &err) < 0)
                return cli_problem_set(p, CLI_INTERNAL, "paths", "%s", err.msg);
        if (choose(w, crew, any, p) < 0)
                return -1;
        int r = crew_recorded_agents(&w->paths, w->crew, &w->agents);
        w->has_run = w->agents.n > 0;
        if (r == 0 && !w->has_run)
                r = crew_state_agents(&w->paths, w->crew, &w->agents);
        if (r < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot read the agents of crew %s: %s", w->crew, strerror(-r));
        snprintf(w->path, sizeof(w->path), "%s/%s/state", w->paths.state, w->crew);
        w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (w->fd < 0 && errno != ENOENT)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot open %s: %s", w->path, strerror(errno));
        return 0;
}

static int check_agent(const struct place *w, const char *agent, struct cli_problem *p) {
        for (size_t i = 0; i < w->agents.n; i++) {
                if (strcmp(w->agents.items[i], agent) == 0)
                        return 0;
        }
        return crew_unknown_agent(p, w->crew, agent, &w->agents);
}

/* One that has never run is known to nobody; among those that have, it is a slip. */
static int check_new_agent(const struct place *w, const char *agent, struct cli_problem *p) {
        if (w->has_run) {
                if (check_agent(w, agent, p) == 0)
                        return 0;
                cli_problem_hint(p, "one that is new in crew %s: start it once, stop it, then import", w->crew);
                return -1;
        }
        if (crew_agent_name_ok(agent) && strlen(agent) < CREW_NAME_MAX)
                return 0;
        return cli_problem_set(p, CLI_USAGE, "usage", "'%s' cannot be the name of an agent", agent);
}

/* Also one that its agent has shut.  fd or -errno; -ENOENT: it has kept nothing yet. */
static int open_agent(const struct place *w, const char *agent) {
        return w->fd < 0 ? -ENOENT : tree_open_dir(w->fd, agent);
}

/* The lock that crewd holds while the agent runs; -EAGAIN: it does. */
static int take_lock(const struct place *w, const char *agent) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        char name[CREW_NAME_MAX + 8];

        snprintf(name, sizeof(name), "%s.lock", agent);
        _cleanup_close_ int fd = openat(w->fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || fcntl(fd, F_OFD_SETLK, &l) < 0)
                return errno == EACCES && fd >= 0 ? -EAGAIN : -errno;
        return crew_steal_fd(&fd);
}

/* Without taking it, so that a start at this moment does not fail. */
static bool is_locked(const struct place *w, const char *agent) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        char name[CREW_NAME_MAX + 8];

        snprintf(name, sizeof(name), "%s.lock", agent);
        _cleanup_close_ int fd = openat(w->fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        return fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int lock_or_problem(const struct place *w, const char *agent, struct cli_problem *p) {
        int fd = w->fd < 0 ? -ENOENT : take_lock(w, agent);

        if (fd == -EAGAIN) {
                cli_problem_set(p, CLI_FAILED, "running", "agent %s is running; its directory is its own meanwhile", agent);
                cli_problem_hint(p, "crewctl stop --agent %s", agent);
                return -1;
        }
        if (fd < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "cannot lock the directory of %s: %s", agent, strerror(-fd));
        return fd;
}

static int io_problem(struct cli_problem *p, const char *what, const char *name, int error) {
        return cli_problem_set(p, CLI_FAILED, "io", "cannot %s %s: %s", what, name, strerror(error));
}

static int no_state(struct cli_problem *p, const char *agent) {
        return cli_problem_set(p, CLI_ABSENT, "no-state", "agent %s has kept nothing yet", agent);
}

/* Common to all: options, the crew, and an agent that is there. */
static bool begin(const struct cli_verb *self, int argc, char **argv, size_t n_operands, struct options *o,
                  struct cli_operands *rest, struct place *w, int *status) {
        struct cli_problem p = CLI_PROBLEM_NULL;
        bool one = self->options != list_options, import = self == &verb_state_import;

        w->fd = -1;
        if (!cli_parse(self, argc, argv, o, rest, status))
                return false;
        if (n_operands == 0 && !cli_no_operands(self, rest, o->json, status))
                return false;
        if (rest->n != n_operands || (one && !o->agent)) {
                *status = cli_fail(o->json, CLI_USAGE, "usage", "usage: crewctl state %s %s", self->name, self->synopsis);
                return false;
        }
        if (place_open(w, o->crew, import, &p) == 0 &&
            (!one || (import ? check_new_agent : check_agent)(w, o->agent, &p) == 0))
                return true;
        *status = cli_report(&p, o->json);
        return false;
}

/* --- list --- */

static const struct table_column columns[] = {
        {"AGENT", false, 0, true},   {"SIZE", true, 0, false},     {"FILES", true, 1, false},
        {"VERSION", true, 3, false}, {"CHANGED", false, 2, false}, {"IN USE", false, 0, false},
};

struct row {
        const char *agent;
        struct tree_size size;
        uint32_t version;
        bool there, in_use;
        struct cli_problem problem; /* with a status: it cannot be read */
};

static int version_of(const struct place *w, const char *agent, uint32_t *out, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;

        *out = 0;
        if (w->fd < 0 || state_version_read(w->fd, agent, out, &err) == 0)
                return 0;
        return cli_problem_set(p, CLI_FAILED, "io", "agent %s: %s", agent, err.msg);
}

static int look(const struct place *w, const char *agent, struct row *row) {
        *row = (struct row){.agent = agent};
        _cleanup_close_ int fd = open_agent(w, agent);
        if (fd == -ENOENT)
                return 0;
        row->there = true;
        row->in_use = is_locked(w, agent);
        if (fd < 0)
                return io_problem(&row->problem, "open the directory of", agent, -fd);
        if (version_of(w, agent, &row->version, &row->problem) < 0)
                return -1;
        int r = tree_measure(fd, 0, &row->size);
        return r < 0 ? io_problem(&row->problem, "read the directory of", agent, -r) : 0;
}

static void print_row(struct table *t, const struct row *row) {
        char size[2 * TEXT_WORD], when[32] = "-";
        time_t changed = (time_t)row->size.changed;
        struct tm tm;

        if (!row->there)
                return;
        if (changed && localtime_r(&changed, &tm))
                strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        table_cell(t, TERM_PLAIN, "%s", row->agent);
        if (row->problem.status) {
                table_cell(t, TERM_RED, "unreadable");
                table_cell(t, TERM_DIM, "-");
        } else {
                table_cell(t, TERM_PLAIN, "%s%s", row->size.missed ? "> " : "", text_size(row->size.bytes, 0, size));
                table_cell(t, TERM_PLAIN, "%llu", (unsigned long long)row->size.files);
        }
        if (row->version)
                table_cell(t, TERM_PLAIN, "%u", row->version);
        else
                table_cell(t, TERM_DIM, "-");
        table_cell(t, TERM_PLAIN, "%s", when);
        table_cell(t, row->in_use ? TERM_YELLOW : TERM_PLAIN, "%s", row->in_use ? "yes" : "no");
}

static json_t *row_json(const struct place *w, const struct row *row) {
        char path[sizeof(w->path) + CREW_NAME_MAX + 1];

        snprintf(path, sizeof(path), "%s/%s", w->path, row->agent);
        if (row->problem.status)
                return json_pack("{s:s, s:o, s:b, s:o}", "agent", row->agent, "path", jsonout_text(path), "in_use",
                                 (int)row->in_use, "error", jsonout_text(row->problem.text));
        return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:b}", "agent", row->agent, "path", jsonout_text(path), "bytes",
                         (json_int_t)row->size.bytes, "files", (json_int_t)row->size.files, "version",
                         (json_int_t)row->version, "changed", (json_int_t)row->size.changed, "in_use", (int)row->in_use);
}

static int run_list(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        _cleanup_place_ struct place w = {.fd = -1};
        struct cli_operands rest;
        struct term term;
        int status, result = CLI_OK;

        if (!begin(self, argc, argv, 0, &o, &rest, &w, &status))
                return status;
        struct table *t = table_new(columns, ELEMENTSOF(columns));
        json_t *list = json_array();
        for (size_t i = 0; i < w.agents.n; i++) {
                struct row row;
                if (look(&w, w.agents.items[i], &row) < 0)
                        result = cli_report(&row.problem, false); /* the others are shown */
                print_row(t, &row);
                if (row.there)
                        json_array_append_new(list, row_json(&w, &row));
        }
        term_init(&term, stdout);
        if (o.json)
                jsonout_print(json_pack("{s:s, s:O}", "crew", w.crew, "state", list));
        else
                table_print(t, &term, "");
        table_free(t);
        json_decref(list);
        return result;
}

/* --- export --- */

static void on_left_out(const char *path, const char *why, void *user) {
        struct term *t = user;

        fputs("crewctl: left out: ", t->out);
        term_put(t, path);
        fprintf(t->out, " (%s)\n", why);
}

struct source {
        int dir;
        uint32_t version;
};

static int export_to(int fd, const struct source *from, const struct options *o, struct tar_tree *tree,
                     struct cli_problem *p) {
        struct tar tar = {.fd = fd, .mtime = (int64_t)time(NULL)};
        struct crew_err err = CREW_ERR_NULL;
        char version[16];

        snprintf(version, sizeof(version), "%u", from->version);
        if (from->version)
                tar_put_comment(&tar, TAR_STATE_VERSION, version);

        if (tar_put_tree(&tar, from->dir, tree, &err) == 0 && tar_end(&tar, &err) == 0)
                return 0;
        return cli_problem_set(p, CLI_FAILED, "export", "agent %s: %s", o->agent, err.msg);
}

/* Under its name only when it is whole. */
static int export_file(const char *file, const struct source *from, const struct options *o, struct tar_tree *tree,
                       struct cli_problem *p) {
        char part[PATH_MAX];

        if (strcmp(file, "-") == 0)
                return export_to(STDOUT_FILENO, from, o, tree, p);
        if ((size_t)snprintf(part, sizeof(part), "%s.part", file) >= sizeof(part))
                return io_problem(p, "make", file, ENAMETOOLONG);
        _cleanup_close_ int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return io_problem(p, "make", part, errno);
        int r = export_to(fd, from, o, tree, p);
        if (r == 0 && (fsync(fd) < 0 || rename(part, file) < 0))
                r = io_problem(p, "write", file, errno);
        if (r < 0)
                unlink(part);
        return r;
}

static int run_export(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem p = CLI_PROBLEM_NULL;
        _cleanup_place_ struct place w = {.fd = -1};
        char size[2 * TEXT_WORD];
        struct cli_operands rest;
        struct term err_term;
        int status;

        if (!begin(self, argc, argv, 1, &o, &rest, &w, &status))
                return status;
        term_init(&err_term, stderr);
        /* No more than import takes. */
        struct tar_tree tree = {.prefix = "",
                                .total_max = IMPORT_MAX,
                                .entries_max = TAR_ENTRIES_MAX,
                                .on_left_out = on_left_out,
                                .user = &err_term};
        _cleanup_close_ int dir = open_agent(&w, o.agent);
        if (dir < 0) {
                (void)(dir == -ENOENT ? no_state(&p, o.agent) : io_problem(&p, "open the directory of", o.agent, -dir));
                return cli_report(&p, o.json);
        }
        struct source from = {.dir = dir};
        if (version_of(&w, o.agent, &from.version, &p) < 0 || export_file(rest.items[0], &from, &o, &tree, &p) < 0)
                return cli_report(&p, o.json);
        if (strcmp(rest.items[0], "-") == 0)
                return CLI_OK;
        if (o.json)
                jsonout_print(json_pack("{s:s, s:o, s:I, s:I, s:I}", "agent", o.agent, "file", jsonout_text(rest.items[0]),
                                        "files", (json_int_t)tree.files, "bytes", (json_int_t)tree.bytes, "left_out",
                                        (json_int_t)tree.left_out));
        else
                printf("%s: %llu file%s of %s, %s\n", rest.items[0], (unsigned long long)tree.files,
                       tree.files == 1 ? "" : "s", o.agent, text_size(tree.bytes, 0, size));
        return CLI_OK;
}

/* --- import and reset --- */

/* `fresh` becomes the agent's directory together with its version, or nothing changes; the former one is removed. */
static int swap_in(const struct place *w, const char *agent, const char *fresh, uint32_t version, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        uint32_t from;

        if (state_version_settle(w->fd, agent, &from, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "agent %s: %s", agent, err.msg);
        if (mkdirat(w->fd, agent, 0700) < 0 && errno != EEXIST)
                return io_problem(p, "make the directory of", agent, errno);
        if (state_version_swap(w->fd, agent, fresh, from, version, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "agent %s: %s", agent, err.msg);
        int r = tree_remove(w->fd, fresh);
        return r < 0 ? io_problem(p, "remove the former directory of", agent, -r) : 0;
}

/* The version goes last: a directory that is not there has none. */
static int remove_all(const struct place *w, const char *agent, struct cli_problem *p) {
        char old[CREW_NAME_MAX + 32];

        snprintf(old, sizeof(old), ".old-%s", agent);
        int r = tree_remove(w->fd, old);
        if (r == 0 && renameat(w->fd, agent, w->fd, old) < 0 && errno != ENOENT)
                r = -errno;
        if (r == 0)
                r = state_version_write(w->fd, agent, 0, NULL);
        if (r == 0)
                r = tree_remove(w->fd, old);
        return r < 0 ? io_problem(p, "remove the directory of", agent, -r) : 0;
}

static int unpack(const struct place *w, const char *file, const char *into, struct tar_counts *counts,
                  struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        bool piped = strcmp(file, "-") == 0;
        _cleanup_close_ int fd = piped ? -1 : open(file, O_RDONLY | O_CLOEXEC);

        if (!piped && fd < 0)
                return io_problem(p, "open", file, errno);
        int r = tree_remove(w->fd, into);
        if (r < 0 || mkdirat(w->fd, into, 0700) < 0)
                return io_problem(p, "make a directory in", w->path, r < 0 ? -r : errno);
        _cleanup_close_ int dir = openat(w->fd, into, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return io_problem(p, "open a directory in", w->path, errno);
        r = tar_extract(piped ? STDIN_FILENO : fd, dir, IMPORT_MAX, counts, &err);
        if (r == 0)
                return 0;
        cli_problem_set(p, r == -EINVAL ? CLI_USAGE : CLI_FAILED, "import", "%s: %s", file, err.msg);
        cli_problem_hint(p, "nothing was changed");
        return -1;
}

static int import_locked(const struct place *w, const struct options *o, const char *file, struct tar_counts *counts,
                         struct cli_problem *p) {
        char into[CREW_NAME_MAX + 32];

        snprintf(into, sizeof(into), ".new-%s", o->agent);
        int r = unpack(w, file, into, counts, p);
        if (r == 0)
                r = swap_in(w, o->agent, into, (uint32_t)counts->state_version, p);
        if (r < 0)
                (void)tree_remove(w->fd, into);
        return r;
}

/* As crewd makes them, and crewctl up for its log. */
static int make_place(struct place *w, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;

        if (w->fd < 0 && (crew_mkdir_p(w->paths.state, 0755, &err) < 0 || crew_mkdir_p(w->path, 0700, &err) < 0))
                return cli_problem_set(p, CLI_FAILED, "io", "%s", err.msg);
        if (w->fd < 0)
                w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return w->fd < 0 ? io_problem(p, "open", w->path, errno) : 0;
}

static int run_import(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem p = CLI_PROBLEM_NULL;
        _cleanup_place_ struct place w = {.fd = -1};
        struct tar_counts counts = {0};
        char size[2 * TEXT_WORD];
        struct cli_operands rest;
        int status;

        if (!begin(self, argc, argv, 1, &o, &rest, &w, &status))
                return status;
        _cleanup_close_ int lock = make_place(&w, &p) < 0 ? -1 : lock_or_problem(&w, o.agent, &p);
        if (lock < 0 || import_locked(&w, &o, rest.items[0], &counts, &p) < 0)
                return cli_report(&p, o.json);
        if (o.json)
                jsonout_print(json_pack("{s:s, s:I, s:I}", "agent", o.agent, "files", (json_int_t)counts.files, "bytes",
                                        (json_int_t)counts.bytes));
        else
                printf("agent %s: %llu file%s, %s\n", o.agent, (unsigned long long)counts.files,
                       counts.files == 1 ? "" : "s", text_size(counts.bytes, 0, size));
        if (!w.has_run)
                fprintf(stderr, "crewctl: crew %s has not run here yet; its agent %s will begin with this\n", w.crew,
                        o.agent);
        return CLI_OK;
}

static bool sure(const struct options *o, int *status) {
        char answer[16] = "";

        if (o->yes)
                return true;
        if (!isatty(STDIN_FILENO) || o->json) {
                *status = cli_fail(o->json, CLI_USAGE, "usage", "nobody to ask whether to remove it; say --yes");
                return false;
        }
        fprintf(stderr, "Remove everything agent %s has kept? [y/N] ", o->agent);
        if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
                return true;
        fputs("nothing was removed\n", stderr);
        *status = CLI_FAILED;
        return false;
}

static int run_reset(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem p = CLI_PROBLEM_NULL;
        _cleanup_place_ struct place w = {.fd = -1};
        struct cli_operands rest;
        struct stat st;
        int status;

        if (!begin(self, argc, argv, 0, &o, &rest, &w, &status))
                return status;
        if (w.fd < 0 || (fstatat(w.fd, o.agent, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)) {
                (void)no_state(&p, o.agent);
                return cli_report(&p, o.json);
        }
        if (!sure(&o, &status))
                return status;
        _cleanup_close_ int lock = lock_or_problem(&w, o.agent, &p);
        if (lock < 0 || remove_all(&w, o.agent, &p) < 0)
                return cli_report(&p, o.json);
        if (o.json)
                jsonout_print(json_pack("{s:s, s:b}", "agent", o.agent, "reset", 1));
        else
                printf("agent %s begins with nothing\n", o.agent);
        return CLI_OK;
}

/* --- verbs --- */

const struct cli_verb verb_state_list = {
        .group = "state",
        .name = "list",
        .synopsis = "[--crew NAME] [--json]",
        .summary = "show what agents keep between their runs",
        .details = "An agent has a directory of its own, /home/agent/state in its jail, that outlives it; crew-file(5).\n"
                   "\n"
                   "  crewctl state list\n",
        .options = list_options,
        .n_options = ELEMENTSOF(list_options),
        .run = run_list,
};

const struct cli_verb verb_state_export = {
        .group = "state",
        .name = "export",
        .synopsis = "--agent AGENT [--crew NAME] [--json] FILE.tar",
        .summary = "write an agent's state directory to a tar archive",
        .details =
                "FILE.tar \"-\" is standard output.  Links, sockets and pipes are left out, and named.  Of an agent that\n"
                "runs files may be caught half written: stop or freeze it first.\n"
                "\n"
                "  crewctl state export --agent report-writer writer.tar\n",
        .options = agent_options,
        .n_options = ELEMENTSOF(agent_options),
        .operands = CLI_COMPLETE_FILE,
        .run = run_export,
};

const struct cli_verb verb_state_import = {
        .group = "state",
        .name = "import",
        .synopsis = "--agent AGENT [--crew NAME] [--json] FILE.tar",
        .summary = "replace an agent's state directory by a tar archive",
        .details =
                "Only while the agent does not run.  Links, devices and names with \"..\" are refused, and then nothing\n"
                "is changed.  FILE.tar \"-\" is standard input.  With --crew also before the crew has ever run here.\n"
                "\n"
                "  crewctl state import --agent report-writer writer.tar\n",
        .options = agent_options,
        .n_options = ELEMENTSOF(agent_options),
        .operands = CLI_COMPLETE_FILE,
        .run = run_import,
};

const struct cli_verb verb_state_reset = {
        .group = "state",
        .name = "reset",
        .synopsis = "--agent AGENT [--yes] [--crew NAME] [--json]",
        .summary = "remove what an agent has kept",
        .details = "Only while the agent does not run.\n"
                   "\n"
                   "  crewctl state reset --agent report-writer --yes\n",
        .options = reset_options,
        .n_options = ELEMENTSOF(reset_options),
        .run = run_reset,
};
