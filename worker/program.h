/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running program of the jail: agent, ask, tool or exec; its three pipes, its deadline, its end.
 *
 * Guarantees: on_end is called exactly once, after the program was reaped, everything it started was sent SIGKILL, and
 * what it had written was read.  Standard input is fed without blocking, standard output is bounded, standard error goes
 * to crewd within a budget and the rest is counted.  Trusts nothing the program does.
 */
#pragma once

#include "runtime.h"

#define STDERR_BUDGET (1u << 20)
#define STDERR_FRAME 4096u
#define STDERR_TAIL 240u

/* Why it ended; the first reason stays. */
enum program_end {
        PROGRAM_BY_ITSELF,
        PROGRAM_TIMED_OUT,
        PROGRAM_CANCELLED,
        PROGRAM_TOO_MUCH, /* more output than max_output */
        PROGRAM_STOPPED,  /* its agent was told to end */
};

struct program;
struct program_ops {
        /* False: too much, the program is killed.  NULL: collected in .output. */
        bool (*on_stdout)(struct program *p, const char *data, size_t n);
        /* NULL: to crewd as Stderr. */
        void (*on_stderr)(struct program *p, const char *data, size_t n);
        /* May free the owner. */
        void (*on_end)(struct program *p);
};

struct program_spec {
        const struct program_ops *ops;
        const char *source;      /* "agent" or the tool's name; outlives the program */
        const char *const *argv; /* NULL: of the plan's program */
        const struct plan_program *program;
        const char *task;     /* CREW_TASK, or NULL */
        struct strbuf *input; /* what it reads first; taken over */
        bool keep_stdin;      /* more will follow: program_write(), program_end_stdin() */
        uint64_t timeout_ms;  /* 0: none */
        size_t max_output;
};

struct program {
        struct worker *w;
        struct list link;
        const struct program_ops *ops;
        const char *source;
        pid_t pid;
        bool reaped;
        int status; /* of waitpid */
        enum program_end end;
        uint64_t started_ns, timeout_ms;
        struct watch in, out, err;
        struct strbuf input, output;
        size_t input_sent, max_output;
        bool keep_stdin;
        bool held_back; /* the owner's: whoever reads its output is behind; it then blocks on its pipe */
        struct timer deadline, kill, quiet;
        size_t stderr_left;
        uint64_t stderr_dropped;
        char tail[STDERR_TAIL];
        size_t n_tail;
};

/* 0 or -errno with err filled; on failure on_end is not called. */
int program_start(struct worker *w, struct program *p, const struct program_spec *s, struct crew_err *err);
/* Asks it to end for this reason: SIGTERM, and SIGKILL after the grace (at once when 0). */
void program_stop(struct program *p, enum program_end why, uint64_t grace_ms);
/* More standard input.  False when over max bytes wait already. */
bool program_write(struct program *p, const char *data, size_t n, size_t max_waiting);
/* End of file once what waits is written. */
void program_end_stdin(struct program *p);
void program_signal(struct program *p, int sig);
/* How it ended, for people: "exited with status 1: last line of its stderr". */
void program_describe(const struct program *p, char *out, size_t room);
/* True when it ended by itself with status 0. */
bool program_succeeded(const struct program *p);
int program_exit_code(const struct program *p);
int program_term_signal(const struct program *p);
uint64_t program_duration_us(const struct program *p);
Crew__Outcome program_outcome(const struct program *p);

/* The table of running programs. */
int programs_init(struct worker *w, struct crew_err *err);
void programs_stop_all(struct worker *w, uint64_t grace_ms);
/* The link takes frames again. */
void programs_resume(struct worker *w);
/* The same for one that was held back. */
void program_resume(struct program *p);
/* Reaps without telling anybody yet. */
void programs_reap(struct worker *w);

/* strays.c: kills every process that no running program can claim. */
void strays_kill(struct worker *w);
