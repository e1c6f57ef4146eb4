# SPDX-License-Identifier: Apache-2.0
"""The control socket: who may connect, what garbage gets, and that one client cannot harm another."""

import concurrent.futures
import contextlib
import itertools
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

import crewd
from crewd import codec
from crewlib import Crew, eventually, walls_are_up

HELLO = b"\0SP\0\0\x11\0\0"


def frame(payload):
    return struct.pack(">BQI", 1, len(payload) + 4, 1) + payload


def raw(crew):
    s = socket.socket(socket.AF_UNIX)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 60, 0))
    s.connect(str(crew.run_dir / "control.sock"))
    s.settimeout(60)
    return s


def read_all(s):
    got = b""
    try:
        while chunk := s.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    return got


@pytest.fixture
def running(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as r:
        yield r


def test_the_socket_is_private(running):
    st = os.stat(running.crew.run_dir / "control.sock")
    assert stat.S_IMODE(st.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(running.crew.run_dir).st_mode) == 0o700


def test_a_foreign_user_is_turned_away(runner):
    if os.geteuid() != 0:
        pytest.skip("a second user needs CAP_SETUID")
    crew = Crew(runner).agent("a")
    with crew.start():
        # The modes are opened up on purpose: the peer's uid alone must be enough.
        for d in (crew.run_dir.parent, crew.run_dir):
            os.chmod(d, 0o755)
        os.chmod(crew.run_dir / "control.sock", 0o666)
        code = (f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(crew.run_dir / 'control.sock')!r});"
                "s.settimeout(60); print(len(s.recv(100)))")
        r = subprocess.run(["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups", "/usr/bin/python3", "-c", code],
                           stdout=subprocess.PIPE, text=True)
        assert r.stdout.strip() == "0"


