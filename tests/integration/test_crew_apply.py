# SPDX-License-Identifier: Apache-2.0
"""crewctl up on a crew that runs: exactly the plan, with the least restarts, and everything back when it does not work out."""

import json
import threading

import pytest

import crewd
from crewlib import ROLE, Crew, agent_status, eventually
from test_crew_instances import waiting, waiting_crew

APPLY = crewd.codec.ENUMS["ApplyOutcome"]
TOOL = "#!/bin/sh\ncat\n"
FLAGS = '"${CREW_DIR}/flags/"'
# Runs until the flag is there.
HOLD = """
flag = os.path.join({top!r}, "flags", {flag!r})
while not os.path.exists(flag):
    time.sleep(0.02)
out({{"agent": os.environ["CREW_AGENT"]}})
"""




def pids(client):
    return {a.name: (a.pid, a.incarnation) for a in client.status().agents}


def edit(crew, file, old, new):
    path = crew.top / file
    text = path.read_text()
    assert old in text, (old, text)
    path.write_text(text.replace(old, new, 1))


# A program without an interpreter passes every check, and does not start.
BROKEN = '["${CREW_DIR}/broken"], driver: stdio-rpc'


def let_run(crew, agent):
    edit(crew, f"{agent}.yaml", "write: []", 'write: [], exec: ["${CREW_DIR}/broken"]')


def add_agent(crew, name, command="[cat]", **role):
    (crew.top / f"{name}.yaml").write_text(ROLE.format(**{"name": name, "targets": "", "tools": "", "limits": "", **role}))
    with open(crew.top / "crew.yaml", "a") as f:
        f.write(f"  {name}: {{policy: {name}.yaml, command: {command}}}\n")


def drop_line(crew, start):
    path = crew.top / "crew.yaml"
    lines = path.read_text().splitlines(True)
    kept = [line for line in lines if not line.startswith(start)]
    assert len(kept) == len(lines) - 1, (start, lines)
    path.write_text("".join(kept))


def up(crew, *args, status=0, file="crew.yaml"):
    r = crew.runner.crewctl("up", "--json", *args, crew.top / file)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    answer = json.loads(r.stdout)
    return answer, {a["agent"]: a["effect"] for a in answer.get("agents", [])}


def plan(crew, *args):
    return json.loads(crew.runner.crewctl("plan", "--json", *args).stdout)


def make(runner, *names, tasks=(("t", "a"),), **kw):
    """Agents that may look for flags, so that a task of theirs lasts until the test says so."""
    crew = Crew(runner)
    for name in names:
        crew.agent(name, tools=["echo"], **kw)
        crew.files[f"{name}.yaml"] = crew.files[f"{name}.yaml"].replace("read: []", f"read: [{FLAGS}]")
    crew.tool("echo", TOOL)
    crew.files["flags/none"] = ""
    crew.files["broken"] = "#!/no/such/interpreter\n"
    for name, agent in tasks:
        crew.task(name, agent)
    crew.write()
    return crew


def hold(crew, flag):
    return HOLD.format(top=str(crew.top), flag=flag)


def let_go(crew, flag):
    (crew.top / "flags" / flag).write_text("")


def task_of(client, agent):
    return agent_status(client, agent).task


