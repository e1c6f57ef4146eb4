# SPDX-License-Identifier: Apache-2.0
"""What crewctl makes of crewd's answers, to the character; and of answers that no sound crewd gives."""

import json
import os
import signal
import subprocess
import time

import pytest

from cli_help import in_terminal
from conftest import Runner
from fake_crewd import FakeCrewd

MIB = 1 << 20
AGENTS = [
    dict(name="data-collector", state=3, pid=11, uid=200001, up_ms=252_000, cpu_percent=0, memory_bytes=21 * MIB,
         memory_max=512 * MIB, processes=2, processes_max=64, open_files=9, open_files_max=256, denied=2, walls="full",
         landlock_abi=7, spawn_us=2100),
    dict(name="portfolio-analyzer", state=4, task="analyze", pid=12, uid=200002, up_ms=252_000, cpu_percent=71,
         memory_bytes=64 * MIB, memory_max=512 * MIB, processes=3, processes_max=64, open_files=40, walls="full", landlock_abi=7),
    dict(name="report-writer", state=3, task="report", pid=13, uid=200003, up_ms=252_000, memory_bytes=19 * MIB,
         memory_max=512 * MIB, processes=2, processes_max=64, walls="full", landlock_abi=7),
    dict(name="supervisor", state=9),
]
STATUS = dict(crew="financial-analysis", state="running", process="sequential", up_ms=252_000, agents=AGENTS, mode="root",
              audit_dir="/var/lib/crewd/financial-analysis/audit")
KILLED = dict(terminated=dict(id=1, crew="financial-analysis", agent="portfolio-analyzer", cause=1, processes_killed=7,
                              kill_us=1300, audit_seq=412), task="analyze", others=[AGENTS[0], AGENTS[2]])


def answer(c, e):
    body = e.WhichOneof("body")
    if body == "get_status":
        c.send("status", corr=e.seq, **STATUS)
    elif body == "kill_agent" and e.kill_agent.agent == "portfolio-analyzer":
        c.send("event", event_seq=1, kind="terminated")
        c.send("killed", corr=e.seq, **KILLED)
    elif body in ("kill_agent", "client_exec"):
        c.send("refused", corr=e.seq, code="unknown-agent",
               message="no agent 'portfolio-analyser' in crew financial-analysis",
               hint="agents: data-collector, portfolio-analyzer   (did you mean portfolio-analyzer?)")


@pytest.fixture
def ctl(stage, crew_home):
    r = Runner(stage, crew_home, "root")
    yield r
    r.stop_all()


@pytest.fixture
def fake(build, crew_home):
    made = []

    def make(answer=answer, name="financial-analysis", **kw):
        made.append(FakeCrewd(build, crew_home, name, answer, **kw))
        return made[-1]

    yield make
    for f in made:
        f.close()


def test_status_table(ctl, fake):
    fake()
    r = ctl.crewctl("status")
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout == """\
crew financial-analysis   running 4 m 12 s   process sequential
AGENT               STATE        TASK     UP     CPU           MEM   PROCS    FILES  DENIED  WALLS
data-collector      ready        -        4m12s   0%  21 / 512 MiB  2 / 64  9 / 256       2  full
portfolio-analyzer  working      analyze  4m12s  71%  64 / 512 MiB  3 / 64       40       0  full
report-writer       waiting      report   4m12s   0%  19 / 512 MiB  2 / 64        -       0  full
supervisor          policy-only  -        -        -             -       -        -       0  -
"""


@pytest.mark.parametrize("columns", [16, 30, 40, 60, 80, 120])
def test_status_fits_the_terminal(ctl, fake, columns):
    fake()
    status, out = in_terminal(ctl, "status", columns=columns, env={"NO_COLOR": "1"})
    table = out.replace("\r", "").splitlines()[1:]
    assert status == 0
    assert all(len(line) <= max(columns, 16) for line in table) or columns < 30
    assert table[0].startswith("AGENT")