GARBAGE = {
    "no-hello": b"GET / HTTP/1.1\r\n\r\n",
    "another-protocol": b"\0SP\0\0\x10\0\0" + frame(b"x"),
    "huge-length": HELLO + struct.pack(">BQ", 1, 0xffffffffffffffdf),
    "wrong-type": HELLO + struct.pack(">BQI", 2, 5, 1) + b"x",
    "bad-hops": HELLO + struct.pack(">BQI", 1, 5, 9) + b"x",
    "no-envelope": HELLO + frame(b"\xff" * 40),
    "empty": HELLO + frame(b""),
    "wrong-state": HELLO + frame(codec.encode_envelope(1, "get_status", codec.Message("GetStatus"), 0)),
    "half-a-frame": HELLO + frame(b"x" * 100)[:50],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_refused_or_closed_and_harms_nobody(running, kind):
    bystander = running.client()
    with raw(running.crew) as s:
        s.sendall(GARBAGE[kind])
        if kind == "half-a-frame":
            s.shutdown(socket.SHUT_WR)
        got = read_all(s)
    assert got.startswith(HELLO) or got == b""
    if kind in ("no-envelope", "empty", "wrong-state"):
        assert b"bad-frame" in got or b"wrong-state" in got
    assert bystander.status().crew == "t"


def test_a_skipped_sequence_number_is_refused(running):
    with raw(running.crew) as s:
        hello = codec.Message("ClientHello", protocol=1, client="x")
        s.sendall(HELLO + frame(codec.encode_envelope(1, "client_hello", hello, 0)) +
                  frame(codec.encode_envelope(3, "get_status", codec.Message("GetStatus"), 0)))
        assert b"bad-frame" in read_all(s)


def test_random_bytes_and_mutations_never_stop_crewd(running):
    rng = random.Random(7)
    good = (codec.encode_envelope(1, "client_hello", codec.Message("ClientHello", protocol=1, client="x"), 0),
            codec.encode_envelope(2, "kill_agent", codec.Message("KillAgent", agent="nobody", reason="r"), 0),
            codec.encode_envelope(3, "client_exec", codec.Message("ClientExec", agent="a", argv=["x"]), 0))
    for _ in range(150):
        data = bytearray(HELLO + b"".join(frame(f) for f in good))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        with raw(running.crew) as s:
            try:
                s.sendall(data[:rng.randrange(8, len(data))])
            except OSError:
                pass
    eventually(lambda: served(running))  # it may not have got round to all of them, and has no more room than for 64


def served(running):
    try:
        return running.client().status().agents[0].name == "a"
    except crewd.CrewdError:
        return False


def fill_backlog(crew):
    """As many connections as the socket takes while nobody accepts; they are closed again, their places stay taken."""
    with contextlib.ExitStack() as stack:
        for n in itertools.count():
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.setblocking(False)
            try:
                s.connect(str(crew.run_dir / "control.sock"))
            except BlockingIOError:
                return n


def test_a_client_waits_for_a_crewd_with_more_at_its_door_than_it_gets_round_to(running, runner):
    pid = running.client().pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert fill_backlog(running.crew) > 100
        for seconds in (0, 0.3):
            with pytest.raises(crewd.ConnectError, match=f"nobody took the connection within {seconds} s"):
                running.client(timeout=seconds)
        cli = runner.popen(runner.program("crewctl"), "status", stdout=subprocess.PIPE, text=True)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            client = pool.submit(running.client)
            time.sleep(0.5)  # both are at the door by now, or come later and need not wait
            os.kill(pid, signal.SIGCONT)
            assert client.result(60).status().agents[0].name == "a"
        out, _ = cli.communicate(timeout=60)
        assert cli.returncode == 0 and "a" in out
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.waits
def test_a_client_that_says_nothing_is_dropped(running):
    start = time.monotonic()
    with raw(running.crew) as s:
        assert read_all(s) == HELLO
        assert 3 < time.monotonic() - start < 30


def test_a_client_that_does_not_read_is_dropped_not_waited_for(running):
    slow = raw(running.crew)
    hello = codec.Message("ClientHello", protocol=1, client="slow")
    slow.sendall(HELLO + frame(codec.encode_envelope(1, "client_hello", hello, 0)))
    big = "x" * 1_000_000
    quick = running.client()
    dropped = False
    for n in range(40):
        body = codec.Message("SubmitTask", agent="a", description="out(doc['input'])", input='"' + big + '"')
        try:
            slow.sendall(frame(codec.encode_envelope(2 + n, "submit_task", body, 0)))
        except OSError:
            dropped = True
            break
    assert quick.status().crew == "t"
    # Its results are what fills its queue; nobody else notices.
    def others_are_served():
        return quick.submit(agent="b", description="out(3)").result(60) == 3
    assert others_are_served()
    eventually(lambda: "dropped" in running.log() or dropped, timeout=60, every=0.5)
    assert others_are_served()
    slow.close()
    assert quick.status().crew == "t"


def test_the_number_of_clients_is_bounded(running):
    socks = [raw(running.crew) for _ in range(64)]
    with raw(running.crew) as extra:
        assert read_all(extra) == b""
    for s in socks:
        s.close()
    eventually(lambda: served(running))


def test_events_are_numbered_and_replayed(running):
    def told(client):
        client.status()  # answered behind all that was told
        return list(client.events(timeout=0))
    one = running.client()
    one.subscribe()
    one.submit(agent="a", description="out(1)").result(60)
    seen = told(one)
    assert [e.event_seq for e in seen] == list(range(seen[0].event_seq, seen[0].event_seq + len(seen)))
    two = running.client()
    two.subscribe(1)
    again = told(two)
    assert [e.event_seq for e in again] == list(range(1, again[-1].event_seq + 1))
    assert again[seen[0].event_seq - 1:][:len(seen)] == seen  # there may have been more since
    states = [e.agent.state for e in again if e.kind == "agent-state" and e.agent.name == "a"]
    assert states[:2] == [crewd.AgentState.SPAWNING, crewd.AgentState.READY]


def test_status_shows_what_the_jail_uses(running):
    client = running.client()
    walls_are_up(client)
    agent = client.status().agents[0]
    assert agent.pid > 0 and agent.landlock_abi >= 1 and agent.processes >= 1 and agent.spawn_us > 0
    assert agent.walls == "full", agent.walls
    assert agent.audit_path.endswith("/audit/a/log.jsonl")
    # Of a busy machine it gets that much only by and by; it is there until it was looked at.
    client.submit(agent="a", description="while time.process_time() < 0.3: pass\ntime.sleep(600)")
    assert eventually(lambda: client.status().agents[0].cpu_ns > 100_000_000)


def test_exec_has_streams_input_and_status(running):
    client = running.client()
    done, out, err = client.exec("a", ["/bin/sh", "-c", "cat; echo oops >&2; exit 7"], input=b"hello" * 20000, timeout=60)
    assert (done.exit_code, out, err) == (7, b"hello" * 20000, b"oops\n")
    done, out, _ = client.exec("a", ["/bin/sh", "-c", "kill -9 $$"], timeout=60)
    assert done.term_signal == 9
    with pytest.raises(crewd.UnknownAgent):
        client.exec("nosuch", ["true"], timeout=60)
    assert [r for r in running.crew.records("a", "process.exec") if "crewctl exec" in r.get("reason", "")]


def test_an_exec_dies_with_its_client(running):
    client = running.client()
    client._send("client_exec", crewd.Message("ClientExec", agent="a", argv=["/bin/sleep", "600"]))
    other = running.client()
    eventually(lambda: other.status().agents[0].processes >= 2 or time.sleep(1), timeout=60)
    client.close()

    def alone():
        time.sleep(1)
        return other.status().agents[0].processes <= 1
    eventually(alone, timeout=60)


def test_stop_answers_and_everything_ends(running):
    client = running.client()
    assert client.stop(grace_ms=2000, reason="enough").text == "the crew is stopped"
    assert running.proc.wait(60) == 0
