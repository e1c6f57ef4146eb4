/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person sees while a crew runs: the agents as they are up, a line for each task that ends, a live block for
 * those that run.  In a pipe the live block is a line when a task starts.
 *
 * Fed by frames; keeps only names, states and times.
 */
#pragma once

#include "ipc-schema/ipc.h"
#include "supervisor/policy/crew_file.h"
#include "term.h"

struct progress;
/* quiet: keeps count, prints nothing (--json). */
struct progress *progress_new(const struct crew_file *crew, bool quiet);
struct progress *progress_free(struct progress *p);

struct term *progress_term(struct progress *p);
void progress_starting(struct progress *p, uint64_t now_ns); /* spinner while the agents come up */
void progress_agents(struct progress *p, const Crew__Status *s);
void progress_event(struct progress *p, const Crew__Event *e, uint64_t now_ns);
/* Redraws the live block; call about ten times a second on a terminal. */
void progress_tick(struct progress *p, uint64_t now_ns);
/* True when ticking is of use. */
bool progress_live(const struct progress *p);
/* A line of our own among the others. */
void progress_note(struct progress *p, enum term_mark mark, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* From now on what crewd says about its work is no news: it was asked to stop. */
void progress_stopping(struct progress *p);
/* The final states, in case an event was missed; the live block goes. */
void progress_tasks(struct progress *p, Crew__TaskStatus *const *tasks, size_t n, uint64_t now_ns);
void progress_end(struct progress *p);
uint64_t progress_denied(const struct progress *p);
