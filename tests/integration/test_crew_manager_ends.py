# SPDX-License-Identifier: Apache-2.0
"""A hierarchical crew over more than one run, and what outlasts its manager."""

import json
import time

import pytest

from crewd import AgentState
from crewlib import Crew, agent_status, done_task, eventually, state_of
from hostilelib import HostileCrew
from test_crew_instances import SPAWN
from test_crew_manager import boss, managed, run, running_tasks

READY, WORKING = AgentState.READY, AgentState.WORKING
CALL_OFF = "\nm = order('receive', '--timeout', '60s')\norder('cancel', i)\nout(order('wait', i))"


def result_of(crew, task="lead"):
    return json.loads((crew.runner.home / f"lib/t/out/{task}.json").read_text())


def test_a_key_is_of_one_run(runner):
    crew = boss(managed(runner), """
i = order("release", "job", stdin={"key": "k"})["task_id"]
out([i, order("wait", i)["result"], submit("a", "out(1)", key="once") == submit("a", "out(1)", key="once")])""")
    crew.task("job", "b", "out(os.getpid())")
    with crew.start() as running:
        client = running.client()
        first, before = client.run(), result_of(crew)
        second, after = client.run(), result_of(crew)
    assert first.tasks_ok == second.tasks_ok == 2, second
    assert before[0] != after[0] and before[2] and after[2]
    assert len(crew.records("b", "task.finished")) == 2


def test_a_key_stands_for_one_request(runner):
    crew = boss(managed(runner), """
i = submit("a", "out(1)", key="k")
out([refused("submit", "b", stdin={"description": "out(1)", "key": "k"}),
     refused("submit", "a", stdin={"description": "out(2)", "key": "k"}), submit("a", "out(1)", key="k") == i, i])""")
    _, (other, text, same, first) = run(crew)
    for answer in (other, text):
        assert answer[:2] == [5, -32009] and answer[2] == f"key 'k' stands for task {first}, which was asked for differently"
    assert same and len(crew.records("a", "task.started")) == 1


def test_a_run_lasts_until_what_was_handed_out_is_done(runner):
    crew = boss(managed(runner), "submit('a', 'time.sleep(1); out(1)')\nout('handed out')")
    r = runner.crewctl("run", crew.write())
    assert r.returncode == 0, r.stderr
    finished, = crew.records("a", "task.finished")
    assert finished["outcome"] == "ok"


def test_a_result_too_large_for_an_answer_is_said_to_be(runner):
    crew = boss(managed(runner), "t = order('wait', submit('a', \"out('x' * (4194304 - 2))\"))\nout([t['outcome'], t['result'], t['error']])")
    _, (outcome, result, error) = run(crew)
    assert (outcome, result) == ("ok", None)
    assert error == "its result has 4194304 bytes, more than an answer to the manager can hold"


def killed_while_it_comes_back(running, client):
    client.kill("boss", reason="first")
    eventually(lambda: state_of(client, "boss") != WORKING)
    while state_of(client, "boss") != AgentState.TERMINATED:
        try:
            client.kill("boss", reason="again")
        except Exception:  # it was waiting to be restarted, and will not be now
            pass


def called_off(crew, why):
    for name in ("a#2", "b"):
        finished, = crew.records(name, "task.finished")
        assert (finished["cause"], finished["reason"]) == ("cancelled", why)


def manager_that_lingers(runner, **keys):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: boss"
    crew.agent("boss", targets=["a", "b"], **keys).agent("a", max_instances=3).agent("b")
    return boss(crew, SPAWN + "n = spawn('a')\nsubmit(n, 'time.sleep(600)')\nsubmit('b', 'time.sleep(600)')\ntime.sleep(600)")


def all_at_work(client):
    agents = {a.name: a.state for a in client.status().agents}
    return agents.get("a#2") == WORKING and agents["b"] == WORKING


