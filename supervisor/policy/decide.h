/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces of a verdict, shared by the files that decide. */
#pragma once

#include "image.h"

/* Names the deciding rule: v->file, v->mark, v->rule. */
void verdict_rule(struct policy_verdict *v, const char *file, struct policy_mark m);
/* "allowed by <section>" or "denied by <section>", by the rule at m of the policy's file. */
struct policy_verdict verdict_ruled(const struct policy_image *p, bool allowed, enum image_section s, struct policy_mark m);
/* Denied as no rule matched: the section that would have to allow it, and where it stands if it is there. */
struct policy_verdict verdict_unlisted(const struct policy_image *p, enum image_section s);
/* Appends to a text of the verdict, cut at its size. */
void verdict_append(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* POLICY_DO_CONNECT and POLICY_DO_HTTP; verb is not looked at. */
struct policy_verdict decide_connect(const struct policy_image *p, enum policy_verb verb, const char *object);
struct policy_verdict decide_http(const struct policy_image *p, enum policy_verb verb, const char *object);
