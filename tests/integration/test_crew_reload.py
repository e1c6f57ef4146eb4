# SPDX-License-Identifier: Apache-2.0
"""Policy files changed under a crew that runs: what applies at once, what waits for a restart, and that an error changes nothing."""

import json
import os
import re
import subprocess
import threading
import time

import pytest

import crewd
from conftest import modes
from controllib import Asking
from crewlib import Crew, eventually, state_of
from egresslib import Tcp, echo, greet

ONE, TWO = "one.control.test", "two.control.test"
ECHO_TOOL = "#!/bin/sh\ncat\n"


def edit(crew, agent, *changes):
    path = crew.top / f"{agent}.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text, (old, text)
        text = text.replace(old, new, 1)
    path.write_text(text)


def reload(crew, *args, status=0):
    r = crew.runner.crewctl("policy", "reload", "--json", *args)
    assert r.returncode == status, (r.stdout, r.stderr)
    return json.loads(r.stdout)


def sections(result, agent):
    [a] = [a for a in result["agents"] if a["agent"] == agent]
    return {name: s["state"] for name, s in a["sections"].items()}, a


def reloads(crew, agent):
    return [r for r in crew.records(agent) if r["kind"] == "policy.reloaded"]


@pytest.fixture
def servers():
    with Tcp(echo) as one, Tcp(greet("two")) as two:
        yield one, two


def network_crew(runner, servers, **kw):
    one, two = servers
    return Asking(runner, {f"{ONE}:80": one.address, f"{TWO}:80": two.address}).client("a", f"{ONE}:80", **kw)


def test_a_new_endpoint_is_reachable_at_once(runner, servers):
    crew = network_crew(runner, servers)
    with crew.start():
        assert crew.dial("a", TWO, 80)[0] != "got two"
        edit(crew, "a", (f'"{ONE}:80"', f'"{ONE}:80", "{TWO}:80"'))
        began = time.monotonic()
        result = reload(crew)
        took = time.monotonic() - began
        states, a = sections(result, "a")
        assert states.pop("network") == "applied" and set(states.values()) == {"unchanged"}
        assert a["sections"]["network"]["detail"] == f"+ {TWO}:80"
        assert 0 < result["duration_us"] <= took * 1e6 and a["generation"] == 2 and a["closed"] == 0
        assert crew.dial("a", TWO, 80)[0] == "got two"
        [record] = reloads(crew, "a")
        assert (record["old_sha256"], record["sha256"]) == (a["old_sha256"], a["sha256"])
        assert record["applied"] == "network" and "restart" not in record and "crewctl" in record["initiator"]


TALK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 80))
s.sendall(b"x"); assert s.recv(1) == b"x"
print("up", flush=True)
began = time.monotonic()
try:
    print("then", repr(s.recv(1)), flush=True)
except OSError as e:
    print("then", type(e).__name__, flush=True)
