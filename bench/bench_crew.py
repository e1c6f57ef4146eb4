#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of a running crew, each against a yardstick in the same run.

usage: bench_crew.py [--build DIR] [--json FILE] [spawn] [memory] [kill] [python]

spawn   crewd's SPAWN_START to READY (attested) against the bare recipe in C             at most 1.6x
memory  300 idle agents: proportional set size of all our processes, per agent          at most 1.0 MiB
kill    kill to all reaped for 10, 100, 700 processes against a bare pidns SIGKILL      at most 1.3x
python  python3 -c pass in an agent's jail, default audit, against outside              at most 1.25x
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchlib import main, row

POLICY = """agent: "{name}"
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: [], exec: ["{bin}/"]}}
  network: {{deny_all: true}}
  tools: {{denied: ["*"]}}
  limits: {{processes: 1024, memory: 1GiB}}
"""


class Bench:
    def __init__(self, build):
        self.build = Path(build).resolve()
        self.top = Path(tempfile.mkdtemp(prefix="crewd-bench-", dir="/var/tmp"))
        self.env = {**os.environ, "CREWD_HOME": str(self.top / "home"), "LANG": "C.UTF-8"}
        (self.top / "home").mkdir()
        (self.top / "bin").mkdir()
        self.add_program("bench-kill-bare")
        self.top.chmod(0o755)

    def add_program(self, name):
        """A copy where jails may have it."""
        return Path(shutil.copy2(self.build / "bench" / name, self.top / "bin"))

    def crewctl(self, *args, check=True, **kw):
        r = subprocess.run([self.build / "cli/crewctl", *map(str, args)], env=self.env, capture_output=True, text=True, **kw)
        if check and r.returncode != 0:
            raise SystemExit(f"crewctl {args}: {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def crew(self, name, n):
        d = self.top / name
        d.mkdir(exist_ok=True)
        names = [f"a{i}" for i in range(n)]
        for a in names:
            (d / f"{a}.yaml").write_text(POLICY.format(name=a, bin=self.top / "bin"))
        (d / "agent.py").write_text("#!/usr/bin/python3\n")
        (d / "agent.py").chmod(0o755)
        agents = "".join(f'  {a}: {{policy: {a}.yaml, role: r, goal: g, command: ["python3", "${{CREW_DIR}}/agent.py"], driver: exec-json}}\n'
                         for a in names)
        (d / "crew.yaml").write_text(f"crew: {name}\nprocess: sequential\npolicies: .\nagents:\n{agents}")
        return d / "crew.yaml"

    def status(self):
        return json.loads(self.crewctl("status", "--json").stdout)

    def close(self):
        self.crewctl("down", "--grace", "1s", check=False)
        shutil.rmtree(self.top, ignore_errors=True)


def bench_spawn(b, rounds=15):
    """Restarts of one agent in a crew that is otherwise idle, and the recipe between them."""
    crew = b.crew("spawn", 1)
    crew.write_text(crew.read_text().replace("driver: exec-json}", "driver: exec-json, restart: {max: 64, within: 1s}}"))
    b.crewctl("up", "--detach", crew)
    ours, bare = [], []
    for i in range(rounds + 1):
        b.crewctl("kill", "--agent", "a0")
        time.sleep(1.1)  # so that the next restart is a first one, with the shortest back-off
        agent = wait_ready(b)
        r = subprocess.run([b.build / "bench/bench-recipe", "10"], capture_output=True, text=True, check=True)
        if i:
            ours.append(agent["spawn_us"])
            bare.append(json.loads(r.stdout)["median_us"])
    b.crewctl("down")
    return [row("spawn -> READY, attested (us)", statistics.median(ours), "bare recipe in C", statistics.median(bare), 1.6)]


def wait_ready(b):
    for _ in range(500):
        agent = b.status()["agents"][0]
        if agent["state"] == "ready":
            return agent
        time.sleep(0.02)
    raise SystemExit("the agent did not come back")


def our_pids(crew_pid):
    """crewd and every descendant."""
    children = {}
    for p in Path("/proc").glob("[0-9]*"):
        try:
            text = (p / "stat").read_text()
        except OSError:
            continue
        pid, ppid = int(p.name), int(text[text.rindex(")") + 2:].split()[1])
        children.setdefault(ppid, []).append(pid)
    todo, found = [crew_pid], []
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def bench_memory(b, n=300):
    crew = b.crew("memory", n)
    b.crewctl("up", "--detach", crew)
    time.sleep(3)
    pid = int((b.top / "home/run/memory/pid").read_text().split()[0])
    total, by_name = 0, {}
    for p in our_pids(pid):
        pss = int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{p}/smaps_rollup").read_text(), re.M)[1])
        name = Path(f"/proc/{p}/comm").read_text().strip()
        by_name[name] = by_name.get(name, 0) + pss
        total += pss
    cpu = idle_cpu(our_pids(pid))
    b.crewctl("down", "--grace", "1s")
    print("  memory by program (KiB):", by_name, f"· {cpu:.2f} % CPU idle", file=sys.stderr)
    return [row(f"memory per idle agent, {n} of them (MiB)", total / 1024 / n, "limit", 1.0, 1.0)]


def idle_cpu(pids, seconds=3):
    def ticks():
        return sum(sum(map(int, Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[11:13])) for p in pids)
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds * 100


def bench_kill(b):
    rows = []
    for n, rounds in ((10, 25), (100, 9), (700, 5)):
        ours, bare = [], []
        crew = b.crew(f"kill{n}", 1)
        for _ in range(rounds):
            r = subprocess.run([b.build / "bench/bench-kill-bare", str(n), "1"], capture_output=True, text=True, check=True)
            bare.append(float(r.stdout))
            b.crewctl("up", "--detach", crew)
            # The same processes as the yardstick's; one of the n is the jail's pid 1.
            run = subprocess.Popen([b.build / "cli/crewctl", "exec", "--agent", "a0", "--", b.top / "bin/bench-kill-bare", "--hold",
                                    str(n - 1)], env=b.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            run.stdout.readline()
            time.sleep(0.02)  # as the yardstick does: the longer they have slept, the longer it takes
            killed = json.loads(b.crewctl("kill", "--agent", "a0", "--json").stdout)
            ours.append(killed["terminated"]["kill_us"])
            run.wait()
            run.stdout.close()
            b.crewctl("down", "--grace", "1s")
        rows.append(row(f"kill -> all reaped, {n} processes (us)", statistics.median(ours), "bare pidns SIGKILL",
                        statistics.median(bare), 1.3))
    return rows


def bench_python(b):
    crew = b.crew("python", 1)
    b.crewctl("up", "--detach", crew)
    loop = "i=0; while [ $i -lt 40 ]; do /usr/bin/python3 -c pass; i=$((i+1)); done"
    timed = f"import subprocess,time; t=time.perf_counter(); subprocess.run(['sh','-c','{loop}'],check=True); print(time.perf_counter()-t)"
    inside, outside = [], []
    for _ in range(5):
        outside.append(float(subprocess.run(["/usr/bin/python3", "-c", timed], capture_output=True, text=True, check=True).stdout))
        inside.append(float(b.crewctl("exec", "--agent", "a0", "--", "/usr/bin/python3", "-c", timed).stdout))
    b.crewctl("down")
    return [row("python3 -c pass in the jail (ms)", statistics.median(inside) * 25, "outside", statistics.median(outside) * 25, 1.25)]


if __name__ == "__main__":
    main(Bench, {"spawn": bench_spawn, "memory": bench_memory, "kill": bench_kill, "python": bench_python})
