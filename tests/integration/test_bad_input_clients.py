# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 5: a storm of bad control clients while a good one works and the crew goes on.

One kind of garbage at a time is in test_crew_control.py."""

import os
import random
import socket
import statistics
import struct
import threading
import time
from pathlib import Path

from crewd import codec
from crewlib import Crew, eventually

HELLO = b"\0SP\0\0\x11\0\0"


def frame(payload):
    return struct.pack(">BQI", 1, len(payload) + 4, 1) + payload


def status_frame(seq):
    return frame(codec.encode_envelope(seq, "get_status", codec.Message("GetStatus"), 0))


def client_hello(seq=1):
    return frame(codec.encode_envelope(seq, "client_hello", codec.Message("ClientHello", protocol=1, client="x"), 0))


def storm(rng):
    """What bad clients send, without end."""
    while True:
        yield rng.choice([
            b"",  # connects and goes
            rng.randbytes(rng.randrange(1, 4096)),
            HELLO + rng.randbytes(rng.randrange(1, 4096)),
            HELLO[:rng.randrange(1, 8)],
            HELLO + client_hello()[:rng.randrange(1, 30)],
            HELLO + status_frame(1),  # before its hello
            HELLO + client_hello() + client_hello(2),  # twice
            HELLO + client_hello() + status_frame(9),  # numbers skipped
            HELLO + struct.pack(">BQ", 1, rng.getrandbits(64)),
            HELLO + client_hello() + struct.pack(">BQI", 1, 1 << 40, 1),
            HELLO + client_hello() + status_frame(2) * 50,  # the same number again and again
        ])


def attack(path, data, rng):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(0.2)
        try:
            s.connect(path)
            s.sendall(data)
            if rng.random() < 0.3:
                s.shutdown(socket.SHUT_WR)
                s.recv(4096)
        except OSError:
            pass


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kib(pid):
    return int(next(l for l in Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmRSS")).split()[1])


def test_a_thousand_bad_clients_harm_nobody(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        good = running.client()
        path, pid = str(crew.run_dir / "control.sock"), good.pid
        work = good.submit(agent="a", description="time.sleep(2.5); out(1)")
        files, memory = open_files(pid), resident_kib(pid)
        halves = [socket.socket(socket.AF_UNIX) for _ in range(20)]  # connected, greeted by nobody, never closed
        for s in halves:
            s.connect(path)
        stop, sent = threading.Event(), [0, 0]

        def assail(n):
            rng = random.Random(n)
            for data in storm(rng):
                if stop.is_set() or sent[n] >= 500:
                    return
                attack(path, data, rng)
                sent[n] += 1
        threads = [threading.Thread(target=assail, args=(n,)) for n in range(2)]
        for t in threads:
            t.start()
        waited = []
        try:
            while any(t.is_alive() for t in threads):
                begin = time.monotonic()
                assert len(good.status().agents) == 2
                assert good.submit(agent="b", description="out(2)").result(30) == 2
                waited.append(time.monotonic() - begin)
        finally:
            stop.set()
            for t in threads:
                t.join()
        assert statistics.median(waited) < 5, sorted(waited)  # the slowest may have waited for the machine
        assert sum(sent) == 1000
        assert work.result(20) == 1
        for s in halves:
            s.close()
        eventually(lambda: open_files(pid) <= files + 1)
        assert resident_kib(pid) < memory + 16 * 1024
        assert running.stop() == 0
    assert not (crew.run_dir / "control.sock").exists()
    assert runner.crewctl("audit", "verify").returncode == 0
    assert {r["outcome"] for r in crew.records("a", "task.finished")} == {"ok"}
