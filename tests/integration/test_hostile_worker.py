# SPDX-License-Identifier: Apache-2.0
"""A jail whose pid 1 is the attacker: everything on its link is hostile, and crewd, the clients and the other agents do
not care.  Each script below is what one hostile worker does once everybody is up (see hostile/prelude.py)."""

import json
import os
import time

import pytest

import crewd
from conftest import modes
from crewlib import agent_status, eventually, gateway_of, outside, walls_are_up
from hostilelib import Bystanders, HostileCrew, begin, fds, grown_kib, rss_kib

HONEST = "honest"

# One line each: what it does after its task came; the record it must leave: type, field, words of the rule.
# All of these end it: one broken frame that no confused worker could send, or the fifth of the lesser ones.
VIOLATIONS = {
    "seq-gap": ("say('pong', at=seq + 2)", "pong", "seq", "follow"),
    "seq-back": ("say('pong', at=1)", "pong", "seq", "follow"),
    "seq-replay": ("f = frame('pong'); wire(f); wire(f)", "pong", "seq", "follow"),
    "seq-zero": ("five(lambda: say('pong', at=0))", "seq", None, "min 1"),
    "seq-huge": ("say('pong', at=2**64 - 1)", "pong", "seq", "follow"),
    "empty": ("five(lambda: wire(b''))", "version", None, "bad-version"),
    "garbage": ("five(lambda: wire(os.urandom(64)))", "frame", None, "malformed"),
    "version": ("five(lambda: say('pong', version=2))", "version", None, "bad-version"),
    "unknown-field": ("five(lambda: wire(frame('pong') + b'\\xf8\\x3f\\x01'))", "frame", None, "unknown"),
    "long-varint": ("five(lambda: wire(frame('pong') + b'\\x18\\x80\\x00'))", "frame", None, "not-canonical"),
    "two-bodies": ("five(lambda: wire(frame('pong') + b'\\x8a\\x01\\x00'))", "frame", None, "not-canonical"),
    "no-body": ("five(lambda: wire(b'\\x08\\x01\\x10\\x09'))", "body", None, "required"),
    "too-large": ("five(lambda: say('observed', what='x', detail='x' * 4096))", "observed", None, "max_bytes"),
    "wide-pong": ("five(lambda: wire(frame('pong') + b'\\xa2\\x01\\x00' * 500))", "pong", None, "max_bytes"),
    "second-hello": ("five(hello)", "hello", None, "wrong-state"),
    "second-ready": ("five(lambda: say('ready'))", "ready", None, "wrong-state"),
    "resume-unasked": ("say('resume', incarnation=1)", "resume", None, "not made again"),
    "ack-ahead": ("say('pong', ack=99)", "pong", "ack", "never sent"),
    "as-crewd": ("five(lambda: say('call_result', 1, ok=True, result='{}'))", "call_result", None, "wrong-sender"),
    "as-crewd-2": ("five(lambda: say('tool_grant', 1, tool='t', arguments='{}'))", "tool_grant", None, "wrong-sender"),
    "as-crewd-3": ("five(lambda: say('task_start', task_id='1', task='x'))", "task_start", None, "wrong-sender"),
    "as-client": ("five(lambda: say('kill_agent', agent='honest'))", "kill_agent", None, "wrong-sender"),
    "as-client-2": ("five(lambda: say('client_hello', protocol=1))", "client_hello", None, "wrong-sender"),
    "event": ("five(lambda: say('event', kind='log', text='all is well'))", "event", None, "wrong-sender"),
    "no-such-task": ("five(lambda: result('t-999'))", "task_result", "task_id", "no task"),
    "no-such-ask": ("five(lambda: say('ask_answer', 3, ok=True, payload='1'))", "ask_answer", "corr", "no ask"),
    "ask-zero": ("five(lambda: say('ask_answer', 0, ok=True, payload='1'))", "ask_answer", "corr", "no ask"),
    "no-such-call": ("five(lambda: say('tool_return', 7, outcome=1, output='{}'))", "tool_return", "corr", "no tool call"),
    "no-such-exec": ("five(lambda: say('exec_output', 5, stream=1, data=b'x'))", "exec_output", "corr", "no command"),
    "no-such-exit": ("five(lambda: say('exec_exit', 5))", "exec_exit", "corr", "no command"),
    "bad-outcome": ("five(lambda: result('x', outcome=99))", "task_result", "outcome", "a known value"),
    "no-outcome": ("five(lambda: result('x', outcome=0))", "task_result", "outcome", "required"),
    "nul": ("five(lambda: say('observed', what='exec', detail='a\\0b'))", "observed", "detail", "NUL"),
    "not-utf8": ("five(lambda: say('tool_call', tool=b'\\xff\\xfe'))", "tool_call", "tool", "UTF-8"),
    "ask-unanswered": ("five(lambda: say('send_message', target='honest', ask=True, unanswered=True, payload='1'))",
                       "send_message", "unanswered", "not of an ask"),
    "surrogate": ("five(lambda: say('send_message', target='\\ud800', payload='1'))", "send_message", "target", "UTF-8"),
    "name": ("five(lambda: say('observed', what='a b', detail='x'))", "observed", "what", "name"),
    "token": ("five(lambda: result('a\\nb'))", "task_result", "task_id", "printable"),
    "stream": ("five(lambda: say('exec_output', 1, stream=3, data=b'x'))", "exec_output", "stream", "max 2"),
    # The wire below the frames.
    "length-16m": ("wire(b'x' * 1000, 16 << 20)", "frame", None, "announced too large"),
    "length-2e63": ("raw(struct.pack('>BQI', 1, 2**63, 1))", "frame", None, "announced too large"),
    "length-3": ("raw(struct.pack('>BQ', 1, 3))", "frame", None, "wire format"),
    "hops": ("raw(struct.pack('>BQI', 1, 6, 2) + b'xx')", "frame", None, "wire format"),
    "type": ("raw(struct.pack('>BQI', 2, 6, 1) + b'xx')", "frame", None, "wire format"),
    "http": ("raw(b'GET / HTTP/1.1\\r\\nHost: crewd\\r\\n\\r\\n')", "frame", None, "wire format"),
}


