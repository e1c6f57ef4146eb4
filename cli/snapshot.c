/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot.h"

#include "common/tree.h"
#include "common/util.h"
#include "interrupt.h"
#include "jsonout.h"
#include "log_file.h"
#include "new_file.h"
#include "tar.h"
#include "worker/sandbox/proctree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define PROC_TEXT_MAX 65536u
#define NET_TEXT_MAX (4u << 20)
#define RECORDS_MAX 1000u
#define STATE_FILE_MAX (256ull << 20)
#define STATE_TOTAL_MAX (4ull << 30)
#define LEFT_OUT_NAMED 1000u

struct snapshot {
        struct new_file file; /* owned */
        struct tar tar;
        struct crew_paths paths;
        char crew[64];
        json_t *left_out; /* owned; of the agent being written */
        struct snapshot_totals totals;
};

struct snapshot *snapshot_free(struct snapshot *s) {
        if (!s)
                return NULL;
        new_file_close(&s->file);
        json_decref(s->left_out);
        free(s);
        return NULL;
}

static int failed(struct cli_problem *p, const char *text) {
        return cli_problem_set(p, CLI_FAILED, "snapshot", "%s", text);
}

static int taken(struct cli_problem *p, const char *text) {
        cli_problem_set(p, CLI_FAILED, "exists", "%s", text);
        cli_problem_hint(p, "a snapshot replaces nothing: choose another name");
        return -1;
}

static void put_json(struct snapshot *s, const char *agent, const char *name, json_t *v) {
        char path[128], *text = json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY);

        snprintf(path, sizeof(path), "%s%s%s", agent, *agent ? "/" : "", name);
        if (text)
                tar_put_bytes(&s->tar, path, text, strlen(text));
        free(text);
        json_decref(v);
}

int snapshot_begin(const char *file, const char *crew, const char *reason, struct snapshot **out, struct cli_problem *p) {
        _cleanup_snapshot_ struct snapshot *s = calloc(1, sizeof(*s));
        struct crew_err err = CREW_ERR_NULL;

        if (!s)
                return failed(p, "out of memory");
        s->file = NEW_FILE_NULL;
        if (crew_paths_init(&s->paths, &err) < 0)
                return failed(p, err.msg);
        snprintf(s->crew, sizeof(s->crew), "%s", crew);
        int r = new_file_open(&s->file, file, &err);
        if (r < 0)
                return r == -EEXIST ? taken(p, err.msg) : failed(p, err.msg);
        s->tar = (struct tar){
                .fd = s->file.fd, .mtime = (int64_t)(crew_realtime_ns() / 1000000000u), .stopped = interrupt_seen};
        put_json(s, "", "snapshot.json",
                 json_pack("{s:o, s:I, s:o, s:s}", "crew", jsonout_text(crew), "time_ms",
                           (json_int_t)(crew_realtime_ns() / 1000000u), "reason", jsonout_text(reason), "by",
                           "crewctl " CREW_VERSION));
        *out = crew_steal_ptr(&s);
        return 0;
}

/* --- processes --- */

/* Files of /proc tell no size: until their end, at most max bytes. */
static char *read_proc(int pid, const char *name, size_t max, size_t *n) {
        char path[96];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        char *text = f ? malloc(max + 1) : NULL;
        *n = text ? fread(text, 1, max, f) : 0;
        if (text)
                text[*n] = '\0';
        return text;
}

static json_t *words_of(const char *text, size_t n) {
        json_t *words = json_array();

        for (size_t at = 0; at < n; at += strlen(text + at) + 1)
                json_array_append_new(words, jsonout_text(text + at));
        return words;
}

static json_t *process_json(int pid) {
        size_t n = 0, m = 0, k = 0;
        _cleanup_free_ char *status = read_proc(pid, "status", PROC_TEXT_MAX, &n);
        _cleanup_free_ char *words = read_proc(pid, "cmdline", PROC_TEXT_MAX, &m);
        _cleanup_free_ char *limits = read_proc(pid, "limits", PROC_TEXT_MAX, &k);
        json_t *o = json_pack("{s:i, s:o}", "pid", pid, "command", words_of(words ? words : "", words ? m : 0));

        if (status)
                json_object_set_new(o, "status", jsonout_text(status));
        if (limits)
                json_object_set_new(o, "limits", jsonout_text(limits));
        return o;
}

static void put_processes(struct snapshot *s, const Crew__AgentStatus *a) {
        /* It stands still, so one walk sees all of it. */
        const struct proctree *tree = proctree_walk((pid_t)a->pid, UINT64_MAX);
        json_t *list = json_array();

        for (size_t i = 0; i < tree->n; i++)
                json_array_append_new(list, process_json(tree->pids[i]));
        s->totals.processes += (uint32_t)tree->n;
        put_json(s, a->name, "processes.json", list);
}

