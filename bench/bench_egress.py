#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of egress, each against a yardstick in the same run.  Direct = the same client and server without a jail.

usage: bench_egress.py [--build DIR] [--json FILE] [throughput] [latency] [idle] [dns]

throughput  one stream through the gateway against the better of socat and HAProxy (TCP mode)    at least 0.6x
latency     what connect + 1 KiB there and back takes more than direct, against HAProxy (TCP)     at most 1.5x
idle        5,000 connections through the gateway that say nothing: memory for each               at most 32 KiB
dns         the answer to a listed name, median, against dnsmasq                                  at most 2x

The ways take turns in short rounds, so that noise of the machine meets all of them; each connection of a round but the
first WARM_UP of bench_net.c counts.  Client and server are the same program in every way, and every relay is one hop.

Two things in latency are against us, and stay: the client of ours is in its jail, so connecting crosses the jail's
redirection (8 us here) and each connection is on record twice, which HAProxy does not do; and connections follow each other
at once, so the end of one is still being worked on when the next arrives, which HAProxy's threads share (it has one for each
CPU, as installed) and the gateway's one thread does not: it serves who begins or talks first, but has both to do.  With 1 ms
between two connections both added the same here, the one time that was tried (107 us).
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_crew import our_pids
from benchlib import main, row

SOURCE = Path(__file__).resolve().parent.parent
NAME, CONNECTIONS = "bench.test", 5000
POLICY = """agent: "a0"
sandbox:
  mode: deny-by-default
  filesystem: {{read: [], write: [], exec: ["{bin}/"]}}
  network: {{allowed_endpoints: ["bench.test:1001", "bench.test:1002", "bench.test:1003"]}}
  tools: {{denied: ["*"]}}
  limits: {{processes: 64, memory: 1GiB, open_files: {files}, connections: {connections}, half_open: {connections}, dns: {dns}}}
  allow_degraded: [evidence]
"""
CREW = """crew: egress
process: sequential
policies: .
endpoints:
  "bench.test:1001": {{connect_to: "127.0.0.1:{source}"}}
  "bench.test:1002": {{connect_to: "127.0.0.1:{echo}"}}
  "bench.test:1003": {{connect_to: "127.0.0.1:{hold}"}}
agents:
  a0: {{policy: a0.yaml, role: r, goal: g, command: ["python3", "${{CREW_DIR}}/agent.py"], driver: exec-json}}
"""
HAPROXY = """global
  maxconn 2000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  maxconn 2000
"""
PORTS = {"source": 1001, "echo": 1002, "hold": 1003}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench:
    def __init__(self, build):
        self.build = Path(build).resolve()
        self.top = Path(tempfile.mkdtemp(prefix="crewd-bench-", dir="/var/tmp"))
        self.top.chmod(0o755)
        (self.top / "home").mkdir()
        (self.top / "bin").mkdir()
        self.client = self.top / "bin/bench-net"
        shutil.copy2(self.build / "bench/bench-net", self.client)
        self.env = {**os.environ, "CREWD_HOME": str(self.top / "home"), "LANG": "C.UTF-8"}
        self.children = []
        try:
            self.servers = {what: self._serve(what) for what in PORTS}
            self._up()
            self.haproxy = self._start_haproxy()
            self.socat = self._start_socat("source")
            self.dnsmasq = self._start_dnsmasq()
        except BaseException:
            self.close()
            raise

    def _child(self, argv, **kw):
        p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
        self.children.append(p)
        return p

    def _serve(self, what):
        return int(self._child([self.client, "serve", what], stdout=subprocess.PIPE, text=True).stdout.readline())

    @staticmethod
    def _await_port(p, port):
        for _ in range(250):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if p.poll() is not None:
                break
            time.sleep(0.02)
        raise SystemExit(f"{p.args[0]} did not start (script/bootstrap installs it)")

    def _start_haproxy(self):
        ports, text = {}, HAPROXY
        for what, server in self.servers.items():
            ports[what] = free_port()
            text += f"listen {what}\n  bind 127.0.0.1:{ports[what]}\n  server s 127.0.0.1:{server}\n"
        (self.top / "haproxy.cfg").write_text(text)
        p = self._child(["/usr/sbin/haproxy", "-db", "-f", self.top / "haproxy.cfg"], stdout=subprocess.DEVNULL)
        self._await_port(p, ports["source"])
        return ports

    def _start_socat(self, what):
        port = free_port()
        p = self._child(["/usr/bin/socat", "-b", "65536", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
                         f"TCP:127.0.0.1:{self.servers[what]}"], stdout=subprocess.DEVNULL)
        self._await_port(p, port)
        return port

    def _start_dnsmasq(self):
        port = free_port()
        p = self._child(["/usr/sbin/dnsmasq", "--no-daemon", "--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
                         "--bind-interfaces", "--no-resolv", "--no-hosts", f"--address=/{NAME}/198.18.0.1",
                         f"--pid-file={self.top}/dnsmasq.pid"], stdout=subprocess.DEVNULL)
        self._await_port(p, port)
        self.dnsmasq_pid = p.pid
        return port

    def _up(self):
        crew = self.top / "crew"
        crew.mkdir()
        (crew / "a0.yaml").write_text(POLICY.format(bin=self.top / "bin", files=CONNECTIONS + 200, connections=CONNECTIONS + 200,
                                                    dns=100000))
        (crew / "crew.yaml").write_text(CREW.format(**self.servers))
        (crew / "agent.py").write_text("")
        self.crewctl("up", "--detach", crew / "crew.yaml")

    def crewctl(self, *args):
        r = subprocess.run([self.build / "cli/crewctl", *map(str, args)], env=self.env, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL)
        if r.returncode != 0:
            raise SystemExit(f"crewctl {args}: {r.returncode}\n{r.stdout}{r.stderr}")
        return r.stdout

    def jailed(self, verb, *args):
        """The client in the jail: its numbers."""
        return [float(x) for x in self.crewctl("exec", "--agent", "a0", "--", self.client, verb, *args).split()]

    def plain(self, verb, *args):
        r = subprocess.run([str(a) for a in (self.client, verb, *args)], capture_output=True, text=True)
        if r.returncode != 0:
            raise SystemExit(f"bench-net {verb} {args}: {r.stderr}")
        return [float(x) for x in r.stdout.split()]

    def by_way(self, verb, what, *args, socat=False):
        """One round: {way: numbers}."""
        found = {"direct": self.plain(verb, "127.0.0.1", self.servers[what], *args),
                 "haproxy": self.plain(verb, "127.0.0.1", self.haproxy[what], *args)}
        if socat:
            found["socat"] = self.plain(verb, "127.0.0.1", self.socat, *args)
        found["ours"] = self.jailed(verb, NAME, PORTS[what], *args)
        return found

    def close(self):
        subprocess.run([self.build / "cli/crewctl", "down", "--grace", "1s"], env=self.env, capture_output=True)
        for p in self.children:
            p.kill()
            p.wait()
            if p.stdout:
                p.stdout.close()
        shutil.rmtree(self.top, ignore_errors=True)


