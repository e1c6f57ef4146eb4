/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#define HOLD_MS 30000

int hold_call(struct client *c, const struct hold_call *call, const Crew__AgentHeld **out, struct cli_problem *problem) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__FreezeAgent request = CREW__FREEZE_AGENT__INIT;
        const Crew__Envelope *answer = NULL;

        request.agent = (char *)(call->agent ? call->agent : "");
        request.task = (char *)(call->task ? call->task : "");
        request.reason = (char *)(call->reason ? call->reason : "");
        request.thaw = call->thaw;
        e.body_case = CREW__ENVELOPE__BODY_FREEZE_AGENT;
        e.freeze_agent = &request;
        if (client_call(c, &e, HOLD_MS, &answer, problem) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_AGENT_HELD || !answer->agent_held->agent)
                return cli_problem_set(problem, CLI_INTERNAL, "protocol", "crewd did not say whether the agent is frozen");
        *out = answer->agent_held;
        return 0;
}