def test_every_effect_at_once_and_nobody_else_notices(runner):
    crew = make(runner, "a", "b", "c", "d")
    with crew.start() as running:
        client = running.client()
        busy = client.submit(agent="a", description=hold(crew, "a"))
        eventually(lambda: task_of(client, "a"))
        before = pids(client)
        edit(crew, "crew.yaml", '  a: {', '  a: {"goal": "another", ')
        edit(crew, "b.yaml", "wall_time: 60s", "wall_time: 50s")
        edit(crew, "crew.yaml", '  d: {"policy": "d.yaml", "command": ["python3", ', '  d: {"policy": "d.yaml", "command": ["python3", "-u", ')
        drop_line(crew, "  c:")
        add_agent(crew, "e")
        shown = plan(crew)
        answer, effects = up(crew)
        assert effects == {"a": "reload", "b": "reload", "c": "stop", "d": "restart", "e": "start"}
        assert answer["outcome"] == "applied" and all(a["applied"] for a in answer["agents"])
        assert answer["digest"] == shown["digest"] and {a["agent"]: a["effect"] for a in shown["agents"]} == effects
        after = pids(client)
        assert after["a"] == before["a"] and after["b"] == before["b"]
        assert after["d"][0] != before["d"][0] and after["d"][1] == 2
        assert after["e"][0] and after["e"][1] == 1 and "c" not in after
        let_go(crew, "a")
        assert busy.wait(60).result  # it was not disturbed
        assert plan(crew)["effect"] == "unchanged" and up(crew)[0]["outcome"] == "unchanged"
        assert "crew t is as the file says: nothing to do" in runner.crewctl("up", crew.top / "crew.yaml").stdout
        for name in "abd":
            [record] = crew.records(name, "crew.applied")
            assert record["effect"] == effects[name] and record["plan"] == shown["digest"]
            assert record["old_crew_sha256"] != record["crew_sha256"] and "uid" in record["initiator"]
        [record] = crew.records("b", "crew.applied")
        assert record["old_sha256"] != record["sha256"]
        [record] = crew.records("c", "crew.applied")
        assert record["effect"] == "stop" and "sha256" not in record
        assert crew.records("c", "agent.terminated")[-1]["reason"] == "the crew file has changed"
        assert crew.records("e", "agent.policy")[0]["crew_sha256"] == record["crew_sha256"]
        assert runner.crewctl("audit", "verify").returncode == 0
    text = runner.crewctl("logs", "--agent", "d")
    assert "CREW: APPLIED -> restart" in text.stdout, text.stdout


def test_what_a_jail_was_made_with_is_known_after_the_file_has_changed(runner):
    """By the tools: those that were taken away are still in the jail, and come back without a restart; others do not."""
    crew = make(runner, "a")
    crew.tool("late", TOOL)
    crew.write()
    use = "out([call('tool', t, stdin={})[0] for t in ('echo', 'late')])"
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        edit(crew, "a.yaml", "allowed: [echo]", "allowed: []")
        assert up(crew)[1] == {"a": "reload"} and client.submit(agent="a", description=use).result(60) == [3, 3]
        edit(crew, "a.yaml", "allowed: []", "allowed: [echo]")
        assert up(crew)[1] == {"a": "reload"} and client.submit(agent="a", description=use).result(60) == [0, 3]
        assert pids(client) == before
        edit(crew, "a.yaml", "allowed: [echo]", "allowed: [echo, late]")
        assert up(crew)[1] == {"a": "restart"} and client.submit(agent="a", description=use).result(60) == [0, 0]


