/* SPDX-License-Identifier: Apache-2.0 */
/* Programs under a real worker: tasks of both drivers, deadlines, strays, stderr, exec, shutdown, the link's end. */
#include "common/sanitized.h"
#include "common/util.h"
#include "fake_crewd.h"
#include "worker/worker.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static void start_exec(struct fake_crewd *f, const char *script) {
        fake_start(f, &(struct fake_agent){.driver = PLAN_DRIVER_EXEC_JSON, .script = script});
}

/* One task of a script; the result stays valid until the next frame. */
static const Crew__TaskResult *run_one(struct fake_crewd *f, const char *script, uint64_t timeout_ms) {
        start_exec(f, script);
        fake_task(f, "t-1", "{\"kind\":\"task\",\"n\":0.1}", timeout_ms);
        const Crew__TaskResult *r = fake_result(f);
        assert_string_equal(r->task_id, "t-1");
        return r;
}

static void assert_contains(const char *text, const char *part) {
        if (!strstr(text, part))
                fail_msg("'%s' is not in '%s'", part, text);
}

static uint64_t ms_since(uint64_t ns) {
        return (crew_now_ns() - ns) / 1000000u;
}

/* ---- exec-json ---- */

static void a_task_gets_its_json_and_its_answer_is_kept_byte_for_byte(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r = run_one(&f, "cat", 0);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_OK);
        assert_string_equal(r->result, "{\"kind\":\"task\",\"n\":0.1}");
        assert_contains(f.observed, "exec: agent: /bin/sh -c cat");
        assert_int_equal(fake_stop(&f), 0);
}

static void the_environment_is_what_the_plan_says_and_no_more(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r;

        setenv("SECRET_OF_THE_HOST", "1", 1);
        r = run_one(&f,
                    "env | sort | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sed 's/=.*//' | tr '\\n' ' ' | sed 's/.*/\"&\"/'",
                    0);
        assert_string_equal(r->result, "\"CREW_AGENT CREW_SOCKET CREW_TASK PATH \"");
        fake_stop(&f);
}

static void a_large_task_input_is_fed_whole(void **state) {
        size_t n = 3u << 20;
        char *input = malloc(n + 1);
        struct fake_crewd f;

        memset(input, 'x', n);
        input[0] = input[n - 1] = '"';
        input[n] = '\0';
        start_exec(&f, "wc -c");
        fake_task(&f, "t-1", input, 0);
        assert_int_equal(strtoul(fake_result(&f)->result, NULL, 10), n + 1);
        fake_stop(&f);
        free(input);
}

static void output_that_is_not_one_json_value_fails_the_task(void **state) {
        static const struct {
                const char *script, *why;
        } bad[] = {
                {"echo '{'", "not one JSON value: ends too early"},
                {"echo 1 2", "more than one JSON value"},
                {":", "printed nothing"},
                {"printf '\"\\377\"'", "not valid UTF-8"},
                {"echo '{\"a\":1,\"a\":2}'", "duplicate key"},
        };
        struct fake_crewd f;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                const Crew__TaskResult *r = run_one(&f, bad[i].script, 0);
                assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_FAILED);
                assert_contains(r->error, bad[i].why);
                fake_stop(&f);
        }
}

static void failing_programs_say_how_and_their_last_words(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r = run_one(&f, "echo '{}'; echo first >&2; echo 'boom \033[31m' >&2; exit 3", 0);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_FAILED);
        assert_int_equal(r->exit_code, 3);
        assert_string_equal(r->error, "exited with status 3: boom  [31m");
        fake_stop(&f);
        r = run_one(&f, "kill -SEGV $$", 0);
        assert_int_equal(r->term_signal, SIGSEGV);
        assert_contains(r->error, "killed by signal 11 (SIGSEGV)");
        fake_stop(&f);
        r = run_one(&f, "kill -SYS $$", 0);
        assert_contains(r->error, "SIGSYS");
        fake_stop(&f);
}

