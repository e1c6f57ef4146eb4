# SPDX-License-Identifier: Apache-2.0
"""hooks.on_agent_terminated.webhook: signed, tried again until it is taken, also by the next crewd, and the key stays secret."""

import hashlib
import hmac
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crewlib import Crew, agent_status, eventually, outside
from test_crew_told import die_together

KEY = "a-key-that-nobody-else-knows-0123"


class Receiver:
    """Answers with the given statuses, then 204 for ever, after so many seconds or that event; keeps what it got."""

    def __init__(self, *statuses, hold=0.0, port=0, tls=None):
        self.got, statuses = [], list(statuses)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.got.append((handler.path, dict(handler.headers), body, time.monotonic()))
                hold.wait(60) if isinstance(hold, threading.Event) else time.sleep(hold)
                handler.send_response(statuses.pop(0) if statuses else 204)
                handler.send_header("Location", "http://127.0.0.1:9/elsewhere")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # of 5, a connection is dropped now and then, and made again a second later

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def hooked(runner, port, extra=""):
    crew = Crew(runner).agent("a").agent("b").task("t", "a")
    crew.extra = ("hooks:\n  on_agent_terminated:\n    webhook: {url: \"http://127.0.0.1:%d/hook/url-token-xyz\", "
                  "secret_file: keys/hook.key%s}\n" % (port, extra))
    crew.files["keys/hook.key"] = KEY + "\n"
    crew.write()
    (crew.top / "keys/hook.key").chmod(0o600)
    return crew


