/* SPDX-License-Identifier: Apache-2.0 */
/* The plan: load, verify, compare. */
#include "crewplan.h"

#include "ca_bundle.h"
#include "common/util.h"
#include "crewd.h"
#include "crewplan_internal.h"
#include "descriptors.h"
#include "reload_internal.h"
#include "supervisor/policy/lock.h"

#include <errno.h>
#include <string.h>

#define TRIPWIRES_NAMED 5u

void crewplan_fini(struct crewplan *p) {
        crew_changes_fini(&p->changes);
        crew_file_free(p->to);
        crew_lock_free(p->lock);
        policy_report_fini(&p->report);
        free(p->lines);
        free(p->agents);
        free(p->programs);
        *p = (struct crewplan){0};
}

/* --- the file --- */

static int load(struct crewplan *p, struct crew_err *err) {
        struct crewd *c = p->crewd;
        _cleanup_free_ const char **names = calloc(MAX_OF(c->n_agents, 1u), sizeof(*names));
        const struct crew_places places = {names, c->n_agents};

        if (!names)
                return crew_fail(err, ENOMEM, "out of memory");
        for (uint32_t i = 0; i < c->n_agents; i++)
                names[i] = agent_name(&c->agents[i]);
        int r = crew_load_placed(p->file, &places, &p->to, &p->report, err);
        if (r < 0 && p->report.errors == 0)
                policy_report_add(&p->report, false, p->file, 0, 0, "", "%s", err->msg);
        if (r == 0 && strcmp(p->to->name, c->file->name) != 0) {
                policy_report_add(&p->report, false, p->file, 0, 0, "crewctl up starts it beside this one",
                                  "this is crew '%s', another one than '%s', which runs", p->to->name, c->file->name);
                r = -EINVAL;
        }
        if (r == 0 && p->to->n_agents <= c->room && (r = descriptors_check(c->file, p->to, err)) < 0)
                policy_report_add(&p->report, false, p->file, 0, 0, "", "%s", err->msg);
        return r < 0 ? -EINVAL : 0;
}

/* A crew that was started locked stays so. */
static int verify(struct crewplan *p, bool locked, struct crew_err *err) {
        if (!locked && !p->crewd->lock)
                return 0;
        return crew_lock_verify(p->to, &p->lock, &p->report, err) < 0 ? -EINVAL : 0;
}

/* --- programs --- */

/* Only a lock knows what their bytes were. */
static int find_programs(struct crewplan *p, struct crew_err *err) {
        const struct crew_lock *from = p->crewd->lock;
        const struct lock_file *f;
        size_t at = 0;

        if (!from || !p->lock)
                return 0;
        p->programs = calloc(MAX_OF(p->lock->files.n, (size_t)1), sizeof(*p->programs));
        if (!p->programs)
                return crew_fail(err, ENOMEM, "out of memory");
        while ((f = crew_lock_changed(from, p->lock, &at))) {
                struct crewplan_program *x = &p->programs[p->n_programs++];
                x->file = f;
                for (size_t i = 0; i < p->to->n_agents && !x->named; i++)
                        x->named = p->to->agents[i].policy && crew_lock_uses(p->to, &p->to->agents[i], f);
        }
        return 0;
}

/* --- lines --- */

static int allocate(struct crewplan *p, struct crew_err *err) {
        size_t most = 1; /* a change is told with each instance of its agent */

        for (size_t i = 0; i < p->to->n_agents; i++)
                most = MAX_OF(most, (size_t)p->to->agents[i].max_instances);
        p->room = p->changes.n * most + p->to->n_agents * (RELOAD_N + p->n_programs + 1) + CREWPLAN_OWN_LINES;
        p->lines = calloc(p->room, sizeof(*p->lines));
        p->agents = calloc(MAX_OF(p->to->n_agents, (size_t)1), sizeof(*p->agents));
        return p->lines && p->agents ? 0 : crew_fail(err, ENOMEM, "out of memory");
}

static void add_line(struct crewplan *p, const char *key, const char *detail, enum crew_effect effect) {
        struct crewplan_line *l = &p->lines[p->n_lines];

        crew_assert(p->n_lines < p->room);
        p->n_lines++;
        text_copy(l->key, sizeof(l->key), key, SIZE_MAX);
        text_copy(l->detail, sizeof(l->detail), detail, SIZE_MAX);
        l->effect = effect;
        p->effect = MAX_OF(p->effect, effect);
}

/* --- one agent --- */

