# SPDX-License-Identifier: Apache-2.0
"""Kill, callback, restart: whole trees die, the others go on, and whoever waits is told once and in order."""

import json
import os
import signal
import time

import pytest

import crewd
from crewlib import AGENT, Crew, agent_status, alive, done_task, eventually, outside, state_dir, state_of

TREE = """
for _ in range(6):
    subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000"], start_new_session=True)
out_of = open('/tmp/started', 'w'); time.sleep(600)
"""


# The first of its attempts does not end, and its directory says when it has begun.
FIRST_HANGS = """
path = os.environ['CREW_STATE'] + '/tried'
first = not os.path.exists(path)
open(path, 'w').close()
time.sleep(600 if first else 0)
"""


def tried(crew, agent):
    return (state_dir(crew, agent) / "tried").exists()


def jail_of(client, agent):
    return agent_status(client, agent).pid


def test_the_whole_tree_dies_and_the_others_go_on(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=TREE)
        other = client.submit(agent="b", description="time.sleep(1.5); out('fine')")
        pid = jail_of(client, "a")
        eventually(lambda: len(outside(pid)) >= 12)
        tree = [pid, *outside(pid)]
        killed = client.kill("a", "odd queries")
        assert not alive(tree)
        assert killed.terminated.cause == crewd.Cause.OPERATOR
        assert killed.terminated.reason == "odd queries"
        assert killed.terminated.processes_killed >= 12
        assert killed.task == "ad-hoc" and not killed.task_reassigned
        assert [o.name for o in killed.others] == ["b"]
        with pytest.raises(crewd.AgentTerminated) as e:
            task.result(60)
        assert e.value.record.id == killed.terminated.id
        assert other.result(60) == "fine"
        assert state_of(client, "a") == crewd.AgentState.TERMINATED
        with pytest.raises(crewd.NotRunning):
            client.kill("a")
    kill, = crew.records("a", "agent.kill")
    end, = crew.records("a", "agent.terminated")
    assert kill["reason"] == "odd queries" and kill["seq"] < end["seq"] == killed.terminated.audit_seq


def test_crewctl_kill_reads_as_documented(runner):
    crew = Crew(runner).agent("data-collector").agent("writer")
    with crew.start():
        r = runner.crewctl("kill", "--agent", "data-collector", "--reason", "test")
        assert r.returncode == 0
        lines = r.stdout.splitlines()
        assert lines[0] == "Agent data-collector terminated. Sandbox destroyed."
        assert lines[-1] == "Crew status: writer (ready)"
        r = runner.crewctl("kill", "--agent", "data-colector")
        assert r.returncode == 3
        assert "did you mean data-collector?" in r.stderr


def test_the_callback_comes_before_what_the_dead_agent_owed(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    crew.files["agent.py"] = AGENT.replace("out({'asked': payload})", "time.sleep(600)")
    with crew.start() as running:
        client = running.client()
        client.subscribe()
        asking = client.submit(agent="a", description="out(call('ask', 'b', stdin={'q': 1}))")
        eventually(lambda: crew.records("b", "message.received"))
        client.submit(agent="b", description="time.sleep(600)")
        eventually(lambda: state_of(client, "b") == crewd.AgentState.WORKING)
        client.kill("b", "now")
        code, doc = asking.result(60)
        assert doc["error"]["code"] == -32008 and "operator" in doc["error"]["message"]
        kinds = []
        client.status()  # answered behind all that was told
        for e in client.events(timeout=0.5):
            if e.kind == "terminated":
                kinds.append("terminated " + e.terminated.agent)
                assert any("message" in c for c in e.terminated.calls_in_flight)
            elif e.kind == "task-state" and e.task.agent == "b" and e.task.state == "failed":
                kinds.append("failed")
        assert kinds == ["terminated b", "failed"]


def test_its_record_says_what_was_under_way_and_what_may_have_been_done(runner):
    crew = Crew(runner).agent("a", tools=["slow"]).agent("b").agent("c")
    crew.tool("slow", "#!/bin/sh\nsleep 600\n", timeout="600s")
    crew.extra = "memory: {notes: {write: [b]}}\n"
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="os.write(2, b'last words\\n'); call('tool', 'slow', stdin={})")
        eventually(lambda: crew.records("a", "tool.call") and crew.records("a", "agent.stderr"))
        client.submit(agent="b", description="out(call('memory-put', 'notes/k', stdin=1)[0])").result(60)
        ends = {name: client.kill(name).terminated for name in "abc"}
        told = {name: (list(t.calls_in_flight), t.side_effects_possible, t.stderr_tail) for name, t in ends.items()}
        assert told == {"a": (["tool slow"], True, "last words\n"), "b": ([], True, ""), "c": ([], False, "")}


