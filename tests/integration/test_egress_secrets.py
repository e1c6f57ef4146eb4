# SPDX-License-Identifier: Apache-2.0
"""A credential reaches its server and nothing else: every place where a secret could turn up is read, inside and outside.

Each search also looks for a marker that is there, so that a search which finds nothing proves something.
"""

import contextlib
import http.server
import json
import os
import ssl
import threading
import time
from pathlib import Path

import pytest

from conftest import modes
from crewlib import eventually
from egresslib import Authority, Egress

NAME = "keys.client.test"
SOURCES = {  # by credential, with its secret
    "by-file": ("file = by-file.token", "sk-file-3a1f5d7c9b"),
    "by-env": ("env = KEYS_TEST_SECRET", "sk-env-8e2b6d4f1a"),
    "by-command": ("command = /bin/cat {top}/by-command.token", "sk-command-7c5e9a3b1d"),
}
NEEDLES = [secret for _, secret in SOURCES.values()]

LOOK = r"""
import os, ssl, urllib.request, urllib.error
found, seen, marker = [], {}, "marker-" + "0123456789"
open("/tmp/marker", "w").write(marker)
for path in ("/by-file/x", "/by-env/x", "/by-command/x"):
    request = urllib.request.Request("https://NAME" + path, headers={"Authorization": "mine"})
    with urllib.request.urlopen(request, timeout=20) as r:
        seen[path] = [r.status, r.headers["X-Echo"], r.read().decode()]
def look(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        data = os.read(fd, 4 << 20)
        os.close(fd)
    except OSError:
        return
    for needle in NEEDLES + [marker]:
        if needle.encode() in data:
            found.append((path, needle))
for top in ("/tmp", "/home", "/run", "/etc", "/dev/shm", "/var"):
    for where, _, names in os.walk(top):
        for n in names:
            look(os.path.join(where, n))
for pid in filter(str.isdigit, os.listdir("/proc")):
    for n in ("environ", "cmdline", "mountinfo", "status", "net/tcp"):
        look(f"/proc/{pid}/{n}")
out({"found": found, "seen": seen, "environ": dict(os.environ)})
"""


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.headers.get("Authorization", "none")
        self.server.keys.append(key)
        body = f"you sent {key}".encode()
        self.send_response(200)
        self.send_header("X-Echo", key)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    authority = Authority(tmp_path / "ca")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.certificate(NAME))
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    s.daemon_threads, s.keys, s.ca = True, [], authority.ca.read_text()
    s.handle_error = lambda *a: None
    s.socket = tls.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()


