/* SPDX-License-Identifier: Apache-2.0 */
#include "evidence_client.h"

#include "channel.h"
#include "common/evidence.h"
#include "common/kernel.h"
#include "common/plan.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "evidence_record.h"
#include "journal.h"

#include <errno.h>
#include <string.h>

/* It only starts; but on a busy machine that takes seconds, and without it many a crew may not. */
#define SETTLE_NS 20000000000ull

struct evidence {
        struct crewd *crewd;
        struct channel *channel;
        bool settled;
        uint64_t settle_by_ns;
        uint32_t sources; /* bits of enum evidence_source */
};

static const char *source_name(uint32_t source) {
        switch (source) {
        case EVIDENCE_LANDLOCK:
                return "landlock";
        case EVIDENCE_FANOTIFY:
                return "fanotify";
        case EVIDENCE_NOTIFY:
                return "notify";
        default:
                return "kernel";
        }
}

static void on_lost(struct evidence *e, const struct evidence_msg *m) {
        struct agent *a = m->id ? crewd_agent_by_id(e->crewd, m->id) : NULL;

        if (a) {
                journal_evidence_lost(a, source_name(m->source), m->count, "the kernel dropped records");
                return;
        }
        for (uint32_t i = 0; m->id == 0 && i < e->crewd->n_agents; i++) {
                if (agent_state_live(e->crewd->agents[i].state))
                        journal_evidence_lost(&e->crewd->agents[i], source_name(m->source), m->count,
                                              "the kernel dropped records; whose is not known");
        }
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct evidence_msg *m = bytes;
        struct evidence *e = user;
        struct agent *a;

        (void)fds;
        (void)n_fds;
        switch (m->op) {
        case EVIDENCE_HELLO:
                e->settled = true;
                e->sources = m->flags;
                crewd_progress(e->crewd);
                break;
        case EVIDENCE_EVENT:
                if (m->path_len <= EVIDENCE_PATH_MAX && (a = crewd_agent_by_id(e->crewd, m->id)))
                        evidence_record(a, m, source_name(m->source));
                break;
        case EVIDENCE_LOST:
                on_lost(e, m);
                break;
        case EVIDENCE_FORGOTTEN:
                if ((a = crewd_agent_by_id(e->crewd, m->id)))
                        a->forgetting = false;
                crewd_progress(e->crewd);
                break;
        default:
                break;
        }
}

/* What agents do can no longer be recorded.  Those whose policy does not allow that end now. */
static void on_hangup(void *user) {
        struct evidence *e = user;
        struct crewd *c = e->crewd;

        crewd_log(c, "crew-evidence is gone: file evidence has ended");
        c->evidence = NULL;
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                a->forgetting = false;
                if (!agent_state_live(a->state))
                        continue;
                journal_evidence_lost(a, "crew-evidence", 0, "crew-evidence died");
                a->in.att.degraded |= 1u << PLAN_FEATURE_EVIDENCE;
                if (!(evidence_allowed_features(agent_jail_policy(a)) & 1u << PLAN_FEATURE_EVIDENCE))
                        death_kill(a, CREW__CAUSE__CAUSE_CRASH, "crewd", "crew-evidence died: it can no longer be watched");
        }
        evidence_close(e);
        crewd_progress(c);
}

