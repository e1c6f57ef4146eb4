# SPDX-License-Identifier: Apache-2.0
"""A hierarchical crew: what its manager may order, and what becomes of it."""

import contextlib
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from crewd import AgentState
from crewlib import Crew, agent_status, done_task, eventually

SOURCE = Path(__file__).resolve().parents[2]

READY, WORKING = AgentState.READY, AgentState.WORKING
VERBS = {"crew_agents", "crew_submit", "crew_wait", "crew_cancel", "crew_reprioritise", "crew_result", "crew_ask",
         "crew_terminations", "crew_seen", "crew_spawn", "crew_retire"}

# What a manager's program has beside call(): orders by crew-call.
ORDERS = """
def order(verb, *args, stdin=None):
    code, doc = call(verb, *args, stdin=stdin)
    assert code == 0, doc
    return doc
def submit(agent, description, **more):
    return order("submit", agent, stdin={"description": description, **more})["task_id"]
def refused(verb, *args, stdin=None):
    code, doc = call(verb, *args, stdin=stdin)
    return [code, doc.get("error", {}).get("code"), doc.get("error", {}).get("message")]
"""


def managed(runner, manager='{agent: boss}', targets=("a", "b"), restart=None):
    crew = Crew(runner)
    crew.process = f"hierarchical\nmanager: {manager}"
    crew.agent("boss", targets=targets, **({"restart": restart} if restart else {}))
    return crew.agent("a").agent("b")


def boss(crew, code, **keys):
    return crew.task("lead", "boss", ORDERS + code, **keys)


def run(crew):
    with crew.start() as running:
        client = running.client()
        done = client.run()
        return done, json.loads(result.read_text()) if (result := crew.runner.home / "lib/t/out/lead.json").exists() else None


@contextlib.contextmanager
def running_tasks(running):
    """The crew's tasks beside what the block does; CrewDone is in box["done"] behind it."""
    box, client = {}, running.client()
    thread = threading.Thread(target=lambda: box.update(done=client.run()))
    thread.start()
    yield box
    thread.join(60)
    assert "done" in box


def orders(crew, agent="boss"):
    return [(r["verb"], r["verdict"], r.get("to")) for r in crew.records(agent, "manager.order")]


def test_what_it_hands_out_is_done_and_comes_back(runner):
    crew = boss(managed(runner), """
ids = [submit(name, f"out({n})") for n, name in enumerate(["a", "b", "a"])]
out([order("wait", i) for i in ids])""")
    done, result = run(crew)
    assert done.tasks_ok == done.tasks_total == 1, done
    assert [(t["agent"], t["outcome"], t["state"], t["result"]) for t in result] == [
        ("a", "ok", "done", 0), ("b", "ok", "done", 1), ("a", "ok", "done", 2)]
    assert orders(crew)[:3] == [("submit", "allowed", name) for name in "aba"]
    started = crew.records("a", "task.started")
    assert [r["by"] for r in started] == ["boss", "boss"]


def test_it_sees_whom_it_may_address_and_nobody_else(runner):
    crew = boss(managed(runner, targets=["a"]), "out(order('agents'))")
    _, result = run(crew)
    assert [a["name"] for a in result["agents"]] == ["a"]
    assert result["agents"][0]["state"] == "ready" and result["agents"][0]["queued"] == 0


@pytest.mark.parametrize("target", ["b", "boss", "nosuch", "a\n\"x"])
def test_a_task_for_an_unlisted_agent_is_denied_and_recorded(runner, target):
    crew = boss(managed(runner, targets=["a"]), f"out(refused('submit', {target!r}, stdin={{}}))")
    _, result = run(crew)
    assert result[:2] == [3, -32001] and "ipc.allowed_targets" in result[2]
    record, = crew.records("boss", "manager.order")
    assert (record["verb"], record["verdict"], record["to"]) == ("submit", "denied", target)
    assert record["rule"].split(":")[0].endswith("boss.yaml")
    assert not crew.records("b", "task.started")


