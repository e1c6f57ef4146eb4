# SPDX-License-Identifier: Apache-2.0
"""A small Internet beside the host's, and crews that live in it.  What is in it: internet_main.py."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from crewlib import eventually, gateway_of  # noqa: E402,F401
from egresslib import Authority, Egress, go_build, stop_unhurt  # noqa: E402

PUBLIC, SECOND, PUBLIC6 = "93.184.215.14", "93.184.215.15", "2606:2800:21f::14"
METADATA, METADATA6 = "169.254.169.254", "fd00:ec2::254"
# Where a name of the policy may not lead, by why.
FORBIDDEN = {
    "loopback": "127.0.0.1", "loopback-far": "127.77.0.1", "loopback6": "::1", "any": "0.0.0.0", "this-net": "0.1.2.3",
    "metadata": METADATA, "metadata6": METADATA6, "link-local": "169.254.7.7",
    "private-10": "10.20.30.40", "private-172": "172.16.5.5", "private-192": "192.168.77.7", "shared": "100.64.9.9",
    "unique-local": "fd12:3456::1", "benchmark": "198.18.0.77", "reserved": "240.0.0.9",
    "v4-mapped": f"::ffff:{METADATA}", "v4-compatible": f"::{METADATA}",
    "nat64": "64:ff9b::a9fe:a9fe", "nat64-local": "64:ff9b:1::a9fe:a9fe",
    "6to4": "2002:a9fe:a9fe::1", "teredo": "2001:0:a9fe:a9fe::1",
}
# These are everybody's already, or no address of a device.
NO_DEVICE = {"127.0.0.1", "127.77.0.1", "::1", "0.0.0.0", f"::ffff:{METADATA}"}


def build_tls_server(top):
    """tls_server.go as a program, or None where there is no Go."""
    if not Path("/usr/bin/go").exists():
        return None
    go_build(HERE / "tls_server.go", top / "tls_server", top)
    return str(top / "tls_server")


def rsa_certificate(top):
    """What the oldest clients understand; trusted by nobody."""
    cert, key = top / "rsa.pem", top / "rsa.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=allowed.test", "-days", "2",
                    "-out", cert, "-keyout", key], check=True, capture_output=True, timeout=60)
    return cert, key


class Internet:
    def __init__(self):
        self.top = Path(tempfile.mkdtemp(prefix="crewd-net-", dir="/var/tmp"))
        self.top.chmod(0o755)
        self.authority = Authority(self.top / "ca")
        certificates = [self.authority.certificate("allowed.test", "evil.test"), rsa_certificate(self.top)]
        self.tls_server = build_tls_server(self.top)
        self.p = subprocess.Popen(["unshare", "--net", "--mount", "/usr/bin/python3", str(HERE / "internet_main.py")],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        here = [a for a in FORBIDDEN.values() if a not in NO_DEVICE]
        try:
            assert self._say({"addresses": [PUBLIC, SECOND, PUBLIC6, *here], "resolv": str(self.top / "resolv.conf"),
                              "certificates": [[str(p) for p in c] for c in certificates], "tls_server": self.tls_server}) == "up"
        except BaseException:
            self.close()
            raise

    def _say(self, what):
        self.p.stdin.write(json.dumps(what) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        assert line, f"the Internet is gone: {self.p.poll()}"
        return json.loads(line)

    def events(self, kind=None, after=0.1):
        """What arrived since the last call."""
        return [e for e in self._say({"do": "events", "after": after}) if kind in (None, e["kind"])]

    def settled(self, within=30):
        """What arrived since the last call, once every server is done with who was there: none of it can be told later."""
        found = self._say({"do": "settled", "within": within})
        assert found is not None, f"somebody is still connected after {within} s"
        return found

    def names(self, **names):
        """name_test={"A": [...]}: sets what the DNS server answers; '_' stands for '.'."""
        self._say({"do": "names", "names": {k.replace("_", "."): v for k, v in names.items()}})

    def enter(self, argv):
        return ["nsenter", f"--net=/proc/{self.p.pid}/ns/net", f"--mount=/proc/{self.p.pid}/ns/mnt", *map(str, argv)]

    def run(self, *argv, **kw):
        return subprocess.run(self.enter(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=kw.pop("timeout", 60), **kw)

    def close(self):
        self.p.stdin.close()
        self.p.stdout.close()
        self.p.kill()
        self.p.wait()
        shutil.rmtree(self.top, ignore_errors=True)


def runner_in(internet, runner_class, stage, mode):
    """A runner all of whose programs live in this Internet."""
    class Inside(runner_class):
        def argv(self, *args):
            return internet.enter(super().argv(*args))

    home = Path(tempfile.mkdtemp(prefix="crewd-n-", dir="/var/tmp"))
    home.chmod(0o755)
    r = Inside(stage, home, mode)
    r.own(home)
    return r


class Jailed:
    """A running crew in this Internet: `client` with endpoints, and `other`, a bystander with one."""

    def __init__(self, internet, runner, attack, endpoints, **keys):
        self.internet, self.runner, self.attack = internet, runner, attack
        self.crew = Egress(runner)
        self.crew.client("client", *endpoints, read=[internet.authority.ca],
                         exec=[f"{attack.parent}/"], runtime=["python3"], **keys)
        self.crew.client("other", "allowed.test:7000", exec=[f"{attack.parent}/"], limits={"dns": 10000})
        self.running = self.crew.start()

    def inside(self, name, *args, agent="client", **kw):
        return self.crew.exec(agent, self.attack, name, *args, **kw)

    def script(self, name, *args, **kw):
        return self.crew.exec("client", "/usr/bin/python3", self.attack.parent / name, *args, **kw)

    def popen(self, name, *args, agent="client", **kw):
        return self.crew.popen(agent, self.attack, name, *args, **kw)

    def outside(self, name, *args, **kw):
        return self.internet.run(self.attack, name, *args, **kw)

    def mark(self, agent="client"):
        return max((r["seq"] for r in self.crew.records(agent)), default=-1)

    def denied_since(self, mark, agent="client", timeout=20, **match):
        """Denials recorded after `mark` with these fields; waits for the first."""
        end = time.monotonic() + timeout
        while True:
            found = [r for r in self.crew.network(agent, "denied", **match) if r["seq"] > mark]
            if found or time.monotonic() > end:
                return found
            time.sleep(0.02)

    def close(self):
        try:
            stop_unhurt(self.running)
        finally:
            self.runner.stop_all()
        shutil.rmtree(self.runner.home, ignore_errors=True)


def place_attackers(build, stage):
    """The attack program and the scripts where every user may read them."""
    where = stage / "attackers"
    where.mkdir(exist_ok=True)
    where.chmod(0o755)
    for source in (build / "tests/escape/attack", HERE / "tls_attacks.py"):
        shutil.copyfile(source, where / source.name)
        (where / source.name).chmod(0o755)
    return where / "attack"