"""


def test_connections_that_are_no_longer_allowed_end_and_others_stay(runner, servers):
    one, _ = servers
    crew = Asking(runner, {f"{ONE}:80": one.address, f"{TWO}:80": one.address}).client("a", f"{ONE}:80", f"{TWO}:80")
    with crew.start():
        talks = [crew.popen("a", "python3", "-c", TALK, name, stdout=subprocess.PIPE, text=True) for name in (ONE, TWO)]
        for t in talks:
            assert t.stdout.readline() == "up\n"
        edit(crew, "a", (f', "{TWO}:80"', ""))
        states, a = sections(reload(crew, "--agent", "a"), "a")
        assert states["network"] == "applied" and a["closed"] == 1
        assert talks[1].stdout.readline() in ("then ConnectionResetError\n", "then b''\n")  # else it would wait for ever
        time.sleep(0.2)
        assert talks[0].poll() is None
        talks[0].kill()
        assert crew.dial("a", TWO, 80)[0] != "got two"


@pytest.mark.parametrize("broken,where", [
    ((("network:", "netwrok:"),), r"a\.yaml:5:\d+"),
    ((('"one.control.test:80"', '"one.control.test:70000"'),), r"a\.yaml:5:\d+"),
    ((("deny-by-default", "[unclosed"),), r"a\.yaml:\d+"),
])
def test_an_error_changes_nothing(runner, servers, broken, where):
    crew = network_crew(runner, servers).client("b", f"{ONE}:80")
    with crew.start():
        edit(crew, "b", (f'"{ONE}:80"', f'"{TWO}:80"'))
        edit(crew, "a", *broken)
        r = crew.runner.crewctl("policy", "reload")
        assert r.returncode == 2 and r.stdout == ""
        assert re.search(where, r.stderr) and "nothing was changed" in r.stderr
        result = reload(crew, status=2)
        assert not result["ok"] and result["agents"] == []
        assert any(p["severity"] == "error" and p["line"] > 0 for p in result["problems"])
        assert crew.dial("b", TWO, 80)[0] != "got two", "b's file is fine, and is not taken over either"
        assert reloads(crew, "a") == reloads(crew, "b") == []
        r = crew.runner.crewctl("policy", "reload", "--agent", "a")
        assert r.returncode == 2 and re.search(where, r.stderr)
        edit(crew, "a", *((new, old) for old, new in reversed(broken)))
        for a in reload(crew)["agents"]:
            [spawned] = crew.records(a["agent"], "agent.policy")
            assert a["old_sha256"] == spawned["sha256"], "what was in force all the time"
        assert crew.dial("b", TWO, 80)[0] == "got two"


@pytest.mark.parametrize("broken", ["network: [", None], ids=["broken", "gone"])
def test_another_agents_broken_file_is_no_matter_of_ones_own(runner, servers, broken):
    crew = network_crew(runner, servers).client("b", f"{ONE}:80")
    with crew.start():
        edit(crew, "b", (f'"{ONE}:80"', f'"{TWO}:80"'))
        (crew.top / "a.yaml").write_text(broken) if broken else (crew.top / "a.yaml").unlink()
        result = reload(crew, "--agent", "b")
        assert [a["agent"] for a in result["agents"]] == ["b"] and result["problems"] == []
        assert sections(result, "b")[0]["network"] == "applied"
        assert crew.dial("b", TWO, 80)[0] == "got two"
        assert crew.dial("a", TWO, 80)[0] != "got two" and not reloads(crew, "a"), "a has what it had"
        reload(crew, status=2)


def test_one_agents_file_is_checked_against_what_the_others_have(runner):
    """As long as a may write there, b may not be made to run what lies there, whatever a's file says by now."""
    crew = tools_crew(runner)
    crew.write()
    data = crew.top / "data"
    data.mkdir(mode=0o755)
    runner.own(data)
    edit(crew, "a", ("write: []", f'write: ["{data}/"]'))
    with crew.start():
        edit(crew, "a", (f'write: ["{data}/"]', "write: []"))
        edit(crew, "b", ("write: []", f'write: [], exec: ["{data}/"]'))
        r = runner.crewctl("policy", "reload", "--agent", "b")
        assert r.returncode == 2 and "agent 'b' could execute what agent 'a' writes" in r.stderr, r.stdout + r.stderr
        assert sections(reload(crew), "b")[0]["filesystem"] == "needs-restart", "with a's new file it is fine"


def test_the_first_inspection_needs_a_crew_that_knows_of_it(runner, servers):
    crew = network_crew(runner, servers)
    with crew.start():
        edit(crew, "a", (f'"{ONE}:80"', f'"{ONE}:80", {{host: {TWO}, port: 443, tls: inspect}}'))
        r = runner.crewctl("policy", "reload")
        assert r.returncode == 2 and "its CA is made when the crew starts" in r.stderr
        assert reloads(crew, "a") == []


def test_what_is_recorded_of_files_changes_at_once(runner):
    crew = tools_crew(runner)
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("  tools:", "  audit: {files: all}\n  tools:")
    with crew.start():
        edit(crew, "a", ("files: all", "files: denied"))
        states, a = sections(reload(crew), "a")
        assert states["audit"] == "applied" and a["sections"]["audit"]["detail"] == "files all -> denied"


