# SPDX-License-Identifier: Apache-2.0
"""Crews in which some agents' pid 1 is an attacker: see hostile/worker.c and hostile/prelude.py."""

import os
import re
import shutil
import statistics
import threading
import time
from pathlib import Path

from conftest import BUILD, SOURCE
from crewlib import Crew

HERE = Path(__file__).parent / "hostile"


def prelude():
    """The whole of a hostile script but its own code: one file, for that is what its view holds."""
    sdk = SOURCE / "sdk" / "python" / "crewd"
    codec = (sdk / "codec.py").read_text().replace("from ._schema import BODIES, ENUMS, MESSAGES", "")
    return "\n".join([(sdk / "_schema.py").read_text(), codec, (HERE / "prelude.py").read_text(), ""])


class HostileCrew(Crew):
    """hostile() adds an agent that is one; agent() as always."""

    def hostile(self, name, code, **keys):
        self.files[f"hostile-{name}.py"] = prelude() + code
        return self.agent(name, command=["python3", "${CREW_DIR}/hostile-%s.py" % name], **keys)

    def start(self, wait=True):
        self.write()
        program = self.runner.stage / "bin" / "crew-worker"
        saved = program.with_suffix(".real")
        program.rename(saved)
        shutil.copy2(BUILD / "tests" / "integration" / "hostile" / "hostile-worker", program)
        program.chmod(0o755)
        try:
            return super().start(wait)
        finally:
            saved.rename(program)


def rss_kib(pid):
    return int(re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def grown_kib(pid, before):
    """Its peak less what it had before; 0 under AddressSanitizer, which keeps what is freed."""
    if "ASAN_OPTIONS" in os.environ:
        return 0
    return int(re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) - before


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Bystanders:
    """What the others do meanwhile: a client asks for status, and honest agents are given tasks; how long each took."""

    def __init__(self, running, agent):
        self.status_s, self.task_s, self.failures = [], [], []
        self.running, self.agent = running, agent
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.loop, args=(what,), daemon=True) for what in (self.ask, self.work)]

    def loop(self, what):
        client = self.running.client(timeout=60)
        try:
            while not self.stopping.wait(0.02):
                what(client)
        except Exception as e:  # noqa: BLE001: told to the test, in its own thread
            self.failures.append(repr(e))

    def ask(self, client):
        t = time.monotonic()
        client.status()
        self.status_s.append(time.monotonic() - t)

    def work(self, client):
        t = time.monotonic()
        assert client.submit(agent=self.agent, description="out({'ok': True})").result(60) == {"ok": True}
        self.task_s.append(time.monotonic() - t)

    def __enter__(self):
        with self.running.client(timeout=60) as client:
            self.work(client)
        self.calm_s = self.task_s.pop()  # what a task takes of this machine anyway
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        for t in self.threads:
            t.join(125)

    def check(self, status_s, task_s):
        """None waited in vain, and half of them not even so long.  (The slowest may have waited for the machine.)"""
        slower = 4 if os.environ.get("CREWD_SANITIZED") else 1
        assert not self.failures, self.failures
        assert self.status_s and self.task_s
        assert statistics.median(self.status_s) < status_s * slower, sorted(self.status_s)
        assert statistics.median(self.task_s) < max(task_s * slower, 10 * self.calm_s), (sorted(self.task_s), self.calm_s)


def begin(client, agent):
    """Gives a hostile agent the task that it begins with; the Task."""
    return client.submit(agent=agent, description="begin", timeout_ms=60000)
