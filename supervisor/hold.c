/* SPDX-License-Identifier: Apache-2.0 */
/* Freeze and thaw.  From the record on nothing of the agent is heard; it counts as frozen until the spawner says otherwise.
 */
#include "hold.h"

#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "death.h"
#include "instance.h"
#include "journal.h"
#include "link.h"
#include "manager.h"
#include "requests.h"
#include "router.h"
#include "scheduler.h"
#include "spawner.h"
#include "status.h"
#include "toolgate.h"

#include <errno.h>
#include <string.h>

/* Longer than any deadline of a tool; what is put off by it is brought back by it, less the time it lasted. */
#define FAR_NS (1000ll * 24 * 3600 * 1000000000)

bool hold_is_on(const struct agent *a) {
        return a->hold.on;
}

static void begin(struct agent *a) {
        a->hold.on = true;
        a->hold.since_ns = crew_now_ns();
        if (a->in.link)
                link_pause(a->in.link, true);
        toolgate_put_off(a->crewd->tools, a->index, FAR_NS);
}

static void tell_worker(struct agent *a, uint64_t ns) {
        Crew__Resumed body = CREW__RESUMED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.frozen_ms = ns / 1000000u;
        e.body_case = CREW__ENVELOPE__BODY_RESUMED;
        e.resumed = &body;
        agent_send_or_kill(a, &e);
}

static void end(struct agent *a) {
        uint64_t now = crew_now_ns();

        a->hold.on = false;
        a->in.pings_lost = 0;
        instance_expect_back(a);
        scheduler_put_off(a->crewd->scheduler, a->index, now - a->hold.since_ns, now);
        toolgate_put_off(a->crewd->tools, a->index, (int64_t)(now - a->hold.since_ns) - FAR_NS);
        if (a->in.link && !a->in.resume_ns)
                link_pause(a->in.link, false);
        router_agent_up(a->crewd->router, a->index, now);
        manager_up(a->crewd, a);
        crewd_progress(a->crewd);
}

static enum hold_outcome may(const struct agent *a, bool thaw) {
        if ((a->state != AGENT_READY && a->state != AGENT_WORKING) || a->in.cut || a->in.kill_sent)
                return HOLD_NOT_NOW;
        if (a->hold.asked)
                return HOLD_BUSY;
        if (a->frozen)
                return HOLD_NO_AUDIT;
        return a->hold.on == !thaw ? HOLD_ALREADY : HOLD_ASKED;
}

enum hold_outcome hold_ask(struct agent *a, const struct hold_request *r) {
        struct agent_hold *h = &a->hold;
        enum hold_outcome out = may(a, r->thaw);

        if (out != HOLD_ASKED)
                return out;
        if (journal_hold(a, r->thaw, r->initiator, r->reason) < 0)
                return HOLD_NO_AUDIT;
        h->asked = true;
        h->thaw = r->thaw;
        h->client = r->client;
        h->corr = r->corr;
        h->cookie = ++a->crewd->holds;
        if (r->thaw)
                tell_worker(a, crew_now_ns() - h->since_ns); /* it is there when the worker wakes */
        else
                begin(a);
        if (h->asked && spawner_hold(a->crewd->spawner, a->in.id, !r->thaw, h->cookie) < 0)
                hold_on_reply(a, h->cookie, EPIPE);
        return HOLD_ASKED;
}

/* Its crewd is gone, and perhaps the order or the answer with it: it says the same again to what is as it should be. */
void hold_ask_again(struct agent *a) {
        struct agent_hold *h = &a->hold;

        if (!h->on)
                return;
        h->thaw &= h->asked;
        h->asked = true;
        h->cookie = ++a->crewd->holds;
        if (spawner_hold(a->crewd->spawner, a->in.id, !h->thaw, h->cookie) < 0)
                hold_on_reply(a, h->cookie, EPIPE);
}

/* Its audit cannot be written, and it runs on. */
static void cannot_be_stopped(struct agent *a, int err) {
        char why[160];

        snprintf(why, sizeof(why), "its audit cannot be written, and it could not be frozen: %s", strerror(err));
        crewd_log(a->crewd, "agent %s: %s", agent_name(a), why);
        death_kill(a, CREW__CAUSE__CAUSE_POLICY_VIOLATION, "crewd", why);
}

void hold_on_reply(struct agent *a, uint32_t cookie, int err) {
        struct agent_hold *h = &a->hold;

        if (cookie == SPAWN_UNRECORDED) {
                if (err && err != ESRCH)
                        cannot_be_stopped(a, err);
                return;
        }
        if (!h->asked || h->cookie != cookie || err == ESRCH) /* killed: its end is on the way, and hold_forget() with it */
                return;
        h->asked = false;
        if (err)
                journal_hold_failed(a, h->thaw, err);
        if (h->thaw ? err == 0 : err != 0)
                end(a);
        status_announce_agent(a);
        requests_held(a->crewd, a, err);
}

void hold_forget(struct agent *a) {
        if (a->hold.asked)
                control_refuse(a->crewd->control, a->hold.client, a->hold.corr, "not-running", "",
                               "agent %s has ended meanwhile", agent_name(a));
        a->hold = (struct agent_hold){0};
}
