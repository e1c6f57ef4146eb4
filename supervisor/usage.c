/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of the spawner and the gateway are trusted; of the worker only that it came to a limit, never how often. */
#include "usage.h"

#include "common/gate.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hold.h"
#include "journal.h"
#include "scheduler.h"
#include "spawner.h"
#include "state_dir.h"

#include <assert.h>
#include <string.h>

#define SECOND_NS 1000000000ull
#define TELL_NS (60 * SECOND_NS)
#define IDLE_NS (5 * SECOND_NS)
#define IDLE_AT_ONCE 16u
#define STEPS 20u         /* a second, at most */
#define BUSY_A_STEP 4u    /* the spawner has other things to do */
#define REFUSED_SECONDS 4 /* of messages at the full rate, all of them refused, before the rate of refusals counts */
#define REFUSED_MIN 64

enum { BY_MEMORY_GROUP = 1, BY_PIDS_GROUP = 2, BY_CPU_GROUP = 4 }; /* spawn_attestation.limits_by */

const char *const usage_limit_names[USAGE_LIMIT_N] = {
        [USAGE_MEMORY] = "memory",
        [USAGE_PROCESSES] = "processes",
        [USAGE_CPU] = "cpu",
        [USAGE_OPEN_FILES] = "open_files",
        [USAGE_TMP] = "tmp",
        [USAGE_OUTPUT] = "output",
        [USAGE_WALL_TIME] = "wall_time",
        [USAGE_CONNECTIONS] = "connections",
        [USAGE_HALF_OPEN] = "half_open",
        [USAGE_DNS] = "dns",
        [USAGE_MESSAGES] = "messages",
        [USAGE_STATE] = "state",
};

/* --- bounds --- */

/* In force: those that the jail was made with, or those of the policy as it is now. */
#define JAIL(member) offsetof(struct policy_limits, member), sizeof(((struct policy_limits *)NULL)->member), true
#define OUTSIDE(member) offsetof(struct policy_limits, member), sizeof(((struct policy_limits *)NULL)->member), false
static const struct {
        size_t offset, size;
        bool jail;
        uint32_t group;                 /* in limits_by, when a control group does it; 0: none can */
        const char *by_group, *by_else; /* who enforces it */
} limits[USAGE_LIMIT_N] = {
        [USAGE_MEMORY] = {JAIL(memory_bytes), BY_MEMORY_GROUP, "cgroup", "crewd and rlimit"},
        [USAGE_PROCESSES] = {JAIL(processes), BY_PIDS_GROUP, "cgroup", "rlimit"},
        [USAGE_CPU] = {JAIL(cpu_milli), BY_CPU_GROUP, "cgroup", "crewd"},
        [USAGE_OPEN_FILES] = {JAIL(open_files), 0, NULL, "rlimit"},
        [USAGE_TMP] = {JAIL(tmp_bytes), 0, NULL, "tmpfs"},
        [USAGE_OUTPUT] = {JAIL(output_bytes), 0, NULL, "rlimit"},
        [USAGE_WALL_TIME] = {OUTSIDE(wall_ms), 0, NULL, "crewd"},
        [USAGE_CONNECTIONS] = {OUTSIDE(connections), 0, NULL, "gateway"},
        [USAGE_HALF_OPEN] = {OUTSIDE(half_open), 0, NULL, "gateway"},
        [USAGE_DNS] = {OUTSIDE(dns_per_s), 0, NULL, "gateway"},
        [USAGE_MESSAGES] = {OUTSIDE(messages_per_s), 0, NULL, "crewd"},
        [USAGE_STATE] = {0, 0, false, 0, NULL, "crewd"},
};

bool usage_by_group(const struct agent *a, enum usage_limit which) {
        return a->in.att.limits_by & limits[which].group;
}

uint64_t usage_max(const struct agent *a, enum usage_limit which) {
        if (which == USAGE_STATE)
                return state_dir_path(a) ? a->decl->state_max : 0;
        struct policy_limits l = limits[which].jail && a->in.id ? a->in.limits : policy_limits_of(a->decl->policy);
        const char *at = (const char *)&l + limits[which].offset;
        uint64_t n = 0;
        uint32_t small;

        if (limits[which].size == sizeof(n)) {
                memcpy(&n, at, sizeof(n));
                return n;
        }
        memcpy(&small, at, sizeof(small));
        return small;
}

