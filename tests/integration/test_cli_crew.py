# SPDX-License-Identifier: Apache-2.0
"""crewctl with a real crew, as root and rootless."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from cli_help import in_terminal

ROLE = """\
agent: "{name}"
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: []}}
  network: {{deny_all: true}}
  ipc: {{allowed_targets: [], message_validation: strict}}
  tools: {{denied: ["*"]}}
"""
# Does what its task's input says: sleep, try to read a path, fail.
AGENT = """\
#!/usr/bin/python3
import json, sys, time
task = json.load(sys.stdin)
do = task.get("input") or {}
for path in do.get("read", []):
    try:
        open(path)
    except OSError as e:
        print(e, file=sys.stderr)
time.sleep(do.get("sleep", 0))
if "fail" in do:
    print(do["fail"], file=sys.stderr)
    sys.exit(3)
json.dump({"summary": "did " + task["task"], "context": sorted(task.get("context", {}))}, sys.stdout)
"""
CREW = """\
crew: {name}
process: sequential
policies: .
agents:
  alpha: {{policy: alpha.yaml, command: ["python3", "-I", "${{CREW_DIR}}/agent.py"], driver: exec-json}}
  beta: {{policy: beta.yaml, command: ["python3", "-I", "${{CREW_DIR}}/agent.py"], driver: exec-json}}
tasks:
  first: {{agent: alpha, description: first, input: {first}, timeout: 60s}}
  second: {{agent: beta, description: second, context: [first], input: {second}, timeout: 60s}}
"""


def crew_files(runner, name="pair", first="{}", second="{}"):
    top = runner.tree({"crew.yaml": CREW.format(name=name, first=first, second=second), "agent.py": AGENT,
                       "alpha.yaml": ROLE.format(name="alpha"), "beta.yaml": ROLE.format(name="beta")}, name=name)
    return top / "crew.yaml"


def detach(runner, crew_file):
    r = runner.crewctl("up", "--detach", crew_file)
    assert r.returncode == 0, r.stderr
    return r


@pytest.fixture
def up(runner):
    """A detached crew; down at the end."""
    detach(runner, crew_files(runner))
    yield runner
    runner.crewctl("down", "--grace", "0s")


def test_run_in_a_pipe(runner):
    r = runner.crewctl("run", crew_files(runner))
    assert (r.returncode, r.stderr) == (0, "")
    assert "\033" not in r.stdout
    # What another test's crew has left, if that was killed just now, is cleared away by whoever starts, which says so.
    lines = [line for line in r.stdout.splitlines() if "of a crew that died" not in line]
    assert lines[0] == "crew pair · 2 agents · sequential"
    for name, line in zip(["alpha", "beta"], lines[1:3]):
        assert re.fullmatch(rf"  {name} +ready +[0-9.]+ m?s  landlock [0-9]+ · .*uid [0-9]+", line), line
    assert lines[3] == "  · first   alpha  started"
    assert re.fullmatch(r"  ✓ first   alpha +[0-9.]+ m?s   did first", lines[4])
    assert re.fullmatch(r"  ✓ second  beta +[0-9.]+ m?s   did second", lines[6])
    assert re.match(r"2 of 2 tasks done in [0-9.]+ m?s · nothing denied · audit ", lines[8])
    assert runner.crewctl("status").returncode == 3


def test_run_json_has_the_results(runner):
    r = runner.crewctl("run", "--json", crew_files(runner))
    said = json.loads(r.stdout)
    assert (r.returncode, said["ok"], said["tasks_ok"]) == (0, True, 2)
    assert [t["result"] for t in said["tasks"]] == [dict(summary="did first", context=[]),
                                                    dict(summary="did second", context=["first"])]


def test_run_on_a_terminal(runner):
    status, out = in_terminal(runner, "run", str(crew_files(runner, first="{sleep: 2}")), timeout=60)
    assert status == 0
    assert re.search(r"\033\[33m[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]\033\[0m first   alpha", out)


def test_a_failed_task_fails_the_run(runner):
    r = runner.crewctl("run", crew_files(runner, first="{fail: no such feed}"))
    assert r.returncode == 1
    assert re.search(r"\n  ✗ first   alpha .*exit", r.stdout), r.stdout
    assert re.search(r"\n  · second  beta +skipped", r.stdout)
    assert "\n0 of 2 tasks done" in r.stdout


def test_ctrl_c_stops_everything(runner):
    p = runner.popen(runner.program("crewctl"), "run", crew_files(runner, first="{sleep: 60}"), stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE, text=True)
    for line in p.stdout:
        if "first" in line:
            break
    pids = [a["pid"] for a in runner.status()["agents"]]
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130
    assert err == "crewctl: interrupted: not every task was done\n"
    assert all(pid > 0 and not os.path.exists(f"/proc/{pid}") for pid in pids)
    assert runner.crewctl("status").returncode == 3


def test_a_killed_crewctl_leaves_nothing(runner):
    p = runner.popen(runner.program("crewctl"), "run", crew_files(runner, first="{sleep: 60}"), stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE, text=True)
    for line in p.stdout:
        if "first" in line:
            break
    pids = [a["pid"] for a in runner.status()["agents"]]
    subprocess.run(["kill", "-9", str(own_pid(p))], check=True)
    p.communicate()
    end = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)


def own_pid(p):
    """Of crewctl itself: setpriv execs it, so it is the child's."""
    return p.pid


