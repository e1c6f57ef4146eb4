# SPDX-License-Identifier: Apache-2.0
"""Agents that died with their crewd: their ends are told by the next one, exactly once."""

import json
import signal
import time

import crewd
import pytest
from crewlib import Crew, Running, alive, eventually, outside

HOOK = """#!/bin/sh
cat > {dir}/got.$$
"""


def hooked(runner, **agent):
    crew = Crew(runner).agent("a", **agent).agent("b")
    crew.extra = 'hooks:\n  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}\n'
    crew.files["hook.sh"] = HOOK.format(dir=runner.home)
    return crew


def told(runner):
    """What the hook was given."""
    texts = [p.read_text() for p in runner.home.glob("got.*")]
    return [json.loads(t) for t in texts if t.endswith("}") or t.endswith("}\n")]


def kill(running):
    running.proc.send_signal(signal.SIGSTOP)  # what is just being started is among those that are waited for
    tree = outside(running.proc.pid)
    for c in running.clients:
        c.close()
    running.proc.kill()
    running.proc.wait()
    eventually(lambda: not alive(tree))


def ends(crew, agent):
    return [r for r in crew.records(agent, "agent.terminated") if r["cause"] == "supervisor lost"]


def test_the_next_start_tells_what_the_killed_crewd_could_not(runner):
    crew = hooked(runner)
    running = crew.start()
    client = running.client()
    client.submit(agent="a", description="time.sleep(600)")
    eventually(lambda: crew.records("a", "task.started"))
    kill(running)
    assert not crew.records("a", "agent.terminated") and not told(runner)
    with crew.start() as again:
        docs = eventually(lambda: (d := told(runner)) and len(d) == 2 and d)
        for agent in ("a", "b"):
            [end] = ends(crew, agent)
            [doc] = [d for d in docs if d["agent"] == agent]
            assert end["inc"] == 1 and str(running.proc.pid) in end["reason"] and end["restartable"] is False
            assert doc["cause"] == "supervisor lost" and doc["id"] == end["id"] and doc["audit_seq"] == end["seq"]
            assert doc["incarnation"] == 1 and doc["reason"] == end["reason"]
        [end] = ends(crew, "a")
        [task] = crew.records("a", "task.finished")
        assert end["task"] == "ad-hoc" and (task["outcome"], task["cause"], task["inc"]) == ("failed", "terminated", 1)
        assert task["task_id"] == crew.records("a", "task.started")[0]["task_id"]
        assert task["seq"] < end["seq"] and not crew.records("b", "task.finished")
        status = next(a for a in again.client().status().agents if a.name == "a")
        assert status.state == crewd.AgentState.READY and status.last_cause == "supervisor lost"
    assert runner.crewctl("audit", "verify").returncode == 0


def test_an_end_is_told_once_however_often_crewd_is_killed(runner):
    crew = hooked(runner)
    for n in range(1, 4):
        kill(crew.start())
        assert len(ends(crew, "a")) == n - 1
    with crew.start():
        pass
    crew.start().stop()
    assert len(ends(crew, "a")) == 3 and len(ends(crew, "b")) == 3
    ids = {r["id"] for a in ("a", "b") for r in ends(crew, a)}
    assert len(ids) == 6 and max(ids) < 1 << 53
    assert {i % 4096 for i in ids} == {0, 1}, "each has its agent in it: a millisecond may have many"
    # Those who ended in order have a termination of their own.
    assert [r["cause"] for r in crew.records("a", "agent.terminated")][-2:] == ["supervisor shutdown"] * 2
    assert runner.crewctl("audit", "verify").returncode == 0


def test_an_agent_whose_end_is_on_record_is_no_orphan(runner):
    crew = hooked(runner)
    running = crew.start()
    running.client().kill("a", "enough")
    eventually(lambda: crew.records("a", "agent.terminated"))
    kill(running)
    with crew.start():
        pass
    assert not ends(crew, "a") and len(ends(crew, "b")) == 1


@pytest.mark.parametrize("after", [0, 0.05, 0.2])
def test_a_crewd_that_is_killed_while_it_tells_leaves_it_to_the_next(runner, after):
    crew = hooked(runner)
    kill(crew.start())
    for _ in range(3):
        half = Running(crew, wait=False)
        time.sleep(after)
        kill(half)
    with crew.start():
        spawned = {(r["seq"], r["inc"]) for r in crew.records("a", "agent.spawned")}
        assert len(ends(crew, "a")) == len(spawned) - 1  # all but the one that is alive
        eventually(lambda: {d["id"] for d in told(runner) if d["agent"] == "a"} == {r["id"] for r in ends(crew, "a")})
    assert runner.crewctl("audit", "verify").returncode == 0


def test_effects_are_possible_only_where_something_was_let_run(runner):
    crew = Crew(runner).agent("a", tools=["note"]).agent("b")
    crew.tool("note", "#!/bin/sh\ncat >/dev/null\necho '{}'\n")
    running = crew.start()
    assert running.client().submit(agent="a", description="out(call('tool', 'note', stdin={})[0])").result(60) == 0
    kill(running)
    with crew.start():
        assert ends(crew, "a")[0]["effects"] is True and ends(crew, "b")[0]["effects"] is False
        assert len(crew.records("a", "task.finished")) == 1  # it had ended before
