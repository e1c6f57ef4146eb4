# SPDX-License-Identifier: Apache-2.0
"""HTTP rules, inspection and credentials: real clients in a real namespace, the real gateway, real servers.

crewd is played by gaterun (tests/unit/gateway_http/gaterun.c), so that a refusal is the gateway's own.
"""

import hashlib
import http.server
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

from conftest import modes, other_user
from crewlib import alive, eventually

NAME = "api.test"
SECRET = "sk-live-4f9a8b7c6d5e"


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


class Authority:
    """A certificate authority made by the openssl program."""

    def __init__(self, top):
        self.top = top
        top.mkdir()
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
                "ca.pem", "-subj", "/CN=test CA", "-days", "2", cwd=top)

    @property
    def pem(self):
        return self.top / "ca.pem"

    def context(self, name, *extra):
        """What a server of this name shows; extra goes to `openssl x509`."""
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", "-subj", f"/CN={name}", cwd=self.top)
        (self.top / "ext").write_text(f"subjectAltName=DNS:{name}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext",
                "-out", f"{name}.pem", *(extra or ("-days", "2")), cwd=self.top)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.top / f"{name}.pem", self.top / f"{name}.key")
        return tls


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, **headers):
        self.send_response(200)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.path.startswith("/v1/echo"):
            self.answer(json.dumps(dict(self.headers)).encode(), X_Echo=self.headers.get("Authorization", "none"))
        elif self.path.startswith("/v1/big"):
            self.answer(self.server.big)
        elif self.path.startswith("/v1/chunked"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(20):
                self.wfile.write(b"6;x=y\r\npart%02d\r\n" % i)
            self.wfile.write(b"0\r\nX-Trailer: t\r\n\r\n")
        elif self.path.startswith("/v1/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for i in range(3):
                self.wfile.write(b"data: %d\n\n" % i)
                self.server.heard.acquire(timeout=20)  # the next one only when this one is there
            self.close_connection = True
        elif self.path.startswith("/v1/heard"):
            self.server.heard.release()
            self.answer(b"")
        else:
            self.answer(b"hello from %s\n" % self.path.encode())

    do_HEAD = do_DELETE = do_GET

    def do_POST(self):
        if self.headers.get("Transfer-Encoding"):
            body = b""
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        self.answer(hashlib.sha256(body).hexdigest().encode())

    do_PUT = do_POST

    def log_message(self, *args):
        pass


class Raw:
    """Answers each connection with the given bytes after its first bytes came, and keeps what it was sent."""

    def __init__(self, answer):
        self.got, self.answer = [], answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.got.append(b"")
            threading.Thread(target=self.serve, args=(s, len(self.got) - 1), daemon=True).start()

    def serve(self, s, at):
        try:
            while data := s.recv(65536):
                self.got[at] += data
                if callable(self.answer):
                    self.answer(s)
                else:
                    s.sendall(self.answer)
        except OSError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


both = pytest.mark.parametrize("mode", modes(), indirect=True)


@pytest.fixture(scope="session")
def programs():
    """gaterun and crew-gateway where every user can run them."""
    build = Path(os.environ.get("CREWD_BUILD", Path(__file__).resolve().parents[2] / "build")).resolve()
    outside = Path(os.environ.get("CREWD_SANITIZED", build))
    top = Path(tempfile.mkdtemp(prefix="crewd-gate-", dir="/var/tmp"))
    top.chmod(0o755)
    for program in (build / "tests/unit/gateway_http/gaterun", outside / "gateway/crew-gateway"):
        shutil.copy2(program, top)
        (top / program.name).chmod(0o755)
    yield top
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session")
def top(programs):
    return programs


@pytest.fixture
def mode(request):
    return getattr(request, "param", modes()[0])


@pytest.fixture
def user(mode):
    return other_user() if mode == "rootless" and os.geteuid() == 0 else None


@pytest.fixture
def work(programs, user):
    """A directory of the user that the test runs as."""
    path = Path(tempfile.mkdtemp(dir=programs))
    path.chmod(0o755)
    if user:
        shutil.chown(path, user)
    return path


@pytest.fixture(scope="session")
def authority(top):
    return Authority(top / "ca")


@pytest.fixture
def serve():
    servers = []

    def start(tls=None):
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads, s.seen, s.big, s.heard = True, [], b"", threading.Semaphore(0)
        s.handle_error = lambda *a: None
        if tls:
            s.socket = tls.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
        s.address = f"127.0.0.1:{s.server_port}"
        threading.Thread(target=s.serve_forever, daemon=True).start()
        servers.append(s)
        return s

    yield start
    for s in servers:
        s.shutdown()
        s.server_close()


@pytest.fixture
def raw():
    servers = []

    def start(answer):
        servers.append(Raw(answer))
        return servers[-1]

    yield start
    for s in servers:
        s.close()


class Result:
    def __init__(self, r, log):
        self.status, self.out, self.err = r.returncode, r.stdout, r.stderr
        self.log = log.read_text() if log.exists() else ""
        self.messages = []
        for line in self.log.splitlines():
            op, *fields = line.split("\t")
            self.messages.append({"op": op, **dict(f.split("=", 1) for f in fields)})

    def http(self):
        """(request, verdict, status, why) of each GATE_HTTP with a status: how each request ended."""
        return [(m["text"], m["verdict"], int(m["status"]), m["why"]) for m in self.messages
                if m["op"] == "HTTP" and m["status"] != "0"]

    def closed(self):
        return [m["text"] for m in self.messages if m["op"] == "CLOSED"]


@pytest.fixture
def gate(programs, work, user):
    """Runs a command in a jail's namespace behind a gateway with these rules."""

    def run(rules, *command, gateway=(), env=None, timeout=60):
        log = work / "log"
        argv = []
        if user:
            argv = ["setpriv", "--reuid", user, "--regid", pwd.getpwnam(user).pw_gid, "--clear-groups"]
        argv += [programs / "gaterun", "--log", log, "--ca", work / "crew-ca.pem", "--gateway",
                 " ".join(map(str, [programs / "crew-gateway", *gateway]))]
        for r in rules:
            argv += ["--rule", r]
        r = subprocess.run([str(a) for a in [*argv, "--", *command]], capture_output=True, text=True, timeout=timeout,
                           env={**os.environ, **(env or {})}, cwd=work)
        assert r.returncode not in (123, 124, 125), r.stderr
        return Result(r, log)

    return run


def python(code):
    return ["/usr/bin/python3", "-c", "import http.client, json, os, socket, ssl, sys, time, hashlib\n" + code]


def rule(server, *more, port=80):
    return " ".join([f"host={NAME} port={port} to={server.address}", *more])


def inspected(server, authority, *more):
    return rule(server, "inspect", f"ca={authority.pem}", *more, port=443)


def body_of(text):
    return json.loads(text[text.index("\n{"):])


# --- plain HTTP ---


@both
def test_methods_and_paths_are_enforced_and_the_refusal_is_json(gate, serve):
    s = serve()
    r = gate([rule(s, "methods=GET,HEAD", "paths=/v1/**")], "sh", "-c", f"""
        curl -sS http://{NAME}/v1/quotes?key=1
        curl -sS -o /dev/null -w '%{{http_code}} %{{content_type}}\\n' -X DELETE http://{NAME}/v1/quotes
        curl -sS http://{NAME}/admin
        curl -sS --path-as-is http://{NAME}/v1/../admin
        curl -sS --path-as-is http://{NAME}/v1/%2e%2e/admin
        curl -sS http://{NAME}/v1%2fadmin""")
    first, code, *refusals = r.out.splitlines()
    assert first == "hello from /v1/quotes?key=1"
    assert code == "403 application/json"
    assert len(refusals) == 4
    for text in refusals:
        j = json.loads(text)
        assert j["rule"] == "policy.yaml:1" and NAME in j["error"]
        assert j["next_steps"][-1] == "ask the operator to allow this in the agent's policy" and len(j["next_steps"]) == 2
    assert [x[:2] for x in s.seen] == [("GET", "/v1/quotes?key=1")]
    assert [x[:3] for x in r.http()] == [
        ("GET /v1/quotes", "let", 200), ("DELETE /v1/quotes", "refuse", 403), ("GET /admin", "refuse", 403),
        ("GET /v1/../admin", "refuse", 403), ("GET /v1/%2e%2e/admin", "refuse", 403), ("GET /v1%2fadmin", "refuse", 403)]
    assert "key=1" not in r.log, "a query may hold secrets"


def test_a_request_is_on_record_before_the_server_has_it(gate, serve):
    r = gate([rule(serve(), "methods=GET")], "curl", "-sS", f"http://{NAME}/x")
    http = [m["status"] for m in r.messages if m["op"] == "HTTP"]
    assert http == ["0", "200"]
    assert [m["op"] for m in r.messages][:2] == ["ALLOWED", "HTTP"]


SMUGGLING = [
    "GET / HTTP/1.1\nHost: api.test\n\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nX: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nX : a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "GET http://evil.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET http://me@api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n\r\n",
    "CONNECT api.test:80 HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nX: " + "a" * 17000 + "\r\n\r\n",
    "EHLO me\r\n\r\n",
    "GET / HTTP/1.1\rHost: api.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nX: a\rY: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1, 1\r\n\r\na",
    "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: +1\r\n\r\na",
    "POST / HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\na",
    "GET http://api.test:81/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: evil.test:80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\tevil.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n",
    "GET /..;/admin HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET /v1//admin HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET /v1%5c..%5cadmin HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET /%c0%ae%c0%ae/admin HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET /%252e%252e/admin HTTP/1.1\r\nHost: api.test\r\n\r\n",
]


def test_what_could_be_read_two_ways_never_reaches_the_server(gate, raw):
    s = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    code = f"""
for text in {SMUGGLING!r} + ["GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\n\\r\\n"]:
    s = socket.create_connection(("{NAME}", 80))
    s.sendall(text.encode())
    print(s.recv(65536).split(b" ")[1].decode())
    s.close()
"""
    r = gate([rule(s, "paths=/**")], *python(code))
    codes = r.out.split()
    assert len(codes) == len(SMUGGLING) + 1, r.err
    assert codes.pop() == "200", "the same, well-formed, passes"
    assert set(codes) == {"400", "403"}, codes
    assert [g for g in s.got if g] == [f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()]


def test_pipelined_requests_are_judged_one_by_one(gate, serve):
    s = serve()
    one = "GET /v1/%s HTTP/1.1\r\nHost: api.test\r\n\r\n"
    text = one % 1 + one % 2 + "GET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n" + one % 3
    code = f"""
s = socket.create_connection(("{NAME}", 80))
s.sendall({text!r}.encode())
s.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: s.recv(65536), b"")).decode())
"""
    r = gate([rule(s, "paths=/v1/*")], *python(code))
    assert [x[1] for x in s.seen] == ["/v1/1", "/v1/2", "/v1/3"]
    codes = [w.split()[0] for w in r.out.split("HTTP/1.1 ")[1:]]
    assert codes == ["200", "200", "403", "200"]


def test_large_bodies_pass_whole_both_ways(gate, serve, work):
    s = serve()
    s.big = os.urandom(1 << 20) * 24
    up = work / "up"
    up.write_bytes(s.big)
    r = gate([rule(s, "paths=/v1/**")], "sh", "-c", f"""
        curl -sS http://{NAME}/v1/big | sha256sum | cut -d' ' -f1
        curl -sS --data-binary @{up} http://{NAME}/v1/up; echo
        curl -sS --data-binary @{up} -H 'Transfer-Encoding: chunked' http://{NAME}/v1/up; echo
        curl -sS http://{NAME}/v1/chunked""")
    want = hashlib.sha256(s.big).hexdigest()
    assert r.out.split() == [want, want, want, "".join(f"part{i:02d}" for i in range(20))], r.err
    assert any(h.get("Expect") for _, _, h in s.seen), "curl asked to continue"


def test_a_keep_alive_connection_is_one_connection(gate, serve):
    s = serve()
    code = f"""
c = http.client.HTTPConnection("{NAME}")
for i in range(50):
    c.request("GET", f"/v1/{{i}}")
    assert c.getresponse().read() == b"hello from /v1/%d\\n" % i
c.request("DELETE", "/v1/x")
r = c.getresponse()
assert r.status == 403 and json.loads(r.read())["rule"]
c.request("HEAD", "/v1/x")
assert c.getresponse().read() == b""
c.request("GET", "/v1/y")
assert c.getresponse().read()
"""
    r = gate([rule(s, "methods=GET,HEAD")], *python(code))
    assert r.status == 0, r.err
    assert len([m for m in r.messages if m["op"] == "ALLOWED"]) == 1
    assert len(r.http()) == 53


def test_events_arrive_while_they_are_sent(gate, serve):
    """Each before the next is sent: the server waits to be told."""
    code = f"""
c, other = (http.client.HTTPConnection("{NAME}", timeout=15) for _ in range(2))
c.request("GET", "/v1/events")
r = c.getresponse()
while line := r.readline():
    if line.startswith(b"data"):
        print(int(line[6:]))
        other.request("GET", "/v1/heard")
        other.getresponse().read()
"""
    r = gate([rule(serve(), "methods=GET")], *python(code))
    assert (r.status, r.out.split()) == (0, ["0", "1", "2"]), r.err


def test_curl_that_would_like_http2_gets_http1(gate, serve):
    r = gate([rule(serve(), "methods=GET")], "curl", "-sS", "--http2", "-w", "%{http_version}", f"http://{NAME}/x")
    assert r.out == "hello from /x\n1.1"


def test_audit_lets_through_and_says_what_it_would_have_refused(gate, serve):
    s = serve()
    r = gate([rule(s, "methods=GET", "paths=/v1/**", "audit")], "sh", "-c", f"""
        curl -sS http://{NAME}/v1/x
        curl -sS -X DELETE http://{NAME}/admin
        curl -sS -o /dev/null -w '%{{http_code}}' -H 'Host: evil.test' http://{NAME}/v1/x""")
    assert r.out == "hello from /v1/x\nhello from /admin\n403"
    assert [x[1:3] for x in r.http()] == [("let", 200), ("would", 200), ("refuse", 403)]
    assert r.http()[1][3] == "the path is not in paths"


def test_a_slow_reader_costs_bounded_memory(gate, serve, programs):
    s = serve()
    s.big = bytes(200 << 20)
    code = f"""
before = int(open("/proc/sys/vm/overcommit_memory").read())  # readable here
s = socket.create_connection(("{NAME}", 80))
s.sendall(b"GET /v1/big HTTP/1.1\\r\\nHost: {NAME}\\r\\n\\r\\n")
time.sleep(1)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if b"{programs}/crew-gateway" in open(f"/proc/{{pid}}/cmdline", "rb").read().split(b"\\0")[0]:
            print(*[l.split()[1] for l in open(f"/proc/{{pid}}/status") if l.startswith("VmRSS")])
    except OSError:
        pass
"""
    r = gate([rule(s, "methods=GET")], *python(code))
    sizes = [int(x) for x in r.out.split()]
    assert sizes and max(sizes) < (400 << 10 if os.environ.get("CREWD_SANITIZED") else 40 << 10), r.err


def test_tls_and_plain_are_not_mixed_up(gate, serve, authority):
    s = serve()
    t = serve(authority.context(NAME))
    r = gate([rule(s, "methods=GET", port=443)], "curl", "-sSk", f"https://{NAME}/x", gateway=["--inspect"])
    assert r.status != 0 and not s.seen
    assert "TLS on an endpoint with HTTP rules but without tls: inspect" in r.closed() + [m["text"] for m in r.messages]
    r = gate([inspected(t, authority)], "curl", "-sS", f"http://{NAME}:443/x", gateway=["--inspect"])
    assert r.status != 0 and not t.seen
    assert "not TLS on an endpoint with tls: inspect" in r.closed() + [m["text"] for m in r.messages]


# --- inspection ---


@both
def test_https_is_inspected_with_the_crews_own_ca(gate, serve, authority):
    s = serve(authority.context(NAME))
    code = f"""
c = http.client.HTTPSConnection("{NAME}", context=ssl.create_default_context(cafile=os.environ["CA_FILE"]))
c.request("GET", "/v1/py")
print(c.sock.version(), c.getresponse().read().decode(), end="")
print(dict(x[0] for x in c.sock.getpeercert()["issuer"])["commonName"])
"""
    r = gate([inspected(s, authority, "methods=GET", "paths=/v1/**")], "sh", "-c", f"""
        curl -sS --cacert $CA_FILE https://{NAME}/v1/quotes
        curl -sS --cacert $CA_FILE -X POST -d x https://{NAME}/v1/quotes
        exec "$@" """, "sh", *python(code), gateway=["--inspect"])
    lines = r.out.splitlines()
    assert lines[0] == "hello from /v1/quotes", r.err
    assert json.loads(lines[1])["error"].startswith("POST /v1/quotes on api.test:443: POST is not in methods")
    assert lines[2:] == ["TLSv1.3 hello from /v1/py", "crewd inspection CA of this crew"]
    assert [x[:2] for x in s.seen] == [("GET", "/v1/quotes"), ("GET", "/v1/py")]
    assert [x[:3] for x in r.http()] == [("GET /v1/quotes", "let", 200), ("POST /v1/quotes", "refuse", 403), ("GET /v1/py", "let", 200)]


def test_the_crews_ca_is_trusted_by_nobody_else(gate, serve, authority):
    s = serve(authority.context(NAME))
    r = gate([inspected(s, authority)], "curl", "-sS", f"https://{NAME}/", gateway=["--inspect"])
    assert r.status == 60 and not s.seen
    assert any("TLS with the agent" in t for t in r.closed()), r.closed()


@pytest.mark.parametrize("fault", ["untrusted", "another name", "expired", "not tls"])
def test_a_bad_certificate_of_the_server_is_a_502_that_says_so(gate, serve, raw, authority, top, fault):
    if fault == "untrusted":
        other = top / "other-ca"
        shutil.rmtree(other, ignore_errors=True)
        s, say = serve(Authority(other).context(NAME)), "certificate"
    elif fault == "another name":
        s, say = serve(authority.context("other.test")), "hostname mismatch"
    elif fault == "expired":
        s, say = serve(authority.context(NAME, "-days", "-1")), "expired"
    else:
        s, say = raw(b"220 mail.test ESMTP\r\n"), "TLS with the server"
    r = gate([inspected(s, authority)], "sh", "-c", f"curl -sS -i --cacert $CA_FILE https://{NAME}/x", gateway=["--inspect"])
    assert r.out.startswith("HTTP/1.1 502 "), r.out + r.err
    assert say in body_of(r.out)["error"], r.out
    ((request, _, status, why),) = r.http()
    assert (request, status) == ("GET /x", 502) and say in why
    assert not getattr(s, "seen", None)


def test_only_http1_is_spoken_in_tls(gate, serve, authority):
    s = serve(authority.context(NAME))
    code = f"""
for alpn in (["h2", "http/1.1"], ["h2"]):
    ctx = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    ctx.set_alpn_protocols(alpn)
    try:
        t = ctx.wrap_socket(socket.create_connection(("{NAME}", 443)), server_hostname="{NAME}")
        print(t.selected_alpn_protocol())
    except ssl.SSLError as e:
        print("no application protocol" in str(e))
"""
    r = gate([inspected(s, authority)], *python(code), gateway=["--inspect"])
    assert r.out.split() == ["http/1.1", "True"], r.err


def test_host_in_tls_has_to_be_the_name_too(gate, serve, authority):
    s = serve(authority.context(NAME))
    r = gate([inspected(s, authority)], "sh", "-c",
             f"curl -sS --cacert $CA_FILE -H 'Host: evil.test' https://{NAME}/x", gateway=["--inspect"])
    assert "Host is not api.test:443" in json.loads(r.out)["error"]
    assert not s.seen


def test_large_bodies_pass_whole_through_inspection(gate, serve, authority, work):
    s = serve(authority.context(NAME))
    s.big = os.urandom(1 << 20) * 8
    up = work / "up"
    up.write_bytes(s.big)
    r = gate([inspected(s, authority)], "sh", "-c", f"""
        curl -sS --cacert $CA_FILE https://{NAME}/v1/big | sha256sum | cut -d' ' -f1
        curl -sS --cacert $CA_FILE --data-binary @{up} https://{NAME}/v1/up""", gateway=["--inspect"])
    want = hashlib.sha256(s.big).hexdigest()
    assert r.out.split() == [want, want], r.err


# --- credentials ---


@pytest.fixture
def secrets(work, user):
    """A credentials file; the token file beside it holds SECRET."""
    def write(text, mode=0o600):
        for name, what, bits in (("token", SECRET + "\n", 0o600), ("credentials", text, mode)):
            (work / name).write_text(what)
            (work / name).chmod(bits)
            if user:
                shutil.chown(work / name, user)
        return ["--inspect", "--credentials", work / "credentials"]
    return write


KEY = f"[market-key]\nhost = {NAME}\npath = /v1/**\n"


@both
@pytest.mark.parametrize("source", ["file = token", "env = KEYS_TEST_TOKEN", "command = /usr/bin/printenv KEYS_TEST_TOKEN"])
def test_a_credential_reaches_the_server_and_never_the_agent(gate, serve, authority, secrets, source):
    s = serve(authority.context(NAME))
    r = gate([inspected(s, authority, "credential=market-key", "paths=/**")], "sh", "-c", f"""
        curl -sS -i --compressed --cacert $CA_FILE -H 'Authorization: Bearer mine' https://{NAME}/v1/echo
        curl -sS -i --cacert $CA_FILE -H 'authorization: Bearer mine' https://{NAME}/v2/x""",
             gateway=secrets(KEY + source + "\n"), env={"KEYS_TEST_TOKEN": SECRET})
    assert len(s.seen) == 2, r.out + r.err
    assert s.seen[0][2]["Authorization"] == f"Bearer {SECRET}"
    assert "Authorization" not in s.seen[1][2], "bound to its path; the agent's own is gone"
    assert f"X-Echo: Bearer {'*' * len(SECRET)}" in r.out and f"Bearer {'*' * len(SECRET)}\"" in r.out
    for text in (r.out, r.err, r.log):
        assert SECRET not in text


@both
def test_a_secret_is_nowhere_to_be_seen(gate, serve, authority, secrets):
    """Whatever can be read about the gateway but its memory."""
    secret = f"sk-{uuid.uuid4().hex}"  # the environment that another test's gateway starts with is not this one's matter
    s = serve(authority.context(NAME))
    code = f"""
import subprocess
found, gateways = [], 0
subprocess.run(["curl", "-sS", "--cacert", os.environ["CA_FILE"], "https://{NAME}/v1/echo"], check=True,
               stdout=subprocess.DEVNULL)
needle = "{secret}".encode()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        name = open(f"/proc/{{pid}}/comm").read().strip()
        gateways += name.startswith("crew-gateway")
        if not name.startswith("crew-"):
            continue
        for file in ("environ", "cmdline", "status", "stat", "maps", "limits"):
            if needle in open(f"/proc/{{pid}}/{{file}}", "rb").read():
                found.append((name, file))
    except OSError:
        pass
print(json.dumps([gateways > 0, found]))
"""
    r = gate([inspected(s, authority, "credential=market-key")], *python(code),
             gateway=secrets(KEY + "env = KEYS_TEST_TOKEN\n"), env={"KEYS_TEST_TOKEN": secret})
    assert s.seen and s.seen[0][2]["Authorization"] == f"Bearer {secret}", r.err
    assert json.loads(r.out) == [True, []]


def test_a_credential_needs_tls_unless_its_file_says_otherwise(gate, serve, secrets):
    for plain in (False, True):
        s = serve()
        r = gate([rule(s, "credential=market-key")], "curl", "-sS", f"http://{NAME}/v1/echo",
                 gateway=secrets(f"[market-key]\nhost = {NAME}\nport = 80\nfile = token\n" + "plain_http = yes\n" * plain))
        assert ("Authorization" in s.seen[0][2]) == plain
        assert SECRET not in r.out


def test_a_secret_split_over_packets_is_masked(gate, raw, secrets):
    def drip(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-A: " + SECRET[:7].encode())
        time.sleep(0.05)
        sock.sendall(SECRET[7:].encode() + b"\r\nContent-Length: %d\r\n\r\n" % (2 * len(SECRET) + 4))
        for i in range(0, len(SECRET), 4):
            sock.sendall(SECRET[i:i + 4].encode())
            time.sleep(0.02)
        sock.sendall(b"...." + SECRET[:10].encode() + b"x" * (len(SECRET) - 10))
    s = raw(drip)
    r = gate([rule(s, "credential=market-key")], "curl", "-sS", "-i", f"http://{NAME}/v1/x",
             gateway=secrets(f"[market-key]\nhost = {NAME}\nport = 80\nfile = token\nplain_http = yes\n"))
    stars = "*" * len(SECRET)
    assert r.out.replace("\r", "").endswith(f"X-A: {stars}\nContent-Length: {2 * len(SECRET) + 4}\n\n{stars}....{SECRET[:10]}"
                                            + "x" * (len(SECRET) - 10)), r.out


def test_a_rule_whose_credential_is_missing_is_refused(gate, serve, authority, secrets):
    s = serve(authority.context(NAME))
    r = gate([inspected(s, authority, "credential=other-key")], "sh", "-c",
             f"curl -sS --cacert $CA_FILE https://{NAME}/v1/x", gateway=secrets(KEY + "file = token\n"))
    assert "does not have the credential" in json.loads(r.out)["error"] and not s.seen


@pytest.mark.parametrize("text, bits, say", [
    (KEY + "file = token\n", 0o644, "has mode 0644: others than its owner may use it (chmod 600)"),
    (KEY, 0o600, "1: [market-key] has no source"),
    (KEY + "file = nowhere\n", 0o600, "credential market-key: its file: cannot be opened"),
    (KEY + "command = /bin/false\n", 0o600, "credential market-key: its command failed (status 1)"),
])
def test_a_bad_credentials_file_stops_the_start_and_says_why(programs, secrets, text, bits, say):
    args = [str(a) for a in secrets(text, bits)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    r = subprocess.run([programs / "crew-gateway", "--fd", str(theirs.fileno()), *args], pass_fds=[theirs.fileno()], capture_output=True,
                       text=True, timeout=30)
    hello = ours.recv(65536)
    assert r.returncode == 1
    assert say in r.stderr and say.encode()[:100] in hello
    assert SECRET not in r.stderr and SECRET.encode() not in hello


@pytest.mark.parametrize("last", ["sleep 1000", "exec >&-; sleep 1000"], ids=["silent", "output closed"])
def test_a_command_that_does_not_end_is_killed_with_its_children(programs, secrets, work, user, last):
    """It keeps its output open, or closes it after the whole secret: neither is waited for longer than said."""
    (work / "slow").write_text(f"#!/bin/sh\necho $$ > {work}/pids\nsleep 1000 >&- &\necho $! >> {work}/pids\n"
                               f"printf {SECRET}\n{last}\n")
    (work / "slow").chmod(0o700)
    args = [str(a) for a in secrets(KEY + f"command = {work}/slow\n")]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    began = time.monotonic()
    r = subprocess.run([programs / "crew-gateway", "--fd", str(theirs.fileno()), *args], pass_fds=[theirs.fileno()],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and 10 <= time.monotonic() - began < 40
    say = "credential market-key: its command did not end within 10 s"
    assert say in r.stderr and say.encode() in ours.recv(65536)
    assert SECRET not in r.stderr
    pids = [int(line) for line in (work / "pids").read_text().split()]
    assert len(pids) == 2
    eventually(lambda: not alive(pids))  # the child is reaped by whoever adopts it


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
