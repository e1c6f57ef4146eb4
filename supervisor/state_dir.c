/* SPDX-License-Identifier: Apache-2.0 */
#include "state_dir.h"

#include "common/state_version.h"
#include "common/tree.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hold.h"
#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define ASIDE ".old-" /* no agent has such a name */
#define ENTRIES_MAX 1000000u
#define LOOK_SHARE 50u            /* looking at one agent's takes a fiftieth of a processor, */
#define LOOK_NS_MIN 20000000ull   /* not after each of many short tasks, */
#define LOOK_NS_MAX 5000000000ull /* and with no longer a pause than this */

int state_dirs_init(struct crewd *c, struct crew_err *err) {
        char path[PATH_MAX], real[PATH_MAX];

        snprintf(path, sizeof(path), "%.*s/%s/state", PATH_MAX - 128, c->paths.state, c->file->name);
        int r = crew_mkdir_p(path, 0700, err);
        if (r < 0)
                return r;
        /* Mounts refuse links on their way, and the state directory itself may lie behind some. */
        if (!realpath(path, real) || strlen(real) >= sizeof(c->states_dir))
                return crew_fail(err, errno, "cannot resolve %s: %s", path, strerror(errno));
        strcpy(c->states_dir, real);
        c->states_fd = open(real, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return c->states_fd < 0 ? crew_fail_errno(err, "cannot open %s", real) : 0;
}

const char *state_dir_path(const struct agent *a) {
        return a->state_path[0] ? a->state_path : NULL;
}

/* --- what takes its time --- */

/* The first call starts libuv's threads: none of them may take a signal, which the loop thread waits for, or at the end
 * holds. */
int state_dir_queue(struct crewd *c, uv_work_t *work, uv_work_cb run, uv_after_work_cb after) {
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = uv_queue_work(&c->loop, work, run, after);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r;
}

/* --- removing what was put aside --- */

struct removal {
        uv_work_t work;
        struct crewd *crewd;
        int at; /* owned */
        char name[96];
        int result;
};

static void remove_it(uv_work_t *w) {
        struct removal *r = w->data;

        r->result = tree_remove(r->at, r->name);
}

static void on_removed(uv_work_t *w, int status) {
        struct removal *r = w->data;

        if (status == 0 && r->result < 0)
                crewd_log(r->crewd, "%s/%s could not be removed: %s", r->crewd->states_dir, r->name, strerror(-r->result));
        r->crewd->removals--;
        crew_close(&r->at);
        crewd_progress(r->crewd);
        free(r);
}

void state_dir_discard(struct crewd *c, const char *name) {
        struct removal *r = calloc(1, sizeof(*r));

        if (!r)
                return; /* the next start of crewd finds it */
        *r = (struct removal){.crewd = c, .at = fcntl(c->states_fd, F_DUPFD_CLOEXEC, 3)};
        r->work.data = r;
        snprintf(r->name, sizeof(r->name), "%s", name);
        if (r->at < 0 || state_dir_queue(c, &r->work, remove_it, on_removed) < 0) {
                crew_close(&r->at);
                free(r);
                return;
        }
        c->removals++;
}

bool state_dirs_idle(const struct crewd *c) {
        return c->removals == 0;
}

void state_dirs_sweep(struct crewd *c) {
        int fd = fcntl(c->states_fd, F_DUPFD_CLOEXEC, 3);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);

        for (struct dirent *e; d && (e = readdir(d));) {
                if (strncmp(e->d_name, ASIDE, strlen(ASIDE)) == 0)
                        state_dir_discard(c, e->d_name);
        }
        if (d)
                closedir(d);
        else
                crew_close(&fd);
}

/* --- one agent's --- */

static int open_lock(const struct agent *a, int flags) {
        char name[80];

        snprintf(name, sizeof(name), "%s.lock", agent_name(a));
        int fd = openat(a->crewd->states_fd, name, flags | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
        return fd < 0 ? -errno : fd;
}

bool state_dir_in_use(const struct agent *a) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        if (!a->state_path[0] || a->state_lock >= 0)
                return false;
        _cleanup_close_ int fd = open_lock(a, 0);
        return fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int state_dir_lock(struct agent *a, struct crew_err *err) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        _cleanup_close_ int fd = open_lock(a, O_CREAT);
        if (fd < 0)
                return crew_fail(err, -fd, "cannot open %s/%s.lock: %s", a->crewd->states_dir, agent_name(a),
                                 strerror(-fd));
        if (fcntl(fd, F_OFD_SETLK, &l) < 0)
                return crew_fail(err, EBUSY, "its state directory is in use (crewctl state import or reset?)");
        a->state_lock = crew_steal_fd(&fd);
        return 0;
}

