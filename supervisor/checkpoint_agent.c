/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as they lie in memory, less what points: whatever bytes are read, an agent that was loaded has texts that end,
 * counts that fit and truth values that are one of two.
 */
#include "checkpoint_agent.h"

#include "agent.h"
#include "bytes.h"
#include "common/util.h"
#include "supervisor/policy/policy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct saved_agent {
        enum agent_state state;
        uint32_t incarnation;
        bool frozen, reloaded, task_reassigned, restart_asked, hold, hold_asked, thaw, untold;
        uint64_t denied, restart_at_ns, hold_since_ns;
        uint64_t limit_hits[USAGE_LIMIT_N];
        struct restart restart;
        uint8_t policy[CREW_SHA256_BYTES];
};

/* What only this process can point to, and what is of its own conversation.  A member more changes the size: whoever adds
 * one clears it here, should it be or hold a pointer, and says the new size. */
static_assert(sizeof(void *) != 8 || sizeof(struct instance) == 8608, "see clear_own()");
static void clear_own(struct instance *in) {
        in->link = NULL;
        for (size_t i = 0; i < ELEMENTSOF(in->early); i++)
                in->early[i] = (struct early){0};
        in->n_early = 0;
        in->outbox = (struct outbox){0};
        in->death.limit = NULL;
        in->overstayed = NULL;
        in->stderr_tail = NULL;
        in->stderr_used = 0;
        in->watch = NULL;
        in->watch_len = 0;
        in->migrate = (struct migrate){0}; /* a start like any other: it begins anew */
        in->stats = (struct spawn_stats){0};
        in->stats_ns = 0;
        in->cpu_percent = 0;
        in->stats_asked = in->stats_for_usage = false;
        in->usage.oom_ping = 0;    /* the next crewd asks again */
        in->usage.connections = 0; /* they went with the gateway */
        for (size_t i = 0; i < ELEMENTSOF(in->usage.told); i++)
                in->usage.told[i].text = NULL;
}

static_assert(sizeof(void *) != 8 || sizeof(struct termination) == 6856, "see clear_pointers()");
static void clear_pointers(struct termination *t) {
        t->death.limit = NULL;
        t->action = NULL;
}

static void save_last(const struct termination *last, struct bytes_out *b) {
        bytes_put_u64(b, last != NULL);
        if (!last)
                return;
        struct termination t = *last;
        clear_pointers(&t);
        BYTES_PUT(b, t);
        bytes_put_text(b, last->action, last->action ? strlen(last->action) : 0);
        bytes_put_text(b, last->death.limit, last->death.limit ? strlen(last->death.limit) : 0);
}

void checkpoint_agent_save(const struct agent *a, struct bytes_out *b) {
        struct saved_agent s;
        struct instance in = a->in;

        memset(&s, 0, sizeof(s)); /* the padding too: states are compared as bytes */
        s.state = a->state;
        s.incarnation = a->incarnation;
        s.frozen = a->frozen;
        s.reloaded = a->jail_policy || a->lost.reloaded;
        s.task_reassigned = a->task_reassigned;
        s.restart_asked = a->restart_asked;
        s.hold = a->hold.on;
        s.hold_asked = a->hold.asked;
        s.thaw = a->hold.thaw;
        s.untold = a->untold;
        s.denied = a->denied;
        s.restart_at_ns = a->restart_at_ns;
        s.hold_since_ns = a->hold.since_ns;
        s.restart = a->restart;
        memcpy(s.limit_hits, a->limit_hits, sizeof(s.limit_hits));
        memcpy(s.policy, policy_image_sha256(a->decl->policy), sizeof(s.policy));
        BYTES_PUT(b, s);
        clear_own(&in);
        BYTES_PUT(b, in);
        bytes_put_text(b, a->in.death.limit, a->in.death.limit ? strlen(a->in.death.limit) : 0);
        bytes_put_text(b, a->in.stderr_tail, a->in.stderr_tail ? a->in.stderr_used : 0);
        outbox_save(&a->in.outbox, b);
        save_last(a->last, b);
}

#define TEXT_ENDS(text) (memchr((text), '\0', sizeof(text)) != NULL)

static bool death_fits(struct death *d) {
        bytes_bool(&d->decided);
        bytes_bool(&d->together);
        return TEXT_ENDS(d->initiator) && TEXT_ENDS(d->reason);
}

