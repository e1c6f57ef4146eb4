# SPDX-License-Identifier: Apache-2.0
"""Crews whose agents have endpoints, and the servers they are after."""

import contextlib
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

from crewlib import Crew, eventually

ROLE = """agent: {name}
sandbox:
  mode: deny-by-default
  filesystem: {{read: {read}, write: [], exec: {exec}, runtime: {runtime}}}
  network: {network}
  tools: {{denied: ["*"]}}
  limits: {limits}
  syscalls: {{profile: {profile}}}
  allow_degraded: [evidence]
"""
LIMITS = {"memory": "1GiB", "processes": 256, "open_files": 1024, "tmp": "256MiB"}


def times(records):
    """How often it happened: equal observations within a moment are one record with a count."""
    return sum(r.get("count", 1) for r in records)


class Egress(Crew):
    """A crew of clients: `where` says where the names of their policies really live, {"name:port": "address:port"}."""

    def __init__(self, runner, where=None, name="egress"):
        super().__init__(runner, name)
        if where:
            self.extra = "endpoints:\n" + "".join(
                f"  {json.dumps(k)}: {json.dumps(v if isinstance(v, dict) else {'connect_to': v})}\n" for k, v in where.items())

    def client(self, name, *endpoints, network=None, limits=None, read=(), exec=(), runtime=("base",), profile="default"):
        self.agents[name] = {"command": ["python3", "${CREW_DIR}/agent.py"], "role": "client", "goal": "reach", "driver": "exec-json"}
        self.files[f"{name}.yaml"] = ROLE.format(
            name=name, read=json.dumps([str(p) for p in read]), exec=json.dumps([str(p) for p in exec]),
            runtime=json.dumps(list(runtime)), profile=profile, limits=json.dumps({**LIMITS, **(limits or {})}),
            network=json.dumps({"allowed_endpoints": list(endpoints), **(network or {})}))
        return self

    def exec(self, agent, *argv, **kw):
        """The command in the agent's jail."""
        return self.runner.crewctl("exec", "--agent", agent, "--", *argv, **kw)

    def popen(self, agent, *argv, **kw):
        return self.runner.popen(self.runner.program("crewctl"), "exec", "--agent", agent, "--", *argv, **kw)

    def network(self, agent, verdict=None, **match):
        """Records network.VERDICT of the agent that have these fields."""
        def wanted(r):
            kind = r["kind"]
            return (kind.startswith("network.") if verdict is None else kind == f"network.{verdict}") and all(
                r.get(k) == v for k, v in match.items())
        return [r for r in self.records(agent) if wanted(r)]

    def await_network(self, agent, verdict, n=1, timeout=10, **match):
        """As network(), once there are n of them; a record may be some 100 ms late when it is folded."""
        return eventually(lambda: (lambda found: found if times(found) >= n else None)(
            self.network(agent, verdict, **match)), timeout)


def stop_unhurt(running):
    """Stops a crew; no gateway may have died in it, no sanitizer have spoken."""
    running.stop()
    said = running.log()
    for bad in ("Sanitizer", "runtime error", "crew-gateway is gone", "crew-gateway is up again"):
        assert bad not in said, said


class Tcp:
    """A TCP server in this process: handle(socket, self) in a thread of its own for each connection."""

    def __init__(self, handle, host="127.0.0.1", port=0, backlog=1024, tls=None):
        self.handle, self.tls, self.errors = handle, tls, []
        self.accepted, self.peers = 0, []
        self.listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                                             backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            if self.tls:
                s = self.tls.wrap_socket(s, server_side=True)
            self.handle(s, self)
        except OSError as e:
            self.errors.append(e)
        finally:
            s.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def echo(s, _server):
    while data := s.recv(65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)


def greet(text):
    """Speaks first, as mail and database servers do, then hangs up."""
    def handle(s, _server):
        s.sendall(text.encode())
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    return handle


@contextlib.contextmanager
def held_port():
    """A port for a server that cannot choose its own.  Nobody else is given it meanwhile; until the server listens, it refuses."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: then both may have it
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


def answers(port, host="127.0.0.1"):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((host, port)) == 0


class Service:
    """A real server as a child; ready when its port answers."""

    def __init__(self, argv, port, **kw):
        self.log = kw.pop("log")
        with open(self.log, "wb") as log:
            self.p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **kw)
        self.port = port
        try:
            eventually(lambda: self._alive() and answers(port), 20)
        except BaseException:
            self.close()
            raise

    def _alive(self):
        assert self.p.poll() is None, Path(self.log).read_text(errors="replace")
        return True

    def close(self):
        self.p.terminate()
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Authority:
    """A CA of the test's own, made with the openssl command."""

    def __init__(self, top):
        self.top, self.n = Path(top), 0
        self.top.mkdir(parents=True, exist_ok=True)
        self.top.chmod(0o755)
        self.ca = self.top / "ca.pem"
        self._key(self.top / "ca.key")
        self._openssl("req", "-x509", "-new", "-key", self.top / "ca.key", "-days", "2", "-subj", "/CN=Test CA", "-out", self.ca,
                      "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self.ca.chmod(0o644)

    @staticmethod
    def _openssl(*args):
        r = subprocess.run(["openssl", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        assert r.returncode == 0, r.stderr

    def _key(self, path):
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)

    def certificate(self, *names):
        """(certificate, key) files for these names."""
        self.n += 1
        cert, key, csr, ext = (self.top / f"{self.n}.{e}" for e in ("pem", "key", "csr", "ext"))
        self._key(key)
        self._openssl("req", "-new", "-key", key, "-subj", f"/CN={names[0]}", "-out", csr)
        sans = ",".join(("IP:" if n.replace(".", "").isdigit() or ":" in n else "DNS:") + n for n in names)
        ext.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
                       f"subjectAltName={sans}\n")
        self._openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.top / "ca.key", "-CAcreateserial", "-days", "2",
                      "-extfile", ext, "-out", cert)
        return cert, key


def go_build(source, binary, top):
    """A static program; what the compiler made of its library is kept for the next run where that is possible."""
    cache = Path(os.environ.get("CREWD_TEST_CACHE", "/var/tmp/crewd-test-cache")) / "go"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):
        cache = Path(top) / "go-cache"
    subprocess.run(["/usr/bin/go", "build", "-o", binary, source], check=True, timeout=300, cwd=top,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(top), "GOCACHE": str(cache), "CGO_ENABLED": "0", "GO111MODULE": "off"})
    Path(binary).chmod(0o755)


def open_file_limit():
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def root():
    return os.geteuid() == 0