static void a_program_that_is_not_there_fails_the_task(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r = run_one(&f, "exec /nowhere/at/all", 0);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_FAILED);
        assert_int_equal(r->exit_code, 127);
        fake_stop(&f);
}

static void too_much_output_is_cut_at_once(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r;

        fake_start(&f, &(struct fake_agent){.driver = PLAN_DRIVER_EXEC_JSON, .script = "yes", .max_output = 65536});
        fake_task(&f, "t-1", "{}", 0);
        r = fake_result(&f);
        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_FAILED);
        assert_string_equal(r->error, "wrote more than 65536 bytes to stdout");
        assert_contains(f.observed, "limit-output: agent: over 65536 bytes");
        fake_processes_become(&f, 1);
        fake_stop(&f);
}

static void output_of_exactly_the_limit_is_taken(void **state) {
        struct fake_crewd f;

        fake_start(&f, &(struct fake_agent){.driver = PLAN_DRIVER_EXEC_JSON,
                                            .script = "printf '\"'; head -c 65534 /dev/zero | tr '\\0' x; printf '\"'",
                                            .max_output = 65536});
        fake_task(&f, "t-1", "{}", 0);
        const Crew__TaskResult *r = fake_result(&f);
        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_OK);
        assert_int_equal(strlen(r->result), 65536);
        fake_stop(&f);
}

static void a_hanging_task_times_out_by_term(void **state) {
        struct fake_crewd f;
        uint64_t start = crew_now_ns();
        const Crew__TaskResult *r = run_one(&f, "sleep 60", 150);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
        assert_string_equal(r->error, "timed out after 150 ms");
        assert_true(ms_since(start) >= 150);
        assert_contains(f.observed, "limit-wall: agent");
        fake_stop(&f);
}

static void a_task_that_ignores_term_is_killed_with_all_it_started(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r =
                run_one(&f, "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 61 & sleep 62' & sleep 63; sleep 64", 100);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
        assert_int_equal(r->term_signal, SIGKILL);
        fake_processes_become(&f, 1);
        fake_stop(&f);
}

static void a_cancelled_task_says_cancelled(void **state) {
        Crew__TaskCancel c = CREW__TASK_CANCEL__INIT;
        struct fake_crewd f;

        start_exec(&f, "sleep 60");
        fake_task(&f, "t-1", "{}", 0);
        c.task_id = (char *)"t-1";
        fake_send(&f, &FAKE_ENVELOPE(TASK_CANCEL, .task_cancel = &c));
        assert_int_equal(fake_result(&f)->outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        fake_stop(&f);
}

static void more_tasks_than_the_limit_are_refused_not_queued(void **state) {
        struct fake_crewd f;
        char id[16];

        start_exec(&f, "sleep 60");
        for (int i = 0; i < 9; i++) {
                snprintf(id, sizeof(id), "t-%d", i);
                fake_task(&f, id, "{}", 0);
        }
        const Crew__TaskResult *r = fake_result(&f);
        assert_string_equal(r->task_id, "t-8");
        assert_contains(r->error, "too many tasks");
        fake_stop(&f);
}

/* ---- strays ---- */

static void nothing_survives_the_last_program(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r =
                run_one(&f, "(setsid sleep 61 &) ; (sleep 62 &) ; setsid sh -c '(sleep 63 &)'; echo 1", 0);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_OK);
        fake_processes_become(&f, 1);
        fake_stop(&f);
}

static uint64_t exec_window(struct fake_crewd *f, const char *script, uint32_t window) {
        char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script};
        Crew__ExecStart s = CREW__EXEC_START__INIT;

        s.argv = argv;
        s.n_argv = 3;
        s.window = window;
        return fake_send(f, &FAKE_ENVELOPE(EXEC_START, .exec_start = &s));
}

static uint64_t exec_sh(struct fake_crewd *f, const char *script) {
        return exec_window(f, script, 0);
}

