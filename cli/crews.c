/* SPDX-License-Identifier: Apache-2.0 */
/* Finding crews. */
#include "crews.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

void crew_names_fini(struct crew_names *l) {
        free(l->items);
        *l = (struct crew_names){0};
}

int crew_names_add(struct crew_names *l, const char *name) {
        if (strlen(name) >= CREW_NAME_MAX)
                return 0;
        void *grown = reallocarray(l->items, l->n + 1, sizeof(*l->items));
        if (!grown)
                return -ENOMEM;
        l->items = grown;
        memcpy(l->items[l->n++], name, strlen(name) + 1);
        return 0;
}

void crew_names_join(const struct crew_names *l, char *out, size_t n) {
        size_t used = 0;

        out[0] = '\0';
        for (size_t i = 0; i < l->n; i++) {
                int k = snprintf(out + used, n - used, "%s%s", i ? ", " : "", l->items[i]);
                if (k < 0 || (size_t)k + 8 >= n - used) {
                        snprintf(out + used, n - used, ", ...");
                        return;
                }
                used += (size_t)k;
        }
}

const char *crew_names_nearest(const struct crew_names *l, const char *word) {
        _cleanup_free_ const char **names = calloc(l->n ? l->n : 1, sizeof(*names));

        for (size_t i = 0; names && i < l->n; i++)
                names[i] = l->items[i];
        return names ? crew_nearest(word, names, l->n) : NULL;
}

static int compare(const void *a, const void *b) {
        return strcmp(a, b);
}

/* Names of the sub-directories of dir that are valid names and that keep() wants.  A missing dir is an empty list. */
static int list(const char *dir, bool (*keep)(const char *name, const void *user), const void *user,
                struct crew_names *out) {
        _cleanup_(closedirp) DIR *d = opendir(dir);
        int r = 0;

        if (!d)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (struct dirent *e = readdir(d); e && r == 0; e = readdir(d)) {
                if (crew_agent_name_ok(e->d_name) && keep(e->d_name, user))
                        r = crew_names_add(out, e->d_name);
        }
        if (out->n > 1)
                qsort(out->items, out->n, sizeof(*out->items), compare);
        return r;
}

