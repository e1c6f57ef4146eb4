/* SPDX-License-Identifier: Apache-2.0 */
/* What a vote comes to: the rule of the crew file over the votes of those who are eligible.  Pure. */
#pragma once

#include "supervisor/policy/crew_file.h"

enum vote { VOTE_ABSTAIN, VOTE_APPROVE, VOTE_REJECT, VOTE_N };
extern const char *const vote_names[VOTE_N];

struct consensus_vote {
        uint32_t agent, weight;
        enum vote vote;
};

struct consensus_tally {
        uint32_t votes[VOTE_N];   /* how many */
        uint64_t weights[VOTE_N]; /* their weights together */
        uint32_t quorum;          /* votes that had to be cast */
        bool accepted;
        char text[200]; /* why: "2 of 3 approve, more than half (majority)" */
};

/* Abstentions count as eligible, not as cast. */
void consensus_count(const struct crew_consensus *rule, const struct consensus_vote *votes, size_t n,
                     struct consensus_tally *out);
/* A ballot: {"vote": "approve" | "reject" | "abstain", "reason": "..."}; valid JSON.  False: it is none of these. */
bool consensus_read(const char *json, size_t n, enum vote *vote, char *reason, size_t reason_size);
