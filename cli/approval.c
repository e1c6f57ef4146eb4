/* SPDX-License-Identifier: Apache-2.0 */
#include "approval.h"

#include "common/util.h"
#include "jsonout.h"

#include <string.h>

#define ANSWER_MS 10000

const char *approval_place(const char *host, uint32_t port, char out[APPROVAL_PLACE_MAX]) {
        bool v6 = strchr(host, ':') != NULL;

        snprintf(out, APPROVAL_PLACE_MAX, "%s%.255s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
        return out;
}

static const char *pick(const char *const *names, size_t n, int i) {
        return i >= 0 && (size_t)i < n && names[i] ? names[i] : "unknown";
}

const char *approval_state_name(int state) {
        static const char *const names[] = {
                [CREW__APPROVAL_STATE__APPROVAL_WAITING] = "waiting", [CREW__APPROVAL_STATE__APPROVAL_GRANTED] = "granted",
                [CREW__APPROVAL_STATE__APPROVAL_REFUSED] = "refused", [CREW__APPROVAL_STATE__APPROVAL_EXPIRED] = "expired",
                [CREW__APPROVAL_STATE__APPROVAL_GONE] = "gone",
        };
        return pick(names, ELEMENTSOF(names), state);
}

const char *approval_scope_name(int scope) {
        static const char *const names[] = {
                [CREW__APPROVAL_SCOPE__APPROVAL_SCOPE_UNSET] = "",
                [CREW__APPROVAL_SCOPE__APPROVAL_ONCE] = "once",
                [CREW__APPROVAL_SCOPE__APPROVAL_SESSION] = "session",
                [CREW__APPROVAL_SCOPE__APPROVAL_ALWAYS] = "always",
        };
        return pick(names, ELEMENTSOF(names), scope);
}

json_t *approval_json(const Crew__Approval *a) {
        json_t *o = json_pack("{s:o, s:o, s:o, s:I, s:s, s:I, s:I}", "id", jsonout_text(a->id), "agent",
                              jsonout_text(a->agent), "host", jsonout_text(a->host), "port", (json_int_t)a->port, "state",
                              approval_state_name(a->state), "waiting", (json_int_t)a->waiting, "age_ms",
                              (json_int_t)a->age_ms);

        if (a->state == CREW__APPROVAL_STATE__APPROVAL_WAITING)
                json_object_set_new(o, "expires_in_ms", json_integer((json_int_t)a->expires_in_ms));
        if (a->scope)
                json_object_set_new(o, "scope", json_string(approval_scope_name(a->scope)));
        if (*a->by)
                json_object_set_new(o, "by", jsonout_text(a->by));
        if (*a->policy_file)
                json_object_set_new(o, "policy_file", jsonout_text(a->policy_file));
        return o;
}

static int wrong_answer(struct cli_problem *p) {
        cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd answered something else than was asked");
        return -1;
}

int approvals_get(struct client *c, bool follow, const Crew__ApprovalList **out, uint64_t *corr, struct cli_problem *p) {
        Crew__ListApprovals body = CREW__LIST_APPROVALS__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        const Crew__Envelope *answer = NULL;

        body.follow = follow;
        e.body_case = CREW__ENVELOPE__BODY_LIST_APPROVALS;
        e.list_approvals = &body;
        if (client_call(c, &e, ANSWER_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_APPROVAL_LIST)
                return wrong_answer(p);
        if (corr)
                *corr = answer->corr;
        *out = answer->approval_list;
        return 0;
}

static void copy(const Crew__Approval *a, struct approval *out) {
        *out = (struct approval){.port = a->port, .waiting = a->waiting};
        snprintf(out->id, sizeof(out->id), "%s", a->id);
        snprintf(out->agent, sizeof(out->agent), "%s", a->agent);
        snprintf(out->host, sizeof(out->host), "%s", a->host);
        snprintf(out->policy_file, sizeof(out->policy_file), "%s", a->policy_file);
        snprintf(out->policy_agent, sizeof(out->policy_agent), "%s", a->policy_agent);
}

int approval_find(struct client *c, const char *id, struct approval *out, struct cli_problem *p) {
        const Crew__ApprovalList *list = NULL;

        if (approvals_get(c, false, &list, NULL, p) < 0)
                return -1;
        for (size_t i = 0; i < list->n_items; i++) {
                if (strcmp(list->items[i]->id, id) == 0) {
                        copy(list->items[i], out);
                        return 1;
                }
        }
        return 0;
}

int approval_answer(struct client *c, const char *id, Crew__ApprovalVerdict verdict, Crew__ApprovalScope scope,
                    const Crew__Approval **out, struct cli_problem *p) {
        Crew__AnswerApproval body = CREW__ANSWER_APPROVAL__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        const Crew__Envelope *answer = NULL;

        body.id = (char *)id;
        body.verdict = verdict;
        body.scope = scope;
        e.body_case = CREW__ENVELOPE__BODY_ANSWER_APPROVAL;
        e.answer_approval = &body;
        if (client_call(c, &e, ANSWER_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_APPROVAL_ANSWERED || !answer->approval_answered->approval)
                return wrong_answer(p);
        *out = answer->approval_answered->approval;
        return 0;
}
