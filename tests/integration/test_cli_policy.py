# SPDX-License-Identifier: Apache-2.0
"""crewctl policy check and policy explain: files only."""

import json

import pytest

from conftest import SOURCE, Runner

ROLE = """\
agent: "reader"
sandbox:
  mode: deny-by-default
  filesystem:
    read: ["{data}/"]
  network:
    allowed_endpoints: ["api.example.com:443"]
  ipc:
    allowed_targets: ["writer"]
  tools: {{allowed: ["csv_parser"], denied: ["*"]}}
"""
OWNER = """\
agent: "writer"
sandbox:
  mode: deny-by-default
  filesystem: {{read: ["{secret}/"], write: []}}
  network: {{deny_all: true}}
  tools: {{denied: ["*"]}}
"""
CREW = """\
crew: pair
process: sequential
policies: .
tools:
  csv_parser: {command: ["/bin/cat"]}
agents:
  reader: {policy: reader.yaml, command: ["/bin/true"]}
  writer: {policy: writer.yaml, command: ["/bin/true"]}
tasks:
  read: {agent: reader, description: reads}
"""


@pytest.fixture
def ctl(stage, crew_home):
    return Runner(stage, crew_home, "root")


@pytest.fixture
def crew(ctl):
    top = ctl.tree({"crew.yaml": CREW, "data/x": "1", "secret/y": "2"})
    (top / "reader.yaml").write_text(ROLE.format(data=top / "data"))
    (top / "writer.yaml").write_text(OWNER.format(secret=top / "secret"))
    return top


def explain(ctl, crew, *words, json_out=False):
    return ctl.crewctl("policy", "explain", "--agent", "reader", "--crew", crew / "crew.yaml", *words,
                       *(["--json"] if json_out else []))


def test_a_typo_shows_its_place_and_the_word_meant(ctl):
    top = ctl.tree({"bad.yaml": 'agent: "x"\nsandbox:\n  mode: deny-by-default\n  filesytem:\n    read: []\n'})
    r = ctl.crewctl("policy", "check", "bad.yaml", cwd=top)
    assert r.returncode == 2
    assert r.stdout == ("bad.yaml:4:3: unknown key 'filesytem' under sandbox\n"
                        "    4 |   filesytem:\n"
                        "      |   ^~~~~~~~~ did you mean 'filesystem'?\n"
                        "1 error\n")
    report = json.loads(ctl.crewctl("policy", "check", "--json", "bad.yaml", cwd=top).stdout)
    assert report["ok"] is False and report["errors"] == 1
    assert report["problems"] == [dict(severity="error", file="bad.yaml", line=4, column=3,
                                       text="unknown key 'filesytem' under sandbox", hint="did you mean 'filesystem'?")]


def test_bad_yaml_is_an_error_with_its_place(ctl):
    top = ctl.tree({"bad.yaml": 'agent: "x\n'})
    r = ctl.crewctl("policy", "check", "bad.yaml", cwd=top)
    assert r.returncode == 2
    assert r.stdout.startswith("bad.yaml:") and "1 error" in r.stdout


def test_a_missing_file_is_named(ctl):
    r = ctl.crewctl("policy", "check", "nowhere.yaml")
    assert (r.returncode, r.stdout) == (2, "")
    assert r.stderr == "crewctl: cannot open nowhere.yaml: No such file or directory\n"


def test_good_files_are_said_to_be_good(ctl, crew):
    r = ctl.crewctl("policy", "check", "crew.yaml", "reader.yaml", cwd=crew)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout == ("✓ crew.yaml   crew pair: 2 agents, 1 task\n"
                        "✓ reader.yaml   role reader\n")
    report = json.loads(ctl.crewctl("policy", "check", "--json", "crew.yaml", cwd=crew).stdout)
    assert report["ok"] and report["files"] == [dict(file="crew.yaml", kind="crew", **{"is": "crew pair: 2 agents, 1 task"})]


