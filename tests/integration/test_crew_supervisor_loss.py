# SPDX-License-Identifier: Apache-2.0
"""on_supervisor_loss: hold: crewd is killed, and the next one takes the agents over as if nothing had happened."""

import collections
import contextlib
import itertools
import json
import os
import random
import threading
import time
from pathlib import Path

import crewd
import pytest
from crewlib import Crew, Running, agent_status, alive, cgroups_named, eventually, outside, state_of
from egresslib import Tcp, echo
from holdlib import ends, held_crew, jails, lose, spawner_of
from hostilelib import HostileCrew, begin

CRASHES = int(os.environ.get("CREWD_TEST_CRASHES", "25"))

# Appends a line that names the call, so that a call that ran twice, or never, shows.
NOTE = """#!/usr/bin/python3
import json, os, sys, time
args = json.load(sys.stdin)
time.sleep(args.get("nap", 0))
fd = os.open(args["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(fd, (args["line"] + "\\n").encode())
json.dump({"noted": args["line"]}, sys.stdout)
"""


def test_agents_live_on_and_are_taken_over(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    time.sleep(0.2)
    assert sorted(alive(pids.values())) == sorted(pids.values())
    with crew.start() as again:
        client = again.client()
        assert jails(crew, client) == pids
        assert client.submit(agent="a", description="out(6 * 7)").result(60) == 42
    assert not alive(pids.values())
    for agent in ("a", "b"):
        assert len(crew.records(agent, "agent.spawned")) == 1
        assert len(crew.records(agent, "supervisor.lost")) == 1 and len(crew.records(agent, "supervisor.adopted")) == 1
        assert [r["cause"] for r in crew.records(agent, "agent.terminated")] == ["supervisor shutdown"]
    assert runner.crewctl("audit", "verify").returncode == 0


# --- crewd is killed again and again ---

WORK = """
for i in range(3):
    code, _ = call("tool", "note", stdin={{"file": "{notes}", "line": "{key}-%d" % i, "nap": 0.01}})
    assert code == 0, "tool: %d" % code
code, answer = call("ask", "{other}", stdin={{"key": "{key}"}})
assert code == 0 and answer["asked"]["key"] == "{key}", "ask: %d %s" % (code, answer)
out({{"key": "{key}"}})
"""


def noting_crew(runner, agents=("a", "b", "c"), **keys):
    crew = held_crew(runner, **keys)
    crew.tool("note", NOTE, idempotent=False)
    for name in agents:
        crew.agent(name, targets=[a for a in agents if a != name], tools=["note"])
        crew.files[name + ".yaml"] = crew.files[name + ".yaml"].replace("write: []", f'write: ["${{CREW_DIR}}/notes-{name}/"]')
    return crew


def notes(crew):
    lines = []
    for p in crew.top.glob("notes-*/notes"):
        lines += p.read_text().splitlines()
    return collections.Counter(lines)


def submit_some(crew, client, accepted, numbers, rng):
    """As many as fit before crewd is killed under it."""
    for _ in range(rng.randrange(1, 4)):
        agent = rng.choice(sorted(crew.agents))
        key = f"k{next(numbers)}"
        other = rng.choice([a for a in sorted(crew.agents) if a != agent])
        code = WORK.format(notes=crew.top / f"notes-{agent}" / "notes", key=key, other=other)
        accepted[client.submit(agent=agent, description=code).id] = key


def finished(crew):
    return collections.Counter(r["task_id"] for a in crew.agents for r in crew.records(a, "task.finished"))


def test_killed_as_soon_as_it_is_ready_it_holds_everybody(runner):
    """Some have not read yet that they are welcome."""
    for number in range(1, 7):
        crew = Crew(runner)
        for name in "abc":
            crew.agent(name)
        crew.extra = "on_supervisor_loss: hold\n"
        running = crew.start()
        running.proc.kill()
        running.proc.wait()
        with crew.start() as running:
            client = running.client()
            assert [client.submit(agent=name, description="out(1)").result(60) for name in "abc"] == [1, 1, 1]
            assert [len(crew.records(name, "supervisor.adopted")) for name in "abc"] == [number] * 3


def test_killed_at_any_moment_it_loses_and_doubles_nothing(runner):
    seed = int(os.environ.get("CREWD_TEST_SEED", random.randrange(1 << 32)))
    rng, numbers, accepted = random.Random(seed), itertools.count(), {}
    print(f"CREWD_TEST_SEED={seed}")
    crew = noting_crew(runner)
    pids = None
    for _ in range(CRASHES):
        running = crew.start()
        client = running.client()
        now = jails(crew, client)
        assert pids in (None, now)
        pids = now
        killer = threading.Timer(rng.random() * 0.15, running.proc.kill)
        killer.start()
        with contextlib.suppress(crewd.CrewdError, OSError):
            if len(accepted) - len(finished(crew)) < 12:
                submit_some(crew, client, accepted, numbers, rng)
        killer.join()
        lose(running)
    with crew.start() as last:
        assert jails(crew, last.client()) == pids
        eventually(lambda: set(finished(crew)) >= set(accepted), timeout=120, every=0.1)
        eventually(lambda: state_of(last.client(), "a") == crewd.AgentState.READY)
    done = {r["task_id"]: r for a in crew.agents for r in crew.records(a, "task.finished")}
    assert {k: v for k, v in finished(crew).items() if v != 1} == {}
    started = collections.Counter(r["task_id"] for a in crew.agents for r in crew.records(a, "task.started"))
    assert started == finished(crew)
    assert {t: r.get("reason") for t, r in done.items() if r["outcome"] != "ok"} == {}
    written = notes(crew)
    assert {k: v for k, v in written.items() if v != 1} == {}
    assert {f"{key}-{i}" for key in accepted.values() for i in range(3)} <= set(written)
    assert len(written) == 3 * len(done)
    for agent in crew.agents:
        assert len(crew.records(agent, "agent.spawned")) == 1 == len(crew.records(agent, "agent.terminated"))
        calls = collections.Counter(r["call"] for r in crew.records(agent, "tool.call"))
        assert set(calls.values()) <= {1} and calls == collections.Counter(r["call"] for r in crew.records(agent, "tool.return"))
        assert len(crew.records(agent, "supervisor.adopted")) == CRASHES
    assert not alive(pids.values())
    assert runner.crewctl("audit", "verify").returncode == 0
    again = [sum(r[k] for a in crew.agents for r in crew.records(a, "supervisor.adopted"))
             for k in ("frames_in", "frames_out")]
    print(f"{CRASHES} crashes, {len(done)} tasks, {len(written)} effects; again: {again[0]} frames in, {again[1]} out")


# --- what else may happen meanwhile ---

def test_a_call_that_was_granted_is_answered_by_the_next_crewd(runner):
    crew = noting_crew(runner, agents=("a", "b"))
    running = crew.start()
    file = crew.top / "notes-a" / "notes"
    task = running.client().submit(agent="a", description=f"""
r = call("tool", "note", stdin={{"file": "{file}", "line": "once", "nap": 1.0}})
out(r)""")
    eventually(lambda: crew.records("a", "tool.call"))
    lose(running)
    time.sleep(1.3)  # its end, or rootless its next notified call, is in the jail now
    with crew.start():
        [done] = eventually(lambda: crew.records("a", "task.finished"))
        assert done["outcome"] == "ok" and done["task_id"] == task.id
    assert notes(crew) == {"once": 1} and len(crew.records("a", "tool.call")) == 1 == len(crew.records("a", "tool.return"))


def test_a_program_stands_still_at_its_next_call_and_its_time_too(runner):
    crew = noting_crew(runner, agents=("a", "b"))
    running = crew.start()
    file = crew.top / "notes-a" / "notes"
    running.client().submit(agent="a", timeout_ms=4000, description=f"""
while not os.path.exists({str(file.with_name("go"))!r}): time.sleep(0.02)
out(call("tool", "note", stdin={{"file": "{file}", "line": "x"}})[0])""")
    eventually(lambda: crew.records("a", "task.started"))
    lose(running)
    file.with_name("go").touch()
    time.sleep(4.5)
    assert not file.exists() and not crew.records("a", "tool.call")
    with crew.start():
        [done] = eventually(lambda: crew.records("a", "task.finished"))
        assert done["outcome"] == "ok" and notes(crew) == {"x": 1}


@pytest.mark.parametrize("end", ["by itself", "crewctl kill"])
def test_one_that_dies_meanwhile_has_one_termination(runner, end):
    crew = held_crew(runner).agent("a", restart={"max": 2}).agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    if end == "by itself":
        os.kill(pids["a"], 9)
    else:
        done = runner.crewctl("kill", "--agent", "a")
        assert done.returncode == 0 and "Agent a terminated" in done.stdout, done
        assert runner.crewctl("kill", "--agent", "nobody").returncode == 3
    eventually(lambda: not alive([pids["a"]]))
    with crew.start() as again:
        client = again.client()
        [(cause, inc)] = eventually(lambda: ends(crew, "a"))
        assert (cause, inc) == ("crash" if end == "by itself" else "operator", 1)
        assert agent_status(client, "b").pid == pids["b"]
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY and agent_status(client, "a").incarnation == 2)
        assert client.submit(agent="a", description="out(1)").result(60) == 1
    assert runner.crewctl("audit", "verify").returncode == 0


