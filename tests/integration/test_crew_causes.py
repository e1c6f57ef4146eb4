# SPDX-License-Identifier: Apache-2.0
"""Every way an agent can end, really caused: each has a cause of its own, with the code or signal and a reason to read, the
same in the callback, in the audit and in status."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

import crewd
from conftest import modes
from crewlib import UNTIL_GO, Crew, agent_status, eventually, go, state_dir, state_of
from hostilelib import HostileCrew, begin

# A long-lived agent that does what its task's description says.
RPC = """#!/usr/bin/python3
import ctypes, json, os, signal, sys, time
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "task":
        result = None
        exec(m["params"]["description"])
        say(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}) + "\\n")
"""


def rpc_crew(runner, *names, **keys):
    crew = Crew(runner)
    crew.files["rpc.py"] = RPC
    for name in names:
        crew.agent(name, driver="stdio-rpc", command=["python3", "${CREW_DIR}/rpc.py"], **keys)
    return crew


def ended(crew, agent):
    """Its last termination record."""
    return eventually(lambda: crew.records(agent, "agent.terminated"), timeout=60)[-1]


DEADLINE = (r"task t-\d+ was (over its time|cancelled), and the program did not answer 'cancel' in 2000 ms|"
            r"task ad-hoc gave no result within 0.5 s and did not stop")
# name: (what its program does, how long it has, the cause, {"code" or "signal"}, the reason)
PROGRAMS = {
    "exit-zero": ("os._exit(0)", 20000, "exit", {"code": 0},
                  r"its program exited with status 0; no result for task t-\d+"),
    "exit-three": ("print('no more quotes', file=sys.stderr, flush=True); os._exit(3)", 20000, "exit", {"code": 3},
                   r"its program exited with status 3: no more quotes; no result for task t-\d+"),
    "segv": ("os.kill(os.getpid(), signal.SIGSEGV)", 20000, "crash", {"signal": signal.SIGSEGV},
             r"its program killed by signal 11 \(SIGSEGV\); no result for task t-\d+"),
    "abort": ("os.abort()", 20000, "crash", {"signal": signal.SIGABRT}, r"its program killed by signal 6 \(SIGABRT\).*"),
    "own-kill": ("os.kill(os.getpid(), signal.SIGKILL)", 20000, "crash", {"signal": signal.SIGKILL},
                 r"its program killed by SIGKILL, not by us.*"),
    # An x32 call: no filter of ours lets one through.
    "sigsys": ("ctypes.CDLL(None).syscall(0x40000000 | 39)", 20000, "forbidden system call", {"signal": signal.SIGSYS},
               "a forbidden system call"),
    # Both ends have a clock: the worker stops its program, or crewd its worker.
    "deadline": ("time.sleep(600)", 500, "deadline", {}, DEADLINE),
    "deaf-deadline": ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", 500, "deadline", {}, DEADLINE),
    "garbage": ("say('hello\\n' * 100); time.sleep(600)", 20000, "limit", {"signal": signal.SIGKILL},
                "more than 16 lines on its standard output mean nothing, the last: stdout: .*"),
    "long-line": ("say('x' * (5 << 20)); time.sleep(600)", 20000, "limit", {"signal": signal.SIGKILL},
                  r"wrote a line of more than \d+ bytes"),
    "large-file": ("signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
                   "with open('/tmp/f', 'wb', 0) as f: f.write(b'x' * 8192); f.write(b'x' * 8192)", 20000, "limit",
                   {"signal": signal.SIGXFSZ}, "wrote a file larger than limits.output"),
    "memory": ("x = bytearray(300 << 20); time.sleep(10)", 20000, "out of memory", {"signal": signal.SIGKILL}, "the memory limit was hit"),
}


def test_what_a_program_does_to_itself(runner):
    crew = rpc_crew(runner, *(n for n in PROGRAMS if n != "large-file")).agent("other")
    crew.agent("large-file", driver="stdio-rpc", command=["python3", "${CREW_DIR}/rpc.py"], limits="output: 8KiB")
    with crew.start() as running:
        client = running.client()
        client.subscribe()
        tasks = {n: client.submit(agent=n, description=code, timeout_ms=ms) for n, (code, ms, *_) in PROGRAMS.items()}
        done = {n: t.wait(60) for n, t in tasks.items()}
        wrong = {}
        for name, (_, _, cause, numbers, reason) in PROGRAMS.items():
            r = ended(crew, name)
            got = r["cause"], {k: r[k] for k in numbers if k in r}, r["reason"]
            if got[:2] != (cause, numbers) or not re.fullmatch(reason, r["reason"]):
                wrong[name] = got
            if len(crew.records(name, "agent.terminated")) != 1 or r["action"] != "fail_task":
                wrong[name] = "more than one end", got
            # A task has one outcome: its time was over before its agent was, else it went with the agent.
            late = "deadline" in name
            if done[name].outcome != (crewd.Outcome.TIMEOUT if late else crewd.Outcome.TERMINATED):
                wrong[name] = done[name].outcome, done[name].error
            if not late and done[name].terminated.reason != r["reason"]:
                wrong[name] = done[name].terminated.reason
            if agent_status(client, name).last_cause != cause:
                wrong[name] = agent_status(client, name).last_cause
        assert not wrong, wrong
        told = {}
        client.status()  # answered behind all that was told
        for e in client.events(timeout=0.5):
            if e.kind == "terminated":
                told.setdefault(e.terminated.agent, []).append(e.terminated)
        assert set(told) == set(PROGRAMS) and all(len(t) == 1 for t in told.values())
        assert len({t.id for ts in told.values() for t in ts}) == len(PROGRAMS), "an id names one end"
        for name, (t,) in told.items():
            r = ended(crew, name)
            assert (t.id, t.audit_seq, t.reason) == (r["id"], r["seq"], r["reason"])
        assert client.submit(agent="other", description="out('fine')").result(60) == "fine"
    assert runner.crewctl("audit", "verify").returncode == 0


# The same in an agent of one process a task: the program ends, the agent does not.
TASKS = {
    "os._exit(0)": "exited with status 0 but printed nothing; one JSON value is expected",
    "os._exit(3)": "exited with status 3",
    "os.kill(os.getpid(), signal.SIGSEGV)": "killed by signal 11 (SIGSEGV)",
    "import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)":
        "killed by SIGSYS: a system call its profile does not allow",
    "print('hello')": "its output is not one JSON value: not a JSON value at byte 0",
}


def test_a_task_of_its_own_process_ends_alone(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        for code, error in TASKS.items():
            done = client.submit(agent="a", description=code).wait(60)
            assert (done.outcome, done.error) == (crewd.Outcome.FAILED, error)
        assert agent_status(client, "a").incarnation == 1 and state_of(client, "a") == crewd.AgentState.READY
        assert not crew.records("a", "agent.terminated")


def test_who_killed_it(runner):
    crew = Crew(runner).agent("a").agent("b").agent("c")
    with crew.start() as running:
        client, boss = running.client(), running.client(name="planner", orchestrator=True)
        assert client.kill("a", "enough").terminated.cause == crewd.Cause.OPERATOR
        assert boss.kill("b", "not needed").terminated.cause == crewd.Cause.ORCHESTRATOR
        assert runner.crewctl("kill", "--agent", "c", "--reason", "odd").returncode == 0
        got = {n: (r["cause"], r["reason"], r["initiator"]) for n in "abc" for r in [ended(crew, n)]}
    me = "uid %d " % (0 if runner.mode == "root" else os.stat(runner.home).st_uid)
    assert got["a"] == ("operator", "enough", "uid %d (crewd-python)" % os.getuid())
    assert got["b"] == ("orchestrator", "not needed", "uid %d (planner)" % os.getuid())
    assert got["c"][:2] == ("operator", "odd") and got["c"][2].startswith(me + "(crewctl")


def test_the_crew_is_stopped(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="time.sleep(600)")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        client.stop(reason="the day is over")
        assert running.proc.wait(60) == 0
    for name in "ab":
        end = ended(crew, name)
        assert end["cause"] == "supervisor shutdown" and end["reason"].endswith("the day is over")
        assert end["action"] == "fail_task" and not end["restartable"]


def test_a_broken_rule(runner):
    crew = HostileCrew(runner).agent("honest")
    crew.hostile("liar", "begin()\nfive(lambda: say('pong', at=1))\nstay()\n", restart={"max": 3, "within": "60s"})
    # The word of a worker about its own end: it may be a lie, but it must be one about itself, and be true soon.
    crew.hostile("twice", "begin()\nfive(lambda: say('agent_ended', end=1))\nstay()\n")
    crew.hostile("stays", "begin()\nsay('agent_ended', end=1, exit_code=0, detail='bye')\nstay()\n")
    crew.hostile("goes", "begin()\nsay('agent_ended', end=1, exit_code=7, detail='bye')\nos._exit(0)\n")
    with crew.start() as running:
        client = running.client()
        for name in ("liar", "twice", "stays", "goes"):
            begin(client, name)
        ends = {name: ended(crew, name) for name in ("liar", "twice", "stays", "goes")}
        eventually(lambda: state_of(client, "liar") == crewd.AgentState.FAILED)
    got = {name: (r["cause"], r["action"]) for name, r in ends.items()}
    assert got == {"liar": ("policy violation", "fail_task"), "twice": ("policy violation", "fail_task"),
                   "stays": ("crash", "fail_task"), "goes": ("exit", "fail_task")}
    assert ends["stays"]["reason"] == "the worker did not end with its program"
    assert (ends["goes"]["code"], ends["goes"]["reason"]) == (7, "bye")


def test_a_start_that_fails(runner):
    crew = rpc_crew(runner, "program", restart={"max": 1, "within": "60s"})
    crew.agents["program"]["command"] = ["${CREW_DIR}/rpc.py"]
    crew.files["program.yaml"] = crew.files["program.yaml"].replace("write: []", 'write: [], exec: ["${CREW_DIR}/rpc.py"]')
    crew.agent("view", restart={"max": 1, "within": "60s"})
    crew.files["data/x"] = "x"
    crew.files["view.yaml"] = crew.files["view.yaml"].replace("read: []", 'read: ["${CREW_DIR}/data/"]')
    with crew.start() as running:
        client = running.client()
        client.submit(agent="program", description="pass").result(60)  # it has been read
        (crew.top / "rpc.py").write_text("#!/no/such/interpreter\n")
        (crew.top / "data" / "x").unlink()
        (crew.top / "data").rmdir()
        for name in ("program", "view"):
            assert client.kill(name).terminated.restartable
        for name in ("program", "view"):
            eventually(lambda: state_of(client, name) == crewd.AgentState.FAILED)
        ends = {n: crew.records(n, "agent.terminated") for n in ("program", "view")}
    assert {n: [(e["cause"], e["action"]) for e in es] for n, es in ends.items()} == dict.fromkeys(
        ends, [("operator", "reassign"), ("start failed", "give_up")])
    assert ends["program"][1]["reason"] == "cannot start: No such file or directory"
    assert "data" in ends["view"][1]["reason"]


MEMORY = "x = bytearray(300 << 20)\nx[::4096] = b'x' * len(x[::4096])\n"


def worker_of(client, agent):
    if os.geteuid() != 0:
        pytest.skip("a signal into the jail from outside needs CAP_KILL")
    return agent_status(client, agent).pid


def killed_for_memory(crew, client, agent):
    """It has been counted; looked for, not waited for: only who has a task is looked at each second."""
    def counted():
        client.status()
        return [r for r in crew.records(agent, "limit.hit") if r["limit"] == "memory"]
    eventually(counted, timeout=60, every=0.1)


def test_a_kill_for_memory_is_counted_long_before_its_end_is_told(runner):
    crew = rpc_crew(runner, "a")
    with crew.start() as running:
        client = running.client()
        worker = worker_of(client, "a")
        client.submit(agent="a", description="open(os.environ['CREW_STATE'] + '/up', 'w').close()\n" + UNTIL_GO + MEMORY)
        eventually((state_dir(crew, "a") / "up").exists)
        os.kill(worker, signal.SIGSTOP)  # who alone can say what became of its program
        go(crew, "a")
        killed_for_memory(crew, client, "a")
        time.sleep(1.5)  # and counted is not looked at again: longer than from one look to the next
        client.status()
        os.kill(worker, signal.SIGCONT)
        end = ended(crew, "a")
    assert (end["cause"], end["limit"], end["signal"]) == ("out of memory", "memory", signal.SIGKILL), end


def test_a_child_killed_for_memory_is_not_what_its_parent_dies_of_later(runner):
    crew = rpc_crew(runner, "a").agent("b")
    with crew.start() as running:
        client = running.client()
        code = "import subprocess\nresult = subprocess.run(['python3', '-c', " + repr(MEMORY + "import time; time.sleep(600)") + "]).returncode"
        assert client.submit(agent="a", description=code).result(60) == -signal.SIGKILL
        killed_for_memory(crew, client, "a")
        time.sleep(1)  # what is younger is not asked for again
        client.status()
        client.kill("b")  # by the spawner, which looks first; the answer to the look comes before
        assert client.submit(agent="a", description="result = 1").result(60) == 1  # behind what its worker was asked then
        client.submit(agent="a", description="os.kill(os.getpid(), signal.SIGKILL)")
        end = ended(crew, "a")
    assert (end["cause"], end["signal"]) == ("crash", signal.SIGKILL), end


def test_a_worker_that_is_slow_to_end_ends_as_its_program_did(runner):
    """Longer than it is given: it is killed, and what it had said counts."""
    crew = rpc_crew(runner, "a")
    with crew.start() as running:
        client = running.client()
        worker = worker_of(client, "a")
        client.submit(agent="a", description="open(os.environ['CREW_STATE'] + '/up', 'w').close()\n" + UNTIL_GO + "os._exit(3)")
        eventually((state_dir(crew, "a") / "up").exists)
        spawner = int(re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{worker}/status").read_text(), re.M)[1])
        os.kill(spawner, signal.SIGSTOP)
        try:
            go(crew, "a")
            eventually(lambda: crew.records("a", "agent.kill"), timeout=60)
        finally:
            os.kill(spawner, signal.SIGCONT)
        end = ended(crew, "a")
    assert (end["cause"], end["code"]) == ("exit", 3), end


@pytest.mark.waits
def test_an_answer_in_time_counts_though_crewd_stood_still_beyond_it(runner):
    """Timers come before what can be read: the deadline is past when crewd goes on, and the result has been there before."""
    crew = rpc_crew(runner, "a")
    with crew.start() as running:
        client = running.client()
        up, said = (state_dir(crew, "a") / n for n in ("up", "said"))
        # Much that is to be read before the result.
        code = ("open(os.environ['CREW_STATE'] + '/up', 'w').close()\n" + UNTIL_GO +
                "for i in range(200): print('x' * 200, file=sys.stderr, flush=True)\n"
                "say(json.dumps({'jsonrpc': '2.0', 'id': m['id'], 'result': 'x' * 50000}) + '\\n')\n"
                "open(os.environ['CREW_STATE'] + '/said', 'w').close()\ntime.sleep(600)")
        task = client.submit(agent="a", description=code, timeout_ms=10000)
        over = time.monotonic() + 10.5
        eventually(up.exists)
        os.kill(running.proc.pid, signal.SIGSTOP)
        try:
            go(crew, "a")
            eventually(said.exists)
            time.sleep(max(0, over - time.monotonic()))
        finally:
            os.kill(running.proc.pid, signal.SIGCONT)
        done = task.wait(60)
        assert (done.outcome, len(done.result)) == (crewd.Outcome.OK, 50002), (done.outcome, done.error)


@pytest.mark.waits
@pytest.mark.parametrize("mode", modes()[:1])  # takes 20 s, and crewd's part is the same in both
def test_no_sign_of_life(runner):
    if os.geteuid() != 0:
        pytest.skip("a signal into the jail from outside needs CAP_KILL")
    crew = rpc_crew(runner, "a", "b")
    with crew.start() as running:
        client = running.client()
        os.kill(agent_status(client, "a").pid, signal.SIGSTOP)
        end = ended(crew, "a")
        assert state_of(client, "b") == crewd.AgentState.READY
    assert (end["cause"], end["reason"], end["initiator"]) == ("heartbeat lost", "no sign of life for 15 s", "crewd")
