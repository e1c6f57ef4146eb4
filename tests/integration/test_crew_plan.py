# SPDX-License-Identifier: Apache-2.0
"""crewctl plan: what a changed crew file would do, why, and that nothing is done."""

import json

from crewlib import Crew, agent_status, eventually, state_of

TOOL = "#!/bin/sh\ncat\n"


def two(runner):
    crew = Crew(runner).agent("a", tools=["echo"]).agent("b").tool("echo", TOOL).task("t", "a")
    crew.write()
    return crew


def edit(crew, file, old, new):
    path = crew.top / file
    text = path.read_text()
    assert old in text, (old, text)
    path.write_text(text.replace(old, new, 1))


def plan(crew, *args, status):
    r = crew.runner.crewctl("plan", "--json", *args)
    assert r.returncode == status, (r.stdout, r.stderr)
    answer = json.loads(r.stdout)
    return answer, {a["agent"]: a["effect"] for a in answer["agents"]}


def test_nothing_changed_is_nothing_to_do(runner):
    crew = two(runner)
    with crew.start():
        answer, effects = plan(crew, status=0)
        assert effects == {"a": "unchanged", "b": "unchanged"} and answer["effect"] == "unchanged" and not answer["changes"]
        edit(crew, "crew.yaml", "process: sequential", "process:   sequential   # as before")
        plan(crew, crew.top / "crew.yaml", status=0)


def test_each_agent_with_its_reason_and_nothing_is_done(runner):
    crew = two(runner)
    with crew.start() as running:
        client = running.client()
        before = [(a.name, a.pid, a.incarnation, a.audit_seq) for a in client.status().agents]
        edit(crew, "crew.yaml", '"${CREW_DIR}/agent.py"', '"-u", "${CREW_DIR}/agent.py"')  # the first is a's
        edit(crew, "b.yaml", "wall_time: 60s", "wall_time: 50s")
        (crew.top / "c.yaml").write_text((crew.top / "b.yaml").read_text().replace("agent: b", "agent: c"))
        with open(crew.top / "crew.yaml", "a") as f:
            f.write('  c: {policy: c.yaml, command: [cat]}\n')
        answer, effects = plan(crew, status=5)
        assert effects == {"a": "restart", "b": "reload", "c": "start"} and answer["effect"] == "start"
        by = {a["agent"]: a["changes"] for a in answer["agents"]}
        assert by["a"] == [{"key": "command", "effect": "restart",
                            "detail": "[python3, ${CREW_DIR}/agent.py] -> [python3, -u, ${CREW_DIR}/agent.py]"}]
        assert by["b"] == [{"key": "policy: limits", "effect": "reload", "detail": "wall_time 60 s -> 50 s"}]
        text = runner.crewctl("plan")
        assert text.returncode == 5
        for line in ("! a   restart", "~ b   reload", "+ c   start", "policy: limits   wall_time 60 s -> 50 s",
                     "1 to start, 0 to stop, 1 to restart, 1 to reload, 0 unchanged", "to apply it: crewctl up"):
            assert line in text.stdout, text.stdout
        assert [(a.name, a.pid, a.incarnation, a.audit_seq) for a in client.status().agents] == before


def test_a_policy_that_needs_a_new_jail_is_a_restart(runner):
    crew = two(runner)
    with crew.start() as running:
        client = running.client()
        edit(crew, "a.yaml", "read: []", 'read: ["/usr/share/doc/"]')
        answer, effects = plan(crew, status=5)
        assert effects == {"a": "restart", "b": "unchanged"}
        assert answer["agents"][0]["changes"][0]["key"] == "policy: filesystem"
        assert runner.crewctl("policy", "reload", "--restart").returncode == 0
        eventually(lambda: agent_status(client, "a").incarnation == 2 and state_of(client, "a") == client.status().agents[1].state)
        plan(crew, status=0)


def test_another_file_of_the_same_crew(runner):
    crew = two(runner)
    with crew.start():
        text = (crew.top / "crew.yaml").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("  b:")]
        (crew.top / "next.yaml").write_text("\n".join(lines) + "\n")
        _, effects = plan(crew, crew.top / "next.yaml", status=5)
        assert effects == {"a": "unchanged", "b": "stop"}
        plan(crew, status=0)  # the one it was started with is as it was
        (crew.top / "other.yaml").write_text(text.replace("crew: t", "crew: other"))
        answer, _ = plan(crew, "--crew", "t", crew.top / "other.yaml", status=2)
        assert "another one than 't'" in answer["problems"][0]["text"] and answer["agents"] == []
        r = runner.crewctl("plan", crew.top / "other.yaml")
        assert r.returncode == 3 and "other" in r.stderr


def test_a_file_that_does_not_check_says_where(runner):
    crew = two(runner)
    with crew.start():
        edit(crew, "crew.yaml", "process:", "proces:")
        answer, _ = plan(crew, status=2)
        assert not answer["ok"] and "unknown key 'proces'" in answer["problems"][0]["text"]
        assert answer["problems"][0]["line"] == 2
        r = runner.crewctl("plan", crew.top / "crew.yaml")
        assert r.returncode == 2 and "crew.yaml:2:1" in r.stderr


def test_without_a_crew_that_runs_there_is_nothing_to_compare(runner):
    crew = two(runner)
    r = runner.crewctl("plan", crew.top / "crew.yaml")
    assert r.returncode == 3, r.stderr


def test_what_only_a_start_can_change(runner):
    crew = two(runner)
    with crew.start():
        with open(crew.top / "crew.yaml", "a") as f:
            f.write('hooks: {on_agent_terminated: {command: [cat]}}\n')
        answer, effects = plan(crew, status=5)
        assert answer["effect"] == "whole-crew" and set(effects.values()) == {"unchanged"}
        assert [c["key"] for c in answer["changes"]] == ["hooks"]


def test_tripwires_that_are_missing_until_the_next_start_are_named(runner):
    """What a new agent may read is a decoy for the others, but not in jails that were made before it."""
    crew = two(runner)
    crew.files["c.yaml"] = crew.files["b.yaml"].replace("agent: b", "agent: c").replace("read: []", 'read: ["${CREW_DIR}/only-c/"]')
    crew.files["only-c/x"] = "of c"
    crew.agents["a"]["restart"] = {"max": 3, "within": "60s"}
    crew.write()
    look = f"out(os.path.isdir({str(crew.top / 'only-c')!r}))"
    with crew.start() as running:
        client = running.client()
        with open(crew.top / "crew.yaml", "a") as f:
            f.write('  c: {policy: c.yaml, command: ["python3", "${CREW_DIR}/agent.py"]}\n')
        answer, effects = plan(crew, status=5)
        assert effects == {"a": "unchanged", "b": "unchanged", "c": "start"}
        [line] = answer["changes"]
        assert (line["key"], line["effect"]) == ("tripwires", "unchanged")
        assert line["detail"] == "of c: not in the jails of agents that go on, until their next start"
        assert runner.crewctl("up", crew.top / "crew.yaml").returncode == 0
        assert client.submit(agent="a", description=look).result(60) is False
        assert client.submit(agent="c", description=look).result(60) is True
        client.kill("a")
        eventually(lambda: agent_status(client, "a").incarnation == 2)
        assert client.submit(agent="a", description=look).result(60) is True  # a decoy: empty
        assert client.submit(agent="a", description=look.replace("isdir", "exists").replace("only-c'", "only-c/x'")).result(60) is False
