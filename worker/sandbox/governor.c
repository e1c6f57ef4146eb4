/* SPDX-License-Identifier: Apache-2.0 */
/* What was seen in the look before is kept by pid, so that what is gone can be told from what has never been. */
#include "governor.h"

#include "cgroup.h"
#include "cpu_share.h"
#include "proctree.h"

#include "common/util.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

#define IDLE_NS 50000000u
#define STILL_NS 20000000u       /* between looks at one that stands still */
#define SETTLE_NS 2000000u       /* until it does */
#define LATE_NS 50000000u        /* after so long what still runs has got away */
#define UNHELD_NS 1000000000u    /* so much of it in all, and it is not to be held */
#define DYING_NS 1000000000u     /* for one that is killed, before the next one is */
#define HIDES_NS 5000000000u     /* how long it counts as hiding something */
#define HIDDEN_NS 50000000u      /* by so much in sum, and */
#define FORGIVEN_PART 100u       /* of the time that passes: errors of long ago */
#define TICKS_ERROR_NS 20000000u /* so much for each process: /proc tells two times, each cut to 10 ms */
#define FLEETING_NS 50000u       /* no process takes less to be made and to end */
#define BRIEF_NS 3000u           /* nor does a thread: 5 us where it was measured */
#define SHARES_NS 5000000u       /* of our own time for looking at what processes share, each time, */
#define SHARES_MIN 16u           /* but so many at least: a few are never guessed at */

struct member {
        pid_t pid;
        char state;
        uint64_t started_ticks;
        uint64_t own_ns;         /* its threads, also those that ended */
        uint64_t children_ns;    /* those that it has waited for, and theirs */
        uint64_t resident_bytes; /* or swapped out */
        uint64_t killed_ns;      /* by us; 0: it was not */
        bool ours;               /* noted as stopped by us */
};

struct table {
        struct member *m; /* owned; by pid */
        size_t n, room;
        size_t gone;      /* found, but ended before they were looked at */
        uint64_t took_ns; /* to look at all */
};

struct governor {
        pid_t root;
        const char *cgroup;
        unsigned cpus;
        struct spawn_limits limits;
        struct cpu_share share;
        enum { FREE, HELD, FROZEN } state;
        bool group_held;  /* HELD by the freezer of its group, not by signals */
        bool watch_still; /* FROZEN by signals */
        bool hid;         /* more than the errors, at the last look */
        struct table known, spare;
        uint64_t group_ns; /* processor time of its group at the last look */
        uint64_t looked_ns, held_ns, held_until_ns;
        uint64_t hidden_ns, hides_until_ns;
        pid_t newest;                   /* its number in the jail; 0: not known */
        uint64_t newest_ns, counted_ns; /* when that was seen, and what is in an account since */
        bool goes_on;                   /* HELD, and more are made than there can be under way */
        uint64_t escaped_ns;
        pid_t *stopped; /* owned; by us, so to be continued by us */
        size_t n_stopped, stopped_room;
        uint64_t memory_bytes, full_soon_ns; /* at the last look, and how soon to look again because of that */
        bool over;                           /* its memory, at the last look */
        size_t first_share;                  /* whom to begin with */
        struct governor_counts counts;
};