def test_a_broken_rule_is_recorded_and_ends_the_one_who_broke_it(runner):
    crew = HostileCrew(runner).agent(HONEST)
    for name, (code, *_) in VIOLATIONS.items():
        crew.hostile(name, f"begin()\n{code}\nstay()\n")
    with crew.start() as running:
        client = running.client()
        before = fds(running.proc.pid)
        with Bystanders(running, HONEST) as others:
            tasks = {name: begin(client, name) for name in VIOLATIONS}
            done = {name: t.wait(60) for name, t in tasks.items()}
        others.check(status_s=3, task_s=10)
        wrong = {}
        for name, (_, kind, field, rule) in VIOLATIONS.items():
            d = done[name]
            if d.outcome != crewd.Outcome.TERMINATED or d.terminated.cause != crewd.Cause.POLICY_VIOLATION:
                wrong[name] = (d.outcome, d.terminated and (d.terminated.cause, d.terminated.reason))
            got = [r for r in crew.records(name, "message.rejected")]
            if not any(r["type"] == kind and r.get("field") == field and rule in r["rule"] for r in got):
                wrong[name] = [(r["type"], r.get("field"), r["rule"]) for r in got]
            ends = crew.records(name, "agent.terminated")
            if len(ends) != 1 or ends[0]["cause"] != "policy violation" or ends[0]["seq"] != d.terminated.audit_seq:
                wrong[name] = wrong.get(name, ()), ends
        assert not wrong, wrong
        # The links are gone again; two descriptors are the bystanders' connections.
        eventually(lambda: fds(running.proc.pid) <= before + 2 - len(VIOLATIONS), timeout=20)
        assert running.proc.poll() is None
    assert runner.crewctl("audit", "verify").returncode == 0