static void add_file_changes(struct crewplan *p, const char *agent, struct crewplan_agent *pa) {
        for (size_t i = 0; i < p->changes.n; i++) {
                const struct crew_change *x = &p->changes.items[i];
                if (!x->agent || strcmp(x->agent, agent) != 0)
                        continue;
                add_line(p, x->key, x->detail, x->effect);
                pa->effect = MAX_OF(pa->effect, x->effect);
                pa->network = pa->network || strncmp(x->key, "endpoints.", 10) == 0;
        }
}

static int add_policy_changes(struct crewplan *p, struct agent *a, struct crewplan_agent *pa) {
        struct reload_agent *ra = calloc(1, sizeof(*ra));
        char key[48];

        if (!ra)
                return -ENOMEM;
        *ra = (struct reload_agent){.agent = a, .memfd = -1};
        int r = reload_compare(p->to, ra, p->to->agents[a->index].policy);
        for (uint32_t i = 0; r == 0 && i < RELOAD_N; i++) {
                const struct reload_change *s = &ra->sections[i];
                enum crew_effect e = s->restart ? CREW_RESTART : CREW_RELOAD;
                if (!s->restart && !s->applied)
                        continue;
                snprintf(key, sizeof(key), "policy: %s", reload_section_names[i]);
                add_line(p, key, s->detail, e);
                pa->effect = MAX_OF(pa->effect, e);
                pa->network = true; /* whatever it is: the gateway gets what was compiled */
        }
        free(ra);
        return r;
}

static void add_programs(struct crewplan *p, size_t place, struct crewplan_agent *pa) {
        const struct crew_agent *a = &p->to->agents[place];
        char key[320];

        for (size_t i = 0; i < p->n_programs; i++) {
                const struct crewplan_program *x = &p->programs[i];
                crew_assert(x->file);
                if (a->orchestrator || (x->named && !crew_lock_uses(p->to, a, x->file)))
                        continue;
                snprintf(key, sizeof(key), "%s %.300s", lock_kind_names[x->file->kind], x->file->name);
                add_line(p, key, "other bytes than those that are locked now", CREW_RESTART);
                pa->effect = MAX_OF(pa->effect, CREW_RESTART);
        }
}

/* A further instance is as its first is, while it is there at all. */
static int plan_instance(struct crewplan *p, struct agent *a, struct crewplan_agent *pa) {
        const struct crew_agent *to = &p->to->agents[a->index];
        int r = 0;

        if (a->gone || !agent_present(a))
                return 0;
        if (to->absent) {
                add_line(p, "", "its agent is no longer in the crew file", CREW_STOP);
                pa->effect = CREW_STOP;
        } else {
                add_file_changes(p, p->to->agents[to->instance_of].name, pa);
                add_programs(p, a->index, pa);
                r = add_policy_changes(p, a, pa);
        }
        pa->listed = pa->effect != CREW_UNCHANGED;
        return r;
}

static int plan_declared(struct crewplan *p, size_t place, struct agent *a, struct crewplan_agent *pa) {
        bool runs = a && !a->gone, stays = !p->to->agents[place].absent;

        pa->listed = runs || stays;
        if (pa->listed)
                add_file_changes(p, p->to->agents[place].name, pa);
        if (!runs || !stays)
                return 0;
        add_programs(p, place, pa);
        return add_policy_changes(p, a, pa);
}

static int plan_agent(struct crewplan *p, size_t place) {
        struct crewplan_agent *pa = &p->agents[place];
        struct agent *a = place < p->crewd->n_agents ? &p->crewd->agents[place] : NULL;
        int r = 0;

        pa->line = p->n_lines;
        if (a && a->decl->instance)
                r = plan_instance(p, a, pa);
        else if (!p->to->agents[place].instance)
                r = plan_declared(p, place, a, pa);
        pa->n_lines = p->n_lines - pa->line;
        return r;
}

/* --- the crew --- */

static bool lists_paths(const struct policy_image *policy) {
        for (size_t i = 0; i < policy_n_paths(policy); i++) {
                enum policy_path_kind kind = policy_path_at(policy, i).kind;
                if (kind == POLICY_READ || kind == POLICY_WRITE || kind == POLICY_EXEC)
                        return true;
        }
        return false;
}

/* Its paths are others' tripwires, and not yet in the jails of those that go on. */
static bool has_new_paths(const struct crewplan *p, size_t place) {
        const struct crewplan_agent *pa = &p->agents[place];
        const struct policy_image *policy = p->to->agents[place].policy;

        if (!policy || p->to->agents[place].instance || !lists_paths(policy))
                return false;
        for (size_t i = pa->line; i < pa->line + pa->n_lines; i++) {
                if (strcmp(p->lines[i].key, "policy: filesystem") == 0)
                        return true;
        }
        return pa->effect == CREW_START;
}

