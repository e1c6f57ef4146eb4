# SPDX-License-Identifier: Apache-2.0
"""The manager of a crew is told of each end of an agent: at least once, first, and nobody can get in the way."""

import contextlib
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crewd import AgentState, CrewdError
from crewlib import Crew, agent_status, alive, eventually, outside
from test_crew_instances import SPAWN
from test_crew_manager import ORDERS, boss, managed, orders, run, running_tasks

WORKING = AgentState.WORKING

# A manager in the driver stdio-rpc: what it is told goes to its standard error; its task says what it acknowledges.
RPC_BOSS = """
import json, os, socket, sys
def crew(method, **params):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["CREW_SOCKET"])
    f = s.makefile("rw")
    f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n")
    f.flush()
    return json.loads(f.readline())
for line in sys.stdin:
    m = json.loads(line)
    p = m.get("params", {})
    if m["method"] == "agent.terminated":
        print("TOLD", p["id"], p["agent"], p["version"], "id" in m, file=sys.stderr, flush=True)
    elif m["method"] == "task":
        seen = [crew("crew/seen", id=i)["result"]["acknowledged"] for i in p["input"] or []]
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"],
                          "result": {"seen": seen, "open": crew("crew/terminations")["result"]}}), flush=True)
    elif m["method"] == "shutdown":
        break
"""


def rpc_managed(runner, targets=("a", "b")):
    crew = managed(runner, targets=targets, restart={"max": 9, "within": "60s"})
    crew.files["boss.py"] = RPC_BOSS
    crew.task("lead", "boss")
    crew.agents["boss"].update(command=["python3", "${CREW_DIR}/boss.py"], driver="stdio-rpc")
    for name in ("a", "b"):
        crew.agents[name]["restart"] = {"max": 30, "within": "60s"}
    return crew


def told(crew):
    """[id, agent] in the order in which the manager's program was told; all its instances in turn."""
    text = "".join(r["text"] for r in crew.records("boss", "agent.stderr")).rpartition("\n")[0]  # the rest is to come
    lines = [line.split() for line in text.splitlines() if line.startswith("TOLD ")]
    assert all(version == "1" and has_id == "False" for _, _, _, version, has_id in lines)
    return [[int(i), agent] for _, i, agent, _, _ in lines]


def ends(crew, *agents):
    """[id, agent] of each end on record, by id."""
    return sorted([r["id"], name] for name in agents for r in crew.records(name, "agent.terminated"))


def kill(client, name):
    """Its termination; returns once its next instance is up."""
    before = agent_status(client, name).incarnation
    record = client.kill(name, reason="test").terminated
    eventually(lambda: (s := agent_status(client, name)).incarnation > before and s.state == AgentState.READY)
    return record


def submit_to_boss(client, ids=()):
    return client.submit(agent="boss", input=list(ids)).result(60)


def test_it_is_told_before_the_outcome_of_the_dead_agents_task(runner):
    crew = boss(managed(runner), """
t = submit("a", "time.sleep(600)")
end = order("wait", t)
out([end["outcome"], order("receive", "--timeout", "0s"), order("receive", "--timeout", "0s")])""")
    with crew.start() as running:
        other = running.client()
        with running_tasks(running):
            eventually(lambda: agent_status(other, "a").state == WORKING)
            other.kill("a", reason="test")
    outcome, letter, rest = json.loads((runner.home / "lib/t/out/lead.json").read_text())
    assert outcome == "terminated" and rest is None
    assert set(letter) == {"kind", "payload"} and letter["kind"] == "agent.terminated"
    record, = crew.records("a", "agent.terminated")
    payload = letter["payload"]
    assert (payload["version"], payload["event"], payload["id"]) == (1, "agent-terminated", record["id"])
    assert (payload["agent"], payload["incarnation"], payload["cause"], payload["reason"]) == ("a", 1, "operator", "test")
    assert payload["task"] and payload["action"] == "fail_task" and "audit_path" not in payload
    about, = crew.records("boss", "manager.told")
    assert (about["about"], about["id"], about["verdict"]) == ("a", record["id"], "told")


def test_each_end_is_told_once_to_an_instance_that_lives_on(runner):
    crew = rpc_managed(runner)
    with crew.start() as running:
        client = running.client()
        ids = [kill(client, name).id for name in ("a", "b", "a", "a", "b")]
        assert ids == sorted(set(ids))
        eventually(lambda: len(told(crew)) >= 5)
        assert [t["id"] for t in submit_to_boss(client)["open"]["terminations"]] == ids
        assert submit_to_boss(client, [ids[1], ids[1], 12345])["seen"] == [True, False, False]
        assert told(crew) == ends(crew, "a", "b")