# ---- floods ----

EVERYTHING_IS_READ = """
import threading
threading.Thread(target=lambda: [L.recv(1 << 16) for _ in iter(int, 1)], daemon=True).start()
n = 0
while True:
    n += 1
"""
FLOODS = {
    "stderr": "    say('stderr_text', source='agent', text=b'x' * 4096)",
    "observed": "    say('observed', what='exec', detail=f'/bin/{n}' + 'x' * 900)",
    "pong": "    say('pong', processes=n)",
    "drip": "    f = frame('pong', processes=n)\n    for b in struct.pack('>BQI', 1, len(f) + 4, 1) + f: raw(bytes([b]))",
    "list": "    say('list_tools')",
    "denied-tool": "    say('tool_call', tool=f't{n}', arguments='{}')",
    "denied-send": "    say('send_message', target=f't{n}', payload='{}')",
    "sends": "    say('send_message', target='honest', payload='{}')",
    "large-sends": "    say('send_message', target='honest', payload='[' + '1,' * 400000 + '1]')",
    "asks": "    say('send_message', target='honest', ask=True, payload='{}', deadline_ms=2**63)",
    "empty-objects": "    say('send_message', target='honest', payload='[' + '{},' * 340000 + '{}]')",
}


def audit_bytes(runner, agent):
    return (runner.home / "lib" / "t" / "audit" / agent / "log.jsonl").stat().st_size


def end(crew, client, name):
    """Kills it, unless its messages have ended it before."""
    try:
        client.kill(name)
    except crewd.NotRunning:
        last = crew.records(name, "agent.terminated")[-1]
        assert (last["cause"], last["limit"]) == ("limit", "messages"), last


def test_floods_cost_the_others_little_and_the_disk_less(runner):
    """All at full speed, one after the other, then all of them at once."""
    crew = HostileCrew(runner).agent(HONEST)
    for name, code in FLOODS.items():
        crew.hostile(name, "begin()\n" + EVERYTHING_IS_READ + code, targets=[HONEST])
    with crew.start() as running:
        client = running.client()
        client.subscribe()
        memory = rss_kib(running.proc.pid)
        for name in FLOODS:
            with Bystanders(running, HONEST) as others:
                begin(client, name)
                time.sleep(0.5)
                if name == "stderr":
                    eventually(lambda: crew.records(name, "limit.hit"))
                end(crew, client, name)
            others.check(status_s=2, task_s=5)
        assert grown_kib(running.proc.pid, memory) < 128 << 10
        sizes = {name: audit_bytes(runner, name) >> 20 for name in FLOODS}
        assert max(sizes.values()) <= 12, sizes
        assert not client._failure, "a client that reads is not dropped"
    assert runner.crewctl("audit", "verify").returncode == 0
    cut = crew.records("stderr", "agent.stderr")
    assert sum(r.get("dropped", 0) for r in cut) >= 4096, "what was cut is counted"


def test_many_floods_at_once(runner):
    crew = HostileCrew(runner).agent(HONEST)
    names = ["pong", "denied-tool", "sends", "large-sends", "list"]
    for name in names:
        crew.hostile(name, "begin()\n" + EVERYTHING_IS_READ + FLOODS[name], targets=[HONEST])
    with crew.start() as running:
        client = running.client()
        with Bystanders(running, HONEST) as others:
            for name in names:
                begin(client, name)
            time.sleep(2)
            killed = client.kill("pong", "enough")
            assert killed.terminated.cause == crewd.Cause.OPERATOR
        others.check(status_s=3, task_s=10)
        client.stop()  # without a grace: they would not mind it


# ---- those who do not listen ----

