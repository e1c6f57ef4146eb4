/* SPDX-License-Identifier: Apache-2.0 */
/* The spawn plan's checker on hostile blocks; after a yes every accessor is walked. */
#include "common/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile size_t sink;

static void walk(const struct plan *p) {
        for (uint32_t i = 0; i < p->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(p, i);
                sink += strlen(plan_str(p, m->dst));
                if (m->kind == PLAN_MOUNT_BIND || m->kind == PLAN_MOUNT_SYMLINK)
                        sink += strlen(plan_str(p, m->src));
                for (uint32_t k = 0; m->kind == PLAN_MOUNT_FILE && k < m->src_len; k++)
                        sink += (unsigned char)plan_str(p, m->src)[k];
        }
        for (uint32_t i = 0; i < p->n_layers; i++) {
                const struct plan_layer *l = plan_layer_at(p, i);
                for (uint32_t k = 0; k < l->n_rules; k++)
                        sink += strlen(plan_str(p, plan_rule_at(p, l->first_rule + k)->path));
        }
        for (uint32_t i = 0; i < p->n_programs; i++) {
                const struct plan_program *g = plan_program_at(p, i);
                sink += strlen(plan_str(p, g->name)) + plan_layer_at(p, g->layer)->n_rules;
                for (uint32_t k = 0; k < g->n_args; k++)
                        sink += strlen(plan_string_at(p, g->first_arg + k));
        }
        for (uint32_t i = 0; i < p->n_env; i++)
                sink += strlen(plan_string_at(p, p->first_env + i));
        if (p->workdir)
                sink += strlen(plan_str(p, p->workdir));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        /* Mutations keep the old length field; most would die on it, so every second look repairs the head. */
        for (int repair = 0; repair < 2; repair++) {
                uint8_t *copy = malloc(n ? n : 1);
                if (!copy)
                        return 0;
                if (n > 0)
                        memcpy(copy, data, n);
                if (repair && n >= sizeof(struct plan)) {
                        struct plan *p = (struct plan *)copy;
                        p->magic = PLAN_MAGIC;
                        p->version = PLAN_VERSION;
                        p->total_bytes = (uint32_t)n;
                }
                if (plan_check(copy, n, NULL) == 0)
                        walk((const struct plan *)copy);
                free(copy);
        }
        return 0;
}