def test_the_next_task_is_as_the_file_says_now(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        edit(crew, "crew.yaml", '  a: {', '  a: {"goal": "to be another", ')
        up(crew)
        done = client.submit(agent="a", description="out(doc['agent'])").wait(60)
        assert json.loads(done.result)["goal"] == "to be another"
        edit(crew, "crew.yaml", '  t: {"agent": "a", "description": "out({\'ok\': True})"',
             '  t: {"agent": "a", "description": "out({\'ok\': 2})"')
        _, effects = up(crew)
        assert effects == {"a": "unchanged"}
        assert json.loads(client.submit(task="t").wait(60).result) == {"ok": 2}


def test_a_restarted_agent_ends_its_task_first_and_what_waits_for_it_stays(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client, other = running.client(), running.client()
        first = client.submit(agent="a", description=hold(crew, "a"))
        eventually(lambda: task_of(client, "a"))
        second = client.submit(agent="a", description="out(os.environ['CREW_AGENT'])")
        before = pids(client)
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", file=str(crew.top / "crew.yaml"), grace_ms=60000))
        other.status()  # answered behind it: what comes from another connection now is later
        with pytest.raises(crewd.Refused) as second_up:
            client.apply(str(crew.top / "crew.yaml"))
        assert second_up.value.code == "busy"
        with pytest.raises(crewd.Refused) as reload:
            client.reload_policy()
        assert reload.value.code == "busy"
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 1 and "being applied already" in r.stderr
        assert pids(client) == before
        let_go(crew, "a")
        applied = other._answer(seq, ("crew_applied",), 60)[1]
        assert applied.outcome == APPLY["DONE"]
        assert first.wait(60).result and json.loads(second.wait(60).result) == "a"
        after = pids(client)
        assert after["a"][1] == 2 and after["b"] == before["b"]


def test_after_the_grace_it_is_restarted_all_the_same_and_the_task_follows(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=hold(crew, "a"))
        eventually(lambda: task_of(client, "a"))
        edit(crew, "a.yaml", f"read: [{FLAGS}]", f'read: [{FLAGS}, "/usr/share/doc/"]')
        _, effects = up(crew, "--grace", "100ms")
        assert effects == {"a": "restart"} and agent_status(client, "a").incarnation == 2
        eventually(lambda: task_of(client, "a"))
        let_go(crew, "a")
        assert task.wait(60).result


def test_tasks_join_a_run_that_is_under_way_and_leave_it(runner):
    crew = make(runner, "a", "b", tasks=())
    crew.task("one", "a", hold(crew, "one")).task("two", "b", context=["one"]).task("gone", "b", context=["one"])
    crew.write()
    (crew.top / "flags").mkdir(exist_ok=True)
    with crew.start() as running:
        client, other = running.client(), running.client()
        # write() makes a fresh directory: the flag is looked for there.
        edit(crew, "crew.yaml", json.dumps(crew.tasks["one"]["description"]), json.dumps(hold(crew, "one")))
        up(crew)
        seq = client._send("run_tasks", crewd.codec.Message("RunTasks"))
        eventually(lambda: task_of(other, "a") == "one")
        before = pids(other)
        drop_line(crew, "  gone:")
        text = (crew.top / "crew.yaml").read_text().replace(
            "tasks:\n", 'tasks:\n  three: {agent: b, description: "out(sorted(context))", context: [one, two]}\n')
        (crew.top / "crew.yaml").write_text(text)
        _, effects = up(crew)
        assert effects == {"a": "unchanged", "b": "unchanged"} and pids(other) == before
        let_go(crew, "one")
        done = client._answer(seq, ("crew_done",), 60)[1]
        assert {t.name: t.state for t in done.tasks} == {"one": "done", "two": "done", "three": "done"}
        assert (done.tasks_ok, done.tasks_total) == (3, 3)
        assert json.loads((runner.home / "lib" / "t" / "out" / "three.json").read_text()) == ["one", "two"]


def test_a_running_task_that_is_gone_ends_as_it_was_and_outside_of_the_run(runner):
    crew = make(runner, "a", "b", tasks=())
    crew.task("one", "a", "out(1)").task("two", "b", "out(2)")
    crew.write()
    edit(crew, "crew.yaml", json.dumps("out(1)"), json.dumps(hold(crew, "one")))
    with crew.start() as running:
        client, other = running.client(), running.client()
        seq = client._send("run_tasks", crewd.codec.Message("RunTasks"))
        eventually(lambda: task_of(other, "a") == "one")
        drop_line(crew, "  one:")
        up(crew)
        done = client._answer(seq, ("crew_done",), 60)[1]
        assert {t.name: t.state for t in done.tasks} == {"two": "done"}
        assert task_of(other, "a") == "one"
        let_go(crew, "one")
        eventually(lambda: not task_of(other, "a"))
        assert eventually(lambda: crew.records("a", "task.finished"))[-1]["outcome"] == "ok"


def test_a_file_that_does_not_check_changes_nothing(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        good = (crew.top / "crew.yaml").read_text()
        edit(crew, "crew.yaml", "process:", "proces:")
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 2 and "crew.yaml:2:1" in r.stderr
        applied = client.apply()
        assert applied.outcome == APPLY["INVALID"] and applied.problems[0].line == 2
        (crew.top / "crew.yaml").write_text(good)
        edit(crew, "b.yaml", "mode: deny-by-default", "mode: allow")
        drop_line(crew, "  a:")
        drop_line(crew, "  t:")
        assert client.apply().outcome == APPLY["INVALID"]
        assert pids(client) == before and not crew.records("a", "crew.applied")


def test_a_new_agent_that_does_not_start_takes_everything_back(runner):
    crew = make(runner, "a", "b", "c")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        good = (crew.top / "crew.yaml").read_text()
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        drop_line(crew, "  c:")
        add_agent(crew, "fine")
        add_agent(crew, "bad", BROKEN)
        let_run(crew, "bad")
        r = runner.crewctl("up", "--json", crew.top / "crew.yaml")
        answer = json.loads(r.stdout)
        assert r.returncode == 1 and answer["outcome"] == "undone" and "bad" in answer["error"], r.stdout
        assert not any(a["applied"] for a in answer["agents"])
        assert pids(client) == before
        assert crew.records("bad", "crew.applied")[-1]["verdict"] == "undone"
        assert not crew.records("a", "crew.applied")
        edit(crew, "bad.yaml", ', exec: ["${CREW_DIR}/broken"]', "")
        # The names are free, and the places not lost.
        (crew.top / "crew.yaml").write_text(good)
        add_agent(crew, "other", "[python3, \"${CREW_DIR}/agent.py\"]")
        add_agent(crew, "bad", "[python3, \"${CREW_DIR}/agent.py\"]")
        _, effects = up(crew)
        assert effects == {"a": "unchanged", "b": "unchanged", "c": "unchanged", "bad": "start", "other": "start"}
        assert client.submit(agent="bad", description="out(1)").wait(60).result == "1"
        assert set(pids(client)) == {"a", "b", "c", "bad", "other"}


def test_a_changed_agent_that_does_not_start_takes_everything_back(runner):
    crew = make(runner, "a", "b", "c")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        edit(crew, "crew.yaml", '  b: {"policy": "b.yaml", "command": ["python3", "${CREW_DIR}/agent.py"]', "  b: {policy: b.yaml, command: " + BROKEN)
        let_run(crew, "b")
        edit(crew, "c.yaml", "wall_time: 60s", "wall_time: 50s")
        add_agent(crew, "new")
        answer, effects = up(crew, status=1)
        assert answer["outcome"] == "undone" and answer["error"].startswith("agent b did not start")
        after = pids(client)
        assert after["c"] == before["c"] and set(after) == set(before)
        assert after["a"][1] == 3 and after["b"][1] >= 3  # there and back
        for name in "abc":
            assert client.submit(agent=name, description="out(1)").wait(60).result == "1"
        assert crew.records("a", "agent.policy")[-1]["crew_sha256"] == crew.records("a", "agent.policy")[0]["crew_sha256"]
        assert plan(crew)["effect"] == "start"  # it is still to be done


def test_what_needs_the_whole_crew_is_refused_and_done_when_asked_for(runner):
    crew = make(runner, "a")
    try:
        assert runner.crewctl("up", "--detach", crew.top / "crew.yaml").returncode == 0
        pid = json.loads(runner.crewctl("status", "--json").stdout)["agents"][0]["pid"]
        with open(crew.top / "crew.yaml", "a") as f:
            f.write("hooks: {on_agent_terminated: {command: [cat]}}\n")
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 1 and "nothing was done" in r.stderr and "--restart" in r.stderr
        assert json.loads(runner.crewctl("status", "--json").stdout)["agents"][0]["pid"] == pid
        r = runner.crewctl("up", "--dry-run", crew.top / "crew.yaml")
        assert r.returncode == 5 and "hooks" in r.stdout and "--restart" in r.stdout
        r = runner.crewctl("up", "--restart", "--detach", crew.top / "crew.yaml")
        assert r.returncode == 0, r.stderr
        assert json.loads(runner.crewctl("status", "--json").stdout)["agents"][0]["pid"] != pid
        assert plan(crew)["effect"] == "unchanged"
    finally:
        runner.crewctl("down")


def whole_and_broken(crew, file="crew.yaml"):
    """Needs the whole crew, and does not start: what b has kept cannot be brought to that version."""
    kept = crew.runner.home / "lib" / "t" / "state" / "b"
    (kept / "x").write_text("")
    crew.runner.own(kept)
    text = (crew.top / "crew.yaml").read_text() + "hooks: {on_agent_terminated: {command: [cat]}}\n"
    (crew.top / file).write_text(text.replace("  b: {", '  b: {"state": {"version": 2, "migrate": ["false"]}, '))
    crew.runner.own(crew.top)


def running_agents(runner):
    return {a["name"]: a["pid"] for a in json.loads(runner.crewctl("status", "--json", check=True).stdout)["agents"]}


def test_a_restart_that_fails_brings_the_former_crew_back(runner):
    crew = make(runner, "a", "b")
    assert runner.crewctl("up", "--detach", crew.top / "crew.yaml").returncode == 0
    try:
        before = running_agents(runner)
        whole_and_broken(crew, "next.yaml")
        r = runner.crewctl("up", "--restart", crew.top / "next.yaml")
        assert r.returncode == 1 and "crew t runs again as before" in r.stderr and "migrating it to 2 failed" in r.stderr, r.stderr
        assert f"by {crew.top}/crew.yaml, detached" in r.stderr
        after = running_agents(runner)
        assert set(after) == {"a", "b"} and all(after[n] and after[n] != before[n] for n in after)
        assert plan(crew)["effect"] == "unchanged"
        r = runner.crewctl("up", "--restart", "--json", "--detach", crew.top / "next.yaml")
        assert r.returncode == 1 and json.loads(r.stdout)["error"]["code"] == "restored"
    finally:
        runner.crewctl("down")


def test_a_locked_crew_comes_back_locked(runner):
    crew = make(runner, "a", "b")
    assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
    assert runner.crewctl("up", "--detach", "--locked", crew.top / "crew.yaml").returncode == 0
    try:
        whole_and_broken(crew, "next.yaml")
        (crew.top / "new").mkdir()
        for name in ("next.yaml", "agent.py", "a.yaml", "b.yaml", "broken"):
            to = crew.top / "new" / ("crew.yaml" if name == "next.yaml" else name)
            to.write_bytes((crew.top / name).read_bytes())
        for name in ("flags/none", "tools/echo"):
            to = crew.top / "new" / name
            to.parent.mkdir()
            to.write_bytes((crew.top / name).read_bytes())
            to.chmod(0o755)
        runner.own(crew.top)
        r = runner.crewctl("lock", crew.top / "new" / "crew.yaml")
        assert r.returncode == 0, r.stderr
        r = runner.crewctl("up", "--restart", "--locked", crew.top / "new" / "crew.yaml")
        assert r.returncode == 1 and "crew t runs again as before" in r.stderr, r.stderr
        edit(crew, "crew.yaml", "process:", "process: ")
        assert runner.crewctl("plan").returncode == 2  # it is what its lock names that runs, and nothing else
    finally:
        runner.crewctl("down")


@pytest.mark.parametrize("why", ["edited", "migrated"])
def test_a_restart_that_cannot_be_taken_back_says_what_does_not_run(runner, why):
    crew = make(runner, "a", "b")
    assert runner.crewctl("up", "--detach", crew.top / "crew.yaml").returncode == 0
    file = "crew.yaml" if why == "edited" else "next.yaml"
    whole_and_broken(crew, file)
    if why == "migrated":  # a's directory is the changed crew's by then
        kept = runner.home / "lib" / "t" / "state" / "a"
        (kept / "x").write_text("")
        runner.own(kept)
        edit(crew, file, "  a: {", '  a: {"state": {"version": 3, "migrate": ["true"]}, ')
        edit(crew, file, '"migrate": ["false"]',
             '"migrate": ["sh", "-c", "until test -e $1; do sleep 0.1; done; exit 1", "sh", "${CREW_DIR}/flags/migrated"]')
        migrated = lambda: eventually(lambda: crew.records("a", "state.migrated")) and let_go(crew, "migrated")
        threading.Thread(target=migrated).start()
    r = runner.crewctl("up", "--restart", "--detach", crew.top / file)
    assert r.returncode == 1 and "crew t was stopped, and does not run" in r.stderr, r.stderr
    assert ("on disk no more" if why == "edited" else "nor did it start again as before") in r.stderr, r.stderr
    assert why == "edited" or "its state directory is of version 3" in r.stderr, r.stderr
    assert runner.crewctl("status").returncode == 3


def test_a_plan_that_has_gone_stale_is_not_applied(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        edit(crew, "a.yaml", "wall_time: 60s", "wall_time: 50s")
        digest = plan(crew)["digest"]
        r = runner.crewctl("up", "--dry-run", "--json", crew.top / "crew.yaml")
        assert r.returncode == 5 and json.loads(r.stdout)["digest"] == digest
        edit(crew, "a.yaml", "wall_time: 50s", "wall_time: 40s")
        r = runner.crewctl("up", "--plan", digest, crew.top / "crew.yaml")
        assert r.returncode == 1 and "the plan has changed" in r.stderr
        with pytest.raises(crewd.Refused) as stale:
            client.apply(plan="0" * 64)
        assert stale.value.code == "stale" and not crew.records("a", "crew.applied")
        answer, _ = up(crew, "--plan", plan(crew)["digest"])
        assert answer["outcome"] == "applied"


def test_without_a_crew_that_runs_there_is_no_plan_to_apply(runner):
    crew = make(runner, "a")
    for args in (["--plan", "0" * 64], ["--dry-run"]):
        r = runner.crewctl("up", *args, crew.top / "crew.yaml")
        assert r.returncode == 3 and "does not run" in r.stderr


def test_a_frozen_agent_is_not_ended_by_the_way(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        client.freeze("a", "look at it")
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        with pytest.raises(crewd.Refused) as frozen:
            client.apply()
        assert frozen.value.code == "busy" and "frozen" in frozen.value.message
        client.thaw("a")
        assert client.apply().outcome == APPLY["DONE"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_who_is_ended_by_somebody_while_a_file_is_applied_is_left_so(runner, how):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client, other = running.client(), running.client()
        client.submit(agent="a", description=hold(crew, "f"))
        eventually(lambda: agent_status(client, "a").state == crewd.AgentState.WORKING)
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=60000))
        other.status()  # it drains: its task goes on
        assert agent_status(client, "a").state == crewd.AgentState.WORKING
        if how == "stop":
            r = runner.crewctl("stop", "--agent", "a", "--grace", "700ms")
            assert r.returncode == 0, r.stderr
        else:
            client.kill("a", "odd")
        assert other._answer(seq, ("crew_applied",), 60)[1].outcome == APPLY["DONE"]
        assert agent_status(client, "a").state == crewd.AgentState.TERMINATED
        client.start_agent("a")
        assert client.submit(agent="a", description="out(1)").wait(60).result == "1"


def test_an_agent_that_is_down_comes_up_by_its_changed_definition(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        client.stop_agent("a", 5000)
        edit(crew, "crew.yaml", '  b: {', '  b: {"goal": "x", ')
        up(crew)
        assert agent_status(client, "a").pid == 0  # unchanged: as the operator left it
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        up(crew)
        assert agent_status(client, "a").pid and client.submit(agent="a", description="out(1)").wait(60).result == "1"


def test_a_name_that_comes_back_goes_on_with_its_stream(runner):
    crew = make(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        with_b = (crew.top / "crew.yaml").read_text()
        drop_line(crew, "  b:")
        for _ in range(3):
            without = (crew.top / "crew.yaml").read_text()
            up(crew)
            assert set(pids(client)) == {"a"}
            with pytest.raises(crewd.UnknownAgent):
                client.submit(agent="b", description="")
            (crew.top / "crew.yaml").write_text(with_b)
            up(crew)
            assert client.submit(agent="b", description="out(1)").wait(60).result == "1"
            (crew.top / "crew.yaml").write_text(without)
        assert agent_status(client, "b").incarnation == 4
        assert runner.crewctl("audit", "verify").returncode == 0


def test_the_crew_can_be_stopped_while_a_file_is_applied(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        client.submit(agent="a", description=hold(crew, "never"))
        eventually(lambda: task_of(client, "a"))
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        add_agent(crew, "new")
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=60000))
        eventually(lambda: "new" in pids(client))
        client.stop(0, "enough")
        with pytest.raises(crewd.Refused) as refused:
            other._answer(seq, ("crew_applied",), 60)
        assert refused.value.code == "stopping"
        assert running.proc.wait(60) == 0
    # The end of its task was what the change waited for; it goes no further all the same.
    assert len(crew.records("a", "agent.spawned")) == 1
    assert not crew.records("a", "crew.applied") and not crew.records("new", "crew.applied")
    assert "applied" not in running.log()


def test_the_asker_may_go_away(runner):
    crew = make(runner, "a")
    with crew.start() as running:
        client, other = running.client(), running.client()
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=1000))
        other.close()
        eventually(lambda: agent_status(client, "a").incarnation == 2 and agent_status(client, "a").pid, timeout=30)
        eventually(lambda: crew.records("a", "crew.applied"))


@pytest.mark.parametrize("body", [dict(file="crew.yaml"), dict(file="x" * 4096), dict(plan="g" * 64), dict(plan="../" * 3),
                                  dict(file="/proc/self/mem"), dict(file="/dev/zero"), dict(file="/"), dict(file="/nowhere")])
def test_a_bad_request_is_refused_and_nothing_changes(runner, body):
    crew = make(runner, "a")
    with crew.start() as running:
        client = running.client()
        before = pids(client)
        try:
            answer = client.apply(**body)
            assert answer.outcome == APPLY["INVALID"] and answer.problems
        except crewd.Refused as e:
            assert e.code in ("bad-frame", "stale")
        assert pids(running.client()) == before


def test_what_is_locked_is_applied_locked(runner):
    crew = make(runner, "a", "b")
    assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
    assert runner.crewctl("up", "--detach", "--locked", crew.top / "crew.yaml").returncode == 0
    try:
        status = lambda: {a["name"]: a["pid"] for a in json.loads(runner.crewctl("status", "--json").stdout)["agents"]}
        before = status()
        edit(crew, "crew.yaml", '  a: {', '  a: {"goal": "x", ')
        # Without --locked crewd insists all the same; with it crewctl says so first.
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 2 and "crew crew.yaml: expected" in r.stderr
        r = runner.crewctl("up", "--locked", crew.top / "crew.yaml")
        assert r.returncode == 4 and "crew crew.yaml: expected" in r.stderr
        assert status() == before
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        answer, _ = up(crew, "--locked")
        assert answer["outcome"] == "applied" and status() == before
        # What comes up later is held against the lock that counts now.
        edit(crew, "crew.yaml", '  b: {"policy": "b.yaml", "command": ["python3", ', '  b: {"policy": "b.yaml", "command": ["python3", "-u", ')
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        up(crew)
        want = crew.records("b", "agent.policy")
        assert want[-1]["lock_sha256"] != want[0]["lock_sha256"]
    finally:
        runner.crewctl("down")


def test_a_program_that_was_locked_anew_is_started_again(runner):
    crew = make(runner, "a", "b", restart={"max": 3, "within": "60s"})
    crew.agents["b"]["command"] = ["sh", "-c", "cat"]
    crew.write()
    assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
    assert runner.crewctl("up", "--detach", "--locked", crew.top / "crew.yaml").returncode == 0
    try:
        status = lambda: {a["name"]: a["pid"] for a in json.loads(runner.crewctl("status", "--json").stdout)["agents"]}
        before = status()
        edit(crew, "agent.py", "import json", "import  json")
        assert runner.crewctl("up", crew.top / "crew.yaml").returncode == 2
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        answer, effects = up(crew, "--locked")
        assert effects == {"a": "restart", "b": "unchanged"}
        after = status()
        assert after["a"] != before["a"] and after["b"] == before["b"]
        # A file that no agent runs is another lock all the same, and counts from now on.
        edit(crew, "crew.yaml", "process:", "process: ")
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        assert [c["key"] for c in plan(crew)["changes"]] == ["crew.lock"]
        assert up(crew)[0]["outcome"] == "applied" and status() == after
        assert runner.crewctl("kill", "--agent", "b").returncode == 0  # and holds for what comes up by itself
        eventually(lambda: status()["b"] not in (0, None, before["b"]), timeout=30)
    finally:
        runner.crewctl("down")


def test_further_instances_are_as_their_agent_is(runner):
    crew = waiting(runner)
    with waiting_crew(crew, "a", "a#2", "a#3") as client:
        before = pids(client)
        edit(crew, "a.yaml", "wall_time: 60s", "wall_time: 50s")
        applied = client.apply()
        assert applied.outcome == APPLY["DONE"]
        assert {a.agent for a in applied.agents if a.applied} == {"a", "a#2", "a#3"} and pids(client) == before
        edit(crew, "crew.yaml", '  a: {"policy": "a.yaml", "command": ["python3", ', '  a: {"policy": "a.yaml", "command": ["python3", "-u", ')
        assert client.apply().outcome == APPLY["DONE"]
        after = pids(client)
        assert all(after[n][1] == before[n][1] + 1 for n in ("a", "a#2", "a#3"))
        assert after["b"] == before["b"] and after["boss"] == before["boss"]
        edit(crew, "crew.yaml", '"max_instances": 3', '"max_instances": 2')
        with pytest.raises(crewd.Refused) as whole:
            client.apply()
        assert whole.value.code == "whole-crew" and pids(client) == after
