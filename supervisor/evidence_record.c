/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel says what happened; the agent's policy says which rule that comes from, and the crew says whose path it is.
 */
#include "evidence_record.h"

#include "common/util.h"
#include "crewd.h"
#include "evidence_client.h"
#include "journal.h"

#include <assert.h>
#include <string.h>

enum wanted { WANT_ALWAYS, WANT_ALL, WANT_WRITES };

static const struct row {
        enum record_kind kind;
        enum wanted wanted; /* which audit.files setting asks for it */
        enum policy_verb verb;
        bool denied;
} rows[] = {
        [EVIDENCE_FILE_OPEN_READ] = {RECORD_FILE_READ, WANT_ALL, POLICY_DO_READ, false},
        [EVIDENCE_FILE_OPEN_WRITE] = {RECORD_FILE_WRITE, WANT_WRITES, POLICY_DO_WRITE, false},
        [EVIDENCE_FILE_MODIFIED] = {RECORD_FILE_WRITE, WANT_WRITES, POLICY_DO_WRITE, false},
        [EVIDENCE_FILE_DENIED] = {RECORD_FILE_DENIED, WANT_ALWAYS, POLICY_DO_READ, true},
        [EVIDENCE_NET_DENIED] = {RECORD_NETWORK_DENIED, WANT_ALWAYS, POLICY_DO_CONNECT, true},
        [EVIDENCE_SCOPE_DENIED] = {RECORD_FILE_DENIED, WANT_ALWAYS, POLICY_DO_READ, true},
        [EVIDENCE_EXEC] = {RECORD_EXEC, WANT_ALL, POLICY_DO_EXEC, false},
        [EVIDENCE_ATTEMPT] = {RECORD_FILE_READ, WANT_ALL, POLICY_DO_READ, false},
};
static_assert(ELEMENTSOF(rows) == EVIDENCE_ATTEMPT + 1, "a row for each kind of evidence");

static bool wanted(const struct agent *a, enum wanted w) {
        switch (policy_audit_files_of(a->decl->policy)) {
        case POLICY_AUDIT_ALL:
                return true;
        case POLICY_AUDIT_WRITES:
                return w != WANT_ALL;
        case POLICY_AUDIT_DENIED:
                return w == WANT_ALWAYS;
        }
        return true;
}

static bool below(const char *tree, const char *path) {
        size_t n = strlen(tree);

        return strncmp(tree, path, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1);
}

const char *evidence_owner_of(const struct agent *a, const char *path) {
        const struct crew_file *crew = a->file;

        for (size_t i = 0; i < crew->n_agents; i++) {
                const struct policy_image *p = crew->agents[i].policy;
                for (size_t k = 0; p && p != a->decl->policy && i != a->index && k < policy_n_paths(p); k++) {
                        struct policy_path at = policy_path_at(p, k);
                        bool own = at.kind == POLICY_READ || at.kind == POLICY_WRITE;
                        if (own && below(at.path, path))
                                return crew->agents[i].name;
                }
        }
        return "";
}

bool evidence_is_decoy(const struct agent *a, const char *path) {
        for (size_t at = 0; at < a->decoys_len; at += strlen(a->decoys + at) + 1) {
                if (below(a->decoys + at, path))
                        return true;
        }
        return false;
}

/* The verb a denied Landlock right stands for: "fs.read_file", "fs.write_file,fs.truncate", "fs.execute". */
static enum policy_verb verb_of_access(const char *access) {
        if (strstr(access, "fs.execute"))
                return POLICY_DO_EXEC;
        return strstr(access, "fs.read") ? POLICY_DO_READ : POLICY_DO_WRITE;
}

static void put_denial(struct record *r, const struct agent *a, const char *path, enum policy_verb verb) {
        struct policy_verdict v = policy_decide(agent_jail_policy(a), verb, path);
        const char *owner = evidence_owner_of(a, path);
        char reason[384];

        if (evidence_is_decoy(a, path)) {
                record_bool(r, "decoy", true);
                if (*owner)
                        record_str(r, "belongs_to", owner);
        }
        if (v.allowed)
                snprintf(reason, sizeof(reason), "allowed to the agent, not to this program");
        else
                snprintf(reason, sizeof(reason), "%s", v.text);
        record_str(r, "reason", reason);
        record_str(r, "rule", v.rule[0] ? v.rule : NULL);
}

