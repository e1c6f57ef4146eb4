/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway reports, as audit records.  Pure. */
#pragma once

#include "common/gate.h"
#include "common/record.h"

enum network_record {
        NETWORK_RECORD_NONE,   /* the message is no report */
        NETWORK_RECORD_FACT,   /* let through, or closed */
        NETWORK_RECORD_DENIAL, /* counts as one */
};

/* Ends every string of a message that came from a gateway. */
void network_message_end(struct gate_msg *m);
/* m: ended by the above. */
enum network_record network_record_make(struct record *r, const struct gate_msg *m);