def below(pid):
    """pid and all its descendants: {pid: name}."""
    parents, names = {}, {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, rest = Path(f"/proc/{p}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        parents[int(p)], names[int(p)] = int(rest.split()[1]), name
    tree = {pid}
    while more := {p for p, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return {p: names[p] for p in tree if p in names}


def places(running, runner):
    """(where, bytes) of everything outside that somebody could come upon."""
    sources = {"by-file.token", "by-command.token"}
    for top, _, names in os.walk(runner.home):  # not rglob(), which would fail on what crewd takes away meanwhile
        for path in (Path(top, n) for n in names if n not in sources):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    yield path, path.read_bytes()
    for words in (["logs"], ["status", "--json"], ["status"], ["logs", "--agent", "client", "--json"]):
        r = runner.crewctl(*words)
        yield f"crewctl {words}", (r.stdout + r.stderr).encode()
    for pid, name in below(running.proc.pid).items():
        # By design the launcher has the operator's environment, for the next gateway; a hook would get it too.
        files = ("cmdline",) if name in ("crewd-launcher", "crewd-hooks") else ("cmdline", "environ")
        for n in files:
            try:
                yield f"/proc/{pid}/{n} of {name}", Path(f"/proc/{pid}/{n}").read_bytes()
            except OSError:
                pass


@pytest.mark.parametrize("mode", modes()[:1])  # takes 10 s, and is the same in both
def test_a_crew_whose_secret_does_not_come_is_not_started(runner):
    crew = Egress(runner).client("client", {"host": NAME, "port": 443, "tls": "inspect", "credential": "slow"})
    crew.extra += "credentials: keys/credentials\n"
    crew.files["keys/credentials"] = f"[slow]\nhost = {NAME}\ncommand = /bin/sleep 1000\n"
    crew.write()
    (crew.top / "keys/credentials").chmod(0o600)
    began = time.monotonic()
    with crew.start(wait=False) as running:
        assert running.proc.wait(60) != 0
        assert 10 <= time.monotonic() - began < 40
        assert "credential slow: its command did not end within 10 s" in running.log()
    assert not crew.records("client", "agent.spawned")


def test_a_secret_is_nowhere_but_at_its_server(runner, server, monkeypatch):
    env = runner.env
    monkeypatch.setattr(runner, "env", lambda extra=None: env({"KEYS_TEST_SECRET": SOURCES["by-env"][1],
                                                               "KEYS_TEST_MARKER": "marker-env", **(extra or {})}))
    crew = Egress(runner, {f"{NAME}:443": {"connect_to": f"127.0.0.1:{server.server_port}", "ca": "ca.pem"}})
    crew.client("client", *({"host": NAME, "port": 443, "methods": ["GET"], "paths": [f"/{c}/**"], "tls": "inspect",
                             "credential": c} for c in SOURCES))
    crew.extra += "credentials: keys/credentials\nhooks: {on_agent_terminated: {command: [/bin/true]}}\n"
    crew.files["ca.pem"] = server.ca
    for credential in ("by-file", "by-command"):
        crew.files[f"keys/{credential}.token"] = SOURCES[credential][1] + "\n"
    crew.files["keys/credentials"] = ""
    crew.write()
    keys = crew.top / "keys"
    (keys / "credentials").write_text("".join(
        f"[{c}]\nhost = {NAME}\npath = /{c}/**\n" + source.format(top=keys) + "\n" for c, (source, _) in SOURCES.items()))
    for path in keys.iterdir():
        path.chmod(0o600)
    with crew.start() as running:
        code = LOOK.replace("NAME", NAME, 1).replace("NEEDLES", repr(NEEDLES))
        got = running.client().submit(agent="client", description=code).result(80)
        eventually(lambda: len(crew.records("client", "network.http")) >= 3)
        outside = list(places(running, runner))
        tree = below(running.proc.pid)
        gateway = [p for p, name in tree.items() if name == "crew-gateway"]
        limits = [Path(f"/proc/{p}/limits").read_text() for p in gateway]
        names = ("crew-gateway", "crewd-launcher", "crewd-hooks")
        # A core_pattern with a pipe does not ask for the limit.  The files in /proc of what has no dump are root's.
        owners = {tree[p]: os.stat(f"/proc/{p}/environ").st_uid for p in tree if tree[p] in names}
    assert server.keys == [f"Bearer {secret}" for secret in NEEDLES], "each server path had its own"
    for (status, header, body), secret in zip(got["seen"].values(), NEEDLES):
        assert (status, header, body) == (200, f"Bearer {'*' * len(secret)}", f"you sent Bearer {'*' * len(secret)}")
    assert ["/tmp/marker", "marker-0123456789"] in got["found"], "the search finds what is there"
    assert {needle for _, needle in got["found"]} == {"marker-0123456789"}, got["found"]
    assert not [k for k in got["environ"] if k.startswith("KEYS_TEST")]
    quoted = {repr(NEEDLES).encode(), json.dumps(code)[1:-1].encode()}  # the task itself says what it searches for
    for where, data in outside:
        for text in quoted:
            data = data.replace(text, b"")
        assert not [needle for needle in NEEDLES if needle.encode() in data], where
    assert any(b"/by-env/x" in data for where, data in outside if "log.jsonl" in str(where)), "the audit was read"
    assert any("crew-gateway" in str(where) for where, _ in outside)
    assert gateway and all("Max core file size        0" in text for text in limits)
    if not os.environ.get("CREWD_SANITIZED"):  # such a gateway is not confined
        assert owners == dict.fromkeys(names, 0)
