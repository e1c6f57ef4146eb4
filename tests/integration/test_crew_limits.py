# SPDX-License-Identifier: Apache-2.0
"""Each limit really reached: it holds, it is on record with its bound, status shows use against it, and where it ends the
agent the cause is `limit` (or `out of memory`) with its name.  As root with the host's control groups, rootless without."""

import json
import os
import re

import crewd
import pytest
from crewlib import UNTIL_GO, Crew, agent_status, eventually, go, state_of
from egresslib import Tcp, echo
from test_crew_causes import ended, rpc_crew

MIB = 1 << 20


def limits_of(client, agent):
    return {u.limit: u for u in agent_status(client, agent).limits}


def hits(crew, agent, limit):
    return [r for r in crew.records(agent, "limit.hit") if r["limit"] == limit]


def total(records):
    return sum(r.get("count", 1) for r in records)


def enforcers(crew, agent):
    names = eventually(lambda: crew.records(agent, "agent.spawned"))[0]["limits_by"]
    if os.environ.get("CREWD_TEST_DELEGATED") and crew.runner.rootless:
        assert all(f"cgroup-{kind}" in names for kind in ("memory", "pids", "cpu"))
    return names


def test_processes(runner):
    code = ("import threading\nkids = []\ntry:\n"
            "    while len(kids) < 64: kids.append(subprocess.Popen(['sleep', '600']))\nexcept OSError as e: pass\n"
            + UNTIL_GO + "[k.kill() for k in kids]\nout(len(kids))")
    crew = Crew(runner).agent("a").agent("b")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("processes: 128", "processes: 8")
    with crew.start() as running:
        client = running.client()
        grouped = "cgroup-pids" in enforcers(crew, "a")
        task = client.submit(agent="a", description=code)
        record = eventually(lambda: hits(crew, "a", "processes"))[0]
        row = limits_of(client, "a")["processes"]
        go(crew, "a")
        assert task.result(60) == 7  # and the program itself
        assert client.submit(agent="b", description="out(1)").result(60) == 1
        assert limits_of(client, "a")["processes"].hits >= 1 and limits_of(client, "b")["processes"].hits == 0
    assert (record["max"], record["value"], record["src"]) == (8, 8, "crewd")
    assert (row.known, row.use, row.max, row.by) == (True, 8, 8, "cgroup" if grouped else "rlimit")


def test_open_files(runner):
    code = ("files = []\ntry:\n    while True: files.append(open('/dev/null'))\nexcept OSError as e: pass\n"
            + UNTIL_GO + "out(len(files))")
    crew = Crew(runner).agent("b", limits="open_files: 40").agent("a", limits="open_files: 40")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=code)
        record = eventually(lambda: hits(crew, "a", "open_files"))[0]
        row = limits_of(client, "a")["open_files"]
        go(crew, "a")
        assert task.result(60) < 40
        assert client.submit(agent="b", description="time.sleep(2.5)\nout(1)").result(60) == 1
        assert not hits(crew, "b", "open_files")
    assert (record["value"], record["max"]) == (40, 40) and (row.use, row.max, row.by) == (40, 40, "rlimit")


def test_tmp(runner):
    code = ("n = 0\ntry:\n    with open('/tmp/f', 'wb', 0) as f:\n        while True: n += f.write(b'x' * 65536)\n"
            "except OSError as e: pass\n" + UNTIL_GO + "out(n)")
    crew = Crew(runner).agent("a", limits="tmp: 2MiB, output: 64MiB").agent("b", limits="tmp: 2MiB")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=code)
        record = eventually(lambda: hits(crew, "a", "tmp"))[0]
        row = limits_of(client, "a")["tmp"]
        go(crew, "a")
        assert MIB < task.result(60) <= 2 * MIB + (1 << 18)
        assert client.submit(agent="b", description="open('/tmp/f', 'wb').write(b'x' * (1 << 20))\ntime.sleep(2)\nout(1)"
                             ).result(60) == 1
        eventually(lambda: limits_of(client, "b")["tmp"].use >= MIB)
        assert MIB <= limits_of(client, "b")["tmp"].use < 2 * MIB and not hits(crew, "b", "tmp")
    assert record["max"] == 2 * MIB and record["value"] >= 2 * MIB
    assert row.max == 2 * MIB and row.use >= 2 * MIB and row.by == "tmpfs"