def test_a_task_of_the_crew_file_for_an_unlisted_agent_is_denied_too(runner):
    crew = boss(managed(runner, targets=["a"]), "out(refused('release', 'other', stdin={}))").task("other", "b")
    done, result = run(crew)
    assert result[:2] == [3, -32001]
    assert done_task(done, "other").state == "skipped"


def test_nobody_else_has_the_verbs(runner):
    crew = boss(managed(runner), "out(order('wait', submit('a', '''out([call('submit', 'b', stdin={}), call('agents'), "
                                 "call('tool', 'crew_submit', stdin={'agent': 'b'}), call('tools')])'''))['result'])")
    _, result = run(crew)
    for code, doc in result[:3]:
        assert (code, doc["error"]["code"]) == (3, -32001), doc
        assert "only the manager" in doc["error"]["message"]
    assert result[3] == [0, {"tools": []}]
    denied = [r for r in crew.records("a", "manager.order")]
    assert denied and all(r["verdict"] == "denied" for r in denied)
    assert sum(r.get("count", 1) for r in denied) == 3
    assert not crew.records("b", "task.started")
    assert not crew.records("a", "agent.kill"), "asking is no protocol violation"


def test_as_mcp_tools_it_has_exactly_the_verbs(runner):
    crew = boss(managed(runner), """
import os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CREW_SOCKET"]); f = s.makefile("rw")
def rpc(method, **params):
    f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n"); f.flush()
    return json.loads(f.readline())
def tool(name, **arguments):
    return rpc("tools/call", name=name, arguments=arguments)["result"]
t = tool("crew_submit", agent="a", description="out('x')")["structuredContent"]
w = tool("crew_wait", task_id=t["task_id"])
out([[t["name"] for t in rpc("tools/list")["result"]["tools"]], w["structuredContent"]["result"], w["isError"],
     tool("crew_ask", target="b", payload=5)["structuredContent"],
     rpc("tools/call", name="crew_wait", arguments={"task_id": t["task_id"], "x": 1})["error"]["message"]])""")
    _, result = run(crew)
    assert set(result[0]) == VERBS
    assert result[1:3] == ["x", False]
    assert result[3] == {"asked": 5}
    assert result[4] == "params has a member that this verb does not take: x"


def test_tasks_at_once_and_in_all_are_bounded(runner):
    crew = boss(managed(runner, manager="{agent: boss, tasks_at_once: 2, tasks_total: 3}"), """
slow = [submit(n, "call('receive')\\nout(1)") for n in ("a", "b")]
first = refused("submit", "a", stdin={})
for n in ("a", "b"): order("send", n)
for i in slow: order("wait", i)
order("wait", submit("a", "out(2)"))
out([first, refused("submit", "a", stdin={})])""")
    _, result = run(crew)
    assert result[0] == [5, -32006, "2 tasks are unfinished, which is manager.tasks_at_once"]
    assert result[1] == [5, -32006, "3 tasks were handed out, which is manager.tasks_total"]
    denied = [r for r in crew.records("boss", "manager.order") if r["verdict"] == "denied"]
    assert [r["rule"].endswith("crew.yaml:3") for r in denied] == [True, True]


def test_a_second_submit_with_the_key_is_the_first(runner):
    crew = boss(managed(runner), """
ids = [submit("a", "out(7)", key="one") for n in range(3)]
out([ids, order("wait", ids[2])["result"]])""")
    _, result = run(crew)
    assert len(set(result[0])) == 1 and result[1] == 7
    assert len(crew.records("a", "task.started")) == 1


