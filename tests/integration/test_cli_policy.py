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
                        "  actions: read, write, exec, tool, send, connect, http, network   (did you mean read?)\n")
    r = explain(ctl, crew, "read", "data/x")
    assert (r.returncode, r.stderr) == (2, "crewctl: 'data/x' is not an absolute path\n")
    r = ctl.crewctl("policy", "explain", "--agent", "raeder", "--crew", crew / "crew.yaml", "read", "/x")
    assert r.returncode == 3
    assert r.stderr == "crewctl: no agent 'raeder' in crew pair\n  agents: reader, writer   (did you mean reader?)\n"


NET = """\
agent: "net"
sandbox:
  mode: deny-by-default
  network:
    allowed_endpoints:
      - "plain.example.com:443"
      - {host: api.example.com, port: 443, tls: inspect, methods: [GET], paths: ["/v1/**"], credential: market-key}
      - {host: api.example.com, port: 443, tls: inspect, methods: [POST], paths: [/v1/chat]}
      - {host: old.example.com, port: 80, paths: ["/a/*"], enforcement: audit}
      - {host: github.com, port: 443, tls: inspect, methods: [GET]}
    presets: [pypi, github]
"""


@pytest.fixture
def net(ctl):
    return ctl.tree({"net.yaml": NET})


def explain_net(ctl, net, *words):
    return ctl.crewctl("policy", "explain", "--policy", "net.yaml", *words, cwd=net)


@pytest.mark.parametrize("request_,status,first,line", [
    ("GET https://api.example.com/v1/quotes?x=1", 0, "allowed by network.allowed_endpoints", "net.yaml:7  with credential market-key"),
    ("POST https://api.example.com/v1/chat", 0, "allowed by network.allowed_endpoints", "net.yaml:8  network.allowed_endpoints"),
    ("POST https://api.example.com/v1/quotes", 4, "denied: method POST is not in methods", "net.yaml:7  network.allowed_endpoints"),
    ("GET https://api.example.com/admin", 4, "denied: path /admin is not in paths", "net.yaml:7  network.allowed_endpoints"),
    ("GET http://old.example.com/b", 0, "allowed: path /b is not in paths, but 'enforcement: audit' lets it through",
     "net.yaml:9  network.allowed_endpoints"),
    ("GET https://old.example.com:80/a/b", 4, "denied: TLS on an endpoint that must be plain HTTP", "net.yaml:9  network.allowed_endpoints"),
    ("PUT https://plain.example.com/", 0, "allowed by network.allowed_endpoints",
     "net.yaml:6  any request: the endpoint has no rules about requests"),
    ("GET https://evil.example.com/", 4, "denied: no rule allows it", "net.yaml:5  network.allowed_endpoints lists only "
     "plain.example.com:443, api.example.com:443, old.example.com:80, github.com:443, preset pypi, preset github"),
    ("GET https://api.example.com/v1/../admin", 4, "denied: write the path decoded, without '//', '.' and '..'", None),
    ("GET https://api.example.com/v1/%2e%2e/admin", 4, "denied: write the path decoded, without '//', '.' and '..'", None),
    ("GET", 4, 'denied: a request is written "GET https://host/path"', None),
    ("GET ftp://api.example.com/", 4, 'denied: a request is written "GET https://host/path"', None),
    ("GET https://user@api.example.com/", 4, 'denied: a request is written "GET https://host/path"', None),
])
def test_explain_decides_requests(ctl, net, request_, status, first, line):
    r = explain_net(ctl, net, "http", request_)
    assert r.returncode == status, r.stdout + r.stderr
    lines = r.stdout.splitlines()
    assert lines[0] == first
    if line:
        assert lines[1] == "  " + line
    if " " in request_:
        assert explain_net(ctl, net, "http", *request_.split(" ")).stdout == r.stdout


def test_explain_names_the_preset(ctl, net):
    r = explain_net(ctl, net, "connect", "pypi.org:443")
    assert r.returncode == 0
    lines = r.stdout.splitlines()
    assert lines[0] == "allowed by network.presets"
    rule, _, detail = lines[1].strip().partition("  ")
    assert detail == "preset pypi, listed in net.yaml:11"
    assert rule.rpartition(":")[0].endswith("/policies/presets/pypi.yaml")
    # what the policy lists itself is not the preset's
    assert explain_net(ctl, net, "connect", "github.com:443").stdout.startswith("allowed by network.allowed_endpoints\n  net.yaml:10")


