#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starts and kills agents of one crewd many times; descriptors, processes, mounts, cgroups, network namespaces and
memory must be at the end what they were after the first few.   usage: soak_cycles.py [--build DIR] [--cycles N]"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_crew import Bench, our_pids, wait_ready  # noqa: E402


def counts(crewd):
    pids = our_pids(crewd)
    status = Path(f"/proc/{crewd}/status").read_text()
    ns = {os_readlink(p) for p in Path("/proc").glob("[0-9]*/ns/net")}
    return {
        "descriptors of crewd": len(list(Path(f"/proc/{crewd}/fd").iterdir())),
        "descriptors of all": sum(len(list(Path(f"/proc/{p}/fd").iterdir())) for p in pids),
        "processes": len(pids),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroups": sum(1 for p in Path("/sys/fs/cgroup").glob("*/crewd*/*") if p.is_dir()),
        "network namespaces": len(ns - {None}),
        "KiB of crewd": int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]),
    }


def os_readlink(p):
    try:
        return str(p.readlink())
    except OSError:
        return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--cycles", type=int, default=500)
    args = ap.parse_args()
    b = Bench(args.build)
    try:
        crew = b.crew("soak", 2)
        text = crew.read_text().replace("driver: exec-json}", "driver: exec-json, restart: {max: 64, within: 1s}}")
        crew.write_text(text)
        b.crewctl("up", "--detach", crew)
        crewd = int((b.top / "home/run/soak/pid").read_text().split()[0])
        before = None
        for i in range(args.cycles):
            b.crewctl("kill", "--agent", "a0", "--reason", "soak")
            wait_ready(b)
            if i == min(20, args.cycles // 2):
                before = counts(crewd)
        after = counts(crewd)
        b.crewctl("down", "--grace", "1s")
    finally:
        subprocess.run([b.build / "cli/crewctl", "down", "--grace", "1s"], env=b.env, capture_output=True)
        b.close()
    bad = 0
    for key, v in after.items():
        room = 1024 if key.startswith("KiB") else 0
        grown = v - before[key]
        bad += grown > room
        print(f"{key:<22} {before[key]:>8} -> {v:>8}{'   GREW' if grown > room else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
