/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks of an exec-json agent: one process each, the task's JSON on stdin, one JSON value on stdout.
 * Exactly one TaskResult for every TaskStart.
 */
#pragma once

#include "program.h"

#define MAX_RESULT (4u << 20) /* TaskResult.result */
#define MAX_ANSWER (1u << 20) /* AskAnswer.payload */

void tasks_init(struct worker *w);
void task_start(struct worker *w, const Crew__TaskStart *t);
void task_cancel(struct worker *w, const Crew__TaskCancel *t);

struct task_report {
        const char *id;
        Crew__Outcome outcome;
        const char *result, *error; /* one of them, NUL-terminated */
        int exit_code, term_signal;
        uint64_t duration_us;
};
void task_report(struct worker *w, const struct task_report *r);
/* The task's wall time: as crewd says, else the program's, else the policy's; 0: none. */
uint64_t task_timeout(const struct worker *w, uint64_t asked_ms);

/* The JSON value a program printed, NUL-terminated in place, or NULL and why in text.  Only after on_end. */
const char *program_json(struct program *p, size_t max, char *text, size_t room);