def test_output(runner):
    """A file beyond it ends the program, a result beyond it fails the task; both are told by the worker."""
    crew = rpc_crew(runner, "a").agent("b", limits="output: 8KiB")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 60s, output: 8KiB")
    big = ("signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
           "with open('/tmp/f', 'wb', 0) as f: f.write(b'x' * 8192); f.write(b'x' * 8192)")
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="b", description=big).wait(60).outcome == crewd.Outcome.FAILED
        eventually(lambda: hits(crew, "b", "output"))
        assert total(hits(crew, "b", "output")) == 1 and limits_of(client, "b")["output"].hits == 1
        assert client.submit(agent="b", description="out(2)").result(60) == 2
        with pytest.raises(crewd.AgentTerminated) as e:
            client.submit(agent="a", description=big).result(60)
        assert (e.value.cause, e.value.record.limit) == (crewd.Cause.LIMIT, "output")
        end = ended(crew, "a")
    assert (end["cause"], end["limit"]) == ("limit", "output") and total(hits(crew, "a", "output")) == 1


def test_memory(runner):
    """A control group kills; without one crewd does, the largest of those that hold too much together."""
    hold = "x = bytearray(150 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
    many = f"kids = [subprocess.Popen([sys.executable, '-c', {hold + 'import time; time.sleep(600)'!r}]) for i in range(3)]\ntime.sleep(600)"
    few = f"{hold}time.sleep(2.5)\nout(len(x))"
    crew = rpc_crew(runner, "a").agent("b").agent("c")
    with crew.start() as running:
        client = running.client()
        by = "cgroup" if "cgroup-memory" in enforcers(crew, "a") else "crewd and rlimit"
        tasks = [client.submit(agent="b", description=many), client.submit(agent="c", description=few)]
        record = eventually(lambda: hits(crew, "b", "memory"), timeout=20)[0]
        row = limits_of(client, "c")["memory"]
        assert tasks[1].result(60) == 150 << 20 and not hits(crew, "c", "memory")
        assert record["max"] == 256 * MIB == row.max and row.by == by
        # One of them was killed, not the agent: a driver of one process a task outlives its program.
        assert state_of(client, "b") == crewd.AgentState.WORKING and limits_of(client, "b")["memory"].hits >= 1
        with pytest.raises(crewd.AgentTerminated) as e:
            client.submit(agent="a", description="x = bytearray(300 << 20); time.sleep(10)").result(60)
        assert (e.value.cause, e.value.record.limit) == (crewd.Cause.OOM, "memory")
        eventually(lambda: hits(crew, "a", "memory"))
    assert total(hits(crew, "a", "memory")) == 1


def test_shared_memory_counts_once(runner):
    """What forks share is not held twice: twelve processes with the same 60 MiB stay below 256."""
    code = ("x = bytearray(60 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nkids = []\n"
            "for i in range(12):\n    p = os.fork()\n    if p == 0:\n        time.sleep(600)\n    kids.append(p)\n"
            "time.sleep(3.5)\n[os.kill(k, 9) for k in kids]\nout(1)")
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="a", description=code).result(60) == 1
        assert not hits(crew, "a", "memory") and limits_of(client, "a")["memory"].hits == 0


def test_cpu(runner):
    """Held back by a control group, and counted; without one by crewd, and counted."""
    # Less than what a busy machine gives it.
    code = ("t, c = time.monotonic(), time.process_time()\nwhile time.monotonic() - t < 4: pass\nout(time.process_time() - c)")
    crew = Crew(runner).agent("a", limits="cpu: 0.05").agent("b", limits="cpu: 4")
    with crew.start() as running:
        client = running.client()
        grouped = "cgroup-cpu" in enforcers(crew, "a")
        task = client.submit(agent="a", description=code)
        record = eventually(lambda: hits(crew, "a", "cpu"))[0]
        used = task.result(60)
        row = limits_of(client, "a")["cpu"]
        assert client.submit(agent="b", description="out(1)").result(60) == 1 and not hits(crew, "b", "cpu")
    assert record["max"] == 50 and (row.max, row.by) == (50, "cgroup" if grouped else "crewd") and row.hits >= 1
    assert used < 4 * 0.05 * 1.5 + 0.9


