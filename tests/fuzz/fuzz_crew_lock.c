/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as crew.lock: files in order or a reported problem; what was read, written and read again is the same. */
#include "common/util.h"
#include "supervisor/policy/lock.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct reading {
        struct arena arena;
        struct lock_list list;
        struct policy_report report;
};

static int parse(struct reading *x, const char *crew, const char *text, size_t n) {
        struct crew_err err = CREW_ERR_NULL;

        x->list.arena = &x->arena;
        int r = lock_parse(&x->list, "crew.lock", crew, text, n, &x->report, &err);
        crew_assert((r == 0) == (x->report.errors == 0));
        return r;
}

static void done(struct reading *x) {
        arena_fini(&x->arena);
        policy_report_fini(&x->report);
}

static void check_order(const struct lock_list *l) {
        for (size_t i = 0; i < l->n; i++) {
                const struct lock_file *f = &l->items[i];
                crew_assert((unsigned)f->kind < LOCK_KIND_N && *f->name && f->line > 1);
                if (i > 0 && l->items[i - 1].kind == f->kind)
                        crew_assert(strcmp(l->items[i - 1].name, f->name) < 0);
                if (i > 0)
                        crew_assert(l->items[i - 1].kind <= f->kind);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct reading first = {0}, other = {0}, again = {0};
        struct crew_err err = CREW_ERR_NULL;
        char *text = NULL;
        size_t text_n = 0;

        (void)parse(&other, "demo", (const char *)data, n);
        if (parse(&first, NULL, (const char *)data, n) == 0) {
                check_order(&first.list);
                crew_assert(lock_format(&first.list, "demo", &text, &text_n, &err) == 0);
                crew_assert(parse(&again, "demo", text, text_n) == 0);
                crew_assert(again.list.n == first.list.n);
                lock_compare(&first.list, &again.list, "crew.lock", &again.report);
                crew_assert(again.report.errors == 0);
        }
        free(text);
        done(&first);
        done(&other);
        done(&again);
        return 0;
}
