/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <run>/<crew>/ca-bundle.pem: the certificates this host trusts and the crew's own CA, as agents whose TLS is inspected see
 * the system's bundle.  Public; the CA's key never leaves the gateway.
 *
 * The file is mounted into views, so it is rewritten in place: after a new gateway (and so a new CA) programs that start
 * from then on trust the new one.
 */
#pragma once

#include "common/err.h"
#include "supervisor/policy/crew_file.h"

#include <limits.h>
#include <stdbool.h>

struct ca_bundle {
        int fd;
        char path[PATH_MAX];
};
#define CA_BUNDLE_NULL ((struct ca_bundle){.fd = -1})

/* Whether the gateway inspects TLS for an agent with that policy; for any agent of the crew. */
bool ca_bundle_wanted(const struct policy_image *p, const struct crew_file *crew);
bool ca_bundle_wanted_by_any(const struct crew_file *crew);

/* Makes the file, empty; mode 0644, for agents with a uid of their own read it through a mount. */
int ca_bundle_open(struct ca_bundle *b, const char *dir, struct crew_err *err);
/* pem_fd: a memfd with certificates in PEM, bounded and looked at: no key may be in it. */
int ca_bundle_write(struct ca_bundle *b, int pem_fd, struct crew_err *err);
/* Removes it. */
void ca_bundle_close(struct ca_bundle *b);
