# SPDX-License-Identifier: Apache-2.0
"""Further instances of an agent: the manager has as many as the crew file says, each in a jail of its own."""

import contextlib
import json

import pytest

from crewd import AgentState, Message, UnknownAgent
from crewlib import UNTIL_GO, agent_status, eventually, go
from hostilelib import HostileCrew, begin
from test_crew_manager import boss, managed, running_tasks

# In the manager: an instance that is ready.
SPAWN = """
def spawn(agent, **more):
    name = order("spawn", agent, stdin=more)["name"]
    while next(a for a in order("agents")["agents"] if a["name"] == name)["state"] != "ready":
        time.sleep(0.02)
    return name
"""
WHO = "import os, socket\\nout([os.environ['CREW_AGENT'], socket.gethostname(), doc['agent']['name']])"


def crew_of(runner, code, n=3, **keys):
    crew = boss(managed(runner, **keys), SPAWN + code)
    crew.agents["a"]["max_instances"] = n
    crew.agents["a"]["role"] = "Worker"
    return crew


def result(crew):
    return json.loads((crew.runner.home / "lib/t/out/lead.json").read_text())


def run(crew):
    with crew.start() as running:
        assert running.client().run().tasks_ok == 1
    return result(crew)


@contextlib.contextmanager
def waiting_crew(crew, *names):
    """A crew whose manager has started its instances, and waits for a message from b to end its task."""
    with crew.start() as running:
        client = running.client()
        with running_tasks(running):
            eventually(lambda: all(n in states(client) and states(client)[n] == AgentState.READY for n in names))
            yield client
            client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").wait(60)


WAIT = "\nout([names, order('receive', '--timeout', '60s')])"


def waiting(runner, code="names = [spawn('a'), spawn('a')]", **keys):
    crew = crew_of(runner, code + WAIT, **keys)
    crew.agent("b", targets=["boss", "a"])
    return crew


def states(client):
    return {a.name: a.state for a in client.status().agents}


def test_each_is_an_agent_of_its_own(runner):
    crew = waiting(runner)
    with waiting_crew(crew, "a", "a#2", "a#3") as client:
        agents = [agent_status(client, n) for n in ("a", "a#2", "a#3")]
        assert len({a.pid for a in agents}) == 3
        assert len({a.uid for a in agents}) == (1 if runner.rootless else 3)
        assert {a.policy for a in agents} == {"a.yaml"} and {a.walls for a in agents} == {agents[0].walls}
        who = [client.submit(agent=a.name, description=WHO.replace("\\n", "\n")).result(60) for a in agents]
        assert who == [[a.name] * 3 for a in agents]
    digest, = {r["sha256"] for n in ("a", "a#2", "a#3") for r in crew.records(n, "agent.policy")}
    spawned = [crew.records(n, "agent.spawned")[0] for n in ("a", "a#2", "a#3")]
    for namespace in ("net", "mnt", "pid"):
        assert len({r[f"ns_{namespace}"] for r in spawned if f"ns_{namespace}" in r}) in (0, 3)
    assert [r["to"] for r in crew.records("boss", "manager.order") if r["verb"] == "spawn"] == ["a#2", "a#3"]
    assert runner.crewctl("audit", "verify").returncode == 0


def test_they_work_at_the_same_time(runner):
    crew = crew_of(runner, """
names = ["a", spawn("a"), spawn("a")]
ids = [submit(n, """ + repr(UNTIL_GO + "out(os.environ['CREW_AGENT'])") + """) for n in names]
out([order("wait", i)["result"] for i in ids])""")
    names = ["a", "a#2", "a#3"]
    with crew.start() as running:
        client = running.client()
        with running_tasks(running):
            eventually(lambda: [states(client).get(n) for n in names] == [AgentState.WORKING] * 3)
            for n in names:
                go(crew, n)
    assert result(crew) == names


def test_more_than_max_instances_is_refused_with_its_line(runner):
    crew = crew_of(runner, "names = [spawn('a'), spawn('a')]\nout([names, refused('spawn', 'a', stdin={})])")
    names, (code, error, message) = run(crew)
    assert names == ["a#2", "a#3"] and (code, error) == (5, -32006) and "which is max_instances" in message
    denied, = [r for r in crew.records("boss", "manager.order") if r["verdict"] == "denied"]
    file, _, line = denied["rule"].rpartition(":")
    assert file.endswith("crew.yaml") and "max_instances" in (crew.top / "crew.yaml").read_text().splitlines()[int(line) - 1]