def test_nobody_comes_and_they_are_ended(runner):
    crew = held_crew(runner, hold_for="1s").agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    start = time.monotonic()
    lose(running)
    eventually(lambda: not alive(pids.values()))
    assert 0.9 < time.monotonic() - start < 15
    with crew.start() as again:
        assert "took over" not in again.log()
        assert ends(crew, "a") == [("supervisor lost", 1)]
        assert jails(crew, again.client()) != pids


def test_the_command_line_says_so_and_ends_them(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    status = runner.crewctl("status")
    assert status.returncode == 3 and "2 agents are held" in status.stderr and "crewctl down" in status.stderr, status
    down = runner.crewctl("down")
    assert down.returncode == 0 and "2 held agents ended" in down.stdout, down
    assert not alive(pids.values())
    assert runner.crewctl("status").returncode == 3
    with crew.start():
        assert ends(crew, "a") == [("operator", 1)]


@pytest.mark.parametrize("what", ["crew file", "policy"])
def test_another_crew_file_or_policy_does_not_get_them(runner, what):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    path = crew.top / ("crew.yaml" if what == "crew file" else "a.yaml")
    before = path.read_text()
    path.write_text(before + "# changed\n" if what == "crew file" else before.replace("processes: 128", "processes: 64"))
    refused = Running(crew, wait=False)
    assert refused.proc.wait(60) != 0
    assert "outlived" in refused.log() and "crewctl down" in refused.log(), refused.log()
    assert sorted(alive(pids.values())) == sorted(pids.values())
    path.write_text(before)
    with crew.start() as again:
        assert jails(crew, again.client()) == pids


def test_a_stop_ends_them_even_if_crewd_dies_over_it(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    running.client().submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    eventually(lambda: crew.records("a", "task.started"))
    running.proc.terminate()
    eventually(lambda: not alive([pids["b"]]))
    lose(running)
    eventually(lambda: not alive(pids.values()), timeout=15)  # its grace has twice that


def test_messages_wait_for_the_next_crewd(runner):
    crew = noting_crew(runner, agents=("a", "b"))
    running = crew.start()
    running.client().submit(agent="a", description="""
time.sleep(0.3)
out(call("ask", "b", stdin={"n": 7})[1])""")
    eventually(lambda: crew.records("a", "task.started"))
    lose(running)
    time.sleep(0.6)
    with crew.start():
        [done] = eventually(lambda: crew.records("a", "task.finished"))
        assert done["outcome"] == "ok"
        assert len(crew.records("b", "message.received")) == 1


def test_a_key_stands_for_the_same_task_under_the_next_crewd(runner):
    crew = noting_crew(runner, agents=("a", "b"))
    running = crew.start()
    client = running.client()
    code = f"""r = call("tool", "note", stdin={{"file": "{crew.top}/notes-a/notes", "line": "x"}}); out(r[0])"""
    done = client.submit(agent="a", description=code, key="over")
    assert done.result(60) == 0
    under_way = client.submit(agent="a", description="time.sleep(1); out(5)", key="under-way")
    lose(running)
    with crew.start() as again:
        client = again.client()
        assert client.submit(agent="a", description=code, key="over").id == done.id
        repeated = client.submit(agent="a", description="time.sleep(1); out(5)", key="under-way")
        assert repeated.id == under_way.id and repeated.result(60) == 5
    assert notes(crew) == {"x": 1} and len(crew.records("a", "task.started")) == 2


def test_hooks_are_told_of_each_death_under_its_one_id(runner):
    crew = held_crew(runner).agent("a", restart={"max": 9, "within": "1s"}).agent("b")
    crew.extra += 'hooks:\n  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}\n'
    crew.files["hook.sh"] = f"#!/bin/sh\ncat > {runner.home}/got.$$\n"
    rng = random.Random()
    for _ in range(6):
        running = crew.start()
        client = running.client()
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY, timeout=20)
        os.kill(agent_status(client, "a").pid, 9)
        time.sleep(rng.random() * 0.02)
        lose(running)
    with crew.start() as again:
        client = again.client()
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY, timeout=20)
        records = {r["id"]: r["seq"] for r in crew.records("a", "agent.terminated")}
        # One that was being started again when crewd died has a death of its own.
        assert 6 <= len(records) == len(crew.records("a", "agent.terminated"))

        def told():
            texts = [p.read_text() for p in runner.home.glob("got.*")]
            return {d["id"]: d["audit_seq"] for d in (json.loads(t) for t in texts if t.rstrip().endswith("}"))}
        eventually(lambda: told() == records, timeout=20)
    assert runner.crewctl("audit", "verify").returncode == 0


