/* SPDX-License-Identifier: Apache-2.0 */
/* One open vote a proposal; at most one ballot a voter in each. */
#include "voting.h"

#include "common/record.h"
#include "common/util.h"
#include "consensus.h"
#include "crewd.h"
#include "journal.h"
#include "jsontext.h"
#include "scheduler.h"
#include "text.h"

#include <errno.h>
#include <string.h>

#define BALLOT_MAX 16711680u /* TaskStart.input leaves room for as much */

struct ballot {
        struct consensus_vote cast;
        char id[24]; /* of its job; "": it has none, or has come in */
};

struct open_vote {
        struct open_vote *next;
        struct job *job;
        uint64_t deadline_ns;
        uint32_t due;
        struct ballot ballots[]; /* n_voters */
};

struct voting {
        struct crewd *crewd;
        const struct crew_consensus *rule;
        uint32_t n_voters;       /* settled when the crew starts */
        struct open_vote *votes; /* owned */
};

int voting_new(struct crewd *c, struct voting **out, struct crew_err *err) {
        const struct crew_consensus *rule = &c->file->consensus;

        *out = NULL;
        if (c->file->process != CREW_CONSENSUAL)
                return 0;
        struct voting *v = calloc(1, sizeof(*v));
        if (!v)
                return crew_fail(err, ENOMEM, "out of memory");
        v->crewd = c;
        v->rule = rule;
        for (size_t i = 0; i < c->file->n_agents; i++)
                v->n_voters += rule->weights[i] > 0;
        *out = v;
        return 0;
}

struct voting *voting_free(struct voting *v) {
        while (v && v->votes) {
                struct open_vote *o = v->votes;
                v->votes = o->next;
                free(o);
        }
        free(v);
        return NULL;
}

void voting_take_file(struct voting *v, const struct crew_file *crew) {
        if (v)
                v->rule = &crew->consensus;
}

/* --- the end --- */

static void list_votes(const struct voting *v, const struct open_vote *o, char *text, size_t size) {
        size_t used = 0;

        text[0] = '\0';
        for (uint32_t i = 0; i < v->n_voters && used < size; i++) {
                const struct consensus_vote *b = &o->ballots[i].cast;
                used += (size_t)snprintf(text + used, size - used, "%s%s=%s*%u", i ? " " : "",
                                         agent_name(&v->crewd->agents[b->agent]), vote_names[b->vote], b->weight);
        }
}

static void forget(struct voting *v, struct open_vote *o) {
        struct open_vote **at = &v->votes;

        while (*at != o)
                at = &(*at)->next;
        *at = o->next;
        free(o);
}

/* Ends the vote; o is no more. */
static void count(struct voting *v, struct open_vote *o) {
        struct crewd *c = v->crewd;
        struct job *j = o->job;
        struct consensus_vote *votes = calloc(MAX_OF(v->n_voters, 1u), sizeof(*votes));
        struct consensus_tally t = {.text = "out of memory"};
        char list[RECORD_VALUE_MAX + 64], why[256]; /* a longer one is marked as cut */

        for (uint32_t i = 0; votes && i < v->n_voters; i++)
                votes[i] = o->ballots[i].cast;
        if (votes)
                consensus_count(v->rule, votes, v->n_voters, &t);
        free(votes);
        list_votes(v, o, list, sizeof(list));
        forget(v, o);
        if (journal_tally(&c->agents[j->agent], j, crew_rule_names[v->rule->rule], &t, list) < 0) {
                t.accepted = false;
                snprintf(t.text, sizeof(t.text), "the audit cannot be written");
        }
        snprintf(why, sizeof(why), "not agreed to: %s", t.text);
        scheduler_decide(c->scheduler, j, t.accepted, why, crew_now_ns());
        crewd_progress(c);
}

static void cast(struct voting *v, struct open_vote *o, struct ballot *b, enum vote vote, const char *reason) {
        b->id[0] = '\0';
        b->cast.vote = vote;
        o->due--;
        /* A stream that cannot be written freezes its agent; the vote that it does not hold is none. */
        if (journal_vote(&v->crewd->agents[b->cast.agent], o->job, vote_names[vote], b->cast.weight, reason) < 0)
                b->cast.vote = VOTE_ABSTAIN;
}

/* --- the beginning --- */

static int make_ballot(const struct crewd *c, const struct job *j, char **out) {
        struct json_text t = JSON_TEXT(BALLOT_MAX);
        size_t n;

        json_open(&t, '{');
        json_key(&t, "task"), json_str(&t, j->name);
        json_key(&t, "proposed_by"), json_str(&t, agent_name(&c->agents[j->agent]));
        json_key(&t, "description"), json_str(&t, j->task->description);
        json_key(&t, "expected_output"), json_str(&t, j->task->expected_output);
        json_key(&t, "proposal"), json_raw(&t, j->result, j->result_len);
        json_close(&t, '}');
        return json_text_take(&t, out, &n);
}

