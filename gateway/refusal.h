/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer an agent gets instead of the server's: a complete HTTP response whose JSON body says what was refused, by
 * which rule and what can be done about it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define REFUSAL_MAX 10240
#define REFUSAL_STEPS 3

struct refusal {
        unsigned status;
        const char *error; /* any bytes; escaped */
        const char *rule;  /* "policies/roles/x.yaml:14"; NULL: none */
        const char *next_steps[REFUSAL_STEPS];
        bool close;   /* the connection ends after it */
        bool to_head; /* without the body */
};

/* Bytes written to out[REFUSAL_MAX]; long texts are cut. */
size_t refusal_write(const struct refusal *r, char out[REFUSAL_MAX]);
