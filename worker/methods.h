/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What $CREW_SOCKET answers: MCP (initialize, ping, tools/list, tools/call) and the crew's own crew/send, crew/ask,
 * crew/receive, crew/answer, and the manager's verbs (verbs.h).  Nothing is decided here: calls become frames, and crewd's
 * answers become responses.
 */
#pragma once

#include "client.h"

/* One line of a client. */
void method_line(struct client *c, const char *line, size_t n);
/* crewd's answers. */
void method_call_result(struct worker *w, uint64_t corr, const Crew__CallResult *r);
void method_tool_list(struct worker *w, uint64_t corr, const Crew__ToolList *l);