int evidence_open(struct crewd *c, int fd, struct evidence **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {.on_message = on_message, .on_hangup = on_hangup};
        struct evidence *e = calloc(1, sizeof(*e));

        if (!e) {
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        e->crewd = c;
        e->settle_by_ns = crew_now_ns() + SETTLE_NS;
        int r = channel_open(&c->loop, fd, sizeof(struct evidence_msg), &cb, e, &e->channel, err);
        if (r < 0) {
                free(e);
                return r;
        }
        *out = e;
        return 0;
}

void evidence_close(struct evidence *e) {
        if (!e)
                return;
        channel_close(e->channel);
        free(e);
}

bool evidence_settled(const struct evidence *e) {
        return !e || e->settled;
}

uint64_t evidence_settle_by(const struct evidence *e) {
        return evidence_settled(e) ? UINT64_MAX : e->settle_by_ns;
}

void evidence_expire(struct evidence *e, uint64_t now_ns) {
        if (evidence_settled(e) || now_ns < e->settle_by_ns)
                return;
        crewd_log(e->crewd, "crew-evidence does not answer; going on without it");
        e->settled = true;
        crewd_progress(e->crewd);
}

bool evidence_wants_notify(const struct evidence *e) {
        return e && (e->sources & EVIDENCE_NOTIFY);
}

bool evidence_sees_opens(const struct evidence *e) {
        return e && (e->sources & EVIDENCE_FANOTIFY);
}

bool evidence_wants_landlock(const struct evidence *e) {
        return e && (e->sources & EVIDENCE_LANDLOCK) && e->crewd->root_mode;
}

uint32_t evidence_allowed_features(const struct policy_image *p) {
        uint32_t bits = 0;

        for (size_t i = 0; i < policy_n_names(p, POLICY_DEGRADED); i++) {
                const char *name = policy_name_at(p, POLICY_DEGRADED, i).name;
                for (uint32_t f = 0; f < PLAN_FEATURE_N; f++) {
                        if (strcmp(name, plan_feature_names[f]) == 0)
                                bits |= 1u << f;
                }
        }
        return bits;
}

/* Attempts stand in for denials, as they do rootless: only without either is something missing.  Where there is no Landlock
 * there is nothing for its audit to tell: what is missing then has the name landlock. */
static uint32_t missing(const struct evidence *e, bool root_mode) {
        uint32_t have = e ? e->sources : 0;
        uint32_t denials = crew_landlock_abi() > 0 && !(have & EVIDENCE_NOTIFY) ? EVIDENCE_LANDLOCK : 0;
        uint32_t want = root_mode ? denials | EVIDENCE_FANOTIFY : EVIDENCE_NOTIFY;

        return want & ~have;
}

uint32_t evidence_missing_bit(const struct evidence *e, bool root_mode) {
        return missing(e, root_mode) ? 1u << PLAN_FEATURE_EVIDENCE : 0;
}

int evidence_suffices(const struct evidence *e, bool root_mode, const struct policy_image *p, struct crew_err *err) {
        uint32_t without = missing(e, root_mode);

        if (!without || (evidence_allowed_features(p) & 1u << PLAN_FEATURE_EVIDENCE))
                return 0;
        return crew_fail(
                err, ENOTSUP,
                "no file evidence on this host:%s%s%s is missing (crewctl doctor says why); to start all the same, "
                "add allow_degraded: [evidence] to %s",
                without & EVIDENCE_LANDLOCK ? " Landlock audit" : "", without & EVIDENCE_FANOTIFY ? " fanotify" : "",
                without & EVIDENCE_NOTIFY ? " seccomp notification" : "", policy_file(p));
}

int evidence_watch(struct evidence *e, uint32_t id, const struct spawn_attestation *att, const char *paths,
                   size_t paths_len, int notify_fd) {
        struct evidence_msg m = {.op = EVIDENCE_WATCH, .id = id, .pid = att->pid, .uid = att->host_uid};
        size_t at = 0;

        if (!e)
                return 0; /* evidence_suffices() has decided that */
        /* Whole paths only; what does not fit goes into the next message. */
        do {
                size_t n = 0;
                memset(m.path, 0, sizeof(m.path));
                while (at < paths_len) {
                        size_t k = strlen(paths + at) + 1;
                        if (n + k > sizeof(m.path))
                                break;
                        memcpy(m.path + n, paths + at, k);
                        n += k;
                        at += k;
                }
                m.path_len = (uint32_t)n;
                int r = channel_send(e->channel, &m, &notify_fd, notify_fd >= 0 ? 1 : 0);
                if (r < 0)
                        return r;
                notify_fd = -1;
                if (n == 0)
                        break;
        } while (at < paths_len);
        return 0;
}

int evidence_forget(struct evidence *e, uint32_t id) {
        struct evidence_msg m = {.op = EVIDENCE_FORGET, .id = id};

        return e ? channel_send(e->channel, &m, NULL, 0) : -EPIPE;
}
