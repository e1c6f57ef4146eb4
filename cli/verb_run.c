/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl run: starts a crew, runs its tasks, prints how they went, stops it. */
#include "cli.h"

#include "common/util.h"
#include "crews.h"
#include "jsonout.h"
#include "session.h"
#include "text.h"

#include <string.h>

#define GRACE_MS 2000

struct options {
        bool json, keep, locked;
};

static const struct cli_option options[] = {
        {"keep", 0, CLI_FLAG, offsetof(struct options, keep), NULL, "leave the crew up when its tasks are done",
         CLI_COMPLETE_NONE},
        CLI_OPTION_LOCKED(struct options),
        CLI_OPTION_JSON(struct options),
};

/* What the run ended with; copied, for the frame does not live long. */
struct outcome {
        uint64_t seq; /* of our request */
        bool refused;
        struct cli_problem why;
        uint32_t ok, total;
        uint64_t denied, duration_us;
        json_t *tasks; /* owned */
        struct progress *progress;
};

static bool on_frame(const Crew__Envelope *e, void *user) {
        struct outcome *o = user;

        if (e->corr != o->seq)
                return false;
        if (e->body_case == CREW__ENVELOPE__BODY_REFUSED) {
                o->refused = true;
                client_refused(e->refused, &o->why);
                return true;
        }
        if (e->body_case != CREW__ENVELOPE__BODY_CREW_DONE)
                return false;
        const Crew__CrewDone *d = e->crew_done;
        progress_tasks(o->progress, d->tasks, d->n_tasks, crew_now_ns());
        o->ok = d->tasks_ok;
        o->total = d->tasks_total;
        o->denied = d->denied;
        o->duration_us = d->duration_us;
        o->tasks = json_array();
        for (size_t i = 0; i < d->n_tasks; i++)
                json_array_append_new(o->tasks, jsonout_task(d->tasks[i]));
        return true;
}

static int ask_run(struct session *s, struct outcome *o, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__RunTasks request = CREW__RUN_TASKS__INIT;

        e.body_case = CREW__ENVELOPE__BODY_RUN_TASKS;
        e.run_tasks = &request;
        return client_send(s->client, &e, &o->seq, p);
}

/* --- the end --- */

static void summary_text(const struct session *s, const struct outcome *o, bool kept) {
        const struct term *t = progress_term(s->progress);
        const char *dot = term_dot(t);
        enum term_style style = o->ok == o->total ? TERM_GREEN : TERM_RED;
        _cleanup_names_ struct crew_names recorded = {0};
        char took[TEXT_WORD], which[CREW_NAME_MAX + 8] = "";

        if (crews_recorded(&s->paths, &recorded) < 0 || recorded.n > 1)
                snprintf(which, sizeof(which), " --crew %s", s->crew->name);
        fprintf(t->out, "\n%s%u of %u tasks done%s in %s%s", term_on(t, style), o->ok, o->total, term_off(t, style),
                text_duration(o->duration_us * 1000u, took), dot);
        if (o->denied > 0)
                fprintf(t->out, "%s%llu action%s denied%s (crewctl logs --filter denied%s)", term_on(t, TERM_YELLOW),
                        (unsigned long long)o->denied, o->denied == 1 ? "" : "s", term_off(t, TERM_YELLOW), which);
        else
                fputs("nothing denied", t->out);
        fprintf(t->out, "%saudit ", dot);
        term_put(t, s->paths.state);
        fprintf(t->out, "/%s/audit\n", s->crew->name);
        if (o->ok > 0) {
                fputs("results ", t->out);
                term_put(t, s->paths.state);
                fprintf(t->out, "/%s/out\n", s->crew->name);
        }
        if (kept)
                fprintf(t->out, "crew %s is still up; crewctl down --crew %s stops it\n", s->crew->name, s->crew->name);
}

/* The result of a task as crewd stored it, added to the task's object. */
static void add_result(const struct session *s, json_t *task) {
        const char *name = json_string_value(json_object_get(task, "name"));
        char path[PATH_MAX * 2];
        struct crew_err ignored = CREW_ERR_NULL;
        _cleanup_free_ char *text = NULL;

        snprintf(path, sizeof(path), "%s/%s/out/%s.json", s->paths.state, s->crew->name, name ? name : "");
        if (crew_read_file(path, IPC_MAX_FRAME, &text, NULL, &ignored) == 0)
                json_object_set_new(task, "result", jsonout_value(text));
}

static void summary_json(const struct session *s, struct outcome *o, bool kept) {
        char audit[PATH_MAX * 2];
        size_t i;
        json_t *task;

        json_array_foreach(o->tasks, i, task) {
                const char *state = json_string_value(json_object_get(task, "state"));
                if (state && strcmp(state, "done") == 0)
                        add_result(s, task);
        }
        snprintf(audit, sizeof(audit), "%s/%s/audit", s->paths.state, s->crew->name);
        jsonout_print(json_pack("{s:s, s:b, s:i, s:i, s:I, s:I, s:o, s:b, s:O}", "crew", s->crew->name, "ok",
                                (int)(o->ok == o->total), "tasks_ok", (int)o->ok, "tasks_total", (int)o->total, "denied",
                                (json_int_t)o->denied, "duration_us", (json_int_t)o->duration_us, "audit_dir",
                                jsonout_text(audit), "kept", (int)kept, "tasks", o->tasks));
}

/* Runs the tasks of an open session; exit status, or -1 with a problem. */
static int run_tasks(struct session *s, const struct options *opt, struct cli_problem *p) {
        struct outcome o = {.progress = s->progress};
        int r = ask_run(s, &o, p);

        if (r == 0)
                r = session_wait(s, on_frame, &o, p);
        progress_end(s->progress);
        if (r < 0 && strcmp(p->code, "closed") == 0) {
                session_died(s, p);
                return -1;
        }
        if (r == 0) {
                progress_note(s->progress, TERM_WARN, "stopping the crew; Ctrl-C again ends it at once");
                cli_problem_set(p, 128 + s->signal, "interrupted", "interrupted: not every task was done");
                r = -1;
        } else if (r > 0 && o.refused) {
                *p = o.why;
                r = -1;
        }
        bool kept = opt->keep && r > 0;
        if (!kept)
                session_stop(s, GRACE_MS, r > 0 ? "all tasks have ended" : "crewctl run was interrupted");
        if (r > 0)
                (opt->json ? summary_json(s, &o, kept) : summary_text(s, &o, kept));
        json_decref(o.tasks);
        return r < 0 ? -1 : o.ok == o.total ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct session s = SESSION_NULL;
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n != 1)
                return cli_fail(o.json, CLI_USAGE, "usage",
                                rest.n ? "one crew file at a time" : "which crew? crewctl run CREW.yaml");
        const struct session_args args = {.crew_file = rest.items[0], .own = !o.keep, .quiet = o.json, .locked = o.locked};
        status = session_open(&s, &args, &problem);
        if (status == 0)
                status = run_tasks(&s, &o, &problem);
        if (status < 0)
                status = cli_report(&problem, o.json);
        session_close(&s);
        return status;
}

const struct cli_verb verb_run = {
        .name = "run",
        .synopsis = "[--keep] [--locked] [--json] CREW.yaml",
        .summary = "start a crew, run its tasks, show progress and results, stop it",
        .details = "Exit 0 only if every task succeeded.  Ctrl-C stops the crew; nothing of it outlives crewctl,\n"
                   "except with --keep.  --json prints one object with the result of each task.\n"
                   "\n"
                   "  crewctl run crew.yaml\n"
                   "  crewctl run --json crew.yaml | jq '.tasks[].result'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