def test_up_status_down(runner):
    r = detach(runner, crew_files(runner))
    assert r.stdout.endswith("crew pair is up; crewctl status --crew pair, crewctl down --crew pair\n")
    s = runner.status()
    assert [a["state"] for a in s["agents"]] == ["ready", "ready"]
    table = runner.crewctl("status").stdout.splitlines()
    assert re.fullmatch(r"crew pair   running .*   process sequential", table[0])
    assert re.match(r"alpha +ready ", table[2])
    pids = [a["pid"] for a in s["agents"]]
    r = runner.crewctl("down")
    assert re.fullmatch(r"crew pair stopped: 2 agents, [0-9.]+ m?s\n", r.stdout), r
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert runner.crewctl("status").returncode == 3
    detach(runner, crew_files(runner))  # and at once again
    assert runner.crewctl("down", "--json").returncode == 0


def test_a_second_one_is_refused(up):
    r = up.crewctl("run", crew_files(up))
    assert r.returncode == 1 and r.stderr.startswith("crewctl: crew pair is running already\n")


def test_several_crews(up):
    detach(up, crew_files(up, name="other"))
    r = up.crewctl("status")
    assert (r.returncode, r.stderr) == (2, "crewctl: 2 crews are running; say which with --crew\n  crews: other, pair\n")
    assert up.crewctl("status", "--crew", "other").returncode == 0
    assert up.crewctl("down", "--crew", "other").returncode == 0
    assert up.crewctl("status").returncode == 0


def test_kill(up):
    before = {a["name"]: a for a in up.status()["agents"]}
    r = up.crewctl("kill", "--agent", "alpha", "--reason", "odd queries")
    assert (r.returncode, r.stderr) == (0, "")
    lines = r.stdout.splitlines()
    assert lines[0] == "Agent alpha terminated. Sandbox destroyed."
    assert re.fullmatch(r"  [0-9]+ process(es)?, [0-9.]+ [mu]?s · audit record [0-9]+", lines[1])
    assert lines[2] == "Crew status: beta (ready)"
    assert not os.path.exists(f"/proc/{before['alpha']['pid']}")
    after = {a["name"]: a for a in up.status()["agents"]}
    assert after["beta"]["pid"] == before["beta"]["pid"] and after["beta"]["state"] == "ready"
    assert "odd queries" in up.crewctl("logs", "--agent", "alpha").stdout
    r = up.crewctl("kill", "--agent", "alpha")
    assert (r.returncode, r.stderr) == (3, "crewctl: agent alpha is not running\n")


def test_unknown_agent(up):
    for words in (["kill", "--agent", "alhpa"], ["exec", "--agent", "alhpa", "--", "true"], ["logs", "--agent", "alhpa"]):
        r = up.crewctl(*words)
        assert r.returncode == 3
        assert r.stderr == "crewctl: no agent 'alhpa' in crew pair\n  agents: alpha, beta   (did you mean alpha?)\n"


def test_kill_json(up):
    said = json.loads(up.crewctl("kill", "--agent", "beta", "--json").stdout)
    assert (said["terminated"]["agent"], said["terminated"]["cause"]) == ("beta", "operator")
    assert [a["name"] for a in said["others"]] == ["alpha"]


@pytest.mark.parametrize("command,status", [
    (["true"], 0), (["false"], 1), (["sh", "-c", "exit 42"], 42), (["sh", "-c", "kill -9 $$"], 137), (["no-such-thing"], 127),
    (["/etc/passwd"], 126)])
