/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened, for clients: a bounded ring of Event messages, numbered from 1.  A subscriber that asks for an older
 * number gets what is still held.
 */
#pragma once

#include "crew.pb-c.h"

#include <stddef.h>
#include <stdint.h>

#define EVENTS_HELD 1024u
#define EVENTS_BYTES (2u << 20)

struct events;
struct events *events_new(void (*on_event)(const Crew__Event *e, void *user), void *user);
struct events *events_free(struct events *ev);
/* Numbers and times e, keeps a copy, hands it to on_event. */
void events_add(struct events *ev, Crew__Event *e);
/* kind and text only. */
void events_text(struct events *ev, const char *kind, const char *text);
/* Every held event from number since on. */
void events_replay(struct events *ev, uint64_t since, void (*fn)(const Crew__Event *e, void *user), void *user);
uint64_t events_last(const struct events *ev);
