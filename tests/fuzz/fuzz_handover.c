/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one crewd writes down for the next, read back: the parts without an event loop.
 *
 * A state holds values as they lie in memory, so the input is not one, but what is done to one that is made here: the first
 * byte chooses the part, the next two where it is cut off (beyond the end: nowhere), and each three more a place and a byte
 * to put there.  It is refused, or the part works, and writes down what is read again.
 */
#include "common/util.h"
#include "supervisor/bytes.h"
#include "supervisor/keyed.h"
#include "supervisor/memory.h"
#include "supervisor/router.h"
#include "supervisor/scheduler.h"

#include <string.h>

#define LATE (UINT64_MAX / 2)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint8_t rights[] = {CREW_MEMORY_READ | CREW_MEMORY_WRITE, CREW_MEMORY_READ};
static struct crew_memory board = {
        .name = "board", .max_bytes = 4096, .agent_bytes = 4096, .max_keys = 16, .rights = rights};
static struct crew_agent agents[] = {{.name = "a"}, {.name = "b"}};
static uint32_t first[] = {0};
static struct crew_task tasks[] = {{.name = "one", .agent_index = 0, .timeout_ms = 1000},
                                   {.name = "two", .agent_index = 1, .timeout_ms = 1000, .context = first, .n_context = 1}};
static struct crew_file crew = {
        .name = "c", .memory = &board, .n_memory = 1, .agents = agents, .n_agents = 2, .tasks = tasks, .n_tasks = 2};

/* --- jobs --- */

static enum sched_slot on_slot(uint32_t agent, char *why, void *user) {
        (void)why, (void)user;
        return agent ? SCHED_BUSY : SCHED_FREE;
}

static int on_start(struct job *j, struct crew_err *err, void *user) {
        (void)j, (void)err, (void)user;
        return 0;
}

static void on_job(struct job *j, void *user) {
        (void)user;
        crew_assert(strlen(j->id) < sizeof(j->id) && strlen(j->error) < sizeof(j->error) && j->agent < crew.n_agents);
        crew_assert(!j->task || (j->task >= tasks && j->task < tasks + crew.n_tasks));
}

static void on_retried(struct job *j, Crew__Outcome outcome, const char *error, void *user) {
        (void)outcome, (void)error;
        on_job(j, user);
}

static void on_proposed(struct job *j, uint64_t now_ns, void *user) {
        (void)now_ns;
        on_job(j, user);
}

static void on_run_done(void *user) {
        (void)user;
}

static void *jobs_new(void) {
        static const struct sched_callbacks cb = {.slot = on_slot,
                                                  .start = on_start,
                                                  .cancel = on_job,
                                                  .overdue = on_job,
                                                  .retried = on_retried,
                                                  .proposed = on_proposed,
                                                  .changed = on_job,
                                                  .finished = on_job,
                                                  .run_done = on_run_done};

        return scheduler_new(&crew, 2, &cb, NULL);
}

static void jobs_fill(void *p) {
        struct sched_submit what = {.agent = "b", .description = "x", .input = "[1]", .client = 5, .corr = 6, .key = "k"};
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;

        crew_assert(scheduler_run(p, 1, 2, 3, &err) == 0 && scheduler_submit(p, &what, &j, &err) == 0);
        scheduler_poke(p, 4);
        const struct sched_result r = {.agent = 0,
                                       .task_id = scheduler_job_of(p, 0)->id,
                                       .outcome = CREW__OUTCOME__OUTCOME_OK,
                                       .result = "{}",
                                       .result_len = 2};
        scheduler_result(p, &r, 5);
        what.agent = "a";
        crew_assert(scheduler_submit(p, &what, &j, &err) == 0);
        scheduler_poke(p, 6);
}

static void jobs_save(void *p, struct bytes_out *b) {
        scheduler_save(p, b);
}

static int jobs_load(void *p, struct bytes_in *b) {
        return scheduler_load(p, b);
}

static void jobs_use(void *p) {
        scheduler_poke(p, 7);
        scheduler_expire(p, LATE);
        scheduler_stop(p, "over", LATE);
        scheduler_poke(p, LATE);
}

static void jobs_end(void *p) {
        scheduler_free(p);
}

/* --- messages --- */

static struct policy_verdict on_permit(uint32_t from, const char *target, void *user) {
        (void)from, (void)target, (void)user;
        return (struct policy_verdict){.allowed = true};
}

static struct router_peer on_find(const char *target, void *user) {
        (void)target, (void)user;
        return (struct router_peer){.presence = ROUTER_STARTING, .index = 1};
}

static const char *on_name(uint32_t agent, void *user) {
        (void)user;
        crew_assert(agent < crew.n_agents);
        return agents[agent].name;
}

static int on_deliver(const struct router_message *m, uint64_t *work_seq, void *user) {
        (void)user;
        crew_assert(m->from < crew.n_agents && m->to == 1 && strlen(m->payload) < 65536);
        *work_seq = 9;
        return 0;
}

static void on_reply(uint32_t to, uint64_t corr, const struct call_reply *reply, void *user) {
        (void)corr, (void)reply, (void)user;
        crew_assert(to < crew.n_agents);
}

