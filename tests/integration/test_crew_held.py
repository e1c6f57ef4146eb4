# SPDX-License-Identifier: Apache-2.0
"""Agents without a crewd: what goes wrong while nobody, or the wrong one, is there for them."""

import contextlib
import os
import pwd
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import crewd
import pytest
from crewlib import Running, agent_status, alive, eventually, outside, state_of
from hostilelib import HostileCrew, begin, grown_kib, rss_kib
from holdlib import ends, held_crew, jails, lose, spawner_of


def fails(crew):
    """One that comes for them, and cannot; what it says."""
    running = Running(crew, wait=False)
    assert running.proc.wait(60) != 0
    return running.log()


def held(runner):
    status = runner.crewctl("status")
    return status.returncode == 3 and "held" in status.stderr


def test_one_that_cannot_start_leaves_them_to_the_next(runner):
    crew = held_crew(runner).agent("a").agent("b")
    crew.extra += ('hooks:\n  on_agent_terminated:\n'
                   '    webhook: {url: "http://127.0.0.1:9/x", secret_file: keys/hook.key}\n')
    crew.files["keys/hook.key"] = "k" * 40 + "\n"
    crew.write()
    key = crew.top / "keys" / "hook.key"
    key.chmod(0o600)
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    log = runner.home / "lib" / "t" / "audit" / "b" / "log.jsonl"
    for path in (key, log):  # before it has the crew's parts, and while it makes them
        away = path.with_suffix(".away")
        path.rename(away)
        path.mkdir()
        fails(crew)
        assert sorted(alive(pids.values())) == sorted(pids.values()) and held(runner), path
        path.rmdir()
        away.rename(path)
    with crew.start() as again:
        client = again.client()
        assert jails(crew, client) == pids
        assert client.submit(agent="a", description="out(1)").result(60) == 1
    assert not alive(pids.values()) and not list(crew.run_dir.glob("held.*"))
    assert runner.crewctl("audit", "verify").returncode == 0


def test_those_who_only_look_prolong_nothing(runner):
    crew = held_crew(runner, hold_for="6s").agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    path = crew.top / "a.yaml"
    path.write_text(path.read_text().replace("processes: 128", "processes: 64"))
    lose(running)
    start, looked = time.monotonic(), 0
    while alive(pids.values()):
        assert time.monotonic() - start < 20, "held for longer than hold_for"
        with Running(crew, wait=False) as other:
            eventually(lambda: other.proc.poll() is not None or not alive(pids.values()))
            looked += "outlived" in other.log()
    assert looked > 1


def test_what_is_ended_together_is_started_together_by_the_next_crewd(runner):
    crew = held_crew(runner)
    names = [f"a{i}" for i in range(6)]
    for name in names:
        crew.agent(name, restart={"max": 50, "within": "1s"})
    crew.agent("still", on_agent_terminated="fail_task")
    crew.extra += "defaults: {on_agent_terminated: restart}\nsupervision: {strategy: one_for_all}\n"
    rng = random.Random()
    for _ in range(6):
        running = crew.start()
        client = running.client()
        eventually(lambda: all(state_of(client, n) == crewd.AgentState.READY for n in names), timeout=60)
        os.kill(agent_status(client, names[0]).pid, signal.SIGKILL)
        time.sleep(rng.random() * 0.03)
        lose(running)
    with crew.start() as last:
        client = last.client()
        eventually(lambda: all(state_of(client, n) == crewd.AgentState.READY for n in names), timeout=60)