void state_dir_aside_name(const struct agent *a, char *out, size_t size) {
        snprintf(out, size, ASIDE "%s-%llx", agent_name(a), (unsigned long long)crew_realtime_ns());
}

static int put_aside(struct agent *a, struct crew_err *err) {
        char name[96];
        struct stat st;

        if (fstatat(a->crewd->states_fd, agent_name(a), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        state_dir_aside_name(a, name, sizeof(name));
        if (renameat(a->crewd->states_fd, agent_name(a), a->crewd->states_fd, name) < 0)
                return crew_fail_errno(err, "cannot empty %s", a->state_path);
        state_dir_discard(a->crewd, name);
        return 0;
}

/* The agent may have changed the mode of its own top directory, but not what it is. */
static int make(struct agent *a, struct crew_err *err) {
        int at = a->crewd->states_fd;
        struct stat st;

        if (mkdirat(at, agent_name(a), 0700) < 0 && errno != EEXIST)
                return crew_fail_errno(err, "cannot make %s", a->state_path);
        if (fstatat(at, agent_name(a), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return crew_fail_errno(err, "cannot look at %s", a->state_path);
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
                return crew_fail(err, EPERM, "%s is not a directory of this user", a->state_path);
        if ((st.st_mode & 07777) != 0700 && fchmodat(at, agent_name(a), 0700, 0) < 0)
                return crew_fail_errno(err, "cannot set the mode of %s", a->state_path);
        return 0;
}

/* --- how much there is --- */

struct measurement {
        uv_work_t work;
        struct crewd *crewd;
        struct agent *agent;
        uint32_t id; /* of the instance */
        int dir;     /* owned */
        int result;
        struct tree_size size;
        uint64_t took_ns;
};

static void measure_it(uv_work_t *w) {
        struct measurement *m = w->data;

        uint64_t began = crew_now_ns();

        m->result = tree_measure(m->dir, ENTRIES_MAX, &m->size);
        m->took_ns = crew_now_ns() - began;
}

static void judge(struct agent *a, const struct measurement *m) {
        char text[160];

        if (m->result > 0)
                snprintf(text, sizeof(text), "its state directory holds more than %u files", ENTRIES_MAX);
        else
                snprintf(text, sizeof(text), "its state directory holds %llu KiB; state_max is %llu KiB",
                         (unsigned long long)(m->size.bytes >> 10), (unsigned long long)(a->decl->state_max >> 10));
        if (m->result <= 0 && m->size.bytes <= a->decl->state_max)
                return;
        if (migrate_is_on(a))
                migrate_too_large(a, text);
        else
                usage_exceeded(a, USAGE_STATE, m->size.bytes, text);
}

static void on_measured(uv_work_t *w, int status) {
        struct measurement *m = w->data;

        struct agent *a = m->agent;

        m->crewd->removals--;
        a->measuring = false;
        a->state_look_ns = crew_now_ns() + MIN_OF(MAX_OF(LOOK_SHARE * m->took_ns, LOOK_NS_MIN), LOOK_NS_MAX);
        if (status == 0 && m->result >= 0 && a->in.id == m->id) {
                a->state_known = true;
                a->state_bytes = m->size.bytes;
                judge(a, m);
        }
        crew_close(&m->dir);
        crewd_progress(m->crewd);
        free(m);
}

void state_dir_measure(struct agent *a) {
        struct crewd *c = a->crewd;

        if (!a->state_path[0] || a->measuring || !agent_state_live(a->state) || hold_is_on(a) ||
            crew_now_ns() < a->state_look_ns)
                return;
        struct measurement *m = calloc(1, sizeof(*m));
        if (!m)
                return;
        *m = (struct measurement){.crewd = c, .agent = a, .id = a->in.id};
        m->work.data = m;
        m->dir = tree_open_dir(c->states_fd, migrate_is_on(a) ? a->in.migrate.name : agent_name(a));
        if (m->dir < 0 || state_dir_queue(c, &m->work, measure_it, on_measured) < 0) {
                crew_close(&m->dir);
                free(m);
                return;
        }
        a->measuring = true;
        c->removals++;
}

int state_dir_take(struct agent *a, struct crew_err *err) {
        if (!a->state_path[0])
                return 0;
        state_dir_release(a);
        int r = state_dir_lock(a, err);
        if (r == 0 && a->decl->state == CREW_STATE_FRESH && (r = put_aside(a, err)) == 0)
                r = state_version_write(a->crewd->states_fd, agent_name(a), 0, err);
        return r < 0 ? r : make(a, err);
}

void state_dir_release(struct agent *a) {
        crew_close(&a->state_lock);
}