/* --- connections --- */

static void put_sockets(struct snapshot *s, const Crew__AgentStatus *a) {
        static const char *const tables[] = {"net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/unix"};

        for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
                char path[128];
                size_t n = 0;
                _cleanup_free_ char *text = read_proc((int)a->pid, tables[i], NET_TEXT_MAX, &n);
                snprintf(path, sizeof(path), "%s/%s", a->name, tables[i]);
                if (text)
                        tar_put_bytes(&s->tar, path, text, n);
        }
}

static const char *kind_of(json_t *v) {
        const char *kind = json_string_value(json_object_get(v, "kind"));

        return kind ? kind : "";
}

struct seek {
        uint32_t incarnation;
        uint64_t n;
};

static enum log_file_step to_spawn(const char *line, size_t n, void *user) {
        const struct seek *k = user;
        json_t *v = memmem(line, n, "\"agent.spawned\"", 15) ? json_loadb(line, n, 0, NULL) : NULL;
        bool here = v && strcmp(kind_of(v), "agent.spawned") == 0 &&
                    json_integer_value(json_object_get(v, "inc")) == (json_int_t)k->incarnation;

        json_decref(v);
        return here || interrupt_seen() ? LOG_FILE_HERE : LOG_FILE_ON;
}

static enum log_file_step to_last(const char *line, size_t n, void *user) {
        struct seek *k = user;

        (void)line, (void)n;
        return ++k->n >= RECORDS_MAX ? LOG_FILE_HERE : LOG_FILE_ON;
}

/* open and closed by number, which is unique for the life of a gateway; places by host and port. */
struct connections {
        json_t *open, *closed, *places;
};

static const char *conn_of(json_t *v, char conn[32]) {
        snprintf(conn, 32, "%lld", (long long)json_integer_value(json_object_get(v, "conn")));
        return conn;
}

/* Of one place: how many are open, and the line that let the last one through. */
static json_t *place_of(struct connections *c, json_t *v) {
        const char *host = json_string_value(json_object_get(v, "host"));
        char name[512];

        snprintf(name, sizeof(name), "%.400s:%lld", host ? host : "",
                 (long long)json_integer_value(json_object_get(v, "port")));
        json_t *place = json_object_get(c->places, name);
        if (place)
                return place;
        json_object_set_new(c->places, name, json_pack("{s:i}", "open", 0));
        return json_object_get(c->places, name);
}

static void count_place(json_t *place, json_t *v, bool opened) {
        json_int_t count = json_integer_value(json_object_get(v, "count")),
                   open = json_integer_value(json_object_get(place, "open"));

        count = count > 0 ? count : 1;
        json_object_set_new(place, "open", json_integer(opened ? open + count : open - count));
        if (opened)
                json_object_set(place, "last", v);
}

/*
 * The gateway's word: what was let through and has not been closed.  Connections that are alike share a line with the
 * number of the last of them, so all are counted as well; and the line that one was let through can come after the one that
 * it was closed.
 */
static void note_connection(struct connections *c, const char *line, size_t n) {
        bool tells = memmem(line, n, "\"network.", 9) || memmem(line, n, "\"gateway.restarted\"", 19);
        json_t *v = tells ? json_loadb(line, n, 0, NULL) : NULL;
        char conn[32];

        if (!v)
                return;
        conn_of(v, conn);
        if (strcmp(kind_of(v), "gateway.restarted") == 0) {
                json_object_clear(c->open);
                json_object_clear(c->closed);
                json_object_clear(c->places);
        } else if (strcmp(kind_of(v), "network.closed") == 0) {
                count_place(place_of(c, v), v, false);
                json_object_del(c->open, conn);
                json_object_set_new(c->closed, conn, json_true());
        } else if (strcmp(kind_of(v), "network.allowed") == 0) {
                count_place(place_of(c, v), v, true);
                if (!json_object_get(c->closed, conn))
                        json_object_set(c->open, conn, v);
        }
        json_decref(v);
}

static void list_one(struct connections *c, json_t *list, json_t *line, json_int_t open) {
        json_t *o = json_copy(line);
        char conn[32];

        if (json_object_get(c->closed, conn_of(line, conn)))
                json_object_del(o, "conn"); /* others of its line are open, it is not */
        json_object_set_new(o, "open", json_integer(open));
        json_array_append_new(list, o);
}