def test_explain_says_where_a_name_lives(ctl, crew):
    text = (crew / "crew.yaml").read_text()
    (crew / "crew.yaml").write_text(text + 'endpoints:\n  "api.example.com:443": {connect_to: "[::1]:18443"}\n')
    r = explain(ctl, crew, "connect", "API.example.com:443")
    assert r.returncode == 0, r.stderr
    assert r.stdout.splitlines()[2] == f"  connects to [::1]:18443  {crew}/crew.yaml:12"
    assert json.loads(explain(ctl, crew, "connect", "api.example.com:443", json_out=True).stdout)["connect_to"] == "[::1]:18443"
    assert "connects to" not in explain(ctl, crew, "connect", "api.example.com:80").stdout


def test_explain_lists_all_that_can_be_reached(ctl, net):
    said = json.loads(explain_net(ctl, net, "network", "--json").stdout)
    assert (said["agent"], said["others"]) == ("net", "deny")
    by_name = {}
    for e in said["endpoints"]:
        by_name.setdefault(f"{e['host']}:{e['port']}", []).append(e)
    assert [e["methods"] for e in by_name["api.example.com:443"]] == [["GET"], ["POST"]]
    assert by_name["api.example.com:443"][0]["credential"] == "market-key"
    assert by_name["old.example.com:80"][0]["enforcement"] == "audit"
    assert "preset" not in by_name["github.com:443"][0] and len(by_name["github.com:443"]) == 1
    assert by_name["files.pythonhosted.org:443"][0]["preset"] == "pypi"
    text = explain_net(ctl, net, "network")
    assert text.returncode == 0
    lines = text.stdout.splitlines()
    assert len(lines) == len(said["endpoints"]) + 1
    assert lines[1].split() == ["api.example.com:443", "GET", "/v1/**", "inspected", "credential", "market-key", "net.yaml:7"]
    assert lines[-1] == "all others are denied"


def test_explain_says_who_is_asked(ctl):
    top = ctl.tree({"ask.yaml": "agent: a\nsandbox:\n  mode: deny-by-default\n  network: {on_unlisted: ask, ask_timeout: 5s}\n"})
    r = ctl.crewctl("policy", "explain", "--policy", "ask.yaml", "connect", "x.example.com:443", cwd=top)
    assert r.returncode == 4
    assert "held until the operator answers (network.on_unlisted: ask)" in r.stdout
    r = ctl.crewctl("policy", "explain", "--policy", "ask.yaml", "network", cwd=top)
    assert r.stdout == ("no endpoint is allowed\n"
                        "all others are held for the operator, 5 s at most (on_unlisted: ask)\n")


def test_presets_are_listed_and_shown(ctl, crew_home):
    r = ctl.crewctl("policy", "explain", "--presets")
    assert r.returncode == 0
    names = [line.split()[0] for line in r.stdout.splitlines()]
    assert names == sorted(names) and {"pypi", "npm", "github", "slack", "telegram", "openai", "anthropic", "nvidia"} <= set(names)
    r = ctl.crewctl("policy", "explain", "--presets", "pypi", "npm")
    assert r.returncode == 0
    assert r.stdout.startswith("pypi   Python packages")
    assert "  pypi.org:443" in r.stdout and "  registry.npmjs.org:443" in r.stdout
    said = json.loads(ctl.crewctl("policy", "explain", "--presets", "--json", "pypi").stdout)
    assert [e["host"] for e in said["presets"][0]["endpoints"]] == ["pypi.org", "files.pythonhosted.org"]
    r = ctl.crewctl("policy", "explain", "--presets", "pipy")
    assert (r.returncode, r.stderr) == (3, "crewctl: there is no preset 'pipy'\n  did you mean pypi?\n")
    r = ctl.crewctl("policy", "explain", "--presets", "--agent", "x")
    assert (r.returncode, r.stderr) == (2, "crewctl: --presets stands alone, with the names of presets\n")


def test_check_shows_what_is_let_through(ctl):
    top = ctl.tree({"audit.yaml": "agent: a\nsandbox:\n  mode: deny-by-default\n  network: {enforcement: audit}\n"})
    r = ctl.crewctl("policy", "check", "audit.yaml", cwd=top)
    assert r.returncode == 0
    assert ("audit.yaml:4:26: warning: 'enforcement: audit': connections that are not listed are recorded and let through\n"
            in r.stdout)
    assert ctl.crewctl("policy", "check", "--strict", "audit.yaml", cwd=top).returncode == 2


def test_check_says_what_to_do_about_https(ctl):
    top = ctl.tree({"x.yaml": "agent: a\nsandbox:\n  mode: deny-by-default\n  network:\n    allowed_endpoints:\n"
                              "      - {host: api.example.com, port: 443, methods: [GET]}\n"})
    r = ctl.crewctl("policy", "check", "x.yaml", cwd=top)
    assert r.returncode == 2
    assert r.stdout.splitlines()[0] == ("x.yaml:6:53: 'methods' cannot be enforced on port 443 without 'tls: inspect': "
                                        "requests are inside TLS")
    assert r.stdout.splitlines()[2].endswith("add 'tls: inspect', or leave the key out")
