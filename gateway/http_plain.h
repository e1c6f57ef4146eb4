/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who speaks for plain HTTP to a name without HTTP rules: each request must be for the name that was dialled.  It goes on
 * as it came, byte for byte, once its whole head was read and judged; nothing of the answers is looked at.
 *
 *   HEAD --for the name--> BODY --> HEAD                                  requests may be sent ahead
 *     |                      \--asked for another protocol--> ANSWER --101--> SWITCHED: an ordinary relay from here on
 *     |                                                           \--------> HEAD
 *      \--for another--> REFUSED: a 403 when it is the first request, else a reset: answers of others are under way
 *
 * Another protocol is only let through where it names no host of its own: the wish for HTTP/2 or TLS is left out, and so is
 * any on a later request, whose answer could not be told from the others.
 */
#pragma once

#include "conn.h"

extern const struct conn_taker http_plain_taker;