def test_status_json(ctl, fake):
    fake()
    s = json.loads(ctl.crewctl("status", "--json").stdout)
    assert (s["crew"], s["state"], s["mode"]) == ("financial-analysis", "running", "root")
    assert [a["state"] for a in s["agents"]] == ["ready", "working", "ready", "policy-only"]
    assert s["agents"][0]["memory_bytes"] == 21 * MIB and s["agents"][0]["denied"] == 2


def test_status_watch_ends_with_the_crew(ctl, fake):
    looks = []

    def three_times(c, e):
        looks.append(e)
        if len(looks) > 3:
            c.sock.shutdown(2)
        else:
            answer(c, e)

    fake(three_times)
    r = ctl.crewctl("status", "--watch", "--interval", "10ms")
    assert r.returncode == 0
    assert r.stdout.count("AGENT") == 3 and r.stdout.endswith("crew financial-analysis has ended\n")
    looks.clear()
    r = ctl.crewctl("status", "--watch", "--interval", "10ms", "--json")
    assert [json.loads(line)["state"] for line in r.stdout.splitlines()] == ["running"] * 3


def test_kill(ctl, fake):
    f = fake()
    r = ctl.crewctl("kill", "--agent", "portfolio-analyzer", "--reason", "odd queries")
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout == """\
Agent portfolio-analyzer terminated. Sandbox destroyed.
  7 processes, 1.3 ms · task analyze failed (operator) · audit record 412
Crew status: data-collector (ready), report-writer (ready)
"""
    assert f.requests[-1].kill_agent.reason == "odd queries"
    said = json.loads(ctl.crewctl("kill", "--agent", "portfolio-analyzer", "--json").stdout)
    assert said["terminated"]["cause"] == "operator" and said["terminated"]["processes_killed"] == 7
    assert [a["name"] for a in said["others"]] == ["data-collector", "report-writer"]


@pytest.mark.parametrize("state,says", [
    (dict(), "it was waiting for agent data-collector"),
    (dict(running=True), "agent data-collector was working on it: told, and killed in 2 s if it goes on"),
    (dict(running=True, frozen=True), "agent data-collector is frozen, and hears of it when it is thawed")])
def test_cancel(ctl, fake, state, says):
    f = fake(lambda c, e: c.send("task_cancelled", corr=e.seq, task_id="t-7", task="collect", agent="data-collector", **state))
    r = ctl.crewctl("cancel", "collect", "--reason", "wrong symbols")
    assert (r.returncode, r.stdout, r.stderr) == (0, f"Task t-7 (collect) cancelled.\n  {says}\n", "")
    assert (f.requests[-1].cancel_task.task, f.requests[-1].cancel_task.reason) == ("collect", "wrong symbols")
    said = json.loads(ctl.crewctl("cancel", "t-7", "--json").stdout)
    assert said == dict(crew="financial-analysis", task_id="t-7", task="collect", agent="data-collector",
                        was="running" if state else "waiting", frozen="frozen" in state)


