# SPDX-License-Identifier: Apache-2.0
"""crewctl run and up: what they show and how they end, with a made-up crewd."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli_help import in_terminal
from conftest import SOURCE, Runner

ROLE = 'agent: "{}"\nsandbox:\n  mode: deny-by-default\n  network: {{deny_all: true}}\n  tools: {{denied: ["*"]}}\n'
CREW = """\
crew: pair
process: sequential
policies: .
agents:
  alpha: {policy: alpha.yaml, command: ["/bin/true"]}
  beta: {policy: beta.yaml, command: ["/bin/true"]}
tasks:
  one: {agent: alpha, description: first}
  two: {agent: beta, description: second, context: [one]}
"""


@pytest.fixture
def ctl(stage, build, crew_home, tmp_path_factory):
    top = tmp_path_factory.mktemp("fake")
    (top / "bin").mkdir()
    shutil.copy2(stage / "bin" / "crewctl", top / "bin" / "crewctl")
    shutil.copy2(SOURCE / "tests/integration/fake_crewd_main.py", top / "bin" / "crewd")
    (top / "bin" / "crewd").chmod(0o755)
    (top / "policies").symlink_to(SOURCE / "policies")
    r = Runner(top, crew_home, "root")
    plain = r.env
    r.env = lambda extra=None: plain({"FAKE_TESTS": str(SOURCE / "tests/integration"), "FAKE_BUILD": str(build),
                                      "FAKE": "good"} | (extra or {}))
    r.files = r.tree({"crew.yaml": CREW, "alpha.yaml": ROLE.format("alpha"), "beta.yaml": ROLE.format("beta")})
    yield r
    if (crew_home / "run/pair/control.sock").exists():
        r.crewctl("down")
    r.stop_all()


def run(ctl, *args, fake="good", **kw):
    return ctl.crewctl("run", *args, ctl.files / "crew.yaml", env={"FAKE": fake} | kw.pop("env", {}), **kw)


AGENT_LINES = """\
crew pair · 3 agents · sequential
  alpha  ready        2.1 ms  landlock 7 · seccomp · netns · uid 200001
  beta   ready        2.0 ms  landlock 7 · without cgroup-memory · uid 200002
  boss   policy-only
"""


def test_a_good_run_in_a_pipe(ctl):
    r = run(ctl)
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout == AGENT_LINES + f"""\
  · one  alpha  started
  ✓ one  alpha    0.4 s   5 symbols, 560 prices
  · two  beta   started
  ✓ two  beta   1 m 02 s

