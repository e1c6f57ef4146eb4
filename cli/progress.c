/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees while a crew runs. */
#include "progress.h"

#include "common/util.h"
#include "names.h"
#include "table.h"
#include "text.h"

#include <stdarg.h>
#include <string.h>

#define LIVE_MAX 12 /* lines; the rest is a count */
#define LAST_WORDS 3
#define REDRAW_NS 80000000u /* a flood of events must not become a flood of drawing */

enum phase { WAITING, RUNNING, ENDED };

struct shown_task {
        char name[64], agent[64];
        enum phase phase;
        uint64_t since_ns;
        char doing[256];
};

struct progress {
        struct term term;
        bool quiet, stopping;
        size_t name_width, agent_width;
        struct shown_task *tasks; /* owned */
        size_t n_tasks;
        uint64_t denied, seen; /* seen: number of the last event */
        uint64_t drawn_ns;
};

struct progress *progress_new(const struct crew_file *crew, bool quiet) {
        struct progress *p = calloc(1, sizeof(*p));

        if (!p || !(p->tasks = calloc(crew->n_tasks ? crew->n_tasks : 1, sizeof(*p->tasks))))
                return progress_free(p);
        term_init(&p->term, stdout);
        p->quiet = quiet;
        p->n_tasks = crew->n_tasks;
        for (size_t i = 0; i < crew->n_tasks; i++) {
                snprintf(p->tasks[i].name, sizeof(p->tasks[i].name), "%s", crew->tasks[i].name);
                snprintf(p->tasks[i].agent, sizeof(p->tasks[i].agent), "%s", crew->tasks[i].agent);
                p->name_width = MAX_OF(p->name_width, strlen(p->tasks[i].name));
                p->agent_width = MAX_OF(p->agent_width, strlen(p->tasks[i].agent));
        }
        return p;
}

struct progress *progress_free(struct progress *p) {
        if (p)
                free(p->tasks);
        free(p);
        return NULL;
}

struct term *progress_term(struct progress *p) {
        return &p->term;
}

uint64_t progress_denied(const struct progress *p) {
        return p->denied;
}

bool progress_live(const struct progress *p) {
        return p->term.moves && !p->quiet;
}

void progress_starting(struct progress *p, uint64_t now_ns) {
        if (!progress_live(p))
                return;
        term_live_clear(&p->term);
        term_live_line(&p->term, TERM_PLAIN, term_spinner(&p->term, now_ns), "starting the agents");
        fflush(p->term.out);
}

/* --- agents --- */

static const struct table_column agent_columns[] = {
        {NULL, false, 0, true}, {NULL, false, 0, false}, {NULL, true, 2, false}, {NULL, false, 1, true}};

static void walls_text(const struct term *t, const Crew__AgentStatus *a, char *out, size_t n) {
        const char *dot = term_dot(t);
        int k = 0;

        if (a->landlock_abi > 0)
                k = snprintf(out, n, "landlock %u%s", a->landlock_abi, dot);
        if (strcmp(a->walls, "full") == 0)
                snprintf(out + k, n - (size_t)k, "seccomp%snetns%suid %u", dot, dot, a->uid);
        else
                snprintf(out + k, n - (size_t)k, "%s%suid %u", a->walls, dot, a->uid);
}

static void agent_cells(struct table *table, const struct term *t, const Crew__AgentStatus *a) {
        char took[TEXT_WORD], walls[512] = "";
        bool process = a->pid != 0;
        bool good = a->state == CREW__AGENT_STATE__AGENT_READY || a->state == CREW__AGENT_STATE__AGENT_WORKING;

        table_cell(table, TERM_PLAIN, "%s", a->name);
        table_cell(table, good ? TERM_GREEN : process ? TERM_RED : TERM_DIM, "%s", name_agent_state(a->state));
        table_cell(table, TERM_PLAIN, "%s", process ? text_duration(a->spawn_us * 1000u, took) : "");
        if (process)
                walls_text(t, a, walls, sizeof(walls));
        else if (a->last_cause[0])
                snprintf(walls, sizeof(walls), "%s", a->last_cause);
        table_cell(table, process && strcmp(a->walls, "full") != 0 ? TERM_YELLOW : TERM_PLAIN, "%s", walls);
}