DEAF = {
    # As fast as it can, and not one answer read: the queue to it is bounded.
    "never-reads": ("n = 0\nwhile True:\n    n += 1\n    say('tool_call', tool='t' * 63, arguments='{}')", "LIMIT"),
    # Announces four megabytes and sends one byte now and then.
    "half-a-frame": ("raw(struct.pack('>BQI', 1, 4 << 20, 1))\nwhile True:\n    raw(b'x')\n    time.sleep(0.2)", "HEARTBEAT"),
    "silent": ("time.sleep(600)", "HEARTBEAT"),
    "half-a-header": ("raw(b'\\x01\\x00')\ntime.sleep(600)", "HEARTBEAT"),
    "reads-a-byte-a-second": ("while True:\n    L.recv(1)\n    time.sleep(1)", "HEARTBEAT"),
    "stopped": ("import signal\nos.kill(1, signal.SIGSTOP)\ntime.sleep(600)", "HEARTBEAT"),
}


@pytest.mark.waits
@pytest.mark.parametrize("mode", modes()[:1])  # crewd's part is the same code in both, and it takes 20 s
def test_the_deaf_and_the_mute_end_and_hold_up_nobody(runner):
    crew = HostileCrew(runner).agent(HONEST, targets=list(DEAF))
    for name, (code, _) in DEAF.items():
        crew.hostile(name, "begin()\n" + code)
    # Comes back after its first death and says hello, but is never ready.
    crew.hostile("never-ready", "if INCARNATION == 1:\n    begin()\n    os._exit(0)\nraw(GREETING)\nhello()\nstay()\n",
                 restart={"max": 1, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        memory = rss_kib(running.proc.pid)
        begin(client, "never-ready")
        with Bystanders(running, HONEST) as others:
            tasks = {name: begin(client, name) for name in DEAF}
            done = {name: t.wait(60) for name, t in tasks.items()}
        others.check(status_s=2, task_s=5)
        assert {n: d.terminated.cause.name for n, d in done.items()} == {n: c for n, (_, c) in DEAF.items()}
        ends = eventually(lambda: crew.records("never-ready", "agent.terminated")[1:], timeout=40)
        assert (ends[0]["cause"], ends[0]["reason"]) == ("start failed", "not ready within 20 s")
        assert grown_kib(running.proc.pid, memory) < 64 << 10


# ---- each request has one answer, whatever those who owe it do ----

# A judge, hostile too, asks them all and calls tools whose returns are its own to make up; it reports every terminal
# message that came, by request.  Only those whose time is to run out have little of it.
ANSWERS = {
    "answers": ("say('ask_answer', seq_of_ask, ok=True, payload='1')", "ok"),
    "answers-twice": ("[say('ask_answer', seq_of_ask, ok=True, payload=str(i)) for i in (1, 2)]", "ok"),
    "answers-late": ("time.sleep(1.2); say('ask_answer', seq_of_ask, ok=True, payload='1')", -32005),
    "answers-never": ("pass", -32005),
    "answers-and-dies": ("say('ask_answer', seq_of_ask, ok=True, payload='1'); os._exit(0)", "ok"),
    "dies": ("os._exit(3)", -32008),
    "dies-of-a-signal": ("import ctypes; ctypes.string_at(0)", -32008),
    "hangs-up": ("L.close(); time.sleep(60)", -32008),
    "breaks-the-wire": ("raw(b'x' * 100)", -32008),
    "violates": ("say('pong', at=1)", -32008),
    "deep": ("say('ask_answer', seq_of_ask, ok=True, payload='[' * 10000 + ']' * 10000)", -32009),
    "duplicate-keys": ("say('ask_answer', seq_of_ask, ok=True, payload='{\"a\":1,\"a\":2}')", -32009),
    "huge-number": ("say('ask_answer', seq_of_ask, ok=True, payload='1' + '0' * 400)", -32009),
    "lone-surrogate": ("say('ask_answer', seq_of_ask, ok=True, payload='\"\\\\ud800\"')", -32009),
    "two-values": ("say('ask_answer', seq_of_ask, ok=True, payload='1 2')", -32009),
    "no-value": ("say('ask_answer', seq_of_ask, ok=True)", -32009),
    "empty-objects": ("say('ask_answer', seq_of_ask, ok=True, payload='[' + '{},' * 300000 + '1]')", -32009),
    "says-no": ("say('ask_answer', seq_of_ask, ok=False, error='no\\nno\\x1b[2J')", -32003),
}
RETURNS = {
    "good": ("dict(outcome=1, output='{\"n\":1}')", "ok"),
    "wrong-schema": ("dict(outcome=1, output='{\"n\":\"x\"}')", -32004),
    "more-than-schema": ("dict(outcome=1, output='{\"n\":1,\"m\":1}')", -32004),
    "deep": ("dict(outcome=1, output='[' * 10000 + ']' * 10000)", -32004),
    "duplicate": ("dict(outcome=1, output='{\"n\":1,\"n\":1}')", -32004),
    "number": ("dict(outcome=1, output='{\"n\":1e999}')", -32004),
    "failed": ("dict(outcome=2, error='\\x1b]0;x\\x07')", -32003),
    "never": ("None", -32005),
}
JUDGE = """
_, _, task = begin()
import json
asks, calls, returned, got = {}, {}, {}, {}
now = int(time.time() * 1000)
for name in %r:
    asks[say('send_message', target=name, ask=True, payload='1',
             deadline_ms=now + (1000 if name in ('answers-late', 'answers-never') else 40000))] = name
for name in %r:
    calls[say('tool_call', tool='slow' if name == 'never' else 'counter', arguments='{}')] = name
returns = {%s}
def answers():
    end = time.monotonic() + 40
    while len(got) < len(asks) + len(calls) and time.monotonic() < end:
        yield from hear_for(0.2)
    yield from hear_for(3)  # what is one too many
for envelope, body, message in answers():
    if body == 'tool_grant':
        what = returns[calls[envelope.corr]]
        for _ in range(2 if calls[envelope.corr] == 'good' else 1):
            if what:
                say('tool_return', envelope.corr, **what)
    if body == 'call_result':
        name = asks.get(envelope.corr) or 'tool ' + calls[envelope.corr]
        got.setdefault(name, []).append('ok' if message.ok else message.error.code)
result(task.task_id, result=json.dumps(got))
stay()
"""


def test_every_request_gets_exactly_one_answer(runner):
    crew = HostileCrew(runner)
    for name, (code, _) in ANSWERS.items():
        crew.hostile(name, f"come_up()\nwhile True:\n    seq_of_ask = hear_of('deliver')[0].seq\n    {code}\n")
    crew.files["out.json"] = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                                         "additionalProperties": False})
    for tool, timeout in (("counter", "40s"), ("slow", "1s")):
        crew.tool(tool, "#!/bin/sh\necho '{}'\n", output="out.json", timeout=timeout)
    returns = ", ".join(f"{name!r}: {value}" for name, (value, _) in RETURNS.items())
    crew.hostile("judge", JUDGE % (list(ANSWERS), list(RETURNS), returns), targets=list(ANSWERS),
                 tools=["counter", "slow"])
    with crew.start() as running:
        client = running.client()
        got = begin(client, "judge").result(60)
        want = {name: [what] for name, (_, what) in ANSWERS.items()}
        want |= {"tool " + name: [what] for name, (_, what) in RETURNS.items()}
        assert got == want
        client.stop()
    returned, = [r for r in crew.records("judge", "message.rejected")]
    assert (returned["type"], returned["field"]) == ("tool_return", "corr")
    granted, ended = crew.records("judge", "tool.call"), crew.records("judge", "tool.return")
    assert sorted(r["call"] for r in granted) == sorted(r["call"] for r in ended)