def test_what_it_did_not_acknowledge_is_told_to_its_next_instance(runner):
    crew = rpc_managed(runner)
    with crew.start() as running:
        client = running.client()
        first, second = kill(client, "a").id, kill(client, "b").id
        eventually(lambda: len(told(crew)) == 2)
        assert submit_to_boss(client, [first])["seen"] == [True]
        own = kill(client, "boss").id
        eventually(lambda: len(told(crew)) == 4)
        assert told(crew)[2:] == [[second, "b"], [own, "boss"]], "the same id again, and its own end"
        assert submit_to_boss(client, [second, own])["seen"] == [True, True]
        last = kill(client, "boss").id
        eventually(lambda: len(told(crew)) == 5)
        assert told(crew)[4] == [last, "boss"]


def test_an_end_while_there_is_no_manager_is_told_to_the_next_one(runner):
    crew = rpc_managed(runner)
    with crew.start() as running:
        client = running.client()
        client.kill("boss", reason="test")
        dead = client.kill("a", reason="test").terminated.id  # boss waits for its restart, or has just come up
        eventually(lambda: [dead, "a"] in told(crew))
        eventually(lambda: agent_status(client, "a").state == AgentState.READY)
    assert [i for i, _ in told(crew)] == sorted(i for i, _ in told(crew))


def test_it_is_told_of_those_it_may_address_alone(runner):
    crew = rpc_managed(runner, targets=["a"])
    with crew.start() as running:
        client = running.client()
        kill(client, "b")
        a = kill(client, "a").id
        eventually(lambda: told(crew))
        assert [t["agent"] for t in submit_to_boss(client)["open"]["terminations"]] == ["a"]
    assert told(crew) == [[a, "a"]]


def test_nobody_else_can_tell_it_that_or_acknowledge_it(runner):
    """A message may say whatever it likes: it comes as a message, from whoever sent it."""
    fake = {"kind": "agent.terminated", "payload": {"version": 1, "id": 1, "agent": "b"}}
    crew = boss(managed(runner), f"""
t = submit("a", '''
fake = {fake!r}
out([call("send", "boss", stdin=fake)[0], call("seen", "1")[0], call("terminations")[0],
     call("tool", "crew_seen", stdin={{"id": 1}})[0]])''')
end = order("wait", t)
out([end["result"], order("receive", "--timeout", "5s"), order("seen", "99999"), order("terminations")])""")
    crew.agent("a", targets=["boss"])
    _, (codes, letter, seen, rest) = run(crew)
    assert codes == [0, 3, 3, 3]
    assert letter == {"kind": "message", "from": "a", "payload": fake}
    assert seen == {"acknowledged": False} and rest == {"terminations": [], "lost": 0}
    assert orders(crew, "a") and all(verdict == "denied" for _, verdict, _ in orders(crew, "a"))
    assert not crew.records("boss", "manager.told")


def test_a_manager_that_listens_to_nothing_holds_nobody_up(runner):
    crew = rpc_managed(runner)
    crew.files["boss.py"] = "import time\ntime.sleep(600)\n"
    with crew.start() as running:
        client = running.client()
        ids = [kill(client, "a").id for _ in range(6)]
        assert client.submit(agent="b", description="out(7)").result(60) == 7
        assert len(set(ids)) == 6
    assert [r["id"] for r in crew.records("boss", "manager.told")] == ids


def test_what_died_with_its_crewd_is_told_by_the_next_one(runner):
    crew = rpc_managed(runner)
    running = crew.start()
    running.client()
    running.stop(signal.SIGKILL)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: len(told(crew)) == 3)
        assert {t["agent"]: t["cause"] for t in submit_to_boss(client)["open"]["terminations"]} == dict.fromkeys(
            ("boss", "a", "b"), "supervisor lost")


def at_rest(pid):
    return re.search(r"^State:\s+S", Path(f"/proc/{pid}/status").read_text(), re.M)


def spawner_of(running):
    spawner, = [p for p, comm in outside(running.proc.pid).items() if comm == "crew-worker"
                and f"PPid:\t{running.proc.pid}\n" in Path(f"/proc/{p}/status").read_text()]
    return spawner


def die_together(running, pids):
    """crewd finds all of their links closed, and then all of their ends, in one turn each."""
    spawner = spawner_of(running)
    for p in (running.proc.pid, spawner):
        os.kill(p, signal.SIGSTOP)
    for p in pids:
        os.kill(p, signal.SIGKILL)
        eventually(lambda p=p: not alive([p]))
    os.kill(spawner, signal.SIGCONT)
    eventually(lambda: not any(Path(f"/proc/{p}").exists() for p in pids) and at_rest(spawner))
    os.kill(running.proc.pid, signal.SIGCONT)