def test_wall_time(runner):
    crew = rpc_crew(runner, "a").agent("b")
    for name in "ab":
        crew.files[f"{name}.yaml"] = crew.files[f"{name}.yaml"].replace("wall_time: 60s", "wall_time: 3s")
    with crew.start() as running:
        client = running.client()
        row = None
        task = client.submit(agent="b", description="time.sleep(600)")
        row = eventually(lambda: next((u for u in agent_status(client, "b").limits if u.limit == "wall_time" and u.use), None))
        assert task.wait(60).outcome == crewd.Outcome.TIMEOUT
        assert eventually(lambda: hits(crew, "b", "wall_time"))[0]["max"] == 3000 and row.max == 3000
        # One that has less time of its own does not come to the limit.
        assert client.submit(agent="b", description="time.sleep(600)", timeout_ms=300).wait(60).outcome == crewd.Outcome.TIMEOUT
        assert limits_of(client, "b")["wall_time"].hits == 1
        deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        assert client.submit(agent="a", description=deaf).wait(60).outcome == crewd.Outcome.TIMEOUT
        end = ended(crew, "a")
    assert (end["cause"], end.get("limit")) == ("deadline", "wall_time"), end


DIAL = """import socket
open_ones, refused = [], 0
for i in range(8):
    try:
        s = socket.create_connection(('one.limits.test', 80), timeout=60)
        s.sendall(b'x')
        assert s.recv(1) == b'x'
        open_ones.append(s)
    except OSError:
        refused += 1
""" + UNTIL_GO + """[s.close() for s in open_ones]
out([len(open_ones), refused])
"""


def test_connections(runner):
    with Tcp(echo) as server:
        crew = Crew(runner).agent("a", limits="connections: 3")
        crew.files["a.yaml"] = crew.files["a.yaml"].replace("{deny_all: true}", '{allowed_endpoints: ["one.limits.test:80"]}')
        crew.extra = f'endpoints:\n  "one.limits.test:80": {{connect_to: "{server.address}"}}\n'
        with crew.start() as running:
            client = running.client()
            task = client.submit(agent="a", description=DIAL)
            eventually(lambda: limits_of(client, "a")["connections"].hits == 5)
            row = limits_of(client, "a")["connections"]
            assert (row.use, row.max, row.by) == (3, 3, "gateway")
            go(crew, "a")
            assert task.result(60) == [3, 5]
            eventually(lambda: limits_of(client, "a")["connections"].use == 0)
            assert state_of(client, "a") == crewd.AgentState.READY
        rows = hits(crew, "a", "connections")
        assert total(rows) == 5 and rows[0]["max"] == 3 and rows[0]["reason"] == "refused"


# Straight to the socket, and many at once: a program that waits for each answer may never be that fast.
SEND = """import socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ['CREW_SOCKET']); f = s.makefile('rwb')
def send(target, n=1):
    say = lambda i: json.dumps({'jsonrpc': '2.0', 'id': i, 'method': 'crew/send', 'params': {'target': target, 'payload': 1}})
    f.write(b''.join(say(i).encode() + b'\\n' for i in range(n)))
    f.flush()
    return [json.loads(f.readline()) for i in range(n)]
"""


