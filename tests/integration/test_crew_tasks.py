# SPDX-License-Identifier: Apache-2.0
"""Tasks: order, context, and agents that do not keep their side of the bargain."""

import json
import threading

import pytest

import crewd
from crewlib import AGENT, Crew, done_task, eventually


def test_results_go_to_the_tasks_that_name_them(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.task("one", "a", "out({'n': 1, 'summary': 'first'})")
    crew.task("two", "b", "out({'n': context['one']['n'] + 1})", context=["one"])
    crew.task("three", "a", "out({'sum': context['one']['n'] + context['two']['n']})", context=["one", "two"])
    with crew.start() as running:
        client = running.client()
        done = client.run(timeout=60)
        assert (done.tasks_ok, done.tasks_total) == (3, 3)
        assert done_task(done, "one").summary == "first"
        assert client.submit("three").result(60) == {"sum": 3}
    kinds = [r["kind"] for r in crew.records("a")]
    assert kinds.index("agent.policy") < kinds.index("agent.spawned") < kinds.index("agent.ready") < kinds.index("task.started")


BAD_AGENTS = {
    "nothing": ("pass", "printed nothing"),
    "no-json": ("print('hello')", "not one JSON value"),
    "two-values": ("print('1'); print('2')", "not one JSON value"),
    "bad-exit": ("out(1); sys.exit(3)", "status 3"),
    "dies": ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
    "too-much": ("out('x' * (5 << 20))", ""),
    "wrong-schema": ("out({'rows': 'many'})", "out.json: /rows"),
    "duplicate-keys": ("print('{\"rows\":1,\"rows\":2}')", "not one JSON value"),
}


@pytest.mark.parametrize("kind", BAD_AGENTS)
def test_an_agent_that_breaks_its_contract_fails_its_task_by_name(runner, kind):
    code, says = BAD_AGENTS[kind]
    crew = Crew(runner).agent("a").agent("b")
    crew.files["out.json"] = json.dumps({"type": "object", "properties": {"rows": {"type": "integer"}}, "required": ["rows"]})
    crew.task("bad", "a", code, output="out.json")
    crew.task("after", "b", context=["bad"])
    crew.task("other", "b", "out({'rows': 1})")
    with crew.start() as running:
        client = running.client()
        done = client.run(timeout=60)
        assert (done.tasks_ok, done.tasks_total) == (1, 3)
        bad, after = done_task(done, "bad"), done_task(done, "after")
        assert bad.state == "failed" and says in bad.error, bad.error
        assert after.state == "skipped" and after.error == "needs 'bad', which failed"
        # The agent itself is none the worse for it.
        assert client.submit(agent="a", description="out(7)").result(60) == 7


def test_an_agent_that_never_answers_is_cancelled_in_time(runner):
    crew = Crew(runner).agent("a").task("slow", "a", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
                                        timeout="1s")
    with crew.start() as running:
        client = running.client()
        done = client.run(timeout=60)
        assert done_task(done, "slow").state == "failed"
        error = done_task(done, "slow").error
        assert "1.0 s" in error or error == "timed out after 1000 ms", "by crewd's clock, or by the worker's"
        assert client.submit(agent="a", description="out(1)").result(60) == 1
    assert crew.records("a", "task.finished")[0]["cause"] == "timeout"


def test_a_submitted_task_has_the_context_of_the_run_that_began_meanwhile(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.task("one", "a", "time.sleep(1); out(os.getpid())").task("two", "b", "out(context)", context=["one"])
    with crew.start() as running:
        client, other, box = running.client(), running.client(), {}
        client.run()
        go = runner.home / "lib/t/state/b/go"
        other.submit(agent="b", description="while not os.path.exists(os.environ['CREW_STATE'] + '/go'): time.sleep(0.02)\nout(0)")
        two = other.submit(task="two")
        thread = threading.Thread(target=lambda: box.update(done=client.run()))
        thread.start()
        eventually(lambda: len(crew.records("a", "task.started")) == 2)
        go.touch()
        got = two.result(60)
        thread.join(60)
        assert box["done"].tasks_ok == 2
    assert got == {"one": json.loads((runner.home / "lib/t/out/one.json").read_text())}


def test_a_submitted_task_whose_context_failed_is_refused_by_that(runner):
    crew = Crew(runner).agent("a").agent("b").task("one", "a", "sys.exit(3)").task("two", "b", "out(1)", context=["one"])
    with crew.start() as running:
        client = running.client()
        client.run()
        with pytest.raises(crewd.Refused) as refused:
            client.submit(task="two").result(60)
    assert refused.value.message == "task 'two' needs the result of 'one', which failed"


def test_a_submitted_task_has_no_more_time_than_its_agent(runner):
    crew = Crew(runner).agent("a").task("slow", "a", "time.sleep(600)")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 500ms")
    with crew.start() as running:
        done = running.client().submit(task="slow", timeout_ms=60000).wait(60)
        assert done.outcome == crewd.Outcome.TIMEOUT
        assert done.error in ("no result within 0.5 s", "timed out after 500 ms"), "by crewd's clock, or by the worker's"
    assert [r["limit"] for r in crew.records("a", "limit.hit") if r["src"] == "crewd"] == ["wall_time"]


# Deaf the first time: it reads no cancel while it works.
DEAF = """#!/usr/bin/python3
import json, os, sys, time
seen = os.environ["CREW_STATE"] + "/seen"
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") != "task":
        continue
    if not os.path.exists(seen):
        open(seen, "w").close()
        time.sleep(600)
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": m["params"]["task"]}), flush=True)
"""


@pytest.mark.parametrize("action", ["reassign", "restart"])
def test_a_task_whose_agent_hangs_is_tried_again_and_the_next_one_is_not_lost(runner, action):
    crew = Crew(runner).agent("a", driver="stdio-rpc", on_agent_terminated=action, command=["python3", "${CREW_DIR}/deaf.py"])
    crew.files["deaf.py"] = DEAF
    crew.task("first", "a", timeout="3s", retries=1).task("second", "a")
    with crew.start() as running:
        done = running.client().run(timeout=60)
    assert [(t.name, t.state) for t in done.tasks] == [("first", "done"), ("second", "done")], done
    assert [(r["attempt"], r["cause"]) for r in crew.records("a", "task.retried")] == [(1, "timeout")]
    assert len(crew.records("a", "agent.terminated")) == 2  # and at the end of the crew


def test_a_task_whose_question_had_an_effect_is_not_tried_again(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b", tools=["pay"], targets=["c"])
    crew.tool("pay", "#!/bin/sh\ncat >/dev/null\necho '{}'\n", idempotent=False)
    crew.files["agent.py"] = AGENT.replace('exec(doc.get("description")', """
if doc["kind"] == "ask":
    call("tool", "pay", stdin={})
    out("paid")
    sys.exit(0)
exec(doc.get("description")""")
    crew.agent("c").task("buy", "a", "call('ask', 'b', stdin=5)\nsys.exit(1)", retries=3)
    with crew.start() as running:
        done = running.client().run()
    assert done_task(done, "buy").state == "failed"
    assert "not tried again: a tool that is not idempotent was called" in done_task(done, "buy").error
    assert len(crew.records("b", "tool.call")) == 1


RPC = """#!/usr/bin/python3
import json, sys
def say(**m): print(json.dumps({"jsonrpc": "2.0", **m}), flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") != "task": continue
    exec(m["params"]["description"])
"""


@pytest.mark.parametrize("code", [
    "say(id=m['id'], result=1); say(id=m['id'], result=2)",
    "say(id=m['id'] + 1000, result=1); say(id=m['id'], result=1)",
    "print('garbage', flush=True); say(id=m['id'], result=1)",
])
def test_a_talker_that_answers_twice_or_for_another_harms_only_itself(runner, code):
    crew = Crew(runner).agent("r", command=["python3", "${CREW_DIR}/rpc.py"], driver="stdio-rpc").agent("b")
    crew.files["rpc.py"] = RPC
    with crew.start() as running:
        client = running.client()
        done = client.submit(agent="r", description=code).wait(60)
        assert done.outcome in (crewd.Outcome.OK, crewd.Outcome.FAILED, crewd.Outcome.TERMINATED)
        assert client.submit(agent="b", description="out(2)").result(60) == 2


def test_independent_tasks_of_two_agents_overlap(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.task("one", "a", "time.sleep(1); out(1)").task("two", "b", "time.sleep(1); out(2)")
    with crew.start() as running:
        done = running.client().run(timeout=60)
        assert done.tasks_ok == 2
    began, ended = ([crew.records(a, kind)[0]["t"] for a in "ab"] for kind in ("task.started", "task.finished"))
    assert max(began) < min(ended)


def test_a_submitted_task_is_answered_once_and_a_bad_one_says_why(runner):
    crew = Crew(runner).agent("alpha").task("one", "alpha").task("two", "alpha", context=["one"])
    with crew.start() as running:
        client = running.client()
        with pytest.raises(crewd.UnknownAgent) as e:
            client.submit(agent="alhpa")
        assert "did you mean alpha?" in e.value.hint
        with pytest.raises(crewd.UnknownTask):
            client.submit("nosuch")
        with pytest.raises(crewd.Refused) as e:
            client.submit("two")
        assert "needs the result of 'one'" in e.value.message
        assert client.submit(agent="alpha", description="out(doc['input'])", input={"x": [1, "é"]}).result(60) == {"x": [1, "é"]}


def test_standard_error_is_in_the_audit_and_bounded(runner):
    crew = Crew(runner).agent("a").task("noisy", "a", "sys.stderr.write('A\\x1b[31mline\\n' + 'x' * (3 << 20)); out(1)")
    with crew.start() as running:
        assert running.client().run(timeout=60).tasks_ok == 1
    records = crew.records("a", "agent.stderr")
    assert records[0]["text"].startswith("A\x1b[31mline\n")
    assert sum(len(r.get("text", "")) for r in records) <= (1 << 20) + 4096
    assert sum(r.get("dropped", 0) for r in records) > 0
    raw = (runner.home / "lib" / "t" / "audit" / "a" / "log.jsonl").read_bytes()
    assert b"\x1b" not in raw
    assert runner.crewctl("audit", "verify").returncode == 0


def test_crewctl_run_says_what_failed(runner):
    crew = Crew(runner).agent("a").task("bad", "a", "sys.exit(2)")
    r = runner.crewctl("run", crew.write(), timeout=60)
    assert r.returncode == 1
    assert "bad" in r.stdout and "status 2" in r.stdout


def test_a_task_goes_on_without_its_client(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        one = running.client()
        one.submit(agent="a", description="time.sleep(0.5); out(1)")
        one.close()
        two = running.client()
        eventually(lambda: [r for r in crew.records("a", "task.finished") if r["outcome"] == "ok"])
        assert two.submit(agent="a", description="out(2)").result(60) == 2