def test_a_killed_agents_task_is_finished_by_its_replacement(runner):
    crew = Crew(runner).agent("a", restart={"max": 2, "within": "60s"})
    crew.task("job", "a", FIRST_HANGS + "out({'done': True})")
    crew.task("next", "a", "out(context['job'])", context=["job"])
    with crew.start() as running:
        client, runs = running.client(), running.client()
        seq = runs._send("run_tasks", crewd.Message("RunTasks"))
        eventually(lambda: tried(crew, "a"))
        first = agent_status(client, "a")
        killed = client.kill("a", "try again")
        assert killed.terminated.restartable and killed.task_reassigned and killed.task == "job"
        done = runs._answer(seq, ("crew_done",), 60)[1]
        assert (done.tasks_ok, done.tasks_total) == (2, 2)
        again = agent_status(client, "a")
        assert again.incarnation == first.incarnation + 1 and again.restarts == 1 and again.pid != first.pid
    assert [r["attempt"] for r in crew.records("a", "task.started") if r["task"] == "job"] == [1, 2]
    assert {r["inc"] for r in crew.records("a", "agent.spawned")} == {1, 2}


def test_restart_intensity_ends_in_failed(runner):
    crew = Crew(runner).agent("a", restart={"max": 2, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        for n in range(3):
            eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
            killed = client.kill("a", f"death {n}")
            assert killed.terminated.restartable == (n < 2)
        assert state_of(client, "a") == crewd.AgentState.FAILED
        with pytest.raises(crewd.TaskFailed):
            client.submit(agent="a", description="out(1)").result(60)
    assert [r["attempt"] for r in crew.records("a", "agent.restart")] == [1, 2]


def test_a_worker_killed_from_outside_is_a_crash_and_restarts(runner):
    if os.geteuid() != 0:
        pytest.skip("a signal into the jail from outside needs CAP_KILL")
    crew = Crew(runner).agent("a", restart={"max": 1, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=FIRST_HANGS + "out(os.getpid() > 0)")
        eventually(lambda: tried(crew, "a"))
        os.kill(jail_of(client, "a"), signal.SIGKILL)
        assert task.result(60) is True
    end = crew.records("a", "agent.terminated")[0]
    assert end["cause"] == "crash" and end["signal"] == 9


@pytest.mark.waits
def test_a_stopped_worker_loses_its_heartbeat(runner):
    if os.geteuid() != 0:
        pytest.skip("a signal into the jail from outside needs CAP_KILL")
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        os.kill(jail_of(client, "a"), signal.SIGSTOP)
        eventually(lambda: state_of(client, "a") == crewd.AgentState.TERMINATED, timeout=30, every=0.5)
    assert crew.records("a", "agent.terminated")[0]["cause"] == "heartbeat lost"


HOOK = """#!/bin/sh
cat > {dir}/got.$$
{more}
"""


def hooked(runner, more=""):
    crew = Crew(runner).agent("a").agent("b")
    crew.extra = 'hooks:\n  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}\n'
    crew.files["hook.sh"] = HOOK.format(dir=runner.home, more=more)
    return crew


def hook_files(runner):
    return sorted(runner.home.glob("got.*"))


def test_the_hook_gets_the_record_and_no_descriptors(runner):
    crew = hooked(runner, "ls -l /proc/self/fd > {}/fds".format(runner.home))
    with crew.start() as running:
        client = running.client()
        killed = client.kill("a", 'why "not"\n')
        files = eventually(lambda: hook_files(runner))
        record = eventually(lambda: [r for r in crew.records("a", "process.exec") if r["verdict"] == "hook"])[0]
        assert record["status"] == 0
        doc = json.loads(files[0].read_text())
        assert doc["agent"] == "a" and doc["cause"] == "operator" and doc["id"] == killed.terminated.id
        assert doc["reason"] == 'why "not"\n' and doc["version"] == 1
    fds = (runner.home / "fds").read_text()
    assert "socket:" not in fds and "crewd" not in fds.replace(str(runner.home), "")
    # The end of the crew is no termination to page anybody for.
    assert len(hook_files(runner)) == 1


@pytest.mark.waits
def test_a_hook_that_hangs_is_killed_and_others_still_run(runner):
    crew = hooked(runner, "sleep 600")
    with crew.start() as running:
        client = running.client()
        client.kill("a")
        client.kill("b")
        eventually(lambda: len(hook_files(runner)) == 2, timeout=8)
        record = eventually(lambda: [r for r in crew.records("a", "process.exec") if r["verdict"] == "hook failed"], timeout=60)[0]
        assert "killed after 10 s" in record["reason"]
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 30


def test_deadline_kills_an_agent_that_ignores_its_cancel(runner):
    if os.geteuid() != 0:
        pytest.skip("a signal into the jail from outside needs CAP_KILL")
    crew = Crew(runner).agent("a").task("slow", "a", "time.sleep(600)", timeout="4s")
    with crew.start() as running:
        client, runs = running.client(), running.client()
        seq = runs._send("run_tasks", crewd.Message("RunTasks"))
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        os.kill(jail_of(client, "a"), signal.SIGSTOP)
        done = runs._answer(seq, ("crew_done",), 60)[1]
        assert "did not stop and was killed" in done_task(done, "slow").error
    assert crew.records("a", "agent.terminated")[0]["cause"] == "deadline"
