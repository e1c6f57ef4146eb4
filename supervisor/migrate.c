/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work on files is done on a thread; its callback finds the instance by its id, for that may be gone by then.  The copy's
 * name begins like those of directories that were put aside, so that the next crewd removes what a crash leaves.
 */
#include "migrate.h"

#include "checkpoint.h"
#include "common/state_version.h"
#include "common/tree.h"
#include "common/tree_copy.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "evidence_client.h"
#include "instance.h"
#include "journal.h"
#include "router.h"
#include "spawner.h"
#include "state_dir.h"
#include "text.h"
#include "toolgate.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_MAX (64u << 10) /* on record */
#define FORGET_NS 1000000000ull

static const struct crew_migrate *declared(const struct agent *a) {
        return &a->decl->migrate;
}

bool migrate_is_on(const struct agent *a) {
        return a->in.migrate.phase != MIGRATE_OFF;
}

static void fail(struct agent *a, const char *text) {
        const struct migrate *m = &a->in.migrate;
        char reason[512];

        journal_migrate(a, m->from, m->to, crew_now_ns() - m->began_ns, text);
        snprintf(reason, sizeof(reason),
                 "its state directory is still of version %u, as it was: migrating it to %u failed: %.300s", m->from, m->to,
                 text);
        snprintf(a->start_error, sizeof(a->start_error), "%s", reason);
        a->in.stopped = true; /* trying again would end the same way */
        death_decide(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", reason);
}

/* There is no jail, or none any more. */
static void fail_without_jail(struct agent *a, const char *text) {
        if (!a->in.death.decided)
                fail(a, text);
        death_on_start_failed(a, a->in.death.reason);
}

/* The jail is killed, and the death that follows is the start's. */
static void fail_with_jail(struct agent *a, const char *text) {
        if (a->in.death.decided)
                return;
        fail(a, text);
        death_kill(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", a->in.death.reason);
}

/* --- on a thread --- */

struct file_work {
        uv_work_t work;
        struct agent *agent;
        uint32_t id; /* of the instance */
        enum migrate_phase phase;
        int at; /* owned: of the directories */
        char name[96], agent_name[64];
        uint64_t state_max;
        int result;
        struct crew_err err;
};

static int copy(struct file_work *w) {
        _cleanup_close_ int from = openat(w->at, w->agent_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (from < 0 || mkdirat(w->at, w->name, 0700) < 0)
                return crew_fail_errno(&w->err, "cannot make a copy");
        _cleanup_close_ int to = openat(w->at, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return to < 0 ? crew_fail_errno(&w->err, "cannot make a copy") : tree_copy(from, to, w->state_max, &w->err);
}

static int check(struct file_work *w) {
        struct tree_size size = {0};

        _cleanup_close_ int dir = openat(w->at, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int r = dir < 0 ? -errno : tree_measure(dir, 0, &size);
        if (r < 0)
                return crew_fail(&w->err, -r, "cannot read what it left: %s", strerror(-r));
        if (size.bytes > w->state_max)
                return crew_fail(&w->err, EFBIG, "it left %llu KiB; state_max is %llu KiB",
                                 (unsigned long long)(size.bytes >> 10), (unsigned long long)(w->state_max >> 10));
        return syncfs(dir) < 0 ? crew_fail_errno(&w->err, "cannot write it to disk") : 0;
}

static void do_work(uv_work_t *work) {
        struct file_work *w = work->data;

        w->result = w->phase == MIGRATE_COPYING ? copy(w) : check(w);
}

static void on_copied(struct agent *a, const struct file_work *w);
static void on_checked(struct agent *a, const struct file_work *w);

static void on_worked(uv_work_t *work, int status) {
        struct file_work *w = work->data;
        struct agent *a = w->agent;
        struct crewd *c = a->crewd;

        c->removals--;
        crew_close(&w->at);
        if (status < 0)
                w->result = crew_fail(&w->err, ECANCELED, "the crew is stopping");
        if (a->in.id != w->id)
                state_dir_discard(c, w->name);
        else if (w->phase == MIGRATE_COPYING)
                on_copied(a, w);
        else
                on_checked(a, w);
        free(w);
        crewd_progress(c);
}

static int begin_work(struct agent *a, enum migrate_phase phase) {
        struct crewd *c = a->crewd;
        struct file_work *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        *w = (struct file_work){.agent = a,
                                .id = a->in.id,
                                .phase = phase,
                                .at = fcntl(c->states_fd, F_DUPFD_CLOEXEC, 3),
                                .state_max = a->decl->state_max};
        w->work.data = w;
        snprintf(w->name, sizeof(w->name), "%s", a->in.migrate.name);
        snprintf(w->agent_name, sizeof(w->agent_name), "%s", agent_name(a));
        int r = w->at < 0 ? -errno : state_dir_queue(c, &w->work, do_work, on_worked);
        if (r < 0) {
                crew_close(&w->at);
                free(w);
                return r;
        }
        a->in.migrate.phase = phase;
        a->in.ready_by_ns = 0; /* as long as the disk takes */
        c->removals++;
        return 0;
}

/* --- before --- */

static bool is_empty(const struct agent *a) {
        struct tree_size size;

        _cleanup_close_ int dir =
                openat(a->crewd->states_fd, agent_name(a), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return dir >= 0 && tree_measure(dir, 1, &size) == 0 && size.entries == 0 && size.missed == 0;
}

static int refuse(const struct agent *a, uint32_t from, struct crew_err *err) {
        const struct crew_migrate *d = declared(a);

        if (from > d->version)
                return crew_fail(
                        err, ENOTRECOVERABLE,
                        "its state directory is of version %u, and the crew file's is %s%.0u; take the crew file that "
                        "it belongs to, or an archive of before (crewctl state import, or reset)",
                        from, d->version ? "older, " : "not given", d->version);
        return crew_fail(
                err, ENOTRECOVERABLE,
                "its state directory is of version %u, the crew file wants %u, and has no `migrate`; add one under "
                "state, or begin anew (crewctl state reset --agent %s)",
                from, d->version, agent_name(a));
}

void migrate_on_record(struct agent *a) {
        uint32_t version;

        if (!a->migrate_unsettled || audit_poisoned(a->audit))
                return;
        a->migrate_unsettled = false;
        if (a->state_lock >= 0) /* what cannot be settled now is said once more, before the next start */
                (void)state_version_settle(a->crewd->states_fd, agent_name(a), &version, NULL);
}

/* It is said; and settled, as soon as no loss of crewd takes that back. */
static void said(struct agent *a) {
        a->migrate_unsettled = true;
        if (!checkpoint_is_armed(a->crewd->checkpoint))
                migrate_on_record(a);
}

/* A crewd before may have been lost between the deed and the record of it. */
static int say_what_was_done(struct agent *a, struct crew_err *err) {
        uint32_t from, to;
        int r = state_version_unsaid(a->crewd->states_fd, agent_name(a), &from, &to, err);

        if (r <= 0 || a->migrate_unsettled)
                return MIN_OF(r, 0);
        if (journal_migrate_told(a, from, to, "a crewd before had done so when it was lost") < 0)
                return crew_fail(err, EIO, "its audit stream cannot be written");
        said(a);
        return 0;
}

int migrate_begin(struct agent *a, struct crew_err *err) {
        const struct crew_migrate *d = declared(a);
        struct migrate *m = &a->in.migrate;
        struct crewd *c = a->crewd;
        uint32_t from = 0;

        if (!state_dir_path(a))
                return 0;
        int r = a->file == c->file ? migrate_take_back(a, err) : 0;
        if (r == 0)
                r = say_what_was_done(a, err);
        if (r == 0)
                r = a->migrate_unsettled ? state_version_read(c->states_fd, agent_name(a), &from, err)
                                         : state_version_settle(c->states_fd, agent_name(a), &from, err);
        if (r < 0 || from == d->version)
                return r;
        if (is_empty(a)) /* whatever it was, it is what the program expects of a new one */
                return state_version_write(c->states_fd, agent_name(a), d->version, err);
        if (from > d->version || d->n_command == 0) {
                a->in.stopped = true;
                return refuse(a, from, err);
        }
        m->from = from;
        m->to = d->version;
        m->began_ns = crew_now_ns();
        state_dir_aside_name(a, m->name, sizeof(m->name));
        int n = snprintf(m->path, sizeof(m->path), "%s/%s", c->states_dir, m->name);
        if (n < 0 || (size_t)n >= sizeof(m->path))
                return crew_fail(err, ENAMETOOLONG, "%s is too long a path", c->states_dir);
        r = begin_work(a, MIGRATE_COPYING);
        return r < 0 ? crew_fail(err, -r, "cannot copy its state directory: %s", strerror(-r)) : 1;
}

static void on_copied(struct agent *a, const struct file_work *w) {
        a->in.migrate.phase = MIGRATE_STARTING;
        if (a->in.death.decided) /* meanwhile */
                return fail_without_jail(a, "");
        if (w->result < 0)
                return fail_without_jail(a, w->err.msg);
        a->in.ready_by_ns = crew_now_ns() + AGENT_SPAWN_TIMEOUT_NS;
        instance_go_on(a);
}

/* --- the command --- */

void migrate_on_ready(struct agent *a) {
        const struct crew_migrate *d = declared(a);
        struct migrate *m = &a->in.migrate;
        Crew__ExecStart start = CREW__EXEC_START__INIT;
        Crew__ExecInput input = CREW__EXEC_INPUT__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        start.n_argv = d->n_command;
        start.argv = (char **)d->command;
        start.health = true; /* nor is this one of an operator's */
        e.body_case = CREW__ENVELOPE__BODY_EXEC_START;
        e.exec_start = &start;
        m->phase = MIGRATE_RUNNING;
        a->in.ready_by_ns = crew_now_ns() + d->timeout_ms * 1000000u;
        if (agent_send(a, &e, &m->seq) < 0)
                return fail_with_jail(a, "its worker does not read its link");
        input.eof = true;
        e = (Crew__Envelope)CREW__ENVELOPE__INIT;
        e.corr = m->seq;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_INPUT;
        e.exec_input = &input;
        agent_send(a, &e, NULL);
}

/* The last of what it said; of standard error, if there is any. */
static void keep_tail(struct migrate *m, const ProtobufCBinaryData *d, bool complaint) {
        size_t n = MIN_OF(d->len, sizeof(m->tail));

        if (complaint && !m->complained)
                m->tail_n = 0;
        m->complained |= complaint;
        if (m->complained != complaint || n == 0)
                return;
        size_t keep = MIN_OF(m->tail_n, sizeof(m->tail) - n);
        memmove(m->tail, m->tail + m->tail_n - keep, keep);
        memcpy(m->tail + keep, d->data + d->len - n, n);
        m->tail_n = keep + n;
}

static void on_output(struct agent *a, const Crew__ExecOutput *x) {
        struct migrate *m = &a->in.migrate;
        size_t room = m->said < OUTPUT_MAX ? OUTPUT_MAX - m->said : 0, take = MIN_OF(x->data.len, room);

        keep_tail(m, &x->data, x->stream == 2);
        if (take > 0)
                journal_stderr(a, "migrate", x->data.data, take, 0);
        m->said += take;
        m->cut += x->data.len - take;
}

static void last_line(const struct migrate *m, char *out, size_t size) {
        size_t end = m->tail_n, from;

        while (end > 0 && (m->tail[end - 1] == '\n' || m->tail[end - 1] == ' '))
                end--;
        for (from = end; from > 0 && m->tail[from - 1] != '\n';)
                from--;
        text_copy(out, size, m->tail + from, end - from);
}

static void on_exit_of(struct agent *a, const Crew__ExecExit *x) {
        struct migrate *m = &a->in.migrate;
        char why[400], line[sizeof(m->tail) + 1];

        if (m->cut > 0)
                journal_stderr(a, "migrate", "", 0, m->cut);
        if (x->exit_code == 0 && x->term_signal == 0 && !*x->error) {
                m->phase = MIGRATE_CHECKING;
                a->in.ready_by_ns = 0;
                /* Not instance_kill(): this is no end of the agent, which can still be killed. */
                spawner_ask(a->crewd->spawner, a->in.id, SPAWN_KILL);
                instance_cut(a);
                return;
        }
        last_line(m, line, sizeof(line));
        const char *more = *x->error ? x->error : line;
        if (x->term_signal)
                snprintf(why, sizeof(why), "signal %d%s%.200s", x->term_signal, *more ? ": " : "", more);
        else
                snprintf(why, sizeof(why), "exit status %d%s%.200s", x->exit_code, *more ? ": " : "", more);
        fail_with_jail(a, why);
}

bool migrate_has_worker(const struct agent *a) {
        return a->in.migrate.phase == MIGRATE_RUNNING && a->state == AGENT_SPAWNING;
}

/* What a program of a jail may ask of crewd, and gets an answer to. */
static bool is_request(const Crew__Envelope *e) {
        static const Crew__Envelope__BodyCase bodies[] = {
                CREW__ENVELOPE__BODY_TOOL_CALL,       CREW__ENVELOPE__BODY_SEND_MESSAGE,
                CREW__ENVELOPE__BODY_LIST_TOOLS,      CREW__ENVELOPE__BODY_MEMORY_PUT,
                CREW__ENVELOPE__BODY_MEMORY_GET,      CREW__ENVELOPE__BODY_MEMORY_LIST,
                CREW__ENVELOPE__BODY_REQUEST_TOOL,    CREW__ENVELOPE__BODY_LIST_AGENTS,
                CREW__ENVELOPE__BODY_SUBMIT_WORK,     CREW__ENVELOPE__BODY_WAIT_WORK,
                CREW__ENVELOPE__BODY_CANCEL_WORK,     CREW__ENVELOPE__BODY_REPRIORITISE_WORK,
                CREW__ENVELOPE__BODY_READ_RESULT,     CREW__ENVELOPE__BODY_LIST_TERMINATIONS,
                CREW__ENVELOPE__BODY_SPAWN_INSTANCE,  CREW__ENVELOPE__BODY_RETIRE_INSTANCE,
                CREW__ENVELOPE__BODY_TERMINATION_SEEN};

        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                if (bodies[i] == e->body_case)
                        return true;
        }
        return false;
}

bool migrate_frame(struct agent *a, const Crew__Envelope *e) {
        static const struct call_reply no = {
                .code = CALL_DENIED, .message = "the agent's state is being migrated; there is nobody to talk to yet"};
        struct migrate *m = &a->in.migrate;

        if (m->phase != MIGRATE_RUNNING)
                return false;
        if (is_request(e)) {
                if (e->body_case == CREW__ENVELOPE__BODY_SEND_MESSAGE && e->send_message->unanswered)
                        journal_message_lost(a, e->send_message->target, no.message);
                else
                        toolgate_reply(a, e->seq, &no);
                return true;
        }
        if (m->seq == 0 || e->corr != m->seq)
                return false;
        if (e->body_case == CREW__ENVELOPE__BODY_EXEC_OUTPUT)
                on_output(a, e->exec_output);
        else if (e->body_case == CREW__ENVELOPE__BODY_EXEC_EXIT)
                on_exit_of(a, e->exec_exit);
        else
                return false;
        return true;
}

void migrate_too_late(struct agent *a) {
        char why[96];

        snprintf(why, sizeof(why), "no end within %llu ms", (unsigned long long)declared(a)->timeout_ms);
        fail_with_jail(a, a->in.migrate.phase == MIGRATE_RUNNING ? why : "its jail was not ready in time");
}

void migrate_too_large(struct agent *a, const char *text) {
        if (a->in.migrate.phase == MIGRATE_RUNNING)
                fail_with_jail(a, text);
}

/* --- after --- */

bool migrate_on_exited(struct agent *a, const struct spawn_exit *x) {
        struct migrate *m = &a->in.migrate;
        char why[96];

        if (!migrate_is_on(a) || a->in.death.decided)
                return false;
        if (m->phase == MIGRATE_CHECKING) {
                int r = begin_work(a, MIGRATE_CHECKING);
                if (r < 0)
                        fail_without_jail(a, strerror(-r));
                return true;
        }
        if (x->oom_kills)
                snprintf(why, sizeof(why), "the memory limit was hit");
        else
                snprintf(why, sizeof(why), "its jail ended with %s %d", x->signal ? "signal" : "status",
                         x->signal ? x->signal : x->code);
        fail(a, why);
        return false;
}

static void keep_former(struct agent *a) {
        struct migrate *m = &a->in.migrate;
        struct stat st;

        if (a->former.name[0] || fstatat(a->crewd->states_fd, agent_name(a), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return; /* what there was before the first of them is what may be wanted back */
        a->former = (struct state_former){.from = m->from, .to = m->to, .dev = st.st_dev, .ino = st.st_ino};
        memcpy(a->former.name, m->name, sizeof(a->former.name));
        m->name[0] = '\0'; /* it does not go with the instance */
}

static void on_checked(struct agent *a, const struct file_work *w) {
        struct migrate *m = &a->in.migrate;
        struct crewd *c = a->crewd;
        struct crew_err err = CREW_ERR_NULL;

        if (a->in.death.decided)
                return fail_without_jail(a, "");
        if (w->result < 0)
                return fail_without_jail(a, w->err.msg);
        if (state_version_swap_unsaid(c->states_fd, agent_name(a), m->name, m->from, m->to, &err) < 0)
                return fail_without_jail(a, err.msg);
        if (a->file != c->file)
                keep_former(a);
        if (journal_migrate(a, m->from, m->to, crew_now_ns() - m->began_ns, NULL) < 0)
                return fail_without_jail(a, "its audit stream cannot be written"); /* it is migrated all the same */
        said(a);
        m->phase = MIGRATE_DONE;
        if (evidence_forget(c->evidence, a->in.id) == 0) {
                a->forgetting = true;
                a->forget_by_ns = crew_now_ns() + FORGET_NS;
        }
}

bool migrate_next_due(const struct agent *a) {
        return a->in.migrate.phase == MIGRATE_DONE && !a->forgetting && agent_state_live(a->state);
}

void migrate_next(struct agent *a) {
        if (a->state == AGENT_SPAWNING)
                return instance_spawn(a);
        death_on_start_failed(a, a->in.death.reason); /* it was killed meanwhile, and has no jail */
}

/* By then it may be the former directory that has this name. */
void migrate_clear(struct agent *a) {
        if (a->in.migrate.name[0] && a->in.migrate.phase != MIGRATE_COPYING)
                state_dir_discard(a->crewd, a->in.migrate.name);
}

/* --- a crew file that is taken back --- */

/* Nobody has put another one in its place meanwhile (crewctl state import, or reset). */
static bool is_ours(const struct agent *a) {
        struct stat st;

        return fstatat(a->crewd->states_fd, agent_name(a), &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == a->former.dev &&
               st.st_ino == a->former.ino;
}

int migrate_take_back(struct agent *a, struct crew_err *err) {
        struct state_former f = a->former;
        struct crewd *c = a->crewd;
        bool locked = a->state_lock >= 0;

        if (!f.name[0])
                return 0;
        int r = locked ? 0 : state_dir_lock(a, err);
        if (r < 0)
                return r;
        if (is_ours(a) && (r = state_version_swap(c->states_fd, agent_name(a), f.name, f.to, f.from, err)) == 0)
                (void)journal_migrate_told(a, f.to, f.from,
                                           "the crew file that asked for it was taken back: it is as it was before");
        if (!locked)
                state_dir_release(a);
        if (r == 0)
                migrate_let_go(a);
        return r;
}

void migrate_let_go(struct agent *a) {
        if (a->former.name[0])
                state_dir_discard(a->crewd, a->former.name);
        a->former = (struct state_former){0};
}
