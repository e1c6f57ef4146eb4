# SPDX-License-Identifier: Apache-2.0
"""crewd's side of egress: what the gateway is given, what of its reports is on record, and what happens when it dies."""

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

import crewd
import fake_gateway as fg
from crewlib import Crew, agent_status, alive, eventually, gateway_of, outside
from egresslib import Tcp
from gatewaylib import fake  # noqa: F401 (a fixture)

DIAL = """
import socket, time
began = time.monotonic()
try:
    s = socket.create_connection(({host!r}, {port}), timeout=8)
    said = s.recv(100)
    out(["connected", said.decode("latin-1"), time.monotonic() - began])
except OSError as e:
    out([type(e).__name__, str(e), time.monotonic() - began])
"""


def dial(client, agent, host="192.0.2.1", port=80):
    return client.submit(agent=agent, description=DIAL.format(host=host, port=port)).result(60)


def network(crew, agent, text):
    """Replaces the network section of an agent's policy."""
    name = f"{agent}.yaml"
    assert "network: {deny_all: true}" in crew.files[name]
    crew.files[name] = crew.files[name].replace("network: {deny_all: true}", "network: " + text)


# A sanitized program is its own /proc/PID/mem: terabytes of shadow, and copies of the environment.
READS_MEMORY = os.geteuid() == 0 and not os.environ.get("CREWD_SANITIZED")


def memory_holds(pid, needle):
    """Whether a process has these bytes in memory it can write."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            where, perms = line.split()[:2]
            start, end = (int(x, 16) for x in where.split("-"))
            if not perms.startswith("rw"):
                continue
            try:
                mem.seek(start)
                if needle in mem.read(end - start):
                    return True
            except (OSError, ValueError, OverflowError):
                continue
    return False


# --- what it is given ---

def test_the_gateway_gets_four_listeners_and_a_policy_with_its_digest_on_record(runner, fake):  # noqa: F811
    f = fake()
    crew = Crew(runner).agent("a")
    with crew.start():
        add = eventually(lambda: f.heard(fg.ADD))[0]
        assert (add["fds"], add["magic"]) == (5, "CNPL")
    assert [m for m in f.heard() if m.get("op") == fg.REMOVE and m["id"] == add["id"]]
    assert len(crew.records("a", "agent.policy")[0]["network_sha256"]) == 64


def test_only_the_gateway_has_the_operators_environment(runner, fake):  # noqa: F811
    f = fake()
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        eventually(f.heard)
        tree = {running.client().pid: "crewd", **outside(running.proc.pid)}
        if READS_MEMORY:
            readable = [p for p, comm in tree.items() if comm in ("crewd", "crew-worker", "crew-evidence")]
            looked_at = 0
            for pid in readable:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it was one of a moment
                    assert b"s3cr3t" not in Path(f"/proc/{pid}/environ").read_bytes(), tree[pid]
                    assert not memory_holds(pid, b"s3cr3t-value"), tree[pid]
                    looked_at += 1
            assert looked_at >= 3
            launcher = next(p for p, comm in tree.items() if comm == "crewd-launcher")
            assert memory_holds(launcher, b"s3cr3t-value")
        assert running.client().submit(agent="a", description="out(dict(os.environ))").result(60).get("SECRET_TOKEN") is None
    assert f.heard()[0]["secret"] == "s3cr3t-value"


def test_credentials_are_named_to_the_gateway_and_never_read_by_crewd(runner, fake):  # noqa: F811
    f = fake()
    crew = Crew(runner).agent("a")
    crew.files["credentials.yaml"] = "market: {value: hunter2}\n"
    crew.extra = "credentials: credentials.yaml\n"
    path = crew.write()
    r = runner.run(runner.program("crewd"), path)
    assert r.returncode == 2 and "can be read or written by others" in r.stderr and "chmod 600 it" in r.stderr
    (crew.top / "credentials.yaml").chmod(0o600)
    with crew.start() as running:
        if READS_MEMORY:
            assert not memory_holds(running.client().pid, b"hunter2")
    assert f.heard()[0]["args"] == ["--fd", "--credentials", str(crew.top / "credentials.yaml")]


def test_a_gateway_that_refuses_to_start_stops_the_start_with_its_words(runner, fake):  # noqa: F811
    fake(refuse="credentials.yaml:3: no such variable")
    crew = Crew(runner).agent("a")
    crew.files["credentials.yaml"] = "x"
    crew.extra = "credentials: credentials.yaml\n"
    path = crew.write()
    (crew.top / "credentials.yaml").chmod(0o600)
    r = runner.run(runner.program("crewd"), path)
    assert r.returncode == 1
    assert "crew-gateway did not start: credentials.yaml:3: no such variable" in r.stderr


INSPECT = "{allowed_endpoints: [{host: api.test, port: 443, methods: [GET], tls: inspect}]}"
CERT = "-----BEGIN CERTIFICATE-----\nTHECREWSOWN\n-----END CERTIFICATE-----\n"
LOOK = """
names = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT"]
def read(path):
    try: return open(path).read()
    except OSError as e: return str(e)