static void a_stray_dies_while_other_programs_and_their_children_live(void **state) {
        struct fake_crewd f;

        /* Runs: sh, and below it a sleep in a session of its own. */
        start_exec(&f, "setsid sleep 60 & read go; read go; echo '\"survived\"'; wait");
        fake_task(&f, "t-1", "{}", 0);
        fake_processes_become(&f, 3);
        /* Leaves an orphan in a session of its own; one that hides from /proc is killed all the same. */
        exec_sh(&f, "setsid sh -c '(sleep 61 &)'; "
                    "python3 -c 'import ctypes,os,time\nif os.fork()==0:\n os.setsid()\n ctypes.CDLL(None).prctl(4,0)\n"
                    " time.sleep(62)'; exit 7");
        assert_int_equal(fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_EXIT)->exec_exit->exit_code, 7);
        fake_processes_become(&f, 3);
        fake_stop(&f);
}

/* ---- stderr ---- */

static void stderr_is_forwarded_up_to_its_budget_and_the_rest_counted(void **state) {
        struct fake_crewd f;
        const Crew__TaskResult *r = run_one(&f, "head -c 3000000 /dev/zero >&2; echo 1", 0);

        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_OK);
        assert_int_equal(f.stderr_bytes, 1u << 20);
        assert_int_equal(f.stderr_dropped, 3000000 - (1 << 20));
        fake_stop(&f);
}

static void stderr_byte_by_byte_is_not_a_frame_a_byte(void **state) {
        const Crew__Envelope *e;
        struct fake_crewd f;
        unsigned frames = 0;
        size_t bytes = 0;

        start_exec(&f, "i=0; while [ $i -lt 5000 ]; do printf x >&2; i=$((i+1)); done; echo 1");
        fake_task(&f, "t-1", "{}", 0);
        while ((e = fake_next(&f))->body_case != CREW__ENVELOPE__BODY_TASK_RESULT) {
                if (e->body_case != CREW__ENVELOPE__BODY_STDERR_TEXT)
                        continue;
                frames++;
                bytes += e->stderr_text->text.len;
        }
        assert_int_equal(bytes, 5000);
        assert_true(frames < 1000);
        fake_stop(&f);
}

/* ---- exec ---- */

static void send_input(struct fake_crewd *f, uint64_t corr, const char *data, bool eof, int sig) {
        Crew__ExecInput i = CREW__EXEC_INPUT__INIT;

        i.data = (ProtobufCBinaryData){strlen(data), (uint8_t *)data};
        i.eof = eof;
        i.send_signal = sig;
        fake_send(f, &FAKE_ENVELOPE(EXEC_INPUT, .corr = corr, .exec_input = &i));
}

static void exec_streams_both_ways_and_ends_with_the_status(void **state) {
        struct fake_crewd f;
        unsigned streams = 0;
        const Crew__Envelope *e;

        start_exec(&f, "cat");
        uint64_t seq = exec_sh(&f, "cat; echo oops >&2; exit 9");
        send_input(&f, seq, "hello", true, 0);
        for (int i = 0; i < 2; i++) { /* two pipes: in either order */
                e = fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_OUTPUT);
                const char *text = e->exec_output->stream == 1 ? "hello" : "oops\n";
                assert_int_equal(e->corr, seq);
                assert_true(e->exec_output->stream > 0 && !(streams & 1u << e->exec_output->stream));
                streams |= 1u << e->exec_output->stream;
                assert_int_equal(e->exec_output->data.len, 5);
                assert_memory_equal(e->exec_output->data.data, text, 5);
        }
        assert_int_equal(streams, 1u << 1 | 1u << 2);
        e = fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_EXIT);
        assert_int_equal(e->corr, seq);
        assert_int_equal(e->exec_exit->exit_code, 9);
        fake_stop(&f);
}

static void exec_passes_signals_on(void **state) {
        struct fake_crewd f;

        start_exec(&f, "cat");
        uint64_t seq = exec_sh(&f, "trap 'exit 33' INT; echo up; while :; do sleep 0.01; done");
        fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_OUTPUT);
        send_input(&f, seq, "", false, SIGINT);
        assert_int_equal(fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_EXIT)->exec_exit->exit_code, 33);
        fake_stop(&f);
}