/* Through a descriptor of the directory: its path may be longer than a socket address. */
int crew_connect(const struct crew_paths *paths, const char *crew, uint32_t wait_ms) {
        char dir[PATH_MAX + CREW_NAME_MAX];
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        const struct timeval wait = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};

        snprintf(dir, sizeof(dir), "%s/%s", paths->run, crew);
        _cleanup_close_ int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (at < 0)
                return -errno;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait_ms ? 0 : SOCK_NONBLOCK), 0);
        if (fd < 0)
                return -errno;
        snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/control.sock", at);
        /* Nothing announces room in a backlog: a connect() that blocks is what waits for it, and this is its limit. */
        if (wait_ms && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
                return -errno;
        int r;
        do
                r = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        if (wait_ms && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
                return -errno;
        return crew_steal_fd(&fd);
}

static bool answers(const char *name, const void *user) {
        _cleanup_close_ int fd = crew_connect(user, name, 0);

        return fd >= 0 || fd == -EAGAIN; /* EAGAIN: its backlog is full, so it lives */
}

int crews_running(const struct crew_paths *paths, struct crew_names *out) {
        return list(paths->run, answers, paths, out);
}

static bool any(const char *name, const void *user) {
        (void)name, (void)user;
        return true;
}

int crews_in_run(const struct crew_paths *paths, struct crew_names *out) {
        return list(paths->run, any, paths, out);
}

static bool has_dir(const char *base, const char *name, const char *below, const char *file) {
        char path[PATH_MAX * 2];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s%s%s", base, name, below, file);
        return stat(path, &st) == 0;
}

static bool has_audit(const char *name, const void *user) {
        return has_dir(user, name, "/audit", "");
}

static bool has_log(const char *name, const void *user) {
        return has_dir(user, name, "", "/log.jsonl");
}

int crews_recorded(const struct crew_paths *paths, struct crew_names *out) {
        return list(paths->state, has_audit, paths->state, out);
}

int crew_recorded_agents(const struct crew_paths *paths, const char *crew, struct crew_names *out) {
        char dir[PATH_MAX + CREW_NAME_MAX + 8];

        snprintf(dir, sizeof(dir), "%s/%s/audit", paths->state, crew);
        return crew_agents_in(dir, out);
}

int crew_agents_in(const char *dir, struct crew_names *out) {
        return list(dir, has_log, dir, out);
}

static bool is_dir(const char *name, const void *user) {
        char path[PATH_MAX * 2];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s", (const char *)user, name);
        return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int crew_state_agents(const struct crew_paths *paths, const char *crew, struct crew_names *out) {
        char dir[PATH_MAX + CREW_NAME_MAX + 8];

        snprintf(dir, sizeof(dir), "%s/%s/state", paths->state, crew);
        return list(dir, is_dir, dir, out);
}

static int no_list(struct cli_problem *p, const char *dir, int r) {
        cli_problem_set(p, CLI_FAILED, "io", "cannot read %s: %s", dir, strerror(-r));
        if (r == -EACCES && geteuid() != 0)
                cli_problem_hint(p, "it belongs to another user; try sudo crewctl");
        return -1;
}

static void hint_start(struct cli_problem *p) {
        cli_problem_hint(p, "start one: crewctl up CREW.yaml --detach   (or run it to its end: crewctl run CREW.yaml)");
        if (geteuid() != 0 && !getenv("CREWD_HOME") && access("/run/crewd", F_OK) == 0)
                cli_problem_hint(p, "crews that root started are seen by root only: sudo crewctl ...");
}

static int copy_name(char out[CREW_NAME_MAX], const char *name) {
        memcpy(out, name, strlen(name) + 1);
        return 0;
}

static int ambiguous(struct cli_problem *p, const struct crew_names *l, const char *what) {
        char names[1024];

        crew_names_join(l, names, sizeof(names));
        cli_problem_set(p, CLI_USAGE, "several-crews", "%zu crews %s; say which with --crew", l->n, what);
        cli_problem_hint(p, "crews: %s", names);
        return -1;
}

static int absent(struct cli_problem *p, const struct crew_names *l, const char *wanted, const char *what) {
        const char *near = crew_names_nearest(l, wanted);
        char names[1024];

        cli_problem_set(p, CLI_ABSENT, "no-such-crew", "no crew '%s' %s", wanted, what);
        crew_names_join(l, names, sizeof(names));
        if (l->n > 0)
                cli_problem_hint(p, "crews: %s%s%s%s", names, near ? "   (did you mean " : "", near ? near : "",
                                 near ? "?)" : "");
        return -1;
}

int crew_choose_running(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX],
                        struct cli_problem *p) {
        _cleanup_names_ struct crew_names l = {0};
        int r = crews_running(paths, &l);

        if (r < 0)
                return no_list(p, paths->run, r);
        for (size_t i = 0; i < l.n; i++) {
                if (!wanted ? l.n == 1 : strcmp(l.items[i], wanted) == 0)
                        return copy_name(out, l.items[i]);
        }
        if (wanted) {
                absent(p, &l, wanted, "is running");
                if (l.n == 0)
                        hint_start(p);
                return -1;
        }
        if (l.n > 1)
                return ambiguous(p, &l, "are running");
        cli_problem_set(p, CLI_ABSENT, "no-crew", "no crew is running");
        hint_start(p);
        return -1;
}

int crew_choose_recorded(const struct crew_paths *paths, const char *wanted, char out[CREW_NAME_MAX],
                         struct cli_problem *p) {
        _cleanup_names_ struct crew_names l = {0}, running = {0};
        int r = crews_recorded(paths, &l);

        if (r < 0)
                return no_list(p, paths->state, r);
        for (size_t i = 0; i < l.n; i++) {
                if (!wanted ? l.n == 1 : strcmp(l.items[i], wanted) == 0)
                        return copy_name(out, l.items[i]);
        }
        if (wanted)
                return absent(p, &l, wanted, "has an audit here");
        if (crews_running(paths, &running) == 0 && running.n == 1)
                return copy_name(out, running.items[0]);
        if (l.n > 1)
                return ambiguous(p, &l, "have an audit here");
        cli_problem_set(p, CLI_ABSENT, "no-crew", "no crew has run here: no audit in %s", paths->state);
        hint_start(p);
        return -1;
}

int crew_unknown_agent(struct cli_problem *p, const char *crew, const char *agent, const struct crew_names *known) {
        const char *near = crew_names_nearest(known, agent);
        char names[1024];

        crew_names_join(known, names, sizeof(names));
        cli_problem_set(p, CLI_ABSENT, "unknown-agent", "no agent '%s' in crew %s", agent, crew);
        if (known->n > 0)
                cli_problem_hint(p, "agents: %s%s%s%s", names, near ? "   (did you mean " : "", near ? near : "",
                                 near ? "?)" : "");
        return -1;
}
