/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook.h"

#include "channel.h"
#include "common/util.h"
#include "common/webhook.h"
#include "crewd.h"
#include "environment.h"
#include "journal.h"
#include "launcher.h"
#include "syncer.h"
#include "termination.h"
#include "text.h"
#include "webhook_outbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define START_MS 10000
#define NO_AGENT UINT32_MAX

/* Before the next start of one that died, and again and again before the one after. */
static const uint64_t delays_ns[] = {100000000ull, 1000000000ull, 5000000000ull, 30000000000ull};
#define QUIET_NS 100000000u /* since the last death: time to tidy the outbox */
#define QUIET_STEP_NS 5000000u
#define PROVEN_NS 60000000000ull /* one that ran so long did not die of how it was started */

struct webhook {
        struct crewd *crewd;
        struct channel *launcher; /* NULL: it is gone, and no crew-webhook is started any more */
        struct channel *channel;  /* NULL: crew-webhook is gone */
        struct webhook_outbox *outbox;
        char dir[PATH_MAX]; /* of the outbox */
        uint32_t fresh;     /* of this run, without an attempt yet */
        uint32_t failures;
        bool again;                                    /* this crew-webhook is not the first one */
        bool told;                                     /* what the outbox held at its start was counted */
        uint64_t started_ns, start_at_ns, ready_by_ns; /* the last two: 0 when nothing is waited for */
        uint64_t quiet_at_ns;                          /* to tidy the outbox; 0: it is tidy */
        struct webhook_outbox_done done;               /* the syncer's while removing */
        struct sync_job removal;
        bool removing;
};

/* --- start --- */

static struct webhook_msg *config_new(const struct crew_webhook *hook, struct crew_err *err) {
        struct webhook_msg *m = calloc(1, sizeof(*m));
        const char *words[] = {hook->url, hook->secret_file, hook->ca_file ? hook->ca_file : ""};

        if (!m) {
                crew_fail(err, ENOMEM, "out of memory");
                return NULL;
        }
        m->op = WEBHOOK_CONFIG;
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t n = strlen(words[i]) + 1;
                if (n > sizeof(m->text) - m->n) {
                        crew_fail(err, ENAMETOOLONG, "webhook: path too long");
                        free(m);
                        return NULL;
                }
                memcpy(m->text + m->n, words[i], n);
                m->n += (uint32_t)n;
        }
        return m;
}

static int send_config(int fd, const struct crew_webhook *hook, struct crew_err *err) {
        _cleanup_free_ struct webhook_msg *m = config_new(hook, err);

        if (!m)
                return -ENOMEM;
        ssize_t n = crew_send_fds(fd, m, sizeof(*m), NULL, 0);
        return n < 0 ? crew_fail(err, (int)-n, "crew-webhook cannot be told what to do") : 0;
}

static int await_ready(int fd, struct crew_err *err) {
        _cleanup_free_ struct webhook_msg *m = calloc(1, sizeof(*m));
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char text[256];

        if (!m)
                return crew_fail(err, ENOMEM, "out of memory");
        if (poll(&p, 1, START_MS) <= 0 || crew_recv_fds(fd, m, sizeof(*m), NULL, NULL, 0) < (ssize_t)WEBHOOK_MSG_HEAD)
                return crew_fail(err, ETIMEDOUT, "crew-webhook did not start");
        if (m->op == WEBHOOK_READY)
                return 0;
        text_copy(text, sizeof(text), m->text, MIN_OF(m->n, sizeof(m->text)));
        return crew_fail(err, EINVAL, "%s", text);
}

int webhook_start(const struct crew_file *file, struct webhook_fds *out, pid_t *pid, struct crew_err *err) {
        const struct launcher_args args = {.program = "crew-webhook", .env = environment_for_helpers()};
        const struct launch_msg start = {.op = LAUNCH_START};
        _cleanup_close_ int launcher = launcher_start(&args, pid, err);
        int pair[2], r;

        if (launcher < 0)
                return launcher;
        if ((r = channel_pair(pair)) < 0)
                return crew_fail(err, -r, "cannot make a socket pair for crew-webhook: %s", strerror(-r));
        _cleanup_close_ int ours = pair[0];
        ssize_t n = crew_send_fds(launcher, &start, sizeof(start), &pair[1], 1);
        close(pair[1]);
        if (n < 0)
                return crew_fail(err, (int)-n, "cannot start crew-webhook");
        if ((r = send_config(ours, &file->webhook, err)) < 0 || (r = await_ready(ours, err)) < 0)
                return r;
        *out = (struct webhook_fds){.launcher = crew_steal_fd(&launcher), .channel = crew_steal_fd(&ours)};
        return 0;
}

