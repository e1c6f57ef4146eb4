# SPDX-License-Identifier: Apache-2.0
"""A crew that needs more open files than crewd may have is refused before anything of it is started, and one that is let in has
enough, whatever becomes of its agents.  Nobody else's program gets the raised limit."""

import contextlib
import os
import re
from pathlib import Path

import crewd
import pytest
from conftest import modes
from crewlib import Crew, eventually, outside, state_of

AGENTS = 24
SOFT = 128
NEED = re.compile(r"the crew's (\d+) agents need (\d+) open files, and crewd may have (\d+), enough for (\d+): raise the hard "
                  r"limit \(ulimit -Hn, or LimitNOFILE= of the unit\), or take fewer agents")


@pytest.fixture
def limit(runner, monkeypatch):
    """limit(soft, hard): what commands are started with from then on."""
    argv = runner.argv

    def to(soft, hard):
        monkeypatch.setattr(runner, "argv", lambda *a: ["prlimit", f"--nofile={soft}:{hard}", *argv(*a)])
    return to


def crew_of(runner, n=AGENTS, hold=False):
    crew = Crew(runner)
    for i in range(n):
        crew.agent(f"a{i}", restart={"max": 20, "within": "60s"})
    crew.extra = "on_supervisor_loss: hold\n" if hold else ""
    return crew


def refusal(crew):
    with crew.start(wait=False) as running:
        assert running.proc.wait(60) == 1
        found = NEED.search(running.log())
        assert found, running.log()
    return [int(x) for x in found.groups()]


def open_files(pid):
    """None of one that has ended meanwhile."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def limits(pid):
    return [int(x) for x in re.search(r"^Max open files\s+(\d+)\s+(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M).groups()]


def helpers(pid):
    """crewd and what it started, but for jails and programs that are not ours."""
    found, ours = [], os.readlink(f"/proc/{pid}/ns/pid")
    for p in [pid, *outside(pid)]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.readlink(f"/proc/{p}/ns/pid") == ours:
                found.append(p)
    return found


def all_ready(client):
    return all(a.state == crewd.AgentState.READY for a in client.status().agents)


@pytest.mark.parametrize("hold", [False, True], ids=["", "held"])
def test_too_many_for_the_limit_is_refused_and_what_fits_has_enough(runner, limit, hold):
    crew = crew_of(runner, hold=hold)
    limit(SOFT, 200)
    agents, need, may, fit = refusal(crew)
    assert (agents, may) == (AGENTS, 200) and 0 < fit < AGENTS < need
    limit(SOFT, need - 1)
    assert refusal(crew) == [AGENTS, need, need - 1, AGENTS - 1]
    assert not crew.run_dir.exists() and not (runner.home / "lib/t").exists()
    limit(SOFT, need)
    with crew.start() as running:
        client = running.client()
        assert limits(running.proc.pid) == [need, need]  # the soft one was raised
        most = max(open_files(p) for p in helpers(running.proc.pid))
        for i in range(AGENTS):
            client.kill(f"a{i}")
            most = max([most, *(open_files(p) for p in helpers(running.proc.pid))])
        eventually(lambda: all_ready(client), timeout=60, every=0.1)
        most = max([most, *(open_files(p) for p in helpers(running.proc.pid))])
        assert most <= need
        assert need - most < 128 + 3 * AGENTS  # and not far more than it is: clients may come, and starts be under way
        # Of those who get descriptors for each; what other crews on this host have left or drown is lost as well.
        lost = [r for i in range(AGENTS) for r in crew.records(f"a{i}", "evidence.lost")]
        assert not [r for r in lost if r["source"] in ("gateway", "crew-evidence")], lost


def test_a_change_that_does_not_fit_is_refused_and_the_crew_goes_on(runner, limit):
    crew = crew_of(runner, n=2)
    limit(SOFT, 200)
    with crew.start() as running:
        with open(crew.top / "crew.yaml", "a") as f:
            for i in range(AGENTS):
                (crew.top / f"b{i}.yaml").write_text(crew.files["a0.yaml"].replace("agent: a0", f"agent: b{i}"))
                f.write(f"  b{i}: {{policy: b{i}.yaml, command: [cat]}}\n")
        for verb in (["plan"], ["up"], ["up", "--restart"]):
            r = runner.crewctl(*verb, crew.top / "crew.yaml")
            assert r.returncode == 2 and NEED.search(r.stderr), (verb, r.returncode, r.stdout, r.stderr)
        assert all_ready(running.client()) and len(running.client().status().agents) == 2


def test_the_raised_limit_is_crewds_own(runner, limit):
    crew = Crew(runner).agent("a", limits="open_files: 77")
    crew.files["hook.sh"] = f"#!/bin/sh\ncat >/dev/null\n(ulimit -Sn; ulimit -Hn) >{runner.home}/hook\n"
    crew.files["secret.sh"] = f"#!/bin/sh\n(ulimit -Sn; ulimit -Hn) >{runner.home}/credential\necho sk-0123456789\n"
    crew.files["keys"] = ""
    crew.extra = 'hooks:\n  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}\ncredentials: keys\n'
    crew.write()
    (crew.top / "keys").write_text(f"[k]\nhost = api.example.com\ncommand = {crew.top}/secret.sh\n")
    (crew.top / "keys").chmod(0o600)
    limit(SOFT, 4000)
    with crew.start() as running:
        client = running.client()
        assert limits(running.proc.pid) == [4000, 4000]
        task = client.submit(agent="a", description="import resource; out(resource.getrlimit(resource.RLIMIT_NOFILE))")
        assert task.result(60) == [77, 77]
        inside = runner.crewctl("exec", "--agent", "a", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn")
        assert inside.stdout.split() == ["77", "77"]
        client.kill("a")
        for name in ("hook", "credential"):
            eventually(lambda: (runner.home / name).exists() and len((runner.home / name).read_text().split()) == 2)
            assert (runner.home / name).read_text().split() == [str(SOFT), "4000"], name


@pytest.mark.parametrize("mode", modes()[:1])  # nothing is started
def test_more_agents_than_there_are_numbers_for_is_an_error_where_it_begins(runner):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: {agent: boss}"
    crew.agent("boss", targets=["w0"])
    for i in range(255):
        crew.agent(f"w{i}", max_instances=16)
    crew.agent("more", max_instances=14).agent("last", max_instances=2)
    file = crew.task("lead", "boss").write()
    r = runner.crewctl("policy", "check", file)
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("  last:"))
    column = file.read_text().splitlines()[line - 1].index('"max_instances"') + 1
    assert r.returncode != 0
    assert f"{file}:{line}:{column}: with agent 'last' there are more than 4095 agents, every further instance counted" in r.stdout, r.stdout
    assert "1 error" in r.stdout
    file.write_text(re.sub(r"^  last:.*\n", "", file.read_text(), flags=re.M))
    r = runner.crewctl("policy", "check", file)
    assert r.returncode == 0, r.stdout