void progress_agents(struct progress *p, const Crew__Status *s) {
        const struct term *t = &p->term;
        const char *dot = term_dot(t);

        if (p->quiet)
                return;
        term_live_clear(&p->term);
        fprintf(t->out, "crew %s%s%s%s%zu agent%s%s%s\n", term_on(t, TERM_BOLD), s->crew, term_off(t, TERM_BOLD), dot,
                s->n_agents, s->n_agents == 1 ? "" : "s", dot, s->process);
        struct table *table = table_new(agent_columns, ELEMENTSOF(agent_columns));
        for (size_t i = 0; i < s->n_agents; i++)
                agent_cells(table, t, s->agents[i]);
        table_print(table, t, "  ");
        table_free(table);
        fflush(t->out);
}

/* --- lines --- */

/* "mark name agent time text" cut to the width; all text is made safe. */
static void task_line(struct progress *p, const struct shown_task *task, enum term_mark mark, const char *when,
                      const char *text) {
        const struct term *t = &p->term;
        enum term_style style = term_mark_style(mark);
        char line[2048];
        size_t width = term_width(t), taken = 3 + text_columns(term_mark(t, mark));

        snprintf(line, sizeof(line), "%-*s  %-*s  %7s%s%s", (int)p->name_width, task->name, (int)p->agent_width,
                 task->agent, when, *text ? "   " : "", text);
        _cleanup_free_ char *safe = text_safe_dup(line, strlen(line), t->utf8);
        if (!safe)
                return;
        /* An error is worth a second line; a summary is not. */
        if (width > 0 && mark == TERM_OK)
                text_fit(safe, width > taken ? width - taken : 0, t->utf8);
        fprintf(t->out, "  %s%s%s %s\n", term_on(t, style), term_mark(t, mark), term_off(t, style), safe);
}

static void draw_live(struct progress *p, uint64_t now_ns) {
        size_t lines = 0, more = 0, limit = MIN_OF((size_t)LIVE_MAX, term_height(&p->term) - 2);
        char line[512], took[TEXT_WORD];

        for (size_t i = 0; i < p->n_tasks; i++) {
                const struct shown_task *t = &p->tasks[i];
                if (t->phase != RUNNING)
                        continue;
                if (lines >= limit) {
                        more++;
                        continue;
                }
                /* Tenths below a minute: it shows that something moves. */
                uint64_t ns = now_ns - t->since_ns;
                if (ns < 59950000000u)
                        snprintf(took, sizeof(took), "%.1f s", (double)ns / 1e9);
                else
                        text_duration(ns, took);
                snprintf(line, sizeof(line), "%-*s  %-*s  %7s   %s", (int)p->name_width, t->name, (int)p->agent_width,
                         t->agent, took, t->doing);
                term_live_line(&p->term, TERM_YELLOW, term_spinner(&p->term, now_ns), line);
                lines++;
        }
        if (more > 0) {
                snprintf(line, sizeof(line), "and %zu more", more);
                term_live_line(&p->term, TERM_PLAIN, " ", line);
        }
        if (p->denied > 0 && lines > 0) {
                snprintf(line, sizeof(line), "%llu denied", (unsigned long long)p->denied);
                term_live_line(&p->term, TERM_YELLOW, term_mark(&p->term, TERM_WARN), line);
        }
}

void progress_tick(struct progress *p, uint64_t now_ns) {
        if (!progress_live(p) || (p->term.live_now > 0 && now_ns - p->drawn_ns < REDRAW_NS))
                return;
        p->drawn_ns = now_ns;
        term_live_clear(&p->term);
        draw_live(p, now_ns);
        fflush(p->term.out);
}

void progress_note(struct progress *p, enum term_mark mark, const char *fmt, ...) {
        const struct term *t = &p->term;
        enum term_style style = term_mark_style(mark);
        char text[2048];
        va_list ap;

        if (p->quiet)
                return;
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        term_live_clear(&p->term);
        fprintf(t->out, "  %s%s%s ", term_on(t, style), term_mark(t, mark), term_off(t, style));
        term_put(t, text);
        fputc('\n', t->out);
        fflush(t->out);
}

/* --- events --- */

static struct shown_task *find_task(struct progress *p, const char *name) {
        for (size_t i = 0; i < p->n_tasks; i++) {
                if (strcmp(p->tasks[i].name, name) == 0)
                        return &p->tasks[i];
        }
        return NULL;
}

