#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How soon an agent's death is known: AgentTerminated at an attached client and at the crew's manager.  And how soon agents
are dead when crewd is.

usage: bench_told.py [--build DIR] [--json FILE] [told | lost]...

Agents are killed from outside, behind crewd's back.  A plain waiter on a pidfd of the jail's first process says when an
agent is dead; what passes from then on until the client has the event, and the manager's program the notification, is
measured in the same run on one clock.                                                    p99 at most 10 ms each
crewd is killed under agents that work, and waiters on their pidfds say when the last one is dead: at most 5 ms for two of
them, and for many at most 1.3x what it takes when each jail is killed directly.
"""

import json
import os
import select
import signal
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(SOURCE / "sdk/python"), str(SOURCE / "bench")]

import crewd  # noqa: E402
from bench_crew import Bench  # noqa: E402
from benchlib import main, row  # noqa: E402
from crewd import codec  # noqa: E402
from crewd.wire import Wire  # noqa: E402

AGENTS, DEATHS, PAUSE = 16, 300, 0.02
LIMIT_US = 10000
LOSSES, LOSS_LIMIT_US = 10, 5000
POLICY = """agent: "{name}"
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: []}}
  network: {{deny_all: true}}
  ipc: {{allowed_targets: [{targets}]}}
  tools: {{denied: ["*"]}}
"""
# Notes when it is told; its task gives all of it.
BOSS = """import json, sys, time
told = []
for line in sys.stdin:
    now, m = time.monotonic_ns(), json.loads(line)
    if m["method"] == "agent.terminated":
        told.append([m["params"]["id"], now])
    elif m["method"] == "task":
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": told}), flush=True)
"""


def crew(top, n=AGENTS):
    d = top / "told"
    d.mkdir(exist_ok=True)
    names = [f"a{i}" for i in range(n)]
    for name in ["boss", *names]:
        (d / f"{name}.yaml").write_text(POLICY.format(name=name, targets=", ".join(names if name == "boss" else [])))
    (d / "boss.py").write_text(BOSS)
    (d / "agent.py").write_text("import sys, time\nsys.stdin.read()\ntime.sleep(600)\n")
    agents = {n: {"policy": f"{n}.yaml", "command": ["python3", "${CREW_DIR}/agent.py"], "driver": "exec-json",
                  "restart": {"max": 64, "within": "1s"}} for n in names}
    agents["boss"] = {"policy": "boss.yaml", "command": ["python3", "${CREW_DIR}/boss.py"], "driver": "stdio-rpc"}
    (d / "crew.yaml").write_text("crew: told\nprocess: hierarchical\nmanager: {agent: boss}\npolicies: .\n"
                                 + "agents: " + json.dumps(agents) + '\ntasks: {report: {agent: boss, description: all}}\n')
    return d / "crew.yaml"


class Watcher:
    """A connection that is read by whoever waits for it: no thread between the socket and the clock."""

    def __init__(self, path):
        self.wire, self.seq, self.pids = Wire.connect(path), 0, {}
        self.send("client_hello", codec.Message("ClientHello", protocol=1, client="bench"))
        self.send("subscribe", codec.Message("Subscribe"))

    def send(self, body, message):
        self.seq += 1
        self.wire.send(codec.encode_envelope(self.seq, body, message))

    def take(self):
        """The terminations in what has come; waits for at least one frame."""
        ends, more = [], True
        while more:
            _, body, message = codec.decode_envelope(self.wire.recv())
            if body == "event" and message.kind == "agent-state" and message.agent.state == crewd.AgentState.READY:
                self.pids[message.agent.name] = message.agent.pid
            if body == "event" and message.kind == "terminated":
                ends.append(message.terminated)
            more = self.wire.pending
        return ends


def one_death(w, name, pid):
    """(id, when it was dead, when the client knew), monotonic nanoseconds."""
    fd = os.pidfd_open(pid)
    poll, dead, known, ident = select.poll(), 0, 0, 0
    poll.register(fd, select.POLLIN)
    poll.register(w.wire.fileno(), select.POLLIN)
    w.pids.pop(name, None)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    while not (dead and known):
        ready = [f for f, _ in poll.poll(10000)]
        now = time.monotonic_ns()
        if not ready:
            raise SystemExit(f"nothing was heard of the death of {name}")
        if fd in ready:
            dead = now
            poll.unregister(fd)
        if w.wire.fileno() in ready:
            for t in w.take():
                if t.agent == name:
                    known, ident = now, t.id
    os.close(fd)
    return ident, dead, known


def measure(b):
    b.crewctl("up", "--detach", crew(b.top))
    path = str(b.top / "home/run/told/control.sock")
    with crewd.Client(path=path) as client:
        w = Watcher(path)
        w.pids = {a.name: a.pid for a in client.status().agents}
        deaths = []
        for i in range(DEATHS):
            name = f"a{i % AGENTS}"
            while name not in w.pids:
                w.take()
            deaths.append(one_death(w, name, w.pids[name]))
            time.sleep(PAUSE)
        told = dict(map(tuple, client.submit("report").result(30)))
    b.crewctl("down", "--grace", "1s")
    return ([max(known - dead, 0) / 1000 for _, dead, known in deaths],
            [max(told[ident] - dead, 0) / 1000 for ident, dead, _ in deaths])


def bench_told(b):
    return [row(f"death -> AgentTerminated at {who}, p99 (us)", statistics.quantiles(times, n=100)[98], "limit", LIMIT_US, 1.0,
                p50=round(statistics.median(times), 1))
            for who, times in zip(("a client", "the manager"), measure(b))]


def crewd_of(path):
    """Who listens there."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        return os.pidfd_open(struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def one_loss(b, file, agents, directly):
    """From the SIGKILL until the last of the agents, all of which work, is dead; microseconds."""
    path = str(b.top / "home/run/told/control.sock")
    b.crewctl("up", "--detach", file)
    with crewd.Client(path=path) as client:
        for i in range(agents):
            client.submit(agent=f"a{i}", description="")
        while sum(a.state == crewd.AgentState.WORKING for a in client.status().agents) < agents:
            time.sleep(PAUSE)
        jails, supervisor = [os.pidfd_open(a.pid) for a in client.status().agents], crewd_of(path)
    time.sleep(PAUSE)
    poll, left = select.poll(), len(jails)
    for fd in jails:
        poll.register(fd, select.POLLIN)
    began = time.monotonic_ns()
    for fd in jails if directly else [supervisor]:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    while left:
        for fd, _ in poll.poll(10000) or sys.exit("an agent outlives crewd"):
            poll.unregister(fd)
            left -= 1
    took = (time.monotonic_ns() - began) / 1000
    for fd in [*jails, supervisor]:
        os.close(fd)
    if directly:
        b.crewctl("down", "--grace", "0s")
    return took


def bench_lost(b):
    one, few, many = [], [], []
    for _ in range(LOSSES):
        one.append(one_loss(b, crew(b.top, 1), 1, False))
        few.append(one_loss(b, crew(b.top), AGENTS, True))
        many.append(one_loss(b, crew(b.top), AGENTS, False))
    return [row("crewd killed -> its agents dead, 2 of them, p50 (us)", statistics.median(one), "limit", LOSS_LIMIT_US, 1.0),
            row(f"the same, {AGENTS + 1} of them, p50 (us)", statistics.median(many), "SIGKILL to each jail",
                statistics.median(few), 1.3)]


if __name__ == "__main__":
    main(Bench, {"told": bench_told, "lost": bench_lost})
