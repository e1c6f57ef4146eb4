/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scratch directory, policies written into it, and the plans made from them.  "@" in a policy stands for the scratch
 * directory, which lies outside /tmp so that it is not in the private /tmp of the view.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/landlock.h"
#include "common/plan.h"
#include "common/util.h"
#include "supervisor/policy/planner.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define READ_DIR LANDLOCK_ACCESS_FS_READ_DIR
#define EXECUTE LANDLOCK_ACCESS_FS_EXECUTE
#define WRITE_FILE LANDLOCK_ACCESS_FS_WRITE_FILE

static char scratch[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where) {
        return remove(path);
}

static int fixture_up(void **state) {
        strcpy(scratch, "/var/tmp/planner-XXXXXX");
        return mkdtemp(scratch) ? 0 : -1;
}

static int fixture_down(void **state) {
        return nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path below the scratch directory; one of eight buffers in turn. */
static const char *at(const char *rel) {
        static char bufs[8][256];
        static unsigned turn;
        char *b = bufs[turn++ % ELEMENTSOF(bufs)];

        snprintf(b, sizeof(bufs[0]), "%s/%s", scratch, rel);
        return b;
}

static void make_dir(const char *rel) {
        assert_int_equal(crew_mkdir_p(at(rel), 0755, NULL), 0);
}

static void make_file(const char *rel, const char *text, mode_t mode) {
        int fd = open(at(rel), O_WRONLY | O_CREAT | O_TRUNC, mode);

        assert_true(fd >= 0);
        assert_int_equal(crew_write_full(fd, text, strlen(text)), 0);
        close(fd);
        chmod(at(rel), mode);
}

/* filesystem: what is between the braces, "@" replaced. */
static struct policy_image *load(const char *agent, const char *filesystem, const char *rest) {
        char yaml[4096] = "";
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct policy_image *image = NULL;
        size_t n = (size_t)snprintf(yaml, sizeof(yaml),
                                    "agent: %s\nsandbox:\n  mode: deny-by-default\n  filesystem: {runtime: [\"/usr/\"], ",
                                    agent);

        for (const char *c = filesystem; *c; c++)
                n += *c == '@' ? (size_t)snprintf(yaml + n, sizeof(yaml) - n, "%s", scratch)
                               : (size_t)snprintf(yaml + n, sizeof(yaml) - n, "%c", *c);
        snprintf(yaml + n, sizeof(yaml) - n, "}\n%s", rest);
        if (policy_load_bytes("role.yaml", yaml, strlen(yaml), NULL, scratch, &image, &report, &err) < 0) {
                policy_report_print(&report, stderr, false);
                fail_msg("policy does not load: %s\n%s", err.msg, yaml);
        }
        policy_report_fini(&report);
        return image;
}

struct made {
        const struct plan *plan;
        int r;
        struct crew_err err;
};

static struct planner_input input_for(const struct policy_image *policy) {
        static const char *const argv[] = {"true"};

        return (struct planner_input){.policy = policy,
                                      .sandbox_argv = argv,
                                      .n_sandbox_argv = 1,
                                      .incarnation = 1,
                                      .root_mode = true,
                                      .host_uid = 200001,
                                      .host_gid = 200001,
                                      .owner_uid = 1234,
                                      .owner_gid = 1235};
}

static struct made make(const struct planner_input *in) {
        struct made m = {.err = CREW_ERR_NULL};
        void *block = NULL;
        size_t n;

        m.r = planner_make(in, &block, &n, &m.err);
        m.plan = block;
        return m;
}

/* The plan of a policy with this filesystem section alone; the image is kept in *image. */
static struct made make_of(const char *filesystem, struct policy_image **image) {
        *image = load("tester", filesystem, "");
        struct planner_input in = input_for(*image);
        return make(&in);
}

static int mount_index(const struct plan *p, const char *dst) {
        for (uint32_t i = 0; i < p->n_mounts; i++)
                if (strcmp(plan_str(p, plan_mount_at(p, i)->dst), dst) == 0)
                        return (int)i;
        return -1;
}

static inline const struct plan_mount *mount_of(const struct plan *p, const char *dst) {
        int i = mount_index(p, dst);
        return i < 0 ? NULL : plan_mount_at(p, (uint32_t)i);
}

static bool below(const char *dir, const char *path) {
        size_t n = strlen(dir);
        return strncmp(dir, path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* What a Landlock layer lets be done at a path: the union of the rules on it and above it. */
static uint64_t rights_at(const struct plan *p, uint32_t layer, const char *path) {
        const struct plan_layer *l = plan_layer_at(p, layer);
        uint64_t all = 0;

        assert_non_null(l);
        if (l->flags & PLAN_LAYER_AS_OUTER)
                l = plan_layer_at(p, 0);
        for (uint32_t i = 0; i < l->n_rules; i++) {
                const struct plan_rule *r = plan_rule_at(p, l->first_rule + i);
                if (below(plan_str(p, r->path), path))
                        all |= r->access;
        }
        return all;
}