@pytest.mark.parametrize("target,code,text", [
    ("b", -32001, "has no max_instances"), ("boss", -32001, "not in ipc.allowed_targets"), ("a#2", -32002, "no agent 'a#2'"),
    ("nosuch", -32001, "not in ipc.allowed_targets"), ("../a", -32001, "not in ipc.allowed_targets")])
def test_what_it_may_not_have_is_refused(runner, target, code, text):
    crew = crew_of(runner, f"out([refused('spawn', {target!r}, stdin={{}}), refused('retire', 'a', stdin={{}}), "
                           "refused('submit', 'a#2', stdin={}), refused('retire', 'a#2', stdin={})])")
    spawn, retire, submit, gone = run(crew)
    assert spawn[1] == code and text in spawn[2], spawn
    assert retire[1] == -32002 and "no instance" in retire[2]
    assert submit[1] == -32007 and "no instance 'a#2' now" in submit[2]
    assert gone[1] == -32002
    assert not crew.records("a#2", "agent.spawned")


def test_nobody_but_the_manager_has_them(runner):
    crew = crew_of(runner, "out(order('wait', submit('a', \"out([call('spawn', 'a', stdin={})[0], "
                           "call('retire', 'a#2', stdin={})[0]])\"))['result'])")
    assert run(crew) == [3, 3]
    assert not crew.records("a#2", "agent.spawned")


def test_one_that_is_retired_makes_room_and_its_end_is_told(runner):
    crew = crew_of(runner, """
name = spawn("a")
order("retire", name, stdin={"reason": "done with it"})
letter = order("receive", "--timeout", "50s")["payload"]
left = [a["name"] for a in order("agents")["agents"]]
again = spawn("a")
out([name, letter["agent"], letter["cause"], letter["reason"], letter["initiator"], left, again])""", n=2)
    assert run(crew) == ["a#2", "a#2", "orchestrator", "done with it", "boss", ["a", "b"], "a#2"]
    assert [r["inc"] for r in crew.records("a#2", "agent.spawned")] == [1, 2]


def test_one_that_is_frozen_is_ended_without_a_grace(runner):
    crew = waiting(runner, "names = [spawn('a')]\norder('receive')\norder('retire', 'a#2')")
    with waiting_crew(crew, "a#2") as client:
        client.freeze("a#2")
        client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").result(60)
        eventually(lambda: "a#2" not in states(client))
    end, = crew.records("a#2", "agent.terminated")
    assert end["cause"] == "orchestrator" and not crew.records("a#2", "agent.stop")


def test_one_that_has_nothing_to_do_is_retired(runner):
    crew = crew_of(runner, """
name = spawn("a", idle_ms=2000)
busy = order("wait", submit(name, "time.sleep(2.5)\\nout(1)"))["outcome"]
letter = order("receive", "--timeout", "50s")["payload"]
out([busy, letter["agent"], letter["reason"], letter["task"]])""")
    assert run(crew) == ["ok", "a#2", "had nothing to do for 2.0 s", None]


def test_a_kill_ends_one_and_the_others_go_on(runner):
    crew = waiting(runner)
    with waiting_crew(crew, "a#2", "a#3") as client:
        assert client.kill("a#2", reason="test").terminated.agent == "a#2"
        assert "a#2" not in states(client)
        assert states(client)["a"] == states(client)["a#3"] == AgentState.READY
        with pytest.raises(UnknownAgent):
            client.kill("a#2")
        r = runner.crewctl("exec", "--agent", "a#3", "--", "sh", "-c", "hostname")
        assert (r.returncode, r.stdout) == (0, "a#3\n"), r.stderr
        assert "TERMINATED" in runner.crewctl("logs", "--agent", "a#2", check=True).stdout
        killed = runner.crewctl("kill", "--all-of-role", "Worker", "--reason", "test")
        assert killed.returncode == 0, killed.stderr
        assert not {"a#2", "a#3"} & set(states(client)) and states(client)["a"] == AgentState.TERMINATED


def test_restarts_count_for_each(runner):
    crew = waiting(runner)
    crew.agents["a"]["restart"] = {"max": 1, "within": "60s"}
    with waiting_crew(crew, "a#2", "a#3") as client:
        for name in ("a#2", "a#3"):
            client.kill(name, reason="test")
            eventually(lambda: name in states(client) and agent_status(client, name).incarnation == 2
                       and states(client)[name] == AgentState.READY)
        client.kill("a#2", reason="test")
        eventually(lambda: "a#2" not in states(client))
        assert states(client)["a#3"] == AgentState.READY and agent_status(client, "a").incarnation == 1