def test_a_changed_crew_file_needs_the_whole_crew(runner):
    crew = held_crew(runner).agent("a")
    with crew.start() as running:
        pids = jails(crew, running.client())
        path = crew.top / "crew.yaml"
        path.write_text(path.read_text().replace("hold_for: 60s", "hold_for: 60s\napprovals: operator"))
        plan = runner.crewctl("plan", str(path))
        assert "agents are held for the crew file" in plan.stdout, plan
        up = runner.crewctl("up", str(path))
        assert up.returncode != 0 and "--restart" in up.stderr, up
        assert jails(crew, running.client()) == pids


def test_an_adopted_crew_can_be_changed_and_started_again(runner):
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    path = crew.top / "crew.yaml"
    plan = runner.crewctl("plan", str(path))
    assert plan.returncode == 3 and "2 agents are held" in plan.stderr, plan
    again = crew.start()
    assert json.loads(runner.crewctl("plan", "--json").stdout)["effect"] == "unchanged"
    path.write_text(path.read_text().replace("hold_for: 60s", "hold_for: 61s"))
    try:
        up = runner.crewctl("up", "--restart", "--detach", str(path))
        assert up.returncode == 0, up
        assert not alive(pids.values()) and again.proc.wait(60) == 0
        status = json.loads(runner.crewctl("status", "--json").stdout)
        assert {a["name"]: bool(a["pid"]) for a in status["agents"]} == {"a": True, "b": True}
        assert [r["cause"] for r in crew.records("a", "agent.terminated")] == ["supervisor shutdown"]
    finally:
        runner.crewctl("down")
    assert runner.crewctl("audit", "verify").returncode == 0