/* Each line by its number; those that share a line are added to the last one of their place. */
static json_t *connections_list(struct connections *c) {
        json_t *list = json_array(), *v;
        const char *key;

        json_object_foreach(c->open, key, v) {
                json_t *place = place_of(c, v);
                json_int_t left = json_integer_value(json_object_get(place, "open"));
                if (json_object_get(place, "last") == v || left <= 0)
                        continue;
                json_object_set_new(place, "open", json_integer(left - 1));
                list_one(c, list, v, 1);
        }
        json_object_foreach(c->places, key, v) {
                json_int_t left = json_integer_value(json_object_get(v, "open"));
                if (left > 0)
                        list_one(c, list, json_object_get(v, "last"), left);
        }
        return list;
}

static void put_connections(struct snapshot *s, const Crew__AgentStatus *a, struct log_file *log) {
        struct seek k = {.incarnation = a->incarnation};
        struct connections c = {json_object(), json_object(), json_object()};
        const char *line;
        size_t n;

        if (log_file_seek_back(log, to_spawn, &k) >= 0) {
                while (!interrupt_seen() && log_file_next(log, &line, &n) == 1)
                        note_connection(&c, line, n);
        }
        put_json(s, a->name, "connections.json", connections_list(&c));
        json_decref(c.open);
        json_decref(c.closed);
        json_decref(c.places);
}

/* --- records --- */

static void put_records(struct snapshot *s, const Crew__AgentStatus *a, struct log_file *log) {
        struct seek k = {0};
        char path[128], *text = NULL;
        const char *line;
        size_t n = 0, len;

        if (log_file_seek_back(log, to_last, &k) < 0)
                return;
        FILE *f = open_memstream(&text, &n);
        for (uint32_t i = 0; f && i < RECORDS_MAX && log_file_next(log, &line, &len) == 1; i++) {
                fwrite(line, 1, len, f);
                fputc('\n', f);
        }
        if (f)
                fclose(f);
        snprintf(path, sizeof(path), "%s/records.jsonl", a->name);
        tar_put_bytes(&s->tar, path, text ? text : "", text ? n : 0);
        free(text);
}

static int put_log(struct snapshot *s, const Crew__AgentStatus *a, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        struct log_file *log = NULL;

        if (log_file_open(a->audit_path, &log, &err) < 0)
                return failed(p, err.msg);
        put_connections(s, a, log);
        put_records(s, a, log);
        log_file_close(log);
        return 0;
}

/* --- state directory --- */

static void on_left_out(const char *path, const char *why, void *user) {
        struct snapshot *s = user;

        s->totals.left_out++;
        if (json_array_size(s->left_out) < LEFT_OUT_NAMED)
                json_array_append_new(s->left_out, json_pack("{s:o, s:s}", "path", jsonout_text(path), "why", why));
}

static int put_state(struct snapshot *s, const Crew__AgentStatus *a, struct cli_problem *p) {
        char dir[2 * PATH_MAX], prefix[80];
        struct crew_err err = CREW_ERR_NULL;

        snprintf(dir, sizeof(dir), "%s/%s/state/%s", s->paths.state, s->crew, a->name);
        snprintf(prefix, sizeof(prefix), "%s/state/", a->name);
        _cleanup_close_ int fd = tree_open_dir(AT_FDCWD, dir);
        if (fd < 0)
                return cli_problem_set(p, CLI_FAILED, "snapshot", "cannot open %s: %s", dir, strerror(-fd));
        json_decref(s->left_out);
        s->left_out = json_array();
        struct tar_tree tree = {.prefix = prefix,
                                .links = true,
                                .file_max = STATE_FILE_MAX,
                                .total_max = STATE_TOTAL_MAX,
                                .entries_max = TAR_ENTRIES_MAX,
                                .on_left_out = on_left_out,
                                .user = s};
        tar_put_dir(&s->tar, prefix, 0700, s->tar.mtime);
        if (tar_put_tree(&s->tar, fd, &tree, &err) < 0)
                return failed(p, err.msg);
        if (json_array_size(s->left_out) > 0)
                put_json(s, a->name, "left-out.json", json_incref(s->left_out));
        return 0;
}

/* --- all of it --- */

int snapshot_agent(struct snapshot *s, const Crew__AgentStatus *a, struct cli_problem *p) {
        put_json(s, a->name, "status.json", jsonout_agent(a));
        put_processes(s, a);
        put_sockets(s, a);
        return put_log(s, a, p) < 0 || put_state(s, a, p) < 0 ? -1 : 0;
}

int snapshot_end(struct snapshot *s, struct snapshot_totals *totals, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        struct stat st;

        if (tar_end(&s->tar, &err) < 0 || fstat(s->file.fd, &st) < 0)
                return failed(p, *err.msg ? err.msg : strerror(errno));
        int r = new_file_finish(&s->file, &err);
        if (r < 0)
                return r == -EEXIST ? taken(p, err.msg) : failed(p, err.msg);
        s->totals.bytes = (uint64_t)st.st_size;
        *totals = s->totals;
        return 0;
}