def test_each_that_is_started_has_all_its_restarts(runner):
    """The place is the former one's; what that one had used up is not the next one's matter."""
    crew = crew_of(runner, """
def letter():
    while order("receive")["payload"] != 1: pass
def begin():  # and does not wait for it: it is killed as soon as it is seen
    return order("spawn", "a", stdin={})["name"]
names = [begin()]
letter()
names.append(begin())
letter()
out(names)""", n=2)
    crew.agent("b", targets=["boss"])
    crew.agents["a"]["restart"] = {"max": 1, "within": "60s"}

    def comes_back(client, incarnation):
        client.kill("a#2", reason="test")
        eventually(lambda: states(client).get("a#2") == AgentState.READY)
        assert agent_status(client, "a#2").incarnation == incarnation

    with waiting_crew(crew, "a#2") as client:
        comes_back(client, 2)
        client.kill("a#2", reason="test")
        eventually(lambda: "a#2" not in states(client))
        client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").wait(60)
        eventually(lambda: states(client).get("a#2") == AgentState.READY)
        comes_back(client, 4)
    assert result(crew) == ["a#2", "a#2"]


def test_an_edge_to_the_agent_is_one_to_its_instances(runner):
    crew = waiting(runner, "names = [spawn('a')]")
    with waiting_crew(crew, "a#2") as client:
        ask = "out([call('ask', n, stdin=7) for n in ('a#2', 'a#3')])"
        (ok, answer), (failed, error) = client.submit(agent="b", description=ask).result(60)
        assert (ok, answer) == (0, {"asked": 7})
        assert failed == 5 and error["error"]["code"] == -32007
        back = client.submit(agent="a#2", description="out(call('send', 'b', stdin=1))").result(60)
        assert back[0] == 3, "its policy lists nobody"
    assert [r["from"] for r in crew.records("a#2", "message.received")] == ["b"]


def test_without_their_manager_they_end(runner):
    crew = waiting(runner)
    with crew.start() as running:
        client = running.client()
        with running_tasks(running):
            eventually(lambda: {"a#2", "a#3"} <= set(states(client)) and states(client)["a#3"] == AgentState.READY)
            client.kill("boss", reason="test")
            eventually(lambda: set(states(client)) == {"boss", "a", "b"})
    for name in ("a#2", "a#3"):
        end, = crew.records(name, "agent.terminated")
        assert (end["cause"], end["reason"]) == ("orchestrator", "its manager is gone")


def test_a_reload_reaches_those_that_run_and_those_to_come(runner):
    crew = waiting(runner, "names = [spawn('a')]\norder('receive')\nnames.append(spawn('a'))")
    with waiting_crew(crew, "a#2") as client:
        path = crew.top / "a.yaml"
        path.write_text(path.read_text().replace("allowed_targets: []", "allowed_targets: [b]"))
        answer = client.reload_policy(agent="a")
        assert answer.ok and [a.agent for a in answer.agents] == ["a", "a#2"]
        assert client.submit(agent="a#2", description="out(call('send', 'b', stdin=1)[0])").result(60) == 0
        client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").wait(60)
        eventually(lambda: states(client).get("a#3") == AgentState.READY)
        assert client.submit(agent="a#3", description="out(call('send', 'b', stdin=1)[0])").result(60) == 0


def test_asking_for_them_over_and_over_is_bounded(runner):
    """A manager that is taken over can have as many as the crew file says, and start few in a minute."""
    crew = crew_of(runner, """
codes = []
for n in range(80):
    code, doc = call("spawn", "a", stdin={})
    codes.append(0 if code == 0 else doc["error"]["message"].split()[0])
out(codes)""")
    codes = run(crew)
    assert codes[:2] == [0, 0] and codes.count(0) == 2
    assert codes[2] == "there" and codes[-1] == "more"
    assert len(crew.records("a#2", "agent.spawned")) + len(crew.records("a#3", "agent.spawned")) <= 2


def test_nothing_of_a_former_instance_is_left_for_the_next(runner):
    crew = crew_of(runner, """
keep = "import os; open(os.environ['CREW_STATE'] + '/n', 'w').write('x'); out(sorted(os.listdir(os.environ['CREW_STATE'])))"
first = order("wait", submit(spawn("a"), keep))["result"]
order("retire", "a#2", stdin={})
order("receive", "--timeout", "50s")
out([first, order("wait", submit(spawn("a"), "import os; out(os.listdir(os.environ['CREW_STATE']))"))["result"]])""", n=2)
    assert run(crew) == [["n"], []]


