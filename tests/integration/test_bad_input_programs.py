# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 3: tools and agents that break their contract, word for word, and what is left of them afterwards.

test_crew_tools.py and test_crew_tasks.py have the codes; here are the messages a person reads, the stdio-rpc driver, and
that a bad program leaves no process and takes nobody along."""

import json

import pytest

import crewd
from crewlib import Crew, agent_status, alive, eventually, outside, state_of

ANY = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def own_processes(client, agent):
    """What runs in the agent's jail, as the host sees it: pid 1 and everything below."""
    pid = agent_status(client, agent).pid
    return {pid, *outside(pid)}


# name: (the tool's script, the error's code, its message)
TOOLS = {
    "no-json": ("echo 'rows: 3'", -32003, "tool 't' failed: its output is not one JSON value: not a JSON value at byte 0"),
    "nothing": ("exit 0", -32003, "tool 't' failed: exited with status 0 but printed nothing; one JSON value is expected"),
    "two-values": ("echo '{\"n\":1} {\"n\":2}'", -32003,
                   "tool 't' failed: its output is not one JSON value: more than one JSON value at byte 8"),
    "too-much": ("exec cat /dev/zero", -32003, "tool 't' failed: wrote more than 4194304 bytes to stdout"),
    "wrong-schema": ("echo '{\"n\": \"many\"}'", -32004, "the result of 't' is not valid: /n: expected integer, got string"),
    "hangs": ("trap '' TERM; sleep 600 & wait; sleep 600", -32005, "tool 't' gave no result within 1.0 s"),
    "dies": ("kill -SEGV $$", -32003, "tool 't' failed: killed by signal 11 (SIGSEGV)"),
    "fails": ("echo '{\"n\": 1}'; exit 9", -32003, "tool 't' failed: exited with status 9"),
    "says-why": ("echo 'no such symbol: ACME' >&2; exit 1", -32003, "tool 't' failed: exited with status 1: no such symbol: ACME"),
}


@pytest.mark.parametrize("kind", TOOLS)
def test_a_bad_tool_is_explained_and_leaves_nothing(runner, kind):
    script, code, message = TOOLS[kind]
    crew = Crew(runner).agent("a", tools=["t"])
    crew.files["any.json"] = ANY
    crew.tool("t", "#!/bin/sh\n" + script + "\n", input="any.json", output="any.json", timeout="1s" if kind == "hangs" else "30s")
    with crew.start() as running:
        client = running.client()
        before = own_processes(client, "a")
        status, doc, stderr = client.submit(agent="a", description="""
r = subprocess.run(["crew-call", "tool", "t"], input='{"n": 1}', text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
out([r.returncode, json.loads(r.stdout), r.stderr])""").result(50)
        assert (status, doc["error"]["code"], doc["error"]["message"]) == (5, code, message)
        assert stderr == f"crew-call: {message}\n"
        eventually(lambda: own_processes(client, "a") == before)
        assert client.submit(agent="a", description="out(call('tools')[0])").result(20) == 0
    call, = crew.records("a", "tool.call")
    back, = crew.records("a", "tool.return")
    assert call["verdict"] == "allowed" and back["outcome"] == "failed" and back["call"] == call["call"]
    assert message in back["reason"]


RPC = r"""#!/usr/bin/python3
import json, sys, os, time, signal
def raw(b): sys.stdout.buffer.write(b); sys.stdout.flush()
def say(**m): raw(json.dumps({"jsonrpc": "2.0", **m}).encode() + b"\n")
def right(): say(id=m["id"], result=7)
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "task": exec(m["params"]["description"])
"""


def talkers(runner):
    crew = Crew(runner).agent("b")
    for name in ("r", "s"):
        crew.agent(name, command=["python3", "${CREW_DIR}/rpc.py"], driver="stdio-rpc")
    crew.files["rpc.py"] = RPC
    return crew


