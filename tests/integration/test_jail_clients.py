# SPDX-License-Identifier: Apache-2.0
"""Agents in sh, Python and node, and the official MCP clients of Python and TypeScript, all inside real jails.

Each runs as its own crew member and reports what $CREW_SOCKET told it; each sees the same tools, the same refusals and the
same rule.  The clients are installed by script/bootstrap into CREWD_TEST_CACHE.
"""

import json
import os
import re
from pathlib import Path

import pytest

from conftest import SOURCE

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CREWD_TEST_CACHE", "/var/tmp/crewd-test-cache"))

POLICY = """\
agent: "{agent}"
sandbox:
  mode: deny-by-default
  filesystem:
    read: []
    write: []
    exec: [{exec}]
    runtime: {runtime}
  network: {{deny_all: true}}
  ipc: {{allowed_targets: ["oracle"]}}
  tools:
    allowed: ["add_tool", "fail_tool", "echo_tool"]
    denied: ["*"]
  limits: {{processes: 128, wall_time: 60s}}
  syscalls: {{profile: {profile}}}
  allow_degraded: [evidence]
"""
CREW = """\
crew: clients
process: sequential
policies: .
tools:
  add_tool:
    description: Adds two numbers
    command: ["${{CREW_DIR}}/tools/add.py"]
    input: add.in.json
    output: add.out.json
    timeout: 20s
  fail_tool: {{description: Fails, command: ["${{CREW_DIR}}/tools/fail.sh"]}}
  echo_tool: {{description: Says its arguments back, command: ["${{CREW_DIR}}/tools/echo.sh"]}}
  wire_transfer: {{description: Not for you, command: ["${{CREW_DIR}}/tools/echo.sh"]}}
agents:
  {agent}:
    policy: {agent}.yaml
    role: Client
    goal: Try everything
    command: {command}
    driver: exec-json
  oracle:
    policy: oracle.yaml
    role: Oracle
    goal: Answer
    command: ["python3", "${{CREW_DIR}}/oracle.py"]
    driver: exec-json
  stranger:
    policy: stranger.yaml
    role: Stranger
    goal: Not to be talked to
    command: ["/bin/true"]
    driver: exec-json
tasks:
  try: {{agent: {agent}, description: Try everything, timeout: 60s}}
"""
FILES = {
    "add.in.json": json.dumps({
        "type": "object", "required": ["a", "b"], "additionalProperties": False,
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}),
    "add.out.json": json.dumps({"type": "object", "required": ["sum"], "properties": {"sum": {"type": "number"}}}),
    "tools/add.py": "#!/usr/bin/python3\nimport json,sys\nd=json.load(sys.stdin)\nprint(json.dumps({'sum':d['a']+d['b']}))\n",
    "tools/fail.sh": "#!/bin/sh\necho 'the feed is down' >&2\nexit 4\n",
    "tools/echo.sh": "#!/bin/sh\ncat\n",
    "oracle.py": "import json,sys\nd=json.load(sys.stdin)\n"
                 "print(json.dumps({'kind': d['kind'], 'from': d['from'], 'twice': d['payload']['n'] * 2}))\n",
}


def cached(name, below):
    """A directory that script/bootstrap filled."""
    path = CACHE / name
    if not (path / ".done").exists():
        pytest.fail(f"{path} is missing: run script/bootstrap")
    return next(path.glob(below))


def run_client(runner, agent, command, script, runtime="base", exec_paths="", profile="default"):
    policy = POLICY.format(agent=agent, runtime=runtime, exec=exec_paths, profile=profile)
    top = runner.tree(FILES | {
        "crew.yaml": CREW.format(agent=agent, command=json.dumps(command)),
        f"{agent}.yaml": policy,
        "oracle.yaml": POLICY.format(agent="oracle", runtime="python3", exec="", profile="default"),
        "stranger.yaml": POLICY.format(agent="stranger", runtime="base", exec="", profile="default"),
        script: (HERE / "jail_clients" / script).read_text(),
    })
    r = runner.crewctl("run", "--json", top / "crew.yaml", timeout=90)
    assert r.stdout, r.stderr
    outcome = json.loads(r.stdout)
    task = outcome["tasks"][0]
    assert outcome["ok"], f"{task}\n{r.stderr}\n{stderr_of(runner, agent)}"
    return task["result"], top


def stderr_of(runner, agent):
    return "".join(rec.get("text", "") for rec in runner.records("clients", agent) if rec["kind"] == "stderr")


def assert_denied(error, agent):
    assert error["code"] == -32001
    assert "tool 'wire_transfer' is not in tools.allowed" in error["message"]
    assert f"{agent}.yaml:" in error["data"]["rule"]


def assert_added(result, total=5):
    assert result["structuredContent"] == {"sum": total}
    assert json.loads(result["content"][0]["text"]) == {"sum": total}
    assert not result.get("isError")


def assert_failed(result):
    assert result["isError"] is True
    assert "the feed is down" in result["content"][0]["text"]


def test_a_shell_agent_gets_by_with_crew_call(runner):
    got, _ = run_client(runner, "shell", ["sh", "${CREW_DIR}/sh.sh"], "sh.sh")
    assert [t["name"] for t in got["tools"]["out"]["tools"]] == ["add_tool", "fail_tool", "echo_tool"]
    assert got["add"] == {"exit": 0, "out": {"sum": 2.5}, "errors": 0}
    assert got["empty"]["out"] == {}
    assert (got["bad"]["exit"], got["bad"]["out"]["error"]["code"]) == (4, -32002)
    assert (got["broken"]["exit"], got["broken"]["out"]["error"]["code"]) == (4, -32700)
    assert got["denied"]["exit"] == 3
    assert_denied(got["denied"]["out"]["error"], "shell")
    assert got["denied"]["errors"] == 2  # the message and the rule
    assert (got["failing"]["exit"], got["failing"]["out"]["error"]["code"]) == (5, -32003)
    assert got["send"]["exit"] == 0
    assert (got["send_denied"]["exit"], got["send_denied"]["out"]["error"]["code"]) == (3, -32001)
    assert got["ask"]["out"] == {"kind": "ask", "from": "shell", "twice": 40}
    assert got["receive"] == {"exit": 0, "out": None, "errors": 0}
    assert got["answer"]["exit"] == 4
    assert got["usage"]["exit"] == 2
    assert (got["socket"], got["task"], got["agent"]) == ("/run/crew/agent.sock", "try", "shell")