# Straight to the socket, and many at once: one after the other they may be no more than a second may have.
SEND = """import socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ['CREW_SOCKET']); f = s.makefile('rwb')
def send(n):
    f.write(n * (json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': 'crew/send', 'params': {'target': 'c', 'payload': 1}}).encode() + b'\\n'))
    f.flush()
    for _ in range(n): f.readline()
"""


def test_limits_count_on_across_an_adoption(runner):
    """Hits and what was refused are neither lost nor forgiven, and a flood that goes on ends its agent under the next crewd."""
    crew = held_crew(runner).agent("a", targets=["c"], limits="messages: 20")
    crew.agent("c", driver="stdio-rpc", command=["python3", "${CREW_DIR}/sink.py"])
    crew.files["sink.py"] = "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin: pass\n"
    flag = "flags/go"
    crew.files["flags/none"] = ""
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("read: []", 'read: ["${CREW_DIR}/flags/"]')
    crew.write()
    code = SEND + f"""
send(50)
while not os.path.exists({str(crew.top / flag)!r}): time.sleep(0.02)
while True: send(50)
"""
    hits = lambda client: next(u for u in agent_status(client, "a").limits if u.limit == "messages").hits
    running = crew.start()
    client = running.client()
    client.submit(agent="a", description=code)
    before = eventually(lambda: (h := hits(client)) >= 20 and h)
    lose(running)
    with crew.start() as again:
        client = again.client()
        assert hits(client) >= before
        (crew.top / flag).write_text("")
        [end] = eventually(lambda: crew.records("a", "agent.terminated"), timeout=20)
        assert (end["cause"], end["limit"]) == ("limit", "messages")
        counted = sum(r.get("count", 1) for r in crew.records("a", "limit.hit") if r["limit"] == "messages")
        assert counted == hits(client) >= 80
        assert all(r["reason"] for r in crew.records("a", "limit.hit"))
    assert runner.crewctl("audit", "verify").returncode == 0