static void task_started(struct progress *p, struct shown_task *t, const Crew__TaskStatus *s, uint64_t now_ns) {
        bool fresh = t->phase != RUNNING;

        if (fresh)
                t->since_ns = now_ns;
        t->phase = RUNNING;
        snprintf(t->doing, sizeof(t->doing), "%s", s->summary);
        if (fresh && !p->quiet && !p->term.moves)
                task_line(p, t, TERM_WAIT, "started", "");
}

static void task_ended(struct progress *p, struct shown_task *t, const Crew__TaskStatus *s) {
        bool done = strcmp(s->state, "done") == 0, skipped = strcmp(s->state, "skipped") == 0;
        char took[TEXT_WORD];

        t->phase = ENDED;
        if (p->quiet)
                return;
        term_live_clear(&p->term);
        task_line(p, t,
                  done      ? TERM_OK
                  : skipped ? TERM_WAIT
                            : TERM_FAIL,
                  skipped ? "skipped" : text_duration(s->duration_us * 1000u, took),
                  done || !s->error[0] ? s->summary : s->error);
}

static void on_task(struct progress *p, const Crew__TaskStatus *s, uint64_t now_ns) {
        struct shown_task *t = find_task(p, s->name);

        if (!t || t->phase == ENDED)
                return;
        if (strcmp(s->state, "running") == 0)
                task_started(p, t, s, now_ns);
        else if (strcmp(s->state, "voting") == 0)
                snprintf(t->doing, sizeof(t->doing), "the others vote");
        else if (strcmp(s->state, "waiting") == 0)
                t->phase = WAITING;
        else
                task_ended(p, t, s);
}

/* The last lines an agent wrote before it died: mostly the reason. */
static void last_words(const struct term *t, const char *tail) {
        const char *from = tail + strlen(tail);

        for (int lines = 0; from > tail; from--) {
                if (from[-1] == '\n' && *from && ++lines == LAST_WORDS)
                        break;
        }
        while (*from) {
                size_t n = strcspn(from, "\n");
                _cleanup_free_ char *safe = text_safe_dup(from, n, t->utf8);
                if (safe && n > 0)
                        fprintf(t->out, "      %s%s%s\n", term_on(t, TERM_DIM), safe, term_off(t, TERM_DIM));
                from += n + (from[n] == '\n');
        }
}

static void on_terminated(struct progress *p, const Crew__AgentTerminated *end) {
        char how[64] = "";

        if (p->quiet || end->cause == CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN)
                return;
        if (end->term_signal > 0)
                snprintf(how, sizeof(how), ", signal %d", end->term_signal);
        else if (end->exit_code > 0)
                snprintf(how, sizeof(how), ", exit %d", end->exit_code);
        progress_note(p, TERM_WARN, "agent %s ended: %s%s%s%s%s", end->agent, name_cause(end->cause), how,
                      end->reason[0] ? " (" : "", end->reason, end->reason[0] ? ")" : "");
        last_words(&p->term, end->stderr_tail);
}

void progress_event(struct progress *p, const Crew__Event *e, uint64_t now_ns) {
        if (e->event_seq <= p->seen)
                return;
        p->seen = e->event_seq;
        if (strcmp(e->kind, "denied") == 0)
                p->denied++;
        else if (e->task)
                on_task(p, e->task, now_ns);
        else if (e->terminated)
                on_terminated(p, e->terminated);
        else if (strcmp(e->kind, "approval") == 0 && e->text[0] && !p->quiet)
                progress_note(p, TERM_WARN, "%s", e->text);
        else if (strcmp(e->kind, "log") == 0 && e->text[0] && !p->stopping)
                progress_note(p, TERM_WAIT, "%s", e->text);
        progress_tick(p, now_ns);
        if (!p->quiet)
                fflush(p->term.out);
}

void progress_tasks(struct progress *p, Crew__TaskStatus *const *tasks, size_t n, uint64_t now_ns) {
        for (size_t i = 0; i < n; i++)
                on_task(p, tasks[i], now_ns);
}

void progress_stopping(struct progress *p) {
        p->stopping = true;
}

void progress_end(struct progress *p) {
        term_live_clear(&p->term);
        fflush(p->term.out);
}