def test_a_python_agent_needs_no_library(runner):
    got, _ = run_client(runner, "snake", ["python3", "${CREW_DIR}/plain.py"], "plain.py", "python3")
    assert got["tools"] == ["add_tool", "fail_tool", "echo_tool"]
    assert_added(got["add"])
    assert_denied(got["denied"], "snake")
    assert got["bad"]["code"] == -32002
    assert_failed(got["failing"])
    assert got["ask"] == {"kind": "ask", "from": "snake", "twice": 40}
    assert (got["garbage"], got["deep"], got["unknown"]) == (-32700, -32700, -32601)


def test_a_node_agent_needs_no_package(runner):
    got, _ = run_client(runner, "node-plain", ["node", "${CREW_DIR}/plain.mjs"], "plain.mjs", "node", profile="jit")
    assert got["tools"] == ["add_tool", "fail_tool", "echo_tool"]
    assert_added(got["add"])
    assert_denied(got["denied"], "node-plain")
    assert got["ask"] == {"kind": "ask", "from": "node-plain", "twice": 40}


@pytest.mark.parametrize("way", ["socket", "stdio"])
def test_the_official_python_mcp_client_sees_exactly_its_tools(runner, way):
    site = cached("venv", "lib/python3*/site-packages")
    got, _ = run_client(runner, "mcp-python", ["python3", "${CREW_DIR}/mcp_client.py", str(site)], "mcp_client.py", "python3",
                        exec_paths=f'"{site}/"')
    got = got[way]
    assert got["server"] == "crewd"
    check_mcp(got, "mcp-python")


@pytest.mark.parametrize("way", ["socket", "stdio"])
def test_the_official_typescript_mcp_client_sees_exactly_its_tools(runner, way):
    modules = cached("npm", "node_modules")
    got, _ = run_client(runner, "mcp-node", ["node", "${CREW_DIR}/mcp_client.mjs", str(modules)], "mcp_client.mjs", "node",
                        exec_paths=f'"{modules}/"', profile="jit")
    check_mcp(got[way], "mcp-node")


def check_mcp(got, agent):
    assert got["server"] == "crewd"
    assert [t["name"] for t in got["tools"]] == ["add_tool", "fail_tool", "echo_tool"]
    assert got["tools"][0]["inputSchema"]["required"] == ["a", "b"]
    assert got["tools"][1]["inputSchema"]["type"] == "object"
    assert_added(got["add"])
    assert_failed(got["failing"])
    assert_denied(got["denied"], agent)
    assert got["denied"]["data"]["next_steps"] is not None


def test_calls_of_a_client_are_in_the_audit_of_its_agent(runner):
    run_client(runner, "snake", ["python3", "${CREW_DIR}/plain.py"], "plain.py", "python3")
    calls = [(r["tool"], r["verdict"]) for r in runner.records("clients", "snake") if r["kind"] == "tool.call"]
    assert ("add_tool", "allowed") in calls
    assert ("wire_transfer", "denied") in calls


def test_a_tool_leaves_nothing_behind_and_the_agents_own_children_live(runner, monkeypatch):
    monkeypatch.setitem(FILES, "tools/echo.sh", "#!/bin/sh\nsetsid sleep 61 >/dev/null 2>&1 </dev/null &\n"
                                                "echo \"{\\\"left\\\":$!}\"\n")
    got, _ = run_client(runner, "snake", ["python3", "${CREW_DIR}/strays.py"], "strays.py", "python3")
    assert got == {"left": False, "own": True}


def test_crew_call_outside_a_jail_says_that_it_needs_one(runner):
    r = runner.run(runner.program("crew-call"), "tools")
    assert r.returncode == 69
    assert "works inside a crewd jail only" in r.stderr
    r = runner.run(runner.program("crew-call"), "tool")
    assert r.returncode == 2 and "missing NAME" in r.stderr
    r = runner.run(runner.program("crew-call"), "ask", "x", "--timeout", "soon")
    assert r.returncode == 2 and "--timeout takes" in r.stderr


def documented_files():
    """The files of docs/AGENTS.md: a line with the name, then the block."""
    text = (SOURCE / "docs/AGENTS.md").read_text()
    return dict(re.findall(r"^`([\w.-]+)`:\n\n```\w*\n(.*?)```$", text, re.M | re.S))


def test_the_crew_of_the_documentation_runs_as_it_is_printed(runner):
    files = documented_files()
    assert len(files) == 10
    for name in ("reporter.yaml", "editor.yaml", "archivist.yaml"):
        files[name] += "  allow_degraded: [evidence]\n"
    top = runner.tree(files)
    r = runner.crewctl("run", "--json", top / "crew.yaml", timeout=60)
    outcome = json.loads(r.stdout)
    assert outcome["ok"], r.stdout + r.stderr
    report, edit = (t["result"] for t in outcome["tasks"])
    assert report["reading"] == {"celsius": -3.5}
    assert report["refusal"]["error"]["code"] == -32001
    assert edit["text"] == "It is -3.5 degrees; the record is -26."
