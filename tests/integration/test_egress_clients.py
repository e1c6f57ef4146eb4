# SPDX-License-Identifier: Apache-2.0
"""Ordinary clients in a real jail reach exactly what their policy lists, with nothing configured in them.

No proxy variable, no wrapper, no special resolver: each client looks a name up, dials and speaks.  `connect_to` says that
the names live on this machine, where real servers from Debian answer.
"""

import hashlib
import http.server
import json
import os
import pwd
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from crewlib import eventually
from egresslib import Authority, Egress, Service, Tcp, echo, go_build, greet, held_port, open_file_limit, stop_unhurt, times

HERE = Path(__file__).resolve().parent / "egress_clients"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
NAME = "api.client.test"


@pytest.fixture(scope="session")
def top():
    """A directory everybody may read: certificates, client programs, repositories."""
    path = Path(tempfile.mkdtemp(prefix="crewd-egress-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def authority(top):
    return Authority(top / "ca")


@pytest.fixture(scope="session")
def clients(top):
    """Our client programs, where a policy may list them."""
    shutil.copytree(HERE, top / "clients")
    subprocess.run(["chmod", "-R", "a+rX", top / "clients"], check=True)
    return top / "clients"


def body_of(request):
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size + 2)[:-2]
    request.rfile.readline()
    return body


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello from {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        body = f"got {len(body_of(self))} bytes\n".encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def web_server(tls=None, handler=Web):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *a: None
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def tls_for(authority, *names):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.certificate(*names))
    return tls


@pytest.fixture(scope="session")
def https(authority):
    server = web_server(tls_for(authority, NAME))
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def http_plain():
    server = web_server()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def egress(runner):
    running = []

    def start(where, *endpoints, **keys):
        crew = Egress(runner, where)
        crew.client("client", *(endpoints or where), **keys)
        running.append(crew.start())
        return crew

    yield start
    for r in running:
        stop_unhurt(r)


def assert_passed(crew, where, host=NAME, port=443, least_in=1):
    """One connection let through by its rule, and what it carried."""
    allowed, *_ = crew.await_network("client", "allowed", host=host, port=port)
    closed, *_ = crew.await_network("client", "closed", host=host, port=port)
    assert allowed["peer"] == where
    assert re.fullmatch(r".*client\.yaml:5", allowed["rule"]), allowed
    assert closed["bytes_out"] > 0 and closed["bytes_in"] >= least_in and closed["ms"] >= 0, closed
    assert allowed["seq"] < closed["seq"]
    return allowed, closed


# --- web clients ---

def test_curl_https(egress, authority, https):
    crew = egress({f"{NAME}:443": https}, read=[authority.ca])
    r = crew.exec("client", "curl", "-sS", "--cacert", authority.ca, f"https://{NAME}/curl")
    assert (r.returncode, r.stdout) == (0, "hello from /curl\n"), r.stderr
    assert_passed(crew, https, least_in=500)


def test_curl_http(egress, http_plain):
    crew = egress({f"{NAME}:80": http_plain})
    r = crew.exec("client", "curl", "-sS", f"http://{NAME}/plain")
    assert (r.returncode, r.stdout) == (0, "hello from /plain\n"), r.stderr
    _, closed = assert_passed(crew, http_plain, port=80)
    assert closed["bytes_in"] > len("hello from /plain\n")


def test_plain_http_is_for_the_name_that_was_dialled_and_else_as_ever(egress, http_plain):
    crew = egress({f"{NAME}:80": http_plain})
    url = f"http://{NAME}"
    again = crew.exec("client", "curl", "-sS", f"{url}/one", f"{url}/two", "-w", "%{num_connects} ")
    assert (again.returncode, again.stdout) == (0, "hello from /one\n1 hello from /two\n0 "), again.stderr
    wish = crew.exec("client", "curl", "-sS", "--http2", f"{url}/a/../b//c")
    assert (wish.returncode, wish.stdout) == (0, "hello from /b//c\n"), wish.stderr
    upload = crew.exec("client", "sh", "-c", f"head -c 3000000 /dev/zero | curl -sS -T - {url}/up")
    assert upload.stdout == "got 3000000 bytes\n", upload
    upload = crew.exec("client", "sh", "-c", "head -c 3000000 /dev/zero > /tmp/x; "
                       f"curl -sS -H 'Expect: 100-continue' -T /tmp/x {url}/up")
    assert upload.stdout == "got 3000000 bytes\n", upload
    assert crew.network("client", "http") == []
    other = crew.exec("client", "curl", "-sS", "-H", "Host: evil.test", "-w", "%{http_code}", f"{url}/x")
    body, _, status = other.stdout.rpartition("\n")
    assert status == "403" and "Host is evil.test, dialled" in json.loads(body)["error"], other
    assert re.fullmatch(r".*client\.yaml:5", json.loads(body)["rule"]) and json.loads(body)["next_steps"]
    refused, *_ = crew.await_network("client", "http", host=NAME, port=80)
    assert refused["reason"] == f"Host is evil.test, dialled {NAME}" and refused["path"] == "/x"
    text = crew.runner.crewctl("logs", "--agent", "client", "--filter", "denied").stdout
    assert f"HTTP: DENIED -> GET {NAME}/x (Host is evil.test, dialled {NAME}" in text
    knowing = crew.exec("client", "curl", "-sS", "--http2-prior-knowledge", f"{url}/x")
    assert knowing.returncode != 0


WEB_SOCKET = """
import base64, os, socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.sendall(("GET /chat HTTP/1.1\\r\\nHost: %s\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
           "Sec-WebSocket-Key: %s\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n"
           % (sys.argv[1], base64.b64encode(os.urandom(16)).decode())).encode())
f = s.makefile("rb")
print(f.readline().decode().strip())
while f.readline() != b"\\r\\n": pass
for i in range(3):
    s.sendall(b"\\x82\\x84\\0\\0\\0\\0frm" + bytes([i]))
    print(f.read(6))
"""


def test_a_web_socket_works(egress):
    def serve(s, _server):
        f = s.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += f.readline()
        assert b"upgrade: websocket" in head.lower() and b"connection: upgrade" in head.lower()
        s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while frame := f.read(10):
            s.sendall(b"\x82\x04" + frame[6:])

    with Tcp(serve) as server:
        crew = egress({f"{NAME}:80": server.address}, runtime=["python3"])
        r = crew.exec("client", "/usr/bin/python3", "-c", WEB_SOCKET, NAME)
        assert r.stdout.splitlines() == ["HTTP/1.1 101 Switching Protocols", *[str(b"\x82\x04frm" + bytes([i])) for i in range(3)]], r
        assert server.errors == []


def test_what_is_not_listed_is_refused_at_once_and_named(egress, authority, https):
    crew = egress({f"{NAME}:443": https}, read=[authority.ca])
    started = time.monotonic()
    other_name = crew.exec("client", "curl", "-sS", "https://exfil.attacker.com/")
    other_port = crew.exec("client", "curl", "-sS", f"https://{NAME}:8443/")
    address = crew.exec("client", "curl", "-sS", "http://203.0.113.66/")
    assert time.monotonic() - started < 30
    # Reset: while it connects, shakes hands, sends or reads, whatever it is at.
    assert other_name.returncode in (7, 35, 55, 56), other_name.stderr
    assert other_port.returncode in (7, 35, 55, 56), other_port.stderr
    assert address.returncode in (7, 52, 55, 56), address.stderr
    name, *_ = crew.await_network("client", "denied", host="exfil.attacker.com", port=443, proto="tcp")
    port, *_ = crew.await_network("client", "denied", host=NAME, port=8443, proto="tcp")
    addr, *_ = crew.await_network("client", "denied", host="203.0.113.66", port=80, proto="tcp")
    for r in (name, port, addr):
        assert r["reason"].startswith("not in allowed_endpoints") and re.search(r"client\.yaml:5$", r["rule"]), r
    text = crew.exec("client", "true").stdout + crew.runner.crewctl("logs", "--agent", "client", "--filter", "denied").stdout
    assert "NETWORK: DENIED -> exfil.attacker.com:443 (not in allowed_endpoints" in text
    assert f"NETWORK: DENIED -> {NAME}:8443 (not in allowed_endpoints" in text
    assert crew.network("client", "allowed") == []


def test_clients_of_all_kinds_dial_what_is_not_listed_and_the_record_has_its_port(egress, authority, https, clients, top):
    """Each resolves in a way of its own (glibc, Go, c-ares and what Java makes of it); none may stumble before it dials."""
    binary = go_fetch(clients, top)
    java = java_fetch(authority, clients, top)
    crew = egress({f"{NAME}:443": https}, read=[authority.ca, f"{clients}/", f"{java}/"], exec=[f"{top}/go/"],
                  runtime=["python3", "node", "java", "perl"], profile="jit", limits={"memory": "2GiB"})
    attempts = {
        "curl": (443, ["curl", "-sS", "https://curl.unlisted.test/"]),
        "curl-http": (80, ["curl", "-sS", "http://curl-http.unlisted.test/"]),
        "curl-4": (443, ["curl", "-4", "-sS", "https://curl-4.unlisted.test/"]),
        "python": (443, ["/usr/bin/python3", clients / "fetch.py", "requests", "https://python.unlisted.test/", authority.ca]),
        "node": (443, ["node", clients / "fetch.mjs", "https://node.unlisted.test/"]),
        "go": (443, [binary, authority.ca, "https://go.unlisted.test/"]),
        "java": (443, ["java", "-Xmx256m", "-cp", java, "Fetch", "https://java.unlisted.test/"]),
        "psql": (5432, ["psql", "-qAtX", "host=psql.unlisted.test user=crew dbname=postgres", "-c", "select 1"]),
        "redis-cli": (6379, ["redis-cli", "-h", "redis-cli.unlisted.test", "get", "x"]),
    }
    for name, (port, argv) in attempts.items():
        started = time.monotonic()
        r = crew.exec("client", *argv, timeout=90)
        took = time.monotonic() - started
        assert r.returncode != 0 and took < 60, (name, r, took)
        denied = crew.await_network("client", "denied", host=f"{name}.unlisted.test", proto="tcp")
        assert {d["port"] for d in denied} == {port}, (name, r, denied)
    assert crew.network("client", "allowed") == []


@pytest.mark.parametrize("how", ["urllib", "requests"])
def test_python(egress, authority, https, clients, how):
    crew = egress({f"{NAME}:443": https}, read=[authority.ca, f"{clients}/"], runtime=["python3"])
    r = crew.exec("client", "/usr/bin/python3", clients / "fetch.py", how, f"https://{NAME}/{how}", authority.ca)
    assert (r.returncode, r.stdout) == (0, f"200 hello from /{how}\n"), (r.stderr, https, crew.network("client", "allowed"))
    assert_passed(crew, https)


def test_node_fetch(egress, authority, https, clients):
    crew = egress({f"{NAME}:443": https}, read=[authority.ca, f"{clients}/"], runtime=["node"], profile="jit")
    r = crew.exec("client", "env", f"NODE_EXTRA_CA_CERTS={authority.ca}", "node", clients / "fetch.mjs", f"https://{NAME}/node")
    assert (r.returncode, r.stdout) == (0, "200 hello from /node\n"), r.stderr
    assert_passed(crew, https)


def go_fetch(clients, top):
    binary = top / "go/fetch"
    if not binary.exists():
        binary.parent.mkdir()
        go_build(clients / "fetch.go", binary, top)
    return binary


def test_static_go_binary_that_does_its_own_dns(egress, authority, https, clients, top):
    binary = go_fetch(clients, top)
    crew = egress({f"{NAME}:443": https}, read=[authority.ca], exec=[f"{top}/go/"])
    r = crew.exec("client", binary, authority.ca, f"https://{NAME}/go")
    assert (r.returncode, r.stdout) == (0, "200 hello from /go\n"), r.stderr
    assert_passed(crew, https)


def java_fetch(authority, clients, top):
    """Fetch.class, and the CA as Java wants it."""
    made = top / "java"
    if not made.exists():
        made.mkdir()
        subprocess.run(["/usr/bin/javac", "-d", made, clients / "Fetch.java"], check=True, timeout=300)
        subprocess.run(["/usr/bin/keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", authority.ca, "-keystore",
                        made / "trust.p12", "-storetype", "PKCS12", "-storepass", "changeit"], check=True, timeout=60,
                       capture_output=True)
        subprocess.run(["chmod", "-R", "a+rX", made], check=True)
    return made


def test_java_client(egress, authority, https, clients, top):
    made = java_fetch(authority, clients, top)
    crew = egress({f"{NAME}:443": https}, read=[f"{made}/"], runtime=["java"], profile="jit", limits={"memory": "2GiB"})
    r = crew.exec("client", "java", "-Xmx256m", f"-Djavax.net.ssl.trustStore={made}/trust.p12",
                  "-Djavax.net.ssl.trustStorePassword=changeit", "-cp", made, "Fetch",
                  f"https://{NAME}/java", timeout=300)
    assert (r.returncode, r.stdout) == (0, "200 hello from /java\n"), r.stderr
    assert_passed(crew, https)


# As crew-role(5), TRUST IN AN INSPECTED JAIL, has them.
JAVA_TRUST = """
cp /etc/ssl/certs/java/cacerts /tmp/trust && chmod 600 /tmp/trust
keytool -importcert -noprompt -alias crew -file $SSL_CERT_FILE -keystore /tmp/trust -storepass changeit
"""
HASHED_TRUST = """
mkdir /tmp/trust
ln -s $SSL_CERT_FILE /tmp/trust/$(openssl x509 -in $SSL_CERT_FILE -noout -hash).0
"""


@pytest.fixture
def inspected(egress, authority, https):
    def start(**keys):
        return egress({f"{NAME}:443": {"connect_to": https, "ca": str(authority.ca)}},
                      {"host": NAME, "port": 443, "tls": "inspect"}, **keys)
    return start


def test_java_trusts_an_inspecting_gateway_once_told(inspected, authority, clients, top):
    made = java_fetch(authority, clients, top)
    crew = inspected(read=[f"{made}/"], runtime=["java"], profile="jit", limits={"memory": "2GiB"})
    fetch = f"java -Xmx256m -cp {made} -Djavax.net.ssl.trustStore=%s Fetch https://{NAME}/java"
    r = crew.exec("client", "sh", "-ec", JAVA_TRUST + fetch % "/tmp/trust", timeout=300)
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == "200 hello from /java", r
    r = crew.exec("client", "sh", "-c", fetch % "/etc/ssl/certs/java/cacerts", timeout=300)
    assert r.returncode != 0 and "PKIX path building failed" in r.stderr, "not by itself"
    assert len({r["conn"] for r in crew.await_network("client", "http", host=NAME)}) == 1


def test_a_hashed_directory_trusts_an_inspecting_gateway_once_made(inspected):
    crew = inspected()
    fetch = (f"printf 'GET /dir HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client -quiet "
             f"-verify_return_error -no-CAfile -no-CAstore -CApath %s -servername {NAME} -connect {NAME}:443")
    r = crew.exec("client", "sh", "-ec", HASHED_TRUST + fetch % "/tmp/trust", timeout=60)
    assert r.returncode == 0 and r.stdout.endswith("hello from /dir\n"), r
    r = crew.exec("client", "sh", "-c", fetch % "/etc/ssl/certs", timeout=60)
    assert r.returncode != 0 and r.stdout == "" and "certificate" in r.stderr, "not by itself"


# --- git ---

@pytest.fixture(scope="session")
def repository(top):
    """A repository with a few megabytes of history, and its newest commit."""
    work, bare = top / "work", top / "repos/project.git"
    env = {"PATH": os.environ["PATH"], "HOME": str(top), "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@test",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@test", "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*args, cwd=work):
        return subprocess.run(["git", *map(str, args)], cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout

    work.mkdir()
    git("init", "-q", "-b", "main")
    for i in range(3):
        (work / f"file{i}").write_bytes(os.urandom(1 << 20))
        git("add", ".")
        git("commit", "-q", "-m", f"commit {i}")
    git("clone", "-q", "--bare", work, bare, cwd=top)
    git("config", "http.receivepack", "true", cwd=bare)
    return bare, git("rev-parse", "HEAD").strip()


class GitBackend(http.server.BaseHTTPRequestHandler):
    """git http-backend behind HTTP, as CGI: RFC 3875, as far as it needs that."""

    root = None

    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = body_of(self)
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1"}
        out = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE, check=True).stdout
        head, _, payload = out.partition(b"\r\n\r\n")
        fields = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_GET

    def log_message(self, *args):
        pass


def test_git_clone_over_https(egress, authority, repository):
    bare, head = repository
    handler = type("Backend", (GitBackend,), {"root": str(bare.parent)})
    server = web_server(tls_for(authority, "git.client.test"), handler)
    where = f"127.0.0.1:{server.server_port}"
    try:
        crew = egress({"git.client.test:443": where}, read=[authority.ca], runtime=["git"])
        clone = (f"git -c http.sslCAInfo={authority.ca} clone -q https://git.client.test/project.git /tmp/copy && "
                 "git -C /tmp/copy fsck --strict && git -C /tmp/copy rev-parse HEAD")
        r = crew.exec("client", "sh", "-c", clone)
        assert (r.returncode, r.stdout.split()[-1:]) == (0, [head]), r.stderr
        assert_passed(crew, where, "git.client.test")
        eventually(lambda: sum(c["bytes_in"] for c in crew.network("client", "closed")) > 3 << 20)
    finally:
        server.shutdown()
        server.server_close()


def test_git_push_over_https(egress, authority, repository, runner):
    """In chunks, since it is more than git likes to send at once."""
    bare, head = repository
    branch = f"side-{runner.mode}"
    server = web_server(tls_for(authority, "git.client.test"), type("Backend", (GitBackend,), {"root": str(bare.parent)}))
    where = f"127.0.0.1:{server.server_port}"
    try:
        crew = egress({"git.client.test:443": where}, read=[authority.ca], runtime=["git"])
        push = (f"cd /tmp && git -c http.sslCAInfo={authority.ca} clone -q --depth 1 https://git.client.test/project.git copy && "
                "cd copy && head -c 1000000 /dev/urandom > new && git add new && "
                "git -c user.name=a -c user.email=a@test commit -q -m new && "
                f"git -c http.sslCAInfo={authority.ca} push -q origin HEAD:refs/heads/{branch} && git rev-parse HEAD HEAD^")
        r = crew.exec("client", "sh", "-c", push)
        assert r.returncode == 0, r.stderr
        new, old = r.stdout.split()
        there = subprocess.run(["git", f"--git-dir={bare}", "rev-parse", branch], capture_output=True, text=True).stdout.strip()
        assert (there, old) == (new, head)
        eventually(lambda: sum(c["bytes_out"] for c in crew.network("client", "closed")) > 1000000)
    finally:
        server.shutdown()
        server.server_close()


# --- PostgreSQL and Redis ---

def unprivileged(command):
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    pw = pwd.getpwnam("nobody")
    return ["setpriv", "--reuid", str(pw.pw_uid), "--regid", str(pw.pw_gid), "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgres(top, authority):
    if not POSTGRES:
        pytest.fail("PostgreSQL is missing: run script/bootstrap")
    data = Path(tempfile.mkdtemp(prefix="crewd-pg-", dir="/var/tmp"))
    cert, key = authority.certificate("db.client.test")
    for source, name in ((cert, "server.crt"), (key, "server.key")):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
    if os.geteuid() == 0:
        pw = pwd.getpwnam("nobody")
        for p in (data, data / "server.crt", data / "server.key"):
            os.chown(p, pw.pw_uid, pw.pw_gid)
    bindir = POSTGRES[-1]
    password = data / "password"
    password.write_text("crew-secret\n")
    password.chmod(0o644)
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    subprocess.run(unprivileged([str(bindir / "initdb"), "-D", str(data / "db"), "-U", "crew", "--auth=scram-sha-256", "-N",
                                 "--pwfile", str(password)]), check=True, env=env, cwd=data, capture_output=True, timeout=120)
    with held_port() as port:
        argv = unprivileged([str(bindir / "postgres"), "-D", str(data / "db"), "-p", str(port), "-k", "", "-h", "127.0.0.1",
                             "-c", "ssl=on", "-c", f"ssl_cert_file={data}/server.crt", "-c", f"ssl_key_file={data}/server.key",
                             "-c", "fsync=off"])
        with Service(argv, port, log=data / "log", env=env, cwd=data):
            yield f"127.0.0.1:{port}"
    shutil.rmtree(data, ignore_errors=True)


@pytest.mark.parametrize("tls", ["sslmode=disable", "sslmode=verify-full sslrootcert={ca}"], ids=["plain", "verify-full"])
def test_psql(egress, authority, postgres, tls):
    crew = egress({"db.client.test:5432": postgres}, read=[authority.ca], runtime=["perl"])
    dsn = f"host=db.client.test user=crew dbname=postgres password=crew-secret {tls.format(ca=authority.ca)}"
    r = crew.exec("client", "psql", "-qAtX", dsn, "-c", "create table t as select generate_series(1, 200000) as n",
                  "-c", "select sum(n) from t", "-c", "copy t to stdout")
    lines = r.stdout.split()
    assert (r.returncode, lines[0], len(lines)) == (0, "20000100000", 200001), r.stderr
    assert crew.exec("client", "psql", "-qAtX", dsn, "-c", "drop table t").returncode == 0
    assert_passed(crew, postgres, "db.client.test", 5432, least_in=1 << 20)


def test_psql_to_another_port_of_the_database_is_refused(egress, postgres):
    crew = egress({"db.client.test:5432": postgres}, runtime=["perl"])
    r = crew.exec("client", "psql", "-qAtX", "host=db.client.test port=5433 user=crew dbname=postgres", "-c", "select 1")
    assert r.returncode == 2 and "connection to server" in r.stderr
    crew.await_network("client", "denied", host="db.client.test", port=5433)


@pytest.fixture(scope="session")
def redis(top):
    with held_port() as port:
        argv = ["/usr/bin/redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", top]
        with Service(argv, port, log=top / "redis.log"):
            yield f"127.0.0.1:{port}"


def test_redis_cli(egress, redis):
    crew = egress({"cache.client.test:6379": redis})
    cli = ("redis-cli", "-h", "cache.client.test")
    assert crew.exec("client", *cli, "set", "greeting", "hello").stdout == "OK\n"
    assert crew.exec("client", *cli, "get", "greeting").stdout == "hello\n"
    big = crew.exec("client", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x | redis-cli -h cache.client.test -x set big && "
                    "redis-cli -h cache.client.test get big | wc -c")
    assert big.stdout.split() == ["OK", "3000001"], big.stderr
    assert_passed(crew, redis, "cache.client.test", 6379)
    assert sum(r["bytes_out"] for r in crew.await_network("client", "closed", 4)) > 3000000


def test_redis_subscription_lives_long_and_is_pushed_to(egress, redis):
    crew = egress({"cache.client.test:6379": redis})
    p = crew.popen("client", "timeout", "60", "redis-cli", "-h", "cache.client.test", "subscribe", "news",
                   stdout=subprocess.PIPE, text=True)
    seen = [p.stdout.readline() for _ in range(3)]
    assert seen[0] == "subscribe\n", seen
    time.sleep(2)
    port = redis.split(":")[1]
    for i in range(3):
        subprocess.run(["redis-cli", "-p", port, "publish", "news", f"item {i}"], check=True, capture_output=True)
        assert [p.stdout.readline() for _ in range(3)] == ["message\n", "news\n", f"item {i}\n"]
    subprocess.run(["redis-cli", "-p", port, "client", "kill", "type", "pubsub"], check=True, capture_output=True)
    p.terminate()
    p.wait(10)
    closed, *_ = crew.await_network("client", "closed", host="cache.client.test")
    assert closed["ms"] >= 2000 and closed["bytes_in"] > 60, closed


# --- connections ---

TALK = "import socket,sys,time,hashlib\nbegan = time.monotonic()\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)\n"


def talk(crew, host, port, code, timeout=60):
    r = crew.exec("client", "/usr/bin/python3", "-c", TALK + code, host, str(port), timeout=timeout)
    return r.stdout.strip() if r.returncode == 0 else f"{r.returncode}: {r.stderr.strip().splitlines()[-1:]}"


HELLO = "s.sendall(b'hello'); s.shutdown(1); print(s.recv(99).decode())"


def refused(said):
    """A reset, whichever call of HELLO met it: shutdown() says ENOTCONN (107)."""
    return any(e in said for e in ("ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError", "[Errno 107]"))


def test_a_wildcard_is_one_label(egress):
    with Tcp(echo) as server:
        where = {f"{label}.wild.client.test:7000": server.address for label in "ab"}
        crew = egress(where, "*.wild.client.test:7000")
        assert talk(crew, "a.wild.client.test", 7000, HELLO) == "hello"
        assert talk(crew, "B.Wild.client.test", 7000, HELLO) == "hello"
        for other in ("wild.client.test", "a.b.wild.client.test", "awild.client.test"):
            assert refused(talk(crew, other, 7000, HELLO))
            crew.await_network("client", "denied", host=other, port=7000)
        assert server.accepted == 2
        hosts = [r["host"] for r in crew.await_network("client", "allowed", 2)]
        assert hosts == ["a.wild.client.test", "b.wild.client.test"]


@pytest.mark.parametrize("literal", ["203.0.113.9", "2001:db8::9"])
def test_a_literal_address(egress, literal):
    shown = f"[{literal}]" if ":" in literal else literal
    with Tcp(echo) as server:
        crew = egress({f"{shown}:7000": server.address})
        assert talk(crew, literal, 7000, HELLO) == "hello"
        assert refused(talk(crew, literal, 7001, HELLO))
        assert_passed(crew, server.address, literal, 7000, least_in=5)
        crew.await_network("client", "denied", host=literal, port=7001)
        assert server.accepted == 1


def test_several_ports_of_one_name(egress):
    with Tcp(greet("first")) as first, Tcp(greet("second")) as second:
        crew = egress({"many.client.test:7001": first.address, "many.client.test:7002": second.address})
        assert talk(crew, "many.client.test", 7001, "print(s.recv(99).decode())") == "first"
        assert talk(crew, "many.client.test", 7002, "print(s.recv(99).decode())") == "second"
        assert "Error" in talk(crew, "many.client.test", 7003, "print(s.recv(99).decode())")
        crew.await_network("client", "denied", host="many.client.test", port=7003)


def test_ipv6_upstream(egress):
    with Tcp(echo, host="::1") as server:
        crew = egress({"six.client.test:7000": server.address})
        assert talk(crew, "six.client.test", 7000, HELLO) == "hello"
        assert_passed(crew, server.address, "six.client.test", 7000)


def test_a_server_that_refuses_is_seen_as_one_that_refuses(egress):
    with held_port() as port:
        crew = egress({"down.client.test:7000": f"127.0.0.1:{port}"})
        started = time.monotonic()
        assert refused(talk(crew, "down.client.test", 7000, HELLO))
        assert time.monotonic() - started < 9  # a dial that is not answered is given up after 10 s


def test_half_closed_by_the_client(egress):
    """The answer to a finished request comes after it: all of it."""
    def count(s, _):
        n = 0
        while data := s.recv(65536):
            n += len(data)
        s.sendall(b"%d\n" % n + b"y" * (1 << 20))

    with Tcp(count) as server:
        crew = egress({"half.client.test:7000": server.address})
        got = talk(crew, "half.client.test", 7000, """
s.sendall(b'x' * 3000000)
s.shutdown(socket.SHUT_WR)
f = s.makefile('rb')
print(f.readline().decode().strip(), len(f.read()))
""")
        assert got == "3000000 1048576"
        _, closed = assert_passed(crew, server.address, "half.client.test", 7000)
        assert (closed["bytes_out"], closed["bytes_in"]) == (3000000, (1 << 20) + 8)


def test_half_closed_by_the_server(egress):
    """What the client still says after the server's end is heard."""
    heard = []

    def listen(s, _):
        s.sendall(b"go on")
        s.shutdown(1)
        data = b""
        while more := s.recv(65536):
            data += more
        heard.append(data)

    with Tcp(listen) as server:
        crew = egress({"half.client.test:7000": server.address})
        got = talk(crew, "half.client.test", 7000, """
while s.recv(99): pass
for i in range(5):
    time.sleep(0.1); s.sendall(b'%d' % i)
s.shutdown(1); print('done')
""")
        assert got == "done"
        crew.await_network("client", "closed", host="half.client.test")
        assert eventually(lambda: heard) == [b"01234"]  # the end may be on record before the server has seen it


def test_a_reset_is_passed_on(egress):
    def slam(s, _):
        s.recv(5)
        s.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: close() resets

    with Tcp(slam) as server:
        crew = egress({"slam.client.test:7000": server.address})
        assert "ConnectionReset" in talk(crew, "slam.client.test", 7000, "s.sendall(b'hello'); print(s.recv(9), 'no reset')")
        closed, *_ = crew.await_network("client", "closed", host="slam.client.test")
        assert closed["bytes_out"] == 5


def test_a_long_lived_connection_that_is_mostly_silent(egress):
    with Tcp(echo) as server:
        crew = egress({"slow.client.test:7000": server.address})
        got = talk(crew, "slow.client.test", 7000, """
for i in range(4):
    s.sendall(b'%d' % i); print(s.recv(1).decode(), end=''); time.sleep(1.5)
""")
        assert got == "0123"
        closed, *_ = crew.await_network("client", "closed", host="slow.client.test")
        assert closed["ms"] > 5900 and closed["bytes_out"] == closed["bytes_in"] == 4


def test_large_transfers_both_ways_at_once_are_intact(egress):
    with Tcp(echo) as server:
        crew = egress({"bulk.client.test:7000": server.address})
        got = talk(crew, "bulk.client.test", 7000, """
import os, threading
block, n = os.urandom(1 << 20), 64
def send():
    for i in range(n): s.sendall(i.to_bytes(4, 'big') + block)
    s.shutdown(1)
threading.Thread(target=send).start()
back, total = hashlib.sha256(), 0
while data := s.recv(1 << 18): back.update(data); total += len(data)
want = hashlib.sha256()
for i in range(n): want.update(i.to_bytes(4, 'big') + block)
print(total, back.hexdigest() == want.hexdigest())
""")
        total = 64 * ((1 << 20) + 4)
        assert got == f"{total} True"
        _, closed = assert_passed(crew, server.address, "bulk.client.test", 7000)
        assert closed["bytes_out"] == closed["bytes_in"] == total


def test_a_slow_reader_delays_nobody_else(egress):
    """One connection is not read from while another one of the same agent talks."""
    def pour(s, _):
        while True:
            s.sendall(b"z" * 65536)

    with Tcp(pour) as pouring, Tcp(echo) as talking:
        crew = egress({"pour.client.test:7000": pouring.address, "talk.client.test:7000": talking.address})
        got = talk(crew, "pour.client.test", 7000, """
t = socket.create_connection(('talk.client.test', 7000), 20)
took = []
for i in range(50):
    b = time.monotonic(); t.sendall(b'x'); t.recv(1); took.append(time.monotonic() - b); time.sleep(0.01)
print(sorted(took)[25] < 0.5)  # most of them: what is waited for once may be the machine
""")
        assert got == "True"


def test_thousands_of_connections_at_once(egress, clients):
    n = 3000
    if open_file_limit() < 2 * n + 1000:
        pytest.skip(f"open files are limited to {open_file_limit()} here")
    with Tcp(echo, backlog=4096) as server:
        crew = egress({"many.client.test:7000": server.address}, read=[f"{clients}/"],
                      limits={"connections": 4096, "half_open": 4096, "open_files": n + 200})
        r = crew.exec("client", "/usr/bin/python3", clients / "many.py", "many.client.test", "7000", str(n), timeout=120)
        assert r.stdout == f"{n} {n} {n}\n", r.stderr
        assert server.accepted == n
        # Each is in the audit, opened and closed; none was lost in the crowd.
        assert times(crew.await_network("client", "allowed", n, 30)) == n
        assert times(crew.await_network("client", "closed", n, 30)) == n


def test_bandwidth_is_what_the_policy_says(egress):
    """Both ways together, however many connections: 3 MiB at 1 MiB a second."""
    def send(s, _):
        s.sendall(b"w" * (3 << 19))

    with Tcp(send) as server:
        crew = egress({"slow.client.test:7000": server.address}, limits={"bandwidth": "1MiB"})
        got = talk(crew, "slow.client.test", 7000, """
t = socket.create_connection((sys.argv[1], 7000))
total = 0
for k in (s, t):
    while data := k.recv(65536): total += len(data)
took = time.monotonic() - began
print(total, 1.5 < took < 15, took)
""")
        assert got.split()[:2] == [str(3 << 20), "True"], got


def test_connections_over_the_limit_are_reset_and_recorded(egress):
    with Tcp(echo) as server:
        crew = egress({"few.client.test:7000": server.address}, limits={"connections": 5})
        got = talk(crew, "few.client.test", 7000, """
kept = [s]
for _ in range(9):
    try:
        kept.append(socket.create_connection((sys.argv[1], 7000)))
    except OSError: pass  # the reset may be there before connect() returns
def answers(k, text):
    try:
        k.sendall(text)
        return k.recv(1) == text
    except OSError: return False
def again():
    try:
        with socket.create_connection((sys.argv[1], 7000)) as k: return answers(k, b'y')
    except OSError: return False
print(sum([answers(k, b'x') for k in kept]))
kept[0].close()
while not (there := again()) and time.monotonic() - began < 40: time.sleep(0.05)
print(there)
""")
        assert got.split() == ["5", "True"]
        denied = crew.await_network("client", "denied", 5, host="few.client.test")
        assert all("limits.connections" in r["reason"] for r in denied), denied
