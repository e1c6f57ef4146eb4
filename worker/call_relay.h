/* SPDX-License-Identifier: Apache-2.0 */
/* `crew-call mcp`: the agent's socket on standard input and output, for MCP clients that start their server themselves. */
#pragma once

/* Until the socket ends, or standard input has and everything was answered.  0 or -errno. */
int call_relay(int sock);