def medians(rounds, index=0):
    return {way: statistics.median(r[way][index] for r in rounds) for way in rounds[0]}


def say(text):
    print("  " + text, file=sys.stderr)


def bench_throughput(b, rounds=7, mib=2048):
    m = medians([b.by_way("pull", "source", mib, socat=True) for _ in range(rounds)])
    best = max("socat", "haproxy", key=m.get)
    say("MiB/s: " + ", ".join(f"{way} {v:.0f}" for way, v in m.items()))
    return [row("bulk throughput of one stream (MiB/s)", m["ours"], best, m[best], 0.6, at_least=True)]


def bench_latency(b, rounds=9, n=1000):
    taken = [b.by_way("ask", "echo", n) for _ in range(rounds)]
    m, p99 = medians(taken), medians(taken, 1)
    say("connect + 1 KiB, us, median (99 %): " + ", ".join(f"{way} {v:.0f} ({p99[way]:.0f})" for way, v in m.items()))
    return [row("added by connect + 1 KiB there and back (us)", m["ours"] - m["direct"], "haproxy", m["haproxy"] - m["direct"], 1.5)]


def our_programs(b):
    """Memory of this crew's crewd and crew-gateway processes as smaps has it, in KiB."""
    total = {}
    for pid in our_pids(int((b.top / "home/run/egress/pid").read_text().split()[0])):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name.startswith("crew-gateway") or name == "crewd":
            pss = int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
            total[name] = total.get(name, 0) + pss
    return total


def kernel_memory():
    """What the kernel holds in small objects and in TCP buffers, in KiB: of everybody, so nothing else should run."""
    slab = re.search(r"^Slab:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)
    pages = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M)
    return int(slab[1]) + int(pages[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def bench_idle(b, n=CONNECTIONS):
    """Ours, and all that the kernel holds for these connections, the ends of client and server among it."""
    before, kernel = our_programs(b), kernel_memory()
    p = subprocess.Popen([b.build / "cli/crewctl", "exec", "--agent", "a0", "--", b.client, "hold", NAME, str(PORTS["hold"]), str(n)],
                         env=b.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if p.stdout.readline() != "held\n":
        raise SystemExit("the connections did not come up")
    time.sleep(2)
    after, kernel = our_programs(b), max(0, kernel_memory() - kernel)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    say(f"{n} connections: " + ", ".join(f"{k} {v:+d} KiB" for k, v in grown.items()) + f", kernel {kernel:+d} KiB for both ends")
    p.stdin.close()
    p.stdout.close()
    p.wait(60)
    return [row(f"memory per idle connection, {n} of them (KiB)", (sum(grown.values()) + kernel) / n, "limit", 32.0, 1.0)]


def pin(pids, cpus):
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)


def bench_dns(b, rounds=9, n=3000):
    """Where the scheduler puts a server beside its client is worth a factor of four here: so it is said, for both alike."""
    cpus = sorted(os.sched_getaffinity(0))
    servers = [b.dnsmasq_pid, *our_pids(int((b.top / "home/run/egress/pid").read_text().split()[0]))]
    pin(servers, cpus[:1])
    rows = []
    for where, cpu in {"on the server's CPU": cpus[0], "on another CPU": cpus[-1]}.items():
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(b.plain("dns", "127.0.0.1", b.dnsmasq, NAME, n, cpu))
            ours.append(b.jailed("dns", "127.0.0.1", 53, NAME, n, cpu))
        a, t = ([statistics.median(x[i] for x in xs) for i in (0, 1)] for xs in (ours, theirs))
        say(f"DNS answer, us, median (99 %), client {where}: ours {a[0]:.1f} ({a[1]:.1f}), dnsmasq {t[0]:.1f} ({t[1]:.1f})")
        rows.append(row(f"DNS answer to a listed name, client {where} (us)", a[0], "dnsmasq", t[0], 2.0))
    pin(servers, cpus)
    return rows


if __name__ == "__main__":
    main(Bench, {"throughput": bench_throughput, "latency": bench_latency, "idle": bench_idle, "dns": bench_dns})
