/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces made ahead, root mode only: the namespace, its rules and its listeners are a third of a jail's
 * start-up time and the same for each jail.  Each is used once.
 *
 * They belong to the spawner's user namespace, so an agent never has a capability over its own.  Rootless the kernel does
 * not let the spawner enter what it made in another user namespace: the child makes its own (jail_child.c).
 */
#pragma once

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>

#define NETPOOL_SIZE 2u

struct netpool_entry { /* owned by whoever took it */
        int ns;
        int listeners[4];
};
#define NETPOOL_NONE ((struct netpool_entry){-1, {-1, -1, -1, -1}})

struct netpool {
        const void *rules; /* common/netrules.h; must outlive the pool */
        size_t n_rules;
        int own_ns; /* the spawner's own, to come back to */
        struct netpool_entry entries[NETPOOL_SIZE];
        unsigned n;
};

/* Without the right to make namespaces here the pool stays empty, which only costs time. */
void netpool_init(struct netpool *p, const void *rules, size_t n_rules);
void netpool_fini(struct netpool *p);
bool netpool_wants(const struct netpool *p);
/* Makes one.  0; or -errno, and then no more are made.  -ENOTRECOVERABLE: this process could not come back to its own
 * namespace and must end. */
int netpool_fill(struct netpool *p, struct crew_err *err);
/* One whose rules are the plan's, if there is one. */
bool netpool_take(struct netpool *p, const struct plan *plan, struct netpool_entry *out);
void netpool_entry_close(struct netpool_entry *e);