/* --- telling --- */

static void tell(struct agent *a, enum usage_limit which, uint64_t now_ns) {
        struct usage_told *t = &a->in.usage.told[which];
        const struct journal_limit l = {.limit = usage_limit_names[which],
                                        .value = t->value,
                                        .max = usage_max(a, which),
                                        .count = t->pending,
                                        .text = t->text};

        t->told_ns = now_ns;
        t->pending = 0;
        journal_limit(a, &l);
}

void usage_hit(struct agent *a, enum usage_limit which, uint64_t n, uint64_t value, const char *text) {
        struct usage_told *t = &a->in.usage.told[which];
        uint64_t now = crew_now_ns();

        if (n == 0)
                return;
        a->limit_hits[which] += n;
        t->pending += n;
        t->value = value;
        t->text = text;
        if (t->told_ns == 0 || now - t->told_ns >= TELL_NS)
                tell(a, which, now);
}

void usage_flush(struct agent *a) {
        for (unsigned i = 0; i < USAGE_LIMIT_N; i++) {
                if (a->in.usage.told[i].pending > 0)
                        tell(a, (enum usage_limit)i, crew_now_ns());
        }
}

void usage_exceeded(struct agent *a, enum usage_limit which, uint64_t value, const char *text) {
        const struct journal_limit l = {
                .limit = usage_limit_names[which], .value = value, .max = usage_max(a, which), .count = 1, .text = text};

        a->limit_hits[which]++;
        journal_limit(a, &l);
        death_limit(a, usage_limit_names[which], text);
}

/* --- messages --- */

static void count_message(struct usage *u, uint64_t now_ns) {
        uint64_t passed = now_ns - u->second_ns;

        if (passed >= SECOND_NS) {
                u->sent_was = passed < 2 * SECOND_NS ? u->sent : 0;
                u->sent = 0;
                u->second_ns = now_ns;
        }
        u->sent += u->sent < UINT32_MAX;
}

static uint32_t message_rate(const struct usage *u, uint64_t now_ns) {
        uint64_t passed = now_ns - u->second_ns;

        if (passed >= 2 * SECOND_NS)
                return 0;
        return passed >= SECOND_NS ? u->sent : MAX_OF(u->sent, u->sent_was);
}

bool usage_message(struct agent *a, uint64_t now_ns) {
        struct usage *u = &a->in.usage;
        uint64_t max = usage_max(a, USAGE_MESSAGES);
        char text[160];

        if (u->messages.rate != max) { /* the first one, or the policy was reloaded */
                meter_init(&u->messages, (int64_t)max, max, now_ns);
                meter_init(&u->refused, MAX_OF(REFUSED_SECONDS * (int64_t)max, REFUSED_MIN), max, now_ns);
        }
        count_message(u, now_ns);
        if (meter_take(&u->messages, 1, now_ns))
                return true;
        usage_hit(a, USAGE_MESSAGES, 1, u->sent, "messages to others, refused");
        if (meter_take(&u->refused, 1, now_ns))
                return false;
        snprintf(text, sizeof(text),
                 "it goes on sending messages that limits.messages (%llu a second) does not let through",
                 (unsigned long long)max);
        usage_exceeded(a, USAGE_MESSAGES, u->sent, text);
        return false;
}

/* --- what others saw --- */

/* How much more since the look before. */
static uint32_t more(uint32_t *seen, uint32_t now) {
        uint32_t n = now > *seen ? now - *seen : 0;

        *seen = MAX_OF(*seen, now);
        return n;
}

static void see_counters(struct agent *a, const struct spawn_stats *s) {
        struct usage *u = &a->in.usage;
        uint32_t killed = more(&u->oom_kills, s->oom_kills);

        if (killed)
                u->oom_ns = crew_now_ns();
        usage_hit(a, USAGE_MEMORY, killed, usage_max(a, USAGE_MEMORY),
                  usage_by_group(a, USAGE_MEMORY) ? "the kernel killed a process for it"
                                                  : "its largest process was killed for it");
        usage_hit(a, USAGE_PROCESSES, more(&u->forks_refused, s->forks_refused), usage_max(a, USAGE_PROCESSES),
                  "no more were made");
        usage_hit(a, USAGE_CPU, more(&u->periods_throttled, s->periods_throttled), 0,
                  usage_by_group(a, USAGE_CPU) ? "held back in so many periods of a tenth of a second"
                                               : "stopped so often until it had made up for what it used");
}

