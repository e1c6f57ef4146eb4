/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail's file system: a private tmpfs root in which only what the plan lists is mounted.
 *
 * Two halves.  view_prepare() turns each source into a detached mount with its final attributes; in root mode it runs in
 * the spawner, which may open any path and make idmapped mounts (and does so while the jail makes its network), else in
 * the jail's own namespaces.  view_build() runs
 * in the jail, attaches everything and pivots into it.  No symbolic link is followed in either half unless the plan says
 * so: a tree that an agent wrote earlier may contain links made to mislead exactly this code.
 */
#pragma once

#include "common/plan.h"

#define VIEW_DEVICES 5

struct view {
        const struct plan *plan;
        int *sources;              /* one per mount of the plan, -1: none */
        int devices[VIEW_DEVICES]; /* detached mounts of null, zero, ... */
        uint32_t tripwires;        /* set by view_build */
};
#define VIEW_NULL ((struct view){.devices = {-1, -1, -1, -1, -1}})

/* Makes missing PLAN_MOUNT_CREATE directories, on the host, as their owner. */
int view_create_dirs(const struct plan *plan, struct crew_err *err);
int view_init(struct view *v, const struct plan *plan, struct crew_err *err); /* room for the sources */
int view_prepare(struct view *v, struct crew_err *err);
/* The prepared mounts one by one, to be handed to the jail: fd of the next from *at on and its number for view_adopt(),
 * or -1 at the end.  The view goes on owning it. */
int view_next_source(const struct view *v, uint32_t *at, uint32_t *number);
/* Takes a mount that another process prepared; 0 or -EINVAL (fd is closed). */
int view_adopt(struct view *v, uint32_t number, int fd);
int view_build(struct view *v, struct crew_err *err);
/* The root becomes read-only: nothing is made in it after this. */
int view_seal(struct crew_err *err);
void view_fini(struct view *v); /* closes the descriptors; what was not attached disappears */

/* Opens a path with O_PATH, component by component, refusing symbolic links; works without openat2.  fd or -errno. */
int view_open_plain(const char *path);

/*
 * What stands in for things: empty, in the read-only root, without a Landlock rule of its own.  The probe is readable by
 * mode: opening it must fail by Landlock alone (self-test).  A mounted cover, however, is judged by the rules of the tree
 * it lies in, so what covers a hole is readable by nobody.
 */
#define VIEW_VOID "/.jail"
#define VIEW_VOID_FILE VIEW_VOID "/file"      /* 0444: the probe; covers files of /proc */
#define VIEW_VOID_HOLE_FILE VIEW_VOID "/hole" /* 0000 */
#define VIEW_VOID_HOLE_DIR VIEW_VOID "/holes" /* 0000 */
#define VIEW_POOL "/.pool"                    /* 0000: what is mounted at the private trees */