def test_lines_that_moved_are_no_change(runner, servers):
    crew = network_crew(runner, servers)
    with crew.start():
        path = crew.top / "a.yaml"
        path.write_text("# a note\n\n" + path.read_text())
        result = reload(crew)
        states, a = sections(result, "a")
        assert set(states.values()) == {"unchanged"} and a["old_sha256"] != a["sha256"]
        crew.dial("a", TWO, 80)
        assert crew.await_network("a", "denied", host=TWO)[0]["rule"].endswith("a.yaml:7"), "it was line 5"
        again = reload(crew)["agents"][0]
        assert again["old_sha256"] == again["sha256"]
        assert len(reloads(crew, "a")) == 1


def tools_crew(runner):
    crew = Crew(runner, "tools").agent("a", tools=["say"], limits="open_files: 128").agent("b").tool("say", ECHO_TOOL).tool("more", ECHO_TOOL)
    return crew


def call(client, agent, tool):
    return client.submit(agent=agent, description=f"out(call('tool', {tool!r}, stdin={{}}))").result(60)


def test_a_tool_that_is_taken_away_is_refused_and_a_new_one_waits_for_a_restart(runner):
    crew = tools_crew(runner)
    with crew.start() as running:
        c = running.client()
        assert call(c, "a", "say")[0] == 0
        edit(crew, "a", ("allowed: [say]", "allowed: [more]"))
        states, a = sections(reload(crew), "a")
        assert states["tools"] == "needs-restart"
        assert a["sections"]["tools"]["detail"] == "+ more, - say; more is not in the jail yet"
        assert call(c, "a", "say")[0] == 3
        status, answer = call(c, "a", "more")
        assert status == 3 and "not in its jail yet" in answer["error"]["message"]
        assert "--restart" in answer["error"]["data"]["next_steps"][0]
        inc = next(x for x in c.status().agents if x.name == "a").incarnation
        states, a = sections(reload(crew, "--agent", "a", "--restart"), "a")
        assert states["tools"] == "restarting" and a["restarting"]
        eventually(lambda: next(x for x in c.status().agents if x.name == "a").incarnation == inc + 1 and
                   state_of(c, "a").name == "READY")
        assert call(c, "a", "more")[0] == 0
        assert call(c, "a", "say")[0] == 3
        assert sections(reload(crew), "a")[0]["tools"] == "unchanged"


def test_targets_apply_at_once(runner):
    crew = tools_crew(runner)
    with crew.start() as running:
        c = running.client()
        send = "out(call('send', 'b', stdin={}))"
        assert c.submit(agent="a", description=send).result(60)[0] == 3
        edit(crew, "a", ("allowed_targets: []", "allowed_targets: [b]"))
        assert sections(reload(crew), "a")[0]["ipc"] == "applied"
        assert c.submit(agent="a", description=send).result(60)[0] == 0
        edit(crew, "a", ("allowed_targets: [b]", "allowed_targets: []"))
        reload(crew)
        assert c.submit(agent="a", description=send).result(60)[0] == 3


def test_what_a_jail_is_made_with_waits_for_the_restart(runner):
    crew = tools_crew(runner)
    crew.write()
    data = crew.top / "data"
    data.mkdir(mode=0o755)
    (data / "x").write_text("hello")
    runner.own(data)
    look = f"import os, resource; out([os.path.exists('{data}/x'), resource.getrlimit(resource.RLIMIT_NOFILE)[0]])"
    with crew.start() as running:
        c = running.client()
        edit(crew, "a", ("read: []", f'read: ["{data}/"]'), ("open_files: 128", "open_files: 256"),
             ("wall_time: 60s", "wall_time: 50s"))
        states, a = sections(reload(crew), "a")
        assert (states["filesystem"], states["limits"], states["network"]) == ("needs-restart", "needs-restart", "unchanged")
        assert a["sections"]["filesystem"]["detail"] == f"+ read {data}/"
        assert a["sections"]["limits"]["detail"] == "open_files 128 -> 256 after a restart; wall_time 60 s -> 50 s"
        assert c.submit(agent="a", description=look).result(60) == [False, 128]
        # It is still said when nothing more has changed.
        assert sections(reload(crew), "a")[0]["filesystem"] == "needs-restart"
        r = runner.crewctl("policy", "reload")
        assert "1 agent needs to be started again for it: crewctl policy reload --agent a --restart" in r.stdout
        states, _ = sections(reload(crew, "--restart"), "a")
        assert states["filesystem"] == "restarting"
        eventually(lambda: (lambda x: x.incarnation == 2 and x.state.name == "READY")(
            next(x for x in c.status().agents if x.name == "a")))
        assert c.submit(agent="a", description=look).result(60) == [True, 256]
        assert next(x for x in c.status().agents if x.name == "b").incarnation == 1, "b had no change"
        assert set(sections(reload(crew), "a")[0].values()) == {"unchanged"}
        assert running.stop() == 0, running.log()