def test_one_that_works_ends_its_task_with_it_and_the_manager_is_told(runner):
    """Retiring asks it to end: three seconds, and then it is killed; its task has one outcome, and runs nowhere else."""
    crew = crew_of(runner, """
name = spawn("a")
deaf = "import signal\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\\ntime.sleep(600)"
task = submit(name, deaf)
while order("result", task)["state"] != "running": time.sleep(0.02)
order("retire", name, stdin={"reason": "enough"})
code, late = call("submit", name, stdin={"description": "out(1)"})  # taken while it is ending, or refused when it has
outcomes = [order("wait", t)["outcome"] for t in [task] + ([late["task_id"]] if code == 0 else [])]
letter = order("receive", "--timeout", "50s")["payload"]
out([outcomes, letter["agent"], letter["cause"], letter["reason"]])""", n=2)
    outcomes, *letter = run(crew)
    assert letter == ["a#2", "orchestrator", "enough"] and not {"ok", None} & set(outcomes), outcomes
    assert len(crew.records("a#2", "task.started")) == 1 and not crew.records("a", "task.started")


def test_a_target_that_is_taken_away_is_no_longer_its_managers(runner):
    crew = waiting(runner, "names = [spawn('a')]\nprint('there', file=sys.stderr, flush=True)\n"
                           "order('receive')\nnames += [refused('retire', 'a#2', stdin={}), refused('submit', 'a#2', stdin={}), "
                           "refused('spawn', 'a', stdin={})]")
    with waiting_crew(crew, "a#2") as client:
        eventually(lambda: crew.records("boss", "agent.stderr"))
        path = crew.top / "boss.yaml"
        path.write_text(path.read_text().replace("allowed_targets: [a, b]", "allowed_targets: [b]"))
        assert client.reload_policy(agent="boss").ok
        client.submit(agent="b", description="out(call('send', 'boss', stdin=1)[0])").wait(60)
        eventually(lambda: sum(r.get("count", 1) for r in crew.records("boss", "manager.order") if r["verdict"] == "denied") == 3)
        assert states(client)["a#2"] == AgentState.READY
    _, *refusals = result(crew)[0]
    assert [r[1] for r in refusals] == [-32001] * 3, refusals


def test_a_manager_that_is_told_to_end_starts_nobody_any_more(runner):
    crew = crew_of(runner, """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", file=sys.stderr, flush=True)
while True:
    call("spawn", "a", stdin={})
    time.sleep(0.05)""")
    crew.agents["a"]["max_instances"] = 2
    with crew.start() as running:
        client, runs, other = running.client(), running.client(), running.client()
        runs._send("run_tasks", Message("RunTasks"))
        eventually(lambda: "a#2" in states(client) and states(client)["a#2"] == AgentState.READY)
        eventually(lambda: crew.records("boss", "agent.stderr"))
        client.stop(2000, "enough")
        running.proc.wait(60)
    spawned, ended = (len(crew.records("a#2", k)) for k in ("agent.spawned", "agent.terminated"))
    assert spawned == ended == 1, "none is started while the crew stops"


def test_nor_does_one_whose_worker_goes_on_asking(runner):
    crew = HostileCrew(runner).agent("a", max_instances=3).task("lead", "boss")
    crew.process = "hierarchical\nmanager: {agent: boss}"
    crew.hostile("boss", "begin()\nsay('spawn_instance', agent='a')\nhear_of('shutdown')\n"
                         "for _ in range(20):\n    say('spawn_instance', agent='a')\n    time.sleep(0.02)\nstay()", targets=["a"])
    with crew.start() as running:
        client = running.client()
        begin(client, "boss")
        eventually(lambda: states(client).get("a#2") == AgentState.READY)
        client.stop(1000, "enough")
        running.proc.wait(60)
    assert [len(crew.records(n, "agent.spawned")) for n in ("boss", "a", "a#2", "a#3")] == [1, 1, 1, 0]
    assert crew.records("boss", "agent.terminated")[0]["cause"] == "supervisor shutdown"


@pytest.mark.parametrize("name", ["a#2", "a#1", "a#", "#2", "a#02", "a#100"])
def test_no_agent_of_a_crew_file_has_the_name_of_an_instance(runner, name):
    crew = crew_of(runner, "out(1)")
    crew.agents[name] = dict(crew.agents["b"])
    crew.files[f"{name}.yaml"] = crew.files["b.yaml"].replace("agent: b", f"agent: {name!r}")
    crew.write()
    path = crew.top / "crew.yaml"
    path.write_text(path.read_text().replace(f"  {name}:", f"  {name!r}:"))
    r = runner.crewctl("policy", "check", path)
    assert r.returncode == 2 and "crew.yaml:" in r.stdout + r.stderr and name in r.stdout + r.stderr, r.stdout + r.stderr