def change(path):
    try: open(path, "a"); return "changed"
    except OSError as e: return e.errno
paths = [os.environ.get(n, "") for n in names]
system = "/etc/ssl/certs/ca-certificates.crt"
text = read(system)
out({"same": len(set(paths)) == 1, "path": paths[0], "set": "THECREWSOWN" in read(paths[0] or "/none"),
     "system": "THECREWSOWN" in text, "host": text.count("BEGIN CERT") > 10, "change": [change(system), change(paths[0] or system)]})
"""


def test_an_inspected_agent_and_no_other_trusts_the_crews_ca(runner, fake):  # noqa: F811
    f = fake(ca=CERT)
    crew = Crew(runner).agent("a").agent("b")
    network(crew, "a", INSPECT)
    with crew.start() as running:
        client = running.client()
        bundle = Path("/etc/ssl/certs/ca-certificates.crt").exists()
        seen = client.submit(agent="a", description=LOOK).result(60)
        assert (seen["same"], seen["set"], seen["system"], seen["host"]) == (True, True, bundle, bundle)
        assert seen["path"] == "/run/crew/ca-bundle.pem" and "changed" not in seen["change"]
        other = client.submit(agent="b", description=LOOK).result(60)
        assert (other["path"], other["system"], other["host"]) == ("", False, bundle)
        # A new gateway has a new CA: who looks again finds it in the same place.
        f.play(ca=CERT.replace("CREWSOWN", "NEXTCREWSOWN"))
        os.kill(gateway_of(running), signal.SIGKILL)
        eventually(lambda: crew.records("a", "gateway.restarted"))
        code = "out('THENEXTCREWSOWN' in open(os.environ['SSL_CERT_FILE']).read())"
        assert client.submit(agent="a", description=code).result(60) is True
    assert f.heard()[0]["args"] == ["--fd", "--inspect"]
    assert not (crew.run_dir / "ca-bundle.pem").exists()


@pytest.mark.parametrize("ca", [None, "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN PRIVATE KEY-----\n"])
def test_a_crew_that_inspects_does_not_start_without_a_ca(runner, fake, ca):  # noqa: F811
    fake(ca=ca)
    crew = Crew(runner).agent("a")
    network(crew, "a", INSPECT)
    r = runner.run(runner.program("crewd"), crew.write())
    assert r.returncode == 1
    assert "crew-gateway did not start: " in r.stderr and ("it gives no CA" in r.stderr or "is no certificate" in r.stderr)


# --- what it reports ---

def test_reports_become_records_and_text(runner, fake):  # noqa: F811
    conn = {"conn": 7, "name": "api.marketdata.com", "port": 443, "where": "a.yaml:5"}
    fake(on_add=[
        {"op": fg.ALLOWED, **conn, "proto": 6, "peer": "203.0.113.7:443"},
        {"op": fg.HTTP, **conn, "verdict": 0, "text": "DELETE /v1/quotes", "why": "method DELETE is not listed", "status": 403},
        {"op": fg.CLOSED, **conn, "up": 1204, "down": 88121, "duration_us": 312400},
        {"op": fg.DENIED, "proto": 6, "name": "exfil.attacker.com", "port": 443, "text": "not in allowed_endpoints", "count": 1},
        {"op": fg.ALLOWED, "conn": 8, "name": "x.test", "port": 80, "verdict": 2, "text": "not in allowed_endpoints"},
    ])
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        eventually(lambda: len([r for r in crew.records("a") if r["src"] == "gateway"]) == 5)
        assert agent_status(running.client(), "a").denied == 2
        text = runner.crewctl("logs", "--agent", "a").stdout
        denied = runner.crewctl("logs", "--agent", "a", "--filter", "denied").stdout
    lines = [line.split("] ", 1)[1] for line in text.splitlines() if "NETWORK:" in line or "HTTP:" in line]
    assert lines == [
        "NETWORK: ALLOWED -> api.marketdata.com:443",
        "HTTP: DENIED -> DELETE api.marketdata.com/v1/quotes (method DELETE is not listed, status 403)",
        "NETWORK: CLOSED -> api.marketdata.com:443 (1.2 KB out, 88 KB in, 312 ms)",
        "NETWORK: DENIED -> exfil.attacker.com:443 (not in allowed_endpoints)",
        "NETWORK: WOULD DENY -> x.test:80 (not in allowed_endpoints)",
    ]
    assert [line.split("] ", 1)[1][:13] for line in denied.splitlines()] == ["HTTP: DENIED ", "NETWORK: DENI"]
    allowed = crew.records("a", "network.allowed")[0]
    assert (allowed["host"], allowed["port"], allowed["peer"], allowed["rule"], allowed["conn"], allowed["proto"]) == (
        "api.marketdata.com", 443, "203.0.113.7:443", "a.yaml:5", 7, "tcp")


def test_a_flood_of_closed_connections_is_one_record_with_sums(runner, fake):  # noqa: F811
    one = {"op": fg.CLOSED, "name": "x.test", "port": 443, "up": 10, "down": 100, "duration_us": 2000}
    fake(on_add=[one] * 1000 + [{**one, "port": 444}])
    crew = Crew(runner).agent("a")
    with crew.start():
        eventually(lambda: sum(r.get("count", 1) for r in crew.records("a", "network.closed")) == 1001)
    records = crew.records("a", "network.closed")
    windows = (records[-1]["t"] - records[0]["t"]) // 100_000_000  # on a busy machine they come over more than one
    assert len(records) <= 10 + 3 * windows
    for port, n in ((443, 1000), (444, 1)):
        those = [r for r in records if r["port"] == port]
        assert sum(r["bytes_out"] for r in those) == 10 * n
        assert sum(r["bytes_in"] for r in those) == 100 * n
        assert sum(r["ms"] for r in those) == 2 * n


def test_the_last_reports_of_an_instance_are_waited_for_at_the_end(runner, fake):  # noqa: F811
    f = fake(on_remove=[{"op": fg.CLOSED, "name": "x.test", "port": 443, "up": 1, "down": 2}])
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        eventually(lambda: f.heard(fg.ADD))
        running.client().kill("a", "test")
        eventually(lambda: crew.records("a", "network.closed"))
    crew = Crew(runner, "u").agent("a")
    with crew.start():
        eventually(lambda: len(f.heard(fg.ADD)) == 2)
    assert len(crew.records("a", "network.closed")) == 1


# --- with the real one ---

@contextlib.contextmanager
def server(greeting=b"", answer=b"pong\n"):
    """A TCP server on this host's loopback: greets, reads one line, answers, closes.  Gives its port and its peers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    peers = []

    def serve(conn):
        with contextlib.suppress(OSError), conn:
            conn.sendall(greeting)
            if conn.recv(4096):
                conn.sendall(answer)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                conn, peer = listener.accept()
                peers.append(peer)
                threading.Thread(target=serve, args=(conn,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], peers
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


TALK = """
import socket
try:
    with socket.create_connection(({host!r}, {port}), timeout=8) as s:
        s.sendall(b"ping\\n")
        got = b""
        while chunk := s.recv(4096):
            got += chunk
    out(["ok", got.decode()])
except OSError as e:
    out([type(e).__name__, str(e)])
"""


def talk(client, agent, host, port):
    return client.submit(agent=agent, description=TALK.format(host=host, port=port)).result(60)


def listed_crew(runner, port, endpoints='["api.test:7000"]', extra=""):
    crew = Crew(runner).agent("a").agent("b")
    network(crew, "a", f"{{allowed_endpoints: {endpoints}}}")
    crew.extra = f'endpoints: {{"api.test:7000": {{connect_to: "127.0.0.1:{port}"}}}}\n' + extra
    return crew


def test_a_listed_endpoint_is_reached_and_every_step_is_on_record(runner):
    with server(greeting=b"hello ") as (port, peers):
        crew = listed_crew(runner, port)
        with crew.start() as running:
            client = running.client()
            assert talk(client, "a", "api.test", 7000) == ["ok", "hello pong\n"]
            assert talk(client, "b", "api.test", 7000)[0] in ("ConnectionResetError", "ConnectionRefusedError")
            assert talk(client, "a", "api.test", 7001)[0] in ("ConnectionResetError", "ConnectionRefusedError")
            assert talk(client, "a", "other.test", 7000)[0] in ("ConnectionResetError", "ConnectionRefusedError")
            eventually(lambda: crew.records("a", "network.closed"))
            eventually(lambda: len(crew.records("a", "network.denied")) >= 2)
            status = {s.name: s.denied for s in client.status().agents}
            text = runner.crewctl("logs", "--agent", "a", "--filter", "network").stdout
        assert len(peers) == 1
    allowed = crew.records("a", "network.allowed")
    assert [(r["host"], r["port"], r["peer"], r["src"]) for r in allowed] == [
        ("api.test", 7000, f"127.0.0.1:{port}", "gateway")]
    assert allowed[0]["rule"].startswith(str(crew.top / "a.yaml") + ":") or "a.yaml:" in allowed[0]["rule"]
    closed = crew.records("a", "network.closed")
    assert [(r["conn"], r["bytes_out"], r["bytes_in"]) for r in closed] == [(allowed[0]["conn"], 5, 11)]
    assert allowed[0]["seq"] < closed[0]["seq"]
    denied = {(r["host"], r.get("port"), r["reason"]) for r in crew.records("a", "network.denied")}
    assert ("api.test", 7001, "not in allowed_endpoints") in denied
    assert ("other.test", 7000, "not in allowed_endpoints") in denied
    assert status["a"] >= 2 and status["b"] >= 1
    lines = [line.split("] ", 1)[1] for line in text.splitlines()]
    assert "NETWORK: ALLOWED -> api.test:7000" in lines
    assert any(re.fullmatch(r"NETWORK: CLOSED -> api\.test:7000 \(5 B out, 11 B in, \d+ ms\)", line) for line in lines)
    assert any(line.startswith("NETWORK: DENIED -> api.test:7001 (not in allowed_endpoints") for line in lines)


def inet_sockets(pid, table="/proc/self/net"):
    """Those of this process that are in that network namespace."""
    known = set()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        with contextlib.suppress(OSError):
            known |= {line.split()[9] for line in Path(table, name).read_text().splitlines()[1:]}
    held = set()
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # it was one of a moment
        return held
    for fd in descriptors:
        with contextlib.suppress(OSError):
            held |= set(re.findall(r"^socket:\[(\d+)\]$", os.readlink(fd)))
    return held & known


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the descriptors of what has no dump")
def test_only_the_gateway_is_on_the_hosts_network(runner):
    """crewd has spare listeners, but those are the jails'."""
    heard, looked = threading.Event(), threading.Event()

    def serve(s, _server):
        s.recv(1)
        heard.set()
        looked.wait(60)
        s.sendall(b"y")

    with Tcp(serve) as server:
        crew = listed_crew(runner, server.port)
        code = ("import socket\ns = socket.create_connection(('api.test', 7000))\n"
                "s.sendall(b'x'); s.recv(1); out('done')")
        with crew.start() as running:
            client = running.client()
            job = client.submit(agent="a", description=code)
            assert heard.wait(60)
            tree = {client.pid: "crewd", **outside(running.proc.pid)}
            held = {comm: inet_sockets(pid) for pid, comm in tree.items() if comm not in ("crew-resolver", "crew-keeper")}
            assert [comm for comm, sockets in held.items() if sockets] == ["crew-gateway"]
            listeners = inet_sockets(client.pid, f"/proc/{agent_status(client, 'a').pid}/net")
            assert len(listeners) == fg.LISTENERS, "the search finds what is there"
            if not os.environ.get("CREWD_SANITIZED"):
                assert "\nSeccomp:\t2\n" in Path(f"/proc/{client.pid}/status").read_text(), "and can make none"
            looked.set()
            assert job.result(60) == "done"


def test_after_a_restart_the_same_agent_reaches_its_endpoint_again(runner):
    with server() as (port, peers):
        crew = listed_crew(runner, port)
        with crew.start() as running:
            client = running.client()
            assert talk(client, "a", "api.test", 7000)[0] == "ok"
            os.kill(gateway_of(running), signal.SIGKILL)
            eventually(lambda: crew.records("a", "gateway.restarted"))
            assert talk(client, "a", "api.test", 7000)[0] == "ok"
        assert len(peers) == 2
    assert len(crew.records("a", "network.allowed")) == 2


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent, and keeps the keys."""

    keys = []

    def do_GET(self):
        self.keys.append(self.headers.get("Authorization"))
        body = json.dumps({"path": self.path, "key": self.headers.get("Authorization")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def https(top, host):
    """An HTTPS server for that name with a CA of its own, ca.pem in top."""
    run = lambda *a: subprocess.run(a, check=True, cwd=top, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=test ca", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", "ca.key", "-out", "ca.pem")
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={host}",
        "-keyout", "server.key", "-out", "server.csr")
    (top / "ext").write_text(f"subjectAltName=DNS:{host}\n")
    run("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "ext",
        "-out", "server.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(top / "server.pem", top / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


FETCH = """
import urllib.request, urllib.error
def fetch(method, path):
    request = urllib.request.Request("https://api.test" + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=8) as r: return [r.status, json.loads(r.read())]
    except urllib.error.HTTPError as e: return [e.code, json.loads(e.read())]
out([fetch("GET", "/v1/quotes"), fetch("DELETE", "/v1/quotes"), fetch("GET", "/private")])
"""


def test_inspected_requests_carry_a_credential_of_crewds_environment_and_are_on_record(runner, monkeypatch):
    env = runner.env
    monkeypatch.setattr(runner, "env", lambda extra=None: env({"MARKET_KEY": "s3cr3t-value", **(extra or {})}))
    crew = Crew(runner).agent("a")
    network(crew, "a", "{allowed_endpoints: [{host: api.test, port: 443, methods: [GET], paths: ['/v1/**'], tls: inspect,"
            " credential: market-key}]}")
    crew.files["keys"] = "[market-key]\nhost = api.test\npath = /v1/**\nenv = MARKET_KEY\n"
    crew.files["ca.pem"] = ""
    crew.extra = 'credentials: keys\nendpoints: {"api.test:443": {connect_to: "127.0.0.1:1", ca: ca.pem}}\n'
    path = crew.write()
    (crew.top / "keys").chmod(0o600)
    with https(crew.top, "api.test") as port:
        path.write_text(path.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
        for file in ("ca.pem", "crew.yaml"):
            (crew.top / file).chmod(0o644)
        with crew.start() as running:
            got, refused, outside_path = running.client().submit(agent="a", description=FETCH).result(60)
            eventually(lambda: len(crew.records("a", "network.http")) >= 4)
            text = runner.crewctl("logs", "--agent", "a").stdout
            status = runner.crewctl("status", "--json").stdout
    assert Echo.keys[-1:] == ["Bearer s3cr3t-value"]
    assert got[0] == 200 and got[1]["path"] == "/v1/quotes" and "s3cr3t" not in got[1]["key"]
    assert refused[0] == 403 and outside_path[0] == 403 and "error" in refused[1]
    lines = [line.split("] ", 1)[1] for line in text.splitlines() if "] HTTP:" in line]
    assert lines[0] == "HTTP: ALLOWED -> GET api.test/v1/quotes"
    assert lines[1] == "HTTP: ANSWERED -> GET api.test/v1/quotes (status 200)"
    assert lines[2].startswith("HTTP: DENIED -> DELETE api.test/v1/quotes (")
    assert lines[3].startswith("HTTP: DENIED -> GET api.test/private (")
    for where in (text, status, running.log(), *(p.read_text() for p in (runner.home / "lib").rglob("*") if p.is_file())):
        assert "s3cr3t" not in where


TRUST = """
import os, ssl, time, urllib.request
old = ssl.create_default_context()
def fetch(context):
    try:
        with urllib.request.urlopen("https://api.test/v1/quotes", timeout=8, context=context) as r: return r.status
    except OSError as e: return getattr(getattr(e, "reason", e), "verify_message", str(e))
def ask(context, wanted):
    end = time.monotonic() + 20
    while not wanted(got := fetch(context)) and time.monotonic() < end: time.sleep(0.1)
    return got
before = fetch(old)
after = ask(old, lambda got: "certificate" in str(got))
out([before, after, ask(ssl.create_default_context(), lambda got: got == 200)])
"""


def test_a_new_gateway_has_a_new_ca_and_programs_that_hold_the_old_one_see_an_unknown_issuer(runner):
    crew = Crew(runner).agent("a")
    network(crew, "a", "{allowed_endpoints: [{host: api.test, port: 443, tls: inspect}]}")
    crew.files["ca.pem"] = ""
    crew.extra = 'endpoints: {"api.test:443": {connect_to: "127.0.0.1:1", ca: ca.pem}}\n'
    path = crew.write()
    with https(crew.top, "api.test") as port:
        path.write_text(path.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
        for file in ("ca.pem", "crew.yaml"):
            (crew.top / file).chmod(0o644)
        with crew.start() as running:
            job = running.client().submit(agent="a", description=TRUST)
            eventually(lambda: [r for r in crew.records("a", "network.http") if r.get("status") == 200])
            os.kill(gateway_of(running), signal.SIGKILL)
            assert job.result(60) == [200, "unable to get local issuer certificate", 200]
    assert crew.records("a", "gateway.restarted")
    broken = [r for r in crew.records("a", "network.closed") if "unknown ca" in r.get("reason", "")]
    assert broken, crew.records("a", "network.closed")


def test_a_connection_that_lives_when_the_gateway_dies_is_reset(runner):
    with server(greeting=b"hello") as (port, peers):
        crew = listed_crew(runner, port)
        code = """
import socket
s = socket.create_connection(("api.test", 7000), timeout=8)
s.recv(5)
open(os.environ["CREW_STATE"] + "/up", "w").close()
try: out(repr(s.recv(5)))
except OSError as e: out(type(e).__name__)
"""
        with crew.start() as running:
            client = running.client()
            job = client.submit(agent="a", description=code)
            eventually(lambda: (runner.home / "lib/t/state/a/up").exists())  # it has had the greeting
            os.kill(gateway_of(running), signal.SIGKILL)
            assert job.result(60) == "ConnectionResetError"


HALF = """
import socket
s = socket.create_connection(("api.test", 7000), timeout=8)
try:
    if {up}:
        while True: s.sendall(b"x" * 65536)
    while s.recv(65536): pass
    out("whole")
except OSError as e: out(type(e).__name__)
"""


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
def test_half_a_transfer_never_looks_whole_when_the_gateway_dies(runner, up):
    """Neither to the program nor to its server: the kernel resets both."""
    moved, ended = [0], []

    def serve(s, _server):
        try:
            while up and (n := len(s.recv(65536))) or not up and (n := s.send(b"x" * 65536)):
                moved[0] += n
            ended.append("whole")
        except OSError as e:
            ended.append(type(e).__name__)

    with Tcp(serve) as server:
        crew = listed_crew(runner, server.port)
        with crew.start() as running:
            job = running.client().submit(agent="a", description=HALF.format(up=up))
            eventually(lambda: moved[0] > 10 << 20)
            os.kill(gateway_of(running), signal.SIGKILL)
            assert job.result(60) in ("ConnectionResetError", "BrokenPipeError")
            assert eventually(lambda: ended)[0] in ("ConnectionResetError", "BrokenPipeError")
            eventually(lambda: crew.records("a", "gateway.restarted"))
        assert [r["host"] for r in crew.records("a", "network.allowed")] == ["api.test"]
        assert [r["source"] for r in crew.records("a", "evidence.lost")] == ["gateway"], "how it ended nobody could say"


def test_credentials_that_cannot_be_had_stop_the_start_and_say_where(runner):
    crew = Crew(runner).agent("a")
    crew.files["keys"] = "[market-key]\nhost = api.test\nenv = NOT_SET_ANYWHERE\n"
    crew.extra = "credentials: keys\n"
    path = crew.write()
    (crew.top / "keys").chmod(0o600)
    r = runner.run(runner.program("crewd"), path)
    assert r.returncode == 1
    last = r.stderr.splitlines()[-1]
    assert last.startswith("crewd: crew-gateway did not start: ") and "keys: credential market-key: " in last, r.stderr


# --- when it dies ---

def test_a_gateway_that_dies_is_restarted_and_that_is_on_record(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        first = eventually(lambda: gateway_of(running))
        assert dial(client, "a")[0] in ("ConnectionResetError", "ConnectionRefusedError")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: gateway_of(running) not in (None, first))
        eventually(lambda: crew.records("a", "gateway.restarted"))
        assert dial(client, "a", "192.0.2.77")[0] in ("ConnectionResetError", "ConnectionRefusedError")
        eventually(lambda: [r for r in crew.records("a", "network.denied") if r["host"] == "192.0.2.77"])
        assert agent_status(client, "a").walls.startswith("full") or "gateway" not in agent_status(client, "a").walls
        assert "crew-gateway is gone" in running.log() and "crew-gateway is up again" in running.log()
    lost = [r for r in crew.records("a", "evidence.lost") if r["source"] == "gateway"]
    assert len(lost) == 1
    again = crew.records("a", "gateway.restarted")
    # At once, and not after a pause: the second try would have one.
    assert len(again) == 1 and again[0]["cause"] == "signal 9" and again[0]["attempt"] == 1 and again[0]["after_ms"] < 10000


@pytest.mark.waits
def test_a_gateway_that_hangs_is_replaced_and_one_that_is_only_quiet_is_not(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        first = eventually(lambda: gateway_of(running))
        time.sleep(18)  # without a word it would be gone by now
        assert gateway_of(running) == first and not crew.records("a", "gateway.restarted")
        os.kill(first, signal.SIGSTOP)
        eventually(lambda: gateway_of(running) not in (None, first), timeout=40)
        eventually(lambda: crew.records("a", "gateway.restarted"))
        assert dial(running.client(), "a")[0] in ("ConnectionResetError", "ConnectionRefusedError")
        assert "crew-gateway does not answer" in running.log() and "crew-gateway is up again" in running.log()
    [again] = crew.records("a", "gateway.restarted")
    assert again["cause"] == "signal 9" and again["attempt"] == 1 and again["after_ms"] < 10000


def kill_gateway(running, crew, times):
    """The last time there is no other for a while: 1 s the second, 5 s the third."""
    for n in range(times):
        pid = eventually(lambda: gateway_of(running))
        eventually(lambda: len(crew.records("a", "gateway.restarted")) == n)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: gateway_of(running) != pid)
    return pid


@pytest.mark.waits
def test_while_there_is_no_gateway_dials_are_refused_at_once(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        launcher = next(p for p, comm in outside(running.proc.pid).items() if comm == "crewd-launcher")
        kill_gateway(running, crew, 3)
        os.kill(launcher, signal.SIGSTOP)  # no next one while this looks, however long that takes
        walls = eventually(lambda: [w for w in [agent_status(client, "a").walls] if "gateway" in w])
        assert "gateway restarting: every connection refused" in walls[0]
        error, _, seconds = dial(client, "a")
        assert error == "ConnectionRefusedError" and seconds < 5  # its patience is 8
        error, _, seconds = dial(client, "a", "name.test")
        assert error == "gaierror" and seconds < 4  # the resolver's is 5
        os.kill(launcher, signal.SIGCONT)
        eventually(lambda: len(crew.records("a", "gateway.restarted")) == 3)
        assert [r["attempt"] for r in crew.records("a", "gateway.restarted")] == [1, 2, 3]
        waited = [r["after_ms"] for r in crew.records("a", "gateway.restarted")]
        assert 900 <= waited[1] and max(4900, waited[0]) <= waited[2]
        assert "gateway" not in agent_status(client, "a").walls


@pytest.mark.waits
def test_an_agent_started_while_there_is_no_gateway_gets_its_network_with_the_next(runner):
    crew = Crew(runner).agent("a", restart={"max": 3, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        second = kill_gateway(running, crew, 3)
        pid = agent_status(client, "a").pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: agent_status(client, "a").incarnation == 2
                   and agent_status(client, "a").state == crewd.AgentState.READY)
        eventually(lambda: gateway_of(running) not in (None, second))
        eventually(lambda: "gateway" not in agent_status(client, "a").walls)
        dial(client, "a", "192.0.2.99")
        eventually(lambda: [r for r in crew.records("a", "network.denied") if r["host"] == "192.0.2.99"])


def test_a_gateway_that_never_comes_up_leaves_everything_refused(runner, fake):  # noqa: F811
    fake(refuse="no")
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        eventually(lambda: "every connection refused" in agent_status(client, "a").walls)
        assert dial(client, "a")[0] == "ConnectionRefusedError"


def test_one_that_dies_before_it_is_ready_is_tried_again(runner, fake):  # noqa: F811
    f = fake(first_dies=True)
    crew = Crew(runner).agent("a")
    with crew.start():
        eventually(lambda: f.heard(fg.ADD))
    assert len([m for m in f.heard() if "args" in m]) == 2


def test_without_a_launcher_everything_stays_refused(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client, gateway = running.client(), eventually(lambda: gateway_of(running))
        # Nothing of a gateway that was never up is lost, and this crew is ready without.
        eventually(lambda: dial(client, "a") and crew.records("a", "network.denied"))
        launcher = next(p for p, comm in outside(running.proc.pid).items() if comm == "crewd-launcher")
        os.kill(launcher, signal.SIGKILL)
        eventually(lambda: "gateway gone: every connection refused" in agent_status(client, "a").walls)
        eventually(lambda: not alive([gateway]))
        assert dial(client, "a")[0] == "ConnectionRefusedError"
        assert "no gateway is started any more" in running.log()
    assert [r for r in crew.records("a", "evidence.lost") if r["source"] == "gateway"]


def test_without_crewd_no_gateway_stays(runner):
    crew = Crew(runner).agent("a")
    running = crew.start()
    gateway = eventually(lambda: gateway_of(running))
    launcher = next(p for p, comm in outside(running.proc.pid).items() if comm == "crewd-launcher")
    running.proc.kill()
    running.proc.wait()
    eventually(lambda: not Path(f"/proc/{gateway}").exists() and not Path(f"/proc/{launcher}").exists())
