/* SPDX-License-Identifier: Apache-2.0 */
#include "termination.h"

#include "crewd.h"
#include "jsontext.h"

static void put_strings(struct json_text *t, const char *key, const char (*items)[128], size_t n) {
        json_key(t, key);
        json_open(t, '[');
        for (size_t i = 0; i < n; i++)
                json_str(t, items[i]);
        json_close(t, ']');
}

/* What AgentTerminated carries, and where its audit is. */
static void write_json(struct json_text *t, const struct agent *a, const struct termination *d,
                       enum termination_reader reader) {
        json_open(t, '{');
        json_key(t, "version"), json_int(t, 1);
        json_key(t, "event"), json_str(t, "agent-terminated");
        json_key(t, "id"), json_int(t, (int64_t)d->id);
        json_key(t, "crew"), json_str(t, a->crewd->file->name);
        json_key(t, "agent"), json_str(t, agent_name(a));
        json_key(t, "incarnation"), json_int(t, d->incarnation);
        json_key(t, "cause"), json_str(t, cause_name(d->death.cause));
        json_key(t, "limit"), json_str(t, d->death.limit);
        json_key(t, "exit_code"), json_int(t, d->exit_code);
        json_key(t, "term_signal"), json_int(t, d->signal);
        json_key(t, "initiator"), json_str(t, d->death.initiator);
        json_key(t, "reason"), json_str(t, d->death.reason);
        json_key(t, "task"), json_str(t, d->task[0] ? d->task : NULL);
        put_strings(t, "calls_in_flight", d->calls, d->n_calls);
        json_key(t, "side_effects_possible"), json_bool(t, d->effects);
        json_key(t, "restartable"), json_bool(t, d->restartable);
        json_key(t, "action"), json_str(t, d->action);
        json_key(t, "attempt"), json_int(t, d->attempt);
        json_key(t, "audit_seq"), json_int(t, (int64_t)d->audit_seq);
        if (reader == TERMINATION_OUTSIDE)
                json_key(t, "audit_path"), json_str(t, audit_path(a->audit));
        json_key(t, "stderr_tail"), json_str(t, d->stderr_tail);
        json_key(t, "processes_killed"), json_int(t, d->processes);
        json_key(t, "kill_us"), json_int(t, (int64_t)d->kill_us);
        json_key(t, "time_ms"), json_int(t, (int64_t)d->time_ms);
        json_close(t, '}');
}

int termination_json(const struct agent *a, const struct termination *t, enum termination_reader reader, char **json,
                     size_t *n) {
        struct json_text text = JSON_TEXT(TERMINATION_JSON_MAX);

        write_json(&text, a, t, reader);
        int r = json_text_take(&text, json, n);
        if (r < 0)
                json_text_fini(&text);
        return r;
}