def test_every_document_of_a_file_is_checked(ctl, crew):
    both = (crew / "reader.yaml").read_text() + "---\n" + (crew / "writer.yaml").read_text()
    (crew / "both.yaml").write_text(both)
    r = ctl.crewctl("policy", "check", "both.yaml", cwd=crew)
    assert r.stdout == "✓ both.yaml   role reader\n✓ both.yaml   role writer\n"
    (crew / "both.yaml").write_text(both.replace("mode: deny-by-default", "mode: open"))
    r = ctl.crewctl("policy", "check", "both.yaml", cwd=crew)
    assert r.returncode == 2
    assert "both.yaml:3:" in r.stdout and r.stdout.endswith("2 errors\n")


def test_strict_makes_warnings_fail(ctl, crew):
    (crew / "writer.yaml").write_text(OWNER.format(secret="/nowhere/at/all"))
    r = ctl.crewctl("policy", "check", "writer.yaml", cwd=crew)
    assert r.returncode == 0 and "'/nowhere/at/all/' does not exist" in r.stdout and r.stdout.endswith("1 warning\n")
    assert ctl.crewctl("policy", "check", "--strict", "writer.yaml", cwd=crew).returncode == 2


def test_every_shipped_role_passes(ctl):
    roles = sorted((SOURCE / "policies" / "roles").glob("*.yaml"))
    assert len(roles) >= 15
    r = ctl.crewctl("policy", "check", *roles)
    assert r.returncode == 0, r.stdout


@pytest.mark.parametrize("action,object_,allowed,section", [
    ("read", "{top}/data/x", True, "filesystem.read"),
    ("read", "/etc/shadow", False, "filesystem.read"),
    ("write", "{top}/data/x", False, "filesystem.write"),
    ("exec", "/usr/bin/env", True, "filesystem.runtime"),
    ("tool", "csv_parser", True, "tools.allowed"),
    ("tool", "wire_transfer", False, "tools.denied"),
    ("send", "writer", True, "ipc.allowed_targets"),
    ("send", "nobody", False, "ipc.allowed_targets"),
    ("connect", "api.example.com:443", True, "network.allowed_endpoints"),
    ("connect", "api.example.com:80", False, "network.allowed_endpoints"),
])
def test_explain_decides(ctl, crew, action, object_, allowed, section):
    object_ = object_.format(top=crew)
    r = explain(ctl, crew, action, object_)
    assert r.returncode == (0 if allowed else 4), r.stderr
    assert r.stdout.startswith("allowed" if allowed else "denied: ")
    said = json.loads(explain(ctl, crew, action, object_, json_out=True).stdout)
    assert (said["allowed"], said["section"], said["agent"], said["action"]) == (allowed, section, "reader", action)
    if allowed:
        assert said["rule"].rpartition(":")[0].endswith("reader.yaml")


def test_a_denial_names_the_line_and_the_owner(ctl, crew):
    r = explain(ctl, crew, "read", crew / "secret" / "y")
    lines = r.stdout.splitlines()
    assert lines[0] == "denied: no rule allows it"
    assert lines[1] == f"  {crew}/reader.yaml:5  filesystem.read lists only {crew}/data/"
    assert lines[2] == "  a tripwire: the path belongs to writer, so an attempt is recorded"
    assert lines[3].startswith('  to allow it: add "') and "filesystem.read" in lines[3]


def test_explain_a_role_alone(ctl, crew):
    r = ctl.crewctl("policy", "explain", "--policy", crew / "reader.yaml", "connect", "evil.example.com:443")
    assert r.returncode == 4 and r.stdout.startswith("denied: no rule allows it\n")


def test_explain_refuses_what_it_cannot_judge(ctl, crew):
    r = explain(ctl, crew, "raed", "/x")
    assert r.returncode == 2
    assert r.stderr == ("crewctl: unknown action 'raed'\n"
                        "  actions: read, write, exec, tool, send, connect   (did you mean read?)\n")
    r = explain(ctl, crew, "read", "data/x")
    assert (r.returncode, r.stderr) == (2, "crewctl: 'data/x' is not an absolute path\n")
    r = ctl.crewctl("policy", "explain", "--agent", "raeder", "--crew", crew / "crew.yaml", "read", "/x")
    assert r.returncode == 3
    assert r.stderr == "crewctl: no agent 'raeder' in crew pair\n  agents: reader, writer   (did you mean reader?)\n"
