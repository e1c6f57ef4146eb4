/* SPDX-License-Identifier: Apache-2.0 */
/* The enums of crew.proto in the words people read and machines compare: "ready", "operator", "timeout". */
#pragma once

/* Values that are not known (a newer crewd) are "unknown". */
const char *name_agent_state(int state);
const char *name_cause(int cause);
const char *name_outcome(int outcome);
