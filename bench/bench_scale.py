#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of many agents, many messages and many tasks, each against a yardstick in the same run.

usage: bench_scale.py [--build DIR] [--json FILE] [agents] [messages] [tasks] [hold]

agents    1,000 agents of one crew: starts per second from the first to the last READY, by crewd's own
          records, against the bare recipe in C looped                                           at least 0.5x
          crewd's use of one CPU while they idle                                                 at most 1 %
messages  64 agents that send 200 messages a second each: p99 from when a message was due until
          its receiver has it, against one such pair in the same crew while the others idle      at most 5x
          sent as notifications; printed beside it: the same with an answer for each, and the same through
          a bare relay in C, whose own tail is the machine's
tasks     tasks that do nothing, a process each, per second, one agent, against fork and exec
          of the same program                                                                    at least 0.3x
hold      the same tasks in a crew with on_supervisor_loss: hold, one at a time and with 64 that
          wait, against one without                                                              at least 0.5x

The two ways take turns, so that noise of the machine meets both.
"""

import collections
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_crew import Bench
from benchlib import SOURCE, main, row

sys.path.insert(0, str(SOURCE / "sdk/python"))
import crewd  # noqa: E402

AGENTS, TALKERS, RATE, SECONDS, TASKS = 1000, 64, 200, 4, 400
POLICY = """agent: "{name}"
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: [], exec: ["{bin}/"]}}
  network: {{deny_all: true}}
  ipc: {{allowed_targets: [{targets}]}}
  tools: {{denied: ["*"]}}
  limits: {{processes: 64, memory: 256MiB}}
"""


def say(text):
    print(f"  {text}", file=sys.stderr)


class Crew:
    """A crew of agents a0 to an that all run one program of the bench; up for as long as the block lasts."""

    def __init__(self, b, name, n, program, targets=lambda i: "", driver="exec-json", extra=""):
        self.b, self.name = b, name
        top = b.top / name
        top.mkdir()
        where = b.add_program(program)
        for i in range(n):
            (top / f"a{i}.yaml").write_text(POLICY.format(name=f"a{i}", bin=where.parent, targets=targets(i)))
        agents = "".join(f'  a{i}: {{policy: a{i}.yaml, role: r, goal: g, command: ["{where}"], driver: {driver}}}\n' for i in range(n))
        self.file = top / "crew.yaml"
        self.file.write_text(f"crew: {name}\nprocess: sequential\npolicies: .\n{extra}agents:\n{agents}")

    def __enter__(self):
        self.b.crewctl("up", "--detach", self.file, timeout=140)
        return self

    def __exit__(self, *exc):
        self.b.crewctl("down", "--grace", "1s", check=False, timeout=60)

    def client(self):
        return crewd.Client(path=str(self.b.top / "home/run" / self.name / "control.sock"))

    def pid(self):
        return int((self.b.top / "home/run" / self.name / "pid").read_text().split()[0])


def cpu_ns(pid):
    """What every thread of a process has used."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir())


def started(b, crew):
    """Seconds from the first record of a start to the last that says ready."""
    times = {"agent.policy": [], "agent.ready": []}
    for log in (b.top / "home/lib" / crew.name / "audit").glob("*/log.jsonl"):
        for line in log.read_text().split("\n")[:-1]:
            record = json.loads(line)
            if record["kind"] in times:
                times[record["kind"]].append(record["t"])
    return (max(times["agent.ready"]) - min(times["agent.policy"])) / 1e9