/* Constants: what a record points to must not be freed. */
static const char *constant_of(struct bytes_in *b, const char *const *known, size_t n) {
        _cleanup_free_ char *text = bytes_get_text(b, NULL);

        for (size_t i = 0; text && i < n; i++) {
                if (strcmp(known[i], text) == 0)
                        return known[i];
        }
        return NULL;
}

static const char *limit_of(struct bytes_in *b) {
        const char *known[USAGE_LIMIT_N + 1] = {[USAGE_LIMIT_N] = AGENT_QUEUE_LIMIT};

        memcpy(known, usage_limit_names, sizeof(usage_limit_names));
        return constant_of(b, known, ELEMENTSOF(known));
}

static int load_last(struct agent *a, struct bytes_in *b) {
        static const char *const actions[] = {"reassign", "restart", "fail_task", "stop_crew", "give_up"};

        if (bytes_get_u64(b) == 0)
                return 0;
        free(a->last);
        a->last = malloc(sizeof(*a->last));
        if (!a->last)
                return -ENOMEM;
        struct termination *t = a->last;
        BYTES_GET(b, *t);
        bytes_bool(&t->effects);
        bytes_bool(&t->restartable);
        clear_pointers(t);
        bool fits = death_fits(&t->death) && t->n_calls <= AGENT_CALLS_NAMED_MAX && TEXT_ENDS(t->task) &&
                    TEXT_ENDS(t->stderr_tail);
        for (size_t i = 0; i < ELEMENTSOF(t->calls); i++)
                fits &= TEXT_ENDS(t->calls[i]);
        if (!fits)
                return -EBADMSG;
        a->last->action = constant_of(b, actions, ELEMENTSOF(actions));
        a->last->death.limit = limit_of(b);
        return 0;
}

static bool instance_fits(struct instance *in) {
        bool *const flags[] = {&in->attested,
                               &in->greeted,
                               &in->cut,
                               &in->kill_sent,
                               &in->stopped,
                               &in->hung_up,
                               &in->exited,
                               &in->resuming,
                               &in->effects,
                               &in->health.passed,
                               &in->health.overdue,
                               &in->health.complained,
                               &in->told.told,
                               &in->exit.last.tmp_full,
                               &in->exit.last.unheld,
                               &in->exit.last.dying};

        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                bytes_bool(flags[i]);
        for (size_t i = 0; i < ELEMENTSOF(in->usage.told); i++)
                bytes_bool(&in->usage.told[i].at_bound);
        return death_fits(&in->death) && rate_fits(&in->violations) && TEXT_ENDS(in->link_path) &&
               TEXT_ENDS(in->health.why) && in->health.tail_n <= sizeof(in->health.tail) && TEXT_ENDS(in->told.detail);
}

static int load_instance(struct agent *a, struct bytes_in *b) {
        struct instance *in = &a->in;
        size_t n;

        BYTES_GET(b, *in);
        clear_own(in);
        if (!instance_fits(in))
                return -EBADMSG;
        in->death.limit = limit_of(b);
        _cleanup_free_ char *tail = bytes_get_text(b, &n);
        if (tail && n <= AGENT_STDERR_TAIL && (in->stderr_tail = calloc(1, AGENT_STDERR_TAIL + 1))) {
                memcpy(in->stderr_tail, tail, n);
                in->stderr_used = n;
        }
        return outbox_load(&in->outbox, b);
}

int checkpoint_agent_load(struct agent *a, struct bytes_in *b) {
        struct saved_agent s;

        BYTES_GET(b, s);
        bool *const flags[] = {&s.frozen,     &s.reloaded, &s.task_reassigned, &s.restart_asked, &s.hold,
                               &s.hold_asked, &s.thaw,     &s.untold};
        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                bytes_bool(flags[i]);
        if (b->failed || s.state >= AGENT_STATE_N || !rate_fits(&s.restart.rate))
                return -EBADMSG;
        a->state = s.state;
        a->incarnation = s.incarnation;
        a->frozen = s.frozen;
        a->lost.reloaded = s.reloaded;
        a->task_reassigned = s.task_reassigned;
        a->restart_asked = s.restart_asked;
        a->hold.on = s.hold;
        a->hold.asked = s.hold_asked;
        a->hold.thaw = s.thaw;
        a->untold = s.untold;
        a->hold.since_ns = s.hold_since_ns;
        a->denied = s.denied;
        a->restart_at_ns = s.restart_at_ns;
        a->restart = s.restart;
        memcpy(a->limit_hits, s.limit_hits, sizeof(s.limit_hits));
        int r = load_instance(a, b);
        if (r == 0)
                r = load_last(a, b);
        return b->failed ? -EBADMSG : r;
}