HUNGRY = """
import subprocess, sys
r = subprocess.run([sys.executable, "-c", "x = bytearray(120 << 20); x[::4096] = b'x' * len(x[::4096])"])
out(r.returncode)
"""


def test_limits_of_control_groups_apply_to_the_running_jail(runner):
    crew = tools_crew(runner)
    with crew.start() as running:
        c = running.client()
        [spawned] = eventually(lambda: [r for r in crew.records("a") if r["kind"] == "agent.spawned"])
        grouped = {"cgroup-memory", "cgroup-pids"} <= set(spawned.get("limits_by", "").split())
        assert c.submit(agent="a", description=HUNGRY).result(60) == 0
        edit(crew, "a", ("memory: 256MiB", "memory: 100MiB"), ("processes: 128", "processes: 64"))
        states, a = sections(reload(crew), "a")
        status = next(x for x in c.status().agents if x.name == "a")
        if not grouped:  # crewd holds it to its memory, the kernel to its processes
            assert states["limits"] == "needs-restart"
            assert a["sections"]["limits"]["detail"] == "memory 256 MiB -> 100 MiB; processes 128 -> 64 after a restart"
            assert (status.memory_max, status.processes_max) == (100 << 20, 128), "what is in force"
            hold = HUNGRY.replace("* len(x[::4096])", "* len(x[::4096]); import time; time.sleep(20)")
            assert c.submit(agent="a", description=hold).result(60) == -9
            edit(crew, "a", ("memory: 100MiB", "memory: 256MiB"), ("processes: 64", "processes: 128"))
            assert sections(reload(crew), "a")[0]["limits"] == "applied"
            edit(crew, "a", ("memory: 256MiB", "memory: 400MiB"))
            states, a = sections(reload(crew), "a")
            assert a["sections"]["limits"]["detail"] == "memory 256 MiB -> 400 MiB after a restart", "its second wall stands"
            return
        assert states["limits"] == "applied"
        assert a["sections"]["limits"]["detail"] == "memory 256 MiB -> 100 MiB; processes 128 -> 64"
        assert (status.memory_max, status.processes_max, status.incarnation) == (100 << 20, 64, 1)
        with pytest.raises(Exception):
            assert c.submit(agent="a", description=HUNGRY).result(60) == 0
        eventually(lambda: state_of(c, "a").name in ("READY", "TERMINATED"))
        if state_of(c, "a").name != "READY":
            return  # the whole group went with it
        edit(crew, "a", ("memory: 100MiB", "memory: 400MiB"), ("processes: 64", "processes: 128"))
        assert sections(reload(crew), "a")[0]["limits"] == "applied"
        assert c.submit(agent="a", description=HUNGRY).result(60) == 0
        edit(crew, "a", ("processes: 128", "processes: 200"))
        states, a = sections(reload(crew), "a")
        assert states["limits"] == "needs-restart"
        assert a["sections"]["limits"]["detail"] == "processes 128 -> 200 after a restart"


