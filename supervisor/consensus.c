/* SPDX-License-Identifier: Apache-2.0 */
#include "consensus.h"

#include "common/util.h"
#include "jsontext.h"

#include <assert.h>
#include <string.h>

const char *const vote_names[] = {[VOTE_ABSTAIN] = "abstain", [VOTE_APPROVE] = "approve", [VOTE_REJECT] = "reject"};
static_assert(ELEMENTSOF(vote_names) == VOTE_N, "a name for each vote");

/* Unanimity asks everyone; the others more than half of those who could vote, unless the crew file says. */
static uint32_t quorum_of(const struct crew_consensus *rule, size_t n) {
        if (rule->quorum)
                return rule->quorum;
        return rule->rule == CREW_UNANIMITY ? (uint32_t)n : (uint32_t)(n / 2 + 1);
}

static bool break_tie(const struct crew_consensus *rule, const struct consensus_vote *votes, size_t n,
                      struct consensus_tally *t) {
        if (rule->tie == CREW_TIE_AGENT) {
                for (size_t i = 0; i < n; i++)
                        if (votes[i].agent == rule->tie_agent)
                                t->accepted = votes[i].vote == VOTE_APPROVE;
        } else {
                t->accepted = rule->tie == CREW_TIE_APPROVE;
        }
        return t->accepted;
}

static void decide(const struct crew_consensus *rule, const struct consensus_vote *votes, size_t n,
                   struct consensus_tally *t) {
        bool weighted = rule->rule == CREW_WEIGHTED;
        uint64_t yes = weighted ? t->weights[VOTE_APPROVE] : t->votes[VOTE_APPROVE];
        uint64_t no = weighted ? t->weights[VOTE_REJECT] : t->votes[VOTE_REJECT];
        const char *unit = weighted ? " by weight" : "";

        if (rule->rule == CREW_UNANIMITY) {
                t->accepted = yes > 0 && no == 0;
                snprintf(t->text, sizeof(t->text), "%llu approve, %llu reject (unanimity)", (unsigned long long)yes,
                         (unsigned long long)no);
        } else if (yes == no) {
                snprintf(t->text, sizeof(t->text), "a tie of %llu to %llu%s, %s by tie_break", (unsigned long long)yes,
                         (unsigned long long)no, unit, break_tie(rule, votes, n, t) ? "accepted" : "rejected");
        } else {
                t->accepted = yes > no;
                snprintf(t->text, sizeof(t->text), "%llu approve, %llu reject%s (%s)", (unsigned long long)yes,
                         (unsigned long long)no, unit, crew_rule_names[rule->rule]);
        }
}

void consensus_count(const struct crew_consensus *rule, const struct consensus_vote *votes, size_t n,
                     struct consensus_tally *out) {
        *out = (struct consensus_tally){.quorum = quorum_of(rule, n)};
        for (size_t i = 0; i < n; i++) {
                out->votes[votes[i].vote]++;
                out->weights[votes[i].vote] += votes[i].weight;
        }
        uint32_t cast = out->votes[VOTE_APPROVE] + out->votes[VOTE_REJECT];
        if (cast >= out->quorum)
                decide(rule, votes, n, out);
        else
                snprintf(out->text, sizeof(out->text), "%u of %zu voted, the quorum is %u", cast, n, out->quorum);
}

bool consensus_read(const char *json, size_t n, enum vote *vote, char *reason, size_t reason_size) {
        const char *value;
        char word[16];
        size_t len;

        reason[0] = '\0';
        if (!json_member(json, n, "vote", &value, &len) || !json_decode_string(value, len, word, sizeof(word)))
                return false;
        size_t i = 0;
        while (i < VOTE_N && strcmp(vote_names[i], word) != 0)
                i++;
        if (i == VOTE_N)
                return false;
        *vote = (enum vote)i;
        if (json_member(json, n, "reason", &value, &len) && !json_decode_string(value, len, reason, reason_size))
                reason[0] = '\0';
        return true;
}