static unsigned long worker_rss_kib(const struct fake_crewd *f) {
        char path[64], line[256];
        unsigned long kib = 0;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)f->pid);
        _cleanup_fclose_ FILE *s = fopen(path, "r");
        while (s && fgets(line, sizeof(line), s))
                if (sscanf(line, "VmRSS: %lu kB", &kib) == 1)
                        break;
        return kib;
}

static void a_slow_link_stops_the_program_not_the_memory(void **state) {
        struct fake_crewd f;
        unsigned long before, after;

        start_exec(&f, "cat");
        before = worker_rss_kib(&f);
        uint64_t seq = exec_sh(&f, "yes");
        usleep(400000); /* we do not read */
        after = worker_rss_kib(&f);
        assert_true(before > 0);
        assert_true(after < before + 4096);
        send_input(&f, seq, "", false, SIGKILL);
        while (fake_next(&f)->body_case != CREW__ENVELOPE__BODY_EXEC_EXIT)
                ;
        fake_processes_become(&f, 1);
        fake_stop(&f);
}

static size_t read_output(struct fake_crewd *f, size_t at_least) {
        size_t n = 0;

        while (n < at_least)
                n += fake_expect(f, CREW__ENVELOPE__BODY_EXEC_OUTPUT)->exec_output->data.len;
        return n;
}

static void say_taken(struct fake_crewd *f, uint64_t corr, uint32_t n) {
        Crew__ExecInput i = CREW__EXEC_INPUT__INIT;

        i.taken = n;
        fake_send(f, &FAKE_ENVELOPE(EXEC_INPUT, .corr = corr, .exec_input = &i));
}

static void a_command_is_held_back_until_its_output_is_taken(void **state) {
        enum { WINDOW = 16384, ONE_READ = 4096 };
        struct fake_crewd f;

        start_exec(&f, "cat");
        uint64_t seq = exec_window(&f, "yes & yes >&2", WINDOW);
        size_t unread = read_output(&f, WINDOW);
        for (int i = 0; i < 3; i++) {
                assert_in_range(unread, WINDOW, WINDOW + 2 * ONE_READ);
                assert_true(fake_is_quiet(&f, 100));
                say_taken(&f, seq, 5000);
                unread += read_output(&f, 5000 - (unread - WINDOW)) - 5000;
        }
        say_taken(&f, seq, UINT32_MAX); /* more than it said: no more room than there is */
        assert_in_range(read_output(&f, WINDOW), WINDOW, WINDOW + 2 * ONE_READ);
        assert_true(fake_is_quiet(&f, 100));
        send_input(&f, seq, "", false, SIGKILL);
        while (fake_next(&f)->body_case != CREW__ENVELOPE__BODY_EXEC_EXIT)
                ;
        fake_stop(&f);
}

/* ---- stdio-rpc ---- */

#define RPC_AGENT                                                                                                          \
        "import sys,json,time,os\n"                                                                                        \
        "def say(**m): print(json.dumps(dict(m,jsonrpc='2.0')),flush=True)\n"                                              \
        "for line in sys.stdin:\n"                                                                                         \
        "  m=json.loads(line); p=m.get('params'); i=m.get('id')\n"

static void start_rpc(struct fake_crewd *f, const char *python) {
        fake_start(f, &(struct fake_agent){.driver = PLAN_DRIVER_STDIO_RPC, .python = python});
}

/* Answers "up" at once: then it has started, which on a busy machine takes longer than any time a task is given below. */
#define RPC_AGENT_UP RPC_AGENT "  if p and p.get('up'):\n    say(id=i,result='up'); continue\n"

static void await_rpc(struct fake_crewd *f) {
        fake_task(f, "t-0", "{\"up\":1}", 0);
        assert_string_equal(fake_result(f)->result, "\"up\"");
}