static bool goes_on(const struct crewplan *p, size_t place) {
        const struct crewplan_agent *pa = &p->agents[place];

        return pa->effect <= CREW_RELOAD && place < p->crewd->n_agents && agent_state_live(p->crewd->agents[place].state);
}

static void add_tripwires(struct crewplan *p) {
        char names[TRIPWIRES_NAMED * 66] = "";
        size_t used = 0, found = 0, others = 0;

        for (size_t i = 0; i < p->to->n_agents; i++) {
                others += goes_on(p, i);
                if (!has_new_paths(p, i))
                        continue;
                int n = found++ < TRIPWIRES_NAMED ? snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
                                                             p->to->agents[i].name)
                                                  : 0;
                used += (size_t)n;
        }
        char text[sizeof(names) + 120];
        snprintf(text, sizeof(text), "of %s%s: not in the jails of agents that go on, until their next start", names,
                 found > TRIPWIRES_NAMED ? " and others" : "");
        if (found > 0 && others > 0)
                add_line(p, "tripwires", text, CREW_UNCHANGED);
}

static void add_own(struct crewplan *p) {
        const struct crew_lock *now = p->crewd->lock;
        char text[160];

        if (p->lock && (!now || memcmp(now->sha256, p->lock->sha256, sizeof(now->sha256)) != 0))
                add_line(p, LOCK_FILE, now ? "another one" : "from now on nothing else is started", CREW_RELOAD);
        if (ca_bundle_wanted_by_any(p->to) && !reload_has_ca(p->crewd->reload))
                add_line(p, "tls: inspect", "it is new in this crew: its CA is made when the crew starts", CREW_WHOLE);
        if (p->to->n_agents > p->crewd->room) {
                snprintf(text, sizeof(text), "%zu names, with those that are gone: a crew that runs has room for %u",
                         p->to->n_agents, p->crewd->room);
                add_line(p, "agents", text, CREW_WHOLE);
        }
        if (p->crewd->checkpoint && p->n_lines > 0)
                add_line(p, "on_supervisor_loss: hold", "agents are held for the crew file that they were started by",
                         CREW_WHOLE);
}

static int compare(struct crewplan *p, struct crew_err *err) {
        int r = crew_changes_make(p->crewd->file, p->to, &p->changes, err);

        if (r == 0)
                r = find_programs(p, err);
        if (r == 0)
                r = allocate(p, err);
        for (size_t i = 0; r == 0 && i < p->to->n_agents; i++) {
                r = plan_agent(p, i);
                if (r < 0)
                        crew_fail(err, -r, "out of memory");
        }
        if (r < 0)
                return r;
        p->crew_line = p->n_lines;
        for (size_t i = 0; i < p->changes.n; i++) {
                const struct crew_change *x = &p->changes.items[i];
                if (!x->agent)
                        add_line(p, x->key, x->detail, x->effect);
        }
        add_own(p);
        if (p->effect != CREW_WHOLE)
                add_tripwires(p);
        return 0;
}

/* --- the digest --- */

/* What was compared with what, and every line that came of it. */
static int digest(struct crewplan *p, struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        char hex[CREW_SHA256_HEX];
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);

        if (!f)
                return crew_fail(err, ENOMEM, "out of memory");
        crew_hex(p->crewd->file->sha256, CREW_SHA256_BYTES, hex);
        fprintf(f, "crew plan 1 %s %s\n%s\n", p->to->name, hex, p->file);
        crew_sources_write(p->to, f);
        if (p->lock) {
                crew_hex(p->lock->sha256, CREW_SHA256_BYTES, hex);
                fprintf(f, "lock %s\n", hex);
        }
        for (size_t i = 0; i < p->to->n_agents; i++)
                fprintf(f, "%s %d %zu\n", p->to->agents[i].name, p->agents[i].effect, p->agents[i].n_lines);
        for (size_t i = 0; i < p->n_lines; i++)
                fprintf(f, "%d %s\t%s\n", p->lines[i].effect, p->lines[i].key, p->lines[i].detail);
        if (fclose(f) != 0)
                return crew_fail(err, ENOMEM, "out of memory");
        crew_sha256_hex(text, n, p->digest);
        return 0;
}

int crewplan_make(struct crewd *c, const char *file, bool locked, struct crewplan *p, struct crew_err *err) {
        *p = (struct crewplan){.crewd = c};
        snprintf(p->file, sizeof(p->file), "%s", *file ? file : c->crew_path);
        int r = load(p, err);

        if (r == 0)
                r = verify(p, locked, err);
        if (r == 0)
                r = compare(p, err);
        return r == 0 ? digest(p, err) : r;
}
