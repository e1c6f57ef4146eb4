/* SPDX-License-Identifier: Apache-2.0 */
#include "reload_internal.h"

#include "ca_bundle.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "death.h"
#include "gateway_client.h"
#include "journal.h"
#include "scheduler.h"
#include "supervisor/policy/changes.h"
#include "supervisor/policy/netpolicy_make.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Which part of a policy shows where, and whether a running jail can take it over. */
static const struct {
        enum reload_section section;
        bool jail;
} parts[] = {
        [POLICY_PART_NETWORK] = {RELOAD_NETWORK, false},
        [POLICY_PART_TOOLS] = {RELOAD_TOOLS, false},
        [POLICY_PART_IPC] = {RELOAD_IPC, false},
        [POLICY_PART_LIMITS] = {RELOAD_LIMITS, false},
        [POLICY_PART_JAIL_LIMITS] = {RELOAD_LIMITS, true},
        [POLICY_PART_AUDIT] = {RELOAD_AUDIT, false},
        [POLICY_PART_FILESYSTEM] = {RELOAD_FILESYSTEM, true},
        [POLICY_PART_SYSCALLS] = {RELOAD_SYSCALLS, true},
        [POLICY_PART_DEGRADED] = {RELOAD_DEGRADED, true},
};
static_assert(ELEMENTSOF(parts) == POLICY_PART_N, "a place for each part");

struct reload *reload_new(struct crewd *c) {
        struct reload *r = calloc(1, sizeof(*r));

        if (r) {
                r->crewd = c;
                r->inspects = ca_bundle_wanted_by_any(c->file);
        }
        return r;
}

static void clear(struct reload *r) {
        for (uint32_t i = 0; i < r->n; i++)
                crew_close(&r->agents[i].memfd);
        free(r->agents);
        r->fresh = crew_file_free(r->fresh);
        policy_report_fini(&r->report);
        struct reload none = {.crewd = r->crewd, .inspects = r->inspects};
        memcpy(none.by, r->by, sizeof(none.by));
        *r = none;
}

struct reload *reload_free(struct reload *r) {
        if (r)
                clear(r);
        free(r);
        return NULL;
}

const char *reload_initiator(const struct reload *r) {
        return r->by[0] ? r->by : "crewd";
}

/* --- what differs --- */

static void note(struct reload_change *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct reload_change *s, const char *fmt, ...) {
        size_t n = strlen(s->detail);
        va_list ap;

        if (n > 0)
                n += (size_t)snprintf(s->detail + n, sizeof(s->detail) - n, "; ");
        if (n >= sizeof(s->detail))
                return;
        va_start(ap, fmt);
        vsnprintf(s->detail + n, sizeof(s->detail) - n, fmt, ap);
        va_end(ap);
}

/* A tool's files are in the jail only if the policy it was made with allowed it. */
static void compare_tools(const struct crewd *c, const struct policy_image *jail, const struct policy_image *now,
                          struct reload_change *s) {
        for (size_t i = 0; i < c->file->n_tools; i++) {
                const char *tool = c->file->tools[i].name;
                if (!policy_decide(now, POLICY_DO_TOOL, tool).allowed || policy_decide(jail, POLICY_DO_TOOL, tool).allowed)
                        continue;
                s->restart = true;
                note(s, "%s is not in the jail yet", tool);
        }
}

static int compare(const struct crewd *c, struct reload_agent *ra, const struct policy_image *fresh) {
        const struct agent *a = ra->agent;
        const struct policy_image *jail = agent_jail_policy(a), *now = a->decl->policy;
        bool live = agent_state_live(a->state);
        char detail[POLICY_CHANGE_MAX];

        for (uint32_t i = 0; i < POLICY_PART_N; i++) {
                struct reload_change *s = &ra->sections[parts[i].section];
                bool stays = live && parts[i].jail;
                int r = policy_part_changed(stays ? jail : now, fresh, (enum policy_part)i, detail);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                s->restart |= stays;
                s->applied |= !stays;
                note(s, "%s", detail);
        }
        if (!live)
                return 0;
        compare_tools(c, jail, fresh, &ra->sections[RELOAD_TOOLS]);
        if (ca_bundle_wanted(fresh, c->file) && !ca_bundle_wanted(jail, c->file)) {
                ra->sections[RELOAD_NETWORK].restart = true;
                note(&ra->sections[RELOAD_NETWORK], "the jail does not know the crew's CA yet");
        }
        return 0;
}