static void one_process_serves_many_tasks(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT "  say(id=i,result={'pid':os.getpid(),'got':p['x']})\n");
        fake_task(&f, "t-1", "{\"x\":\n1}", 0);
        const Crew__TaskResult *r = fake_result(&f);
        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_OK);
        char first[64];
        snprintf(first, sizeof(first), "%s", r->result);
        fake_task(&f, "t-2", "{\"x\":1}", 0);
        assert_string_equal(fake_result(&f)->result, first);
        fake_stop(&f);
}

static void the_end_of_another_agent_is_a_notification(void **state) {
        Crew__TerminationNotice body = CREW__TERMINATION_NOTICE__INIT;
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT "  if m['method']=='agent.terminated': told=[i,p]\n"
                                "  else: say(id=i,result=told)\n");
        body.id = 7;
        body.agent = (char *)"a";
        body.record = (char *)"{\"id\":7,\"cause\":\"operator\"}";
        fake_send(&f, &FAKE_ENVELOPE(TERMINATION_NOTICE, .termination_notice = &body));
        fake_task(&f, "t-1", "{}", 0);
        assert_string_equal(fake_result(&f)->result, "[null, {\"id\": 7, \"cause\": \"operator\"}]");
        fake_stop(&f);
}

static void an_error_answer_fails_the_task_with_its_text(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT "  say(id=i,error={'code':1,'message':'no data'})\n");
        fake_task(&f, "t-1", "{}", 0);
        const Crew__TaskResult *r = fake_result(&f);
        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_FAILED);
        assert_string_equal(r->error, "no data");
        fake_stop(&f);
}

static void a_second_answer_is_dropped_and_noted(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT "  say(id=i,result=1); say(id=i,result=2)\n");
        fake_task(&f, "t-1", "{}", 0);
        assert_string_equal(fake_result(&f)->result, "1");
        for (int i = 0; i < 1000 && !strstr(f.observed, "limit-protocol"); i++) {
                fake_processes(&f);
                usleep(5000);
        }
        assert_contains(f.observed, "limit-protocol: an answer to id 1, which is not open");
        fake_stop(&f);
}

static void the_answer_of_a_foreign_task_is_not_taken(void **state) {
        struct fake_crewd f;

        start_rpc(&f,
                  RPC_AGENT "  say(id=i+1000,result='forged'); say(id=str(i),result='forged'); say(id=i,result='own')\n");
        fake_task(&f, "t-1", "{}", 0);
        assert_string_equal(fake_result(&f)->result, "\"own\"");
        assert_contains(f.observed, "an answer to id 1001, which is not open");
        assert_contains(f.observed, "an answer to id \"1\", which is not open");
        fake_stop(&f);
}

static void an_agent_that_talks_nonsense_is_ended(void **state) {
        struct fake_crewd f;

        start_rpc(&f, "import time\nfor i in range(100): print('nonsense',flush=True)\ntime.sleep(60)\n");
        assert_int_equal(fake_wait(&f), 128 + SIGKILL);
}

/* The last frame of a worker whose program is over. */
static const Crew__AgentEnded *last_word(struct fake_crewd *f) {
        const Crew__Envelope *e;

        while ((e = fake_next(f)) && e->body_case == CREW__ENVELOPE__BODY_OBSERVED)
                ;
        assert_non_null(e);
        assert_int_equal(e->body_case, CREW__ENVELOPE__BODY_AGENT_ENDED);
        return e->agent_ended;
}

static void a_line_without_end_ends_the_agent(void **state) {
        struct fake_crewd f;

        start_rpc(&f, "import sys\nwhile True: sys.stdout.write('x'*65536)\n");
        const Crew__AgentEnded *b = last_word(&f);
        assert_int_equal(b->end, CREW__AGENT_END__AGENT_END_LIMIT);
        assert_int_equal(b->term_signal, SIGKILL);
        assert_contains(b->detail, "wrote a line of more than ");
        assert_int_equal(fake_wait(&f), 128 + SIGKILL);
}