def test_messages(runner):
    """More than so many a second are refused; who goes on regardless is ended, who slows down is not."""
    crew = Crew(runner).agent("a", targets=["c"], limits="messages: 20").agent("b", targets=["c"], limits="messages: 20")
    # It takes what it gets, so that no queue of its own is full.
    crew.agent("c", driver="stdio-rpc", command=["python3", "${CREW_DIR}/sink.py"])
    crew.files["sink.py"] = "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin: pass\n"
    polite = SEND + ("got = []\nfor n in (40, 1, 40, 1):\n    got += [r.get('error', {}).get('code', 0) for r in send('c', n)]\n"
                     "    time.sleep(2)\nout([got.count(0), got.count(-32006), got[40], got[81]])")
    with crew.start() as running:
        client = running.client()
        sent, refused, *slower = client.submit(agent="b", description=polite).result(60)
        assert sent >= 42 and refused >= 1 and sent + refused == 82 and slower == [0, 0]
        row = limits_of(client, "b")["messages"]
        assert (row.max, row.hits, row.by) == (20, refused, "crewd")
        with pytest.raises(crewd.AgentTerminated) as e:
            client.submit(agent="a", description=SEND + "while True: send('c', 40)").result(60)
        assert (e.value.cause, e.value.record.limit) == (crewd.Cause.LIMIT, "messages")
        assert "limits.messages (20 a second)" in e.value.record.reason
        assert state_of(client, "c") == crewd.AgentState.READY and state_of(client, "b") == crewd.AgentState.READY
        end = ended(crew, "a")
        rows = hits(crew, "a", "messages")
    assert (end["cause"], end["limit"]) == ("limit", "messages")
    # Four seconds' worth was refused before that, and all of it is counted; the last record is of the end.
    assert total(rows) >= 80 and all(r["max"] == 20 for r in rows)
    assert total(hits(crew, "b", "messages")) == refused and total(crew.records("b", "message.sent")) == sent


def test_state(runner):
    crew = Crew(runner).agent("a", state_max="1MiB", limits="output: 64MiB").agent("b")
    fill = "f = open(os.environ['CREW_STATE'] + '/big', 'wb')\nf.write(b'x' * (4 << 20)); f.flush()\ntime.sleep(600)"
    with crew.start() as running:
        client = running.client()
        with pytest.raises(crewd.AgentTerminated) as e:
            client.submit(agent="a", description=fill).result(60)
        assert (e.value.cause, e.value.record.limit) == (crewd.Cause.LIMIT, "state")
        assert client.submit(agent="b", description="open(os.environ['CREW_STATE'] + '/f', 'wb').write(b'x' * 100000)\nout(1)"
                             ).result(60) == 1
        # It is looked at when the task ends, not only now and then.
        eventually(lambda: limits_of(client, "b")["state"].use >= 100000, timeout=8)
    row = hits(crew, "a", "state")[0]
    assert row["max"] == MIB and row["value"] > MIB  # it may not have been all written yet


def test_status_shows_use_against_limit(runner):
    crew = Crew(runner).agent("a", limits="cpu: 0.5").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="time.sleep(600)")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        eventually(lambda: limits_of(client, "a")["memory"].use)  # it has been looked at
        text = runner.crewctl("status", "--agent", "a", check=True).stdout
        table = {line.split()[0]: line for line in text.splitlines() if line}
        assert "b" not in table and re.search(r"/ 256 MiB", table["a"])
        assert re.fullmatch(r"memory +[\d.]+ [KM]iB +256 MiB +0 +(cgroup|crewd and rlimit)", table["memory"].strip())
        assert re.fullmatch(r"cpu +\d\.\d\d +0\.50 +\d+ +(cgroup|crewd)", table["cpu"].strip())
        assert re.fullmatch(r"messages +0/s +1000/s +0 +crewd", table["messages"].strip())
        assert re.fullmatch(r"output +- +16 MiB +0 +rlimit", table["output"].strip())
        shown = json.loads(runner.crewctl("status", "--json", check=True).stdout)
        rows = {u["limit"]: u for a in shown["agents"] if a["name"] == "a" for u in a["limits"]}
        assert list(rows) == ["memory", "processes", "cpu", "open_files", "tmp", "output", "wall_time", "connections",
                              "half_open", "dns", "messages", "state"]
        assert rows["memory"]["max"] == 256 * MIB and 0 < rows["memory"]["use"] < 256 * MIB
        assert rows["wall_time"]["max"] == 60000 and rows["connections"] == {
            "limit": "connections", "use": 0, "max": 128, "hits": 0, "by": "gateway"}
        assert "use" not in rows["output"] and all(r["hits"] == 0 for r in rows.values() if r["limit"] != "cpu")  # to start may cost more than that on a slow host
        r = runner.crewctl("status", "--agent", "x")
        assert r.returncode == 3 and "agents: a, b" in r.stderr
