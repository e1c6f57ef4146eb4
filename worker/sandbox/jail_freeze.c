/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"
#include "governor.h"
#include "jail.h"
#include "proctree.h"

#include "common/util.h"

#include <errno.h>

#define QUOTA_NS 25000000u /* what then still runs may be held back by its quota */

int jail_freeze(struct jail *j) {
        if (j->pidfd < 0 || j->kill_sent_ns)
                return -ESRCH;
        if (j->freeze_ns)
                return 0;
        int r = cgroup_freeze(j->cgroup, true);
        if (r < 0 && r != -EOPNOTSUPP)
                return r;
        j->stopped = r < 0;
        j->freeze_ns = crew_now_ns();
        if (j->governor)
                governor_frozen(j->governor, true, j->stopped);
        return 0;
}

int jail_is_frozen(struct jail *j) {
        if (j->pidfd < 0 || j->kill_sent_ns)
                return -ESRCH;
        if (j->stopped ? proctree_stop(j->pid) : cgroup_is_frozen(j->cgroup))
                return cgroup_put_quota_back(crew_steal_ptr(&j->lifted));
        if (!j->stopped && !j->lifted && crew_now_ns() - j->freeze_ns > QUOTA_NS)
                j->lifted = cgroup_lift_quota(j->cgroup);
        return -EAGAIN;
}

int jail_thaw(struct jail *j) {
        if (j->pidfd < 0 || j->kill_sent_ns)
                return -ESRCH;
        int back = cgroup_put_quota_back(crew_steal_ptr(&j->lifted)), r = cgroup_freeze(j->cgroup, false);
        if (r == -EOPNOTSUPP) {
                proctree_continue(j->pid);
                r = 0;
        }
        if (r < 0)
                return r;
        j->freeze_ns = 0;
        if (j->governor)
                governor_frozen(j->governor, false, j->stopped);
        return back;
}
