# SPDX-License-Identifier: Apache-2.0
"""Crews made up for one test: files, a running crewd, and what it leaves on the host."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import crewd

ROLE = """agent: {name}
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: []}}
  network: {{deny_all: true}}
  ipc: {{allowed_targets: [{targets}]}}
  tools: {{allowed: [{tools}], denied: ["*"]}}
  limits: {{memory: 256MiB, processes: 128, wall_time: 60s{limits}}}
"""

# An agent that does what its task's description says: Python, with task, context and call() at hand.
AGENT = """#!/usr/bin/python3
import json, os, subprocess, sys, time, signal
doc = json.load(sys.stdin)
task, context, payload = doc.get("task"), doc.get("context", {}), doc.get("payload")
def call(*args, stdin=None):
    r = subprocess.run(["crew-call", *args], input=json.dumps(stdin) if stdin is not None else "", text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return r.returncode, json.loads(r.stdout) if r.stdout.strip() else None
def out(value):
    json.dump(value, sys.stdout)
    sys.stdout.flush()
exec(doc.get("description") or "out({'asked': payload})")
"""


class Crew:
    """Files of a crew below a fresh directory of the runner's user."""

    def __init__(self, runner, name="t"):
        self.runner, self.name = runner, name
        self.agents, self.tasks, self.tools, self.files, self.extra = {}, {}, {}, {}, ""
        self.process = "sequential"
        self.top = None

    def agent(self, name, targets=(), tools=(), limits="", **keys):
        keys.setdefault("command", ["python3", "${CREW_DIR}/agent.py"])
        self.agents[name] = keys
        self.files[f"{name}.yaml"] = ROLE.format(name=name, targets=", ".join(targets), tools=", ".join(tools),
                                                 limits=limits and ", " + limits)
        return self

    def task(self, name, agent, code="out({'ok': True})", **keys):
        self.tasks[name] = {"agent": agent, "description": code, **keys}
        return self

    def tool(self, name, script, **keys):
        self.files[f"tools/{name}"] = script
        self.tools[name] = {"description": name, "command": ["${CREW_DIR}/tools/" + name], **keys}
        return self

    def write(self):
        lines = [f"crew: {self.name}", f"process: {self.process}", "policies: ."]
        for section, items in (("tools", self.tools), ("tasks", self.tasks)):
            if items:
                lines.append(f"{section}:")
                lines += [f"  {k}: {json.dumps(v)}" for k, v in items.items()]
        lines.append("agents:")
        lines += [f"  {k}: {json.dumps({'policy': k + '.yaml', **v})}" for k, v in self.agents.items()]
        self.files["crew.yaml"] = "\n".join(lines) + "\n" + self.extra
        self.files.setdefault("agent.py", AGENT)
        self.top = self.runner.tree(self.files)
        return self.top / "crew.yaml"

    @property
    def run_dir(self):
        return self.runner.home / "run" / self.name

    def records(self, agent, kind=None):
        return [r for r in self.runner.records(self.name, agent) if kind is None or r["kind"] == kind]

    def start(self, wait=True):
        return Running(self, wait)


class Running:
    """A crewd of its own, with ready and owner pipes as crewctl gives it."""

    def __init__(self, crew, wait=True):
        self.crew = crew
        path = crew.top / "crew.yaml" if crew.top else crew.write()
        ready_r, ready_w = os.pipe()
        self.log_path = crew.runner.home / f"crewd-{time.monotonic_ns()}.log"
        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen(
                crew.runner.argv(crew.runner.program("crewd"), "--ready-fd", ready_w, path), env=crew.runner.env(),
                cwd=crew.top, pass_fds=(ready_w,), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(ready_w)
        crew.runner.children.append(self.proc)
        self.clients = []
        self.said = ""
        with os.fdopen(ready_r) as f:
            if wait:
                self.said = f.read()
                assert self.said == "ready\n", self.said + self.log()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def client(self, **kw):
        c = crewd.Client(path=str(self.crew.run_dir / "control.sock"), **kw)
        self.clients.append(c)
        return c

    def client_soon(self):
        """A client of one that is still starting: its socket has a name before it listens."""
        def connected():
            with contextlib.suppress(crewd.ConnectError):
                return self.client()
        return eventually(connected)

    def stop(self, sig=signal.SIGTERM, timeout=60):
        for c in self.clients:
            with contextlib.suppress(Exception):
                c.close()
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
        try:
            return self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"crewd does not end:\n{where(self.proc.pid)}\n{self.log()[-4000:]}") from None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            self.stop()
        finally:
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.wait()


def where(pid):
    """What a process and its children are doing, for the text of a failed assertion."""
    lines = []
    for p in [pid, *outside(pid)]:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{p}/task"):
                at = Path(f"/proc/{p}/task/{task}")
                lines.append(" ".join([f"{p}/{task}", *(
                    (at / name).read_text(errors="replace").strip().replace("\0", " ") for name in ("comm", "wchan", "syscall"))]))
    return "\n".join(lines)


def eventually(check, timeout=30, every=0.02):
    """check() until it gives something true, asked once more when the time is over; that, or a failed assertion."""
    end = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= end
        got = check()
        if got:
            return got
        assert not late, f"did not come true within {timeout} s: {check}"
        time.sleep(every)


# In an agent's program: nothing until the test says go().  On a busy machine no number of seconds is "still at work".
UNTIL_GO = "while not os.path.exists(os.environ['CREW_STATE'] + '/go'): time.sleep(0.02)\n"


def state_dir(crew, agent):
    return crew.runner.home / "lib" / crew.name / "state" / agent


def go(crew, agent):
    (state_dir(crew, agent) / "go").touch()


def state_of(client, agent):
    return next(a for a in client.status().agents if a.name == agent).state


def agent_status(client, agent):
    return next(a for a in client.status().agents if a.name == agent)


def done_task(done, name):
    return next(t for t in done.tasks if t.name == name)


def outside(pid):
    """The process and everything below it, as the host sees it: {pid: comm}."""
    children = {}
    for p in Path("/proc").glob("[0-9]*"):  # not "*/stat": glob() itself would fail on a process that just went
        try:
            text = (p / "stat").read_text(errors="replace")  # a name is any bytes
        except OSError:
            continue
        m = re.match(r"(\d+) \((.*)\) \S (\d+)", text, re.S)
        children.setdefault(int(m[3]), []).append((int(m[1]), m[2]))
    found, todo = {}, [pid]
    while todo:
        for child, comm in children.get(todo.pop(), []):
            found[child] = comm
            todo.append(child)
    return found


def gateway_of(running):
    """The child of the launcher; None while there is none."""
    launcher = [p for p, comm in outside(running.proc.pid).items() if comm == "crewd-launcher"]
    pids = [p for p, comm in outside(launcher[0]).items() if comm == "crew-gateway"] if len(launcher) == 1 else []
    return pids[0] if pids else None


def walls_are_up(client):
    """Agents can be ready before the gateway is."""
    eventually(lambda: all("gateway" not in a.walls for a in client.status().agents))


def alive(pids):
    live = []
    for pid in pids:
        try:
            state = re.search(r"^State:\s+(\S)", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.M)[1]
        except (OSError, TypeError):
            continue
        if state != "Z":
            live.append(pid)
    return live


def cgroups_named(part):
    """Others come and go while one looks: os.walk() takes that as it is."""
    return [os.path.join(at, d) for at, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs
            if "crewd" in d and part in os.path.join(at, d)]