def bench_agents(b, n=AGENTS, idle=10):
    def recipe():
        r = subprocess.run([b.build / "bench/bench-recipe", str(n // 2)], capture_output=True, text=True, check=True)
        return json.loads(r.stdout)["per_s"]

    crew = Crew(b, "many", n, "bench-noop")
    bare = [recipe()]
    start = time.monotonic()
    with crew:
        took = time.monotonic() - start
        time.sleep(3)
        rate = n / started(b, crew)
        pid = crew.pid()
        before, since = cpu_ns(pid), time.monotonic()
        time.sleep(idle)
        used = (cpu_ns(pid) - before) / 1e9 / (time.monotonic() - since) * 100
        start = time.monotonic()
        b.crewctl("status", "--json")
        status = time.monotonic() - start
        start = time.monotonic()
    down = time.monotonic() - start
    bare.append(recipe())
    say(f"{n} agents: crewctl up, with {n} policies to load, {took:.2f} s, status {status * 1000:.0f} ms, down {down:.2f} s")
    return [row(f"{n} agents, started per second", rate, "bare recipe in C", statistics.mean(bare), 0.5, at_least=True),
            row(f"crewd while {n} agents idle (% CPU)", used, "limit", 1.0, 1.0)]


def talk(client, senders, n, how="untold"):
    """Runs one round; every latency of every message.  A message that is lost or refused ends the bench."""
    begin = time.monotonic_ns() + 1_000_000_000  # by then every task has started
    tasks = []
    for i in range(n):
        rate = RATE if i < senders else 0
        expect = RATE * SECONDS if (i - 1) % n < senders else 0
        if rate or expect:
            tasks.append(client.submit(agent=f"a{i}", description=f"a{(i + 1) % n} {rate} {SECONDS} {expect} {begin + i * 1_000_000_000 // RATE // n} {how}"))
    results = [t.result(timeout=60) for t in tasks]
    sent, got = sum(r["sent"] for r in results), sum(r["received"] for r in results)
    if sent != senders * RATE * SECONDS or got != sent or any(r["refused"] for r in results):
        raise SystemExit(f"messages: {sent} sent, {sum(r['refused'] for r in results)} refused, {got} received")
    return sorted(us for r in results for us in r["us"])


def at(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def relay(b, senders, n):
    r = subprocess.run([b.build / "bench/bench-relay", *map(str, (n, senders, RATE, SECONDS))], stdout=subprocess.PIPE, check=True)
    got = json.loads(r.stdout)
    if got["n"] != senders * RATE * SECONDS:
        raise SystemExit(f"bare relay: {got['n']} received")
    return got["p99"]


def bench_messages(b, rounds=7, told_rounds=3, n=TALKERS):
    """Many rounds: of one pair's 800 messages eight are beyond the 99th percentile, and one pause of the host is as many."""
    latencies = {(senders, how): [] for how in ("untold", "told") for senders in (1, n)}
    bare = {1: [], n: []}
    with Crew(b, "talkers", n, "bench-talk", lambda i: f"a{(i + 1) % n}", "stdio-rpc") as crew, crew.client() as client:
        for i in range(rounds):
            for (senders, how), rounds_of in latencies.items():
                if how == "untold" or i < told_rounds:
                    rounds_of.append(talk(client, senders, n, how))
            for senders, rounds_of in bare.items():
                rounds_of.append(relay(b, senders, n))
    for (senders, how), values in latencies.items():
        p50, p99, p999 = (statistics.median(at(v, part) for v in values) for part in (0.5, 0.99, 0.999))
        say(f"{'one pair' if senders == 1 else f'{n} agents'}{', each answered' if how == 'told' else ''}: "
            f"us p50 {p50:.0f}, p99 {p99:.0f}, p99.9 {p999:.0f}, worst {max(v[-1] for v in values)}")
    bare_idle, bare_busy = (statistics.median(bare[senders]) for senders in (1, n))
    say(f"bare relay in C: us p99 one pair {bare_idle:.0f}, {n} agents {bare_busy:.0f}, {bare_busy / bare_idle:.2f}x")
    busy, idle = (statistics.median(at(v, 0.99) for v in latencies[senders, "untold"]) for senders in (n, 1))
    return [row(f"{n} agents x {RATE} messages/s, p99 (us)", busy, "one pair", idle, 5.0)]


def run_tasks(client, n, waiting=64):
    """n tasks for one agent, which never has to wait for the next."""
    tasks = collections.deque()
    for i in range(n):
        tasks.append(client.submit(agent="a0"))
        if len(tasks) > waiting:
            tasks.popleft().result(timeout=30)
    for t in tasks:
        t.result(timeout=30)


def bench_tasks(b, rounds=5, n=TASKS):
    ours, bare = [], []
    with Crew(b, "tasks", 1, "bench-noop") as crew, crew.client() as client:
        noop = b.add_program("bench-noop")
        client.submit(agent="a0").result(timeout=10)
        for _ in range(rounds):
            r = subprocess.run([b.build / "bench/bench-exec", str(n), noop, noop], stdout=subprocess.PIPE, check=True)
            bare.append(1e6 / json.loads(r.stdout.split(b"\n")[-2])["a"]["median_us"])
            start = time.monotonic()
            run_tasks(client, n)
            ours.append(n / (time.monotonic() - start))
    return [row("tasks that do nothing, per second", statistics.median(ours), "fork and exec", statistics.median(bare), 0.3, at_least=True)]


def bench_hold(b, turns=3, rounds=2, n=TASKS // 2):
    rates = {kind: {waiting: [] for waiting in (0, 64)} for kind in ("terminate", "hold")}
    for turn in range(turns):
        for kind, each in rates.items():
            with Crew(b, f"{kind}{turn}", 1, "bench-noop", extra=f"on_supervisor_loss: {kind}\n") as crew, crew.client() as client:
                run_tasks(client, n)
                for waiting in [w for w in each for _ in range(rounds)]:
                    start = time.monotonic()
                    run_tasks(client, n, waiting)
                    each[waiting].append(n / (time.monotonic() - start))
    return [row(f"tasks of a held crew, {w or 'none'} waiting, per second", statistics.median(rates["hold"][w]), "not held",
                statistics.median(rates["terminate"][w]), 0.5, at_least=True) for w in (0, 64)]


if __name__ == "__main__":
    main(Bench, {"agents": bench_agents, "messages": bench_messages, "tasks": bench_tasks, "hold": bench_hold})