2 of 2 tasks done in 2.1 s · 2 actions denied (crewctl logs --filter denied) · audit {ctl.home}/lib/pair/audit
results {ctl.home}/lib/pair/out
"""
    assert (ctl.home / "lib/pair/crewd.log").read_text() == "crewd: here I am\n"
    assert not (ctl.home / "orphaned").exists()


def test_a_run_in_ascii(ctl):
    r = run(ctl, env={"LANG": "C"})
    assert r.stdout.isascii()
    assert "  ok one  alpha    0.4 s   5 symbols, 560 prices\n" in r.stdout


def test_a_run_on_a_terminal_has_live_lines_that_go(ctl):
    status, out = in_terminal(ctl, "run", str(ctl.files / "crew.yaml"), env={"FAKE_SLEEP": "1"})
    assert status == 0
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]\033\[0m one  alpha    0\.[0-9] s", out)
    assert "1 denied" not in out.split("2 of 2")[-1]
    # Whatever was drawn live is erased again: as many lines go up as came.
    screen = render(out)
    assert [line.strip() for line in screen if line.strip()][-4:-1] == [
        "✓ one  alpha    0.4 s   5 symbols, 560 prices", "✓ two  beta   1 m 02 s",
        f"2 of 2 tasks done in 2.1 s · 2 actions denied (crewctl logs --filter denied) · audit {ctl.home}/lib/pair/audit"[-300:]]
    assert not any("started" in line for line in screen)


def render(out):
    """A terminal of endless width: \\r, \\n, cursor up, erase below."""
    lines, y = [""], 0
    for part in re.findall(r"\033\[[0-9;]*[A-Za-z]|\r|\n|[^\033\r\n]+", out):
        if part == "\n":
            y += 1
            if y == len(lines):
                lines.append("")
        elif part == "\r" or part.endswith("m") and part.startswith("\033"):
            pass
        elif part.startswith("\033[") and part.endswith("A"):
            y -= int(part[2:-1])
        elif part == "\033[J":
            lines[y:] = [""]
        else:
            lines[y] += part
    return lines


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_live_lines_never_wrap(ctl, columns):
    _, out = in_terminal(ctl, "run", str(ctl.files / "crew.yaml"), env={"FAKE_SLEEP": "1", "NO_COLOR": "1"}, columns=columns)
    live = [line for line in re.split(r"[\r\n]+|\033\[[0-9]*[AJ]", out) if re.match(r"  [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] ", line)]
    assert live and all(len(line) <= columns for line in live)


def test_run_json_is_one_object(ctl):
    r = run(ctl, "--json")
    assert (r.returncode, r.stderr) == (0, "")
    said = json.loads(r.stdout)
    assert (said["crew"], said["ok"], said["tasks_ok"], said["tasks_total"], said["denied"]) == ("pair", True, 2, 2, 2)
    assert [t["name"] for t in said["tasks"]] == ["one", "two"]


def test_a_failed_task_fails_the_run_and_shows_the_last_words(ctl):
    r = run(ctl, fake="loses")
    assert r.returncode == 1
    assert "\033" not in r.stdout
    lines = r.stdout.splitlines()
    assert lines[4:] == [
        "  · one  alpha  started",
        "  · audit is slow",
        "  ! agent alpha ended: crash, signal 11",
        "      Traceback:",
        "        in x",
        "      ValueError: \\x1b[31mbad",
        "  ✗ one  alpha    0.4 s   agent alpha died: crash",
        "  · two  beta   skipped   task one failed",
        "",
        f"0 of 2 tasks done in 2.1 s · 2 actions denied (crewctl logs --filter denied) · audit {ctl.home}/lib/pair/audit",
    ]


def test_a_refused_run_says_why(ctl):
    r = run(ctl, fake="refuses")
    assert (r.returncode, r.stderr) == (1, "crewctl: process consensual is not supported\n  use sequential\n")


def test_a_start_that_fails_says_why(ctl):
    r = run(ctl, fake="cannot")
    assert (r.returncode, r.stdout) == (69, "")
    assert r.stderr == ("crewctl: agent beta: landlock is missing\n"
                        "  crewctl doctor shows what this kernel can enforce and the fixes\n")
    r = run(ctl, "--json", fake="cannot")
    assert json.loads(r.stdout)["error"]["message"] == "agent beta: landlock is missing"


def test_a_crewd_that_ends_without_a_word_leaves_its_log(ctl):
    r = run(ctl, fake="mute")
    assert r.returncode == 3
    assert r.stderr == ("crewctl: crewd ended before the crew was up (status 3)\n"
                        f"  from {ctl.home}/lib/pair/crewd.log:\n  crewd: lost my tongue\n")


def test_a_crewd_that_dies_is_told_from_tasks_that_fail(ctl):
    r = run(ctl, fake="dies")
    assert r.returncode == 1
    assert r.stderr.startswith("crewctl: crewd of crew pair ended unexpectedly (signal 9)\n")
    assert "crewd: something terrible" in r.stderr


def start(ctl, *args, fake):
    p = ctl.popen(ctl.program("crewctl"), *args, ctl.files / "crew.yaml", env={"FAKE": fake}, stdout=subprocess.PIPE,
                  stderr=subprocess.PIPE, text=True)
    for line in p.stdout:
        if "one" in line or "is up" in line:
            return p
    raise AssertionError(p.communicate())


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_crew_in_order(ctl, sig):
    p = start(ctl, "run", fake="endless")
    p.send_signal(sig)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 128 + sig
    assert "stopping the crew; Ctrl-C again ends it at once" in out
    assert err == "crewctl: interrupted: not every task was done\n"
    assert not (ctl.home / "orphaned").exists() and not (ctl.home / "run/pair/control.sock").exists()


def test_a_killed_crewctl_takes_its_crew_along(ctl):
    p = start(ctl, "run", fake="endless")
    p.kill()
    p.communicate()
    end = time.monotonic() + 20
    while not (ctl.home / "orphaned").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_pager_that_quits_does_not_stop_the_crew(ctl):
    p = ctl.popen(ctl.program("crewctl"), "run", ctl.files / "crew.yaml", env={"FAKE_SLEEP": "0.3"}, stdout=subprocess.PIPE,
                  stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.stdout.close()
    assert p.wait(30) == 0
    assert p.stderr.read() == ""
    p.stderr.close()
    p.stdout = p.stderr = None
    assert not (ctl.home / "orphaned").exists()


def test_keep_leaves_the_crew_up(ctl):
    r = run(ctl, "--keep")
    assert r.returncode == 0
    assert r.stdout.endswith("crew pair is still up; crewctl down --crew pair stops it\n")
    assert ctl.crewctl("status").returncode == 0
    r = ctl.crewctl("down")
    assert re.fullmatch(r"crew pair stopped: 2 agents, [0-9.]+ m?s\n", r.stdout), r
    assert ctl.crewctl("status").returncode == 3


def test_up_detached_then_down(ctl):
    r = ctl.crewctl("up", "--detach", ctl.files / "crew.yaml")
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout == AGENT_LINES + "crew pair is up; crewctl status --crew pair, crewctl down --crew pair\n"
    again = ctl.crewctl("run", ctl.files / "crew.yaml")
    assert again.returncode == 1
    assert again.stderr == ("crewctl: crew pair is running already\n"
                            "  look at it: crewctl status --crew pair   stop it: crewctl down --crew pair\n")
    said = json.loads(ctl.crewctl("down", "--json").stdout)
    assert (said["crew"], said["state"], said["agents"]) == ("pair", "stopped", 2)


def test_up_in_the_foreground_shows_crewds_messages(ctl):
    p = start(ctl, "up", fake="good")
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 0
    assert err == "crewd: here I am\n"
    assert not (ctl.home / "orphaned").exists()


def test_up_ends_when_the_crew_is_stopped_elsewhere(ctl):
    p = start(ctl, "up", fake="good")
    assert ctl.crewctl("down").returncode == 0
    out, err = p.communicate(timeout=30)
    assert p.returncode == 0
    assert out.endswith("crew pair was stopped\n")


def test_a_bad_crew_file_is_shown_with_its_line_and_nothing_starts(ctl):
    (ctl.files / "crew.yaml").write_text(CREW.replace("agent: beta", "agent: gamma"))
    r = run(ctl)
    assert (r.returncode, r.stdout) == (2, "")
    assert re.search(r"crew\.yaml:9:\d+: .*gamma", r.stderr) and "1 error" in r.stderr
    assert not (ctl.home / "lib").exists()
    r = run(ctl, "--json")
    assert json.loads(r.stdout)["error"]["code"] == "bad-file"


def test_the_log_of_the_run_before_is_kept(ctl):
    run(ctl)
    run(ctl, fake="mute")
    assert (ctl.home / "lib/pair/crewd.log.1").read_text() == "crewd: here I am\n"
    assert (ctl.home / "lib/pair/crewd.log").read_text() == "crewd: lost my tongue\n"
    assert (ctl.home / "lib/pair/crewd.log").stat().st_mode & 0o777 == 0o600
