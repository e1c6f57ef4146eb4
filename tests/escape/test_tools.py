# SPDX-License-Identifier: Apache-2.0
"""Tools lie beyond the agent: each way to run one without asking fails, and asking (its own layer) works."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from escapelib import outcome

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
from crewlib import Crew  # noqa: E402

LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
POLICY = """
agent: mine
sandbox:
  mode: deny-by-default
  filesystem: {{read: ["{h}/read/"], write: ["{h}/write/"], exec: ["{h}/exec/"]}}
  network: {{deny_all: true}}
  tools: {{allowed: [probe, other], denied: ["*"]}}
"""
CREW = """
crew: escape
process: sequential
policies: .
tools:
  probe: {description: a tool, command: ["${CREW_DIR}/tools/probe"]}
  other: {description: another, command: ["${CREW_DIR}/tools/other"]}
  never: {description: not for mine, command: ["${CREW_DIR}/tools/never"]}
agents:
  mine: {policy: mine.yaml, role: tester, goal: get out, command: ["sh", "${CREW_DIR}/agents/run.sh"], driver: exec-json}
tasks:
  one: {agent: mine, description: d, expected_output: o}
"""


@pytest.fixture
def crew(world, build):
    h = world.home
    (h / "mine.yaml").write_text(POLICY.format(h=h))
    (h / "crew.yaml").write_text(CREW)
    (h / "tools").mkdir()
    (h / "agents").mkdir()
    (h / "agents/run.sh").write_text("exit 0\n")
    for tool in ("probe", "other", "never"):
        shutil.copyfile("/usr/bin/true", h / "tools" / tool)
        (h / "tools" / tool).chmod(0o755)
    shutil.copy2(build / "tests/escape/jailrun", world.runner.stage / "bin/jailrun")
    (world.runner.stage / "bin/jailrun").chmod(0o755)
    world.runner.own(h)

    def run(*words):
        return world.runner.run(world.runner.program("jailrun"), h / "crew.yaml", "mine", *words)

    run.tool = str(h / "tools/probe")
    run.attack = lambda *words: run("agent", world.path("exec/attack"), *words)
    return run


def test_tool_runs_in_its_own_layer(crew):
    r = crew("tool", "probe")
    assert r.returncode == 0, r.stderr


def test_tool_is_not_run_directly(crew, world):
    assert outcome(crew.attack("run_path", crew.tool)) == "EACCES"
    assert outcome(world.outside("run_path", crew.tool)) == "won"


def test_tool_is_not_read(crew, world):
    assert outcome(crew.attack("read_path", crew.tool)) == "EACCES"
    assert outcome(world.outside("read_path", crew.tool)) == "won"


def test_tool_is_not_copied(crew, world):
    assert outcome(crew.attack("run_copy", crew.tool, world.path("write"))) == "EACCES"
    assert outcome(world.outside("run_copy", crew.tool, world.path("write"))) == "won"


def test_tool_is_not_loaded_by_memfd(crew, world):
    assert outcome(crew.attack("memfd_exec", crew.tool)) == "EACCES"
    assert outcome(world.outside("memfd_exec", crew.tool)) == "won"


def test_tool_is_not_mapped(crew, world):
    assert outcome(crew.attack("map_code", crew.tool)) == "EACCES"
    assert outcome(world.outside("map_code", crew.tool)) == "won"


def test_tool_is_not_run_by_the_loader(crew):
    loader = next((p for p in LOADERS if Path(p).exists()), None)
    if not loader:
        pytest.skip("no dynamic loader here")
    r = crew("agent", loader, crew.tool)
    assert r.returncode == 127 and "Permission denied" in r.stderr, r
    assert subprocess.run([loader, crew.tool], check=False).returncode == 0


def test_tool_is_not_run_by_a_shell(crew, world):
    Path(crew.tool).write_text("#!/bin/sh\necho ran\n")
    r = crew("agent", "sh", crew.tool)
    assert "ran" not in r.stdout and r.returncode == 2 and "Permission denied" in r.stderr, r
    assert crew("tool", "probe").stdout == "ran\n"


def test_denied_tool_is_not_in_the_view(crew, world):
    assert outcome(crew.attack("stat_path", world.path("tools/never"))) == "ENOENT"
    assert crew("tool", "never").returncode == 3


def test_tools_do_not_see_each_other(crew, world):
    Path(crew.tool).write_text(f"#!/bin/sh\ncat {world.path('tools/other')} >/dev/null && echo read\n")
    r = crew("tool", "probe")
    assert "read" not in r.stdout and "Permission denied" in r.stderr, r


def test_preloaded_library_does_not_run(world):
    """LD_PRELOAD of a library in the write tree, which is all an agent can make."""
    lib = world.path("write/preload.so")
    r = world.sandbox("/usr/bin/env", f"LD_PRELOAD={lib}", "/usr/bin/true")
    assert "won" not in r.stdout and "cannot be preloaded" in r.stderr, r
    r = subprocess.run(["env", f"LD_PRELOAD={lib}", "/usr/bin/true"], stdout=subprocess.PIPE, text=True, check=True)
    assert r.stdout == "won: library code ran\n"


def test_program_is_not_run_by_the_loader(world):
    """The same with a program in a read tree: it may be read, not executed, whoever asks."""
    loader = next((p for p in LOADERS if Path(p).exists()), None)
    if not loader:
        pytest.skip("no dynamic loader here")
    r = world.sandbox(loader, world.path("read/program"))
    assert r.returncode == 127 and "failed to map segment" in r.stderr, r
    assert subprocess.run([loader, world.path("read/program")], check=False).returncode == 0


def test_an_agent_signals_no_tool_unless_doctor_says_that_it_can(runner):
    """Before Landlock's scopes (Linux 6.12) a tool is as far from its agent's signals as any child is, and no kernel is said
    to be better than it is."""
    shared = runner.home / "shared"
    shared.mkdir()
    runner.own(shared)
    crew = Crew(runner).agent("a", tools=["slow"])
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("write: []", f'write: ["{shared}/"]')
    crew.tool("slow", f"""#!/bin/sh
echo $$ >{shared}/new && mv {shared}/new {shared}/pid
while [ ! -e {shared}/go ]; do sleep 0.1; done
echo '{{"n": 1}}'
""")
    code = f"""
import threading
got = []
caller = threading.Thread(target=lambda: got.append(call('tool', 'slow', stdin={{}})))
caller.start()
while not os.path.exists('{shared}/pid'):
    time.sleep(0.05)
try:
    os.kill(int(open('{shared}/pid').read()), signal.SIGKILL)
    said = 0
except OSError as e:
    said = e.errno
open('{shared}/go', 'w').close()
caller.join()
out([said, *got[0]])
"""
    with crew.start() as running:
        said, status, answer = running.client().submit(agent="a", description=code).result(60)
    kernel = json.loads(runner.crewctl("doctor", "--json").stdout)
    found = next(f for f in kernel[runner.mode]["findings"] if f["wall"] == "tool walls")
    if kernel["landlock_abi"] >= 6:
        assert (said, status, answer) == (errno.EPERM, 0, {"n": 1})
        assert found["level"] == "ok"
    else:
        assert said == 0 and status == 5 and "SIGKILL" in answer["error"]["message"]
        assert found["level"] == "weaker" and "signal" in found["text"]