static void on_lost(uint32_t from, const char *target, const struct call_reply *why, void *user) {
        (void)user;
        crew_assert(from < crew.n_agents && *target && !why->ok);
}

static void *messages_new(void) {
        static const struct router_callbacks cb = {.permit = on_permit,
                                                   .find = on_find,
                                                   .name = on_name,
                                                   .deliver = on_deliver,
                                                   .reply = on_reply,
                                                   .lost = on_lost};

        return router_new(2, &cb, NULL);
}

static void messages_fill(void *p) {
        struct router_send s = {
                .from = 0, .incarnation = 1, .seq = 7, .target = "b", .ask = true, .payload = "{}", .payload_len = 2};

        router_send(p, &s, 1);
        s.ask = false;
        s.seq = 8;
        router_send(p, &s, 1);
        s.unanswered = true;
        s.seq = 9;
        router_send(p, &s, 1);
}

static void messages_save(void *p, struct bytes_out *b) {
        router_save(p, b);
}

static int messages_load(void *p, struct bytes_in *b) {
        return router_load(p, b);
}

static void messages_use(void *p) {
        router_agent_up(p, 1, 2);
        router_expire(p, LATE);
        router_agent_gone(p, 0, "terminated");
}

static void messages_end(void *p) {
        router_free(p);
}

/* --- shared values --- */

static void *values_new(void) {
        return memory_new(&crew, 2);
}

static void values_fill(void *p) {
        memory_put(p, 0, "board", "k", "[1,2]", 5);
        memory_put(p, 0, "board", "l", "{}", 2);
}

static void values_save(void *p, struct bytes_out *b) {
        memory_save(p, b);
}

static int values_load(void *p, struct bytes_in *b) {
        return memory_load(p, b);
}

static void on_value(const struct memory_value *v, void *user) {
        (void)user;
        crew_assert(v->by < crew.n_agents && v->json[v->len] == '\0');
}

static void values_use(void *p) {
        memory_list(p, 1, "board", on_value, NULL);
        memory_put(p, 0, "board", "k", NULL, 0);
}

static void values_end(void *p) {
        memory_free(p);
}

/* --- keys --- */

static void *keys_new(void) {
        return keyed_new();
}

static void keys_fill(void *p) {
        static const uint8_t request[CREW_SHA256_BYTES] = {1};

        keyed_add(p, "under-way", request);
        keyed_finish(p, keyed_add(p, "over", request), (const uint8_t *)"ok", 2);
}

static void keys_save(void *p, struct bytes_out *b) {
        keyed_save(p, b);
}

static int keys_load(void *p, struct bytes_in *b) {
        return keyed_load(p, b);
}

static void keys_use(void *p) {
        struct keyed_task *t = keyed_find(p, "under-way");

        if (t && !t->done)
                keyed_finish(p, t, (const uint8_t *)"late", 4);
}

static void keys_end(void *p) {
        keyed_free(p);
}

/* --- each of them --- */

static const struct part {
        void *(*new)(void);
        void (*fill)(void *p);
        void (*save)(void *p, struct bytes_out *b);
        int (*load)(void *p, struct bytes_in *b);
        void (*use)(void *p);
        void (*end)(void *p);
} parts[] = {
        {jobs_new, jobs_fill, jobs_save, jobs_load, jobs_use, jobs_end},
        {messages_new, messages_fill, messages_save, messages_load, messages_use, messages_end},
        {values_new, values_fill, values_save, values_load, values_use, values_end},
        {keys_new, keys_fill, keys_save, keys_load, keys_use, keys_end},
};

static void made(const struct part *part, struct bytes_out *b) {
        void *p = part->new ();

        part->fill(p);
        part->save(p, b);
        crew_assert(b->n > 0 && !b->failed);
        part->end(p);
}

static size_t number(const uint8_t *p) {
        return (size_t)p[0] << 8 | p[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct bytes_out b = {0}, again = {0};

        if (n < 3)
                return 0;
        const struct part *part = &parts[data[0] % ELEMENTSOF(parts)];
        made(part, &b);
        for (size_t i = 3; i + 3 <= n; i += 3)
                b.p[number(data + i) % b.n] = data[i + 2];
        /* Where it ends, the memory ends: one byte too far is seen. */
        size_t len = MIN_OF(number(data + 1), b.n);
        uint8_t *exact = memcpy(malloc(MAX_OF(len, (size_t)1)), b.p, len);
        struct bytes_in in = {.p = exact, .end = exact + len};
        void *p = part->new (), *q = part->new ();
        if (part->load(p, &in) == 0) {
                part->save(p, &again);
                struct bytes_in second = {.p = again.p, .end = again.p + again.n};
                crew_assert(part->load(q, &second) == 0 && second.p == second.end);
                part->use(q);
        } else {
                crew_assert(number(data + 1) < b.n || n >= 6); /* as it was made it is read */
        }
        part->end(p);
        part->end(q);
        free(exact);
        free(b.p);
        free(again.p);
        return 0;
}
