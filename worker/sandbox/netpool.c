/* SPDX-License-Identifier: Apache-2.0 */
/* The caller is single-threaded: unshare(2) and setns(2) move all of it there and back. */
#include "netpool.h"

#include "netns.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#define OWN_NS "/proc/self/ns/net"

void netpool_init(struct netpool *p, const void *rules, size_t n_rules) {
        *p = (struct netpool){.rules = rules, .n_rules = n_rules, .own_ns = -1};
        if (geteuid() == 0 && n_rules > 0)
                p->own_ns = open(OWN_NS, O_RDONLY | O_CLOEXEC);
}

void netpool_entry_close(struct netpool_entry *e) {
        crew_close(&e->ns);
        for (size_t i = 0; i < ELEMENTSOF(e->listeners); i++)
                crew_close(&e->listeners[i]);
}

void netpool_fini(struct netpool *p) {
        while (p->n > 0)
                netpool_entry_close(&p->entries[--p->n]);
        crew_close(&p->own_ns);
}

bool netpool_wants(const struct netpool *p) {
        return p->own_ns >= 0 && p->n < NETPOOL_SIZE;
}

/* Inside the new namespace. */
static int furnish(const struct netpool *p, struct netpool_entry *e, struct crew_err *err) {
        int r = netns_apply(p->rules, p->n_rules, err);

        if (r < 0 || (r = netns_listen(e->listeners, err)) < 0)
                return r;
        e->ns = open(OWN_NS, O_RDONLY | O_CLOEXEC);
        return e->ns < 0 ? crew_fail_errno(err, "cannot open " OWN_NS) : 0;
}

int netpool_fill(struct netpool *p, struct crew_err *err) {
        struct netpool_entry e = NETPOOL_NONE;
        int r;

        if (unshare(CLONE_NEWNET) < 0) {
                r = crew_fail_errno(err, "cannot make a network namespace");
        } else {
                r = furnish(p, &e, err);
                if (setns(p->own_ns, CLONE_NEWNET) < 0)
                        r = crew_fail(err, ENOTRECOVERABLE, "cannot return to the spawner's network namespace: %s",
                                      strerror(errno));
        }
        if (r == 0) {
                p->entries[p->n++] = e;
                return 0;
        }
        netpool_entry_close(&e);
        netpool_fini(p);
        return r;
}

bool netpool_take(struct netpool *p, const struct plan *plan, struct netpool_entry *out) {
        if (p->n == 0 || !(plan->flags & PLAN_ROOT_MODE) || !(plan->flags & PLAN_NETRULES) ||
            plan->netrules_bytes != p->n_rules || memcmp(plan_str(plan, plan->netrules), p->rules, p->n_rules) != 0)
                return false;
        *out = p->entries[--p->n];
        return true;
}
