/* SPDX-License-Identifier: Apache-2.0 */
/* Letters by value, bounded by number and bytes.  Senders' names come from crewd. */
#include "inbox.h"

#include "common/util.h"
#include "rpc_agent.h"
#include "tasks.h"

#include <errno.h>
#include <string.h>

struct letter {
        struct list link; /* letters, or asks_waiting, or asks_taken (without payload) */
        bool ask, notice; /* notice: of an agent's end; payload is the record */
        uint64_t seq, deadline_ms;
        char from[64];
        char *payload; /* owned */
        size_t n;
};

#define NOTICE_METHOD "agent.terminated"

struct ask_run {
        struct list link;
        struct program program;
        uint64_t seq;
};

void inbox_init(struct worker *w) {
        list_init(&w->letters);
        list_init(&w->asks_waiting);
        list_init(&w->asks_running);
        list_init(&w->asks_taken);
}

void inbox_answer(struct worker *w, uint64_t seq, const char *payload, const char *error) {
        Crew__AskAnswer body = CREW__ASK_ANSWER__INIT;

        body.ok = payload != NULL;
        body.payload = (char *)(payload ? payload : "");
        body.error = (char *)(payload ? "" : error);
        worker_send(w, &ENVELOPE(ASK_ANSWER, .corr = seq, .ask_answer = &body));
}

/* ---- letters ---- */

static void free_letter(struct worker *w, struct letter *l) {
        list_remove(&l->link);
        w->letter_bytes -= l->n;
        free(l->payload);
        free(l);
}

static struct letter *new_letter(struct worker *w, const Crew__Envelope *e) {
        bool notice = e->body_case == CREW__ENVELOPE__BODY_TERMINATION_NOTICE;
        const char *payload = notice ? e->termination_notice->record : e->deliver->payload;
        struct letter *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        *l = (struct letter){.ask = !notice && e->deliver->ask,
                             .notice = notice,
                             .seq = e->seq,
                             .deadline_ms = e->deadline_ms,
                             .payload = strdup(payload[0] ? payload : "null")};
        snprintf(l->from, sizeof(l->from), "%s", notice ? "crewd" : e->deliver->sender);
        if (!l->payload) {
                free(l);
                return NULL;
        }
        l->n = strlen(l->payload);
        w->letter_bytes += l->n;
        return l;
}

/* What is left of its time; at least a moment, so that a late one still ends in order. */
static uint64_t time_left_ms(const struct letter *l) {
        uint64_t now = crew_realtime_ns() / 1000000u;

        if (!l->deadline_ms)
                return DEFAULT_ASK_MS;
        return l->deadline_ms > now ? l->deadline_ms - now : 1;
}

static void write_letter(struct strbuf *b, const struct letter *l, bool with_id) {
        strbuf_printf(b, "{\"kind\":\"%s\",", l->notice ? NOTICE_METHOD : l->ask ? "ask" : "message");
        if (l->ask && with_id)
                strbuf_printf(b, "\"id\":\"%llu\",", (unsigned long long)l->seq);
        if (!l->notice) { /* nobody's: no agent can send one */
                strbuf_puts(b, "\"from\":");
                strbuf_json_string(b, l->from, strlen(l->from));
                strbuf_puts(b, ",");
        }
        strbuf_puts(b, "\"payload\":");
        strbuf_json_text(b, l->payload, l->n);
        strbuf_puts(b, "}");
}

/* ---- asks of an exec-json agent: a process each ---- */

static void start_asks(struct worker *w);

static void on_ask_end(struct program *p) {
        struct ask_run *r = container_of(p, struct ask_run, program);
        struct worker *w = p->w;
        char text[768];
        const char *answer = program_json(p, MAX_ANSWER, text, sizeof(text));

        inbox_answer(w, r->seq, answer, text);
        list_remove(&r->link);
        w->n_asks_running--;
        strbuf_fini(&p->output);
        free(r);
        inbox_programs_ended(w);
        start_asks(w);
}

static const struct program_ops ask_ops = {.on_end = on_ask_end};

static int start_ask(struct worker *w, const struct letter *l, struct crew_err *err) {
        struct strbuf input = STRBUF_MAX(SIZE_MAX / 2);
        struct ask_run *r = calloc(1, sizeof(*r));

        if (!r)
                return crew_fail(err, ENOMEM, "out of memory");
        r->seq = l->seq;
        write_letter(&input, l, false);
        strbuf_put(&input, "\n", 1);
        int ret = input.failed ? crew_fail(err, ENOMEM, "out of memory")
                               : program_start(w, &r->program,
                                               &(struct program_spec){.ops = &ask_ops,
                                                                      .source = "agent",
                                                                      .program = w->agent,
                                                                      .input = &input,
                                                                      .timeout_ms = time_left_ms(l),
                                                                      .max_output = MAX_ANSWER},
                                               err);
        strbuf_fini(&input);
        if (ret < 0) {
                free(r);
                return ret;
        }
        list_append(&w->asks_running, &r->link);
        w->n_asks_running++;
        return 0;
}