/* --- the outbox --- */

/* It is on its way by now.  What cannot be handed over stays in the outbox for the next start. */
static void hand_over(struct webhook *w, uint64_t id, uint32_t agent, const char *json, size_t n) {
        _cleanup_free_ struct webhook_msg *m = n <= WEBHOOK_TEXT_MAX ? malloc(sizeof(*m)) : NULL;

        if (m) {
                m->op = WEBHOOK_SEND;
                m->n = (uint32_t)n;
                m->id = id;
                m->agent = agent;
                m->attempt = 0;
                memcpy(m->text, json, n);
        }
        if (!m || channel_send_part(w->channel, m, WEBHOOK_MSG_HEAD + n) < 0)
                webhook_outbox_end(w->outbox, id, false);
        else
                w->fresh += agent != NO_AGENT;
}

static void count_left_over(struct webhook *w, uint64_t n) {
        w->told = true;
        if (w->again)
                crewd_log(w->crewd, "crew-webhook runs again; %llu record%s waited", (unsigned long long)n,
                          n == 1 ? "" : "s");
        else if (n > 0)
                crewd_log(w->crewd, "webhook: %llu record%s of an earlier run %s sent now", (unsigned long long)n,
                          n == 1 ? "" : "s", n == 1 ? "is" : "are");
}

static bool is_ready(const struct webhook *w) {
        return w->channel && !w->ready_by_ns;
}

static bool has_room(const struct webhook *w) {
        return is_ready(w) && webhook_outbox_sent(w->outbox) < WEBHOOK_WAITING_MAX;
}

/* What was put off, as far as there is room; looks for it in steps, the next one in the next turn of the loop. */
static void send_put_off(struct webhook *w) {
        uint64_t id, found;

        if (has_room(w) && webhook_outbox_must_look(w->outbox) && webhook_outbox_step(w->outbox, &found) && !w->told)
                count_left_over(w, found);
        while (is_ready(w) && webhook_outbox_next(w->outbox, &id)) {
                _cleanup_free_ char *json = NULL;
                size_t n = 0;
                if (webhook_outbox_read(w->outbox, id, &json, &n, NULL) == 0)
                        hand_over(w, id, NO_AGENT, json, n);
                else
                        webhook_outbox_end(w->outbox, id, false);
        }
}

/* --- answers --- */

/* NULL: one of an earlier run, or that another has followed since. */
static struct agent *agent_of(struct webhook *w, const struct webhook_msg *m) {
        struct crewd *c = w->crewd;

        if (m->agent < c->n_agents)
                return &c->agents[m->agent];
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (c->agents[i].last && c->agents[i].last->id == m->id)
                        return &c->agents[i];
        }
        return NULL;
}

static void tell(struct webhook *w, const struct webhook_msg *m, int status, const char *text) {
        struct agent *a = agent_of(w, m);

        if (a)
                journal_hook(a, "webhook", status, text);
        if (status != 0)
                crewd_log(w->crewd, "webhook: record %llu: %s", (unsigned long long)m->id, text);
}

static void on_sent(struct webhook *w, const struct webhook_msg *m) {
        char text[96];

        w->quiet_at_ns = crew_now_ns() + QUIET_NS;
        snprintf(text, sizeof(text), "on_agent_terminated was delivered at attempt %u", m->attempt);
        tell(w, m, 0, text);
}

static void go_down(struct webhook *w, const char *what) {
        uint64_t now = crew_now_ns();

        if (!w->ready_by_ns && now - w->started_ns >= PROVEN_NS)
                w->failures = 0;
        channel_close(crew_steal_ptr(&w->channel));
        w->ready_by_ns = 0;
        w->fresh = 0;
        webhook_outbox_look(w->outbox);
        if (w->launcher && w->crewd->phase < CREWD_FLUSHING)
                w->start_at_ns = now + delays_ns[MIN_OF(w->failures, ELEMENTSOF(delays_ns) - 1)];
        w->failures++;
        crewd_log(w->crewd, "%s: records wait in %s for the next %s", what, w->dir,
                  w->start_at_ns ? "one" : "start of the crew");
        crewd_progress(w->crewd);
}