def test_connections_of_the_lost_gateway_are_not_counted(runner):
    with Tcp(echo) as server:
        crew = held_crew(runner).agent("a", limits="connections: 3")
        crew.files["a.yaml"] = crew.files["a.yaml"].replace("{deny_all: true}", '{allowed_endpoints: ["one.hold.test:80"]}')
        crew.extra += f'endpoints:\n  "one.hold.test:80": {{connect_to: "{server.address}"}}\n'
        used = lambda client: next(u for u in agent_status(client, "a").limits if u.limit == "connections").use
        dial = ("import socket; s = [socket.create_connection(('one.hold.test', 80), timeout=5) for _ in range(3)]\n"
                "for x in s: x.sendall(b'x'); assert x.recv(1) == b'x'\n")
        running = crew.start()
        client = running.client()
        client.submit(agent="a", description=dial + "time.sleep(4); out(1)")
        eventually(lambda: used(client) == 3)
        lose(running)
        with crew.start() as again:
            client = again.client()
            assert used(client) == 0
            eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
            assert client.submit(agent="a", description=dial + "out(len(s))").result(60) == 3


def test_a_migration_that_its_crewd_did_not_see_through_begins_anew(runner):
    crew = held_crew(runner).agent("b")
    crew.agent("a", restart={"max": 3, "within": "60s"})
    with crew.start() as running:
        put = "open(os.environ['CREW_STATE'] + '/n', 'w').write('one'); out(1)"
        assert running.client().submit(agent="a", description=put).result(60) == 1
    kept = runner.home / "lib" / "t" / "state" / "a"
    crew.agents["a"]["state"] = {"version": 1, "migrate": ["python3", "${CREW_DIR}/migrate.py"]}
    crew.files["migrate.py"] = ("import os, time\np = os.environ['CREW_STATE'] + '/n'\ntext = open(p).read()\n"
                                "open(p, 'w').write(text + ' and two')\ntime.sleep(4)\n")
    crew.write()
    running = crew.start(wait=False)
    eventually(lambda: list(kept.parent.glob(".old-*/n")) and (kept.parent.glob(".old-*/n").__next__()).read_text() == "one and two")
    lose(running)
    assert (kept / "n").read_text() == "one" and not (kept.parent / "a.version").exists()
    with crew.start() as again:
        client = again.client()
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY, timeout=30)
        show = "out(open(os.environ['CREW_STATE'] + '/n').read())"
        assert client.submit(agent="a", description=show).result(60) == "one and two"
        assert (kept.parent / "a.version").read_text() == "1\n"
        eventually(lambda: not list(kept.parent.glob(".old-*")))
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.alone
def test_nothing_of_it_is_left(runner):
    def left():
        return set(cgroups_named("crewd")), Path("/proc/self/mounts").read_text()
    before = left()
    crew = held_crew(runner).agent("a").agent("b")
    running = crew.start()
    spawner = spawner_of(jails(crew, running.client())["a"])
    seen = {spawner}  # it holds the locks of the agents' uids and state directories
    for _ in range(3):
        seen |= set(outside(running.proc.pid)) | set(outside(spawner))
        lose(running)
        running = crew.start()
    assert running.stop() == 0
    assert not alive([spawner])  # crewd's end is the end of all of it
    eventually(lambda: left() == before)
    eventually(lambda: not alive(seen))
    assert not list(crew.run_dir.glob("held.*"))