static bool needs_restart(const struct reload_agent *ra) {
        for (uint32_t i = 0; i < RELOAD_N; i++) {
                if (ra->sections[i].restart)
                        return true;
        }
        return false;
}

/* --- taking over --- */

static void list_sections(const struct reload_agent *ra, bool restart, char *out, size_t size) {
        size_t n = 0;

        out[0] = '\0';
        for (uint32_t i = 0; i < RELOAD_N && n < size; i++) {
                const struct reload_change *s = &ra->sections[i];
                if (restart ? s->restart : s->applied && !s->restart)
                        n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", reload_section_names[i]);
        }
}

/* why: NULL before it is tried. */
static int record_reload(struct reload *r, const struct reload_agent *ra, const char *why) {
        char applied[160], restart[160];
        struct record rec;

        list_sections(ra, false, applied, sizeof(applied));
        list_sections(ra, true, restart, sizeof(restart));
        record_init(&rec, RECORD_POLICY_RELOADED, "crewd");
        record_str(&rec, "file", ra->agent->decl->policy_file);
        record_str(&rec, "old_sha256", ra->old_hex);
        record_str(&rec, "sha256", ra->new_hex);
        record_str(&rec, "applied", !why && applied[0] ? applied : NULL);
        record_str(&rec, "restart", !why && restart[0] ? restart : NULL);
        record_int(&rec, "generation", ra->generation);
        record_str(&rec, "initiator", r->by);
        record_str(&rec, "verdict", why ? "failed" : NULL);
        record_str(&rec, "reason", why);
        return journal_write(ra->agent, &rec, true);
}

/* The one place where an agent's policy is replaced. */
static void take_over(struct reload *r, struct reload_agent *ra) {
        struct crewd *c = r->crewd;
        struct agent *a = ra->agent;
        struct policy_image **now = &c->file->agents[a->index].policy, **fresh = &r->fresh->agents[a->index].policy;
        struct policy_image *old = *now;

        *now = *fresh;
        *fresh = NULL;
        if (agent_state_live(a->state) && !a->jail_policy)
                a->jail_policy = old;
        else
                policy_image_free(old);
        if (ra->memfd >= 0)
                a->in.generation = ra->generation;
        free(crew_steal_ptr(&a->ahead.block)); /* a plan after the old one */
        if (r->restart && needs_restart(ra) && agent_state_live(a->state)) {
                ra->restarting = a->restart_asked = true;
                death_kill(a, CREW__CAUSE__CAUSE_OPERATOR, r->by, "started again with a new policy");
        }
}

/* Tasks yet to start get the wall time of now. */
static void take_times(struct reload *r) {
        struct crew_file *now = r->crewd->file;

        for (size_t i = 0; i < now->n_tasks; i++)
                now->tasks[i].timeout_ms = r->fresh->tasks[i].timeout_ms;
}

static void finish_if_done(struct reload *r) {
        if (r->sending || r->waiting > 0)
                return;
        take_times(r);
        reload_answer(r, true);
        clear(r);
}

static void settle(struct reload *r, struct reload_agent *ra, const char *error) {
        ra->done = true;
        if (*error) {
                text_copy(ra->error, sizeof(ra->error), error, SIZE_MAX);
                record_reload(r, ra, ra->error);
                return;
        }
        take_over(r, ra);
}

static void on_gateway(struct crewd *c, uint32_t id, const struct gateway_outcome *o, void *user) {
        struct reload_agent *ra = user;
        struct reload *r = ra->reload;
        /* An instance that ended meanwhile has no connections; the next one gets the new policy. */
        bool fine = o->applied || ra->agent->in.id != id || ra->agent->in.cut;

        (void)c;
        ra->closed = o->closed;
        r->waiting--;
        settle(r, ra, fine ? "" : *o->text ? o->text : "crew-gateway refused it");
        finish_if_done(r);
}

static void start_agent(struct reload *r, struct reload_agent *ra) {
        struct crewd *c = r->crewd;

        if (record_reload(r, ra, NULL) < 0) {
                snprintf(ra->error, sizeof(ra->error), "its audit stream cannot be written");
                return;
        }
        if (ra->memfd < 0)
                return settle(r, ra, "");
        r->waiting++;
        int e = gateway_policy(c->gateway, ra->agent->in.id, ra->memfd, ra->generation, on_gateway, ra);
        if (e < 0) {
                r->waiting--;
                settle(r, ra, e == -ESRCH ? "" : strerror(-e));
        }
}

