# SPDX-License-Identifier: Apache-2.0
"""What follows from a death: the four choices, the strategies, intensity and back-off, and the hook's outbox, which a crewd
that is killed does not take along."""

import json
import os
import signal
import time

import pytest

import crewd
from crewlib import Crew, agent_status, done_task, eventually, state_of

def incarnations(client):
    return {a.name: a.incarnation for a in client.status().agents}


def run(running):
    """Starts the tasks of the crew file; a function that waits for the end."""
    runs = running.client()
    seq = runs._send("run_tasks", crewd.Message("RunTasks"))
    return lambda: runs._answer(seq, ("crew_done",), 30)[1]


def outcomes(crew, agent, task):
    return [r["outcome"] for r in crew.records(agent, "task.finished") if r["task"] == task]


# on_agent_terminated: what becomes of a task whose agent is killed, of the task after it, of the agent
CHOICES = {
    "reassign": ("done", "done", 2),
    "restart": ("failed", "skipped", 2),
    "fail_task": ("failed", "skipped", 1),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("where", ["agent", "defaults"])
def test_the_choice_of_the_crew(runner, choice, where):
    first, second, incarnation = CHOICES[choice]
    crew = Crew(runner).agent("a", **({"on_agent_terminated": choice} if where == "agent" else {})).agent("b")
    if where == "defaults":
        crew.extra = "defaults: {on_agent_terminated: %s}\n" % choice
    crew.task("job", "a", "begun = os.environ['CREW_STATE'] + '/begun'\nif not os.path.exists(begun):\n"
                          "    open(begun, 'w').close()\n    time.sleep(600)\nout({'done': True})")
    crew.task("next", "b", "out(context['job'])", context=["job"])
    with crew.start() as running:
        client, wait = running.client(), run(running)
        eventually(lambda: (runner.home / "lib/t/state/a/begun").exists())
        killed = client.kill("a", "try")
        assert killed.terminated.restartable == (incarnation > 1)
        assert killed.task_reassigned == (choice == "reassign")
        done = wait()
        assert (done_task(done, "job").state, done_task(done, "next").state) == (first, second)
        eventually(lambda: incarnations(client)["a"] == incarnation)
        if incarnation > 1:
            assert client.submit(agent="a", description="out('back')").result(60) == "back"
        else:
            assert state_of(client, "a") == crewd.AgentState.TERMINATED
    assert outcomes(crew, "a", "job") == ["ok" if first == "done" else "failed"], "one outcome"
    assert crew.records("a", "agent.terminated")[0]["action"] == choice


def test_stop_crew_ends_all_of_it_and_says_why(runner):
    crew = Crew(runner).agent("a", on_agent_terminated="stop_crew").agent("b", restart={"max": 5}).agent("c")
    crew.task("one", "a", "time.sleep(600)")
    crew.task("two", "b", "time.sleep(600)")
    crew.task("three", "c", "out(1)", context=["one"])
    with crew.start() as running:
        client, wait = running.client(), run(running)
        eventually(lambda: state_of(client, "b") == crewd.AgentState.WORKING)
        killed = client.kill("a", "that is enough")
        assert not killed.terminated.restartable
        done = wait()
        assert (done.tasks_ok, done.tasks_total) == (0, 3)
        assert running.proc.wait(60) == 1
        assert ("agent a terminated (operator: that is enough): on_agent_terminated is stop_crew" in running.log())
    assert [r["action"] for r in crew.records("a", "agent.terminated")] == ["stop_crew"]
    for name in "bc":
        end, = crew.records(name, "agent.terminated")
        assert end["cause"] == "supervisor shutdown" and end["action"] == "fail_task"
    assert len(outcomes(crew, "b", "two")) == 1


STRATEGIES = {
    "one_for_one": {"a": 1, "b": 2, "c": 1},
    "rest_for_one": {"a": 1, "b": 2, "c": 2},
    "one_for_all": {"a": 2, "b": 2, "c": 2},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_is_started_again_together(runner, strategy):
    crew = Crew(runner).agent("a").agent("b").agent("c")
    crew.extra = "defaults: {on_agent_terminated: restart}\nsupervision: {strategy: %s}\n" % strategy
    with crew.start() as running:
        client = running.client()
        lives_on = STRATEGIES[strategy]["c"] == 1
        task = client.submit(agent="c", description=f"time.sleep({1 if lives_on else 600}); out('kept')")
        eventually(lambda: state_of(client, "c") == crewd.AgentState.WORKING)
        client.kill("b", "one of three")
        eventually(lambda: incarnations(client) == STRATEGIES[strategy]
                   and all(state_of(client, n) in (crewd.AgentState.READY, crewd.AgentState.WORKING) for n in "abc"))
        if lives_on:
            assert task.result(60) == "kept"
        else:
            with pytest.raises(crewd.AgentTerminated) as e:
                task.result(60)
            assert "together with agent b (%s)" % strategy in str(e.value.record.reason)
        for name in "abc":
            assert client.submit(agent=name, description="out('up')").result(60) == "up"
        # Nobody is started before the last of those that go together is gone.
        gone = [r["t"] for n in "abc" for r in crew.records(n, "agent.terminated")]
        again = [r["t"] for n in "abc" for r in crew.records(n, "agent.policy") if r["inc"] == 2]
        assert len(gone) == len(again) == sum(STRATEGIES[strategy].values()) - 3
        assert max(gone) < min(again)
        # Nor before the one that has to wait for it comes back.
        [back], [end] = crew.records("b", "agent.restart"), crew.records("b", "agent.terminated")
        assert back["delay_ms"] > 0 and end["t"] + back["delay_ms"] * 1000000 <= min(again)
        # The death of one is held against that one alone.
        assert [r["attempt"] for r in crew.records("b", "agent.restart")] == [1]


def test_more_restarts_than_the_crew_may_have_stop_it(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.extra = ("defaults: {on_agent_terminated: restart}\n"
                  "supervision: {strategy: one_for_one, intensity: 2, period: 60s}\n")
    with crew.start() as running:
        client = running.client()
        for name in ("a", "b", "a"):
            eventually(lambda: state_of(client, name) == crewd.AgentState.READY)
            client.kill(name, "again")
        assert running.proc.wait(60) == 1
        assert "the crew's restarts are used up (supervision.intensity)" in running.log()
    assert [r["action"] for r in crew.records("a", "agent.terminated")] == ["restart", "stop_crew"]


def test_an_agent_that_always_dies_at_once_costs_little(runner):
    """Each start waits longer than the one before, and its task is not handed on for ever."""
    crew = Crew(runner).agent("a", driver="stdio-rpc", command=["python3", "${CREW_DIR}/dies.py"],
                              restart={"max": 4, "within": "60s"}).agent("b")
    crew.files["dies.py"] = "import sys\nsys.stdin.readline()\nsys.exit(5)\n"
    with crew.start() as running:
        client = running.client()
        done = client.submit(agent="a", description="die").wait(60)
        assert done.outcome == crewd.Outcome.TERMINATED and done.terminated.attempt == 5
        assert state_of(client, "a") == crewd.AgentState.FAILED and state_of(client, "b") == crewd.AgentState.READY
    delays = [r["delay_ms"] for r in crew.records("a", "agent.restart")]
    assert len(delays) == 4
    for n, ms in enumerate(delays):
        assert 50 * 2**n <= ms <= 100 * 2**n, delays
    ends = crew.records("a", "agent.terminated")
    assert [(r["cause"], r["code"], r["action"]) for r in ends] == [("exit", 5, "reassign")] * 4 + [("exit", 5, "give_up")]


# ---- the hook, and a crewd that is killed ----

# A whole line at once: the hook of a crewd that was killed may still be at it when the next one's runs.
HOOK = """#!/bin/sh
record=$(cat)
printf '%s\\n' "$record" >> {dir}/got
{more}
"""


def hooked(runner, more="", **keys):
    crew = Crew(runner)
    for name in "abcd":
        crew.agent(name, **(keys or {"restart": {"max": 9, "within": "60s"}}))
    crew.extra = 'hooks:\n  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}\n'
    crew.files["hook.sh"] = HOOK.format(dir=runner.home, more=more)
    return crew


def got(runner):
    path = runner.home / "got"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1] if line] if path.exists() else []


def outbox(runner):
    return runner.home / "lib" / "t" / "hooks.outbox"


def test_the_hook_is_told_of_each_and_the_outbox_is_empty_then(runner):
    crew = hooked(runner)
    with crew.start() as running:
        client = running.client()
        ids = [client.kill(name).terminated.id for name in "abcd"]
        eventually(lambda: len(got(runner)) == 4)
        eventually(lambda: outbox(runner).stat().st_size == 0)
        assert oct(outbox(runner).stat().st_mode & 0o777) == "0o600"
    told = sorted(got(runner), key=lambda d: d["id"])  # they are begun in order, and may pass each other
    assert [d["id"] for d in told] == ids == sorted(ids)
    for name, doc in zip("abcd", told):
        end = crew.records(name, "agent.terminated")[0]
        assert (doc["agent"], doc["audit_seq"], doc["id"]) == (name, end["seq"], end["id"])
        assert doc["restartable"] and doc["action"] == "reassign"


def test_a_killed_crewd_takes_no_termination_along(runner):
    """Their hooks are under way, crewd is killed: all are told by the next one, once more, and before anything new."""
    # Who came back before crewd is killed would have an end of its own to be told.
    crew = hooked(runner, "[ -e {0}/go ] || sleep 600".format(runner.home), on_agent_terminated="fail_task")
    running = crew.start()
    client = running.client()
    ids = [client.kill(name).terminated.id for name in "abcd"]
    eventually(lambda: len(got(runner)) == 4)
    running.proc.kill()
    running.proc.wait()
    client.close()
    (runner.home / "go").write_text("")
    runner.own(runner.home)
    with open(outbox(runner), "ab") as f:
        f.write(b'put 99 a {"half')  # a write that was cut off
    with crew.start() as again:
        eventually(lambda: len(got(runner)) == 8)
        assert "4 terminations that the hook was not told of before crewd ended" in again.log()
        new = again.client().kill("b").terminated.id
        eventually(lambda: len(got(runner)) == 9)
    assert sorted(d["id"] for d in got(runner)) == sorted([*ids, *ids, new])
    assert got(runner)[-1]["id"] == new > ids[-1]
    assert all(got(runner).count(d) == 2 for d in got(runner)[:-1])
    ran = [r for n in "abcd" for r in crew.records(n, "process.exec") if r["verdict"] == "hook"]
    assert len(ran) == 5
    # What was acknowledged is not told again.
    with crew.start():
        time.sleep(1)
    assert len(got(runner)) == 9 and outbox(runner).stat().st_size == 0


def test_a_hook_that_hangs_holds_back_only_its_own_agent(runner):
    """Up to eight at a time; the second end of an agent waits for the hook of its first."""
    go = runner.home / "go"
    crew = hooked(runner, f'case "$record" in *\'"agent":"a"\'*) while [ ! -e {go} ]; do sleep 0.05; done;; esac',
                  on_agent_terminated="fail_task")
    with crew.start() as running:
        client = running.client()
        first = client.kill("a").terminated.id
        others = [client.kill(name).terminated.id for name in "bcd"]
        eventually(lambda: len(got(runner)) == 4)
        client.start_agent("a")
        second = client.kill("a").terminated.id
        client.start_agent("b")
        others.append(client.kill("b").terminated.id)
        eventually(lambda: len(got(runner)) == 5)
        assert second not in [d["id"] for d in got(runner)]
        go.touch()
        eventually(lambda: len(got(runner)) == 6)
        assert got(runner)[-1]["id"] == second
        assert sorted(d["id"] for d in got(runner)) == sorted([first, second, *others])
        eventually(lambda: outbox(runner).stat().st_size == 0)


def test_any_moment_will_do(runner):
    """crewd killed at random points while agents die: every termination in the audit has been given to the hook."""
    crew = hooked(runner)
    for round in range(8):
        running = crew.start()
        client = running.client()
        for name in "abcd":
            client._send("kill_agent", crewd.Message("KillAgent", agent=name, reason=f"round {round}"))
        time.sleep(0.004 * round)
        os.kill(running.proc.pid, signal.SIGKILL)
        running.proc.wait()
        client.close()
    with crew.start():
        eventually(lambda: outbox(runner).stat().st_size == 0)
    ids = [d["id"] for d in got(runner)]
    recorded = [r["id"] for n in "abcd" for r in crew.records(n, "agent.terminated")
                if r["cause"] != "supervisor shutdown"]
    assert recorded and set(recorded) <= set(ids)
    # The end of one that died with its crewd is told by the next, under an id as old as its start.
    for name in "abcd":
        first = list(dict.fromkeys(d["id"] for d in got(runner) if d["agent"] == name and d["cause"] != "supervisor lost"))
        assert first == sorted(first), "each agent's own in order"
