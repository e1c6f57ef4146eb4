#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills and restarts agents of one crewd many times: descriptors, processes, mounts, control groups, network namespaces,
files of the run directory and memory must be at the end what they were after the first rounds.
usage: soak_cycles.py [--build DIR] [--cycles N] [--agents N]     (default 10000 cycles, 100 agents at a time)"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bench_crew import Bench, our_pids
from benchlib import SOURCE

sys.path.insert(0, str(SOURCE / "sdk/python"))
import crewd  # noqa: E402

WARM_UP = 20  # rounds: heaps find their size, which for crew-evidence depends on how many agents have news at once
MEMORY_ROOM_KIB = 512  # of each program: what a heap is larger by chance; 50 bytes a cycle of the default number


def namespaces(pids, kind):
    return len({Path(f"/proc/{p}/ns/{kind}").readlink() for p in pids})


def own_memory(pid):
    """KiB that are of no file: what the process itself has made, whoever else has the same programs in memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Anonymous:")).split()[1])


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def counts(b, pid):
    """Of crewd and every process below it; what is compared must be settled."""
    pids = our_pids(pid)
    helpers = [p for p in pids if is_helper(p, pid)]
    return {
        "processes": len(pids),
        "descriptors of crewd": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "descriptors of all": sum(len(list(Path(f"/proc/{p}/fd").iterdir())) for p in pids),
        "mounts outside jails": sum(len(Path(f"/proc/{p}/mountinfo").read_text().splitlines()) for p in helpers),
        "mounts in jails": sum(len(Path(f"/proc/{p}/mountinfo").read_text().splitlines()) for p in pids if p not in helpers),
        "control groups": sum(1 for p in Path("/sys/fs/cgroup").rglob("soak-*") if p.is_dir()),
        "network namespaces": namespaces(pids, "net"),
        "mount namespaces": namespaces(pids, "mnt"),
        "files of the run directory": sum(1 for _ in (b.top / "home/run").rglob("*")),
        **{f"KiB of {name_of(p)}": own_memory(p) for p in sorted(helpers)},
    }


def is_helper(p, crewd_pid):
    """Not in a jail: it sees the pid namespace that crewd is in."""
    return Path(f"/proc/{p}/ns/pid").readlink() == Path(f"/proc/{crewd_pid}/ns/pid").readlink()


def wait_ready(client):
    end = time.monotonic() + 60
    while any(a.state != crewd.AgentState.READY for a in client.status().agents):
        if time.monotonic() > end:
            raise SystemExit("not every agent came back within 60 s")
        time.sleep(0.1)


def kill_all(b, client):
    for a in client.status().agents:
        client.kill(a.name, reason="soak")
    wait_ready(client)
    time.sleep(1.1)  # so that the next restarts are first ones, with the shortest back-off


def soak(b, n, cycles):
    crew = b.crew("soak", n)
    crew.write_text(crew.read_text().replace("driver: exec-json}", "driver: exec-json, restart: {max: 64, within: 1s}}"))
    b.crewctl("up", "--detach", crew)
    pid = int((b.top / "home/run/soak/pid").read_text().split()[0])
    before, done, start = None, 0, time.monotonic()
    with crewd.Client(path=str(b.top / "home/run/soak/control.sock")) as client:
        for i in range(WARM_UP + -(-cycles // n)):
            kill_all(b, client)
            if i + 1 == WARM_UP:
                time.sleep(2)
                before, start = counts(b, pid), time.monotonic()
            done += n if i >= WARM_UP else 0
        print(f"{done} cycles in {time.monotonic() - start:.0f} s", flush=True)
        time.sleep(2)
        return before, counts(b, pid)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--cycles", type=int, default=10000)
    ap.add_argument("--agents", type=int, default=100)
    args = ap.parse_args()
    b = Bench(args.build)
    try:
        before, after = soak(b, args.agents, args.cycles)
    finally:
        subprocess.run([b.build / "cli/crewctl", "down", "--grace", "1s"], env=b.env, capture_output=True)
        b.close()
    bad = 0
    for key, v in after.items():
        grown = v - before[key] > (MEMORY_ROOM_KIB if key.startswith("KiB") else 0)
        bad += grown
        print(f"{key:<28} {before[key]:>8} -> {v:>8}{'   GREW' if grown else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
