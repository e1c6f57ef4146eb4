#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""crewctl sandbox -- /bin/true, the whole process, against bubblewrap with the same namespaces.

usage: bench_sandbox.py [--build DIR] [--json FILE] [--runs N]

Started as root it measures root and, as nobody, rootless.  The two programs take turns, so that whatever else the machine
does meets both; the figures are medians, the ratio is the median of the pairs', and the fastest run of each is printed
beside them.
"""

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
TARGET = 0.75
POLICY = """agent: bench
sandbox:
  mode: deny-by-default
  filesystem: {read: [], write: []}
  network: {deny_all: true}
"""
BWRAP = ("bwrap --unshare-all --tmpfs / --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib "
         "--symlink usr/lib64 /lib64 --proc /proc --dev /dev -- /bin/true").split()
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def compare(what, timer, ours, theirs, user, runs):
    """One run of bench-exec, which starts the two in turn."""
    ids = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    r = subprocess.run([timer, str(runs), " ".join(map(str, ours)), " ".join(theirs)], capture_output=True, text=True,
                       env=ENV, check=False, **ids)
    if r.returncode != 0:
        raise SystemExit(f"bench-exec: exit {r.returncode}\n{r.stderr}")
    t = json.loads(r.stdout)
    row = {"what": what, "ours": round(t["a"]["median_us"] / 1e3, 3), "against": "bubblewrap, same namespaces",
           "theirs": round(t["b"]["median_us"] / 1e3, 3), "ratio": t["ratio"], "target": TARGET, "met": t["ratio"] <= TARGET,
           "fastest_ours": t["a"]["min_us"] / 1e3, "fastest_theirs": t["b"]["min_us"] / 1e3}
    print(f"{row['what']:<48} {row['ours']:>12} {row['theirs']:>12}  {row['ratio']:>6}x  (target {TARGET}x; fastest "
          f"{row['fastest_ours']} / {row['fastest_theirs']}){'' if row['met'] else '  MISSED'}", flush=True)
    return row


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default=os.environ.get("CREWD_BUILD", SOURCE / "build"))
    ap.add_argument("--json")
    ap.add_argument("--runs", type=int, default=200)
    args = ap.parse_args()
    if not shutil.which("bwrap"):
        sys.exit("bench_sandbox: bubblewrap is not installed")
    with tempfile.TemporaryDirectory(prefix="crewd-bench-", dir="/var/tmp") as top:
        top = Path(top)
        top.chmod(0o755)
        (top / "bin").mkdir()
        shutil.copy2(Path(args.build) / "cli/crewctl", top / "bin/crewctl")
        shutil.copy2(Path(args.build) / "bench/bench-exec", top / "bin/bench-exec")
        timer = top / "bin/bench-exec"
        shutil.copytree(SOURCE / "policies", top / "policies")
        (top / "bench.yaml").write_text(POLICY)
        subprocess.run(["chmod", "-R", "a+rX", top], check=True)
        ours = [top / "bin/crewctl", "sandbox", "--policy", top / "bench.yaml", "--", "/bin/true"]
        rows = [compare("sandbox -- /bin/true, whole process (ms)", timer, ours, BWRAP, None, args.runs)]
        if os.geteuid() == 0:
            rows.append(compare("the same rootless (ms)", timer, ours, BWRAP, pwd.getpwnam("nobody"), args.runs))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
