/* SPDX-License-Identifier: Apache-2.0 */
#include "execs.h"

#include "bytes.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "journal.h"
#include "text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

struct exec {
        bool used;
        uint64_t client, corr; /* client 0: it has hung up */
        uint32_t agent;
        uint64_t seq;  /* of the ExecStart */
        uint32_t owed; /* bytes of its output that its worker is not told yet that they are read */
};

struct execs {
        struct crewd *crewd;
        struct exec items[EXECS_MAX];
};

struct execs *execs_new(struct crewd *c) {
        struct execs *x = calloc(1, sizeof(*x));

        if (x)
                x->crewd = c;
        return x;
}

struct execs *execs_free(struct execs *x) {
        free(x);
        return NULL;
}

static struct exec *free_slot(struct execs *x) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                if (!x->items[i].used)
                        return &x->items[i];
        }
        return NULL;
}

static struct exec *by_worker(struct execs *x, const struct agent *a, uint64_t corr) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                struct exec *it = &x->items[i];
                if (it->used && it->agent == a->index && it->seq == corr)
                        return it;
        }
        return NULL;
}

static void join_words(const Crew__ClientExec *what, char *out, size_t out_size) {
        size_t n = 0;

        out[0] = '\0';
        for (size_t i = 0; i < what->n_argv && n + 1 < out_size; i++)
                n += (size_t)snprintf(out + n, out_size - n, "%s%s", i ? " " : "", what->argv[i]);
}

int execs_start(struct execs *x, struct agent *a, uint64_t client, uint64_t corr, const Crew__ClientExec *what,
                struct crew_err *err) {
        Crew__ExecStart body = CREW__EXEC_START__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct exec *it = free_slot(x);
        char words[1024];

        if (!it)
                return crew_fail(err, EAGAIN, "%u commands run already", EXECS_MAX);
        if (what->n_argv == 0)
                return crew_fail(err, EINVAL, "no command given");
        join_words(what, words, sizeof(words));
        if (journal_exec(a, control_client_name(x->crewd->control, client), words) < 0)
                return crew_fail(err, EIO, "the agent's audit stream cannot be written");
        body.n_argv = what->n_argv;
        body.argv = what->argv;
        body.window = EXEC_WINDOW;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_START;
        e.exec_start = &body;
        int r = agent_send(a, &e, &it->seq);
        if (r < 0)
                return crew_fail(err, -r, "agent %s cannot take a command now: %s", agent_name(a), strerror(-r));
        it->used = true;
        it->client = client;
        it->corr = corr;
        it->agent = a->index;
        it->owed = 0;
        return 0;
}

static int send_input(struct execs *x, const struct exec *it, const Crew__ExecInput *body) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        e.corr = it->seq;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_INPUT;
        e.exec_input = (Crew__ExecInput *)body;
        return agent_send(&x->crewd->agents[it->agent], &e, NULL);
}

static void kill_command(struct execs *x, const struct exec *it) {
        Crew__ExecInput body = CREW__EXEC_INPUT__INIT;

        body.eof = true;
        body.send_signal = SIGKILL;
        send_input(x, it, &body);
}

/* The client's terminal message; the slot stays until the worker's ExecExit. */
static void tell(struct execs *x, struct exec *it, int code, int signal_number, const char *text) {
        Crew__Done body = CREW__DONE__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        uint64_t client = it->client;
        char cut[512];

        text_copy(cut, sizeof(cut), text, SIZE_MAX);
        body.exit_code = code;
        body.term_signal = signal_number;
        body.text = cut;
        e.corr = it->corr;
        e.body_case = CREW__ENVELOPE__BODY_DONE;
        e.done = &body;
        it->client = 0;
        if (client)
                control_send(x->crewd->control, client, &e);
}

static void finish(struct execs *x, struct exec *it, int code, int signal_number, const char *text) {
        tell(x, it, code, signal_number, text);
        *it = (struct exec){0};
}

static void give_up(struct execs *x, struct exec *it) {
        kill_command(x, it);
        tell(x, it, -1, SIGKILL, "input came faster than the agent takes it");
}

bool execs_input(struct execs *x, uint64_t client, const Crew__Envelope *e) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                struct exec *it = &x->items[i];
                if (!it->used || it->client != client || it->corr != e->corr)
                        continue;
                Crew__ExecInput body = *e->exec_input;
                body.taken = 0; /* not for a client to say */
                if (send_input(x, it, &body) == -EAGAIN)
                        give_up(x, it);
                return true;
        }
        return false;
}

bool execs_output(struct execs *x, struct agent *a, const Crew__Envelope *e) {
        struct exec *it = by_worker(x, a, e->corr);
        Crew__Envelope out = CREW__ENVELOPE__INIT;

        if (!it)
                return false;
        if (it->client == 0)
                return true;
        out.corr = it->corr;
        out.body_case = CREW__ENVELOPE__BODY_EXEC_OUTPUT;
        out.exec_output = e->exec_output;
        it->owed += (uint32_t)e->exec_output->data.len;
        control_send(x->crewd->control, it->client, &out);
        return true;
}

/* In steps: a frame each for what is read would be as many as there are of output. */
static void tell_taken(struct execs *x, struct exec *it) {
        Crew__ExecInput body = CREW__EXEC_INPUT__INIT;

        if (it->owed < EXEC_WINDOW / 4)
                return;
        body.taken = it->owed;
        it->owed = 0;
        if (send_input(x, it, &body) == -EAGAIN)
                give_up(x, it);
}

void execs_client_reads(struct execs *x, uint64_t client) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                struct exec *it = &x->items[i];
                if (it->used && it->client == client)
                        tell_taken(x, it);
        }
}

bool execs_exit(struct execs *x, struct agent *a, const Crew__Envelope *e) {
        struct exec *it = by_worker(x, a, e->corr);

        if (!it)
                return false;
        finish(x, it, e->exec_exit->exit_code, e->exec_exit->term_signal, e->exec_exit->error);
        return true;
}

void execs_agent_gone(struct execs *x, uint32_t agent, const char *why) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                if (x->items[i].used && x->items[i].agent == agent)
                        finish(x, &x->items[i], -1, SIGKILL, why);
        }
}

void execs_client_gone(struct execs *x, uint64_t client) {
        for (size_t i = 0; i < EXECS_MAX; i++) {
                struct exec *it = &x->items[i];
                if (!it->used || it->client != client)
                        continue;
                it->client = 0;
                kill_command(x, it);
        }
}

void execs_save(const struct execs *x, struct bytes_out *b) {
        BYTES_PUT(b, x->items);
}

int execs_load(struct execs *x, struct bytes_in *b) {
        BYTES_GET(b, x->items);
        for (size_t i = 0; i < EXECS_MAX; i++) {
                struct exec *it = &x->items[i];
                it->client = 0; /* of the crewd before */
                it->used &= it->agent < x->crewd->n_agents;
        }
        return b->failed ? -EBADMSG : 0;
}