/*
 * Who was killed for memory nobody tells.  But where nothing is dying after the counting, and the worker, asked after that,
 * has not heard its program end, those counted were others.  A look that comes between a kill and the end that it is says
 * nothing, however long that end takes.
 */
static void ask_who_was_killed(struct agent *a, const struct spawn_stats *s) {
        Crew__Ping body = CREW__PING__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct usage *u = &a->in.usage;

        if (s->oom_kills <= u->oom_others || s->dying || u->oom_ping || a->in.told.told || !agent_usable(a))
                return;
        e.body_case = CREW__ENVELOPE__BODY_PING;
        e.ping = &body;
        u->oom_asked = s->oom_kills;
        if (agent_send(a, &e, &u->oom_ping) < 0)
                u->oom_ping = 0;
}

void usage_pong(struct agent *a, uint64_t corr) {
        struct usage *u = &a->in.usage;

        if (!u->oom_ping || corr != u->oom_ping)
                return;
        u->oom_ping = 0;
        if (!a->in.told.told)
                u->oom_others = u->oom_asked;
}

/* Nobody counts: found at its bound where it was not before. */
static void see_level(struct agent *a, enum usage_limit which, bool at_bound, uint64_t value, const char *text) {
        struct usage_told *t = &a->in.usage.told[which];

        if (at_bound && !t->at_bound)
                usage_hit(a, which, 1, value, text);
        t->at_bound = at_bound;
}

static uint64_t own_processes(const struct spawn_stats *s) {
        return s->processes ? s->processes - 1 : 0; /* not the worker */
}

static void see_unheld(struct agent *a, const struct spawn_stats *s) {
        char text[160];

        if (!s->unheld)
                return;
        snprintf(text, sizeof(text), "it ran on although it was stopped for what it had used beyond limits.cpu (%u.%03u)",
                 (unsigned)(usage_max(a, USAGE_CPU) / 1000), (unsigned)(usage_max(a, USAGE_CPU) % 1000));
        usage_exceeded(a, USAGE_CPU, a->in.cpu_percent * 10ull, text);
}

void usage_seen(struct agent *a, const struct spawn_stats *s) {
        uint64_t processes = usage_max(a, USAGE_PROCESSES), files = usage_max(a, USAGE_OPEN_FILES);

        see_counters(a, s);
        if (!usage_by_group(a, USAGE_PROCESSES))
                see_level(a, USAGE_PROCESSES, processes && own_processes(s) >= processes, own_processes(s),
                          "found at its bound");
        see_level(a, USAGE_OPEN_FILES, files && s->open_files >= files, s->open_files, "found at its bound in one process");
        see_level(a, USAGE_TMP, s->tmp_full, s->tmp_bytes, "found full");
        see_unheld(a, s);
        ask_who_was_killed(a, s);
}

bool usage_oom_at_end(const struct agent *a, uint32_t oom_kills) {
        return oom_kills > a->in.usage.oom_others;
}

void usage_ended(struct agent *a, const struct spawn_stats *last) {
        see_counters(a, last);
        usage_flush(a);
}

static enum usage_limit limit_of(const char *name) {
        unsigned i = 0;

        while (i < USAGE_LIMIT_N && strcmp(name, usage_limit_names[i]) != 0)
                i++;
        return (enum usage_limit)i;
}

void usage_network(struct agent *a, const struct gate_msg *m) {
        static const char prefix[] = "limits.";
        struct usage *u = &a->in.usage;

        if (m->op == GATE_ALLOWED)
                u->connections++;
        else if (m->op == GATE_CLOSED)
                u->connections -= u->connections > 0;
        if (m->op != GATE_DENIED || strncmp(m->text, prefix, strlen(prefix)) != 0)
                return;
        enum usage_limit which = limit_of(m->text + strlen(prefix));
        if (which < USAGE_LIMIT_N)
                usage_hit(a, which, MAX_OF(m->count, 1u), usage_max(a, which), "refused");
}

