#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How soon an agent's death is known: AgentTerminated at an attached client, at the crew's manager, at the hook's command
and at the webhook's receiver.  And how soon agents are dead when crewd is.

usage: bench_told.py [--build DIR] [--json FILE] [told | burst | lost]...

told    agents are killed from outside, behind crewd's back, one at a time.  A plain waiter on a pidfd of the jail's first
        process says when an agent is dead; what passes from then on until the client has the event, the manager's program
        the notification, the hook's program its first instruction and the webhook's receiver the whole request, all of
        them attached at once, is measured in the same run on one clock                      p99 at most 10 ms each
        Printed beside it (bare): as many processes in as many namespaces killed, reaped, and the same hook forked and
        executed for each, by a plain program in the same run; it says what the machine has left for it
burst   the same with 16 agents killed at the same moment, all of which are started again    p99 at most 10 ms each
        With 64, against the bare program that also puts each death on disk before it starts the hook, in the three places
        where crewd does: that alone takes longer than 10 ms on two cores                    p99 at most 3x
lost    crewd is killed under agents that work, and waiters on their pidfds say when the last one is dead: at most 5 ms for
        two of them, and for many at most 1.3x what it takes when each jail is killed directly.
"""

import json
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
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
BURSTS = {16: 20, 64: 6}  # agents: how often
MANY_TARGET = 3.0
BETWEEN = 1.2  # so that each restart is a first one, with the shortest back-off
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


def crew(top, n=AGENTS, extra=""):
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
    (d / "crew.yaml").write_text("crew: told\nprocess: hierarchical\nmanager: {agent: boss}\npolicies: .\n" + extra
                                 + "agents: " + json.dumps(agents) + '\ntasks: {report: {agent: boss, description: all}}\n')
    return d / "crew.yaml"


class Outside:
    """The hook and the webhook: each notes in a file what it is told of, and when."""

    def __init__(self, b):
        self.program = b.build / "bench/bench-told"
        self.files = {"the hook": b.top / "hook.told", "the webhook": b.top / "webhook.told"}
        key = b.top / "hook.key"
        for f in (key, *self.files.values()):
            f.write_text("0123456789abcdef\n" if f == key else "")
            f.chmod(0o600)
        self.receiver = subprocess.Popen([self.program, "receive", self.files["the webhook"]], stdout=subprocess.PIPE, text=True)
        self.hooks = "hooks: " + json.dumps({"on_agent_terminated": {
            "command": [str(self.program), "hook", str(self.files["the hook"])],
            "webhook": {"url": f"http://127.0.0.1:{int(self.receiver.stdout.readline())}/", "secret_file": str(key)}}}) + "\n"

    def told(self, who, n):
        """{id: when} of the first n, each as often as it was told."""
        for _ in range(500):
            lines = self.files[who].read_text().splitlines()
            if len(lines) >= n:
                return dict(map(int, line.split()) for line in lines)
            time.sleep(0.02)
        raise SystemExit(f"{who} was told of {len(lines)} deaths of {n}")

    def close(self):
        self.receiver.kill()
        self.receiver.wait()
        self.receiver.stdout.close()


class Watcher:
    """A connection that is read by whoever waits for it: no thread between the socket and the clock, and what is in a frame
    is looked at when nobody waits."""

    def __init__(self, path):
        self.wire, self.seq, self.pids, self.frames = Wire.connect(path), 0, {}, []
        self.send("client_hello", codec.Message("ClientHello", protocol=1, client="bench"))
        self.send("subscribe", codec.Message("Subscribe"))

    def send(self, body, message):
        self.seq += 1
        self.wire.send(codec.encode_envelope(self.seq, body, message))

    def take(self):
        """Waits for one frame; how many terminations there may be among those taken."""
        frame = self.wire.recv()
        self.frames.append((time.monotonic_ns(), frame))
        return sum(b"terminated" in f for _, f in self.frames) if b"terminated" in frame else 0

    def look(self):
        """{agent: (id, when)} of the terminations in what was taken."""
        ends = {}
        for when, frame in self.frames:
            _, body, message = codec.decode_envelope(frame)
            if body == "event" and message.kind == "agent-state" and message.agent.state == crewd.AgentState.READY:
                self.pids[message.agent.name] = message.agent.pid
            if body == "event" and message.kind == "terminated":
                ends[message.terminated.agent] = message.terminated.id, when
        self.frames = []
        return ends

    def await_ready(self, names):
        while not all(n in self.pids for n in names):
            self.take()
            self.look()


def kill_at_once(w, program, names):
    """{id: (when it was dead, when the client knew)}, monotonic nanoseconds."""
    pids, ends = {w.pids.pop(n): n for n in names}, {}
    killer = subprocess.Popen([program, "kill", *map(str, pids)], stdout=subprocess.PIPE, text=True)
    while len(ends) < len(names):
        while w.take() < len(names) - len(ends):
            pass
        ends |= w.look()
    dead = {pids[int(pid)]: int(ns) for pid, ns in map(str.split, killer.communicate()[0].splitlines())}
    return {ident: (dead[name], when) for name, (ident, when) in ends.items()}


def deaths_of(b, agents, times, pause):
    """{who is told: microseconds from each death until then}; so many agents at a time, one after the other."""
    outside, deaths = Outside(b), {}
    b.crewctl("up", "--detach", crew(b.top, max(AGENTS, agents), outside.hooks))
    path = str(b.top / "home/run/told/control.sock")
    with crewd.Client(path=path) as client:
        w = Watcher(path)
        w.pids = {a.name: a.pid for a in client.status().agents}
        for i in range(times):
            names = [f"a{(i * agents + k) % max(AGENTS, agents)}" for k in range(agents)]
            w.await_ready(names)
            time.sleep(pause)
            deaths |= kill_at_once(w, outside.program, names)
        told = {"a client": {ident: known for ident, (_, known) in deaths.items()},
                "the manager": dict(map(tuple, client.submit("report").result(30))),
                **{who: outside.told(who, len(deaths)) for who in outside.files}}
    b.crewctl("down", "--grace", "1s")
    outside.close()
    return {who: [max(when[ident] - dead, 0) / 1000 for ident, (dead, _) in deaths.items()] for who, when in told.items()}


def bare(b, agents, *where):
    """The same for a program that does nothing but reap, put it on disk where that is said, and start the hook."""
    notes = b.top / "bare.told"
    notes.unlink(missing_ok=True)
    r = subprocess.run([b.build / "bench/bench-told", "bare", str(agents), notes, *where], capture_output=True, text=True, check=True)
    told = dict(map(int, line.split()) for line in notes.read_text().splitlines())
    return [max(told[pid] - dead, 0) / 1000 for pid, dead in (map(int, line.split()) for line in r.stdout.splitlines())]


def p99(times):
    return statistics.quantiles(times, n=100)[98]


def rows_of(what, told, against, theirs, target, least):
    return [row(f"{what} -> told: {who}, p99 (us)", p99(times), against, theirs, target, p50=round(statistics.median(times), 1),
                bare=round(p99(least), 1)) for who, times in told.items()]


def bench_told(b):
    least = [t for _ in range(DEATHS) for t in bare(b, 1)]
    return rows_of("death", deaths_of(b, 1, DEATHS, PAUSE), "limit", LIMIT_US, 1.0, least)


def bench_burst(b):
    rows = []
    disk = b.top / "bare"
    disk.mkdir()
    for agents, times in BURSTS.items():
        least = [t for _ in range(times) for t in bare(b, agents)]
        durable = [t for _ in range(times) for t in bare(b, agents, disk)]
        limit = ("limit", LIMIT_US, 1.0) if agents == AGENTS else ("bare, and on disk before", p99(durable), MANY_TARGET)
        rows += rows_of(f"{agents} deaths at once", deaths_of(b, agents, times, BETWEEN), *limit, least)
    return rows


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
    main(Bench, {"told": bench_told, "burst": bench_burst, "lost": bench_lost})
