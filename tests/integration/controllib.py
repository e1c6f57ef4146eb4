# SPDX-License-Identifier: Apache-2.0
"""What the tests of approvals and reloads share: a crew whose agents dial, and the operator beside it."""

import ipaddress
import json
import socket
import subprocess

import pytest

from egresslib import Egress
from crewlib import eventually

# Dials and says what became of it: the greeting of the server, or the error.
DIAL = """
import socket, sys, time
began = time.monotonic()
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
    got = s.recv(100).decode()
    print("got", got, flush=True)
    if len(sys.argv) > 3:
        s.settimeout(float(sys.argv[3]))
        print("then", repr(s.recv(1)), flush=True)
except OSError as e:
    print(type(e).__name__, flush=True)
print("%.3f" % (time.monotonic() - began), flush=True)
"""


class Asking(Egress):
    """Agents that ask: `on_unlisted: ask`."""

    def __init__(self, runner, where=None, operator=False, name="control"):
        super().__init__(runner, where, name)
        if operator:
            self.extra += "approvals: operator\n"

    def asking(self, name, *endpoints, timeout="60s", **kw):
        return self.client(name, *endpoints, network={"on_unlisted": "ask", "ask_timeout": timeout}, **kw)

    def dial(self, agent, host, port, *more, **kw):
        """(what came of it, seconds)"""
        r = self.exec(agent, "python3", "-c", DIAL, host, str(port), *more, **kw)
        lines = r.stdout.splitlines()
        assert len(lines) >= 2, (r.stdout, r.stderr)
        return lines[0], float(lines[-1])

    def dialling(self, agent, host, port, *more):
        return self.popen(agent, "python3", "-c", DIAL, host, str(port), *more, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)

    def waiting(self):
        return json.loads(self.runner.crewctl("approvals", "--json", check=True).stdout)["approvals"]

    def asked(self, n=1):
        """The approvals, once n of them wait."""
        return eventually(lambda: (lambda w: w if len(w) == n else None)(self.waiting()))


class Follower:
    """`crewctl approvals --follow --json` in the background."""

    def __init__(self, crew):
        self.crew = crew
        self.p = crew.runner.popen(crew.runner.program("crewctl"), "approvals", "--follow", "--json",
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)

    def __enter__(self):
        eventually(lambda: json.loads(self.crew.runner.crewctl("approvals", "--json", check=True).stdout)["held"])
        return self

    def next(self):
        return json.loads(self.p.stdout.readline())

    def __exit__(self, *exc):
        self.p.terminate()
        self.p.wait(60)


def finish(p, timeout=90):
    """(first line, seconds) of a dialling()."""
    out, err = p.communicate(timeout=timeout)
    lines = out.splitlines()
    assert len(lines) >= 2, (out, err)
    return lines[0], float(lines[-1])


@pytest.fixture(scope="session")
def private_address():
    """An address of this host that is neither loopback nor link-local: the operator may approve it by its number."""
    r = subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True)
    for link in json.loads(r.stdout or "[]"):
        for a in link.get("addr_info", []):
            ip = ipaddress.ip_address(a["local"])
            private = ip in ipaddress.ip_network("fc00::/7") if ip.version == 6 else any(
                ip in ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
            if private and can_bind(str(ip)):
                return str(ip)
    pytest.skip("this host has no private address to dial")


def can_bind(host):
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.bind((host, 0))
            return True
    except OSError:
        return False


def place(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