def test_exec_passes_the_status(up, command, status):
    r = up.crewctl("exec", "--agent", "alpha", "--", *command)
    assert r.returncode == status, r.stderr
    if status in (126, 127):
        assert r.stderr.startswith(f"crewctl: {command[0]}: cannot start: ")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_exec_is_held_back_by_a_slow_reader(up, stream):
    """More than crewd keeps for a client, so that it must wait; nothing of it is lost, and the agent does other things meanwhile."""
    n = 40_000_000
    p = up.popen(up.program("crewctl"), "exec", "--agent", "alpha", "--", "sh", "-c",
                 "head -c $0 /dev/zero" + (" >&2" if stream == "stderr" else "") + "; touch /tmp/written", str(n),
                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    assert up.crewctl("exec", "--agent", "alpha", "--", "ls", "/tmp").stdout == ""
    assert len(getattr(p, stream).read()) == n
    assert (p.wait(30), p.stdout.read(), p.stderr.read()) == (0, b"", b"")
    assert up.crewctl("exec", "--agent", "alpha", "--", "ls", "/tmp").stdout == "written\n"


def test_exec_ends_with_its_reader(up):
    p = up.popen(up.program("crewctl"), "exec", "--agent", "alpha", "--", "cat", "/dev/zero", stdin=subprocess.DEVNULL,
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.read(10) == bytes(10)
    p.stdout.close()
    assert (p.wait(30), p.stderr.read()) == (128 + signal.SIGPIPE, b"")
    p.stderr.close()
    p.stdout = p.stderr = None


def test_exec_streams(up):
    r = up.crewctl("exec", "--agent", "alpha", "--", "sh", "-c", "cat; echo err >&2", input="hello\n")
    assert (r.returncode, r.stdout, r.stderr) == (0, "hello\n", "err\n")
    data = "0123456789abcde\n" * 65536
    r = up.crewctl("exec", "--agent", "alpha", "cat", input=data)
    assert r.stdout == data
    said = json.loads(up.crewctl("exec", "--json", "--agent", "alpha", "--", "id", "-u").stdout)
    assert (said["exit_code"], said["stdout"]) == (0, "1000\n")


def test_exec_is_inside_the_walls(up):
    r = up.crewctl("exec", "--agent", "alpha", "--", "cat", "/etc/shadow")
    assert r.returncode == 1 and "Permission denied" in r.stderr
    r = up.crewctl("exec", "--agent", "alpha", "--", "sh", "-c", "echo $CREW_AGENT; env | wc -l; ls /proc | grep -c '^[0-9]'")
    assert r.stdout.splitlines()[0] == "alpha"
    end = time.monotonic() + 20  # observations reach the disk within 100 ms, on a machine that has time
    while "cat /etc/shadow" not in up.crewctl("logs", "--agent", "alpha").stdout:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_exec_forwards_signals(up, sig):
    p = up.popen(up.program("crewctl"), "exec", "--agent", "alpha", "--", "sh", "-c", "echo go; exec sleep 60",
                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.readline() == b"go\n"
    p.send_signal(sig)
    assert p.wait(30) == 128 + sig


def test_a_command_dies_with_its_crewctl(up):
    p = up.popen(up.program("crewctl"), "exec", "--agent", "alpha", "--", "sh", "-c", "echo go; exec sleep 61",
                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.readline() == b"go\n"
    p.kill()
    p.communicate()
    for _ in range(100):
        r = up.crewctl("exec", "--agent", "alpha", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        if "sleep 61" not in r.stdout.replace("exec sleep 61", ""):
            return
        time.sleep(0.05)
    raise AssertionError("the command still runs")


def test_logs_of_a_run(runner):
    runner.crewctl("run", crew_files(runner, first="{read: [/etc/shadow]}"))
    text = runner.crewctl("logs").stdout
    for word in ("alpha  [", "beta   [", "AGENT: READY", "TASK: STARTED -> first", "TASK: OK -> second"):
        assert word in text, text
    assert len(runner.crewctl("logs", "--last", "3").stdout.splitlines()) == 3
    assert all(json.loads(line)["agent"] == "beta" for line in
               runner.crewctl("logs", "--agent", "beta", "--json").stdout.splitlines())
    r = runner.crewctl("audit", "verify")
    assert r.returncode == 0 and "✓ @crew " in r.stdout and "3 streams" in r.stdout


def test_explain_finds_the_running_crews_file(up):
    r = up.crewctl("policy", "explain", "--agent", "alpha", "read", "/etc/shadow")
    assert (r.returncode, r.stderr) == (4, "")
    assert r.stdout.startswith("denied: no rule allows it\n")


def test_every_verb_speaks_json(up):
    crew_file = crew_files(up, name="again")
    for words in (["status"], ["exec", "--agent", "alpha", "--json", "true"], ["policy", "check", crew_file],
                  ["policy", "explain", "--agent", "alpha", "tool", "x"], ["audit", "verify"], ["doctor"],
                  ["kill", "--agent", "alpha"], ["down"], ["run", crew_file], ["up", "--detach", crew_file], ["down"]):
        words = words if "--json" in words else words + ["--json"]
        r = up.crewctl(*words)
        assert json.loads(r.stdout) is not None, (words, r.stdout, r.stderr)
    r = up.crewctl("logs", "--crew", "pair", "--json")
    assert all(json.loads(line) for line in r.stdout.splitlines()) and r.stdout
