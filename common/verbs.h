/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent, or only the manager of a hierarchical crew, can ask of crewd: one row a verb, by its three names.  The
 * worker turns each into a typed message of its own, crewd lists them as tools, and the crew file may not use their names.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum crew_verb {
        CREW_VERB_AGENTS,
        CREW_VERB_SUBMIT,
        CREW_VERB_WAIT,
        CREW_VERB_CANCEL,
        CREW_VERB_REPRIORITISE,
        CREW_VERB_RESULT,
        CREW_VERB_TERMINATIONS,
        CREW_VERB_SEEN,
        CREW_VERB_SPAWN,
        CREW_VERB_RETIRE,
        CREW_VERB_MEMORY_PUT, /* from here to the next comment: of every agent */
        CREW_VERB_MEMORY_GET,
        CREW_VERB_MEMORY_LIST,
        CREW_VERB_REQUEST_TOOL,
        CREW_VERB_ASK, /* every agent has it as the method crew/ask; as a tool only the manager */
        CREW_VERB_N,
};

struct crew_verb_row {
        const char *name;   /* "submit": of the record, and of crew-call */
        const char *method; /* "crew/submit" */
        const char *tool;   /* "crew_submit": MCP */
        const char *description;
        const char *schema; /* of the parameters; a JSON Schema */
};
extern const struct crew_verb_row crew_verbs[CREW_VERB_N];

/* CREW_VERB_N: none. */
enum crew_verb crew_verb_by_tool(const char *tool);
