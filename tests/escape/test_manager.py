# SPDX-License-Identifier: Apache-2.0
"""A manager that somebody else has taken over: it wastes tasks, and that is all.

Each attempt is Python that runs as the manager's program, and the same text runs outside of any jail, where it succeeds.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
from crewlib import AGENT, Crew  # noqa: E402

ATTEMPTS = {
    "another agent's file": "open(TOP + '/private/secret').read()",
    "another agent's directory": "assert 'secret' in os.listdir(TOP + '/private')",
    "the crew file": "open(TOP + '/crew.yaml').read()",
    "another agent's policy": "open(TOP + '/worker.yaml').read()",
    "another agent's program": "open(TOP + '/worker.py').read()",
    "a tool, read": "open(TOP + '/tools/probe').read()",
    "a tool, run": "subprocess.run([TOP + '/tools/probe'], check=True, stdout=subprocess.DEVNULL)",
    "the host's users": "assert 'www-data' in open('/etc/passwd').read()",
    "the audit": "open(HOME + '/lib/t/audit/worker/log.jsonl').read()",
    "the control socket": "socket.socket(socket.AF_UNIX).connect(HOME + '/run/t/control.sock')",
    "a file beside its program": "open(TOP + '/private/planted', 'w').write('x')",
    "the network": "socket.create_connection(('127.0.0.1', PORT), 2)",
}
PROGRAM = """
import os, socket, subprocess, sys
HOME, PORT = {home!r}, {port}
TOP = os.path.dirname(os.path.abspath(sys.argv[0]))
def attempt(code):
    try:
        exec(code)
        return "won"
    except (OSError, AssertionError, subprocess.CalledProcessError) as e:
        return type(e).__name__
tried = {{name: attempt(code) for name, code in {attempts!r}.items()}}
"""


@pytest.fixture
def listener():
    import socket

    s = socket.create_server(("127.0.0.1", 0))
    yield s.getsockname()[1]
    s.close()


def managed(runner):
    crew = Crew(runner)
    crew.process = "hierarchical\nmanager: {agent: boss, tasks_at_once: 2, tasks_total: 4}"
    crew.agent("boss", targets=["worker"]).agent("worker", tools=["probe"]).agent("other")
    crew.tool("probe", "#!/bin/sh\necho '{}'\n")
    crew.files["private/secret"] = "secret"
    crew.files["worker.py"] = AGENT
    crew.agents["worker"]["command"] = ["python3", "${CREW_DIR}/worker.py"]
    crew.files["worker.yaml"] = crew.files["worker.yaml"].replace("read: []", 'read: ["${CREW_DIR}/private/"]')
    return crew


def result(crew):
    return json.loads((crew.runner.home / "lib/t/out/lead.json").read_text())


def test_it_reaches_nothing_of_others(runner, listener):
    program = PROGRAM.format(home=str(runner.home), port=listener, attempts=ATTEMPTS)
    crew = managed(runner).task("lead", "boss", program + "out(tried)")
    with crew.start() as running:
        assert running.client().run().tasks_ok == 1
        outside = crew.top / "outside.py"
        outside.write_text(program + "import json; print(json.dumps(tried))")
        free = json.loads(runner.run("/usr/bin/python3", str(outside), check=True).stdout)
    assert set(free.values()) == {"won"}, free
    assert "won" not in result(crew).values() and len(result(crew)) == len(ATTEMPTS), result(crew)


def test_by_its_orders_it_gets_what_the_worker_says_and_no_more(runner):
    """It may spend what the crew file grants, on whom its policy lists, and read their results: the walls stay the worker's."""
    crew = managed(runner).task("lead", "boss", """
def submit(agent, code):
    return call("submit", agent, stdin={"description": code})
ids = [submit("worker", "import os\\nout([open(os.path.dirname(sys.argv[0]) + '/private/secret').read(), "
              "os.path.exists(os.path.dirname(sys.argv[0]) + '/boss.yaml')])")[1]["task_id"] for _ in range(2)]
done = [call("wait", i)[1] for i in ids]
flood = [submit("worker", "out(0)")[0] for _ in range(40)]
out([done[0]["result"], flood.count(0), [submit(n, "out(0)")[0] for n in ("other", "boss", "../worker")],
     call("cancel", "t-1")[0], call("result", "t-1")[0], call("tool", "probe", stdin={})[0],
     call("send", "other", stdin=1)[0]])""")
    with crew.start() as running:
        running.client().run()
    assert result(crew) == [["secret", False], 2, [3, 3, 3], 4, 4, 3, 3]
    assert not crew.records("other", "task.started") and not crew.records("other", "message.received")
    assert len(crew.records("worker", "task.started")) <= 4
    refused = [r for r in crew.records("boss", "manager.order") if r["verdict"] == "denied"]
    assert sum(r.get("count", 1) for r in refused) == 38 + 3 + 2
    assert crew.records("boss", "tool.call")[0]["verdict"] == "denied"


def test_its_worker_may_not_be_another(runner):
    """What the orders are worth to the others: nothing, however often they are tried."""
    crew = managed(runner).task("lead", "boss", """
t = call("submit", "worker", stdin={"description": "out([call(v, *a, stdin={})[0] for _ in range(4) for v, *a in "
         "(('agents',), ('submit', 'other'), ('wait', 't-1'), ('cancel', 't-1'), ('reprioritise', 't-1'), ('result', 't-1'), "
         "('terminations',), ('seen', '1'), ('spawn', 'worker'), ('retire', 'worker#2'))])"})
out(call("wait", t[1]["task_id"])[1])""")
    with crew.start() as running:
        running.client().run()
    codes = result(crew)["result"]
    assert len(codes) == 40 and set(codes) <= {3, 4}, codes
    assert codes.count(3) >= 36  # reprioritise without a priority is refused before it is asked
    assert not crew.records("other", "task.started")
