/* SPDX-License-Identifier: Apache-2.0 */
#include "reload_internal.h"

#include "apply.h"
#include "ca_bundle.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "death.h"
#include "gateway_client.h"
#include "instance.h"
#include "journal.h"
#include "spawner.h"
#include "supervisor/policy/lock.h"
#include "supervisor/policy/netpolicy_make.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

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
        if (!r->done)
                crew_file_free(r->fresh);
        policy_report_fini(&r->report);
        struct reload none = {.crewd = r->crewd, .inspects = r->inspects, .cookies = r->cookies};
        memcpy(none.by, r->by, sizeof(none.by));
        *r = none;
}

struct reload *reload_free(struct reload *r) {
        if (r)
                clear(r);
        free(r);
        return NULL;
}

bool reload_is_active(const struct reload *r) {
        return r->active;
}

bool reload_has_ca(const struct reload *r) {
        return r->inspects;
}

const char *reload_initiator(const struct reload *r) {
        return r->by[0] ? r->by : "crewd";
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

static void start_again(struct reload *r, struct reload_agent *ra) {
        struct agent *a = ra->agent;

        if (!r->restart || !needs_restart(ra) || !agent_state_live(a->state))
                return;
        ra->restarting = a->restart_asked = true;
        death_kill(a, CREW__CAUSE__CAUSE_OPERATOR, r->by, "started again with a new policy");
}

/* The one place where an agent's policy is replaced. */
static void take_over(struct reload *r, struct reload_agent *ra) {
        struct crewd *c = r->crewd;
        struct agent *a = ra->agent;
        struct policy_image **now = &c->file->agents[a->index].policy, **fresh = &r->fresh->agents[a->index].policy;
        struct policy_image *old = *now;

        if (!r->done) {
                *now = *fresh;
                *fresh = NULL;
                if (agent_state_live(a->state) && !a->jail_policy)
                        a->jail_policy = old;
                else
                        policy_image_free(old);
        }
        if (ra->memfd >= 0 && a->in.id == ra->id)
                a->in.generation = ra->generation;
        if (ra->limits && a->in.id == ra->id)
                a->in.limits = ra->new_limits;
        instance_forget_ahead(a); /* a plan after the old one */
        start_again(r, ra);
}

/* Tasks yet to start get the wall time of now. */
static void take_times(struct reload *r) {
        struct crew_file *now = r->crewd->file;

        for (size_t i = 0; i < now->n_tasks; i++)
                now->tasks[i].timeout_ms = r->fresh->tasks[i].timeout_ms;
}

static void tell_done(struct reload *r) {
        struct crewd *c = r->crewd;
        reload_done done = r->done;
        char error[400] = "";

        for (uint32_t i = 0; i < r->n && !error[0]; i++) {
                if (r->agents[i].error[0])
                        snprintf(error, sizeof(error), "agent %s: %s", agent_name(r->agents[i].agent), r->agents[i].error);
        }
        clear(r);
        done(c, error);
}

static void finish_if_done(struct reload *r) {
        if (r->sending || r->waiting > 0)
                return;
        if (r->done)
                return tell_done(r);
        take_times(r);
        reload_answer(r, true);
        clear(r);
}

static int set_limits(struct reload *r, const struct reload_agent *ra, const struct policy_limits *l, uint32_t cookie) {
        const struct spawn_limits to = {
                .memory_bytes = l->memory_bytes, .processes = l->processes, .cpu_milli = l->cpu_milli};

        return spawner_limit(r->crewd->spawner, ra->agent->in.id, &to, cookie);
}

/* The end of one agent's part: error "" takes everything over. */
static void settle(struct reload *r, struct reload_agent *ra, const char *error) {
        /* Its successor was made by the former policy before the new one could be taken over. */
        if (!*error && ra->id && ra->agent->in.id && ra->agent->in.id != ra->id)
                error = "the agent was started again meanwhile: reload once more";
        if (!*error)
                return take_over(r, ra);
        text_copy(ra->error, sizeof(ra->error), error, SIZE_MAX);
        record_reload(r, ra, ra->error);
        if (ra->limits && ra->agent->in.id == ra->id)
                set_limits(r, ra, &ra->old_limits, 0);
}

/* An instance that is ending has no connections to lose; the next one gets the new policy. */
static bool is_gone(const struct reload_agent *ra) {
        return ra->agent->in.id == 0 || ra->agent->in.cut;
}

static void on_gateway(struct crewd *c, uint32_t id, const struct gateway_outcome *o, void *user) {
        struct reload_agent *ra = user;
        struct reload *r = ra->reload;

        (void)c;
        (void)id;
        ra->closed = o->closed;
        r->waiting--;
        settle(r, ra, o->applied || is_gone(ra) ? "" : *o->text ? o->text : "crew-gateway refused it");
        finish_if_done(r);
}

static void give_gateway(struct reload *r, struct reload_agent *ra) {
        if (ra->memfd < 0)
                return settle(r, ra, "");
        r->waiting++;
        int e = gateway_policy(r->crewd->gateway, ra->agent->in.id, ra->memfd, ra->generation, on_gateway, ra);
        if (e < 0) {
                r->waiting--;
                settle(r, ra, e == -ESRCH ? "" : strerror(-e));
        }
}

void reload_on_limits(struct reload *r, uint32_t cookie, int error) {
        for (uint32_t i = 0; i < r->n; i++) {
                struct reload_agent *ra = &r->agents[i];
                if (cookie == 0 || ra->cookie != cookie)
                        continue;
                ra->cookie = 0;
                r->waiting--;
                if (error == 0 || error == ESRCH)
                        give_gateway(r, ra);
                else
                        settle(r, ra,
                               error == EBUSY ? "limits: the agent uses more memory than that already"
                                              : "limits: its control group does not take them");
                return finish_if_done(r);
        }
}

/* Limits first: they are what can fail for a reason of the agent's. */
static void start_agent(struct reload *r, struct reload_agent *ra) {
        /* For the endpoints alone there is the gateway's own record. */
        if (strcmp(ra->old_hex, ra->new_hex) != 0 && record_reload(r, ra, NULL) < 0) {
                snprintf(ra->error, sizeof(ra->error), "its audit stream cannot be written");
                return;
        }
        if (!ra->limits)
                return give_gateway(r, ra);
        ra->cookie = ++r->cookies;
        r->waiting++;
        if (set_limits(r, ra, &ra->new_limits, ra->cookie) < 0) {
                ra->cookie = 0;
                r->waiting--;
                settle(r, ra, "limits: the spawner cannot be reached");
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
        ra->changed = r->done || memcmp(policy_image_sha256(now), policy_image_sha256(fresh), CREW_SHA256_BYTES) != 0;
        ra->generation = MAX_OF(a->in.generation, 1u);
        ra->id = agent_state_live(a->state) ? a->in.id : 0;
        if (reload_compare(r->done ? r->fresh : c->file, ra, fresh) < 0)
                return crew_fail(&err, ENOMEM, "out of memory"), problem(r, a->decl->policy_file, &err);
        if (ca_bundle_wanted(fresh, c->file) && !r->inspects) {
                crew_fail(&err, EINVAL, "tls: inspect is new in this crew: its CA is made when the crew starts");
                return problem(r, a->decl->policy_file, &err);
        }
        if (!ra->changed || !c->gateway || !agent_state_live(a->state) || ra->sections[RELOAD_NETWORK].restart)
                return 0;
        ra->generation++;
        ra->memfd = netpolicy_make(fresh, r->done ? r->fresh : c->file, ra->generation, &err);
        return ra->memfd < 0 ? problem(r, a->decl->policy_file, &err) : 0;
}

/* What is in force stays what crew.lock names, also a crew.lock that was made since. */
static int verify_lock(struct reload *r) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_lock *fresh = NULL;
        int e = crew_lock_verify(r->fresh, &fresh, &r->report, &err);

        if (e < 0)
                return e;
        crew_lock_free(r->crewd->lock);
        r->crewd->lock = fresh;
        return 0;
}

/* Or a further instance of it. */
static bool is_of(const struct agent *a, const struct agent *only) {
        return a == only || (a->decl->instance && a->decl->instance_of == only->index);
}

/* One agent's reload is no matter of the others' files, unless crew.lock makes them one. */
static const char *alone(const struct crewd *c, const struct agent *only) {
        if (!only || c->lock)
                return NULL;
        return only->decl->instance ? c->file->agents[only->decl->instance_of].name : only->decl->name;
}

static int prepare(struct reload *r, const struct agent *only) {
        struct crewd *c = r->crewd;
        struct crew_err err = CREW_ERR_NULL;
        int e = crew_load_agent_again(c->file, alone(c, only), &r->fresh, &r->report, &err);

        if (e < 0)
                return r->report.errors ? e : problem(r, c->file->path, &err);
        r->agents = calloc(MAX_OF(c->n_agents, 1u), sizeof(*r->agents));
        if (!r->agents)
                return crew_fail(&err, ENOMEM, "out of memory"), problem(r, c->file->path, &err);
        if (c->lock && (e = verify_lock(r)) < 0)
                return e;
        crew_assert(r->fresh->n_agents == c->file->n_agents && r->fresh->n_tasks == c->file->n_tasks);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct reload_agent *ra = &r->agents[r->n];
                if (!agent_present(&c->agents[i]) || (only && !is_of(&c->agents[i], only)))
                        continue;
                *ra = (struct reload_agent){.reload = r, .agent = &c->agents[i], .memfd = -1};
                r->n++;
                if ((e = prepare_agent(r, ra)) < 0)
                        return e;
        }
        return 0;
}

