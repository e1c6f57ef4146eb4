# SPDX-License-Identifier: Apache-2.0
"""crew.lock: what was locked runs, and nothing else does: at the start, at each start of an agent, and at a reload."""

import hashlib
import json
import os

import pytest

from crewlib import Crew, agent_status, eventually, state_of

TOOL = "#!/bin/sh\ncat\n"
USE = "out(call('tool', 'echo', stdin={'a': 1})[1])"


def locked_crew(runner, **kw):
    crew = Crew(runner).agent("a", tools=["echo"], **kw).tool("echo", TOOL).task("t", "a", USE)
    crew.write()
    r = runner.crewctl("lock", crew.top / "crew.yaml")
    assert r.returncode == 0, r.stderr
    return crew


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_lock_lists_what_is_used_sorted_and_the_same_each_time(runner):
    crew = locked_crew(runner)
    path = crew.top / "crew.lock"
    before = path.read_text()
    lines = [line.split(maxsplit=2) for line in before.splitlines() if not line.startswith(("#", "crew.lock 1"))]
    assert before.splitlines()[1] == "crew.lock 1 t"
    assert ["tool", sha(TOOL), "tools/echo"] in lines
    assert ["policy", sha((crew.top / "a.yaml").read_text()), "a.yaml"] in lines
    assert {"runtime", "program", "crew"} <= {kind for kind, _, _ in lines}
    assert [(kind, name) for kind, _, name in lines] == sorted((kind, name) for kind, _, name in lines)
    python = os.path.realpath("/usr/bin/python3")
    with open(python, "rb") as f:
        assert ["program", hashlib.sha256(f.read()).hexdigest(), "/usr/bin/python3"] in lines
    r = runner.crewctl("lock", "--json", crew.top / "crew.yaml")
    answer = json.loads(r.stdout)
    assert answer["changed"] is False and path.read_text() == before
    assert [[f["kind"], f["sha256"], f["name"]] for f in answer["files"]] == lines


def test_what_was_locked_runs_and_the_audit_names_the_lock(runner):
    crew = locked_crew(runner)
    r = runner.crewctl("run", "--locked", "--json", crew.top / "crew.yaml")
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["tasks"][0]["result"] == {"a": 1}
    assert crew.records("a", "agent.policy")[0]["lock_sha256"] == sha((crew.top / "crew.lock").read_text())
    assert runner.crewctl("policy", "check", "--locked", crew.top / "crew.yaml").returncode == 0


@pytest.mark.parametrize("file, old, new, kind", [
    ("tools/echo", "cat", "tac", "tool"),
    ("agent.py", "import json", "import  json", "program"),
    ("a.yaml", "memory: 256MiB", "memory: 255MiB", "policy"),
    ("crew.yaml", "process:", "process: ", "crew"),
])
def test_a_changed_file_is_refused_with_both_digests(runner, file, old, new, kind):
    crew = locked_crew(runner)
    was = sha((crew.top / file).read_text())
    replace(crew.top / file, old, new)
    found = sha((crew.top / file).read_text())
    for verb in (["run", "--locked"], ["up", "--detach", "--locked"], ["policy", "check", "--locked"]):
        r = runner.crewctl(*verb, crew.top / "crew.yaml")
        assert r.returncode == 4, (verb, r.stdout, r.stderr)
        assert f"{kind} {file}: expected {was}, found {found}" in r.stdout + r.stderr
    r = runner.crewctl("policy", "check", "--locked", "--json", crew.top / "crew.yaml")
    [problem] = [p for p in json.loads(r.stdout)["problems"] if p["severity"] == "error"]
    assert problem["file"].endswith("crew.lock") and problem["line"] > 2
    assert not (runner.home / "lib" / "t" / "audit").exists()  # nothing was started
    assert runner.crewctl("run", crew.top / "crew.yaml").returncode in (0, 1)  # without --locked it is nobody's business


def test_crewd_itself_checks(runner):
    crew = locked_crew(runner)
    replace(crew.top / "tools/echo", "cat", "tac")
    r = runner.run(runner.program("crewd"), "--locked", crew.top / "crew.yaml")
    assert r.returncode == 4 and "tool tools/echo: expected" in r.stderr


def test_without_a_lock_nothing_runs_locked(runner):
    crew = Crew(runner).agent("a").task("t", "a")
    crew.write()
    r = runner.crewctl("run", "--locked", crew.top / "crew.yaml")
    assert r.returncode == 4 and "crewctl lock" in r.stderr


def test_a_file_that_changes_later_does_not_come_up_again(runner):
    crew = locked_crew(runner, restart={"max": 3, "within": "60s"})
    assert runner.crewctl("up", "--detach", "--locked", crew.top / "crew.yaml").returncode == 0
    try:
        replace(crew.top / "agent.py", "import json", "import  json")
        assert runner.crewctl("kill", "--agent", "a").returncode == 0
        status = lambda: json.loads(runner.crewctl("status", "--json").stdout)["agents"][0]
        eventually(lambda: "agent.py" in json.dumps(crew.records("a", "agent.terminated")[-1]))
        eventually(lambda: status()["state"] in ("failed", "terminated"))
    finally:
        runner.crewctl("down")


def test_a_reload_takes_only_what_the_lock_names(runner):
    crew = locked_crew(runner)
    assert runner.crewctl("up", "--detach", "--locked", crew.top / "crew.yaml").returncode == 0
    try:
        replace(crew.top / "a.yaml", "wall_time: 60s", "wall_time: 50s")
        r = runner.crewctl("policy", "reload", "--json")
        assert r.returncode == 2 and "policy a.yaml: expected" in r.stdout, (r.stdout, r.stderr)
        assert not crew.records("a", "policy.reloaded")
        assert runner.crewctl("lock", crew.top / "crew.yaml").returncode == 0
        r = runner.crewctl("policy", "reload", "--json")
        assert r.returncode == 0, (r.stdout, r.stderr)
        assert crew.records("a", "policy.reloaded")[-1]["applied"] == "limits"
    finally:
        runner.crewctl("down")