static void start_asks(struct worker *w) {
        struct list *node;

        while (w->phase == WORKER_RUNNING && w->n_asks_running < MAX_ASK_RUNS && (node = list_pop(&w->asks_waiting))) {
                struct letter *l = container_of(node, struct letter, link);
                struct crew_err err = CREW_ERR_NULL;
                if (start_ask(w, l, &err) < 0)
                        inbox_answer(w, l->seq, NULL, err.msg);
                w->n_asks_waiting--;
                free_letter(w, l);
        }
}

/* ---- to programs of the agent ---- */

static void write_stop(const struct worker *w, struct strbuf *b) {
        strbuf_printf(b,
                      "{\"kind\":\"shutdown\",\"grace_ms\":%llu,\"reason\":", (unsigned long long)worker_stop_left_ms(w));
        strbuf_json_string(b, w->stop_reason, strlen(w->stop_reason));
        strbuf_puts(b, "}");
}

bool inbox_tell_stop(struct worker *w) {
        struct strbuf b = STRBUF_MAX(2048);
        bool told = client_waits(w);

        while (client_waits(w))
                client_letter(w);
        if (w->rpc) {
                write_stop(w, &b);
                told |= !b.failed && rpc_agent_shutdown(w, b.p, b.n);
                strbuf_fini(&b);
        }
        return told;
}

bool inbox_take(struct worker *w, struct strbuf *b) {
        bool ask = list_empty(&w->letters);
        struct list *from = ask ? &w->asks_waiting : &w->letters;

        if (w->phase == WORKER_STOPPING) {
                write_stop(w, b);
                return true;
        }
        if (list_empty(from) || w->n_asks_taken >= MAX_ASKS)
                return false;
        struct letter *l = container_of(from->next, struct letter, link);
        write_letter(b, l, true);
        list_remove(&l->link);
        if (ask)
                w->n_asks_waiting--;
        else
                w->n_letters--;
        if (!l->ask) {
                free_letter(w, l);
                return true;
        }
        w->letter_bytes -= l->n;
        l->n = 0;
        free(crew_steal_ptr(&l->payload));
        list_append(&w->asks_taken, &l->link);
        w->n_asks_taken++;
        return true;
}

bool inbox_answer_taken(struct worker *w, uint64_t seq, const char *payload, const char *error) {
        list_for_each(it, &w->asks_taken) {
                struct letter *l = container_of(it, struct letter, link);
                if (l->seq != seq)
                        continue;
                inbox_answer(w, seq, payload, error);
                free_letter(w, l);
                w->n_asks_taken--;
                return true;
        }
        return false;
}

static void refuse_all(struct worker *w, struct list *asks, unsigned *count, const char *why) {
        for (struct list *node; (node = list_pop(asks)); (*count)--) {
                struct letter *l = container_of(node, struct letter, link);
                inbox_answer(w, l->seq, NULL, why);
                free_letter(w, l);
        }
}

void inbox_programs_ended(struct worker *w) {
        if (!w->rpc && !w->n_tasks && !w->n_asks_running && !w->n_execs)
                refuse_all(w, &w->asks_taken, &w->n_asks_taken, "the agent's program ended without answering");
}

void inbox_close(struct worker *w) {
        refuse_all(w, &w->asks_waiting, &w->n_asks_waiting, "the agent was told to end");
        refuse_all(w, &w->asks_taken, &w->n_asks_taken, "the agent was told to end");
}

/* ---- from crewd ---- */

static void drop(struct worker *w, const Crew__Envelope *e, const char *why) {
        bool notice = e->body_case == CREW__ENVELOPE__BODY_TERMINATION_NOTICE;

        if (!notice && e->deliver->ask)
                inbox_answer(w, e->seq, NULL, why);
        else
                worker_observe(w, "limit-inbox", "from %s: %s", notice ? "crewd" : e->deliver->sender, why);
}

static void to_rpc_agent(struct worker *w, struct letter *l) {
        bool ok = l->ask      ? rpc_agent_ask(w, l->seq, l->from, l->payload, time_left_ms(l))
                  : l->notice ? rpc_agent_notice(w, NOTICE_METHOD, l->payload)
                              : rpc_agent_message(w, l->from, l->payload);

        if (!ok && l->ask)
                inbox_answer(w, l->seq, NULL, "the agent has too many open asks");
        else if (!ok)
                worker_observe(w, "limit-inbox", "from %s: the agent does not read its stdin", l->from);
        free_letter(w, l);
}

void inbox_deliver(struct worker *w, const Crew__Envelope *e) {
        bool ask = e->body_case == CREW__ENVELOPE__BODY_DELIVER && e->deliver->ask;
        bool full = ask ? w->n_asks_waiting >= MAX_ASKS : w->n_letters >= MAX_LETTERS;
        struct letter *l;

        if (w->phase == WORKER_STOPPING) {
                drop(w, e, "the agent was told to end");
        } else if (full || w->letter_bytes > MAX_LETTER_BYTES) {
                drop(w, e, "its inbox is full");
        } else if (!(l = new_letter(w, e))) {
                drop(w, e, "out of memory");
        } else if (w->rpc && !client_waits(w)) {
                to_rpc_agent(w, l);
        } else {
                list_append(ask ? &w->asks_waiting : &w->letters, &l->link);
                *(ask ? &w->n_asks_waiting : &w->n_letters) += 1;
                client_letter(w);
                start_asks(w);
        }
}