def interrupted_submit(ctl, f, *args):
    """A submit that gets SIGINT once crewd has its request."""
    p = ctl.popen(ctl.program("crewctl"), "submit", "collect", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(e.WhichOneof("body") == "submit_task" for e in f.requests):
        assert p.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    return p.returncode, out, err


def test_a_submit_that_is_interrupted_before_it_is_accepted_cancels_it_then(ctl, fake):
    def answer(c, e):
        body = e.WhichOneof("body")
        if body == "submit_task":
            submitted.append(e.seq)
            time.sleep(0.4)
            c.send("task_accepted", corr=e.seq, task_id="t-7")
        elif body == "cancel_task":
            c.send("task_cancelled", corr=e.seq, task_id="t-7", task="collect", agent="a")
            c.send("task_done", corr=submitted[0], task_id="t-7", outcome=4, error="cancelled by you")

    submitted = []
    f = fake(answer)
    assert interrupted_submit(ctl, f) == (130, "", "crewctl: cancelling task t-7; once more does not wait for it\n"
                                                   "crewctl: task t-7: cancelled: cancelled by you\n")
    assert f.requests[-1].cancel_task.task == "t-7"


@pytest.mark.parametrize("code", ["over", "failed"])
def test_a_result_that_came_before_the_cancel_counts(ctl, fake, code):
    def answer(c, e):
        body = e.WhichOneof("body")
        if body == "submit_task":
            submitted.append(e.seq)
            c.send("task_accepted", corr=e.seq, task_id="t-7")
        elif body == "cancel_task":
            c.send("refused", corr=e.seq, code=code, message="task t-7 cannot be")
            c.send("task_done", corr=submitted[0], task_id="t-7", outcome=1, result="5")

    submitted = []
    r = interrupted_submit(ctl, fake(answer))
    assert r[:2] == (0, "5\n") and ("task t-7 cannot be" in r[2]) == (code == "failed")


def test_ascii_where_the_locale_is_not_utf8(ctl, fake):
    fake()
    r = ctl.crewctl("kill", "--agent", "portfolio-analyzer", env={"LANG": "C"})
    assert r.stdout.splitlines()[1] == "  7 processes, 1.3 ms - task analyze failed (operator) - audit record 412"


@pytest.mark.parametrize("words", [["kill", "--agent", "portfolio-analyser"],
                                   ["exec", "--agent", "portfolio-analyser", "--", "true"]], ids=["kill", "exec"])
def test_unknown_agent_lists_the_agents(ctl, fake, words):
    fake()
    r = ctl.crewctl(*words)
    assert (r.returncode, r.stdout) == (3, "")
    assert r.stderr == (
        "crewctl: no agent 'portfolio-analyser' in crew financial-analysis\n"
        "  agents: data-collector, portfolio-analyzer   (did you mean portfolio-analyzer?)\n")


def test_several_crews_must_be_told_apart(ctl, fake):
    fake()
    fake(name="other")
    r = ctl.crewctl("status")
    assert (r.returncode, r.stdout) == (2, "")
    assert r.stderr == "crewctl: 2 crews are running; say which with --crew\n  crews: financial-analysis, other\n"
    assert ctl.crewctl("status", "--crew", "financial-analysis").returncode == 0
    r = ctl.crewctl("kill", "--crew", "othre", "--agent", "x")
    assert r.returncode == 3
    assert r.stderr == ("crewctl: no crew 'othre' is running\n"
                        "  crews: financial-analysis, other   (did you mean other?)\n")


# --- exec ---

def echo(c, e):
    """Echoes its standard input in upper case; ends with the number of bytes it got, or as signalled."""
    body = e.WhichOneof("body")
    if body == "client_exec":
        c.command, c.got = e.seq, 0
        c.send("exec_output", corr=e.seq, stream=2, data=b"ready\n")
    elif body == "exec_input" and e.exec_input.send_signal:
        c.send("done", corr=c.command, exit_code=-1, term_signal=e.exec_input.send_signal)
    elif body == "exec_input":
        assert e.corr == c.command
        c.got += len(e.exec_input.data)
        if e.exec_input.data:
            c.send("exec_output", corr=c.command, stream=1, data=e.exec_input.data.upper())
        if e.exec_input.eof:
            c.send("done", corr=c.command, exit_code=c.got % 256)


def test_exec_streams_and_passes_the_status(ctl, fake):
    f = fake(echo)
    r = ctl.crewctl("exec", "--agent", "a", "--", "tr", "--crew", "x", input="hello\n")
    assert (r.returncode, r.stdout, r.stderr) == (6, "HELLO\n", "ready\n")
    assert list(f.requests[1].client_exec.argv) == ["tr", "--crew", "x"]


def test_exec_moves_megabytes_both_ways(ctl, fake):
    fake(echo)
    data = "0123456789abcde\n" * 500_000
    r = ctl.crewctl("exec", "--agent", "a", "tr", input=data)
    assert r.stdout == data.upper()


def test_exec_json(ctl, fake):
    fake(echo)
    r = ctl.crewctl("exec", "--json", "--agent", "a", "tr", input="x\n")
    assert json.loads(r.stdout) == dict(agent="a", exit_code=2, signal=0, stdout="X\n", stderr="ready\n", cut=False)
    assert r.returncode == 2


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_exec_forwards_signals(ctl, fake, sig):
    fake(echo)
    p = ctl.popen(ctl.program("crewctl"), "exec", "--agent", "a", "--", "sleep", "9", stdin=subprocess.PIPE,
                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stderr.readline() == b"ready\n"
    p.send_signal(sig)
    assert p.wait(30) == 128 + sig


def test_exec_ends_with_its_reader(ctl, fake):
    fake(echo)
    p = ctl.popen(ctl.program("crewctl"), "exec", "--agent", "a", "--", "yes", stdin=subprocess.PIPE,
                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stderr.readline()
    p.stdout.close()
    p.stdin.write(b"x\n")
    p.stdin.flush()
    assert p.wait(30) == 128 + signal.SIGPIPE
    p.stdout = None


# --- answers that no sound crewd gives ---

def reply_with(send):
    def answer(c, e):
        send(c, e)
    return answer


HOSTILE = {
    "garbage": lambda c, e: c.sock.sendall(b"\xff" * 64),
    "too-large": lambda c, e: c.sock.sendall(b"\x01\x00\x00\x00\xff\xff\xff\xff\xff\x00\x00\x00\x01"),
    "unparsable": lambda c, e: c.send_bytes(b"\x08\x01\xff\xff\xff"),
    "empty": lambda c, e: c.send_bytes(b""),
    "another-side": lambda c, e: c.send("hello", corr=e.seq, protocol=1, agent="a", incarnation=1),
    "bad-field": lambda c, e: c.send("status", corr=e.seq, crew="NOT A NAME", state="running", process="sequential"),
    "sequence-gap": lambda c, e: (setattr(c, "seq", 7), c.send("status", corr=e.seq, **STATUS)),
    "hang-up": lambda c, e: c.sock.shutdown(2),
    "wrong-answer": lambda c, e: c.send("task_accepted", corr=e.seq, task_id="t-1"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_broken_crewd_is_an_error_with_a_name(ctl, fake, what):
    fake(HOSTILE[what])
    r = ctl.crewctl("status")
    assert r.returncode == (1 if what == "hang-up" else 125)
    assert r.stdout == ""
    assert r.stderr.startswith("crewctl: crew financial-analysis went away" if what == "hang-up" else
                               "crewctl: crewd of crew financial-analysis does not speak our protocol: ")


def test_text_from_agents_cannot_act_on_the_terminal(ctl, fake):
    def nasty(c, e):
        agents = [dict(AGENTS[0], task="\033[2Jx\ny", walls="\033]0;t\007")]
        c.send("status", corr=e.seq, **dict(STATUS, agents=agents))
    fake(nasty)
    out = ctl.crewctl("status").stdout
    assert "\033" not in out and "\007" not in out and len(out.splitlines()) == 3


def test_a_refusal_is_shown_with_its_hint(ctl, fake):
    fake(lambda c, e: c.send("refused", corr=e.seq, code="not-running", message="agent x is not running", hint="it was killed"))
    r = ctl.crewctl("kill", "--agent", "x")
    assert (r.returncode, r.stderr) == (3, "crewctl: agent x is not running\n  it was killed\n")


@pytest.mark.waits
def test_a_silent_crewd_does_not_hang_the_greeting(ctl, crew_home):
    import socket
    d = crew_home / "run" / "mute"
    d.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(d / "control.sock"))
        s.listen()
        start = time.monotonic()
        r = ctl.crewctl("status", timeout=30)
    assert r.returncode == 1 and "does not answer" in r.stderr
    assert time.monotonic() - start < 20
