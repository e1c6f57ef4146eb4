/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a tree of nodes to C structs, by tables: one row a key.  What a table does not list is an error that names the
 * nearest key; a value of the wrong type or out of range is an error that says what was expected.
 *
 * A binder returns 0 also when it reported a problem (the load fails later, after all problems were found); negative is
 * a fault.  The value is left untouched when it is not right, so defaults are set before binding.
 */
#pragma once

#include "node.h"

struct lock_list;

struct bind {
        const char *file;     /* as messages show it */
        const char *crew_dir; /* what ${CREW_DIR} means, absolute and without symbolic links; NULL: not known */
        struct arena *arena;
        struct policy_report *report;
        struct lock_list *used; /* every file that is read is noted there; NULL: nobody asks */
};

struct bind_field;
typedef int (*bind_fn)(struct bind *b, const struct node *v, const struct bind_field *f, void *out);

struct bind_field {
        const char *key;
        bind_fn fn;
        size_t offset; /* of the member in the struct the table is about */
        bool required;
        uint64_t min, max;
        const void *arg; /* of fn: names, a sub-table, a reason */
};

struct bind_table {
        const char *where; /* "under sandbox" */
        const struct bind_field *fields;
        size_t n;
};
#define BIND_TABLE(where_, fields_) ((struct bind_table){where_, fields_, ELEMENTSOF(fields_)})

struct bind_names { /* arg of bind_enum */
        const char *const *names;
        size_t n;
};

void bind_error(struct bind *b, const struct node *at, const char *hint, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
void bind_warning(struct bind *b, const struct node *at, const char *hint, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* "known: a, b, c" */
const char *bind_known(char *buf, size_t size, const char *const *names, size_t n);
/* "did you mean 'x'?" when one is near, else as bind_known(). */
const char *bind_suggest(char *buf, size_t size, const char *word, const char *const *names, size_t n);

int bind_map(struct bind *b, const struct node *v, const struct bind_table *t, void *out);
/* The right kind?  Reports when not. */
bool bind_is(struct bind *b, const struct node *v, enum node_kind kind, const char *what);

/* arg: struct bind_table, applied to the same struct at offset. */
int bind_sub(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
int bind_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* const char * */
int bind_name(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* const char *, crew_name_ok */
int bind_bool(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* bool */
int bind_u32(struct bind *b, const struct node *v, const struct bind_field *f, void *out);  /* uint32_t */
int bind_size(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* uint64_t bytes */
int bind_size_or_none(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
int bind_duration(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* uint64_t ms */
int bind_duration_or_none(struct bind *b, const struct node *v, const struct bind_field *f, void *out);
int bind_milli_or_none(struct bind *b, const struct node *v, const struct bind_field *f,
                       void *out);                                                          /* uint32_t, 0.5 -> 500 */
int bind_enum(struct bind *b, const struct node *v, const struct bind_field *f, void *out); /* uint32_t index */

/* Copies text with ${CREW_DIR} expanded.  0, -ENOMEM, or 1 after reporting another variable or no crew. */
int bind_expand(struct bind *b, const struct node *at, const char *text, const char **out);
