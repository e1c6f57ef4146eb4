#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A program in crewd's place for the tests of `crewctl run` and `up`: real pipes, real signals, made-up tasks.

FAKE says how it behaves; see BEHAVIOURS at the end.
"""

import argparse
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, os.environ["FAKE_TESTS"])
from fake_crewd import FakeCrewd  # noqa: E402

AGENTS = [
    dict(name="alpha", state=3, pid=11, uid=200001, spawn_us=2100, walls="full", landlock_abi=7),
    dict(name="beta", state=3, pid=12, uid=200002, spawn_us=2000, walls="without cgroup-memory", landlock_abi=7),
    dict(name="boss", state=9),
]
ended = threading.Event()


class Crew:
    def __init__(self, results):
        self.results, self.events = results, 0

    def event(self, c, **fields):
        self.events += 1
        c.send("event", event_seq=self.events, **fields)

    def task(self, c, name, agent, state, **fields):
        self.event(c, kind="task-state", task=dict(name=name, agent=agent, state=state, **fields))

    def run(self, c, e):
        tasks = []
        for name, agent, state, more in self.results:
            if state != "skipped":
                self.task(c, name, agent, "running")
                time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
            if state == "denied":
                self.event(c, kind="denied", text="FILE_READ: DENIED")
                state = "done"
            self.task(c, name, agent, state, **more)
            tasks.append(dict(name=name, agent=agent, state=state, **more))
        ok = sum(t["state"] == "done" for t in tasks)
        c.send("crew_done", corr=e.seq, tasks_ok=ok, tasks_total=len(tasks), denied=2, duration_us=2_100_000, tasks=tasks)

    def answer(self, c, e):
        body = e.WhichOneof("body")
        if body == "get_status":
            c.send("status", corr=e.seq, crew="pair", state="running", process="sequential", agents=AGENTS)
        elif body == "run_tasks":
            self.run(c, e)
        elif body == "stop_crew":
            c.send("done", corr=e.seq, text="the crew is stopped")
            ended.set()


class Refuses(Crew):
    def run(self, c, e):
        c.send("refused", corr=e.seq, code="unsupported", message="process consensual is not supported", hint="use sequential")


class Dies(Crew):
    def run(self, c, e):
        self.task(c, "one", "alpha", "running")
        print("crewd: something terrible", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Loses(Crew):
    def run(self, c, e):
        self.task(c, "one", "alpha", "running")
        self.event(c, kind="log", text="audit is slow")
        self.event(c, kind="terminated", terminated=dict(
            agent="alpha", cause=8, term_signal=11, stderr_tail="a\nb\nTraceback:\n  in x\nValueError: \033[31mbad\n"))
        self.results = [("one", "alpha", "failed", dict(duration_us=400_000, error="agent alpha died: crash")),
                        ("two", "beta", "skipped", dict(error="task one failed"))]
        super().run(c, e)


class Endless(Crew):
    def run(self, c, e):
        self.task(c, "one", "alpha", "running")


GOOD = [("one", "alpha", "done", dict(duration_us=400_000, summary="5 symbols, 560 prices")),
        ("two", "beta", "denied", dict(duration_us=62_000_000))]
BEHAVIOURS = {"good": lambda: Crew(GOOD), "refuses": lambda: Refuses([]), "dies": lambda: Dies([]), "loses": lambda: Loses([]),
              "endless": lambda: Endless([])}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ready-fd", type=int)
    p.add_argument("--owner-fd", type=int, default=-1)
    p.add_argument("crew")
    a = p.parse_args()
    how = os.environ["FAKE"]
    if how == "cannot":
        os.write(a.ready_fd, b"error: agent beta: landlock is missing\n")
        sys.exit(69)
    if how == "mute":
        print("crewd: lost my tongue", file=sys.stderr, flush=True)
        sys.exit(3)
    print("crewd: here I am", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = FakeCrewd(os.environ["FAKE_BUILD"], os.environ["CREWD_HOME"], "pair", BEHAVIOURS[how]().answer)
    os.write(a.ready_fd, b"ready\n")
    os.close(a.ready_fd)
    poll = select.poll()
    if a.owner_fd >= 0:
        poll.register(a.owner_fd, select.POLLIN)
    while not ended.is_set():
        if poll.poll(20):
            Path(os.environ["CREWD_HOME"], "orphaned").touch()
            break
    server.path.unlink()


main()