static uint64_t clock_of(pid_t pid) {
        struct timespec t;
        clockid_t id;

        if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) < 0)
                return UINT64_MAX;
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct governor *governor_new(pid_t root, const char *cgroup, const struct spawn_limits *l) {
        struct governor *g = calloc(1, sizeof(*g));
        cpu_set_t set;

        if (!g)
                return NULL;
        *g = (struct governor){.root = root, .cgroup = cgroup};
        g->cpus = sched_getaffinity(root, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : CPU_SETSIZE;
        g->looked_ns = crew_now_ns();
        governor_limit(g, l);
        return g;
}

struct governor *governor_free(struct governor *g) {
        if (!g)
                return NULL;
        free(g->known.m);
        free(g->spare.m);
        free(g->stopped);
        free(g);
        return NULL;
}

void governor_limit(struct governor *g, const struct spawn_limits *l) {
        if (l->cpu_milli != g->limits.cpu_milli)
                cpu_share_init(&g->share, l->cpu_milli, crew_now_ns());
        g->limits = *l;
}

/* --- looking --- */

static int by_pid(const void *a, const void *b) {
        pid_t x = ((const struct member *)a)->pid, y = ((const struct member *)b)->pid;

        return (x > y) - (x < y);
}

static bool has_group_clock(struct governor *g, uint64_t *ns) {
        return g->cgroup[0] && cgroup_cpu_ns(g->cgroup, ns);
}

/* Whether anything of it has run since the last look. */
static bool ran(struct governor *g) {
        uint64_t ns;

        if (g->known.n == 0 || g->known.gone)
                return true;
        if (has_group_clock(g, &ns))
                return ns != g->group_ns;
        for (size_t i = 0; i < g->known.n; i++) {
                if (clock_of(g->known.m[i].pid) != g->known.m[i].own_ns)
                        return true;
        }
        return false;
}

static bool make_room(struct table *t, size_t n) {
        struct member *m = n <= t->room ? t->m : realloc(t->m, n * 2 * sizeof(*m));

        if (!m)
                return false;
        t->room = MAX_OF(t->room, n <= t->room ? t->room : n * 2);
        t->m = m;
        return true;
}

static bool host_swaps(void) {
        struct sysinfo info;

        return sysinfo(&info) < 0 || info.totalswap > 0;
}

static bool take_table(const struct governor *g, struct table *out) {
        bool swaps = g->limits.memory_bytes && host_swaps();
        uint64_t began = crew_now_ns();
        const struct proctree *w = proctree_walk(g->root, UINT64_MAX);

        out->n = out->gone = 0;
        if (!make_room(out, w->n))
                return false;
        for (size_t i = 0; i < w->n; i++) {
                struct proctree_process p;
                uint64_t own = clock_of(w->pids[i]);
                if (own == UINT64_MAX || !proctree_look(w->pids[i], &p)) {
                        out->gone++;
                        continue;
                }
                out->m[out->n++] =
                        (struct member){.pid = w->pids[i],
                                        .state = p.state,
                                        .started_ticks = p.started_ticks,
                                        .own_ns = own,
                                        .children_ns = p.children_ns,
                                        .resident_bytes = p.resident_bytes + (swaps ? proctree_swapped(w->pids[i]) : 0)};
        }
        qsort(out->m, out->n, sizeof(*out->m), by_pid);
        out->took_ns = crew_now_ns() - began;
        return true;
}

struct change {
        uint64_t own_ns;             /* by those that live */
        uint64_t children_ns;        /* by those that were waited for */
        uint64_t lost_ns;            /* of those that are gone: whoever waited for them has it */
        const struct member *newest; /* of those that are new */
};

/* Within a tick the next one has the next pid. */
static bool is_newer(const struct member *a, const struct member *b) {
        return !b || a->started_ticks > b->started_ticks || (a->started_ticks == b->started_ticks && a->pid > b->pid);
}

static void add_change(const struct member *was, struct member *is, struct change *c) {
        if (was && is && is->own_ns >= was->own_ns) {
                is->killed_ns = was->killed_ns;
                is->ours = was->ours;
                c->own_ns += is->own_ns - was->own_ns;
                c->children_ns += is->children_ns - MIN_OF(was->children_ns, is->children_ns);
                return;
        }
        if (was)
                c->lost_ns += was->own_ns + was->children_ns;
        if (is) {
                c->own_ns += is->own_ns;
                c->children_ns += is->children_ns;
                c->newest = is_newer(is, c->newest) ? is : c->newest;
        }
}

static struct change compare(const struct table *was, const struct table *is) {
        struct change c = {0};
        size_t i = 0, k = 0;

        while (i < was->n || k < is->n) {
                const struct member *a = i < was->n ? &was->m[i] : NULL;
                struct member *b = k < is->n ? &is->m[k] : NULL;
                if (a && b && a->pid != b->pid)
                        a->pid < b->pid ? (b = NULL) : (a = NULL);
                add_change(a, b, &c);
                i += a != NULL;
                k += b != NULL;
        }
        return c;
}

/* Those that ended while we looked stand for as many in all the time, none of which may ever be seen alive. */
static uint64_t fleeting_ns(const struct governor *g, uint64_t passed_ns) {
        const struct table *t = &g->known;

        return t->gone ? MIN_OF(t->gone * passed_ns / MAX_OF(t->took_ns, 1u) * FLEETING_NS, passed_ns * g->cpus) : 0;
}

/* Those that came and went between two looks, and were waited for by nobody, show in the numbers only: where we have to
 * share a processor with them, none of them ends while we look.  A thread has a number as well, and its time is its
 * process's: only what they must have taken beyond all that is in an account is nobody's. */
static uint64_t brief_ns(struct governor *g, const struct change *c, uint64_t now_ns) {
        pid_t number = c->newest && g->limits.cpu_milli ? proctree_number(c->newest->pid) : 0, before = g->newest;
        uint64_t made = before && number > before ? (uint64_t)(number - before) : 0;

        g->counted_ns += c->own_ns;
        g->goes_on = made > g->known.n && g->newest_ns > g->held_ns + LATE_NS;
        uint64_t brief = made * BRIEF_NS - MIN_OF(made * BRIEF_NS, g->counted_ns);
        if (number > before || (number && number < before / 2)) { /* the numbers begin anew */
                g->newest = number;
                g->newest_ns = now_ns;
                g->counted_ns = 0;
        }
        return brief;
}

/* What is gone and was waited for by nobody is in no account.  The sum of it, cut where it is a matter of ticks.  One that
 * ends while we look is missed in this look and has been waited for in the next one: only what stays is hidden. */
static bool hides(struct governor *g, const struct change *c, uint64_t brief, uint64_t now_ns) {
        uint64_t passed = now_ns - g->looked_ns, fine = HIDDEN_NS + g->known.n * TICKS_ERROR_NS;
        uint64_t sum = g->hidden_ns + c->lost_ns + fleeting_ns(g, passed) + brief;

        g->hidden_ns = sum - MIN_OF(sum, c->children_ns);
        g->hidden_ns -= MIN_OF(g->hidden_ns, passed / FORGIVEN_PART);
        bool more = g->hidden_ns > fine;
        if (more && g->hid) {
                g->hidden_ns = fine;
                g->hides_until_ns = now_ns + HIDES_NS;
        }
        g->hid = more;
        return now_ns < g->hides_until_ns;
}

/* Looks at all of it.  Processor time since the look before; when that cannot be known, all that there was. */
static uint64_t survey(struct governor *g, uint64_t now_ns) {
        uint64_t all = (now_ns - g->looked_ns) * g->cpus, ns;
        struct change c;

        if (!take_table(g, &g->spare))
                return all;
        c = compare(&g->known, &g->spare);
        struct table was = g->known;
        g->known = g->spare;
        g->spare = was;
        if (has_group_clock(g, &ns)) {
                uint64_t used = was.n ? ns - MIN_OF(g->group_ns, ns) : 0;
                g->group_ns = ns;
                return used;
        }
        if (was.n == 0) /* from here on it counts */
                return 0;
        uint64_t grew = c.own_ns + c.children_ns;
        uint64_t used = MAX_OF(grew - MIN_OF(grew, c.lost_ns), c.own_ns);
        uint64_t brief = brief_ns(g, &c, now_ns);
        used = MAX_OF(used, c.own_ns + brief);
        return hides(g, &c, brief, now_ns) && g->state == FREE ? MAX_OF(used, all) : used;
}

/* --- memory --- */

static uint64_t cpu_now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What they share is divided only when it matters: that costs a walk through their memory.  Of those that there is no time
 * for, as much as of the others; another time they come first. */
static uint64_t divided(struct governor *g) {
        uint64_t until = cpu_now_ns() + SHARES_NS, looked = 0, shares = 0, rest = 0;
        size_t n = g->known.n, i = 0;

        for (; i < n && (i < SHARES_MIN || cpu_now_ns() < until); i++) {
                struct member *m = &g->known.m[(g->first_share + i) % n];
                looked += m->resident_bytes;
                m->resident_bytes = MIN_OF(m->resident_bytes, proctree_share(m->pid));
                shares += m->resident_bytes;
        }
        for (size_t k = i; k < n; k++) {
                struct member *m = &g->known.m[(g->first_share + k) % n];
                if (looked)
                        m->resident_bytes = (uint64_t)((double)m->resident_bytes * (double)shares / (double)looked);
                rest += m->resident_bytes;
        }
        g->first_share = n ? (g->first_share + i) % n : 0;
        return shares + rest;
}

static uint64_t memory_of(struct governor *g) {
        uint64_t sum = 0;

        for (size_t i = 0; i < g->known.n; i++)
                sum += g->known.m[i].resident_bytes;
        g->counts.memory_bytes = sum > g->limits.memory_bytes ? divided(g) : 0;
        return g->counts.memory_bytes ? g->counts.memory_bytes : sum;
}

static bool is_dying(const struct member *m, uint64_t now_ns) {
        return m->killed_ns && now_ns - m->killed_ns < DYING_NS;
}

/* Not pid 1 as long as there is another: with it goes all of the jail. */
static struct member *largest(const struct governor *g, uint64_t now_ns) {
        struct member *out = NULL, *root = NULL;

        for (size_t i = 0; i < g->known.n; i++) {
                struct member *m = &g->known.m[i];
                if (m->pid == g->root)
                        root = m;
                else if (!strchr("ZX", m->state) && !is_dying(m, now_ns) &&
                         (!out || m->resident_bytes > out->resident_bytes))
                        out = m;
        }
        return root && (!out || root->resident_bytes > g->limits.memory_bytes) ? root : out;
}

/* As many as there are too many, or what is killed would be made anew as fast. */
static void kill_largest(struct governor *g, uint64_t bytes, uint64_t now_ns) {
        struct member *m;

        for (size_t i = 0; i < g->known.n; i++)
                bytes -= is_dying(&g->known.m[i], now_ns) ? g->known.m[i].resident_bytes : 0;
        while (bytes > g->limits.memory_bytes && (m = largest(g, now_ns)) && !is_dying(m, now_ns)) {
                m->killed_ns = now_ns;
                bytes -= m->resident_bytes;
                g->counts.kills += proctree_signal(g->root, m->pid, SIGKILL) == 0;
        }
}

/* When it will be at its limit if it goes on as it did since the look before, and half of that. */
static uint64_t before_full(const struct governor *g, uint64_t bytes, uint64_t passed_ns) {
        if (bytes <= g->memory_bytes || bytes >= g->limits.memory_bytes)
                return UINT64_MAX;
        uint64_t looks = (g->limits.memory_bytes - bytes) / (bytes - g->memory_bytes);
        return MAX_OF(MIN_OF(looks, 64u) * passed_ns / 2, (uint64_t)SETTLE_NS);
}

static void see_memory(struct governor *g, uint64_t now_ns) {
        if (g->limits.memory_bytes == 0)
                return;
        uint64_t bytes = memory_of(g);
        g->full_soon_ns = before_full(g, bytes, now_ns - g->looked_ns);
        g->memory_bytes = bytes;
        g->over = bytes > g->limits.memory_bytes;
        if (g->over)
                kill_largest(g, bytes, now_ns);
}

/* --- processors --- */

static bool runs(const struct member *m) {
        return !strchr("TtZX", m->state);
}

static bool remember_stopped(struct governor *g, struct member *m) {
        if (m->ours)
                return true;
        if (g->n_stopped == g->stopped_room) {
                size_t room = MAX_OF(g->stopped_room * 2, (size_t)16);
                pid_t *p = realloc(g->stopped, room * sizeof(*p));
                if (!p)
                        return false;
                g->stopped = p;
                g->stopped_room = room;
        }
        g->stopped[g->n_stopped++] = m->pid;
        return m->ours = true;
}

/* Who stood still before us goes on standing still after us, so those that we stop are noted.  True: none ran. */
static bool stop_running(struct governor *g) {
        bool still = !g->known.gone; /* it may have left a child */

        for (size_t i = 0; i < g->known.n; i++) {
                struct member *m = &g->known.m[i];
                if (!runs(m))
                        continue;
                still = still && m->state == 'D'; /* it stops on its way out of the kernel */
                if (g->state == FROZEN || remember_stopped(g, m))
                        (void)proctree_signal(g->root, m->pid, SIGSTOP);
        }
        return still;
}

/* The youngest first: a shell that ran before its job would find it stopped. */
static void continue_stopped(struct governor *g) {
        while (g->n_stopped > 0)
                (void)proctree_signal(g->root, g->stopped[--g->n_stopped], SIGCONT);
        for (size_t i = 0; i < g->known.n; i++)
                g->known.m[i].ours = false;
}

static void let_go(struct governor *g) {
        if (g->group_held)
                (void)cgroup_freeze(g->cgroup, false);
        continue_stopped(g);
        g->group_held = false;
        g->state = FREE;
}

static void hold(struct governor *g, uint64_t wait_ns, uint64_t now_ns) {
        g->state = HELD;
        g->held_ns = now_ns;
        g->held_until_ns = now_ns + wait_ns;
        g->counts.holds++;
        g->group_held = g->cgroup[0] && cgroup_freeze(g->cgroup, true) == 0;
        if (!g->group_held)
                (void)stop_running(g);
}

/* What runs on though it is stopped, beyond its share: a long way out of the kernel is made up for like all it uses. */
static void see_escaped(struct governor *g, uint64_t used_ns, uint64_t passed_ns, uint64_t now_ns) {
        uint64_t guess_ns = g->known.gone || g->goes_on ? MIN_OF(passed_ns, UNHELD_NS / 4) : 0; /* not by one late look */

        if (g->state == HELD && now_ns - g->held_ns > LATE_NS && !g->group_held)
                g->escaped_ns += MAX_OF(used_ns, guess_ns);
        g->goes_on = false;
        g->escaped_ns -= MIN_OF(g->escaped_ns, passed_ns / 1000u * g->limits.cpu_milli);
        g->counts.unheld = g->counts.unheld || g->escaped_ns > UNHELD_NS;
}

/* Forks that were under way, and who has itself continued, are stopped again. */
static uint64_t see_held(struct governor *g, bool moved, uint64_t used_ns, uint64_t now_ns) {
        bool still = !moved || g->group_held || stop_running(g);
        uint64_t wait = cpu_share_use(&g->share, used_ns, now_ns), most = g->held_ns + CPU_SHARE_STOP_MAX_NS;

        if (wait == 0 || now_ns >= most) {
                let_go(g);
                return now_ns + cpu_share_look_ns(&g->share, g->cpus);
        }
        g->held_until_ns = MIN_OF(now_ns + wait, most);
        return MIN_OF(g->held_until_ns, now_ns + (still ? STILL_NS : SETTLE_NS));
}

static uint64_t see_free(struct governor *g, bool moved, uint64_t used_ns, uint64_t now_ns) {
        uint64_t wait = cpu_share_use(&g->share, used_ns, now_ns);

        if (wait) {
                hold(g, wait, now_ns);
                return MIN_OF(g->held_until_ns, now_ns + SETTLE_NS);
        }
        if (!moved)
                return now_ns + IDLE_NS;
        return now_ns + MIN_OF(cpu_share_look_ns(&g->share, g->cpus), g->full_soon_ns);
}

static bool has_something_to_see_to(const struct governor *g) {
        if (g->state == FROZEN)
                return g->watch_still;
        return g->state == HELD || g->limits.memory_bytes || g->limits.cpu_milli;
}

uint64_t governor_look(struct governor *g, uint64_t now_ns) {
        if (!has_something_to_see_to(g))
                return UINT64_MAX;
        bool moved = g->over || ran(g);
        uint64_t used = moved ? survey(g, now_ns) : 0;
        g->full_soon_ns = UINT64_MAX;
        if (moved && g->state != FROZEN)
                see_memory(g, now_ns);
        see_escaped(g, used, now_ns - g->looked_ns, now_ns);
        g->looked_ns = now_ns;
        if (g->state == FROZEN) {
                bool still = !moved || stop_running(g);
                return now_ns + (still ? STILL_NS : SETTLE_NS);
        }
        return g->state == HELD ? see_held(g, moved, used, now_ns) : see_free(g, moved, used, now_ns);
}

void governor_frozen(struct governor *g, bool on, bool by_signals) {
        /* Whom we stopped: by signals they stay so, and go on with all others; by its group they stand still anyway. */
        if (g->state == HELD && !(on && by_signals))
                continue_stopped(g);
        g->n_stopped = 0;
        g->group_held = false;
        g->state = on ? FROZEN : FREE;
        g->watch_still = on && by_signals;
        g->known.n = 0; /* to be looked at anew */
        g->newest = 0;
}

bool governor_holds_group(const struct governor *g) {
        return g->group_held;
}

struct governor_counts governor_counts(const struct governor *g) {
        return g->counts;
}
