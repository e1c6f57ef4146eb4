# SPDX-License-Identifier: Apache-2.0
"""One short life of a crew (start, a task that calls a tool, a kill, a stop) with one call of crewd failing on the way."""

import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import crewd
from crewlib import alive, outside

PR_SET_CHILD_SUBREAPER = 36
SLOW = int(os.environ.get("CREWD_TEST_SLOW", "1"))  # as many times slower than most is this machine
STARTS_S, STEP_S, ENDS_S = 22 * SLOW, 8 * SLOW, 14 * SLOW  # longer than crewd's own time-outs, so that what is hit is a hang

ROLE = """agent: {name}
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: []}}
  network: {{deny_all: true}}
  tools: {{allowed: [echo], denied: ["*"]}}
"""
CREW = """crew: t
policies: .
tools:
  echo: {command: ["${CREW_DIR}/echo.sh"], input: any.json, output: any.json}
agents:
  a: {policy: a.yaml, command: [sh, "${CREW_DIR}/agent.sh"]}
  b: {policy: b.yaml, command: [sh, "${CREW_DIR}/agent.sh"]}
tasks:
  one: {agent: a, output: any.json, timeout: 2s}
hooks:
  on_agent_terminated: {command: ["${CREW_DIR}/hook.sh"]}
"""
FILES = {
    "crew.yaml": CREW.replace("2s", f"{2 * SLOW}s"),
    "a.yaml": ROLE.format(name="a"),
    "b.yaml": ROLE.format(name="b"),
    "any.json": '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}',
    "agent.sh": "#!/bin/sh\ncat >/dev/null\necho '{\"n\": 7}' | crew-call tool echo\n",
    "echo.sh": "#!/bin/sh\ncat\n",
    "hook.sh": "#!/bin/sh\ncat >/dev/null\n",
}


def become_subreaper():
    """Whatever outlives crewd becomes our child, however it was started."""
    assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Outcome:
    """What was seen of one run."""

    def __init__(self):
        self.status = None  # of crewd, as subprocess gives it
        self.ready = ""
        self.steps = {}  # name -> True, or the error it ended with
        self.fault = self.log = ""
        self.count = 0  # calls made, in the program that was looked at
        self.left = {}  # processes that outlived crewd
        self.seconds = 0.0

    @property
    def fired(self):
        return self.fault.startswith("failed")

    @property
    def whole(self):
        return self.status == 0 and len(self.steps) == 4 and all(v is True for v in self.steps.values())

    @property
    def said(self):
        """Everything an operator or a client was told of a fault."""
        texts = [v for v in self.steps.values() if v is not True]
        texts += [line for line in self.log.splitlines() if not line.startswith("crewd: stopping:")]
        return "\n".join(texts + ([self.ready] if self.ready.startswith("error: ") else []))

    def __repr__(self):
        return (f"{self.fault.strip()} -> status {self.status}, {self.seconds:.2f} s, steps {self.steps}, "
                f"ready {self.ready!r}, left {self.left}\n{self.log}")


class FaultRun:
    def __init__(self, runner, library):
        self.runner, self.library = runner, library
        self.top = runner.tree(FILES)
        self.fault_log = self.top / "fault.log"
        self.base = runner.home
        self.n = 0

    def run(self, call, nth, program="crewd", forever=False, own=False):
        out = Outcome()
        self.n += 1
        self.fault_log.write_text("")
        os.chmod(self.fault_log, 0o666)
        env = {"LD_PRELOAD": str(self.library), "CREWD_FAULT_PROGRAM": program, "CREWD_FAULT_CALL": call, "CREWD_FAULT_NTH": str(nth),
               "CREWD_FAULT_LOG": str(self.fault_log)}
        if forever:
            env["CREWD_FAULT_FOREVER"] = "1"
        if own:
            env["CREWD_FAULT_OWN"] = "1"
        begin = time.monotonic()
        with open(self.top / "log", "wb+") as log:
            self._live(out, env, log)
            log.seek(0)
            out.log = log.read().decode(errors="replace")
        out.seconds = time.monotonic() - begin
        for line in self.fault_log.read_text().splitlines():
            word, number = line.split()[:2]
            if word == "failed":
                out.fault = f"{line} ({program} {call}{' and on' if forever else ''})"
            else:
                out.count = max(out.count, int(number))
        return out

    def _live(self, out, env, log):
        ready_r, ready_w = os.pipe()
        proc = subprocess.Popen(
            self.runner.argv(self.runner.program("crewd"), "--ready-fd", ready_w, self.top / "crew.yaml"),
            env=self.runner.env(env), cwd=self.top, pass_fds=(ready_w,), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(ready_w)
        try:
            out.ready = read_line(ready_r, STARTS_S)
            if out.ready == "ready\n":
                self._use(out)
            if out.steps.get("stop") is not True and out.ready == "ready\n":
                proc.terminate()
            try:
                out.status = proc.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                out.status = "hangs"
        finally:
            os.close(ready_r)
            if proc.poll() is None:
                proc.kill()
                proc.wait()
        out.left = self._left()

    def _use(self, out):
        def step(name, act):
            try:
                out.steps[name] = act() or True
            except (crewd.CrewdError, OSError) as e:
                out.steps[name] = f"{type(e).__name__}: {e}"

        client = []
        step("connect", lambda: client.append(
            crewd.Client(path=str(self.base / "run" / "t" / "control.sock"), timeout=STEP_S)))
        if not client:
            # A second try must do: what failed was one call.
            step("connect-again", lambda: client.append(
                crewd.Client(path=str(self.base / "run" / "t" / "control.sock"), timeout=STEP_S)))
        if not client:
            return
        step("task", lambda: expect(client[0].run(timeout=STEP_S)))
        step("kill", lambda: expect_killed(client[0].kill("b", "test")))
        step("stop", lambda: client[0].stop(grace_ms=500) and None)
        client[0].close()

    def _left(self):
        """Our children that are not ours, after a moment for the kernel to take the jails down."""
        end = time.monotonic() + 3
        while True:
            for pid in outside(os.getpid()):
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            found = {p: c for p, c in outside(os.getpid()).items() if alive([p])}
            if not found or time.monotonic() > end:
                for pid in found:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                return found
            time.sleep(0.005)


def expect(done):
    """A run's end: None when right, else what was said instead."""
    if done.tasks_ok == 1:
        return None
    return "; ".join(f"task {t.name}: {t.error}" for t in done.tasks) or "the task failed"


def expect_killed(killed):
    return None if killed.terminated.agent == "b" else "killed another"


def read_line(fd, timeout):
    import select
    text = b""
    end = time.monotonic() + timeout
    while not text.endswith(b"\n"):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            return text.decode() + "(nothing more)"
        chunk = os.read(fd, 4096)
        if not chunk:
            break
        text += chunk
    return text.decode()