# ---- those who go, and those who never come ----

EXITS = {
    "before-a-word": "os._exit(0)",
    "after-greeting": "raw(GREETING); os._exit(0)",
    "half-a-hello": "raw(GREETING); raw(struct.pack('>BQI', 1, 100, 1) + b'xx'); os._exit(0)",
    "after-hello": "raw(GREETING); hello(); os._exit(0)",
    "after-welcome": "raw(GREETING); hello(); hear_of('welcome'); os._exit(0)",
    "wrong-greeting": "raw(b'\\0SP\\0\\0\\x10\\0\\0'); time.sleep(60)",
    "wrong-name": "raw(GREETING); hello(agent='honest'); time.sleep(60)",
    "wrong-incarnation": "raw(GREETING); hello(incarnation=INCARNATION + 1); time.sleep(60)",
    "earlier-incarnation": "raw(GREETING); hello(incarnation=INCARNATION - 1); time.sleep(60)",
    "ready-first": "raw(GREETING); say('ready'); time.sleep(60)",
    "two-hellos": "raw(GREETING); hello(); hello(); time.sleep(60)",
    "two-readies": "come_up(); five(lambda: say('ready')); stay()",
    "result-first": "raw(GREETING); five(lambda: result('t-1')); time.sleep(60)",
    "many-early-frames": "raw(GREETING); hello(); [say('pong') for _ in range(200)]; time.sleep(60)",
    "large-early-frame": "raw(GREETING); five(lambda: wire(b'x' * 100000)); time.sleep(60)",
}
VIOLATORS = ("wrong-greeting", "wrong-name", "wrong-incarnation", "earlier-incarnation", "ready-first", "two-hellos",
             "two-readies", "result-first", "many-early-frames", "large-early-frame")


