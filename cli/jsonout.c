/* SPDX-License-Identifier: Apache-2.0 */
/* JSON for machines, from the frames of crewd. */
#include "jsonout.h"

#include "common/util.h"
#include "names.h"

#include <string.h>

json_t *jsonout_text(const char *s) {
        static const char replacement[] = "\xef\xbf\xbd";
        size_t n = strlen(s), used = 0;

        if (crew_utf8_ok(s, n))
                return json_stringn(s, n);
        char *fixed = malloc(n * 3 + 1);
        if (!fixed)
                return json_string("");
        for (size_t i = 0; i < n;) {
                size_t len = 1;
                while (len <= 4 && i + len <= n && !crew_utf8_ok(s + i, len))
                        len++;
                bool ok = len <= 4 && i + len <= n;
                memcpy(fixed + used, ok ? s + i : replacement, ok ? len : 3);
                used += ok ? len : 3;
                i += ok ? len : 1;
        }
        json_t *v = json_stringn(fixed, used);
        free(fixed);
        return v;
}

json_t *jsonout_value(const char *text) {
        json_t *v = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

        return v ? v : jsonout_text(text);
}

static void set_int(json_t *o, const char *key, uint64_t v) {
        json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void set_text(json_t *o, const char *key, const char *s) {
        if (s && *s)
                json_object_set_new(o, key, jsonout_text(s));
}

static json_t *text_array(char *const *items, size_t n) {
        json_t *a = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append_new(a, jsonout_text(items[i]));
        return a;
}

static json_t *limits_array(const Crew__AgentStatus *a) {
        json_t *all = json_array();

        for (size_t i = 0; i < a->n_limits; i++) {
                const Crew__LimitUse *l = a->limits[i];
                json_t *o = json_object();
                set_text(o, "limit", l->limit);
                if (l->known)
                        set_int(o, "use", l->use);
                if (l->max)
                        set_int(o, "max", l->max);
                set_int(o, "hits", l->hits);
                set_text(o, "by", l->by);
                json_array_append_new(all, o);
        }
        return all;
}

json_t *jsonout_agent(const Crew__AgentStatus *a) {
        json_t *o = json_object();

        set_text(o, "name", a->name);
        set_text(o, "state", name_agent_state(a->state));
        if (a->frozen)
                json_object_set_new(o, "frozen", json_true());
        set_text(o, "task", a->task);
        set_text(o, "role", a->role);
        set_text(o, "policy", a->policy);
        set_int(o, "incarnation", a->incarnation);
        set_int(o, "restarts", a->restarts);
        set_int(o, "up_ms", a->up_ms);
        set_int(o, "pid", a->pid);
        set_int(o, "uid", a->uid);
        set_int(o, "processes", a->processes);
        set_int(o, "processes_max", a->processes_max);
        set_int(o, "memory_bytes", a->memory_bytes);
        set_int(o, "memory_max", a->memory_max);
        if (a->open_files)
                set_int(o, "open_files", a->open_files);
        if (a->open_files_max)
                set_int(o, "open_files_max", a->open_files_max);
        set_int(o, "cpu_ns", a->cpu_ns);
        set_int(o, "cpu_percent", a->cpu_percent);
        set_int(o, "denied", a->denied);
        set_text(o, "walls", a->walls);
        set_int(o, "spawn_us", a->spawn_us);
        set_int(o, "landlock_abi", a->landlock_abi);
        set_int(o, "audit_seq", a->audit_seq);
        set_text(o, "audit_path", a->audit_path);
        set_text(o, "last_cause", a->last_cause);
        if (*a->last_reason)
                set_text(o, "last_reason", a->last_reason);
        set_text(o, "health", a->health);
        if (a->n_limits)
                json_object_set_new(o, "limits", limits_array(a));
        return o;
}

json_t *jsonout_task(const Crew__TaskStatus *t) {
        json_t *o = json_object();

        set_text(o, "id", t->id);
        set_text(o, "name", t->name);
        set_text(o, "agent", t->agent);
        set_text(o, "state", t->state);
        json_object_set_new(o, "submitted", json_boolean(t->submitted));
        set_int(o, "duration_us", t->duration_us);
        set_text(o, "error", t->error);
        set_text(o, "summary", t->summary);
        return o;
}

json_t *jsonout_terminated(const Crew__AgentTerminated *t) {
        json_t *o = json_object();

        set_int(o, "id", t->id);
        set_text(o, "crew", t->crew);
        set_text(o, "agent", t->agent);
        set_int(o, "incarnation", t->incarnation);
        set_text(o, "cause", name_cause(t->cause));
        set_text(o, "limit", t->limit);
        json_object_set_new(o, "exit_code", json_integer(t->exit_code));
        json_object_set_new(o, "signal", json_integer(t->term_signal));
        set_text(o, "initiator", t->initiator);
        set_text(o, "reason", t->reason);
        json_object_set_new(o, "tasks_in_flight", text_array(t->tasks_in_flight, t->n_tasks_in_flight));
        json_object_set_new(o, "calls_in_flight", text_array(t->calls_in_flight, t->n_calls_in_flight));
        json_object_set_new(o, "side_effects_possible", json_boolean(t->side_effects_possible));
        json_object_set_new(o, "restartable", json_boolean(t->restartable));
        set_int(o, "attempt", t->attempt);
        set_int(o, "audit_seq", t->audit_seq);
        set_int(o, "processes_killed", t->processes_killed);
        set_int(o, "kill_us", t->kill_us);
        set_int(o, "time_ms", t->time_ms);
        set_text(o, "stderr_tail", t->stderr_tail);
        return o;
}

json_t *jsonout_status(const Crew__Status *s) {
        json_t *o = json_object(), *agents = json_array(), *tasks = json_array();

        set_text(o, "crew", s->crew);
        set_text(o, "state", s->state);
        set_text(o, "process", s->process);
        set_text(o, "mode", s->mode);
        set_int(o, "up_ms", s->up_ms);
        set_text(o, "audit_dir", s->audit_dir);
        for (size_t i = 0; i < s->n_agents; i++)
                json_array_append_new(agents, jsonout_agent(s->agents[i]));
        for (size_t i = 0; i < s->n_tasks; i++)
                json_array_append_new(tasks, jsonout_task(s->tasks[i]));
        json_object_set_new(o, "agents", agents);
        json_object_set_new(o, "tasks", tasks);
        return o;
}

static void print(json_t *v, size_t flags) {
        if (v && json_dumpf(v, stdout, flags | JSON_ENCODE_ANY) == 0)
                fputc('\n', stdout);
        json_decref(v);
}

void jsonout_print(json_t *v) {
        print(v, JSON_INDENT(2));
}

void jsonout_line(json_t *v) {
        print(v, JSON_COMPACT);
        fflush(stdout);
}