def test_a_thaw_under_way_is_carried_through_by_the_next_crewd(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    client = running.client()
    pids = jails(crew, client)
    spawner = spawner_of(pids["a"])
    task = client.submit(agent="a", description="time.sleep(0.5); out(7)", timeout_ms=20000)
    eventually(lambda: crew.records("a", "task.started"))
    client.freeze("a")
    os.kill(spawner, signal.SIGSTOP)  # it has yet to say that it is done
    try:
        asking = threading.Thread(target=suppressed, args=(running.client().thaw, "a"))
        asking.start()
        eventually(lambda: crew.records("a", "agent.thawed"))
        lose(running)
        asking.join()
    finally:
        os.kill(spawner, signal.SIGCONT)
    with crew.start() as again:
        client = again.client()
        assert jails(crew, client) == pids
        eventually(lambda: not agent_status(client, "a").frozen)
        [done] = eventually(lambda: crew.records("a", "task.finished"))
        assert done["outcome"] == "ok" and done["task_id"] == task.id
    assert len(crew.records("a", "agent.thawed")) == 1


def suppressed(fn, *args):
    with contextlib.suppress(crewd.CrewdError, OSError):
        fn(*args)


@pytest.mark.waits
def test_a_check_under_way_has_its_time_from_the_next_crewd(runner):
    crew = held_crew(runner).agent("a", health={"command": ["sh", "-c", "sleep 0.9"], "every": "100ms", "timeout": "4s",
                                                "failures": 1})
    running = crew.start()
    pids = jails(crew, running.client())
    time.sleep(0.5)
    lose(running)
    time.sleep(5)
    with crew.start() as again:
        client = again.client()
        time.sleep(2)
        assert jails(crew, client) == pids and not ends(crew, "a")
        eventually(lambda: agent_status(client, "a").health == "passing")


def test_who_acknowledges_nothing_ends(runner):
    crew = HostileCrew(runner).agent("honest")
    crew.extra = "on_supervisor_loss: hold\n"
    crew.extra += "memory:\n  board: {read: [hoarder], write: [hoarder], max_bytes: 1MiB, agent_bytes: 1MiB}\n"
    crew.hostile("hoarder", """begin()
say("memory_put", space="board", key="k", value='"' + "x" * 200000 + '"')
hear()
while True:
    say("memory_get", space="board", key="k")
    hear()
""")
    with crew.start() as running:
        client = running.client()
        before = rss_kib(running.proc.pid)
        begin(client, "hoarder")
        [end] = eventually(lambda: crew.records("hoarder", "agent.terminated"), timeout=30)
        assert end["cause"] == "limit" and end["limit"] == "queue", end
        assert grown_kib(running.proc.pid, before) < 128 << 10
        assert client.submit(agent="honest", description="out(3)").result(60) == 3


def test_a_state_that_cannot_be_kept_ends_the_holding(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    client = running.client()
    pids = jails(crew, client)
    runner.run("prlimit", "--fsize=1000000", "--pid", running.proc.pid, check=True)
    tasks = [client.submit(agent="a", description="time.sleep(0.1); out(1)" + " " * 60000) for _ in range(30)]
    eventually(lambda: "will not be held" in running.log())
    assert [t.result(60) for t in tasks] == [1] * 30
    assert client.submit(agent="b", description="out(2)").result(60) == 2
    assert not list(crew.run_dir.glob("held.*"))
    lose(running)
    eventually(lambda: not alive(pids.values()), timeout=20)  # not after the minute
    with crew.start() as again:
        assert "took over" not in again.log()
        assert ends(crew, "a") == [("supervisor lost", 1)]
    assert runner.crewctl("audit", "verify").returncode == 0


def test_a_held_agent_is_dead_when_it_is_said_to_be(runner):
    crew = held_crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="[os.fork() for _ in range(6)]; time.sleep(600)")
        pid = agent_status(client, "a").pid
        eventually(lambda: len(outside(pid)) >= 64)
        tree = outside(pid)
        lose(running)
        r = runner.crewctl("kill", "--agent", "a")
        left = alive(tree)
        assert r.returncode == 0 and r.stdout.startswith("Agent a terminated."), r.stderr
        assert not left, {p: tree[p] for p in left}
        assert runner.crewctl("down").returncode == 0


# A process that is traced is reaped by nobody before its tracer is gone, and its pid 1 waits for it.
TRACER = """
import ctypes, signal, sys
if ctypes.CDLL(None, use_errno=True).ptrace(0x4206, int(sys.argv[1]), None, None) != 0:
    sys.exit("PTRACE_SEIZE: errno %d" % ctypes.get_errno())
print("traces", flush=True)
signal.pause()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="who traces an agent from outside is root")
def test_a_held_agent_that_dies_slowly_is_not_said_to_be_dead(runner):
    crew = held_crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="time.sleep(600)")
        pid = agent_status(client, "a").pid
        program = eventually(lambda: next((p for p, comm in outside(pid).items() if "python" in comm), None))
        tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(program)], stdout=subprocess.PIPE, text=True)
        assert tracer.stdout.readline() == "traces\n"
        lose(running)
        said = runner.popen(runner.program("crewctl"), "kill", "--agent", "a", stdout=subprocess.PIPE, text=True)
        eventually(lambda: not alive([program]))
        time.sleep(3)
        assert said.poll() is None, "it said so too early"
        tracer.kill()
        tracer.wait()
        assert said.communicate(timeout=60)[0].startswith("Agent a terminated.") and said.returncode == 0
        assert not alive([pid, program])
        assert runner.crewctl("down").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="who traces an agent from outside is root")
def test_who_has_a_held_agent_killed_is_not_told_of_a_death_that_the_next_crewd_awaits(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    client = running.client()
    client.submit(agent="a", description="time.sleep(600)")
    pid = agent_status(client, "a").pid
    program = eventually(lambda: next((p for p, comm in outside(pid).items() if "python" in comm), None))
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(program)], stdout=subprocess.PIPE, text=True)
    assert tracer.stdout.readline() == "traces\n"
    lose(running)
    said = runner.popen(runner.program("crewctl"), "kill", "--agent", "a", "--reason", "odd", stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
    eventually(lambda: not alive([program]))
    with Running(crew, wait=False):
        try:
            out, err = said.communicate(timeout=60)
            assert (said.returncode, out) == (1, "") and "a was killed, and crew t has a crewd again" in err, (out, err)
            assert Path(f"/proc/{pid}").exists()
        finally:
            tracer.kill()
            tracer.wait()
        eventually(lambda: ends(crew, "a"), timeout=60)
    end, = crew.records("a", "agent.terminated")
    assert end["cause"] == "operator" and end["reason"] == "odd" and end["initiator"].startswith("uid "), end
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("mode", ["rootless"])  # root may connect to whatever there is
def test_agents_are_not_started_beside_some_that_cannot_be_asked_for(runner):
    crew = held_crew(runner).agent("a")
    with crew.start() as running:
        pid = agent_status(running.client(), "a").pid
        lose(running)
        sock = crew.run_dir / "held.sock"
        sock.chmod(0)
        assert "cannot see whether agents of this crew are held: Permission denied" in fails(crew)
        sock.chmod(0o600)
        with crew.start() as again:
            assert agent_status(again.client(), "a").pid == pid


def by_hand(crew, agent):
    [end] = crew.records(agent, "agent.terminated")
    return end["cause"], end["initiator"], end["reason"]


def whoever(runner):
    uid = pwd.getpwnam(runner.user).pw_uid if runner.user else os.geteuid()
    return f"uid {uid} (crewctl)"


def test_whoever_kills_a_held_agent_is_on_record_by_the_next_crewd(runner):
    crew = held_crew(runner).agent("a").agent("b").agent("c")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    why = "odd\tqueries " + "ä" * 200
    assert runner.crewctl("kill", "--agent", "a", "--reason", why).returncode == 0
    assert runner.crewctl("kill", "--agent", "b").returncode == 0
    with crew.start() as again:
        assert "took over 1 agent" in again.log()
        assert agent_status(again.client(), "c").pid == pids["c"]
        cause, initiator, reason = by_hand(crew, "a")
        assert (cause, initiator) == ("operator", whoever(runner))
        assert reason.startswith("odd queries ää") and len(reason.encode()) < 256 and set(reason[12:]) == {"ä"}
        assert by_hand(crew, "b") == ("operator", whoever(runner), "killed while no crewd was there")
        again.client().stop_agent("c")
    assert runner.crewctl("audit", "verify").returncode == 0


def test_what_was_ended_by_hand_and_never_taken_over_is_not_said_to_have_died_with_its_crewd(runner):
    crew = held_crew(runner).agent("a", restart={"max": 2, "within": "60s"}).agent("b").agent("c")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    assert runner.crewctl("kill", "--agent", "a", "--reason", "odd queries").returncode == 0
    os.kill(pids["c"], signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pids['c']}"))  # its spawner knows: it has reaped it
    assert runner.crewctl("down", "--reason", "the night").returncode == 0
    notes = runner.home / "lib" / "t" / "held.ends"
    assert notes.stat().st_mode & 0o777 == 0o600
    with crew.start() as again:
        assert "took over" not in again.log()
        assert by_hand(crew, "a") == ("operator", whoever(runner), "odd queries")
        assert by_hand(crew, "b") == ("operator", whoever(runner), "the night")
        assert by_hand(crew, "c")[0] == "supervisor lost"  # nobody said so
        assert state_of(again.client(), "a") == crewd.AgentState.READY
    running = crew.start()
    client = running.client()
    assert [client.submit(agent=n, description="out(1)").result(60) for n in "abc"] == [1, 1, 1]
    lose(running)
    down = runner.crewctl("down", check=True).stdout
    assert "3 held agents" in down, down
    notes.write_bytes(notes.read_bytes()[:-1])  # the last is not whole
    with crew.start():
        last = {n: crew.records(n, "agent.terminated")[-1] for n in "abc"}
        assert sorted(r["cause"] for r in last.values()) == ["operator", "operator", "supervisor lost"], last
        assert {r["reason"] for r in last.values() if r["cause"] == "operator"} == {"crewctl down"}
        assert crew.records("a", "agent.terminated")[0]["reason"] == "odd queries"  # a note is of one life
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("bad", [b"\xff" * 336, b"\0" * 5000, b"x"])
def test_notes_that_are_none_are_passed_over(runner, bad):
    crew = held_crew(runner).agent("a")
    running = crew.start()
    pids = jails(crew, running.client())
    running.proc.kill()
    running.proc.wait()
    notes = runner.home / "lib" / "t" / "held.ends"
    os.kill(spawner_of(pids["a"]), signal.SIGKILL)
    eventually(lambda: not alive(pids.values()))
    notes.write_bytes(bad)
    with crew.start():
        assert by_hand(crew, "a")[0] == "supervisor lost"