static void the_end_of_the_agent_is_the_end_of_pid_1(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT "  os._exit(5)\n");
        fake_task(&f, "t-1", "{}", 0);
        const Crew__AgentEnded *b = last_word(&f);
        assert_int_equal(b->end, CREW__AGENT_END__AGENT_END_BY_ITSELF);
        assert_int_equal(b->exit_code, 5);
        assert_int_equal(b->term_signal, 0);
        assert_string_equal(b->detail, "its program exited with status 5; no result for task t-1");
        assert_null(fake_next(&f));
        assert_int_equal(fake_wait(&f), 5);
}

static void a_stdio_task_that_hangs_is_asked_then_the_agent_is_ended(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT_UP "  time.sleep(60)\n");
        await_rpc(&f);
        fake_task(&f, "t-1", "{}", 100);
        /* Without a result: what says that its task is over is taken for free. */
        const Crew__AgentEnded *ended = fake_expect(&f, CREW__ENVELOPE__BODY_AGENT_ENDED)->agent_ended;
        assert_int_equal(ended->end, CREW__AGENT_END__AGENT_END_DEADLINE);
        assert_non_null(strstr(ended->detail, "t-1 was over its time, and the program did not answer 'cancel'"));
        assert_int_equal(fake_wait(&f), 128 + SIGTERM);
}

static void what_it_says_when_it_is_being_ended_is_no_result(void **state) {
        struct fake_crewd f;

        start_rpc(&f, "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (say(id=i, result='late'), "
                      "sys.exit(0)))\n" RPC_AGENT_UP "  time.sleep(60)\n");
        await_rpc(&f);
        fake_task(&f, "t-1", "{}", 100);
        const Crew__AgentEnded *ended = fake_expect(&f, CREW__ENVELOPE__BODY_AGENT_ENDED)->agent_ended;
        assert_int_equal(ended->end, CREW__AGENT_END__AGENT_END_DEADLINE);
        assert_int_equal(fake_wait(&f), 0);
}