def test_a_manager_that_is_killed_while_it_comes_back_leaves_nothing(runner):
    crew = manager_that_lingers(runner, restart={"max": 9, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        with running_tasks(running) as box:
            eventually(lambda: all_at_work(client))
            killed_while_it_comes_back(running, client)
        assert box["done"].tasks_ok == 0
        eventually(lambda: "a#2" not in [a.name for a in client.status().agents] and state_of(client, "b") == READY)
    called_off(crew, "its manager is gone")


def test_a_manager_that_comes_back_without_its_task_keeps_its_instances(runner):
    crew = manager_that_lingers(runner, on_agent_terminated="restart")
    with crew.start() as running:
        client = running.client()
        with running_tasks(running):
            eventually(lambda: all_at_work(client))
            client.kill("boss", reason="test")
        eventually(lambda: state_of(client, "boss") == READY)
        eventually(lambda: agent_status(client, "a#2").state == READY)
    called_off(crew, "its manager ended, and with it the task that handed it out")


DEAF = """#!/usr/bin/python3
import json, sys, time
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "task":
        time.sleep(m["params"]["input"])
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": "done"}), flush=True)
"""


@pytest.mark.parametrize("action", ["fail_task", "stop_crew"])
def test_a_manager_can_waste_a_task_but_no_agent(runner, action):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: boss"
    crew.agent("boss", targets=["a"])
    crew.agent("a", driver="stdio-rpc", command=["python3", "${CREW_DIR}/deaf.py"], on_agent_terminated=action)
    crew.files["deaf.py"] = DEAF
    boss(crew, """
def give(seconds, **more):
    return order("wait", order("submit", "a", stdin={"input": seconds, **more})["task_id"])
out([give(600, timeout_ms=1)["outcome"], give(0)["result"]])""")
    done, result = run(crew)
    assert done.tasks_ok == 1 and result == ["timeout", "done"]
    assert crew.records("a", "agent.terminated")[0]["action"] == "restart"


# A manager that hands a task out and is deaf to its own end; the second time it says that it may end, and waits for it.
DEAF_BOSS = """#!/usr/bin/python3
import json, os, socket, subprocess, sys, time
def call(*args, stdin=None):
    r = subprocess.run(["crew-call", *args], input=json.dumps(stdin or {}), text=True, stdout=subprocess.PIPE)
    return json.loads(r.stdout)
handed_out = os.environ["CREW_STATE"] + "/handed-out"
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") != "task":
        continue
    task = call("submit", "a", stdin={"description": "call('receive'); out(7)", "key": "k"})
    if not os.path.exists(handed_out):
        open(handed_out, "w").close()
        time.sleep(600)
    call("send", "a")
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": call("wait", task["task_id"])["result"]}), flush=True)
"""


def deaf_manager(runner, action, retries):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: boss"
    crew.agent("boss", driver="stdio-rpc", command=["python3", "${CREW_DIR}/boss.py"], targets=["a"], on_agent_terminated=action)
    crew.files["boss.py"] = DEAF_BOSS
    return crew.agent("a").task("lead", "boss", timeout="5s", retries=retries)


def test_what_a_manager_handed_out_goes_on_with_its_task(runner):
    crew = deaf_manager(runner, "restart", 1)
    with crew.start() as running:
        done = running.client().run(timeout=60)
    assert done_task(done, "lead").state == "done" and result_of(crew) == 7
    assert [r["outcome"] for r in crew.records("a", "task.finished")] == ["ok"]


def test_what_a_manager_handed_out_ends_with_its_task(runner):
    crew = deaf_manager(runner, "reassign", 0)
    with crew.start() as running:
        done = running.client().run(timeout=60)
    assert done_task(done, "lead").state == "failed"
    assert [(r["cause"], r["reason"]) for r in crew.records("a", "task.finished")] == [
        ("cancelled", "its manager ended, and with it the task that handed it out")]


def frozen_and_called_off(crew, running, box_check):
    client = running.client()
    with running_tasks(running) as box:
        eventually(lambda: state_of(client, "a") == WORKING)
        client.freeze("a", reason="look at it")
        client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").result(60)
        eventually(lambda: ("cancel", "allowed") in [(r["verb"], r["verdict"]) for r in crew.records("boss", "manager.order")])
        box_check(client)
    return box["done"]


@pytest.mark.waits
def test_one_that_is_frozen_is_not_killed_for_a_task_that_is_called_off(runner):
    crew = boss(managed(runner), "i = submit('a', 'time.sleep(600)')" + CALL_OFF)
    crew.files["b.yaml"] = crew.files["b.yaml"].replace("allowed_targets: []", "allowed_targets: [boss]")

    def check(client):
        time.sleep(4)  # twice what it would have
        assert state_of(client, "a") == WORKING and agent_status(client, "a").pid
        client.thaw("a")

    with crew.start() as running:
        done = frozen_and_called_off(crew, running, check)
        assert state_of(running.client(), "a") == READY, "it has stopped as it was told to"
    assert done.tasks_ok == 1 and result_of(crew)["outcome"] == "cancelled"
    assert crew.records("a", "task.finished")[0]["cause"] == "cancelled"


def test_one_that_was_frozen_when_it_was_told_and_does_not_stop_is_killed_afterwards(runner):
    crew = HostileCrew(runner).agent("b", targets=["boss"])
    crew.process = "hierarchical\nmanager: {agent: boss}"
    crew.agent("boss", targets=["a"])
    crew.hostile("a", "begin()\nstay()")
    boss(crew, "i = submit('a', 'x')" + CALL_OFF)
    with crew.start() as running:
        done = frozen_and_called_off(crew, running, lambda client: client.thaw("a"))
    assert done.tasks_ok == 1 and result_of(crew)["outcome"] == "cancelled"
    ended = crew.records("a", "agent.terminated")[0]
    assert ended["cause"] == "deadline" and ended["reason"] == "task ad-hoc was cancelled and did not stop"
