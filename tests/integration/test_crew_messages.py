# SPDX-License-Identifier: Apache-2.0
"""Messages between agents go through the router, or nowhere."""

import pytest

from crewlib import AGENT, Crew


def submit(client, agent, code):
    return client.submit(agent=agent, description=code)


def test_a_send_reaches_the_one_who_waits_for_it(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    with crew.start() as running:
        client = running.client()
        receive = submit(client, "b", "out(call('receive'))")
        assert submit(client, "a", "out(call('send', 'b', stdin={'hello': [1, 2]}))").result(60)[0] == 0
        code, message = receive.result(60)
        assert code == 0
        assert message["from"] == "a" and message["payload"] == {"hello": [1, 2]}
    sent, = crew.records("a", "message.sent")
    received, = crew.records("b", "message.received")
    assert (sent["to"], received["from"]) == ("b", "a")
    assert sent["sha256"] == received["sha256"]


def test_an_ask_starts_an_idle_agent_and_brings_its_answer(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    with crew.start() as running:
        code, answer = submit(running.client(), "a", "out(call('ask', 'b', stdin={'q': 7}))").result(60)
        assert (code, answer) == (0, {"asked": {"q": 7}})


@pytest.mark.parametrize("target,code", [("c", -32001), ("a", -32001), ("nosuch", -32001), ("b\n\"x", -32001)])
def test_an_unlisted_target_is_denied(runner, target, code):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b").agent("c")
    with crew.start() as running:
        client = running.client()
        status, doc = submit(client, "a", f"out(call('send', {target!r}, stdin=1))").result(60)
        assert status == 3 and doc["error"]["code"] == code, doc
        client.subscribe(1)
        denied = next(e for e in client.events(timeout=30) if e.kind == "denied" and "MESSAGE" in e.text)
        assert denied.text.startswith("a: MESSAGE: DENIED -> ")
    record, = crew.records("a", "message.sent")
    assert record["verdict"] == "denied"
    assert not crew.records("c", "message.received")


def test_an_ask_that_nobody_answers_times_out(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    crew.files["agent.py"] = AGENT.replace("out({'asked': payload})", "time.sleep(600)")
    with crew.start() as running:
        code, doc = submit(running.client(), "a", """
r = subprocess.run(["crew-call", "ask", "--timeout", "1s", "b"], input="1", text=True, stdout=subprocess.PIPE)
out([r.returncode, json.loads(r.stdout or "null")])""").result(60)
        assert code != 0


def test_a_flood_of_messages_is_bounded_and_harms_nobody(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b").agent("c")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 300s")
    with crew.start() as running:
        client = running.client()
        flood = submit(client, "a", """
import socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CREW_SOCKET"])
f = s.makefile("rw")
full = 0
for n in range(3000):
    f.write(json.dumps({"jsonrpc": "2.0", "id": n, "method": "crew/send", "params": {"target": "b", "payload": "x" * 2000}}) + "\\n")
    f.flush()
    full += "error" in json.loads(f.readline())
out(full)""")
        assert submit(client, "c", "out(1)").result(60) == 1
        assert isinstance(flood.result(300), int)
        assert submit(client, "b", "out(2)").result(60) == 2
    assert runner.crewctl("audit", "verify").returncode == 0


NOTES = """
import socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CREW_SOCKET"])
f = s.makefile("rw")
def note(params, **more):
    f.write(json.dumps({"jsonrpc": "2.0", "method": "crew/send", "params": params, **more}) + "\\n")
"""


def test_a_message_without_an_id_is_delivered_and_never_answered(runner):
    crew = Crew(runner).agent("a", targets=["b", "c"]).agent("b").agent("c").agent("d")
    crew.files["b.yaml"] = crew.files["b.yaml"].replace("wall_time: 60s", "wall_time: 300s")  # 200 programs, one by one
    with crew.start() as running:
        client = running.client()
        receive = submit(client, "b", "out([call('receive')[1]['payload'] for i in range(200)])")
        runner.crewctl("kill", "--agent", "c")
        answers = submit(client, "a", NOTES + """
for n in range(200):
    note({"target": "b", "payload": n})
    if n == 100:
        note({"target": "c", "payload": 1})   # not running
        note({"target": "d", "payload": 1})   # not listed
        note({"target": "b"})                 # no payload
        note({"payload": 1})                  # no target
        note({"target": "b", "payload": 1, "x": 1}["target"])  # params are no object
        f.flush()
f.write(json.dumps({"jsonrpc": "2.0", "id": "last", "method": "ping"}) + "\\n")
f.flush()
lines = [json.loads(f.readline())]
while lines[-1].get("id") != "last":
    lines.append(json.loads(f.readline()))
out(lines)""").result(60)
        assert receive.result(300) == list(range(200))
        # A line that is no JSON-RPC at all is answered with the id null, as JSON-RPC asks for.
        assert [a for a in answers if a.get("id") != "last"] == [a for a in answers if a.get("id", 0) is None]
        assert len(answers) <= 2, answers
    sent = crew.records("a", "message.sent")
    assert sum("verdict" not in r for r in sent) == 200
    lost, = [r for r in sent if r.get("verdict") == "lost"]
    assert (lost["to"], lost["reason"]) == ("c", "agent 'c' is not running")
    denied, = [r for r in sent if r.get("verdict") == "denied"]
    assert denied["to"] == "d"
    seen = [r for r in crew.records("a", "limit.hit") if "crew/send" in str(r)]
    assert any("params.payload is missing" in str(r) for r in seen) and any("params.target must be" in str(r) for r in seen), seen
    assert "MESSAGE: LOST -> c (agent 'c' is not running)" in runner.crewctl("logs", "--agent", "a", "--filter", "message").stdout
    assert len(crew.records("b", "message.received")) == 200 and not crew.records("c", "message.received")


def test_the_file_a_jail_never_sees(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        code = f"out([os.path.exists(p) for p in ({str(crew.run_dir)!r}, {str(runner.home / 'lib')!r}, '/run/crewd')])"
        assert submit(running.client(), "a", code).result(60) == [False, False, False]