static void a_stdio_agent_that_obeys_cancel_lives_on(void **state) {
        struct fake_crewd f;

        start_rpc(&f, RPC_AGENT_UP "  if m['method']=='task':\n    i0=i\n    if p.get('quick'): say(id=i,result='ok')\n"
                                   "  if m['method']=='cancel': say(id=i0,error={'code':0,'message':p['task_id']})\n");
        await_rpc(&f);
        fake_task(&f, "t-1", "{}", 100);
        const Crew__TaskResult *r = fake_result(&f);
        assert_int_equal(r->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
        assert_string_equal(r->error, "timed out after 100 ms");
        fake_task(&f, "t-2", "{\"quick\":1}", 0);
        assert_string_equal(fake_result(&f)->result, "\"ok\"");
        fake_stop(&f);
}

/* ---- shutdown and the link ---- */

static void shut_down(struct fake_crewd *f, uint64_t grace_ms) {
        Crew__Shutdown s = CREW__SHUTDOWN__INIT;

        s.grace_ms = grace_ms;
        fake_send(f, &FAKE_ENVELOPE(SHUTDOWN, .shutdown = &s));
}

static void shutdown_lets_programs_end_in_order(void **state) {
        struct fake_crewd f;

        start_exec(&f, "trap 'echo bye >&2; exit 0' TERM; echo up >&2; while :; do sleep 0.02; done");
        fake_task(&f, "t-1", "{}", 0);
        while (!strstr(f.stderr_text, "up"))
                fake_processes(&f);
        uint64_t start = crew_now_ns();
        shut_down(&f, 300000);
        assert_int_equal(fake_result(&f)->outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_contains(f.stderr_text, "bye");
        assert_int_equal(fake_wait(&f), 0);
        assert_true(ms_since(start) < 60000);
}

static void shutdown_does_not_wait_longer_than_the_grace(void **state) {
        uint64_t start = crew_now_ns();
        struct fake_crewd f;

        start_exec(&f, "trap '' TERM; while :; do sleep 60; done");
        fake_task(&f, "t-1", "{}", 0);
        fake_processes_become(&f, 3);
        shut_down(&f, 200);
        assert_int_equal(fake_result(&f)->outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_int_equal(fake_wait(&f), 0);
        assert_true(ms_since(start) >= 200);
}

static void an_idle_worker_shuts_down_at_once(void **state) {
        struct fake_crewd f;

        start_exec(&f, "cat");
        shut_down(&f, 60000);
        assert_int_equal(fake_wait(&f), 0);
}

static void nothing_outlives_the_link(void **state) {
        char asked[128];
        struct fake_crewd f;

        start_exec(&f, "trap ': > $CREW_SOCKET.asked' TERM HUP; (setsid sleep 300 &); sleep 300 & while :; do wait; done");
        fake_task(&f, "t-1", "{}", 0);
        fake_processes_become(&f, 4);
        snprintf(asked, sizeof(asked), "%s.asked", f.socket);
        uint64_t start = crew_now_ns();
        assert_int_equal(fake_stop(&f), 0); /* pid 1 is reaped only when its namespace is empty */
        assert_true(ms_since(start) < 60000);
        assert_int_equal(access(asked, F_OK), -1); /* there was no grace */
}

static void crewd_itself_must_keep_the_protocol(void **state) {
        Crew__Welcome welcome = CREW__WELCOME__INIT;
        Crew__Ping ping = CREW__PING__INIT;
        struct fake_crewd f;

        welcome.protocol = 1;
        start_exec(&f, "cat");
        fake_send(&f, &FAKE_ENVELOPE(WELCOME, .welcome = &welcome)); /* a second one */
        assert_int_equal(fake_wait(&f), 71);

        start_exec(&f, "cat");
        f.seq_out++; /* a gap */
        fake_send(&f, &FAKE_ENVELOPE(PING, .ping = &ping));
        assert_int_equal(fake_wait(&f), 71);

        start_exec(&f, "cat");
        assert_int_equal(crew_write_full(f.fd, "GET / HTTP/1.1\r\n\r\n", 18), 0);
        assert_int_equal(fake_wait(&f), 71);

        fake_start(&f, &(struct fake_agent){.driver = PLAN_DRIVER_EXEC_JSON, .script = "cat", .no_welcome = true});
        fake_task(&f, "t-1", "{}", 0); /* before Welcome */
        assert_int_equal(fake_wait(&f), 71);
}

static void an_exec_that_cannot_start_says_why(void **state) {
        char *argv[] = {(char *)"/nowhere/at/all"};
        Crew__ExecStart none = CREW__EXEC_START__INIT;
        const Crew__ExecExit *e;
        struct fake_crewd f;

        start_exec(&f, "cat");
        fake_send(&f, &FAKE_ENVELOPE(EXEC_START, .exec_start = &none));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_EXIT)->exec_exit;
        assert_int_equal(e->exit_code, 126);
        assert_string_equal(e->error, "no command");
        none.argv = argv;
        none.n_argv = 1;
        fake_send(&f, &FAKE_ENVELOPE(EXEC_START, .exec_start = &none));
        assert_int_equal(fake_expect(&f, CREW__ENVELOPE__BODY_EXEC_EXIT)->exec_exit->exit_code, 127);
        fake_stop(&f);
}

static unsigned long private_dirty_kib(const struct fake_crewd *f) {
        char path[64], line[256];
        unsigned long kib = 0;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)f->pid);
        _cleanup_fclose_ FILE *s = fopen(path, "r");
        while (s && fgets(line, sizeof(line), s))
                if (sscanf(line, "Private_Dirty: %lu kB", &kib) == 1)
                        break;
        return kib;
}

