# SPDX-License-Identifier: Apache-2.0
"""A jail whose pid 1 is the attacker: everything on its link is hostile, and crewd, the clients and the other agents do
not care.  Each script below is what one hostile worker does once everybody is up (see hostile/prelude.py)."""

import json
import os
import time

import pytest

import crewd
from crewlib import done_task, eventually
from hostilelib import Bystanders, HostileCrew, begin, fds, gone, peak_kib, rss_kib

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
            done = {name: t.wait(20) for name, t in tasks.items()}
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
        eventually(lambda: fds(running.proc.pid) <= before + 2 - len(VIOLATIONS), timeout=5)
        assert running.proc.poll() is None
    assert runner.crewctl("audit", "verify").returncode == 0
