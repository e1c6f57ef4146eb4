/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every verb of crewctl shares: its row in the verb table, the option parser, and how a problem is told.
 *
 * A verb is one file that defines one `const struct cli_verb`; main.c lists them.  Help, usage errors, suggestions and
 * shell completion are made from that row, so they cannot disagree with the parser.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses; documented in crewctl(1). */
enum {
        CLI_OK = 0,
        CLI_FAILED = 1,     /* something failed: a task, a verification */
        CLI_USAGE = 2,      /* a wrong command line or a bad input file */
        CLI_ABSENT = 3,     /* no such crew or agent, or it does not run */
        CLI_REFUSED = 4,    /* refused by policy, or by crew.lock */
        CLI_CHANGES = 5,    /* plan: something would change */
        CLI_KERNEL = 69,    /* this kernel lacks a feature */
        CLI_INTERNAL = 125, /* our own fault; sandbox: the jail could not be made */
};

enum cli_kind {
        CLI_FLAG,     /* bool */
        CLI_STRING,   /* const char * */
        CLI_U64,      /* uint64_t, decimal */
        CLI_DURATION, /* uint64_t nanoseconds: 30s 5m 2h 250ms */
        CLI_LIST,     /* struct cli_list; the option may be repeated */
};

#define CLI_LIST_MAX 64
struct cli_list {
        const char *items[CLI_LIST_MAX];
        size_t n;
};

/* What the shell offers for a value or an operand. */
enum cli_complete {
        CLI_COMPLETE_NONE,
        CLI_COMPLETE_FILE,
        CLI_COMPLETE_AGENT,
        CLI_COMPLETE_CREW,
        CLI_COMPLETE_FILTER,
        CLI_COMPLETE_APPROVAL,
        CLI_COMPLETE_TASK,
        CLI_COMPLETE_ACTION,  /* read write exec tool send connect http */
        CLI_COMPLETE_COMMAND, /* a program of the host */
};

struct cli_option {
        const char *name; /* without the dashes */
        char letter;      /* 0: none */
        enum cli_kind kind;
        size_t offset;     /* of the member in the verb's options struct; its type follows from kind */
        const char *value; /* what help calls the value; NULL for a flag */
        const char *help;
        enum cli_complete complete;
};

struct cli_verb {
        const char *group;    /* "policy" of `policy check`, or NULL */
        const char *name;     /* "check" */
        const char *synopsis; /* what follows the name in the usage line */
        const char *summary;  /* one line for the list of verbs */
        const char *details;  /* for --help: the rest, with examples */
        const struct cli_option *options;
        size_t n_options;
        enum cli_complete operands;
        bool command; /* operands are a command line: parsing stops at the first of them */
        bool hidden;
        int (*run)(const struct cli_verb *self, int argc, char **argv); /* argv[0] is the verb's name; exit status */
};

#define CLI_OPTION_JSON(type)                                                                                              \
        { "json", 0, CLI_FLAG, offsetof(type, json), NULL, "print JSON", CLI_COMPLETE_NONE }
#define CLI_OPTION_CREW(type)                                                                                              \
        { "crew", 0, CLI_STRING, offsetof(type, crew), "NAME", "the crew, when more than one runs", CLI_COMPLETE_CREW }
#define CLI_OPTION_LOCKED(type)                                                                                            \
        { "locked", 0, CLI_FLAG, offsetof(type, locked), NULL, "refuse what differs from crew.lock", CLI_COMPLETE_NONE }

struct cli_operands {
        char **items; /* into argv */
        size_t n;
};

/*
 * Parses argv into the verb's options struct (which the caller has filled with defaults).  Options and operands may be
 * mixed; "--" ends the options.  True: go on.  False: --help was printed, or a usage error was; return *status.
 */
bool cli_parse(const struct cli_verb *v, int argc, char **argv, void *options, struct cli_operands *rest, int *status);
/* False, with a usage error, when there are operands and the verb takes none. */
bool cli_no_operands(const struct cli_verb *v, const struct cli_operands *rest, bool json, int *status);
/* The same without output: what was wrong goes to *problem (see below).  1: --help was asked for; 0; -EINVAL. */
struct cli_problem;
int cli_parse_into(const struct cli_verb *v, int argc, char **argv, void *options, struct cli_operands *rest,
                   struct cli_problem *problem);
/* "policy check" */
void cli_verb_title(const struct cli_verb *v, char *out, size_t n);
void cli_print_help(const struct cli_verb *v);

/* Something a person has to be told: what, and beside it the fix. */
struct cli_problem {
        int status;    /* exit status */
        bool told;     /* it is on standard error already, in more detail */
        char code[32]; /* for machines: "unknown-agent" */
        char text[1024];
        char hint[2048]; /* further lines, each printed indented; "" for none */
};
#define CLI_PROBLEM_NULL ((struct cli_problem){0})

/* Fills p and returns -1, so that a function can `return cli_problem_set(...)`. */
int cli_problem_set(struct cli_problem *p, int status, const char *code, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* Appends to the hint; lines are separated with '\n'. */
void cli_problem_hint(struct cli_problem *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "crewctl: text" and the hint on stderr, made safe for a terminal; with json also {"error": ...} on stdout.
 * Returns p->status. */
int cli_report(const struct cli_problem *p, bool json);
/* One-line form of both: for problems without a hint. */
int cli_fail(bool json, int status, const char *code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Every row of the table; main.c. */
extern const struct cli_verb *const cli_verbs[];
extern const size_t cli_n_verbs;

extern const struct cli_verb verb_run, verb_up, verb_down, verb_start, verb_stop, verb_submit, verb_cancel, verb_thaw,
        verb_state_list, verb_state_export, verb_state_import, verb_state_reset, verb_status, verb_logs, verb_kill,
        verb_approvals, verb_approve, verb_deny, verb_exec, verb_sandbox, verb_policy_check, verb_policy_reload,
        verb_policy_explain, verb_audit_verify, verb_audit_export, verb_doctor, verb_lock, verb_plan, verb_complete;