def test_of_many_that_die_at_once_all_are_told_before_anything_follows(runner):
    names = list("abcdef")
    crew = Crew(runner)
    for name in names:
        crew.agent(name, restart={"max": 9, "within": "60s"})
    crew.extra = 'hooks: {on_agent_terminated: {command: ["/bin/sh", "-c", "r=$(cat); echo \\"$r\\" >>%s/got"]}}\n' % runner.home
    with crew.start() as running:
        client = running.client()
        client.subscribe()
        die_together(running, [a.pid for a in client.status().agents])
        seen, back = [], set()
        for e in client.events(20):
            if e.kind in ("terminated", "agent-state"):
                seen.append((e.kind, e.terminated.agent if e.kind == "terminated" else e.agent.name))
            if e.kind == "agent-state" and e.agent.state == AgentState.READY and ("terminated", e.agent.name) in seen:
                back.add(e.agent.name)
            if len(back) == len(names):
                break
        first = [kind for kind, _ in seen].index("terminated")
        assert sorted(seen[first:first + len(names)]) == [("terminated", name) for name in names]
        assert sorted(back) == names
        records = {name: crew.records(name, "agent.terminated")[0] for name in names}
        eventually((runner.home / "got").exists)
        got = eventually(lambda: (t := [json.loads(line) for line in (runner.home / "got").read_text().split("\n")[:-1]])
                         and len(t) == len(names) and t)
        assert {d["agent"]: (d["id"], d["audit_seq"]) for d in got} == {n: (r["id"], r["seq"]) for n, r in records.items()}


def test_nothing_is_heard_of_it_between_its_end_and_its_burial(runner):
    """The answer to a freeze comes in one turn with the end, and behind it."""
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running, ThreadPoolExecutor() as pool:
        client, other, spawner = running.client(), running.client(), spawner_of(running)
        pid = agent_status(client, "a").pid
        client.subscribe()
        os.kill(spawner, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        asked = pool.submit(other.freeze, "a")
        eventually(lambda: crew.records("a", "agent.frozen"))
        os.kill(running.proc.pid, signal.SIGSTOP)
        os.kill(spawner, signal.SIGCONT)
        eventually(lambda: not Path(f"/proc/{pid}").exists() and at_rest(spawner))
        os.kill(running.proc.pid, signal.SIGCONT)
        with pytest.raises(CrewdError, match="has ended meanwhile"):
            asked.result(60)
        seen = []
        for e in client.events(10):
            if e.kind == "terminated" or (e.kind == "agent-state" and e.agent.name == "a"):
                seen.append("dead" if e.kind == "terminated" else e.agent.state)
            if AgentState.TERMINATED in seen:
                break
        assert seen[-2:] == ["dead", AgentState.TERMINATED], seen


@pytest.mark.parametrize("first", ["boss", "a#2"])
def test_an_instance_that_dies_with_its_manager_does_not_come_back(runner, first):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: boss"
    crew.agent("boss", targets=["a"])
    crew.agent("a", max_instances=2, on_agent_terminated="restart", restart={"max": 9, "within": "60s"})
    boss(crew, SPAWN + "spawn('a')\ntime.sleep(600)")
    with crew.start() as running:
        client = running.client()
        with running_tasks(running):
            eventually(lambda: "a#2" in {a.name for a in client.status().agents if a.state == AgentState.READY})
            die_together(running, [agent_status(client, n).pid for n in (first, *({"boss", "a#2"} - {first}))])
        eventually(lambda: crew.records("a#2", "agent.terminated"))
        time.sleep(1.5)
        assert "a#2" not in {a.name for a in client.status().agents}
        assert client.submit(agent="a", description="out(1)").result(60) == 1


def test_what_the_dead_had_mounted_goes_while_there_is_much_to_do(runner):
    crew = Crew(runner).agent("a").agent("b", restart={"max": 9, "within": "60s"})
    with crew.start() as running:
        client, other, spawner, stop = running.client(), running.client(), spawner_of(running), threading.Event()
        mounts = os.readlink(f"/proc/{agent_status(client, 'b').pid}/ns/mnt")

        def held():
            found = set()
            for fd in os.listdir(f"/proc/{spawner}/fd"):
                with contextlib.suppress(OSError):
                    found.add(os.readlink(f"/proc/{spawner}/fd/{fd}"))
            return mounts in found

        def ask():
            while not stop.is_set():
                other.freeze("a")
                other.thaw("a")

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            assert held()
            client.kill("b", reason="test")
            eventually(lambda: not held())
        finally:
            stop.set()
            asker.join()


def test_a_planned_end_is_not_told(runner):
    crew = rpc_managed(runner)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: agent_status(client, "boss").state == AgentState.READY)
    assert not crew.records("boss", "manager.told")