static void memory_of_a_large_task_is_given_back(void **state) {
        size_t n = 3u << 20;
        char *input = malloc(n + 1);
        struct fake_crewd f;
        unsigned long idle;

        memset(input, 'x', n);
        input[0] = input[n - 1] = '"';
        input[n] = '\0';
        start_exec(&f, "cat");
        idle = private_dirty_kib(&f);
        fake_task(&f, "t-1", input, 0);
        assert_int_equal(fake_result(&f)->outcome, CREW__OUTCOME__OUTCOME_OK);
        fake_processes_become(&f, 1);
#if !CREW_SANITIZED /* which keeps freed memory on purpose */
        assert_true(private_dirty_kib(&f) <= idle + 256);
#endif
        assert_true(idle > 0);
        fake_stop(&f);
        free(input);
}

static void a_worker_runs_as_pid_1_only(void **state) {
        const struct plan none = {0};

        assert_int_equal(worker_run(&(struct worker_config){.plan = &none, .link_fd = -1, .socket_path = "/dev/null/x"}),
                         70);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_task_gets_its_json_and_its_answer_is_kept_byte_for_byte),
                cmocka_unit_test(the_environment_is_what_the_plan_says_and_no_more),
                cmocka_unit_test(a_large_task_input_is_fed_whole),
                cmocka_unit_test(output_that_is_not_one_json_value_fails_the_task),
                cmocka_unit_test(failing_programs_say_how_and_their_last_words),
                cmocka_unit_test(a_program_that_is_not_there_fails_the_task),
                cmocka_unit_test(too_much_output_is_cut_at_once),
                cmocka_unit_test(output_of_exactly_the_limit_is_taken),
                cmocka_unit_test(a_hanging_task_times_out_by_term),
                cmocka_unit_test(a_task_that_ignores_term_is_killed_with_all_it_started),
                cmocka_unit_test(a_cancelled_task_says_cancelled),
                cmocka_unit_test(more_tasks_than_the_limit_are_refused_not_queued),
                cmocka_unit_test(nothing_survives_the_last_program),
                cmocka_unit_test(a_stray_dies_while_other_programs_and_their_children_live),
                cmocka_unit_test(stderr_is_forwarded_up_to_its_budget_and_the_rest_counted),
                cmocka_unit_test(stderr_byte_by_byte_is_not_a_frame_a_byte),
                cmocka_unit_test(exec_streams_both_ways_and_ends_with_the_status),
                cmocka_unit_test(exec_passes_signals_on),
                cmocka_unit_test(an_exec_that_cannot_start_says_why),
                cmocka_unit_test(memory_of_a_large_task_is_given_back),
                cmocka_unit_test(a_worker_runs_as_pid_1_only),
                cmocka_unit_test(a_slow_link_stops_the_program_not_the_memory),
                cmocka_unit_test(a_command_is_held_back_until_its_output_is_taken),
                cmocka_unit_test(one_process_serves_many_tasks),
                cmocka_unit_test(the_end_of_another_agent_is_a_notification),
                cmocka_unit_test(an_error_answer_fails_the_task_with_its_text),
                cmocka_unit_test(a_second_answer_is_dropped_and_noted),
                cmocka_unit_test(the_answer_of_a_foreign_task_is_not_taken),
                cmocka_unit_test(an_agent_that_talks_nonsense_is_ended),
                cmocka_unit_test(a_line_without_end_ends_the_agent),
                cmocka_unit_test(the_end_of_the_agent_is_the_end_of_pid_1),
                cmocka_unit_test(a_stdio_task_that_hangs_is_asked_then_the_agent_is_ended),
                cmocka_unit_test(what_it_says_when_it_is_being_ended_is_no_result),
                cmocka_unit_test(a_stdio_agent_that_obeys_cancel_lives_on),
                cmocka_unit_test(shutdown_lets_programs_end_in_order),
                cmocka_unit_test(shutdown_does_not_wait_longer_than_the_grace),
                cmocka_unit_test(an_idle_worker_shuts_down_at_once),
                cmocka_unit_test(nothing_outlives_the_link),
                cmocka_unit_test(crewd_itself_must_keep_the_protocol),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
