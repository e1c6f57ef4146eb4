/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl submit: one task for a running crew, and its result. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "names.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ACCEPT_MS 30000
#define INPUT_MAX 4128768u
#define RETRIES_MAX 10u

struct options {
        const char *crew, *agent, *description, *input, *key;
        uint64_t retries, timeout_ns;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "who does it, instead of a task's name",
         CLI_COMPLETE_AGENT},
        {"description", 'd', CLI_STRING, offsetof(struct options, description), "TEXT", "what to do, for --agent",
         CLI_COMPLETE_NONE},
        {"input", 'i', CLI_STRING, offsetof(struct options, input), "FILE", "JSON for it; - is standard input",
         CLI_COMPLETE_FILE},
        {"key", 'k', CLI_STRING, offsetof(struct options, key), "KEY", "the same again with this key is not done again",
         CLI_COMPLETE_NONE},
        {"retries", 0, CLI_U64, offsetof(struct options, retries), "N", "attempts after one that failed, at most 10",
         CLI_COMPLETE_NONE},
        {"timeout", 't', CLI_DURATION, offsetof(struct options, timeout_ns), "TIME", "for each attempt", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int read_input(const char *file, char **text, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        size_t n = 0;
        int r = strcmp(file, "-") == 0 ? crew_read_fd(STDIN_FILENO, INPUT_MAX, text, &n, &err)
                                       : crew_read_file(file, INPUT_MAX, text, &n, &err);

        if (r == -EFBIG)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s: larger than %u bytes", file, INPUT_MAX);
        if (r < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
        if (strlen(*text) != n)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s: not JSON: it holds a NUL byte", file);
        return 0;
}

/* Accepted, then done; what else comes in between is passed over. */
static int wait_done(struct client *c, const Crew__TaskDone **out, struct cli_problem *p) {
        const Crew__Envelope *e;

        for (;;) {
                if (client_next(c, -1, &e, p) < 0)
                        return -1;
                if (e->body_case == CREW__ENVELOPE__BODY_REFUSED) {
                        client_refused(e->refused, p);
                        return -1;
                }
                if (e->body_case == CREW__ENVELOPE__BODY_TASK_DONE) {
                        *out = e->task_done;
                        return 0;
                }
        }
}

static int submit(struct client *c, const struct options *o, const char *task, const char *input,
                  const Crew__TaskDone **out, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__SubmitTask b = CREW__SUBMIT_TASK__INIT;
        const Crew__Envelope *answer = NULL;

        b.task = (char *)task;
        b.agent = (char *)(o->agent ? o->agent : "");
        b.description = (char *)(o->description ? o->description : "");
        b.input = (char *)input;
        b.key = (char *)(o->key ? o->key : "");
        b.retries = (uint32_t)o->retries;
        b.timeout_ms = o->timeout_ns / 1000000u;
        e.body_case = CREW__ENVELOPE__BODY_SUBMIT_TASK;
        e.submit_task = &b;
        if (client_call(c, &e, ACCEPT_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_TASK_ACCEPTED) {
                cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd did not say whether it takes the task");
                return -1;
        }
        return wait_done(c, out, p);
}

static int print_done(const Crew__TaskDone *d, bool json) {
        bool ok = d->outcome == CREW__OUTCOME__OUTCOME_OK;

        if (json) {
                json_t *v = json_pack("{s:o,s:s,s:I}", "task_id", jsonout_text(d->task_id), "outcome",
                                      name_outcome(d->outcome), "duration_us", (json_int_t)d->duration_us);
                json_object_set_new(v, ok ? "result" : "error", ok ? jsonout_value(d->result) : jsonout_text(d->error));
                if (d->terminated)
                        json_object_set_new(v, "terminated", jsonout_terminated(d->terminated));
                jsonout_print(v);
                return ok ? CLI_OK : CLI_FAILED;
        }
        if (ok)
                puts(d->result);
        else
                cli_fail(false, CLI_FAILED, "failed", "task %s: %s: %s", d->task_id, name_outcome(d->outcome), d->error);
        return ok ? CLI_OK : CLI_FAILED;
}

/* NULL: it is complete. */
static const char *lacks(const struct options *o, const struct cli_operands *rest) {
        if (rest->n > 1 || (rest->n == 1) == (o->agent != NULL))
                return "name either a task of the crew file or --agent AGENT";
        if (o->description && !o->agent)
                return "--description goes with --agent: a task of the crew file has its own";
        if (o->retries > RETRIES_MAX)
                return "--retries is at most 10";
        return NULL;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        _cleanup_free_ char *input = NULL;
        const Crew__TaskDone *done = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        const char *wrong = lacks(&o, &rest);
        if (wrong)
                return cli_fail(o.json, CLI_USAGE, "usage", "%s", wrong);
        if ((o.input && read_input(o.input, &input, &problem) < 0) || client_open(o.crew, &c, &problem) < 0 ||
            submit(c, &o, rest.n ? rest.items[0] : "", input ? input : "", &done, &problem) < 0)
                return cli_report(&problem, o.json);
        return print_done(done, o.json);
}

const struct cli_verb verb_submit = {
        .name = "submit",
        .synopsis = "TASK | --agent AGENT [--description TEXT] [--input FILE] [--key KEY] [options]",
        .summary = "hand a running crew one task, and print its result",
        .details =
                "Waits for the task and prints its result, which is JSON, on standard output.  TASK is one of the crew\n"
                "file, with its results so far as context; --input goes before the crew file's.\n"
                "\n"
                "With --key the task is done once: the same command with the key again, also while it runs, or after this\n"
                "one was interrupted, prints the outcome of the first.  The key with another task is refused.\n"
                "\n"
                "  crewctl submit collect\n"
                "  crewctl submit --agent report-writer --description 'Summarise' --input notes.json --key week-47\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
