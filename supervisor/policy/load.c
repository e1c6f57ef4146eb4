/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a role policy: bytes -> nodes -> draft -> checked -> frozen image.  A problem anywhere means no image. */
#include "load.h"

#include "check.h"
#include "common/util.h"
#include "draft.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static const char *doc_agent(const struct node *doc) {
        const struct node *a = node_get(doc, "agent");

        return a && a->kind == NODE_SCALAR ? a->text : NULL;
}

static void join_agents(const struct node *docs, char *buf, size_t size) {
        size_t used = 0;

        buf[0] = '\0';
        for (const struct node *d = docs; d && used < size; d = d->next) {
                int k = doc_agent(d) ? snprintf(buf + used, size - used, "%s%s", used ? ", " : "", doc_agent(d)) : 0;
                used += (size_t)MAX_OF(k, 0);
        }
}

static void check_names_differ(struct bind *b, const struct node *docs) {
        for (const struct node *d = docs; d; d = d->next)
                for (const struct node *e = docs; e != d; e = e->next)
                        if (doc_agent(d) && doc_agent(e) && strcmp(doc_agent(d), doc_agent(e)) == 0)
                                bind_error(b, node_get(d, "agent"), "",
                                           "a second policy for agent '%.63s' (first on line %u)", doc_agent(d),
                                           node_get(e, "agent")->mark.line);
}

/* The document for name, or NULL after reporting. */
static const struct node *choose(struct bind *b, const struct node *docs, const char *name) {
        const char *names[NODE_MAX_DOCUMENTS];
        char hint[256], list[200];
        size_t n = 0;

        join_agents(docs, list, sizeof(list));
        if (!docs) {
                policy_report_add(b->report, false, b->file, 0, 0, "", "the file holds no policy");
                return NULL;
        }
        if (!name && !docs->next)
                return docs;
        if (!name) {
                snprintf(hint, sizeof(hint), "agents: %s", list);
                policy_report_add(b->report, false, b->file, 0, 0, hint,
                                  "the file holds several policies; say for which agent");
                return NULL;
        }
        for (const struct node *d = docs; d; d = d->next) {
                if (doc_agent(d) && strcmp(doc_agent(d), name) == 0)
                        return d;
                if (doc_agent(d))
                        names[n++] = doc_agent(d);
        }
        if (n == 0)
                return docs; /* its problem is the missing `agent`, and binding says so */
        policy_report_add(b->report, false, b->file, 0, 0, bind_suggest(hint, sizeof(hint), name, names, n),
                          "no policy for agent '%s' in this file; it holds: %s", name, list);
        return NULL;
}

static int load_nodes(struct bind *b, const struct load_request *q, struct draft *d, struct crew_err *err) {
        struct node *docs;
        int r = node_parse(q->file, q->bytes, q->n, b->arena, &docs, b->report, err);

        if (r < 0)
                return r;
        check_names_differ(b, docs);
        const struct node *doc = choose(b, docs, q->agent_name);
        if (!doc)
                return -EINVAL;
        r = draft_bind(b, doc, d);
        if (r < 0)
                return crew_fail(err, -r, "%s: out of memory", q->file);
        return draft_check(b, d, err);
}

int policy_load_request(const struct load_request *q, struct policy_image **out, struct policy_report *report,
                        struct crew_err *err) {
        struct arena arena = {0};
        struct bind b = {.file = q->file, .crew_dir = q->crew_dir, .arena = &arena, .report = report, .used = q->used};
        size_t before = report->errors, before_items = report->n;
        struct draft d = {0};

        *out = NULL;
        int r = load_nodes(&b, q, &d, err);
        if (report->errors != before)
                r = r < 0 && r != -EINVAL ? r : report_refuse(report, before_items, q->file, err);
        if (r == 0)
                r = image_make(&d, q->file, q->crew_dir, out, err);
        if (r == 0 && !q->missing_is_callers)
                policy_check_missing(*out, true, NULL, NULL, report);
        arena_fini(&arena);
        return r;
}

int crew_dir_real(const char *dir, char *out, struct crew_err *err) {
        out[0] = '\0';
        if (dir && !realpath(dir, out))
                return crew_fail_errno(err, "cannot resolve the crew's directory %s", dir);
        return 0;
}

int policy_load_bytes(const char *name, const char *bytes, size_t n, const char *agent_name, const char *crew_dir,
                      struct policy_image **out, struct policy_report *report, struct crew_err *err) {
        char dir[PATH_MAX];
        int r = crew_dir_real(crew_dir, dir, err);

        *out = NULL;
        if (r < 0)
                return r;
        struct load_request q = {
                .file = name, .bytes = bytes, .n = n, .agent_name = agent_name, .crew_dir = crew_dir ? dir : NULL};
        return policy_load_request(&q, out, report, err);
}

int policy_load(const char *file, const char *agent_name, const char *crew_dir, struct policy_image **out,
                struct policy_report *report, struct crew_err *err) {
        _cleanup_free_ char *bytes = NULL;
        struct crew_err why = CREW_ERR_NULL;
        size_t n;

        *out = NULL;
        int r = crew_read_file(file, NODE_MAX_BYTES, &bytes, &n, &why);
        if (r < 0) {
                policy_report_add(report, false, file, 0, 0, "", "cannot be read: %s",
                                  r == -EFBIG    ? "it is larger than 1 MiB"
                                  : r == -EINVAL ? "not a regular file"
                                                 : strerror(-r));
                return report_refuse(report, report->n ? report->n - 1 : 0, file, err);
        }
        return policy_load_bytes(file, bytes, n, agent_name, crew_dir, out, report, err);
}

int policy_agents(const char *file, char names[][64], size_t room, size_t *n_out, struct policy_report *report,
                  struct crew_err *err) {
        _cleanup_free_ char *bytes = NULL;
        struct arena arena = {0};
        struct node *docs = NULL;
        size_t n = 0, len;
        int r = crew_read_file(file, NODE_MAX_BYTES, &bytes, &len, err);

        if (r == 0)
                r = node_parse(file, bytes, len, &arena, &docs, report, err);
        for (const struct node *d = docs; r == 0 && d && n < room; d = d->next)
                if (doc_agent(d) && crew_name_ok(doc_agent(d)))
                        snprintf(names[n++], sizeof(names[0]), "%s", doc_agent(d));
        *n_out = n;
        arena_fini(&arena);
        return r;
}