# What it does besides answering its task right with 7, and what its audit says of it.
TALKERS = {
    "answers-twice": ("right(); say(id=m['id'], result=8)", "an answer to id 1, which is not open"),
    "answers-twice-with-an-error": ("right(); say(id=m['id'], error={'code': 1, 'message': 'no'})",
                                    "an answer to id 1, which is not open"),
    "answers-for-another": ("say(id=m['id'] + 1000, result=8); right()", "an answer to id 1001, which is not open"),
    "answers-no-id": ("say(id='one', result=8); right()", "an answer to id \"one\", which is not open"),
    "garbage": ("print('garbage', flush=True); right()", "stdout: not JSON: not a JSON value at byte 0"),
    "not-utf8": ("raw(b'\\xff\\xfe\\n'); right()", "stdout: not JSON: not valid UTF-8 at byte 0"),
    "a-request-on-stdout": ("say(id=9, method='tools/call', params={}); right()", "a request on stdout: use $CREW_SOCKET"),
}


@pytest.mark.parametrize("kind", TALKERS)
def test_what_a_talker_says_wrong_is_recorded_and_not_delivered(runner, kind):
    code, says = TALKERS[kind]
    crew = talkers(runner)
    with crew.start() as running:
        client = running.client()
        client.subscribe(1)
        assert client.submit(agent="r", description=code).result(20) == 7
        hit = eventually(lambda: crew.records("r", "limit.hit"))
        assert [(h["limit"], h["reason"], h["src"]) for h in hit] == [("protocol", says, "worker")]
        # It goes on, and nothing of it reached the task of the other one, which has the same number over there.
        assert client.submit(agent="s", description="right()").result(20) == 7
        assert client.submit(agent="r", description="right()").result(20) == 7
    assert len(crew.records("r", "task.finished")) == 2
    assert not crew.records("s", "limit.hit") and not crew.records("b", "limit.hit")


def test_a_talker_that_never_answers_is_cancelled_then_stopped(runner):
    crew = talkers(runner)
    with crew.start() as running:
        client = running.client()
        tree = own_processes(client, "r")
        done = client.submit(agent="r", description="time.sleep(600)", timeout_ms=1000).wait(20)
        # Worker and crewd have the same patience: either may be the one who ends it.
        assert done.outcome == crewd.Outcome.TIMEOUT and done.error.startswith("no result within 1.0 s"), done
        assert client.submit(agent="s", description="right()").result(20) == 7
        eventually(lambda: not alive(tree))
        eventually(lambda: crew.records("r", "agent.terminated"))
    assert crew.records("r", "task.finished")[0]["cause"] == "timeout"
    # Said by the worker when it was the one, and it may have lived to say both.
    assert {h["reason"] for h in crew.records("r", "limit.hit")} <= {
        "agent: no answer after 1000 ms", "the agent did not answer 'cancel' in 2000 ms and is stopped"}


def test_a_talker_that_only_talks_garbage_is_stopped_and_its_task_fails(runner):
    crew = talkers(runner)
    with crew.start() as running:
        client = running.client()
        tree = own_processes(client, "r")
        done = client.submit(agent="r", description="for _ in range(100): print('garbage', flush=True)\ntime.sleep(600)").wait(20)
        assert done.outcome == crewd.Outcome.TERMINATED
        assert done.error == ("agent r terminated (limit: more than 16 lines on its standard output mean nothing, "
                              "the last: stdout: not JSON: not a JSON value at byte 0)")
        eventually(lambda: not alive(tree))
        assert state_of(client, "s") == crewd.AgentState.READY
    hits = crew.records("r", "limit.hit")
    assert {h["reason"] for h in hits} == {"stdout: not JSON: not a JSON value at byte 0"}
    assert 1 < sum(h.get("count", 1) for h in hits) < 40
    died, = crew.records("r", "agent.terminated")
    assert died["cause"] == "limit"


def test_a_line_without_end_is_bounded(runner):
    crew = talkers(runner)
    with crew.start() as running:
        client = running.client()
        done = client.submit(agent="r", description="while True: raw(b'x' * 65536)").wait(20)
        assert done.outcome == crewd.Outcome.TERMINATED
        assert done.error == "agent r terminated (limit: wrote a line of more than 4195328 bytes)"
        assert client.submit(agent="s", description="right()").result(20) == 7
    assert [h["reason"] for h in crew.records("r", "limit.hit")] == ["agent: over 4195328 bytes"]
