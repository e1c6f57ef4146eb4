/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs. */
#include "verbs.h"

#include <string.h>

#define OBJECT(required, properties)                                                                                       \
        "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "],\"additionalProperties\":false}"
#define TASK_ID "\"task_id\":{\"type\":\"string\",\"maxLength\":63}"
#define PRIORITY "\"priority\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100}"
#define SPACE "\"space\":{\"type\":\"string\",\"maxLength\":63}"
#define KEY "\"key\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":128}"
#define TIMEOUT "\"timeout_ms\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":86400000}"

const struct crew_verb_row crew_verbs[CREW_VERB_N] = {
        [CREW_VERB_AGENTS] = {"agents", "crew/agents", "crew_agents",
                              "The agents you may address: role, goal, state, and how many tasks wait for each.",
                              OBJECT("", "")},
        [CREW_VERB_SUBMIT] =
                {"submit", "crew/submit", "crew_submit",
                 "Hand a task to an agent, or a task of the crew file out by its name. Gives its task_id at once. A "
                 "second call with the same key gives the first one's task.",
                 OBJECT("", "\"agent\":{\"type\":\"string\",\"maxLength\":63},\"task\":{\"type\":\"string\","
                            "\"maxLength\":63},\"description\":{\"type\":\"string\"},\"input\":{}," PRIORITY
                            ",\"retries\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":10}," TIMEOUT
                            ",\"key\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":63}")},
        [CREW_VERB_WAIT] = {"wait", "crew/wait", "crew_wait",
                            "Wait until a task you handed out has its outcome: state, outcome, result or error.",
                            OBJECT("\"task_id\"", TASK_ID "," TIMEOUT)},
        [CREW_VERB_CANCEL] = {"cancel", "crew/cancel", "crew_cancel", "Call a task off that you handed out.",
                              OBJECT("\"task_id\"", TASK_ID ",\"reason\":{\"type\":\"string\",\"maxLength\":256}")},
        [CREW_VERB_REPRIORITISE] = {"reprioritise", "crew/reprioritise", "crew_reprioritise",
                                    "Change the priority of a task that is still queued; higher goes first.",
                                    OBJECT("\"task_id\",\"priority\"", TASK_ID "," PRIORITY)},
        [CREW_VERB_RESULT] = {"result", "crew/result", "crew_result",
                              "What is known of a task you handed out, now: state, outcome, result or error.",
                              OBJECT("\"task_id\"", TASK_ID)},
        [CREW_VERB_TERMINATIONS] = {"terminations", "crew/terminations", "crew_terminations",
                                    "The ends of agents that you have not acknowledged yet: who, why, and its task.",
                                    OBJECT("", "")},
        [CREW_VERB_SEEN] = {"seen", "crew/seen", "crew_seen",
                            "Acknowledge the end of an agent by its id: you are not told of it again.",
                            OBJECT("\"id\"", "\"id\":{\"type\":\"integer\",\"minimum\":1}")},
        [CREW_VERB_SPAWN] = {"spawn", "crew/spawn", "crew_spawn",
                             "Start one more instance of an agent that may have several. Gives its name, to hand tasks to.",
                             OBJECT("\"agent\"", "\"agent\":{\"type\":\"string\",\"maxLength\":63},\"idle_ms\":"
                                                 "{\"type\":\"integer\",\"minimum\":0,\"maximum\":86400000}")},
        [CREW_VERB_RETIRE] = {"retire", "crew/retire", "crew_retire",
                              "End an instance that you had started. What it works on is lost.",
                              OBJECT("\"agent\"", "\"agent\":{\"type\":\"string\",\"maxLength\":63},\"reason\":"
                                                  "{\"type\":\"string\",\"maxLength\":256}")},
        [CREW_VERB_MEMORY_PUT] = {"memory-put", "memory/put", "crew_memory_put",
                                  "Put a JSON value under a key of a memory that the crew shares; null removes the key.",
                                  OBJECT("\"space\",\"key\",\"value\"", SPACE "," KEY ",\"value\":{}")},
        [CREW_VERB_MEMORY_GET] = {"memory-get", "memory/get", "crew_memory_get",
                                  "The value under a key of a shared memory.", OBJECT("\"space\",\"key\"", SPACE "," KEY)},
        [CREW_VERB_MEMORY_LIST] = {"memory-list", "memory/list", "crew_memory_list", "The keys of a shared memory.",
                                   OBJECT("\"space\"", SPACE)},
        [CREW_VERB_REQUEST_TOOL] = {"request", "tools/request", "crew_request_tool",
                                    "Ask for a tool that you do not have now; list the tools again when it is granted.",
                                    OBJECT("\"tool\"", "\"tool\":{\"type\":\"string\",\"maxLength\":63},\"reason\":"
                                                       "{\"type\":\"string\",\"maxLength\":256}")},
        [CREW_VERB_ASK] = {"ask", "crew/ask", "crew_ask", "Send a message to an agent and wait for its answer.",
                           OBJECT("\"target\",\"payload\"",
                                  "\"target\":{\"type\":\"string\",\"maxLength\":63},\"payload\":{}," TIMEOUT)},
};

enum crew_verb crew_verb_by_tool(const char *tool) {
        size_t i = 0;

        while (i < CREW_VERB_N && strcmp(crew_verbs[i].tool, tool) != 0)
                i++;
        return (enum crew_verb)i;
}