static bool names_file(const char **argv, size_t n, const char *path) {
        for (size_t i = 0; i < n; i++) {
                if (strcmp(argv[i], path) == 0)
                        return true;
        }
        return false;
}

/* Files of the agent's command and of its tools are in the view without being listed in the policy. */
static bool is_command_file(const struct agent *a, const char *path) {
        const struct crew_file *crew = a->crewd->file;

        if (names_file(a->decl->command, a->decl->n_command, path))
                return true;
        for (size_t i = 0; i < crew->n_tools; i++) {
                const struct crew_tool *t = &crew->tools[i];
                if (names_file(t->command, t->n_command, path) &&
                    policy_decide(agent_jail_policy(a), POLICY_DO_TOOL, t->name).allowed)
                        return true;
        }
        return false;
}

static bool attempt_denied(const struct agent *a, enum policy_verb verb, const char *path) {
        if (strcmp(path, EVIDENCE_OTHER_PATHS) == 0)
                return false; /* which they were is not known */
        if (verb != POLICY_DO_WRITE && is_command_file(a, path))
                return false;
        return !policy_decide(agent_jail_policy(a), verb, path).allowed;
}

/* An attempt the kernel let the filter see: what came of it is known only as far as the policy decides it. */
static enum record_kind judge_attempt(const struct agent *a, const char *path, const char *access, enum policy_verb *verb,
                                      bool *denied) {
        enum record_kind kind = RECORD_FILE_READ;

        *verb = POLICY_DO_READ;
        if (strstr(access, "exec")) {
                *verb = POLICY_DO_EXEC;
                kind = RECORD_EXEC;
        } else if (strstr(access, "write")) {
                *verb = POLICY_DO_WRITE;
                kind = RECORD_FILE_WRITE;
        }
        *denied = attempt_denied(a, *verb, path);
        return *denied ? RECORD_FILE_DENIED : kind;
}

void evidence_record(struct agent *a, const struct evidence_msg *m, const char *source) {
        char path[EVIDENCE_PATH_MAX + 1], access[sizeof(m->access) + 1], comm[sizeof(m->comm) + 1];
        struct record r;

        if (m->what == 0 || m->what >= ELEMENTSOF(rows))
                return;
        memcpy(path, m->path, m->path_len);
        path[m->path_len] = '\0';
        snprintf(access, sizeof(access), "%.*s", (int)sizeof(m->access), m->access);
        snprintf(comm, sizeof(comm), "%.*s", (int)sizeof(m->comm), m->comm);
        enum record_kind kind = rows[m->what].kind;
        enum policy_verb verb = rows[m->what].verb;
        bool denied = rows[m->what].denied, attempt = m->what == EVIDENCE_ATTEMPT;
        if (attempt)
                kind = judge_attempt(a, path, access, &verb, &denied);
        if (attempt && !denied && evidence_sees_opens(a->crewd->evidence))
                return; /* fanotify tells it, and that it came about */
        else if (m->what == EVIDENCE_FILE_DENIED)
                verb = verb_of_access(access);
        if (!wanted(a, denied ? WANT_ALWAYS : attempt && verb == POLICY_DO_WRITE ? WANT_WRITES : rows[m->what].wanted))
                return;

        record_init(&r, kind, source);
        record_bytes(&r, kind == RECORD_NETWORK_DENIED ? "host" : "path", path, m->path_len);
        record_str(&r, "access", access[0] ? access : NULL);
        record_str(&r, "comm", comm[0] ? comm : NULL);
        if (m->pid)
                record_int(&r, "pid", m->pid);
        if (m->count > 1)
                record_int(&r, "count", m->count);
        if (attempt)
                record_str(&r, "verdict", "attempted");
        if (m->what == EVIDENCE_SCOPE_DENIED)
                record_str(&r, "reason", "outside of the sandbox");
        else if (denied && kind == RECORD_FILE_DENIED)
                put_denial(&r, a, path, verb);
        record_int(&r, "at", (int64_t)m->time_ns);
        journal_observe(a, &r, MAX_OF(m->count, 1u), denied);
}