/* The answer to the configuration of one that was started again. */
static void on_started(struct webhook *w, const struct webhook_msg *m, const char *why) {
        char text[256];

        if (m->op != WEBHOOK_READY) {
                snprintf(text, sizeof(text), "crew-webhook does not start: %s",
                         m->op == WEBHOOK_REFUSED ? why : "no answer");
                return go_down(w, text);
        }
        w->ready_by_ns = 0;
        w->again = true;
        w->told = false;
        send_put_off(w);
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct webhook_msg *m = bytes;
        struct webhook *w = user;
        char why[160], text[256];

        (void)fds;
        (void)n_fds;
        text_copy(why, sizeof(why), m->text, MIN_OF(m->n, sizeof(m->text)));
        if (w->ready_by_ns)
                return on_started(w, m, why);
        if (m->attempt <= 1 && m->agent != NO_AGENT)
                w->fresh -= w->fresh > 0;
        if (m->op != WEBHOOK_FAILED)
                webhook_outbox_end(w->outbox, m->id, m->op == WEBHOOK_SENT);
        if (m->op == WEBHOOK_SENT)
                on_sent(w, m);
        if (m->op == WEBHOOK_FAILED && m->attempt == 1) { /* the next ones say nothing new */
                snprintf(text, sizeof(text), "on_agent_terminated was not taken, it will be tried again: %s", why);
                tell(w, m, 1, text);
        }
        if (m->op == WEBHOOK_GIVEN_UP) {
                snprintf(text, sizeof(text), "on_agent_terminated waits for the next start of the crew: %s", why);
                tell(w, m, 1, text);
        }
        send_put_off(w);
        crewd_progress(w->crewd);
}

static void on_hangup(void *user) {
        go_down(user, "crew-webhook is gone");
}

static void on_launched(const void *bytes, int *fds, size_t n_fds, void *user) {
        (void)bytes; /* crew-webhook's own channel says the same, and sooner */
        (void)fds;
        (void)n_fds;
        (void)user;
}

static void on_launcher_gone(void *user) {
        struct webhook *w = user;

        channel_close(crew_steal_ptr(&w->launcher));
        w->start_at_ns = 0;
        crewd_log(w->crewd, "the launcher of crew-webhook is gone: one that ends now is not started again");
}

/* --- life --- */

static const struct channel_callbacks callbacks = {
        .on_message = on_message, .on_hangup = on_hangup, .head_bytes = WEBHOOK_MSG_HEAD};

static int start_again(struct webhook *w, struct crew_err *err) {
        _cleanup_free_ struct webhook_msg *config = config_new(&w->crewd->file->webhook, err);
        const struct launch_msg start = {.op = LAUNCH_START};
        int pair[2], r;

        if (!config)
                return -ENOMEM;
        if ((r = channel_pair(pair)) < 0)
                return crew_fail(err, -r, "no socket pair: %s", strerror(-r));
        r = channel_open(&w->crewd->loop, pair[0], sizeof(struct webhook_msg), &callbacks, w, &w->channel, err);
        if (r == 0 && (r = channel_send(w->launcher, &start, &pair[1], 1)) < 0)
                crew_fail(err, -r, "its launcher: %s", strerror(-r));
        close(pair[1]);
        if (r == 0 && (r = channel_send(w->channel, config, NULL, 0)) < 0)
                crew_fail(err, -r, "it cannot be told what to do: %s", strerror(-r));
        return r;
}

uint64_t webhook_next_deadline(const struct webhook *w) {
        uint64_t next = w && w->start_at_ns ? w->start_at_ns : UINT64_MAX;

        if (w && w->quiet_at_ns)
                next = MIN_OF(next, w->quiet_at_ns);
        if (w && has_room(w) && webhook_outbox_must_look(w->outbox))
                return 0;
        return w && w->ready_by_ns ? MIN_OF(next, w->ready_by_ns) : next;
}

static int remove_done(struct sync_job *job) {
        const struct webhook *w = job->data;

        webhook_outbox_remove(w->outbox, &w->done);
        return 0;
}

static void on_removed(struct sync_job *job) {
        struct webhook *w = job->data;

        w->removing = false;
}

/* True: there is something. */
static bool begin_removal(struct webhook *w) {
        webhook_outbox_take_done(w->outbox, &w->done);
        if (w->done.n == 0)
                return false;
        w->removal = (struct sync_job){.fd = -1, .work = remove_done, .on_done = on_removed, .data = w};
        w->removing = true;
        syncer_add(w->crewd->syncer, &w->removal);
        syncer_begin(w->crewd->syncer);
        return true;
}

/* In steps: away with what was delivered, and new files for those that will die. */
static void tidy(struct webhook *w, uint64_t now_ns) {
        if (!w->quiet_at_ns || now_ns < w->quiet_at_ns)
                return;
        bool more = w->removing || begin_removal(w);
        more |= webhook_outbox_prepare(w->outbox);
        w->quiet_at_ns = more ? now_ns + QUIET_STEP_NS : 0;
}

