# SPDX-License-Identifier: Apache-2.0
"""What cannot be put on record is not done: one agent's stream cannot be written any more, and then something is wanted of
it, or by it."""

import contextlib
import json
import os
import signal
import threading
import time

import pytest

import crewd
from crewlib import Crew, agent_status, done_task, eventually, state_of
from holdlib import spawner_of
from test_crew_consensus import VOTER, board, result
from test_crew_governed import CONTINUED, rpc_crew
from test_crew_hold import TICKS, ticks
from test_crew_manager import managed

# Streams may grow no further than this, and one of them is there already.
FULL = 100000
MUCH = "os.write(2, b'x' * 150000 + b'\\nup\\n')\n"
# Connected before, so that nothing of it is on record but what it asks for.
ASKS = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["CREW_SOCKET"])
f = s.makefile("rw")
def ask(method, **params):
    f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n")
    f.flush()
    return json.loads(f.readline())
"""
DONE = """
with open(os.environ["CREW_STATE"] + "/answer", "w") as f:
    json.dump(answer, f)
os.rename(f.name, os.environ["CREW_STATE"] + "/done")
time.sleep(600)
"""
WAIT = """
while not os.path.exists(os.environ["CREW_STATE"] + "/go"):
    time.sleep(0.01)
"""


def go(crew, agent):
    (crew.runner.home / "lib" / crew.name / "state" / agent / "go").touch()


@contextlib.contextmanager
def limited(crew, running):
    def limit(n):
        crew.runner.run("prlimit", f"--fsize={n}:unlimited", "--pid", running.proc.pid, check=True)
    limit(FULL)
    yield
    limit("unlimited")


@contextlib.contextmanager
def unwritable(crew, running, agent):
    """Its stream takes no more; that it is to be frozen for it has not reached the spawner yet."""
    client = running.client()
    eventually(lambda: "".join(r["text"] for r in crew.records(agent, "agent.stderr")).endswith("\nup\n"))
    spawner = spawner_of(agent_status(client, agent).pid)
    os.kill(spawner, signal.SIGSTOP)
    try:
        with limited(crew, running), pytest.raises(crewd.Refused):
            client.exec(agent, ["true"])
        yield
    finally:
        os.kill(spawner, signal.SIGCONT)


def asked_in_vain(crew, running, agent, code):
    """What the code, which asks for something at its end, is answered."""
    client = running.client()
    client.submit(agent=agent, description=ASKS + MUCH + code + DONE)
    state = crew.runner.home / "lib" / crew.name / "state" / agent
    with unwritable(crew, running, agent):
        go(crew, agent)
        eventually(lambda: (state / "done").exists())
    answer = json.loads((state / "done").read_text())
    assert answer["error"]["message"] == "the audit cannot be written", answer
    return client


HOPS = "hops = os.open(os.environ['CREW_STATE'] + '/hops', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
HARD_TO_STOP = {
    # Always another process.
    "hops": "if os.fork() == 0:\n  while True:\n    os.write(hops, b'.')\n    if os.fork() != 0: os._exit(0)\ntime.sleep(600)\n",
    "continued": CONTINUED.replace("- t < 12:", "- t < 600:\n    os.write(hops, b'.')"),
}


@pytest.mark.parametrize("kind", HARD_TO_STOP)
def test_one_that_is_hard_to_stop_does_not_run_on(runner, kind):
    """Frozen, however long that takes, or ended: never thawed because it takes too long."""
    crew = rpc_crew(runner, "a") if kind == "continued" else Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=HOPS + MUCH + HARD_TO_STOP[kind])
        hops = crew.runner.home / "lib" / crew.name / "state" / "a" / "hops"
        eventually(lambda: hops.exists() and hops.stat().st_size > 100)
        eventually(lambda: "".join(r["text"] for r in crew.records("a", "agent.stderr")).endswith("\nup\n"))

        def still():
            before = hops.stat().st_size
            time.sleep(0.5)
            return hops.stat().st_size == before

        with limited(crew, running):
            with pytest.raises(crewd.Refused):
                client.exec("a", ["true"])
            eventually(still, timeout=60)
            time.sleep(2)
            assert still(), "it ran on"


def test_a_value_is_not_shared(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.extra = "memory:\n  notes: {write: [a], read: [b]}\n"
    with crew.start() as running:
        client = asked_in_vain(crew, running, "a", WAIT + "answer = ask('memory/put', space='notes', key='k', value=1)")
        assert client.submit(agent="b", description="out(call('memory-list', 'notes')[1]['keys'])").result(60) == []


def test_a_message_is_not_delivered(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    with crew.start() as running:
        client = asked_in_vain(crew, running, "a", WAIT + "answer = ask('crew/send', target='b', payload=1)")
        assert client.submit(agent="b", description=ASKS + "out(ask('crew/receive', timeout_ms=0)['result'])").result(60) is None
    assert not crew.records("b", "message.received")


@pytest.mark.parametrize("order", ["submit", "spawn", "cancel"])
def test_no_order_of_a_manager_is_carried_out(runner, order):
    crew = managed(runner).task("lead", "boss")
    crew.agents["a"]["max_instances"] = 2
    code = {"submit": WAIT + "answer = ask('crew/submit', agent='b', description='out(1)')",
            "spawn": WAIT + "answer = ask('crew/spawn', agent='a')",
            "cancel": "id = ask('crew/submit', agent='a', description='time.sleep(600)')['result']['task_id']\n" + WAIT +
                      "answer = ask('crew/cancel', task_id=id)"}
    with crew.start() as running:
        client = asked_in_vain(crew, running, "boss", code[order])
        assert not crew.records("b", "task.started") and {a.name for a in client.status().agents} == {"a", "b", "boss"}
        assert bool(agent_status(client, "a").task) == (order == "cancel")


def test_no_task_is_cancelled(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=MUCH + "time.sleep(600)")
        with unwritable(crew, running, "a"):
            with pytest.raises(crewd.Refused) as e:
                client.cancel(task.id)
            assert e.value.code == "failed" and e.value.message == (
                f"task {task.id} is not cancelled: the audit of agent a cannot be written")
        assert agent_status(client, "a").task and not crew.records("a", "task.cancel")


def test_no_tool_is_granted(runner):
    crew = Crew(runner).agent("a", tools=["mark"]).tool("mark", "#!/bin/sh\ncat\n")
    crew.agents["a"] |= {"tools": []}
    crew.extra = "tool_delegation: within_allowed\n"
    with crew.start() as running:
        asked_in_vain(crew, running, "a", WAIT + "answer = ask('tools/request', tool='mark')")


def test_it_stands_still_from_then_on(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=MUCH + TICKS + "ticks()")
        with unwritable(crew, running, "a"):
            before = ticks(crew, "a")
            eventually(lambda: ticks(crew, "a") > before)  # the spawner does not hear of it yet
        eventually(lambda: ticks(crew, "a") == (time.sleep(0.5), ticks(crew, "a"))[1])
        assert client.kill("a").terminated.cause == crewd.Cause.OPERATOR


def test_no_task_is_begun(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=MUCH + "out(1)").result(60)
        with limited(crew, running):
            done = client.submit(agent="a", description=ASKS + "open(os.environ['CREW_STATE'] + '/ran', 'w')").wait(60)
        assert done.outcome == crewd.Outcome.FAILED and done.error == "the audit stream of a cannot be written"
    assert not (crew.runner.home / "lib/t/state/a/ran").exists()


def test_it_dies_when_it_is_killed_and_does_not_come_back(runner):
    crew = Crew(runner).agent("a", restart={"max": 2, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=MUCH + "out(1)").result(60)
        with limited(crew, running):
            assert client.kill("a").terminated.restartable
            eventually(lambda: state_of(client, "a") == crewd.AgentState.FAILED)
        assert agent_status(client, "a").pid == 0


def test_no_agent_is_started(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=MUCH + "out(1)").result(60)
        client.stop_agent("a")
        with limited(crew, running), pytest.raises(crewd.Refused) as refused:
            client.start_agent("a")
        assert refused.value.code == "failed" and "its audit cannot be written" in refused.value.message
        assert state_of(client, "a") == crewd.AgentState.TERMINATED and agent_status(client, "a").incarnation == 1


@pytest.mark.parametrize("who,why", [("yes-1", "the audit cannot be written"), ("yes-2", "1 of 2 voted, the quorum is 2")])
def test_no_result_counts_by_a_vote_or_a_tally_that_is_not_there(runner, who, why):
    crew = board(runner, ["yes-1", "yes-2"]).task("one", "yes-1", (MUCH if who == "yes-1" else "") + "out({'n': 7})")
    more = MUCH if who == "yes-2" else ""
    crew.files["agent.py"] = VOTER.replace('if doc["kind"] == "vote":', 'if doc["kind"] == "vote":\n    exec(%r)' % (more + WAIT))
    with crew.start() as running:
        client, box = running.client(), {}
        run = threading.Thread(target=lambda: box.update(done=running.client().run()))
        run.start()
        eventually(lambda: [t.state for t in client.status().tasks] == ["voting"])
        with unwritable(crew, running, who):
            go(crew, "yes-2")
            run.join(60)
        assert done_task(box["done"], "one").error == "not agreed to: " + why
    assert result(crew) is None