def test_a_queued_task_with_higher_priority_goes_first(runner):
    crew = boss(managed(runner), """
block = submit("a", "call('receive')\\nout(0)")
low, mid, top = (submit("a", f"out({n})", priority=p) for n, p in ((1, 0), (2, 5), (3, 0)))
assert order("result", low)["state"] == "waiting"
order("reprioritise", top, stdin={"priority": 9})
order("send", "a")
for i in (low, mid, top): order("wait", i)
out([[low, mid, top], refused("reprioritise", low, stdin={"priority": 1})])""")
    _, result = run(crew)
    low, mid, top = result[0]
    assert [r["task_id"] for r in crew.records("a", "task.started")][1:] == [top, mid, low]
    assert result[1][:2] == [5, -32009]


def test_a_cancelled_task_ends_and_its_agent_is_told(runner):
    crew = boss(managed(runner), """
running = submit("a", '''
def stop(*_):
    print("told", file=sys.stderr); sys.stderr.flush(); sys.exit(1)
signal.signal(signal.SIGTERM, stop)
call("send", "boss", stdin="up")
time.sleep(600)''')
queued = submit("a", "out(1)")
assert order("receive")["payload"] == "up"
assert order("result", running)["state"] == "running"
for i in (queued, running): order("cancel", i, stdin={"reason": "not needed"})
out([order("wait", i) for i in (queued, running)] + [refused("cancel", queued)])""")
    crew.agent("a", targets=["boss"])
    _, result = run(crew)
    assert [(t["state"], t["outcome"]) for t in result[:2]] == [("cancelled", "cancelled")] * 2
    assert all(t["error"] == "called off by boss: not needed" for t in result[:2])
    assert result[2][1] == -32009
    assert "told" in "".join(r["text"] for r in crew.records("a", "agent.stderr"))
    finished, = crew.records("a", "task.finished")
    assert (finished["outcome"], finished["cause"]) == ("failed", "cancelled")
    assert not crew.records("a", "agent.kill")


def test_a_task_has_no_more_time_than_its_agent(runner):
    crew = boss(managed(runner), """
out(order("wait", submit("a", "time.sleep(600)", timeout_ms=60000))["error"])""")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 500ms")
    _, result = run(crew)
    assert result in ("no result within 0.5 s", "timed out after 500 ms"), "by crewd's clock, or by the worker's"


def test_a_wait_ends_in_time(runner):
    crew = boss(managed(runner), """
t = submit("a", "call('receive')\\nout(1)")
late = refused("wait", t, "--timeout", "200ms")
order("send", "a")
out([late, order("wait", t)["outcome"], refused("wait", "t-999")])""")
    _, result = run(crew)
    assert result[0][1] == -32005 and result[1] == "ok"
    assert result[2][:2] == [4, -32002]


def test_an_agent_that_dies_gives_its_task_one_outcome(runner):
    crew = boss(managed(runner), """
t = submit("a", "time.sleep(600)")
out(order("wait", t))""")
    with crew.start() as running:
        other = running.client()
        with running_tasks(running) as box:
            eventually(lambda: agent_status(other, "a").state == WORKING)
            other.kill("a", reason="test")
        assert box["done"].tasks_ok == 1
    result = json.loads((crew.runner.home / "lib/t/out/lead.json").read_text())
    assert (result["state"], result["outcome"]) == ("failed", "terminated")
    assert len(crew.records("a", "task.finished")) == 1


def test_without_its_manager_what_was_handed_out_is_called_off(runner):
    crew = boss(managed(runner), """
submit("a", "time.sleep(600)"); submit("a", "out(1)"); submit("b", "time.sleep(600)")
time.sleep(600)""")
    with crew.start() as running:
        other = running.client()
        with running_tasks(running) as box:
            eventually(lambda: all(agent_status(other, n).state == WORKING for n in ("boss", "a", "b")))
            other.kill("boss", reason="test")
        assert box["done"].tasks_ok == 0
        eventually(lambda: all(agent_status(other, n).state == READY for n in ("a", "b")))
        time.sleep(0.2)
    for name in ("a", "b"):
        finished, = crew.records(name, "task.finished")
        assert (finished["cause"], finished["reason"]) == ("cancelled", "its manager is gone")


