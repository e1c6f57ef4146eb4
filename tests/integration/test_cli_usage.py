# SPDX-License-Identifier: Apache-2.0
"""crewctl without a crew: help, usage errors, what it says when nothing runs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli_help import VERBS, in_terminal
from conftest import Runner

NEEDS_A_CREW = [["status"], ["down"], ["kill", "--agent", "x"], ["start", "--agent", "x"], ["start", "--all"], ["stop", "--agent", "x"], ["thaw", "--agent", "x"], ["submit", "x"], ["cancel", "x"], ["exec", "--agent", "x", "--", "true"],
                ["policy", "explain", "--agent", "x", "read", "/x"], ["approvals"], ["approve", "x"], ["deny", "x"],
                ["policy", "reload"]]


@pytest.fixture
def ctl(stage, crew_home):
    r = Runner(stage, crew_home, "root")
    yield r
    r.stop_all()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(ctl, verb):
    r = ctl.crewctl(*verb.split(), "--help")
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout.startswith(f"usage: crewctl {verb}")
    assert "-h, --help" in r.stdout
    assert f"  crewctl {verb}" in r.stdout or verb == "doctor", "no example"
    assert max(len(line) for line in r.stdout.splitlines()) <= 120
    assert ctl.crewctl("help", *verb.split()).stdout == r.stdout


def test_help_lists_every_verb(ctl):
    r = ctl.crewctl("--help")
    assert r.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in r.stdout
    assert "__complete" not in r.stdout
    assert ctl.crewctl().returncode == 2


def test_version(ctl):
    r = ctl.crewctl("--version")
    assert r.returncode == 0 and r.stdout.split()[0] == "crewctl"


@pytest.mark.parametrize("words,near", [
    (["statsu"], "crewctl status"),
    (["policy", "chekc"], "crewctl policy check"),
    (["audti", "verify"], "crewctl audit"),
])
def test_an_unknown_verb_names_the_nearest(ctl, words, near):
    r = ctl.crewctl(*words)
    assert (r.returncode, r.stdout) == (2, "")
    shown = " ".join(words) if words[0] == "policy" else words[0]
    assert r.stderr.splitlines()[:2] == [f"crewctl: unknown verb '{shown}'", f"  did you mean {near}?"]


def test_an_unknown_option_names_the_nearest(ctl):
    r = ctl.crewctl("status", "--wacth")
    assert r.returncode == 2
    assert r.stderr == ("crewctl: unknown option '--wacth' for status\n"
                        "  did you mean --watch?\n"
                        "  crewctl status --help lists the options\n")


def test_a_bare_agent_name_is_explained(ctl):
    r = ctl.crewctl("kill", "portfolio-analyzer")
    assert r.returncode == 2
    assert r.stderr.splitlines()[:2] == ["crewctl: unexpected word 'portfolio-analyzer' after kill",
                                         "  did you mean --agent portfolio-analyzer?"]


@pytest.mark.parametrize("words", NEEDS_A_CREW, ids=lambda w: w[0])
def test_no_crew_running_says_how_to_start_one(ctl, words):
    r = ctl.crewctl(*words)
    assert (r.returncode, r.stdout) == (3, "")
    lines = r.stderr.splitlines()
    assert lines[0] == "crewctl: no crew is running"
    assert lines[1].startswith("  start one: crewctl up CREW.yaml --detach")


@pytest.mark.parametrize("words", [w for w in NEEDS_A_CREW if w[0] != "exec"] + [["logs"], ["audit", "verify"]],
                         ids=lambda w: w[0])
def test_errors_are_json_for_machines(ctl, words):
    r = ctl.crewctl(*words, "--json")
    assert r.returncode == 3
    error = json.loads(r.stdout)["error"]
    assert error["code"] == "no-crew" and error["message"] and error["hint"]


def test_a_stale_socket_is_no_crew(ctl):
    import socket
    d = ctl.home / "run" / "gone"
    d.mkdir(parents=True)
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(d / "control.sock"))
    s.close()
    r = ctl.crewctl("status")
    assert r.returncode == 3 and "no crew is running" in r.stderr
    r = ctl.crewctl("status", "--crew", "gone")
    assert r.returncode == 3 and r.stderr.startswith("crewctl: no crew 'gone' is running\n")


def test_a_missing_crew_file_is_named(ctl):
    for verb in ("run", "up"):
        r = ctl.crewctl(verb, "nowhere.yaml")
        assert r.returncode == 2
        assert "nowhere.yaml" in r.stderr and "No such file or directory" in r.stderr
        r = ctl.crewctl(verb)
        assert (r.returncode, r.stderr) == (2, f"crewctl: which crew? crewctl {verb} CREW.yaml\n")


def test_a_full_output_is_an_error(ctl):
    with open("/dev/full", "w") as full:
        p = subprocess.run([ctl.program("crewctl"), "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=ctl.env())
    assert p.returncode == 1
    assert p.stderr == "crewctl: cannot write the output: No space left on device\n"


def test_a_reader_that_left_is_no_error(ctl):
    for ignored in (False, True):
        r, w = os.pipe()
        os.close(r)
        p = subprocess.run([ctl.program("crewctl"), "--help"], stdout=w, stderr=subprocess.PIPE, text=True, env=ctl.env(),
                           restore_signals=not ignored)
        os.close(w)
        assert p.stderr == ""


def test_start_links_only_what_it_needs(ctl):
    libraries = subprocess.run(["ldd", ctl.program("crewctl")], capture_output=True, text=True).stdout
    program = Path(ctl.program("crewctl")).read_bytes()  # it may be static
    for heavy in ("nng", "uv", "curl", "crypto", "ssl", "nftables"):
        assert f"lib{heavy}." not in libraries
    for symbol in (b"nng_msg_alloc", b"uv_loop_init", b"curl_easy_init"):
        assert symbol not in program


@pytest.mark.parametrize("words,want,more", [
    ([""], ["run", "up", "policy", "audit", "doctor"], ["__complete", "check"]),
    (["st"], ["status"], ["run"]),
    (["policy", ""], ["check", "explain", "reload"], ["run"]),
    (["approve", "--"], ["--once", "--session", "--always", "--yes"], ["--follow"]),
    (["approve", ""], [], []),
    (["cancel", ""], [], []),
    (["cancel", "--"], ["--reason", "--crew", "--json"], ["--agent"]),
    (["policy", "reload", "--"], ["--agent", "--restart"], ["--yes"]),
    (["status", "--w"], ["--watch"], ["--json"]),
    (["logs", "--filter", ""], ["denied", "lifecycle"], ["--json"]),
    (["logs", "--filter", "de"], ["denied"], ["network"]),
    (["run", ""], [":files"], []),
    (["exec", "--agent", "x", "--", ""], [":commands"], []),
    (["exec", "--agent", "x", "ls", ""], [":files"], []),
    (["policy", "explain", "--agent", "x", ""], ["read", "connect"], []),
])
def test_completion_offers(ctl, words, want, more):
    r = ctl.crewctl("__complete", *words)
    offered = [line.split("\t")[0] for line in r.stdout.splitlines()]
    assert r.returncode == 0
    assert set(want) <= set(offered)
    assert not set(more) & set(offered)


def test_completion_knows_agents_and_crews(ctl):
    from cli_help import audit_stream
    audit_stream(ctl.home, "first", "alice", [dict(kind="agent.ready", t=1)])
    audit_stream(ctl.home, "second", "bob", [dict(kind="agent.ready", t=1)])
    def offered(*words):
        return [line.split("\t")[0] for line in ctl.crewctl("__complete", *words).stdout.splitlines()]
    assert offered("logs", "--agent", "") == ["alice", "bob"]
    assert offered("logs", "--crew", "second", "--agent", "") == ["bob"]
    assert offered("logs", "--crew", "f") == ["first"]


def test_bash_completion_uses_it(ctl):
    from conftest import SOURCE
    script = f"""