/* --- beginning --- */

static int problem(struct reload *r, const char *file, const struct crew_err *err) {
        policy_report_add(&r->report, false, file, 0, 0, "", "%s", err->msg);
        return -EINVAL;
}

/* Everything that can fail for a reason in the files. */
static int prepare_agent(struct reload *r, struct reload_agent *ra) {
        struct crewd *c = r->crewd;
        struct agent *a = ra->agent;
        const struct policy_image *now = a->decl->policy, *fresh = r->fresh->agents[a->index].policy;
        struct crew_err err = CREW_ERR_NULL;

        crew_hex(policy_image_sha256(now), CREW_SHA256_BYTES, ra->old_hex);
        crew_hex(policy_image_sha256(fresh), CREW_SHA256_BYTES, ra->new_hex);
        ra->changed = memcmp(policy_image_sha256(now), policy_image_sha256(fresh), CREW_SHA256_BYTES) != 0;
        ra->generation = MAX_OF(a->in.generation, 1u);
        if (compare(c, ra, fresh) < 0)
                return crew_fail(&err, ENOMEM, "out of memory"), problem(r, a->decl->policy_file, &err);
        if (ca_bundle_wanted(fresh, c->file) && !r->inspects) {
                crew_fail(&err, EINVAL, "tls: inspect is new in this crew: its CA is made when the crew starts");
                return problem(r, a->decl->policy_file, &err);
        }
        if (!ra->changed || !c->gateway || !agent_state_live(a->state) || ra->sections[RELOAD_NETWORK].restart)
                return 0;
        ra->generation++;
        ra->memfd = netpolicy_make(fresh, c->file, ra->generation, &err);
        return ra->memfd < 0 ? problem(r, a->decl->policy_file, &err) : 0;
}

static int prepare(struct reload *r, const struct agent *only) {
        struct crewd *c = r->crewd;
        struct crew_err err = CREW_ERR_NULL;
        int e = crew_load_again(c->file, &r->fresh, &r->report, &err);

        if (e < 0)
                return r->report.errors ? e : problem(r, c->file->path, &err);
        r->agents = calloc(MAX_OF(c->n_agents, 1u), sizeof(*r->agents));
        if (!r->agents)
                return crew_fail(&err, ENOMEM, "out of memory"), problem(r, c->file->path, &err);
        crew_assert(r->fresh->n_agents == c->file->n_agents && r->fresh->n_tasks == c->file->n_tasks);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct reload_agent *ra = &r->agents[r->n];
                if (only && only != &c->agents[i])
                        continue;
                *ra = (struct reload_agent){.reload = r, .agent = &c->agents[i], .memfd = -1};
                r->n++;
                if ((e = prepare_agent(r, ra)) < 0)
                        return e;
        }
        return 0;
}

/* Unchanged, but what its jail was made with is older still. */
static bool restart_only(const struct reload *r, const struct reload_agent *ra) {
        return !ra->changed && r->restart && needs_restart(ra);
}

void reload_begin(struct reload *r, uint64_t client, uint64_t corr, const struct agent *only, bool restart) {
        struct crewd *c = r->crewd;

        if (c->phase != CREWD_RUNNING)
                return control_refuse(c->control, client, corr, c->phase == CREWD_STARTING ? "busy" : "stopping", "",
                                      "the crew is %s", c->phase == CREWD_STARTING ? "still starting" : "stopping");
        if (r->active)
                return control_refuse(c->control, client, corr, "busy", "", "policies are being reloaded already");
        r->active = true;
        r->restart = restart;
        r->client = client;
        r->corr = corr;
        r->began_ns = crew_now_ns();
        snprintf(r->by, sizeof(r->by), "%s", control_client_name(c->control, client));
        if (prepare(r, only) < 0) {
                reload_answer(r, false);
                return clear(r);
        }
        r->sending = true; /* the answer goes out when all have been begun, however soon the gateway replies */
        for (uint32_t i = 0; i < r->n; i++) {
                struct reload_agent *ra = &r->agents[i];
                if (ra->changed)
                        start_agent(r, ra);
                else if (restart_only(r, ra) && agent_state_live(ra->agent->state)) {
                        ra->restarting = ra->agent->restart_asked = true;
                        death_kill(ra->agent, CREW__CAUSE__CAUSE_OPERATOR, r->by, "started again with a new policy");
                }
        }
        r->sending = false;
        finish_if_done(r);
}