static void hand_ballot(struct voting *v, struct open_vote *o, struct ballot *b, const char *input, uint64_t now_ns) {
        struct crewd *c = v->crewd;
        struct crew_err err = CREW_ERR_NULL;
        struct sched_submit what = {.agent = agent_name(&c->agents[b->cast.agent]),
                                    .ballot = true,
                                    .description =
                                            "Vote on the proposal: {\"vote\": \"approve\", \"reject\" or \"abstain\", "
                                            "\"reason\": \"...\"}",
                                    .input = input,
                                    .priority = UINT32_MAX, /* the vote has a deadline, what it does else may wait */
                                    .timeout_ns = 2 * v->rule->deadline_ms * 1000000u, /* the vote's own end comes first */
                                    .now_ns = now_ns};
        struct job *ballot;

        if (input && scheduler_submit(c->scheduler, &what, &ballot, &err) == 0)
                snprintf(b->id, sizeof(b->id), "%s", ballot->id);
        else
                cast(v, o, b, VOTE_ABSTAIN, input ? err.msg : "the ballot could not be made");
}

void voting_begin(struct crewd *c, struct job *j, uint64_t now_ns) {
        struct voting *v = c->voting;
        struct open_vote *o = calloc(1, sizeof(*o) + v->n_voters * sizeof(o->ballots[0]));
        _cleanup_free_ char *input = NULL;

        if (!o)
                return scheduler_decide(c->scheduler, j, false, "not voted on: out of memory", now_ns);
        struct ballot *b = o->ballots;
        o->next = v->votes;
        v->votes = o;
        o->job = j;
        o->due = v->n_voters;
        o->deadline_ns = now_ns + v->rule->deadline_ms * 1000000u;
        (void)make_ballot(c, j, &input);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (v->rule->weights[i] == 0)
                        continue;
                *b = (struct ballot){.cast = {.agent = i, .weight = v->rule->weights[i]}};
                if (i == j->agent)
                        cast(v, o, b, VOTE_APPROVE, "it is its own proposal");
                else
                        hand_ballot(v, o, b, input, now_ns);
                b++;
        }
        if (o->due == 0)
                count(v, o);
        crewd_progress(c);
}

/* --- in between --- */

static void read_ballot(struct voting *v, struct open_vote *o, struct ballot *b, const struct job *j) {
        char reason[256] = "";
        enum vote vote;

        if (j->state != JOB_DONE)
                snprintf(reason, sizeof(reason), "no vote: %.200s", j->error);
        else if (consensus_read(j->result, j->result_len, &vote, reason, sizeof(reason)))
                return cast(v, o, b, vote, reason[0] ? reason : NULL);
        else
                snprintf(reason, sizeof(reason), "no vote: its answer has no `vote` of approve, reject or abstain");
        char clean[sizeof(reason)];
        text_copy(clean, sizeof(clean), reason, SIZE_MAX);
        cast(v, o, b, VOTE_ABSTAIN, clean);
}

void voting_ballot_done(struct crewd *c, const struct job *ballot) {
        struct voting *v = c->voting;

        for (struct open_vote *o = v ? v->votes : NULL; o; o = o->next) {
                for (uint32_t i = 0; i < v->n_voters; i++) {
                        struct ballot *b = &o->ballots[i];
                        if (strcmp(b->id, ballot->id) != 0)
                                continue;
                        read_ballot(v, o, b, ballot);
                        if (o->due == 0)
                                count(v, o);
                        return;
                }
        }
}

/* Those who have not voted are told that it is over; their ballots count no more. */
static void close_vote(struct voting *v, struct open_vote *o, uint64_t now_ns) {
        for (uint32_t i = 0; i < v->n_voters; i++) {
                struct ballot *b = &o->ballots[i];
                struct job *j = b->id[0] ? scheduler_find(v->crewd->scheduler, b->id) : NULL;
                if (!b->id[0])
                        continue;
                cast(v, o, b, VOTE_ABSTAIN,
                     j && !j->attempt ? "no vote within consensus.deadline: it was at work"
                                      : "no vote within consensus.deadline");
                if (j)
                        scheduler_cancel(v->crewd->scheduler, j, "the vote is over", now_ns);
        }
        count(v, o);
}

void voting_job_gone(struct crewd *c, const struct job *j) {
        struct voting *v = c->voting;
        struct open_vote *o = v ? v->votes : NULL;

        while (o && o->job != j)
                o = o->next;
        if (o)
                forget(v, o);
}

void voting_drop(struct crewd *c, const struct job *j, uint64_t now_ns) {
        struct voting *v = c->voting;
        struct open_vote *o = v ? v->votes : NULL;

        while (o && o->job != j)
                o = o->next;
        for (uint32_t i = 0; o && i < v->n_voters; i++) {
                struct job *ballot = o->ballots[i].id[0] ? scheduler_find(c->scheduler, o->ballots[i].id) : NULL;
                o->ballots[i].id[0] = '\0';
                if (ballot)
                        scheduler_cancel(c->scheduler, ballot, "the vote is over", now_ns);
        }
        if (o)
                forget(v, o);
}

void voting_expire(struct voting *v, uint64_t now_ns) {
        struct open_vote *next;

        for (struct open_vote *o = v ? v->votes : NULL; o; o = next) {
                next = o->next;
                if (now_ns >= o->deadline_ns)
                        close_vote(v, o, now_ns);
        }
}

uint64_t voting_next_deadline(const struct voting *v) {
        uint64_t next = UINT64_MAX;

        for (const struct open_vote *o = v ? v->votes : NULL; o; o = o->next)
                next = MIN_OF(next, o->deadline_ns);
        return next;
}