void webhook_expire(struct webhook *w, uint64_t now_ns) {
        struct crew_err err = CREW_ERR_NULL;

        if (w)
                tidy(w, now_ns);
        if (w && w->ready_by_ns && now_ns >= w->ready_by_ns)
                go_down(w, "crew-webhook did not start");
        if (w && webhook_outbox_must_look(w->outbox))
                send_put_off(w);
        if (!w || !w->start_at_ns || now_ns < w->start_at_ns)
                return;
        w->start_at_ns = 0;
        w->started_ns = now_ns;
        w->ready_by_ns = now_ns + START_MS * 1000000ull;
        if (start_again(w, &err) < 0) {
                char text[CREW_ERR_MSG_MAX + 40];
                snprintf(text, sizeof(text), "crew-webhook cannot be started: %s", err.msg);
                go_down(w, text);
        }
}

int webhook_open(struct crewd *c, struct webhook_fds *fds, struct webhook **out, struct crew_err *err) {
        static const struct channel_callbacks launched = {.on_message = on_launched, .on_hangup = on_launcher_gone};
        struct webhook *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return crew_fail(err, ENOMEM, "out of memory");
        w->crewd = c;
        w->started_ns = crew_now_ns();
        snprintf(w->dir, sizeof(w->dir), "%.*s/%s/webhook.outbox", PATH_MAX - 128, c->paths.state, c->file->name);
        if ((r = channel_open(&c->loop, crew_steal_fd(&fds->channel), sizeof(struct webhook_msg), &callbacks, w,
                              &w->channel, err)) < 0 ||
            (r = channel_open(&c->loop, crew_steal_fd(&fds->launcher), sizeof(struct launch_msg), &launched, w,
                              &w->launcher, err)) < 0 ||
            (r = webhook_outbox_open(w->dir, &w->outbox, err)) < 0) {
                webhook_close(w);
                return r;
        }
        webhook_outbox_look(w->outbox); /* in the first turn of the loop: orphans.c comes before */
        w->quiet_at_ns = crew_now_ns() + QUIET_NS;
        *out = w;
        return 0;
}

void webhook_close(struct webhook *w) {
        if (!w)
                return;
        channel_close(w->channel);
        channel_close(w->launcher);
        if (w->removing) /* the syncer has left it */
                webhook_outbox_remove(w->outbox, &w->done);
        webhook_outbox_close(w->outbox);
        free(w);
}

bool webhook_idle(const struct webhook *w) {
        return !w || w->fresh == 0;
}

/* False: it is put off; that it begins to be so is worth a line. */
static bool its_turn(struct webhook *w, uint64_t id) {
        bool began = !webhook_outbox_putting_off(w->outbox);

        if (webhook_outbox_send(w->outbox, id))
                return true;
        if (began)
                crewd_log(w->crewd,
                          "webhook: %u records are on their way: more of them wait in %s and follow, oldest first",
                          WEBHOOK_WAITING_MAX, w->dir);
        return false;
}

void webhook_forget(struct webhook *w, bool (*which)(const char *json, void *user), void *user) {
        if (!w)
                return;
        webhook_outbox_forget(w->outbox, which, user);
        send_put_off(w); /* before what is kept from now on */
}

void webhook_wait(struct webhook *w) {
        if (w && w->channel)
                channel_hold(w->channel);
}

void webhook_let_go(struct webhook *w) {
        if (w && w->channel)
                channel_release(w->channel, false);
}

void webhook_sync(struct webhook *w) {
        struct crew_err err = CREW_ERR_NULL;

        if (w && webhook_outbox_sync(w->outbox, &err) < 0)
                crewd_log(w->crewd, "webhook: %s", err.msg);
}

void webhook_missed(struct agent *a) {
        journal_hook(a, "webhook", -2, "on_agent_terminated was not sent: the outbox cannot be written");
}

bool webhook_keep(struct webhook *w, struct agent *a, const struct termination *t) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *json = NULL;
        size_t n = 0;

        if (!w)
                return true;
        w->quiet_at_ns = crew_now_ns() + QUIET_NS;
        if (termination_json(a, t, TERMINATION_OUTSIDE, &json, &n) < 0 ||
            webhook_outbox_write(w->outbox, t->id, json, n, &err) < 0) {
                crewd_log(w->crewd, "webhook: %s", err.msg[0] ? err.msg : "out of memory");
                return false;
        }
        if (its_turn(w, t->id))
                hand_over(w, t->id, a->index, json, n);
        return true;
}
