/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who speaks for a connection under HTTP rules: each request is read, judged, reported and written anew for the server;
 * its answer likewise.  Bodies pass through as they come.
 *
 *   request   HEAD --let through--> BODY --> SENT -----+         one at a time: a pipelined one waits in its socket
 *              |  \--refused, no body--> HEAD           |
 *              \--refused, malformed--> STOP            |
 *   answer    NONE --------------------> HEAD --> BODY -+-> both start anew, or the connection ends
 *
 * conn_set_takers(&http_taker, ...), after http_open().
 */
#pragma once

#include "conn.h"

extern const struct conn_taker http_taker;
