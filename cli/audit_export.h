/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crew's audit, or one agent's, as one archive that verifies by itself: logs, checkpoints, and the public key.
 *
 * While the crew runs each log is taken as far as its checkpoint says, the crew's own first, so that what this says of the
 * others is in them.  The private key is never opened.
 */
#pragma once

#include "cli.h"
#include "crews.h"

#include <stdint.h>

struct audit_export {
        const char *base, *crew, *file; /* <state>/CREW/audit; where it goes to, which must not be there */
        const struct crew_names *agents;
        bool running;
        uint64_t records, signed_records; /* out; of the agents */
};
int audit_export_write(struct audit_export *x, struct cli_problem *p);
