/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one crewd writes down of an agent for the next, read back.
 *
 * As in fuzz_handover.c the input is what is done to a state that is made here: two bytes say where it is cut off, and each
 * three more are a place and a byte to put there.  It is refused, or everything in it can be used, and is written down
 * as it was read.
 */
#include "common/util.h"
#include "supervisor/agent.h"
#include "supervisor/bytes.h"
#include "supervisor/checkpoint_agent.h"
#include "supervisor/link.h"
#include "supervisor/policy/policy.h"
#include "supervisor/rate.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int link_send(struct link *l, const uint8_t *bytes, size_t n) {
        (void)l, (void)bytes, (void)n;
        return -EAGAIN;
}

const char *const usage_limit_names[USAGE_LIMIT_N] = {"memory",    "processes", "cpu",       "open_files",
                                                      "tmp",       "output",    "wall_time", "connections",
                                                      "half_open", "dns",       "messages",  "state"};

static struct policy_image *policy(void) {
        static const char text[] = "agent: a\nsandbox: {mode: deny-by-default}\n";
        static struct policy_image *image;
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;

        if (!image)
                crew_assert(policy_load_bytes("a.yaml", text, sizeof(text) - 1, "a", NULL, &image, &report, &err) == 0);
        policy_report_fini(&report);
        return image;
}

static void fill(struct agent *a) {
        struct termination *t = a->last = calloc(1, sizeof(*t));

        crew_assert(t);
        a->state = AGENT_WORKING;
        a->incarnation = 3;
        rate_init(&a->restart.rate, 5, 1000);
        rate_init(&a->in.violations, AGENT_VIOLATIONS_MAX, AGENT_VIOLATIONS_NS);
        rate_exceeded_by(&a->in.violations, 7);
        a->in.id = 3u << 16;
        a->in.attested = a->in.greeted = true;
        a->in.seq_in = a->in.seq_out = 9;
        a->in.death.limit = AGENT_QUEUE_LIMIT;
        a->jail_policy = policy();
        t->death.limit = usage_limit_names[USAGE_TMP];
        strcpy(a->in.link_path, "/run/crewd/c/links/a");
        strcpy(a->in.health.why, "exit status 1");
        a->in.stderr_tail = calloc(1, AGENT_STDERR_TAIL + 1);
        crew_assert(a->in.stderr_tail);
        a->in.stderr_used = 5;
        memcpy(a->in.stderr_tail, "oops\n", 5);
        crew_assert(outbox_add(&a->in.outbox, 8, (const uint8_t *)"frame", 5) == 0);
        crew_assert(outbox_add(&a->in.outbox, 9, (const uint8_t *)"another", 7) == 0);
        strcpy(t->death.reason, "it was so");
        strcpy(t->calls[0], "tool x");
        t->n_calls = 1;
        t->action = "restart";
}

static void end(struct agent *a) {
        outbox_clear(&a->in.outbox);
        free(a->in.stderr_tail);
        free(a->last);
}

/* Reading all of it is the check: of texts to their ends, of counts within their arrays, of truth values as such. */
static size_t use(struct agent *a) {
        const struct termination *t = a->last;
        size_t sum = strlen(a->in.link_path) + strlen(a->in.health.why) + strlen(a->in.told.detail) +
                     strlen(a->in.death.reason) + strlen(a->in.death.initiator) + strlen(agent_state_names[a->state]);

        sum += rate_count(&a->restart.rate, 1u << 20) + rate_count(&a->in.violations, 1u << 20);
        sum += rate_exceeded_by(&a->in.violations, 1u << 21);
        sum += a->in.death.limit ? strlen(a->in.death.limit) : 0;
        for (size_t i = 0; i < a->in.health.tail_n; i++)
                sum += (size_t)a->in.health.tail[i];
        for (size_t i = 0; i < a->in.stderr_used; i++)
                sum += (size_t)a->in.stderr_tail[i];
        for (size_t i = 0; t && i < t->n_calls; i++)
                sum += strlen(t->calls[i]);
        sum += (size_t)a->in.exited + a->in.told.told + a->in.usage.told[0].at_bound + a->hold.on +
               a->hold.thaw; /* UBSan looks */
        if (t)
                sum += strlen(t->task) + strlen(t->stderr_tail) + strlen(t->death.reason) +
                       (t->action ? strlen(t->action) : 0) + t->effects + t->restartable;
        crew_assert(!a->in.link && !a->in.n_early && !a->in.watch && !a->in.migrate.name[0]);
        return sum;
}

static size_t number(const uint8_t *p) {
        return (size_t)p[0] << 8 | p[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const struct crew_agent decl = {.name = "a", .policy = policy()};
        struct agent *a = calloc(3, sizeof(*a)), *b = a + 1, *c = a + 2;
        struct bytes_out out = {0}, again = {0};

        if (n < 2 || !a) {
                free(a);
                return 0;
        }
        a->decl = b->decl = c->decl = &decl;
        fill(a);
        checkpoint_agent_save(a, &out);
        crew_assert(!out.failed && out.n < 65536);
        for (size_t i = 2; i + 3 <= n; i += 3)
                out.p[number(data + i) % out.n] = data[i + 2];
        size_t len = MIN_OF(number(data), out.n);
        uint8_t *exact = memcpy(malloc(MAX_OF(len, (size_t)1)), out.p, len);
        struct bytes_in in = {.p = exact, .end = exact + len};
        int r = checkpoint_agent_load(b, &in);
        crew_assert(r == 0 || r == -EBADMSG);
        crew_assert(r == 0 || len < out.n || n >= 5); /* as it was made it is read */
        if (r == 0) {
                checkpoint_agent_save(b, &again);
                struct bytes_in second = {.p = again.p, .end = again.p + again.n};
                crew_assert(checkpoint_agent_load(c, &second) == 0 && second.p == second.end);
                crew_assert(use(b) == use(c) && b->lost.reloaded == c->lost.reloaded);
                crew_assert(n >= 5 || (c->lost.reloaded && c->in.death.limit && c->last->death.limit));
        }
        end(a);
        end(b);
        end(c);
        free(a);
        free(exact);
        free(out.p);
        free(again.p);
        return 0;
}
