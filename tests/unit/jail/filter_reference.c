/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another way to the same decisions: each stage of filter.h is one libseccomp filter with a single action, which is the
 * part of it that is easy to reason about; the stages are then joined: where one falls through, a jump to the next.  What
 * comes out is twice as long as what filter_build.c makes, and must decide the same.
 */
#include "bpf_run.h"

#include "common/util.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void release_ctx(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

/* Number of a call, or -1 when this architecture has none of that name. */
static int row_number(const struct filter_row *row) {
        int nr = row->number ? row->number : seccomp_syscall_resolve_name(row->name);
        return nr < 0 ? -1 : nr;
}

static int add_row(scmp_filter_ctx ctx, uint32_t action, const struct filter_row *row, struct crew_err *err) {
        struct scmp_arg_cmp cmp[FILTER_CONDS_MAX];
        unsigned n = 0;
        int nr = row_number(row);

        if (nr < 0)
                return 0;
        for (; n < FILTER_CONDS_MAX && row->conds[n].mask; n++) {
                const struct filter_cond *c = &row->conds[n];
                cmp[n] = c->not_equal ? SCMP_CMP64(c->arg, SCMP_CMP_NE, c->value)
                                      : SCMP_CMP64(c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value);
        }
        int r = seccomp_rule_add_array(ctx, action, nr, n, cmp);
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot add %s: %s", row->name, strerror(-r));
        return 0;
}

static bool profile_has(const struct filter_profile *p, int nr) {
        for (size_t i = 0; i < p->n; i++) {
                if (p->numbers[i] == nr)
                        return true;
        }
        return false;
}

static int fill_refused_if(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < filter_refused_if_n; i++)
                r = add_row(ctx, SCMP_ACT_ERRNO((uint32_t)filter_refused_if[i].errno_), &filter_refused_if[i], err);
        return r;
}

static int fill_allowed(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && filter_allowed[i][0]; i++) {
                struct filter_row row = {.number = 0};
                memcpy(row.name, filter_allowed[i], sizeof(row.name));
                r = add_row(ctx, SCMP_ACT_ALLOW, &row, err);
        }
        for (size_t i = 0; r == 0 && i < p->n; i++)
                r = add_row(ctx, SCMP_ACT_ALLOW, &(struct filter_row){.name = "", .number = p->numbers[i]}, err);
        for (size_t i = 0; r == 0 && i < filter_allowed_if_n; i++) {
                /* A profile's bare "allow" replaces the condition. */
                if (!profile_has(p, row_number(&filter_allowed_if[i])))
                        r = add_row(ctx, SCMP_ACT_ALLOW, &filter_allowed_if[i], err);
        }
        return r;
}

static int fill_otherwise(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < filter_otherwise_n; i++) {
                if (filter_otherwise[i].errno_ != ENOSYS)
                        r = add_row(ctx, SCMP_ACT_ERRNO((uint32_t)filter_otherwise[i].errno_), &filter_otherwise[i], err);
        }
        return r;
}

struct stage {
        uint32_t fall_through; /* default action of the stage; joined to the next one */
        int (*fill)(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err);
};
static const struct stage stages[] = {
        {SCMP_ACT_ALLOW, fill_refused_if},
        {SCMP_ACT_ERRNO(ENOSYS), fill_allowed},
        {SCMP_ACT_ERRNO(ENOSYS), fill_otherwise},
};

/* libseccomp 2.5 exports to descriptors only. */
static int export_ctx(scmp_filter_ctx ctx, struct filter_program *out, size_t *n, struct crew_err *err) {
        _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
        size_t room = (FILTER_MAX_INSNS - out->n) * sizeof(out->insns[0]);

        if (fd < 0)
                return crew_fail_errno(err, "seccomp: cannot create memfd");
        int r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot compile: %s", strerror(-r));
        ssize_t got = pread(fd, &out->insns[out->n], room, 0);
        if (got < 0)
                return crew_fail_errno(err, "seccomp: cannot read the program");
        if (got == 0 || (size_t)got == room || (size_t)got % sizeof(out->insns[0]) != 0)
                return crew_fail(err, E2BIG, "seccomp: program of %zd bytes", got);
        *n = (size_t)got / sizeof(out->insns[0]);
        return 0;
}

/* In insns[from, from + n): "return fall_through" becomes "go to what follows". */
static void join(struct filter_program *out, size_t n, uint32_t fall_through) {
        for (size_t i = 0; i < n; i++) {
                struct sock_filter *in = &out->insns[out->n + i];
                if (in->code == (BPF_RET | BPF_K) && in->k == fall_through)
                        *in = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(n - i - 1));
        }
}

static int build_stage(const struct stage *s, bool last, const struct filter_profile *p, struct filter_program *out,
                       struct crew_err *err) {
        _cleanup_(release_ctx) scmp_filter_ctx ctx = seccomp_init(s->fall_through);
        size_t n = 0;

        if (!ctx)
                return crew_fail(err, ENOMEM, "seccomp: out of memory");
        int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search tree over the numbers */
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot set an attribute: %s", strerror(-r));
        if ((r = s->fill(ctx, p, err)) < 0 || (r = export_ctx(ctx, out, &n, err)) < 0)
                return r;
        if (!last)
                join(out, n, s->fall_through);
        out->n += n;
        return 0;
}

int filter_reference(const struct filter_profile *profile, struct filter_program *out, struct crew_err *err) {
        int r = 0;

        out->n = 0;
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(stages); i++)
                r = build_stage(&stages[i], i + 1 == ELEMENTSOF(stages), profile, out, err);
        return r;
}