def test_tasks_it_does_not_hand_out_are_skipped(runner):
    crew = boss(managed(runner), "out(order('wait', order('release', 'one', stdin={'input': 7})['task_id'])['result'])")
    crew.task("one", "a", "out(doc['input'])").task("two", "b").task("three", "b", context=["two"])
    done, result = run(crew)
    assert result == 7
    assert [done_task(done, t).state for t in ("lead", "one", "two", "three")] == ["done", "done", "skipped", "skipped"]
    assert done_task(done, "two").error == "the manager did not hand it out"


def test_a_failed_task_is_tried_again_up_to_its_retries(runner):
    flaky = ("import os\\nn = int(open('/tmp/n').read()) if os.path.exists('/tmp/n') else 0\\n"
             "open('/tmp/n', 'w').write(str(n + 1))\\n")
    crew = boss(managed(runner), f"""
ok = submit("a", "{flaky}" + "out(n) if n == 2 else sys.exit(1)", retries=2)
no = submit("b", "sys.exit(1)", retries=1)
out([order("wait", i) for i in (ok, no)])""")
    _, result = run(crew)
    assert [(t["outcome"], t["attempts"], t["result"]) for t in result] == [("ok", 3, 2), ("failed", 2, None)]
    assert [r["attempt"] for r in crew.records("a", "task.retried")] == [1, 2]
    assert len(crew.records("a", "task.finished")) == len(crew.records("b", "task.finished")) == 1


@pytest.mark.parametrize("idempotent,attempts", [(True, 3), (False, 1), (None, 1)])
def test_a_task_whose_tool_may_not_be_repeated_is_not_tried_again(runner, idempotent, attempts):
    crew = Crew(runner).agent("a", tools=["pay"])
    crew.tool("pay", "#!/bin/sh\necho '{}'\n", **({} if idempotent is None else {"idempotent": idempotent}))
    crew.task("buy", "a", "call('tool', 'pay', stdin={})\nsys.exit(1)", retries=2)
    with crew.start() as running:
        done = running.client().run()
    assert done_task(done, "buy").state == "failed"
    assert len(crew.records("a", "tool.call")) == attempts
    assert len(crew.records("a", "task.started")) == attempts
    assert ("not idempotent" in done_task(done, "buy").error) == (attempts == 1)


def test_an_agent_that_dies_after_such_a_call_does_not_repeat_it(runner):
    crew = Crew(runner).agent("a", tools=["pay"], restart={"max": 3, "within": "60s"})
    crew.tool("pay", "#!/bin/sh\necho '{}'\n", idempotent=False)
    crew.task("buy", "a", "call('tool', 'pay', stdin={})\ntime.sleep(600)")
    with crew.start() as running:
        other = running.client()
        with running_tasks(running) as box:
            eventually(lambda: crew.records("a", "tool.return"))
            other.kill("a", reason="test")
        task = done_task(box["done"], "buy")
    assert task.state == "failed" and "not run again: a tool that is not idempotent was called" in task.error
    assert len(crew.records("a", "tool.call")) == 1


def test_the_example_runs(runner):
    top = runner.home / "market-desk"
    shutil.copytree(SOURCE / "examples/market-desk", top)
    runner.own(top)
    r = runner.crewctl("run", str(top / "crew.yaml"))
    assert r.returncode == 0, r.stdout + r.stderr
    table = json.loads((runner.home / "lib/market-desk/out/table.json").read_text())
    assert {row["symbol"] for row in table["rows"]} == {"AAPL", "AMZN", "GOOG", "IBM", "MSFT"}
    orders = [r for r in runner.records("market-desk", "desk-head") if r["kind"] == "manager.order"]
    assert sum(r["verb"] == "submit" for r in orders) == 6
    assert not any(r["kind"].startswith("file.") and r.get("verdict") != "denied" and "data" in r.get("path", "")
                   for r in runner.records("market-desk", "desk-head"))
    assert runner.crewctl("audit", "verify").returncode == 0