@pytest.fixture
def closed_port():
    """A port where nobody listens until a Receiver does, and that nobody else gets meanwhile."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


def outbox(runner):
    return sorted((runner.home / "lib" / "t" / "webhook.outbox").glob("*.json"))


def kill(runner, agent):
    r = runner.crewctl("kill", "--agent", agent, "--reason", "for the webhook")
    assert r.returncode == 0, r.stderr


def checked(request):
    """The record of one request, its signature computed here."""
    _, headers, body, _ = request
    when, v1 = headers["X-Crewd-Signature"].split(",")
    mac = hmac.new(KEY.encode(), when[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert v1 == "v1=" + mac and abs(int(when[2:]) - time.time()) < 60
    record = json.loads(body)
    assert headers["X-Crewd-Delivery"] == str(record["id"]) and headers["X-Crewd-Event"] == "agent-terminated"
    return record, int(headers["X-Crewd-Attempt"])


def test_a_termination_is_delivered_once_and_signed(runner):
    with Receiver() as server:
        crew = hooked(runner, server.port)
        with crew.start():
            kill(runner, "a")
            eventually(lambda: server.got)
            record, attempt = checked(server.got[0])
            assert server.got[0][0] == "/hook/url-token-xyz" and attempt == 1
            assert (record["crew"], record["agent"], record["cause"]) == ("t", "a", "operator")
            assert record["reason"] == "for the webhook" and record["version"] == 1
            eventually(lambda: not outbox(runner))
            done = eventually(lambda: [r for r in crew.records("a", "process.exec") if r["path"] == "webhook"])
            assert done[0]["verdict"] == "hook" and "at attempt 1" in done[0]["reason"]
        assert len(server.got) == 1


def test_none_is_sent_before_all_that_died_together_are_on_record(runner):
    names, found = list("abcdef"), []
    with Receiver() as server:
        crew = hooked(runner, server.port)
        for name in names:
            crew.agent(name)
        crew.write()
        (crew.top / "keys/hook.key").chmod(0o600)

        class Got(list):
            def append(self, request):
                found.append({name: len(crew.records(name, "agent.terminated")) for name in names})
                super().append(request)

        server.got = Got()
        with crew.start() as running:
            client = running.client()
            die_together(running, [agent_status(client, name).pid for name in names])
            eventually(lambda: len(server.got) == len(names))
    assert sorted(json.loads(body)["agent"] for _, _, body, _ in server.got) == names
    assert found[0] == dict.fromkeys(names, 1)


def test_who_is_told_is_told_the_same_place_in_the_audit_when_another_cannot_be(runner):
    """The hook's outbox is full: that is on record after the end, and the webhook's record names the end."""
    with Receiver() as server:
        crew = hooked(runner, server.port)
        crew.extra += '    command: ["/bin/sh", "-c", "sleep 600"]\n'
        crew.write()
        (crew.top / "keys/hook.key").chmod(0o600)
        crew.start().stop()
        lines = (b'put %d c {"agent":"c","audit_seq":1}\n' % n for n in range(1, 1025))
        (runner.home / "lib" / "t" / "hooks.outbox").write_bytes(b"".join(lines))
        running = crew.start()
        client = running.client()
        killed = client.kill("a", "for the webhook").terminated
        eventually(lambda: [1 for g in server.got if checked(g)[0]["id"] == killed.id])
        missed = eventually(lambda: [r for r in crew.records("a", "process.exec") if "too many wait" in r.get("reason", "")])
        running.stop(signal.SIGKILL)  # else it waits for the hook that hangs
    [record] = [r for g in server.got if (r := checked(g)[0])["id"] == killed.id]
    [end] = [r for r in crew.records("a", "agent.terminated") if r["id"] == killed.id]
    assert record["audit_seq"] == killed.audit_seq == end["seq"] == missed[0]["seq"] - 1


def test_what_was_not_on_record_when_crewd_was_killed_is_told_under_one_id(runner):
    """Killed when some of those that died together are in the outboxes, and before the audit has them all."""
    names = list("abcdef")
    with Receiver() as server:
        crew = hooked(runner, server.port)
        crew.extra += '    command: ["/bin/sh", "-c", "r=$(cat); echo \\"$r\\" >>%s/got"]\n' % runner.home
        for name in names:
            crew.agent(name)
        crew.write()
        (crew.top / "keys/hook.key").chmod(0o600)
        for _ in range(3):
            running = crew.start()
            client = running.client()
            die_together(running, [agent_status(client, name).pid for name in names])
            late = time.monotonic() + 2
            while len(outbox(runner)) < 3 and time.monotonic() < late:
                pass
            running.stop(signal.SIGKILL)
        with crew.start() as running:
            running.client()
            ends = {r["id"]: r["cause"] for name in names for r in crew.records(name, "agent.terminated")}
            assert len(ends) == 3 * len(names)
            told = [lambda: {json.loads(body)["id"] for _, _, body, _ in server.got},
                    lambda: {json.loads(line)["id"] for line in (runner.home / "got").read_text().split("\n")[:-1]}]
            eventually((runner.home / "got").exists)
            for ids in told:
                eventually(lambda ids=ids: ids() >= ends.keys())
                assert ids() == ends.keys()
            eventually(lambda: not outbox(runner))


def test_over_https_only_the_named_certificates_are_trusted(runner, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, stderr=subprocess.DEVNULL)
    with Receiver(tls=(cert, key)) as server:
        crew = hooked(runner, server.port, ", ca: ca.pem")
        (crew.top / "ca.pem").write_text(cert.read_text())
        edit = (crew.top / "crew.yaml").read_text().replace("http://", "https://")
        (crew.top / "crew.yaml").write_text(edit)
        with crew.start():
            kill(runner, "a")
            eventually(lambda: server.got)
            assert checked(server.got[0])[0]["agent"] == "a"
        assert len(server.got) == 1
        (crew.top / "crew.yaml").write_text(edit.replace(", ca: ca.pem", ""))
        with crew.start():
            kill(runner, "a")
            failed = eventually(lambda: [r for r in crew.records("a", "process.exec") if r["verdict"] == "hook failed"])
            assert "certificate" in failed[0]["reason"].lower() or "SSL" in failed[0]["reason"]
        assert len(server.got) == 1 and len(outbox(runner)) == 1


def test_it_is_tried_again_with_growing_pauses_and_no_redirect(runner):
    with Receiver(500, 302) as server:
        crew = hooked(runner, server.port)
        with crew.start():
            kill(runner, "a")
            eventually(lambda: len(server.got) == 3, timeout=20)
            assert [checked(g)[1] for g in server.got] == [1, 2, 3]
            assert len({checked(g)[0]["id"] for g in server.got}) == 1
            first, second = (server.got[i + 1][3] - server.got[i][3] for i in (0, 1))
            assert 0.7 < first < 10 and 1.4 < second < 20
            eventually(lambda: not outbox(runner))
            reasons = eventually(lambda: [r["reason"] for r in crew.records("a", "process.exec")][1:] and
                                 [r["reason"] for r in crew.records("a", "process.exec")])
            assert "HTTP status 500" in reasons[0] and "at attempt 3" in reasons[1]


def test_what_was_not_taken_is_sent_by_the_next_crewd(runner, closed_port):
    crew = hooked(runner, closed_port)
    running = crew.start()
    try:
        kill(runner, "a")
        eventually(lambda: outbox(runner))
        text = outbox(runner)[0].read_text()
        running.proc.kill()  # at any time
        running.proc.wait()
    finally:
        running.__exit__()
    assert outbox(runner)
    with Receiver(port=closed_port) as server:
        with crew.start():
            # Those who died with crewd are told of too, and may pass it.
            eventually(lambda: json.loads(text) in [checked(g)[0] for g in list(server.got)])
            eventually(lambda: not outbox(runner))


def in_order(ids, distance=8):
    """As they were begun; so many are under way at a time and may pass one that is slow, however long that takes."""
    return all(sorted(ids).index(id) - i <= distance for i, id in enumerate(ids))


def test_more_than_are_sent_at_a_time_follow_when_the_receiver_is_back(runner, closed_port):
    """64 records are on their way: the others are not stranded, come oldest first, and are not overtaken."""
    crew = hooked(runner, closed_port)
    with crew.start() as running:
        client = running.client()
        ids = []
        for _ in range(70):
            ids.append(client.kill("a").terminated.id)
            client.start_agent("a")
        assert len(outbox(runner)) == 70
        assert running.log().count("64 records are on their way: more of them wait in") == 1
        with Receiver(port=closed_port) as server:
            ids.append(client.kill("b").terminated.id)
            eventually(lambda: not outbox(runner), timeout=150)
            got = [checked(g)[0]["id"] for g in server.got]
        assert sorted(got) == ids
        late = [id for id in got if id in ids[64:]]
        assert in_order(late) and late.index(ids[-1]) >= 3


def test_all_that_an_earlier_crewd_left_is_sent_however_many(runner, closed_port):
    crew = hooked(runner, closed_port)
    with crew.start():
        kill(runner, "a")
    [one] = outbox(runner)
    record, first = json.loads(one.read_text()), int(one.stem)
    for id in range(first - 1300, first):
        path = one.with_name(f"{id:020}.json")
        path.write_text(json.dumps({**record, "id": id}))
        shutil.copystat(one, path)
        os.chown(path, one.stat().st_uid, one.stat().st_gid)
    with Receiver(port=closed_port) as server:
        with crew.start() as running:
            assert "webhook: 1301 records of an earlier run are sent now" in running.log()
            kill(runner, "b")
            eventually(lambda: not outbox(runner), timeout=60)
        got = [checked(g)[0]["id"] for g in server.got]
    assert sorted(got)[:-1] == list(range(first - 1300, first + 1)) and len(got) == 1302
    assert in_order(got, 16)


def test_a_slow_receiver_holds_up_nothing(runner):
    answer = threading.Event()
    with Receiver(hold=answer) as server:
        crew = hooked(runner, server.port)
        with crew.start():
            kill(runner, "a")
            eventually(lambda: server.got)
            kill(runner, "b")
            # The second comes, and the first has had no answer yet.
            eventually(lambda: len({json.loads(body)["agent"] for _, _, body, _ in list(server.got)}) == 2)
            answer.set()


def test_a_receiver_that_never_answers_holds_back_no_record(runner):
    """Each has its first attempt, at once, and a stop waits for those: 10 seconds, not 10 for each."""
    with Receiver(hold=60) as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            client = running.client()
            for _ in range(12):  # more than are begun at a time
                client.kill("a")
                client.start_agent("a")
            client.kill("b")
            eventually(lambda: len({g[2] for g in list(server.got)}) == 13, timeout=8)  # the first have not been given up yet
            client.close()
            began = time.monotonic()
            assert running.stop(timeout=60) == 0
            assert time.monotonic() - began < 19
        first = [g for g in server.got if checked(g)[1] == 1]  # on a busy machine the stop outlasts the pause behind it
        assert len(first) == len({g[2] for g in first}) == 13
        assert len(outbox(runner)) == 13
        failed = [r for r in crew.records("b", "process.exec") if r["verdict"] == "hook failed"]
        assert len(failed) == 1 and "Timeout" in failed[0]["reason"]


def test_the_key_and_the_address_are_nowhere(runner):
    with Receiver(500) as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            kill(runner, "a")
            eventually(lambda: len(server.got) == 2, timeout=15)
            found = outside(running.proc.pid) | {running.proc.pid: "crewd"}
            assert any("crew-webhook" in comm for comm in found.values()), found
            for pid in found:
                for name in ("cmdline", "environ"):
                    try:
                        data = Path(f"/proc/{pid}/{name}").read_bytes()
                    except OSError:
                        continue
                    assert KEY.encode() not in data and b"url-token-xyz" not in data, (pid, name)
        log = running.log()
        assert KEY not in log and "url-token-xyz" not in log
    for path in list((runner.home / "lib").rglob("*")) + list((runner.home / "run").rglob("*")):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_sender_cannot_be_looked_into_and_has_given_up_its_rights(runner):
    with Receiver() as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            [pid] = [p for p, comm in outside(running.proc.pid).items() if comm.startswith("crew-webhook")]
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
            if "CREWD_SANITIZED" not in os.environ:  # such a build keeps its rights: its leak checker needs them
                assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0
                assert runner.rootless or status["Uid"].split()[0] == "65534"
            kill_nine = subprocess.run(["kill", "-9", str(pid)])
            assert kill_nine.returncode == 0
            eventually(lambda: "crew-webhook is gone" in running.log())


def webhook_pid(running):
    return next((p for p, comm in outside(running.proc.pid).items() if comm.startswith("crew-webhook")), None)


def test_a_sender_that_dies_is_replaced_and_nothing_is_lost(runner):
    with Receiver() as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            first = webhook_pid(running)
            launcher = int(Path(f"/proc/{first}/stat").read_text().rsplit(")", 1)[1].split()[1])
            os.kill(launcher, signal.SIGSTOP)  # no next one yet
            os.kill(first, signal.SIGKILL)
            eventually(lambda: "crew-webhook is gone" in running.log())
            kill(runner, "a")
            assert len(eventually(lambda: outbox(runner))) == 1 and not server.got
            os.kill(launcher, signal.SIGCONT)
            eventually(lambda: server.got)
            assert json.loads(server.got[0][2])["agent"] == "a"
            eventually(lambda: not outbox(runner))
            assert "crew-webhook runs again; 1 record waited" in running.log()
            eventually(lambda: any("was delivered" in r.get("reason", "") for r in crew.records("a")))
            assert webhook_pid(running) not in (None, first)
            kill(runner, "b")  # the next one works like the first
            eventually(lambda: len(server.got) == 2 and not outbox(runner))


def test_a_sender_that_cannot_start_again_is_tried_again_later(runner):
    with Receiver() as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            (crew.top / "keys/hook.key").rename(crew.top / "keys/elsewhere")
            os.kill(webhook_pid(running), signal.SIGKILL)
            eventually(lambda: "crew-webhook does not start: " in running.log())
            kill(runner, "a")
            (crew.top / "keys/elsewhere").rename(crew.top / "keys/hook.key")
            eventually(lambda: server.got and not outbox(runner), timeout=15)


def test_without_its_launcher_the_sender_goes_with_it_and_records_wait(runner):
    with Receiver() as server:
        crew = hooked(runner, server.port)
        with crew.start() as running:
            launcher = int(Path(f"/proc/{webhook_pid(running)}/stat").read_text().rsplit(")", 1)[1].split()[1])
            os.kill(launcher, signal.SIGKILL)
            eventually(lambda: "the launcher of crew-webhook is gone" in running.log() and not webhook_pid(running))
            kill(runner, "a")
            assert len(eventually(lambda: outbox(runner))) == 1
        with crew.start():
            eventually(lambda: server.got and not outbox(runner))


@pytest.mark.parametrize("change, said", [
    (lambda c: (c.top / "keys/hook.key").chmod(0o644), "can be read or written by others"),
    (lambda c: (c.top / "keys/hook.key").write_text("short"), "shorter than 16 bytes"),
    (lambda c: (c.top / "crew.yaml").write_text((c.top / "crew.yaml").read_text().replace("http://", "ftp://")), "'url'"),
    (lambda c: (c.top / "crew.yaml").write_text((c.top / "crew.yaml").read_text().replace("http://", "http://me:pw@")),
     "no user name or password"),
    (lambda c: (c.top / "a.yaml").write_text((c.top / "a.yaml").read_text().replace("read: []", 'read: ["${CREW_DIR}/keys/"]')),
     "could read"),
])
def test_what_would_not_be_safe_does_not_start(runner, change, said):
    crew = hooked(runner, 9)
    change(crew)
    r = runner.crewctl("up", "--detach", crew.top / "crew.yaml")
    assert r.returncode != 0 and said in r.stdout + r.stderr, r.stdout + r.stderr
