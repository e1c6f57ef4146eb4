# SPDX-License-Identifier: Apache-2.0
"""Tasks that clients call off: one outcome, on record before it happens, and nothing else is harmed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import crewd
import pytest
from cli_help import in_terminal
from crewlib import AGENT, UNTIL_GO, Crew, agent_status, alive, done_task, eventually, go
from holdlib import held_crew, jails, lose
from test_crew_manager import boss, managed, running_tasks

SLEEPS = "time.sleep(600)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
DEAF_RPC = "#!/usr/bin/python3\nimport signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)\n"
RPC = """#!/usr/bin/python3
import json, sys, threading, time
def say(**m): print(json.dumps({"jsonrpc": "2.0", **m}), flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "cancel":
        say(id=m["params"]["id"], error={"code": 1, "message": "as you like"})
    elif m.get("method") == "task" and m["params"]["description"] == "quick":
        say(id=m["id"], result="quick")
"""


def working(client, agent="a"):
    eventually(lambda: agent_status(client, agent).state == crewd.AgentState.WORKING)


def finished(crew, agent="a"):
    return [(r["task_id"], r["outcome"], r.get("cause")) for r in crew.records(agent, "task.finished")]


def cancelled(crew, agent="a"):
    return [(r["task"], r["task_id"], r["reason"]) for r in crew.records(agent, "task.cancel")]


def is_cancelled(task, reason, timeout=60):
    done = task.wait(timeout)
    assert done.outcome == crewd.Outcome.CANCELLED and done.error.startswith("cancelled by uid "), done
    assert done.error.endswith(f": {reason}"), done.error


def test_what_was_submitted_is_listed_with_its_id_until_it_is_over(runner):
    crew = Crew(runner).agent("a").agent("b").task("one", "b", SLEEPS)
    with crew.start() as running:
        client = running.client()
        first = client.submit(agent="a", description=SLEEPS)
        second = client.submit(agent="a", description="out(2)")
        third = client.submit("one")
        working(client), working(client, "b")
        rows = [(t.get("id"), t["name"], t["agent"], t["state"], t["submitted"])
                for t in json.loads(runner.crewctl("status", "--json").stdout)["tasks"]]
        ours = [(first.id, "ad-hoc", "a", "running", True), (second.id, "ad-hoc", "a", "waiting", True),
                (third.id, "one", "b", "running", True)]
        assert rows == [(None, "one", "b", "waiting", False), *ours]
        listed = runner.crewctl("status").stdout.split("\n\n")[1].splitlines()
        assert [tuple(line.split()[:4]) for line in listed[1:]] == [row[:4] for row in ours]
        assert third.id not in runner.crewctl("status", "--agent", "a").stdout
        offered = [line.split("\t")[0] for line in runner.crewctl("__complete", "cancel", "").stdout.splitlines()]
        assert offered == ["one", first.id, second.id, third.id]
        for task in (first, third):
            assert runner.crewctl("cancel", task.id).returncode == 0
        assert second.result(20) == 2
        eventually(lambda: [t.id for t in client.status().tasks] == [""])
        assert "TASK" not in runner.crewctl("status").stdout.split("\n", 2)[2]


def test_a_task_that_waits_is_over_at_once(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        first = client.submit(agent="a", description=UNTIL_GO + "out(1)")
        second = client.submit(agent="a", description="open('/tmp/ran', 'w'); out(2)")
        answer = other.cancel(second.id, reason="not needed")
        assert (answer.task_id, answer.task, answer.agent, answer.running) == (second.id, "ad-hoc", "a", False)
        is_cancelled(second, "not needed")
        go(crew, "a")
        assert first.result(60) == 1
        assert client.submit(agent="a", description="out(os.path.exists('/tmp/ran'))").result(60) is False
    assert cancelled(crew) == [("ad-hoc", second.id, "not needed")]
    assert not [r for r in crew.records("a", "task.started") if r["task_id"] == second.id]
    assert "TASK: CANCEL -> ad-hoc (not needed, by uid " in runner.crewctl("logs", "--filter", "task").stdout
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("kind", ["once", "long-lived"])
def test_an_agent_that_ends_its_task_lives_on(runner, kind):
    crew = Crew(runner).agent("a") if kind == "once" else \
        Crew(runner).agent("a", command=["python3", "${CREW_DIR}/rpc.py"], driver="stdio-rpc")
    crew.files["rpc.py"] = RPC
    with crew.start() as running:
        client = running.client()
        again = "out('quick')" if kind == "once" else "quick"
        assert client.submit(agent="a", description=again).result(60) == "quick"  # it is up: it has two seconds to answer
        task = client.submit(agent="a", description=SLEEPS)
        working(client)
        pid = agent_status(client, "a").pid
        assert task.cancel(reason="odd queries").running
        is_cancelled(task, "odd queries")
        with pytest.raises(crewd.TaskFailed) as e:
            task.result()
        assert e.value.outcome == crewd.Outcome.CANCELLED
        assert agent_status(client, "a").pid == pid
        assert client.submit(agent="a", description=again).result(60) == "quick"
    assert finished(crew)[1] == (task.id, "failed", "cancelled")
    kinds = [r["kind"] for r in crew.records("a")][[r.get("task_id") for r in crew.records("a")].index(task.id):]
    assert kinds.index("task.started") < kinds.index("task.cancel") < kinds.index("task.finished")
    assert not crew.records("a", "agent.kill")


def test_an_agent_that_goes_on_is_killed_and_the_outcome_is_one(runner):
    crew = Crew(runner).agent("a", command=["python3", "${CREW_DIR}/deaf.py"], driver="stdio-rpc",
                              restart={"max": 3, "within": "60s"}, on_agent_terminated="restart")
    crew.files["deaf.py"] = DEAF_RPC
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description="x", retries=3)
        working(client)
        pid = agent_status(client, "a").pid
        began = time.monotonic()
        task.cancel()
        done = task.wait(60)
        assert done.outcome == crewd.Outcome.CANCELLED and done.error.startswith("cancelled by uid ")
        assert 1.5 < time.monotonic() - began < 20  # not the minute of limits.wall_time
        eventually(lambda: not alive([pid]))
        eventually(lambda: agent_status(client, "a").incarnation == 2)
    assert finished(crew) == [(task.id, "failed", "cancelled")]
    assert [r["reason"] for r in crew.records("a", "task.cancel")] == ["no reason given"]


def test_a_program_that_ignores_sigterm_is_ended_too(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=DEAF)
        working(client)
        time.sleep(0.3)
        task.cancel("now")
        is_cancelled(task, "now")
        assert client.submit(agent="a", description="out(1)").result(60) == 1
    assert finished(crew)[0] == (task.id, "failed", "cancelled")


def test_a_cancelled_task_fails_its_run_and_what_needs_it_is_skipped(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.task("one", "a", SLEEPS).task("two", "b", context=["one"]).task("three", "b", "out(3)").task("four", "b", context=["two"])
    with crew.start() as running:
        client, other, got = running.client(), running.client(), []
        run = threading.Thread(target=lambda: got.append(client.run(timeout=60)))
        run.start()
        eventually(lambda: crew.records("a", "task.started"))
        eventually(lambda: crew.records("b", "task.finished"))
        assert runner.crewctl("__complete", "cancel", "").stdout == "one\ta, running\ntwo\tb, waiting\nfour\tb, waiting\n"
        assert other.cancel("one", "wrong symbols").task == "one"
        run.join()
        done, = got
        assert (done.tasks_ok, done.tasks_total) == (1, 4)
        one = done_task(done, "one")
        assert one.state == "failed" and one.error.endswith(": wrong symbols") and one.error.startswith("cancelled by ")
        assert [(done_task(done, t).state, done_task(done, t).error) for t in ("two", "four")] == [
            ("skipped", "needs 'one', which was cancelled"), ("skipped", "needs 'two', which was skipped")]
        with pytest.raises(crewd.Refused) as e:
            other.cancel("one")
        assert e.value.code == "over" and "is over: failed, cancelled by" in e.value.message


def test_crewctl_run_fails_when_its_task_is_cancelled(runner):
    crew = Crew(runner).agent("a").agent("b").task("one", "a", SLEEPS).task("two", "a").task("three", "b", context=["two"])
    p = runner.popen(runner.program("crewctl"), "run", crew.write(), stdout=subprocess.PIPE, text=True)
    eventually(lambda: (runner.home / "lib/t/audit/a/log.jsonl").exists() and crew.records("a", "task.started"))
    for task, says in (("two", "it was waiting for agent a"), ("one", "agent a was working on it: told, and killed in 2 s if it goes on")):
        r = runner.crewctl("cancel", task, "--reason", "enough", check=True)
        first, second = r.stdout.splitlines()
        assert first.startswith("Task t-") and first.endswith(f" ({task}) cancelled.") and second == "  " + says
    out = p.communicate(timeout=60)[0]
    assert p.returncode == 1 and "0 of 3 tasks done" in out
    assert "needs 'two', which was cancelled" in out and ": enough" in out


def test_what_cannot_be_cancelled_is_refused_by_name(runner):
    crew = Crew(runner).agent("a").agent("b").task("collect", "b").task("report", "b")
    with crew.start() as running:
        client = running.client()
        with pytest.raises(crewd.UnknownTask) as e:
            client.cancel("collect")
        assert (e.value.message, e.value.hint) == ("no task 'collect' waits or runs in crew t", "no task waits or runs")
        over = client.submit("collect")
        over.wait(60)
        client.submit(agent="b", description=SLEEPS)
        busy = client.submit(agent="a", description=SLEEPS)
        working(client)
        twice = [client.submit("report"), client.submit("report")]
        for wanted, code in ((over.id, "over"), ("t-99", "unknown-task"), ("t-01", "unknown-task"), ("t-", "unknown-task"),
                             ("report", "ambiguous"), ("ad-hoc", "unknown-task"), ("é", "unknown-task")):
            with pytest.raises(crewd.Refused) as e:
                client.cancel(wanted)
            assert e.value.code == code, (wanted, e.value)
        with pytest.raises(crewd.UnknownTask) as e:
            client.cancel("reprot")
        assert f"{busy.id} (ad-hoc, a, running)" in e.value.hint and f"{twice[0].id} (report, b, waiting)" in e.value.hint
        assert e.value.hint.endswith("(did you mean report?)")
        with pytest.raises(crewd.Refused) as e:
            running.client().cancel("")
        assert e.value.code == "bad-frame" and "cancel_task.task" in e.value.message
        r = runner.crewctl("cancel", "reprot")
        assert r.returncode == 3 and r.stderr.startswith("crewctl: no task 'reprot' waits or runs in crew t\n  tasks: "), r.stderr
        r = runner.crewctl("cancel", over.id, "--json")
        assert r.returncode == 1 and json.loads(r.stdout)["error"]["code"] == "over", r.stdout
        assert runner.crewctl("cancel").returncode == 2
        assert not crew.records("a", "task.cancel") and not crew.records("b", "task.cancel")


def test_the_second_of_two_is_told_of_the_first(runner):
    crew = Crew(runner).agent("a", command=["python3", "${CREW_DIR}/deaf.py"], driver="stdio-rpc")
    crew.files["deaf.py"] = DEAF_RPC
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description="x")
        working(client)
        # Both at once: two seconds later it is over.
        one, two = (client._send("cancel_task", crewd.codec.Message("CancelTask", task=task.id, reason=r)) for r in ("one", "two"))
        assert client._answer(one, ("task_cancelled",), 60)[1].running
        with pytest.raises(crewd.Refused) as e:
            client._answer(two, ("task_cancelled",), 60)
        assert e.value.code == "ending" and e.value.message.endswith(": one")
        is_cancelled(task, "one")
        with pytest.raises(crewd.Refused) as e:
            client.cancel(task.id)
        assert e.value.code == "over"
    assert len(cancelled(crew)) == 1 == len(finished(crew))


def test_a_frozen_agent_is_not_killed_and_the_cancel_not_lost(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=SLEEPS)
        working(client)
        pid = agent_status(client, "a").pid
        client.freeze("a")
        r = json.loads(runner.crewctl("cancel", task.id, "--json", check=True).stdout)
        assert (r["was"], r["frozen"], r["task_id"]) == ("running", True, task.id)
        time.sleep(1)
        assert alive([pid]) and not finished(crew)
        client.thaw("a")
        assert task.wait(60).outcome == crewd.Outcome.CANCELLED
    assert finished(crew) == [(task.id, "failed", "cancelled")]


def test_a_manager_is_told_of_what_others_cancelled(runner):
    crew = boss(managed(runner), """
task = submit("a", "time.sleep(600)")
print("out", file=sys.stderr, flush=True)
t = order("wait", task)
out([t["state"], t["outcome"], t["error"], refused("cancel", task)[1]])""").task("held", "b")
    with crew.start() as running:
        client = running.client()
        with running_tasks(running) as box:
            eventually(lambda: crew.records("boss", "agent.stderr") and crew.records("a", "task.started"))
            assert not client.cancel("held", "not today").running
            client.cancel(crew.records("a", "task.started")[0]["task_id"], "nor that")
        assert box["done"].tasks_ok == 1 and done_task(box["done"], "held").error.endswith(": not today")
        said = json.loads((runner.home / "lib/t/out/lead.json").read_text())
        assert said[:2] == ["cancelled"] * 2 and said[2].startswith("cancelled by uid ") and said[2].endswith(": nor that")
        assert said[3] == -32009


# Votes as it is told, but not in its first vote.
VOTER = """if doc["kind"] == "vote":
    if not os.path.exists("/tmp/once"):
        open("/tmp/once", "w").close()
        print("thinking", file=sys.stderr, flush=True)
        time.sleep(600)
    out({"vote": "approve"})
    sys.exit()
"""


def test_a_proposal_that_is_voted_on_can_be_cancelled_and_run_again(runner):
    crew = Crew(runner).agent("a").agent("b").task("one", "a", "out({'n': 1})")
    crew.process = "consensual"
    crew.files["agent.py"] = AGENT.replace("exec(doc", VOTER + "exec(doc")
    crew.extra = "consensus: {rule: unanimity, deadline: 30s}\n"
    with crew.start() as running:
        client, other, got = running.client(), running.client(), []
        run = threading.Thread(target=lambda: got.append(client.run(timeout=60)))
        run.start()
        eventually(lambda: crew.records("b", "agent.stderr"))
        ballot = crew.records("b", "task.started")[0]["task_id"]
        with pytest.raises(crewd.Refused) as e:
            other.cancel(ballot)
        assert e.value.code == "unsupported" and "a vote on another task" in e.value.message
        assert not other.cancel("one").running
        run.join()
        assert got[0].tasks_ok == 0 and done_task(got[0], "one").state == "skipped"
        eventually(lambda: agent_status(other, "b").state == crewd.AgentState.READY)
        assert client.run(timeout=60).tasks_ok == 1
    assert len(crew.records("a", "task.tally")) == 1


def test_one_that_waits_for_its_agents_restart_is_over_at_once(runner):
    crew = Crew(runner).agent("a", restart={"max": 3, "within": "60s"}, on_agent_terminated="reassign")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=SLEEPS)
        working(client)
        client.kill("a", "odd")
        task.cancel("no more")  # its back-off is at most 0.1 s: it may be up again on a slow machine
        is_cancelled(task, "no more")
    assert finished(crew) == [(task.id, "failed", "cancelled")]


def test_a_person_is_told_how_to_stop_it(runner):
    crew = Crew(runner).agent("a").task("one", "a", "out(1)")
    with crew.start():
        status, out = in_terminal(runner, "submit", "one")
        assert (status, out) == (0, "task t-1 accepted; Ctrl-C cancels it\r\n1\r\n")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_submit_cancels_its_task(runner, sig):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        p = runner.popen(runner.program("crewctl"), "submit", "--agent", "a", "--description", SLEEPS, "--key", "k",
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        working(client)
        p.send_signal(sig)
        out, err = p.communicate(timeout=60)
        assert (p.returncode, out) == (128 + sig, ""), (out, err)
        name = signal.Signals(sig).name
        assert err.startswith("crewctl: cancelling task t-1; once more does not wait for it\n")
        assert "crewctl: task t-1: cancelled: cancelled by uid " in err
        assert err.endswith(f": crewctl submit was interrupted ({name})\n")
        r = runner.crewctl("submit", "--agent", "a", "--description", SLEEPS, "--key", "k", "--json")
        assert r.returncode == 1 and json.loads(r.stdout)["outcome"] == "cancelled"
        assert client.submit(agent="a", description="out(1)").result(60) == 1
    assert finished(crew)[0] == ("t-1", "failed", "cancelled") and len(cancelled(crew)) == 1


def test_the_second_interrupt_does_not_wait(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        p = runner.popen(runner.program("crewctl"), "submit", "--agent", "a", "--description", SLEEPS, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        working(client)
        client.freeze("a")
        p.send_signal(signal.SIGINT)
        eventually(lambda: cancelled(crew))
        assert p.poll() is None
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        assert (p.returncode, out) == (130, "") and err.endswith("crewctl: interrupted; the task is being cancelled\n"), err
        client.thaw("a")
        eventually(lambda: finished(crew) == [("t-1", "failed", "cancelled")])


def test_a_submit_that_is_not_to_hear_of_signals_does_not(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        p = runner.popen("sh", "-c", 'trap "" INT; exec "$@"', "sh", runner.program("crewctl"), "submit", "--agent", "a",
                         "--description", "time.sleep(1); out(5)", stdout=subprocess.PIPE, text=True)
        working(client)
        p.send_signal(signal.SIGINT)
        assert p.communicate(timeout=60)[0] == "5\n" and p.returncode == 0
    assert not cancelled(crew)


@pytest.mark.parametrize("which", ["waiting", "running", "deaf"])
def test_a_cancel_that_was_answered_outlives_its_crewd(runner, which):
    crew = held_crew(runner).agent("b")
    if which == "deaf":
        crew.agent("a", command=["python3", "${CREW_DIR}/deaf.py"], driver="stdio-rpc")
        crew.files["deaf.py"] = DEAF_RPC
    else:
        crew.agent("a")
    running = crew.start()
    client = running.client()
    pids = jails(crew, client)
    request = {"agent": "a", "description": "open('/tmp/ran', 'w')\n" + SLEEPS}
    first = client.submit(key="one", **request)
    working(client)
    task = client.submit(key="two", agent="a", description="open('/tmp/two', 'w'); out(2)") if which == "waiting" else first
    assert task.cancel("not needed").running == (which != "waiting")
    lose(running)
    with crew.start() as again:
        client = again.client()
        if which == "waiting":
            assert agent_status(client, "a").pid == pids["a"]
            is_cancelled(client.submit(key="two", agent="a", description="open('/tmp/two', 'w'); out(2)"), "not needed")
            client.cancel("t-1", "that, too")
            is_cancelled(client.submit(key="one", **request), "that, too")
            assert client.submit(agent="a", description="out(os.path.exists('/tmp/two'))").result(60) is False
        else:
            is_cancelled(client.submit(key="one", **request), "not needed")
            if which == "running":
                assert client.submit(agent="a", description="out(4)").result(60) == 4
                assert agent_status(client, "a").pid == pids["a"]
        assert agent_status(client, "b").pid == pids["b"]
    assert finished(crew)[0] == ("t-1", "failed", "cancelled")
    assert len([f for f in finished(crew) if f[0] == "t-1"]) == 1
    assert cancelled(crew)[0] == ("ad-hoc", task.id, "not needed")
    assert runner.crewctl("audit", "verify").returncode == 0


def cancel_some(client, keys, cancelled_ids, rng):
    """Tasks come and are called off until crewd is killed under it; what was answered is known to both sides."""
    for key in map(str, range(len(keys), len(keys) + 40)):
        keys[key] = None
        task = client.submit(agent=rng.choice("ab"), description="time.sleep(0.02); out(1)", key=key)
        keys[key] = task.id
        time.sleep(rng.random() * 0.01)
        if rng.random() < 0.6:
            with contextlib.suppress(crewd.Refused):
                client.cancel(task.id, "chance")
                cancelled_ids.add(task.id)


def test_killed_at_any_moment_it_keeps_its_word(runner):
    seed = int(os.environ.get("CREWD_TEST_SEED", random.randrange(1 << 32)))
    rng, keys, answered = random.Random(seed), {}, set()
    print(f"CREWD_TEST_SEED={seed}")
    crew = held_crew(runner).agent("a").agent("b")
    for _ in range(8):
        running = crew.start()
        client = running.client()
        killer = threading.Timer(rng.random() * 0.2, running.proc.kill)
        killer.start()
        with contextlib.suppress(crewd.ConnectionClosed, OSError):
            cancel_some(client, keys, answered, rng)
        killer.join()
        lose(running)
    with crew.start() as running:
        for _ in range(2):  # the last one idles
            running.client().submit(agent="a", description="out(1)").wait(60)
        eventually(lambda: all(agent_status(running.client(), a).state == crewd.AgentState.READY for a in "ab"), timeout=60, every=0.2)
    on_record = [i for a in "ab" for _, i, _ in cancelled(crew, a)]
    ends = {i: (outcome, cause) for a in "ab" for i, outcome, cause in finished(crew, a)}
    started = [r["task_id"] for a in "ab" for r in crew.records(a, "task.started")]
    assert len(on_record) == len(set(on_record)) and answered <= set(on_record)
    assert len(ends) == sum(len(finished(crew, a)) for a in "ab") == len(started)
    for i, end in ends.items():
        assert end == (("failed", "cancelled") if i in on_record else ("ok", None)), (i, end)
    assert {i for i in keys.values() if i} <= set(ends) | set(on_record)
    assert runner.crewctl("audit", "verify").returncode == 0
    print(f"{len(keys)} tasks, {len(answered)} of {len(on_record)} cancels answered, {len(set(on_record) & set(ends))} while they ran")
