# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 1: policies and crew files that are wrong.  Nothing starts, and the message has place, cause and cure.

Where each kind of bad input is tested (what another file covers is not repeated here):

  a policy: typo, relative path, duplicate key, missing file   here; also test_cli_policy.py and tests/unit/policy
  a crew: unknown agent, tool, policy; cycle in context        here; also tests/unit/policy/test_crew.c
  a tool: no JSON, too much, wrong schema, hangs, dies         test_crew_tools.py; the words in test_bad_input_programs.py
  an agent: never answers, twice, another's task, garbage      test_crew_tasks.py; stdio-rpc in test_bad_input_programs.py
  a control client that sends garbage                          test_crew_control.py; the storm in test_bad_input_clients.py
  a worker that sends garbage                                  test_hostile_worker.py; tests/unit/ipc, tests/fuzz
  a kernel without Landlock                                    test_bad_input_kernel.py
  a full disk for the audit                                    tests/unit/audit; test_bad_input_disk.py
  kill -9 of crewd and of each helper                          test_crew_lifecycle.py; at random times in test_bad_input_kill.py
  memory, threads, descriptors, disk fail inside crewd         tests/fault
"""

import json

import pytest

from conftest import Runner

ROLE = """\
agent: {name}
sandbox:
  mode: deny-by-default
{rest}
"""
CREW = """\
crew: t
policies: .
tools:
  csv_parser: {command: [cat]}
agents:
  alpha: {policy: alpha.yaml, command: [cat]}
  beta: {policy: beta.yaml, command: [cat]}
"""


def role(name, rest='  tools: {denied: ["*"]}'):
    return ROLE.format(name=name, rest=rest)


def crew(rest, **files):
    return {"crew.yaml": CREW + rest, "alpha.yaml": role("alpha"), "beta.yaml": role("beta"), **files}


# name: (files, the one looked at, what `policy check` prints)
BAD = {
    "a-typo-in-a-key": ({"r.yaml": role("a", "  filesystem: {raed: []}")}, "r.yaml", """\
r.yaml:4:16: unknown key 'raed' under filesystem
    4 |   filesystem: {raed: []}
      |                ^~~~ did you mean 'read'?
1 error
"""),
    "a-relative-path": ({"r.yaml": role("a", '  filesystem:\n    read: ["data/in/"]')}, "r.yaml", """\
r.yaml:5:12: not an absolute path: 'data/in/'
    5 |     read: ["data/in/"]
      |            ^~~~~~~~~~ start it with '/' or ${CREW_DIR}/
1 error
"""),
    "a-path-with-dots": ({"r.yaml": role("a", '  filesystem: {write: ["/srv/../etc/"]}')}, "r.yaml", """\
r.yaml:4:24: '.' and '..' are not accepted in a path: '/srv/../etc/'
    4 |   filesystem: {write: ["/srv/../etc/"]}
      |                        ^~~~~~~~~~~~~~
1 error
"""),
    "a-duplicate-key": ({"r.yaml": role("a", "  tools: {allowed: []}\n  network: {deny_all: true}\n  tools: {allowed: [x]}")},
                        "r.yaml", """\
r.yaml:6:3: duplicate key 'tools' (first on line 4)
    6 |   tools: {allowed: [x]}
      |   ^~~~~ keep one of them
1 error
"""),
    "a-crew-with-an-unknown-agent": (crew("tasks:\n  one: {agent: alhpa}\n"), "crew.yaml", """\
crew.yaml:9:16: task 'one' names agent 'alhpa', which is not declared
    9 |   one: {agent: alhpa}
      |                ^~~~~ did you mean 'alpha'? declared: alpha, beta
1 error
"""),
    "a-crew-with-an-unknown-task-in-context": (crew("tasks:\n  one: {agent: alpha, context: [tow]}\n  two: {agent: beta}\n"),
                                               "crew.yaml", """\
crew.yaml:9:33: task 'one' needs task 'tow', which is not declared
    9 |   one: {agent: alpha, context: [tow]}
      |                                 ^~~ did you mean 'two'? declared: one, two
1 error
"""),
    "a-crew-with-a-missing-policy": (crew("  gamma: {policy: nowhere.yaml, command: [cat]}\n"), "crew.yaml", """\
crew.yaml:8:19: the policy of agent 'gamma': cannot open ./nowhere.yaml: No such file or directory
    8 |   gamma: {policy: nowhere.yaml, command: [cat]}
      |                   ^~~~~~~~~~~~ looked up in 'policies:'