@pytest.mark.parametrize("mode", modes()[:1])  # rootless there is no group to ask, unless it was delegated
def test_a_limit_below_what_is_in_use_changes_nothing(runner):
    """Version 1 refuses it; version 2 makes room by its out-of-memory killer, as the limit says."""
    crew = tools_crew(runner)
    with crew.start() as running:
        c = running.client()
        [spawned] = eventually(lambda: [r for r in crew.records("a") if r["kind"] == "agent.spawned"])
        if "cgroup-memory" not in spawned.get("limits_by", "") or not os.path.exists("/sys/fs/cgroup/memory"):
            pytest.skip("this kernel limits memory by no version 1 control group")
        c.submit(agent="a", description="x = bytearray(120 << 20); x[::4096] = b'x' * len(x[::4096]); time.sleep(50)")
        eventually(lambda: next(x for x in c.status().agents if x.name == "a").memory_bytes > 100 << 20)
        edit(crew, "a", ("memory: 256MiB", "memory: 64MiB"), ("allowed_targets: []", "allowed_targets: [b]"))
        [a] = reload(crew, status=1)["agents"][:1]
        assert a["error"] == "limits: the agent uses more memory than that already"
        assert next(x for x in c.status().agents if x.name == "a").memory_max == 256 << 20
        kinds = eventually(lambda: (lambda k: k if len(k) == 2 else None)(reloads(crew, "a")))
        assert [r.get("verdict") for r in kinds] == [None, "failed"]
        edit(crew, "a", ("memory: 64MiB", "memory: 256MiB"))
        states, _ = sections(reload(crew), "a")
        assert (states["ipc"], states["limits"]) == ("applied", "unchanged"), "nothing of the failed one was taken over"


def test_a_restart_by_the_operator_is_no_failure(runner):
    """It does not count against `restart:`, which is not even set here, and the task in flight is told."""
    crew = tools_crew(runner)
    with crew.start() as running:
        c = running.client()
        task = c.submit(agent="a", description="time.sleep(60)")
        eventually(lambda: state_of(c, "a").name == "WORKING")
        edit(crew, "a", ("open_files: 128", "open_files: 256"))
        reload(crew, "--restart")
        done = []
        t = threading.Thread(target=lambda: done.append(task.wait(60)))
        t.start()
        eventually(lambda: (lambda x: x.incarnation == 2)(next(x for x in c.status().agents if x.name == "a")))
        terminated = [r for r in crew.records("a") if r["kind"] == "agent.terminated"]
        assert terminated[0]["reason"] == "started again with a new policy" and terminated[0]["cause"] == "operator"
        runner.crewctl("kill", "--agent", "a")
        t.join(30)
        assert done


def test_an_agent_that_does_not_run_gets_it_when_it_starts(runner):
    crew = tools_crew(runner)
    with crew.start():
        runner.crewctl("kill", "--agent", "a")
        edit(crew, "a", ("memory: 256MiB", "memory: 300MiB"))
        states, a = sections(reload(crew), "a")
        assert states["limits"] == "applied" and not a["running"]
        r = runner.crewctl("policy", "reload", "--agent", "b")
        assert re.match(r"b   .*b\.yaml   [0-9a-f]{8}\n  network     unchanged\n", r.stdout)


def test_the_crew_file_counts_as_it_was_at_the_start(runner):
    crew = tools_crew(runner)
    with crew.start():
        crew_file = crew.top / "crew.yaml"
        crew_file.write_text("not: a crew\n")
        edit(crew, "a", ("allowed_targets: []", "allowed_targets: [b]"))
        assert sections(reload(crew), "a")[0]["ipc"] == "applied"
        crew_file.unlink()
        edit(crew, "a", ("allowed_targets: [b]", "allowed_targets: []"))
        assert sections(reload(crew), "a")[0]["ipc"] == "applied"


def test_an_unknown_agent_is_refused(runner):
    crew = tools_crew(runner)
    with crew.start():
        r = runner.crewctl("policy", "reload", "--agent", "aa")
        assert r.returncode == 3 and "no agent 'aa'" in r.stderr