static void begin_agent(struct reload *r, struct reload_agent *ra) {
        crew_assert(ra->agent);
        if (ra->changed)
                start_agent(r, ra);
        else /* but what its jail was made with may be older still */
                start_again(r, ra);
}

void reload_begin(struct reload *r, uint64_t client, uint64_t corr, const struct agent *only, bool restart) {
        struct crewd *c = r->crewd;

        if (c->phase != CREWD_RUNNING)
                return control_refuse(c->control, client, corr, c->phase == CREWD_STARTING ? "busy" : "stopping", "",
                                      "the crew is %s", c->phase == CREWD_STARTING ? "still starting" : "stopping");
        if (r->active || apply_is_active(c->apply))
                return control_refuse(c->control, client, corr, "busy", "", "%s",
                                      r->active ? "policies are being reloaded already"
                                                : "a changed crew file is being applied");
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
        for (uint32_t i = 0; i < r->n; i++)
                begin_agent(r, &r->agents[i]);
        r->sending = false;
        finish_if_done(r);
}

/* --- for a changed crew file --- */

static int prepare_for_file(struct reload *r, const bool *which) {
        struct crewd *c = r->crewd;
        int e = 0;

        r->agents = calloc(MAX_OF(c->n_agents, 1u), sizeof(*r->agents));
        if (!r->agents)
                return -ENOMEM;
        for (uint32_t i = 0; i < c->n_agents && e == 0; i++) {
                if (!which[i])
                        continue;
                r->agents[r->n] = (struct reload_agent){.reload = r, .agent = &c->agents[i], .memfd = -1};
                e = prepare_agent(r, &r->agents[r->n++]);
        }
        return e;
}

void reload_for_file(struct reload *r, struct crew_file *to, const bool *which, const char *by, reload_done done) {
        struct crewd *c = r->crewd;
        char error[600];

        crew_assert(!r->active);
        r->active = true;
        r->restart = false;
        r->fresh = to;
        r->done = done;
        snprintf(r->by, sizeof(r->by), "%s", by);
        int e = prepare_for_file(r, which);
        if (e < 0) {
                snprintf(error, sizeof(error), "%s", r->report.n > 0 ? r->report.items[0].text : strerror(-e));
                clear(r);
                return done(c, error);
        }
        r->sending = true;
        for (uint32_t i = 0; i < r->n; i++) {
                crew_assert(r->agents[i].agent && r->fresh);
                start_agent(r, &r->agents[i]);
        }
        r->sending = false;
        finish_if_done(r);
}