source {SOURCE}/dist/completion/crewctl.bash
PATH={ctl.stage}/bin:$PATH
COMP_WORDS=(crewctl policy ""); COMP_CWORD=2; _crewctl; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(crewctl logs --fi); COMP_CWORD=2; _crewctl; echo "${{COMPREPLY[@]}}"
"""
    r = ctl.run("bash", "-c", script)
    assert r.stdout == "check explain reload\n--filter\n", r.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_completion_uses_it(ctl):
    from conftest import SOURCE
    script = f"""
_describe() {{ print -rl -- "${{(@P)2}}" }}
_files() {{ print files }}
path=({ctl.stage}/bin $path)
words=(crewctl policy ""); CURRENT=3; source {SOURCE}/dist/completion/_crewctl
words=(crewctl run ""); CURRENT=3; source {SOURCE}/dist/completion/_crewctl
"""
    r = ctl.run("zsh", "-f", "-c", script)
    assert [line.split(":")[0] for line in r.stdout.splitlines()] == ["check", "explain", "reload", "files"], r.stderr


def test_colour_only_on_a_terminal_and_only_if_wanted(ctl):
    bad = ctl.home / "bad.yaml"
    bad.write_text("agent: x\nsandbox:\n  mode: nothing\n")
    assert "\033" in in_terminal(ctl, "policy", "check", str(bad))[1]
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in in_terminal(ctl, "policy", "check", str(bad), env=env)[1]
    assert "\033" not in ctl.crewctl("policy", "check", str(bad)).stdout
