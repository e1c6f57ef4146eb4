#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starts and stops a whole crew many times, then kills its crewd (SIGKILL) as often; as root, and as the user of the rootless
tests.  Processes, descriptors, mounts, control groups, namespaces, and files of the run and state directories must be at the
end what they were after the first rounds, while the crew is up and when it is gone.
usage: soak_crews.py [--build DIR] [--cycles N] [--agents N] [--mode root|rootless]     (default 50 of each kind, 8 agents)"""

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchlib import SOURCE

PROGRAMS = ("cli/crewctl", "supervisor/crewd", "supervisor/evidence/crew-evidence", "gateway/crew-gateway", "gateway/crew-webhook",
            "worker/crew-worker", "worker/crew-call")
WARM_UP = 2
GONE_S = 20
POLICY = """agent: {name}
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: ["${{CREW_DIR}}/out-{name}/"]}}
  network: {{allowed_endpoints: ["api.example.com:443"]}}
  tools: {{denied: ["*"]}}
"""


class Host:
    """Our programs for one user, in a place of their own: what runs of them, or is left, is ours."""

    def __init__(self, build, mode, agents):
        self.user = pwd.getpwnam(os.environ.get("CREWD_TEST_USER", "nobody")) if mode == "rootless" and os.geteuid() == 0 else None
        self.top = Path(tempfile.mkdtemp(prefix="crewd-soak-", dir="/var/tmp"))
        self.name = "soak" + self.top.name[-6:].replace("_", "x").lower()
        self.run, self.state = self.top / "home/run", self.top / "home/lib"
        for d in ("bin", "home", "crew"):
            (self.top / d).mkdir()
        for p in PROGRAMS:
            shutil.copy2(Path(build) / p, self.top / "bin")
        shutil.copytree(SOURCE / "policies", self.top / "policies")
        self.write_crew(agents)
        for p in [self.top, *self.top.rglob("*")]:
            p.chmod(0o755 if p.is_dir() or p.parent.name == "bin" else 0o644)
            if self.user:
                os.chown(p, self.user.pw_uid, self.user.pw_gid)

    def write_crew(self, n):
        names = [f"a{i}" for i in range(n)]
        for a in names:
            (self.top / "crew" / f"{a}.yaml").write_text(POLICY.format(name=a))
        (self.top / "crew/crew.yaml").write_text(
            f"crew: {self.name}\nprocess: sequential\npolicies: .\nagents:\n"
            + "".join(f"  {a}: {{policy: {a}.yaml, command: [cat]}}\n" for a in names))

    def crewctl(self, *args):
        as_user = ["setpriv", "--reuid", self.user.pw_name, "--regid", str(self.user.pw_gid), "--clear-groups"] if self.user else []
        env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.top / "home"), "CREWD_HOME": str(self.top / "home"),
               "LANG": "C.UTF-8"}
        r = subprocess.run([*as_user, self.top / "bin/crewctl", *map(str, args)], env=env, capture_output=True, text=True, timeout=120)
        if r.returncode != 0:
            raise SystemExit(f"crewctl {args}: {r.returncode}\n{r.stdout}{r.stderr}")

    def up(self):
        self.crewctl("up", "--detach", self.top / "crew/crew.yaml")
        return int((self.run / self.name / "pid").read_text().split()[0])

    def processes(self):
        found = []
        for p in Path("/proc").glob("[0-9]*"):
            try:
                if (p / "exe").readlink().is_relative_to(self.top / "bin"):
                    found.append(p)
            except OSError:
                pass  # it ended, or is the kernel's
        return found

    def wait_gone(self):
        end = time.monotonic() + GONE_S
        while self.processes():
            if time.monotonic() > end:
                raise SystemExit(f"still there {GONE_S} s later: {[(p / 'cmdline').read_bytes() for p in self.processes()]}")
            time.sleep(0.02)

    def close(self):
        for p in self.processes():
            os.kill(int(p.name), signal.SIGKILL)
        shutil.rmtree(self.top, ignore_errors=True)


def groups(host):
    return sum(1 for p in Path("/sys/fs/cgroup").rglob(f"{host.name}-*") if p.is_dir())


def while_up(host):
    ps = host.processes()
    jailed = [p for p in ps if (p / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()]
    return {
        "up: processes": len(ps),
        "up: descriptors": sum(len(list((p / "fd").iterdir())) for p in ps),
        "up: mounts of jails": sum(len((p / "mountinfo").read_text().splitlines()) for p in jailed),
        "up: network namespaces": len({(p / "ns/net").readlink() for p in ps}),
        "up: mount namespaces": len({(p / "ns/mnt").readlink() for p in ps}),
        "up: control groups": groups(host),
    }


def when_gone(host):
    return {
        "gone: processes": len(host.processes()),
        "gone: mounts of its own": Path("/proc/self/mountinfo").read_text().count(str(host.top)),
        "gone: control groups": groups(host),
        "gone: files of the run directory": sum(1 for _ in host.run.rglob("*")),
        "gone: files of the state directory": sum(1 for _ in host.state.rglob("*")),
    }


def settled(count, host):
    """Two looks that agree: descriptors come and go for a moment after a start."""
    before = None
    for _ in range(50):
        now = None
        try:
            now = count(host)
        except OSError:
            pass  # a process ended under us
        if now is not None and now == before:
            return now
        before = now
        time.sleep(0.1)
    raise SystemExit(f"does not settle: {before}")


def stop(host, pid):
    host.crewctl("down", "--crew", host.name, "--grace", "1s")


def kill(host, pid):
    os.kill(pid, signal.SIGKILL)


def soak(host, end, cycles):
    """How it looked after the first rounds, and at the end."""
    seen = []
    for i in range(WARM_UP + cycles):
        pid = host.up()
        look = i + 1 in (WARM_UP, WARM_UP + cycles)
        up = settled(while_up, host) if look else {}
        end(host, pid)
        host.wait_gone()
        if look:
            seen.append({**up, **settled(when_gone, host)})
    return seen


def report(title, before, after, seconds):
    print(f"== {title}, {seconds:.0f} s")
    bad = 0
    for key, v in after.items():
        grown = v > before[key]
        bad += grown
        print(f"{key:<40} {before[key]:>6} -> {v:>6}{'   GREW' if grown else ''}", flush=True)
    return bad


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--cycles", type=int, default=50)
    ap.add_argument("--agents", type=int, default=8)
    ap.add_argument("--mode", choices=("root", "rootless"), action="append")
    args = ap.parse_args()
    bad = 0
    for mode in args.mode or (["root", "rootless"] if os.geteuid() == 0 else ["rootless"]):
        host = Host(args.build, mode, args.agents)
        try:
            for title, end in (("up and down", stop), ("crewd killed", kill)):
                start = time.monotonic()
                before, after = soak(host, end, args.cycles)
                bad += report(f"{mode}: {title}, {args.cycles} times", before, after, time.monotonic() - start)
        finally:
            host.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