void usage_observed(struct agent *a, const char *what) {
        static const char prefix[] = "limit-";
        enum usage_limit which =
                strncmp(what, prefix, strlen(prefix)) == 0 ? limit_of(what + strlen(prefix)) : USAGE_LIMIT_N;

        if (which == USAGE_OUTPUT)
                a->limit_hits[which]++;
}

/* --- looking --- */

static bool wants_look(const struct agent *a) {
        return agent_state_live(a->state) && a->in.attested && !a->in.stats_asked && !hold_is_on(a) && !a->in.kill_sent;
}

int usage_ask(struct agent *a) {
        return spawner_stats(a->crewd->spawner, a->in.id, 0);
}

static bool look(struct agent *a) {
        if (!wants_look(a) || usage_ask(a) < 0)
                return false;
        a->in.stats_asked = a->in.stats_for_usage = true;
        return true;
}

/* True when the spawner was asked. */
static bool look_at(struct agent *a) {
        bool asked = look(a);

        state_dir_measure(a);
        return asked;
}

/* Each has its turn once a second, some at a time; the others wait when the spawner has enough to do. */
static void look_at_busy(struct crewd *c, uint64_t now_ns) {
        uint32_t step = (c->n_agents + STEPS - 1) / STEPS, asked = 0;

        if (now_ns < c->look_ns || c->n_agents == 0)
                return;
        for (uint32_t k = 0; k < step && asked < BUSY_A_STEP; k++) {
                struct agent *a = &c->agents[c->look_turn++ % c->n_agents];
                if (a->state == AGENT_WORKING || migrate_is_on(a))
                        asked += look_at(a);
        }
        c->look_ns = now_ns + SECOND_NS * step / c->n_agents;
}

void usage_expire(struct crewd *c, uint64_t now_ns) {
        look_at_busy(c, now_ns);
        if (now_ns < c->idle_look_ns)
                return;
        c->idle_look_ns = now_ns + IDLE_NS;
        for (uint32_t i = 0; i < MIN_OF(c->n_agents, IDLE_AT_ONCE); i++)
                look_at(&c->agents[c->idle_turn++ % c->n_agents]);
}

/* Of those without a task whenever something else is due; crewd's pings are. */
uint64_t usage_next_deadline(const struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (c->agents[i].state == AGENT_WORKING || migrate_is_on(&c->agents[i]))
                        return c->look_ns;
        }
        return UINT64_MAX;
}

/* --- showing --- */

static uint64_t task_ms(const struct agent *a) {
        const struct job *j = a->crewd->scheduler ? scheduler_job_of(a->crewd->scheduler, a->index) : NULL;

        return j && j->started_ns ? (crew_now_ns() - j->started_ns) / 1000000u : 0;
}

static bool used(const struct agent *a, enum usage_limit which, uint64_t *out) {
        const struct spawn_stats *s = &a->in.stats;

        switch (which) {
        case USAGE_MEMORY:
                return *out = s->memory_bytes, true;
        case USAGE_PROCESSES:
                return *out = own_processes(s), true;
        case USAGE_CPU:
                return *out = a->in.cpu_percent * 10ull, true;
        case USAGE_OPEN_FILES:
                return *out = s->open_files, s->open_files > 0;
        case USAGE_TMP:
                return *out = s->tmp_bytes, s->tmp_bytes > 0;
        case USAGE_WALL_TIME:
                return *out = task_ms(a), true;
        case USAGE_CONNECTIONS:
                return *out = a->in.usage.connections, true;
        case USAGE_MESSAGES:
                return *out = message_rate(&a->in.usage, crew_now_ns()), true;
        case USAGE_STATE:
                return *out = a->state_bytes, a->state_known;
        case USAGE_OUTPUT:
        case USAGE_HALF_OPEN:
        case USAGE_DNS:
        case USAGE_LIMIT_N:
                break;
        }
        return false;
}

struct usage_row usage_row(const struct agent *a, enum usage_limit which) {
        bool live = agent_state_live(a->state) && a->in.attested;
        struct usage_row row = {.limit = usage_limit_names[which],
                                .by = usage_by_group(a, which) ? limits[which].by_group : limits[which].by_else,
                                .max = usage_max(a, which),
                                .hits = a->limit_hits[which]};

        row.known = live && used(a, which, &row.use);
        return row;
}
