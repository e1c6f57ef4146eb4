# SPDX-License-Identifier: Apache-2.0
"""Tasks that clients submit with a key: once, whoever asks and however often."""

import json
import time

import pytest

from crewd import AgentState, AgentTerminated, Refused
from crewlib import Crew, agent_status, eventually

FLAKY = ("import os\nn = int(open('/tmp/n').read()) if os.path.exists('/tmp/n') else 0\n"
         "open('/tmp/n', 'w').write(str(n + 1))\nout(n) if n == 2 else sys.exit(1)")


def crew_of(runner, **keys):
    return Crew(runner).agent("a", **keys).agent("b").task("one", "a", "out({'x': doc['input']})")


def started(crew, agent="a"):
    return [(r["task_id"], r.get("key")) for r in crew.records(agent, "task.started")]


def test_the_second_with_the_key_is_the_first(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        first, other = running.client(), running.client()
        task = first.submit(agent="a", description="import time\ntime.sleep(0.5)\nout(time.monotonic())", key="k")
        again = other.submit(agent="a", description="import time\ntime.sleep(0.5)\nout(time.monotonic())", key="k")
        assert task.id == again.id
        result = task.result(60)
        assert again.result(60) == result
        late = other.submit(agent="a", description="import time\ntime.sleep(0.5)\nout(time.monotonic())", key="k")
        assert (late.id, late.result(60)) == (task.id, result)
        assert first.submit(task="one", input=5, key="other").result(60) == {"x": 5}
    assert started(crew) == [(task.id, "k"), ("t-2", "other")]


def test_a_client_that_lost_its_connection_gets_the_outcome(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        lost = running.client()
        task = lost.submit(agent="a", description="time.sleep(0.4)\nout('done')", key="job/1")
        lost.close()
        client = running.client()
        assert client.submit(agent="a", description="time.sleep(0.4)\nout('done')", key="job/1").result(60) == "done"
        assert client.submit(agent="a", description="time.sleep(0.4)\nout('done')", key="job/1").wait(60).task_id == task.id
    assert len(started(crew)) == 1


@pytest.mark.parametrize("other", [{"agent": "b"}, {"description": "out(2)"}, {"input": 1}, {"timeout_ms": 1000}, {"retries": 1}])
def test_the_key_with_another_request_is_refused(runner, other):
    crew = crew_of(runner)
    request = {"agent": "a", "description": "out(1)", "key": "k"}
    with crew.start() as running:
        client = running.client()
        assert client.submit(**request).result(60) == 1
        with pytest.raises(Refused) as e:
            client.submit(**{**request, **other})
        assert e.value.code == "key-used" and "key 'k' is that of task t-1" in e.value.message
        assert client.submit(**request).result(60) == 1
    assert len(started(crew)) + len(started(crew, "b")) == 1


def test_a_request_that_is_refused_does_not_use_its_key(runner):
    crew = crew_of(runner).task("two", "b", context=["one"])
    with crew.start() as running:
        client = running.client()
        for _ in range(2):
            with pytest.raises(Refused) as e:
                client.submit(task="two", key="k")
            assert e.value.code == "busy"
        assert client.submit(agent="a", description="out(1)", key="k").result(60) == 1


def test_a_failed_attempt_is_repeated_up_to_retries(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="a", description=FLAKY, retries=2).result(60) == 2
        assert client.submit(agent="b", description=FLAKY, retries=1).wait(60).error
    assert [r["attempt"] for r in crew.records("a", "task.retried")] == [1, 2]
    assert len(crew.records("b", "task.started")) == 2


def test_a_death_is_the_outcome_for_all_who_ask(runner):
    crew = crew_of(runner, restart={"max": 3, "within": "60s"}, on_agent_terminated="restart")
    with crew.start() as running:
        client, other = running.client(), running.client()
        task = client.submit(agent="a", description="time.sleep(600)", key="k")
        eventually(lambda: agent_status(other, "a").state == AgentState.WORKING)
        record = other.kill("a", reason="test").terminated
        ends = []
        for t in (task, other.submit(agent="a", description="time.sleep(600)", key="k")):
            with pytest.raises(AgentTerminated) as e:
                t.result(60)
            ends.append((t.id, e.value.record.id, e.value.record.reason))
        assert ends == [(task.id, record.id, "test")] * 2
        time.sleep(0.3)
    assert len(started(crew)) == 1


def test_each_frame_of_a_wrong_key_is_refused(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        client = running.client()
        for key in ("a b", "\u00e9", "x\n"):
            with pytest.raises(Refused) as e:
                running.client().submit(agent="a", description="out(1)", key=key)
            assert e.value.code == "bad-frame" and "submit_task.key" in e.value.message
        assert json.loads(client.submit(agent="a", description="out(1)", key="x" * 63).wait(60).result) == 1


def test_crewctl_submits_once(runner):
    crew = crew_of(runner)
    with crew.start():
        args = ["submit", "one", "--input", "-", "--key", "k"]
        r = runner.crewctl(*args, input='{"n": [1, 2]}')
        assert (r.returncode, r.stdout, r.stderr) == (0, '{"x": {"n": [1, 2]}}\n', "")
        again = json.loads(runner.crewctl(*args, "--json", input='{"n": [1, 2]}', check=True).stdout)
        assert (again["task_id"], again["outcome"], again["result"]) == ("t-1", "ok", {"x": {"n": [1, 2]}})
        other = runner.crewctl(*args, input="3")
        assert other.returncode != 0 and "key 'k' is that of task t-1" in other.stderr
        failed = runner.crewctl("submit", "--agent", "a", "--description", "sys.exit(3)", "--retries", "1", "--json")
        assert failed.returncode == 1 and json.loads(failed.stdout)["outcome"] == "failed"
        assert [r["attempt"] for r in crew.records("a", "task.retried")] == [1]
    assert started(crew)[0] == ("t-1", "k") and len(started(crew)) == 3


@pytest.mark.parametrize("args,status,text", [
    ([], 2, "name either a task"), (["one", "--agent", "a"], 2, "name either a task"), (["one", "two"], 2, "name either a task"),
    (["one", "--description", "x"], 2, "--description goes with --agent"), (["one", "--retries", "11"], 2, "at most 10"),
    (["one", "--input", "/nosuch"], 2, "/nosuch"), (["nosuch"], 3, "no task 'nosuch'"),
    (["--agent", "nosuch"], 3, "no agent 'nosuch'")])
def test_what_crewctl_cannot_submit_it_says(runner, args, status, text):
    crew = crew_of(runner)
    with crew.start():
        r = runner.crewctl("submit", *args)
        assert (r.returncode, r.stdout) == (status, "") and text in r.stderr, r.stderr
    assert not started(crew)