# What a worker that has been taken over says on its return; and words of the rule it breaks.  What it has said before must
# have been heard by then: the word on record behind it says so.
SAID = "say('pong', ack=2); say('stderr_text', source='agent', text=b'said')"
LIARS = {
    "ahead": ("back(); resume(received=10**6)", "received what cannot be"),
    "before-its-ack": (SAID + "; back(); resume(received=0)", "received what cannot be"),
    "sent-less": (SAID + "; back(); resume(sent=0)", "sent what cannot be"),
    "sent-much": ("back(); resume(sent=2**40)", "sent what cannot be"),
    "instance": ("back(); resume(incarnation=7)", "not this link's instance"),
    "number": ("back(); resume(at=3)", "not the first word"),
    "no-resume": ("back(); wire(frame('pong', at=1))", "not the first word"),
    "garbage": ("back(); wire(b'garbage')", "the first word is none"),
    "twice": ("back(); resume(); hear_of('resume_from'); resume(at=seq + 1)", "not made again"),
    "gap": ("back(); resume(); hear_of('resume_from'); say('pong', at=seq + 2)", "does not follow"),
}


def test_a_liar_that_comes_back_is_killed_and_recorded(runner):
    crew = HostileCrew(runner).agent("honest")
    crew.extra = "on_supervisor_loss: hold\nhold_for: 60s\n"
    for name, (code, _) in LIARS.items():
        crew.hostile(name, f"begin()\n{code}\nstay()\n")
    running = crew.start()
    client = running.client()
    honest = agent_status(client, "honest").pid
    for name in LIARS:
        begin(client, name)
    eventually(lambda: all(crew.records(n, "task.started") for n in LIARS))
    eventually(lambda: all(crew.records(n, "agent.stderr") for n, (code, _) in LIARS.items() if SAID in code))
    time.sleep(0.5)
    lose(running)
    with Running(crew) as again:
        client = again.client()
        for name, (_, words) in LIARS.items():
            [end] = eventually(lambda n=name: crew.records(n, "agent.terminated"))
            rejected = crew.records(name, "message.rejected")
            assert end["cause"] == "policy violation" and words in rejected[-1]["rule"], (name, end, rejected)
            assert eventually(lambda n=name: [r["outcome"] for r in crew.records(n, "task.finished")]) == ["failed"]
        assert agent_status(client, "honest").pid == honest
        assert client.submit(agent="honest", description="out(3)").result(60) == 3
    assert runner.crewctl("audit", "verify").returncode == 0


def test_default_is_to_end_with_crewd(runner):
    crew = Crew(runner).agent("a").agent("b")
    running = crew.start()
    pids = jails(crew, running.client())
    lose(running)
    eventually(lambda: not alive(pids.values()), every=0.002)
    assert not (crew.run_dir / "held.sock").exists()