def test_the_words_for_people(runner, servers):
    crew = network_crew(runner, servers).client("b", f"{ONE}:80")
    with crew.start():
        edit(crew, "a", (f'"{ONE}:80"', f'"{TWO}:80"'))
        r = runner.crewctl("policy", "reload")
        assert r.returncode == 0, r.stderr
        lines = r.stdout.splitlines()
        assert re.fullmatch(r"a   \S*a\.yaml   [0-9a-f]{8} -> [0-9a-f]{8}", lines[0])
        assert lines[1] == f"  network     applied        + {TWO}:80, - {ONE}:80"
        assert lines[2:7] == ["  tools       unchanged", "  ipc         unchanged", "  limits      unchanged",
                              "  audit       unchanged", "  filesystem  unchanged"]
        assert lines[8] == "unchanged: b" and re.fullmatch(r"in [\d.]+ m?u?s", lines[9])
        r = runner.crewctl("logs", "--agent", "a", "--filter", "lifecycle")
        assert re.search(r"POLICY: RELOADED -> \S*a\.yaml \(sha256:[0-9a-f]{8}…, now sha256:[0-9a-f]{8}…, applied network, by uid", r.stdout)


def test_a_reload_in_the_middle_of_traffic_loses_nothing(runner, servers):
    """Fifty generations while one connection goes on."""
    one, _ = servers
    crew = network_crew(runner, servers)
    loop = ("import socket\ns = socket.create_connection(('%s', 80))\n"
            "for i in range(400):\n    m = b'%%d' %% i; s.sendall(m)\n    assert s.recv(100) == m\n"
            "    __import__('time').sleep(0.003)\nprint('done')\n" % ONE)
    with crew.start() as running:
        p = crew.popen("a", "python3", "-c", loop, stdout=subprocess.PIPE, text=True)
        for i in range(25):
            edit(crew, "a", (f'"{ONE}:80"', f'"{ONE}:80", "{TWO}:80"'))
            assert sections(reload(crew), "a")[1]["closed"] == 0
            edit(crew, "a", (f', "{TWO}:80"', ""))
            reload(crew)
        out, _ = p.communicate(timeout=30)
        assert out == "done\n"
        assert len(reloads(crew, "a")) == 50
        assert reload(crew)["agents"][0]["generation"] == 51
        assert running.stop() == 0, running.log()


def test_two_reloads_at_once_are_one_after_the_other(runner, servers):
    crew = network_crew(runner, servers)
    with crew.start() as running:
        clients = [running.client() for _ in range(4)]
        edit(crew, "a", (f'"{ONE}:80"', f'"{ONE}:80", "{TWO}:80"'))
        got = []

        def one(c):
            try:
                got.append(c.reload_policy().ok)
            except Exception as e:
                got.append(e.code)
        threads = [threading.Thread(target=one, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)
        assert len(got) == 4 and set(got) <= {True, "busy"} and True in got
        assert crew.dial("a", TWO, 80)[0] == "got two"
        assert len(reloads(crew, "a")) == 1


def test_a_reload_during_the_back_off_is_what_the_next_instance_has(runner):
    """Its plan was made when the back-off began."""
    crew = Crew(runner).agent("a", restart={"max": 20, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        policy = (crew.top / "a.yaml").read_text()
        for n in range(12):  # each back-off is longer: until a reload comes in time, however busy the machine is
            eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
            client.kill("a")
            if n < 5:
                continue
            old = crew.records("a", "agent.policy")[-1]["sha256"]
            (crew.top / "a.yaml").write_text(policy.replace("read: []", 'read: ["${CREW_DIR}/news%d/"]' % n))
            (crew.top / f"news{n}").mkdir()
            (crew.top / f"news{n}/one").write_text("fresh")
            runner.own(crew.top)
            reload(crew)
            if state_of(client, "a") == crewd.AgentState.RESTARTING:
                break
        else:
            pytest.fail("each reload came too late to test anything")
        path = json.dumps(str(crew.top / f"news{n}/one"))
        assert client.submit(agent="a", description=f"out(open({path}).read())").result(60) == "fresh"
        assert crew.records("a", "agent.policy")[-1]["sha256"] != old
