/* SPDX-License-Identifier: Apache-2.0 */
/* The command comes from the operator, so it is the one that no plan lists; it runs as the agent's program would. */
#include "execs.h"

#include "common/util.h"
#include "inbox.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define MAX_INPUT_WAITING (4u << 20)

struct exec_run {
        struct list link;
        struct program program;
        uint64_t corr;
        uint64_t window, unread; /* bytes of output: what may be on its way (0: any number), what is */
};

void execs_init(struct worker *w) {
        list_init(&w->execs);
}

static void send_output(struct program *p, uint32_t stream, const char *data, size_t n) {
        struct exec_run *r = container_of(p, struct exec_run, program);
        Crew__ExecOutput body = CREW__EXEC_OUTPUT__INIT;

        body.stream = stream;
        body.data = (ProtobufCBinaryData){n, (uint8_t *)data};
        worker_send(p->w, &ENVELOPE(EXEC_OUTPUT, .corr = r->corr, .exec_output = &body));
        r->unread += n;
        p->held_back = r->window && r->unread >= r->window;
}

static bool on_exec_stdout(struct program *p, const char *data, size_t n) {
        send_output(p, 1, data, n);
        return true;
}

static void on_exec_stderr(struct program *p, const char *data, size_t n) {
        send_output(p, 2, data, n);
}

static void send_exit(struct worker *w, uint64_t corr, int code, int sig, const char *error) {
        Crew__ExecExit body = CREW__EXEC_EXIT__INIT;

        body.exit_code = code;
        body.term_signal = sig;
        body.error = (char *)error;
        worker_send(w, &ENVELOPE(EXEC_EXIT, .corr = corr, .exec_exit = &body));
}

static void on_exec_end(struct program *p) {
        struct exec_run *r = container_of(p, struct exec_run, program);
        struct worker *w = p->w;

        send_exit(w, r->corr, program_exit_code(p), program_term_signal(p), "");
        list_remove(&r->link);
        w->n_execs--;
        free(r);
        inbox_programs_ended(w);
}

static const struct program_ops exec_ops = {
        .on_stdout = on_exec_stdout, .on_stderr = on_exec_stderr, .on_end = on_exec_end};

static int start_command(struct worker *w, struct exec_run *r, const Crew__ExecStart *s, struct crew_err *err) {
        const char **argv = calloc(s->n_argv + 1, sizeof(char *));

        if (!argv)
                return crew_fail(err, ENOMEM, "out of memory");
        for (size_t i = 0; i < s->n_argv; i++)
                argv[i] = s->argv[i];
        int ret = program_start(
                w, &r->program,
                &(struct program_spec){
                        .ops = &exec_ops, .source = "exec", .argv = argv, .program = w->agent, .keep_stdin = true},
                err);
        free(argv);
        return ret;
}

void exec_start(struct worker *w, uint64_t seq, const Crew__ExecStart *s) {
        struct crew_err err = CREW_ERR_NULL;
        struct exec_run *r = NULL;
        char why[200];

        if (w->phase == WORKER_STOPPING || w->n_execs >= MAX_EXECS + (s->health ? 1u : 0u) || s->n_argv == 0)
                crew_fail(&err, EBUSY, s->n_argv ? "too many commands run here" : "no command");
        else if (!(r = calloc(1, sizeof(*r))))
                crew_fail(&err, ENOMEM, "out of memory");
        if (!r || start_command(w, r, s, &err) < 0) {
                text_clean(err.msg, strlen(err.msg), why, sizeof(why));
                send_exit(w, seq, err.code == ENOENT ? 127 : 126, 0, why); /* as sh has it */
                free(r);
                return;
        }
        r->corr = seq;
        r->window = s->window;
        list_append(&w->execs, &r->link);
        w->n_execs++;
}

static struct exec_run *find_exec(struct worker *w, uint64_t corr) {
        list_for_each(it, &w->execs) {
                struct exec_run *r = container_of(it, struct exec_run, link);
                if (r->corr == corr)
                        return r;
        }
        return NULL;
}

void exec_input(struct worker *w, uint64_t corr, const Crew__ExecInput *i) {
        struct exec_run *r = find_exec(w, corr);

        if (!r)
                return; /* it has just ended */
        if (i->send_signal > 0 && i->send_signal < SIGRTMAX)
                program_signal(&r->program, i->send_signal);
        if (i->data.len && !program_write(&r->program, (const char *)i->data.data, i->data.len, MAX_INPUT_WAITING))
                program_stop(&r->program, PROGRAM_CANCELLED, 0); /* its input would be incomplete */
        if (i->eof)
                program_end_stdin(&r->program);
        if (i->taken) {
                r->unread -= MIN_OF(r->unread, (uint64_t)i->taken);
                r->program.held_back = r->window && r->unread >= r->window;
                program_resume(&r->program);
        }
}
