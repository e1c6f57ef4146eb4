/* SPDX-License-Identifier: Apache-2.0 */
/* User namespaces whose only use is the mapping of an idmapped mount: on disk disk_uid, seen as host_uid. */
#pragma once

#include "common/err.h"

#include <sys/types.h>

/* Descriptor of such a namespace, kept and owned by a small cache; -errno with err. */
int idmap_userns(uid_t disk_uid, gid_t disk_gid, uid_t host_uid, gid_t host_gid, struct crew_err *err);
