# SPDX-License-Identifier: Apache-2.0
"""crewctl up that does not work out: whatever part of it fails, everything is as it was, or the answer names what is not."""

import json
import os
import signal
import threading
import time

import crewd
import pytest
from conftest import modes
from crewlib import agent_status, eventually, outside, state_of, walls_are_up
from egresslib import Tcp, echo
from test_crew_apply import APPLY, BROKEN, add_agent, edit, hold, let_go, let_run, make, pids, task_of, up
from test_crew_instances import waiting

PYTHON = '{"policy": "%s.yaml", "command": ["python3", '


def restart_of(crew, name):
    """Another command: the agent has to be started again."""
    edit(crew, "crew.yaml", f"  {name}: " + PYTHON % name, f"  {name}: " + PYTHON % name + '"-u", ')


def break_it(crew, name, more=""):
    """A command that passes every check, and does not start."""
    path = crew.top / "crew.yaml"
    lines = [f"  {name}: {{policy: {name}.yaml, command: {BROKEN}{more}}}\n" if line.startswith(f"  {name}: ") else line
             for line in path.read_text().splitlines(True)]
    path.write_text("".join(lines))
    if "exec:" not in (crew.top / f"{name}.yaml").read_text():
        let_run(crew, name)


def cpu_ticks(running):
    return sum(map(int, open(f"/proc/{running.proc.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))


def undone(crew, culprit):
    answer, _ = up(crew, status=1)
    assert answer["outcome"] == "undone" and answer["error"].startswith(f"agent {culprit} did not start"), answer
    assert not any(a["applied"] for a in answer["agents"])
    return answer


# --- policies ---

DIAL = """import socket
try:
    s = socket.create_connection(('one.apply.test', 80), timeout=10)
    s.sendall(b'x')
    out(s.recv(1) == b'x')
except OSError:
    out(False)
"""


def test_what_the_gateway_lets_an_agent_do_is_taken_back(runner):
    with Tcp(echo) as server:
        crew = make(runner, "a", "b")
        crew.extra = f'endpoints:\n  "one.apply.test:80": {{connect_to: "{server.address}"}}\n'
        crew.write()
        with crew.start() as running:
            client = running.client()
            before = pids(client)
            dial = lambda: client.submit(agent="a", description=DIAL).result(60)
            assert dial() is False
            edit(crew, "a.yaml", "{deny_all: true}", '{allowed_endpoints: ["one.apply.test:80"]}')
            good = (crew.top / "crew.yaml").read_text()
            break_it(crew, "b")
            undone(crew, "b")
            assert dial() is False and pids(client)["a"] == before["a"]
            (crew.top / "crew.yaml").write_text(good)
            up(crew)
            assert dial() is True and pids(client)["a"] == before["a"]
            edit(crew, "a.yaml", '{allowed_endpoints: ["one.apply.test:80"]}', "{deny_all: true}")
            break_it(crew, "b")
            undone(crew, "b")
            assert dial() is True and pids(client)["a"] == before["a"]


def grouped(crew, agent):
    [spawned] = eventually(lambda: crew.records(agent, "agent.spawned"))
    return "cgroup-memory" in spawned.get("limits_by", "") and os.path.exists("/sys/fs/cgroup/memory")


EAT = "x = bytearray(300 << 20); x[::4096] = b'x' * len(x[::4096]); time.sleep(50)"


@pytest.mark.parametrize("mode", modes()[:1])  # rootless there is no group to ask, unless it was delegated
def test_a_limit_that_a_running_agent_cannot_get_undoes_all_of_it(runner):
    crew = make(runner, "a", "b")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("memory: 256MiB", "memory: 512MiB")
    crew.write()
    with crew.start() as running:
        client = running.client()
        if not grouped(crew, "a"):
            pytest.skip("this kernel limits memory by no version 1 control group")
        client.submit(agent="a", description=EAT)
        eventually(lambda: agent_status(client, "a").memory_bytes > 280 << 20)
        before = pids(client)
        edit(crew, "a.yaml", "memory: 512MiB", "memory: 256MiB")
        edit(crew, "b.yaml", "wall_time: 60s", "wall_time: 50s")
        add_agent(crew, "new")
        answer, _ = up(crew, status=1)
        assert answer["outcome"] == "undone" and "agent a: limits: the agent uses more memory" in answer["error"]
        assert pids(client) == before and agent_status(client, "a").memory_max == 512 << 20
        assert not any(a["error"] for a in answer["agents"])


@pytest.mark.parametrize("mode", modes()[:1])
def test_an_agent_that_does_not_take_its_former_limits_is_started_again_by_them(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        if not grouped(crew, "a"):
            pytest.skip("this kernel limits memory by no version 1 control group")
        client.submit(agent="b", description=hold(crew, "b"))
        eventually(lambda: task_of(client, "b"))
        edit(crew, "a.yaml", "memory: 256MiB", "memory: 512MiB")
        break_it(crew, "b")
        other = running.client()
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=60000))
        eventually(lambda: agent_status(client, "a").memory_max == 512 << 20)
        client.submit(agent="a", description=EAT.replace("time.sleep(50)", hold(crew, "a")))
        eventually(lambda: agent_status(client, "a").memory_bytes > 280 << 20)
        let_go(crew, "b")
        eventually(lambda: [r for r in crew.records("a", "policy.reloaded") if r.get("verdict") == "failed"])
        let_go(crew, "a")
        assert other._answer(seq, ("crew_applied",), 60)[1].outcome == APPLY["UNDONE"]
        a = agent_status(client, "a")
        assert (a.incarnation, a.memory_max) == (2, 256 << 20)
        assert client.submit(agent="a", description="out(1)").result(60) == 1


# --- agents ---

def test_one_that_was_down_is_down_again(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        client.stop_agent("a", 5000)
        restart_of(crew, "a")
        break_it(crew, "b")
        undone(crew, "b")
        a = agent_status(client, "a")
        assert (a.pid, a.incarnation, state_of(client, "b")) == (0, 2, crewd.AgentState.READY)


def test_the_first_failure_of_a_changed_agent_is_the_last(runner):
    crew = make(runner, "a", "b", restart={"max": 5, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        restarts = ', restart: {"max": 5, "within": "60s"}'
        break_it(crew, "b", restarts)
        add_agent(crew, "new", BROKEN + restarts)
        let_run(crew, "new")
        undone(crew, "new")
        assert agent_status(client, "b").incarnation == 1
        assert len(crew.records("new", "agent.terminated")) == 1
        (crew.top / "crew.yaml").write_text((crew.top / "crew.yaml").read_text().replace("  new:", "#"))
        undone(crew, "b")
        assert agent_status(client, "b").incarnation == 3


@pytest.mark.waits
@pytest.mark.parametrize("mode", modes()[:1])  # a start gets twenty seconds for its first check
def test_one_that_is_not_well_did_not_start(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        add_agent(crew, "sick", '["python3", "${CREW_DIR}/agent.py"], '
                                'health: {command: ["false"], every: 100ms, timeout: 2s, failures: 2}')
        answer = undone(crew, "sick")
        assert "health" in answer["error"] and pids(client) == before


@pytest.mark.parametrize("restart", [None, {"max": 50, "within": "60s"}])
def test_what_does_not_come_back_is_named(runner, restart):
    """The former program is no longer there, or does not live: everything else is as it was, and the answer says which is not."""
    crew = make(runner, "a", "b")
    # A shell: what ends later than a quarter of a second after its start has been up.
    crew.agents["a"] |= {"command": ["sh", "${CREW_DIR}/former.sh", "${CREW_DIR}/flags/gone"], "driver": "stdio-rpc"}
    if restart:
        crew.agents["a"]["restart"] = restart
    crew.files["former.sh"] = "#!/bin/sh\ntest -e $1 && exit 3\necho up >&2\nwhile read line; do :; done\n"
    crew.write()
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        edit(crew, "crew.yaml", '"${CREW_DIR}/former.sh"', '"-u", "${CREW_DIR}/former.sh"')
        client.submit(agent="b", description=hold(crew, "b"))
        eventually(lambda: task_of(client, "b"))
        break_it(crew, "b")
        gone = crew.top / "flags" / "gone"


        def once_up():  # a, as the file says
            eventually(lambda: [r["inc"] for r in crew.records("a", "agent.stderr")] == [1, 2])
            gone.write_text("")
            let_go(crew, "b")
        late = threading.Thread(target=once_up)
        late.start()
        r = runner.crewctl("up", crew.top / "crew.yaml", timeout=60)
        late.join()
        assert r.returncode == 1 and "everything is as it was" not in r.stderr, r.stderr
        assert "agent b did not start" in r.stderr and "1 agent is not as before" in r.stderr
        assert "taking it back: agent a did not start" in r.stderr and "crewctl status" in r.stderr
        assert pids(client)["b"][1] == before["b"][1] + 2
        if restart:  # by its own restarts
            gone.unlink()
            eventually(lambda: state_of(client, "a") == crewd.AgentState.READY, timeout=20)
        assert "not everything is as it was" in running.log()


def test_who_is_frozen_meanwhile_is_waited_for(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client, other = running.client(), running.client()
        client.submit(agent="a", description=hold(crew, "a"))
        eventually(lambda: task_of(client, "a"))
        before = pids(client)
        restart_of(crew, "a")
        restart_of(crew, "b")
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=1500))
        frozen = other._send("freeze_agent", crewd.codec.Message("FreezeAgent", agent="a", reason="look at it"))
        other._answer(frozen, ("agent_held",), 60)
        with pytest.raises(crewd.CrewdError):
            other._answer(seq, ("crew_applied",), 2)  # its grace is over by then
        assert client.submit(agent="b", description="out(1)").result(60) == 1  # crewd looks at everything again
        spent = cpu_ticks(running)
        with pytest.raises(crewd.CrewdError):
            other._answer(seq, ("crew_applied",), 1)
        assert cpu_ticks(running) - spent < 30, "crewd waits, and does not spin"
        assert pids(client) == before and agent_status(client, "a").frozen
        client.thaw("a")
        assert other._answer(seq, ("crew_applied",), 60)[1].outcome == APPLY["DONE"]
        assert pids(client)["a"][1] == 2 == pids(client)["b"][1]


# --- who else wants something meanwhile ---

def test_a_manager_starts_nobody_while_a_file_is_applied(runner):
    crew = waiting(runner, "order('receive')\nnames = [refused('spawn', 'a', stdin={})]").agent("c", targets=["boss"])
    crew.files["flags/none"] = ""
    crew.files["b.yaml"] = crew.files["b.yaml"].replace("read: []", 'read: ["${CREW_DIR}/flags/"]')
    with crew.start() as running:
        client, other, runs = running.client(), running.client(), running.client()
        runs._send("run_tasks", crewd.codec.Message("RunTasks"))
        eventually(lambda: task_of(client, "boss"))
        client.submit(agent="b", description=hold(crew, "b"))
        eventually(lambda: task_of(client, "b"))
        restart_of(crew, "b")
        applying = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=60000))
        other.status()
        assert client.submit(agent="c", description="out(call('send', 'boss', stdin=1)[0])").result(60) == 0
        [refused] = eventually(lambda: [r for r in crew.records("boss", "manager.order") if r["verb"] == "spawn"])
        assert refused["verdict"] == "denied" and "is being changed" in refused["reason"], refused
        let_go(crew, "b")
        assert other._answer(applying, ("crew_applied",), 60)[1].outcome == APPLY["DONE"]
        assert "a#2" not in pids(client)


def test_crewd_itself_checks_the_lock(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        edit(crew, "crew.yaml", '  a: {', '  a: {"goal": "x", ')
        answer = client.apply(locked=True)
        assert answer.outcome == APPLY["INVALID"] and answer.problems[0].file.endswith("/crew.lock"), answer
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        edit(crew, "crew.yaml", '"goal": "x"', '"goal": "y"')
        answer = client.apply(locked=True)
        assert answer.outcome == APPLY["INVALID"] and "expected" in answer.problems[0].text, answer
        assert not crew.records("a", "crew.applied")
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        assert client.apply(locked=True).outcome == APPLY["DONE"]
        # From now on it is locked, whether or not anybody says so.
        edit(crew, "crew.yaml", '"goal": "y"', '"goal": "z"')
        assert client.apply().outcome == APPLY["INVALID"]


def test_nothing_is_applied_while_the_crew_comes_up(runner):
    crew = make(runner, "a")
    crew.agents["a"]["health"] = {"command": ["sh", "${CREW_DIR}/check.sh", "${CREW_DIR}/flags/well"], "every": "100ms",
                                  "timeout": "2s", "failures": 99}
    crew.files["check.sh"] = "#!/bin/sh\ntest -e \"$1\"\n"
    crew.write()
    running = crew.start(wait=False)
    try:
        eventually(lambda: (crew.run_dir / "control.sock").exists())
        client = running.client_soon()
        edit(crew, "a.yaml", "wall_time: 60s", "wall_time: 50s")
        with pytest.raises(crewd.Refused) as early:
            client.apply()
        assert early.value.code == "busy" and "starting" in early.value.message
        let_go(crew, "well")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)

        def applied():
            try:
                return client.apply()
            except crewd.Refused:
                return None
        assert eventually(applied).outcome == APPLY["DONE"]
    finally:
        running.stop()


def stopped_gateway(running):
    """It has to take new rules, and does not until it is let go on."""
    walls_are_up(running.client())
    gateway = next(p for p, comm in outside(running.proc.pid).items() if comm == "crew-gateway")
    os.kill(gateway, signal.SIGSTOP)
    return gateway


def test_a_crew_that_is_stopped_while_policies_are_on_their_way_takes_nothing_back(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        gateway = stopped_gateway(running)
        try:
            edit(crew, "a.yaml", "{deny_all: true}", '{allowed_endpoints: ["one.apply.test:80"]}')
            seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew"))
            other.status()
            client._send("stop_crew", crewd.codec.Message("StopCrew", reason="enough"))
            with pytest.raises(crewd.Refused) as refused:
                other._answer(seq, ("crew_applied",), 60)
            assert refused.value.code == "stopping"
        finally:
            os.kill(gateway, signal.SIGCONT)
        assert running.proc.wait(60) == 0
    assert "applied" not in running.log() and not crew.records("a", "crew.applied")


def test_a_crew_that_stops_waits_no_longer_for_what_was_being_applied(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        client.submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(2, b'up'); time.sleep(50)")
        eventually(lambda: crew.records("a", "agent.stderr"))
        restart_of(crew, "a")
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=2000))
        other._send("stop_crew", crewd.codec.Message("StopCrew", grace_ms=60000))
        with pytest.raises(crewd.Refused):
            other._answer(seq, ("crew_applied",), 60)
        time.sleep(2)  # the time that the change gave to its task
        spent = cpu_ticks(running)
        time.sleep(1)
        assert cpu_ticks(running) - spent < 30 and running.proc.poll() is None
        client._send("stop_crew", crewd.codec.Message("StopCrew"))
        assert running.proc.wait(60) == 0


def test_who_was_answered_hears_no_more_of_it_when_the_crew_stops(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        edit(crew, "a.yaml", "wall_time: 60s", "wall_time: 50s")
        seq = client._send("apply_crew", crewd.codec.Message("ApplyCrew"))
        assert client._answer(seq, ("crew_applied",), 60)[1].outcome == APPLY["DONE"]
        client._send("stop_crew", crewd.codec.Message("StopCrew"))
        with pytest.raises(crewd.ConnectionClosed):
            client._answer(seq, ("crew_applied",), 60)


@pytest.mark.parametrize("mode", modes()[:1])
def test_what_does_not_work_out_while_the_crew_stops_is_not_taken_back(runner):
    crew = make(runner, "a", "b")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("memory: 256MiB", "memory: 512MiB")
    crew.write()
    with crew.start() as running:
        client, other = running.client(), running.client()
        if not grouped(crew, "a"):
            pytest.skip("this kernel limits memory by no version 1 control group")
        client.submit(agent="a", description=EAT)
        eventually(lambda: agent_status(client, "a").memory_bytes > 280 << 20)
        edit(crew, "a.yaml", "memory: 512MiB", "memory: 256MiB")
        edit(crew, "b.yaml", "{deny_all: true}", '{allowed_endpoints: ["one.apply.test:80"]}')
        add_agent(crew, "new", '["sh", "-c", "trap : TERM; echo up >&2; while :; do sleep 1; done"], driver: stdio-rpc')
        gateway = stopped_gateway(running)
        try:
            other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=60000))
            eventually(lambda: [r for r in crew.records("a", "policy.reloaded") if r.get("verdict") == "failed"])
            eventually(lambda: crew.records("new", "agent.stderr"))  # and is deaf by now
            client._send("stop_crew", crewd.codec.Message("StopCrew", grace_ms=60000))
            eventually(lambda: agent_status(client, "new").state == crewd.AgentState.STOPPING)
        finally:
            os.kill(gateway, signal.SIGCONT)
        eventually(lambda: crew.records("b", "network.policy"))
        time.sleep(0.3)  # what it would do then takes the gateway once more
        assert len(crew.records("b", "network.policy")) == 1
        assert agent_status(client, "new").state == crewd.AgentState.STOPPING  # and no name that never came
        client._send("stop_crew", crewd.codec.Message("StopCrew"))
        assert running.proc.wait(60) == 0


def test_nothing_is_applied_while_policies_reload(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        gateway = stopped_gateway(running)
        edit(crew, "a.yaml", "{deny_all: true}", '{allowed_endpoints: ["one.apply.test:80"]}')
        try:
            seq = other._send("reload_policy", crewd.codec.Message("ReloadPolicy"))
            other.status()
            edit(crew, "crew.yaml", '  a: {', '  a: {"goal": "x", ')
            with pytest.raises(crewd.Refused) as early:
                client.apply(timeout=60)
            assert early.value.code == "busy" and early.value.message == "policies are being reloaded"
        finally:
            os.kill(gateway, signal.SIGCONT)
        assert other._answer(seq, ("policy_reloaded",), 60)[1].ok
        assert not crew.records("a", "crew.applied") and client.apply().outcome == APPLY["DONE"]


def test_more_names_than_there_is_room_for_need_the_whole_crew(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        for i in range(513):
            add_agent(crew, f"n{i}")
        plan = client.plan()
        assert plan.ok and [c.key for c in plan.crew] == ["agents"] and "has room for 513" in plan.crew[0].detail
        with pytest.raises(crewd.Refused) as whole:
            client.apply()
        assert whole.value.code == "whole-crew" and pids(client) == before


def test_a_policy_that_gets_a_process_needs_the_whole_crew(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        (crew.top / "p.yaml").write_text((crew.top / "a.yaml").read_text().replace("agent: a", "agent: p"))
        with open(crew.top / "crew.yaml", "a") as f:
            f.write("  p: {policy: p.yaml}\n")
        assert client.apply().outcome == APPLY["DONE"]
        edit(crew, "crew.yaml", "  p: {policy: p.yaml}", "  p: {policy: p.yaml, command: [cat]}")
        with pytest.raises(crewd.Refused) as whole:
            client.apply()
        assert whole.value.code == "whole-crew"
        edit(crew, "crew.yaml", "  p: {policy: p.yaml, command: [cat]}\n", "")
        assert client.apply().outcome == APPLY["DONE"]


def test_a_consensual_crew_has_its_voters_and_tasks_from_the_start(runner):
    crew = make(runner, "a", "b")
    crew.process = "consensual"
    crew.write()
    with crew.start() as running:
        client = running.client()
        good = (crew.top / "crew.yaml").read_text()
        add_agent(crew, "c")
        with pytest.raises(crewd.Refused) as agents:
            client.apply()
        (crew.top / "crew.yaml").write_text(good.replace('"description": "out', '"description": " out'))
        with pytest.raises(crewd.Refused) as tasks:
            client.apply()
        assert agents.value.code == tasks.value.code == "whole-crew"
        (crew.top / "crew.yaml").write_text(good.replace('  a: {', '  a: {"goal": "x", '))
        assert client.apply().outcome == APPLY["DONE"]


@pytest.mark.parametrize("what", ["fifo", "socket", "dir", "policy fifo"])
def test_a_file_that_is_none_holds_nobody_up(runner, what):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        bad = crew.top / "other.yaml"
        if what == "dir":
            bad.mkdir()
        elif what == "socket":
            os.mknod(bad, 0o140600)
        elif what == "fifo":
            os.mkfifo(bad)
        else:
            bad.write_text((crew.top / "crew.yaml").read_text().replace("a.yaml", "pipe.yaml"))
            os.mkfifo(crew.top / "pipe.yaml")
        runner.own(crew.top)
        for ask in (client.plan, client.apply):
            answer = ask(file=str(bad))
            assert answer.problems and str(crew.top) in answer.problems[0].file
        assert client.submit(agent="a", description="out(1)").result(60) == 1