1 error
"""),
    "a-crew-with-a-cycle": (crew("tasks:\n  one: {agent: alpha, context: [two]}\n  two: {agent: beta, context: [three]}\n"
                                 "  three: {agent: alpha, context: [one]}\n"), "crew.yaml", """\
crew.yaml:11:34: a cycle in context: one -> two -> three -> one
   11 |   three: {agent: alpha, context: [one]}
      |                                  ^~~~ each waits for the next; take one out of a context
1 error
"""),
    "a-task-that-waits-for-itself": (crew("tasks:\n  one: {agent: alpha, context: [one]}\n"), "crew.yaml", """\
crew.yaml:9:32: a cycle in context: one -> one
    9 |   one: {agent: alpha, context: [one]}
      |                                ^~~~ each waits for the next; take one out of a context
1 error
"""),
}


@pytest.fixture
def ctl(stage, crew_home):
    return Runner(stage, crew_home, "root")


@pytest.mark.parametrize("kind", BAD)
def test_check_says_where_what_and_what_to_do(ctl, kind):
    files, looked_at, says = BAD[kind]
    top = ctl.tree(files)
    r = ctl.crewctl("policy", "check", looked_at, cwd=top)
    assert (r.returncode, r.stdout, r.stderr) == (2, says, "")
    report = json.loads(ctl.crewctl("policy", "check", "--json", looked_at, cwd=top).stdout)
    problem, = report["problems"]
    assert says.startswith(f"{problem['file']}:{problem['line']}:{problem['column']}: {problem['text']}\n")
    if problem.get("hint"):
        assert problem["hint"] in says


def test_a_missing_policy_is_named(runner):
    r = runner.crewctl("sandbox", "--policy", "nowhere.yaml", "--", "true")
    assert (r.returncode, r.stdout) == (2, "")
    assert r.stderr == "nowhere.yaml: cannot be read: No such file or directory\n1 error\n"


def test_a_missing_read_path_is_an_error_in_a_crew(ctl):
    files = crew("", **{"alpha.yaml": role("alpha", '  filesystem: {read: ["/no/such/place/"]}')})
    r = ctl.crewctl("policy", "check", "crew.yaml", cwd=ctl.tree(files))
    assert r.returncode == 2
    assert r.stdout == """\
alpha.yaml:4:23: filesystem.read '/no/such/place/' does not exist
    4 |   filesystem: {read: ["/no/such/place/"]}
      |                       ^~~~~~~~~~~~~~~~~ create it, or write {path: ..., optional: true}
1 error
"""


def test_a_tool_that_no_crew_declares_is_named(ctl):
    """A role may serve several crews, so this alone does not stop one; --strict does."""
    files = crew("", **{"alpha.yaml": role("alpha", '  tools: {allowed: [csv_parsr], denied: ["*"]}')})
    top = ctl.tree(files)
    r = ctl.crewctl("policy", "check", "crew.yaml", cwd=top)
    assert r.returncode == 0
    assert r.stdout.endswith("""\
alpha.yaml:4:21: warning: tool 'csv_parsr' is not declared in crew.yaml
    4 |   tools: {allowed: [csv_parsr], denied: ["*"]}
      |                     ^~~~~~~~~ did you mean 'csv_parser'? declared: csv_parser
1 warning
""")
    assert ctl.crewctl("policy", "check", "--strict", "crew.yaml", cwd=top).returncode == 2


CREWS = [k for k in BAD if BAD[k][1] == "crew.yaml"]


@pytest.mark.parametrize("kind", CREWS)
def test_a_bad_crew_starts_nothing_and_leaves_nothing(runner, kind):
    files, looked_at, says = BAD[kind]
    top = runner.tree(files)
    for verb in (("run",), ("up",), ("up", "--detach")):
        r = runner.crewctl(*verb, looked_at, cwd=top)
        assert (r.returncode, r.stdout, r.stderr) == (2, "", says), verb
    r = runner.run(runner.program("crewd"), looked_at, cwd=top)
    assert (r.returncode, r.stdout, r.stderr) == (2, "", "crewd: " + says)
    assert not (runner.home / "lib").exists() and not (runner.home / "run").exists()


@pytest.mark.parametrize("kind", [k for k in BAD if k not in CREWS])
def test_a_bad_policy_runs_nothing(runner, kind):
    files, looked_at, says = BAD[kind]
    top = runner.tree(files)
    r = runner.crewctl("sandbox", "--policy", looked_at, "--", "echo", "it ran", cwd=top)
    assert (r.returncode, r.stdout, r.stderr) == (2, "", says)
