/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The votes of a consensual crew.  A task's agent has proposed a result; every other eligible agent gets a ballot, a task
 * of kind "vote" with the proposal in it; when all ballots are in, or the deadline is over, they are counted.  Each vote is
 * in its voter's stream, the tally in the proposer's, before the result counts for anything.
 */
#pragma once

#include "common/err.h"

#include <stdint.h>

struct crew_file;
struct crewd;
struct job;
struct voting;

/* NULL in *out: not a consensual crew. */
int voting_new(struct crewd *c, struct voting **out, struct crew_err *err);
struct voting *voting_free(struct voting *v);
/* The same votes by the rule of another crew file, that has the same one. */
void voting_take_file(struct voting *v, const struct crew_file *crew);
/* j has a valid result.  Ends in scheduler_decide(), maybe at once. */
void voting_begin(struct crewd *c, struct job *j, uint64_t now_ns);
/* A ballot has its outcome. */
void voting_ballot_done(struct crewd *c, const struct job *ballot);
/* j is over; if it was being voted on, no more. */
void voting_job_gone(struct crewd *c, const struct job *j);
/* j is called off: nobody needs to vote on it any more. */
void voting_drop(struct crewd *c, const struct job *j, uint64_t now_ns);
void voting_expire(struct voting *v, uint64_t now_ns);
uint64_t voting_next_deadline(const struct voting *v);