def test_a_worker_may_go_at_any_moment_and_a_liar_does_not_come_back(runner):
    """The first of each behaves until the crew runs; what it is about is the second."""
    crew = HostileCrew(runner).agent(HONEST)
    for name, code in EXITS.items():
        crew.hostile(name, f"if INCARNATION == 1:\n    begin()\n    os._exit(0)\n{code}\n",
                     restart={"max": 3, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        before = fds(running.proc.pid)
        with Bystanders(running, HONEST) as others:
            tasks = {name: begin(client, name) for name in EXITS}
            eventually(lambda: all(crew.records(n, "agent.terminated")[1:] for n in EXITS), timeout=60)
            eventually(lambda: all(a.state in (crewd.AgentState.TERMINATED, crewd.AgentState.FAILED)
                                   for a in client.status().agents if a.name != HONEST), timeout=60)
        others.check(status_s=2, task_s=5)
        outcomes = {name: t.wait(30).outcome for name, t in tasks.items()}
        assert set(outcomes.values()) == {crewd.Outcome.TERMINATED}, outcomes
        for name in EXITS:
            ends = crew.records(name, "agent.terminated")
            if name in VIOLATORS:
                assert [e["cause"] for e in ends] == ["exit", "policy violation"], (name, ends)
                assert crew.records(name, "message.rejected")
            else:
                assert [e["cause"] for e in ends] == ["exit"] * 4, (name, ends)
        # Each had its link; two of what is open now are the bystanders' connections.
        eventually(lambda: fds(running.proc.pid) <= before + 2 - len(EXITS), timeout=20)
    assert runner.crewctl("audit", "verify").returncode == 0


# ---- texts ----

NASTY = [
    "a\nb\r\nc", "\x1b[2J\x1b]0;owned\x07", "\u202etxt.exe\u2066", "x\u2028y\u2029z", "\x7f\x9b31m\x85", '"},{"kind":"x',
    "'; DROP TABLE audit; --", "\u200b\ufeff\u00ad", "\U000e0041\U0010ffff", "%s%n%d", "\\u0000\\", "[2026-01-01 00:00:00] ",
]
TEXTS = """
_, _, task = begin()
for text in %r:
    say('tool_call', tool=text[:20], arguments='{}')
    say('tool_call', tool='counter', arguments='{' + text)
    say('send_message', target=text[:20], payload='1')
    say('send_message', target='honest', payload='{' + text)
    say('observed', what='exec', detail=text)
    say('observed', what='limit-x', detail=text)
    say('stderr_text', source=text[:20], text=text)
say('stderr_text', text=bytes(range(256)) * 16)
say('exec_exit', 1, error=%r)
result(task.task_id, outcome=2, error=''.join(%r))
stay()
"""


def test_no_text_makes_a_second_line_or_reaches_the_terminal(runner):
    crew = HostileCrew(runner).agent(HONEST)
    crew.tool("counter", "#!/bin/sh\necho '{}'\n")
    crew.hostile("nasty", TEXTS % (NASTY, NASTY[1], NASTY), targets=[HONEST], tools=["counter"])
    with crew.start() as running:
        client = running.client()
        client.subscribe()
        done = begin(client, "nasty").wait(60)
        assert done.outcome == crewd.Outcome.FAILED and "\x1b" not in done.error
        status = runner.crewctl("status").stdout
        events = [e.text for e in client.events(timeout=0.3)]
    logs = runner.crewctl("logs", "--agent", "nasty", "--last", "1000").stdout
    raw = (runner.home / "lib" / "t" / "audit" / "nasty" / "log.jsonl").read_bytes()
    assert all(0x20 <= b < 0x7f or b == 0x0a for b in raw)
    records = [json.loads(line) for line in raw.splitlines()]
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    assert any(r.get("tool") == NASTY[1] for r in records), "what it said is kept, byte for byte"
    # One line of text a record, and nothing that acts on a terminal or on the eye.
    assert len(logs.splitlines()) == len(records)
    for shown in (logs, status, running.log()):
        assert not set(shown) & set("\x1b\x07\r\x7f\x9b\x85\u202e\u2066\u2028\u2029\u200b\ufeff\u00ad\U000e0041"), shown
    assert not [t for t in events if set(t) & set("\x1b\x07")]
    assert runner.crewctl("audit", "verify").returncode == 0


# ---- while it also does what any jailed program can do ----

def test_a_fork_bomb_that_talks_stays_in_its_jail(runner):
    crew = HostileCrew(runner).agent(HONEST)
    crew.hostile("bomb", """
begin()
try:
    if os.fork() == 0:
        while True:
            try:
                os.fork()
            except OSError:
                pass
except OSError:
    pass
while True:
    say('observed', what='exec', detail='boom')
""")
    with crew.start() as running:
        client = running.client()
        with Bystanders(running, HONEST) as others:
            first = agent_status(client, "bomb").pid
            begin(client, "bomb")
            eventually(lambda: len(outside(first)) > 20, timeout=40)
            time.sleep(2)
            # The jail's memory may be full meanwhile, and then some of them are dead already, or all.
            alive = outside(first)
            try:
                assert client.kill("bomb").terminated.processes_killed > 1
            except crewd.NotRunning:
                assert crew.records("bomb", "agent.terminated")[-1]["cause"] in ("out of memory", "limit")
            assert not [p for p in alive if os.path.exists(f"/proc/{p}")]
        others.check(status_s=5, task_s=15)
        assert running.proc.poll() is None


def test_nobody_can_fill_anothers_queue_until_it_dies(runner):
    """The slow one reads a megabyte a second and works on; what others send it must not look like its fault."""
    crew = HostileCrew(runner)
    crew.hostile("slow", """
begin()
import json
for i in range(40):
    L.recv(1 << 16)
    time.sleep(0.05)
    say('tool_call', tool='t' * 63, arguments='{}')
stay()
""")
    for name in ("large-sends", "sends"):
        crew.hostile(name, "begin()\n" + EVERYTHING_IS_READ + FLOODS[name].replace("honest", "slow"), targets=["slow"])
    with crew.start() as running:
        client = running.client()
        memory = rss_kib(running.proc.pid)
        for name in ("slow", "large-sends", "sends"):
            begin(client, name)
        time.sleep(3)
        slow = next(a for a in client.status().agents if a.name == "slow")
        assert slow.state == crewd.AgentState.WORKING, slow.last_cause
        assert grown_kib(running.proc.pid, memory) < 64 << 10
        for name in ("large-sends", "sends"):
            end(crew, client, name)
        client.stop()
    for name in ("large-sends", "sends"):  # what did not get through is not on record as sent
        sent, got = crew.records(name, "message.sent"), crew.records("slow", "message.received")
        assert sum(r["to"] == "slow" for r in sent) == sum(r["from"] == name for r in got)


# ---- the network that is none ----

STORMS = {
    "dials": """
begin()
held = []
import errno
while True:
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((f'10.{len(held) % 250}.1.1', 1 + len(held) % 60000))
    held.append(s)
    if len(held) > 200:
        for s in held: s.close()
        held = []
""",
    "names": """
begin()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
n = 0
while True:
    n += 1
    label = f'n{n}'.encode()
    s.sendto(struct.pack('>HHHHHH', n & 65535, 256, 1, 0, 0, 0) + bytes([len(label)]) + label + b'\\0\\0\\1\\0\\1', ('127.0.0.1', 53))
""",
    "garbage": """
begin()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for bad in (b'', b'\\0' * 11, os.urandom(512), b'\\0' * 4 + b'\\0\\1' + b'\\0' * 6 + b'\\xc0\\x0c\\0\\1\\0\\1', b'\\xff' * 65000):
        try:
            s.sendto(bad, ('127.0.0.1', 53))
        except OSError:
            pass
""",
}
QUIET = """
_, _, task = begin()
import json
out = []
for i in range(5):
    t = time.monotonic()
    try:
        with socket.create_connection(('192.0.2.7', 443), 10) as s:
            out.append(f'got {s.recv(1)}')
    except OSError as e:
        out.append(type(e).__name__)
    out.append(time.monotonic() - t)
result(task.task_id, result=json.dumps(out))
stay()
"""


def test_one_jails_dials_and_names_do_not_keep_anothers_waiting(runner):
    crew = HostileCrew(runner).agent(HONEST)
    for name, code in STORMS.items():
        crew.hostile(name, code)
    crew.hostile("quiet", QUIET)
    with crew.start() as running:
        client = running.client()
        walls_are_up(client)
        gateway = gateway_of(running)
        memory, open_files = rss_kib(gateway), fds(gateway)
        with Bystanders(running, HONEST) as others:
            for name in STORMS:
                begin(client, name)
            time.sleep(1)
            out = begin(client, "quiet").result(60)
            # A sanitized one keeps what it has freed for a while, to see who uses it.
            assert rss_kib(gateway) - memory < (64 << 10 if os.environ.get("CREWD_SANITIZED") else 16 << 10)
            # Those of the moment come and go; when it was counted, it may not have had everybody's listeners yet.
            eventually(lambda: fds(gateway) <= open_files + 1 + 4 * len(crew.agents))
            for name in STORMS:
                client.kill(name)
        others.check(status_s=2, task_s=10)
        assert set(out[::2]) <= {"ConnectionRefusedError", "ConnectionResetError"}, out
        assert sorted(out[1::2])[2] < 2, out  # once it may have waited for the machine
        eventually(lambda: sum(r.get("count", 1) for r in crew.records("quiet", "network.denied")) == 5)
        sizes = {name: audit_bytes(runner, name) >> 20 for name in STORMS}
        assert max(sizes.values()) <= 8, sizes
    assert runner.crewctl("audit", "verify").returncode == 0
