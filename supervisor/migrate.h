/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing an agent's state directory to the version that the crew file names, before the agent is started.
 *
 *   copying --done--> starting --Ready--> running --exit status 0--> checking --small enough--> (next instance) agent
 *      |                 |                   |                          |
 *      +---- fault ------+---- its end ------+---- anything else -------+--> the agent does not start
 *
 * The command runs in the agent's own jail, an instance of its own without network, tools and messages, on a copy of the
 * directory.  The copy takes the directory's place when the jail is gone, together with its version
 * (common/state_version.h); until then, and whatever happens, nothing of the directory has changed.
 */
#pragma once

#include "common/spawn.h"
#include "crew.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agent;
struct crew_err;

struct migrate { /* of one instance; zeroed with it */
        enum migrate_phase {
                MIGRATE_OFF,
                MIGRATE_COPYING,
                MIGRATE_STARTING, /* the jail */
                MIGRATE_RUNNING,
                MIGRATE_CHECKING, /* the jail is being ended, or is gone */
                MIGRATE_DONE,     /* the agent is started as soon as nothing of the jail is heard any more */
        } phase;
        uint32_t from, to; /* whatever the crew file says meanwhile */
        char name[96];     /* of the copy, beside the directory; "": none */
        char path[4096];   /* the same with the directory's, as the plan has it */
        uint64_t seq;      /* of the command */
        uint64_t began_ns;
        size_t said, cut; /* bytes of its output on record, and not */
        bool complained;  /* the tail is of standard error */
        char tail[160];   /* the last of them */
        size_t tail_n;
};

/* What has been put on record is safe. */
void migrate_on_record(struct agent *a);
/* The directory is there and locked.  0: it is up to date; 1: the start goes on later (instance_go_on); else it fails. */
int migrate_begin(struct agent *a, struct crew_err *err);
bool migrate_is_on(const struct agent *a);
/* Its jail is ready. */
void migrate_on_ready(struct agent *a);
/* Its worker may say what that of a ready agent may. */
bool migrate_has_worker(const struct agent *a);
/* A frame of its worker.  True: it was dealt with here. */
bool migrate_frame(struct agent *a, const Crew__Envelope *e);
/* The jail is gone.  True: that is as it should be, and no death of the agent. */
bool migrate_on_exited(struct agent *a, const struct spawn_exit *x);
/* ready_by_ns is over. */
void migrate_too_late(struct agent *a);
/* What it writes was found to be more than state_max while it runs; before and after that it is looked at here. */
void migrate_too_large(struct agent *a, const char *text);
/* MIGRATE_DONE, and it is time for what comes then. */
bool migrate_next_due(const struct agent *a);
void migrate_next(struct agent *a);
/* The instance is forgotten: so is its copy. */
void migrate_clear(struct agent *a);

/* A directory that was migrated for a crew file which does not count yet is kept as it was before.  It does not count after
 * all: no instance is there, and the directory is again what it was.  0 also if there is nothing to do. */
int migrate_take_back(struct agent *a, struct crew_err *err);
/* It counts. */
void migrate_let_go(struct agent *a);
