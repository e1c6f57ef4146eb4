# SPDX-License-Identifier: Apache-2.0
"""`health:` of an agent: the check runs in its jail, is shown, holds tasks back until it passes, and kills when it fails."""

import json
import time

import pytest

from crewlib import Crew, Running, agent_status, eventually, state_of
from hostilelib import HostileCrew

# Passes while the file in the agent's own directory is there.
CHECK = """#!/bin/sh
test -e "$1/well" && exit 0
echo "looked at $1"
echo "no well" >&2
exit 7
"""

RPC = """#!/usr/bin/python3
import json, os, sys, time
well = sys.argv[1] + "/well"
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "shutdown":
        break
    if "id" not in m:
        continue
    if m["method"] == "ping":
        while not os.path.exists(well):
            time.sleep(0.05)
        reply = {"error": {"code": -32601, "message": "no such method"}}
    else:
        reply = {"result": {"ok": True}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **reply}), flush=True)
"""


class Checked(Crew):
    """One agent `a` whose directory state/ decides whether it is well."""

    def __init__(self, runner, heartbeat=False, restart=None, **health):
        super().__init__(runner)
        keys = {"restart": restart} if restart else {}
        if heartbeat:
            keys |= {"command": ["python3", "${CREW_DIR}/rpc.py", "${CREW_DIR}/state"], "driver": "stdio-rpc"}
            what = {"heartbeat": True}
        else:
            what = {"command": ["sh", "${CREW_DIR}/check.sh", "${CREW_DIR}/state"]}
        self.agent("a", health={**what, "every": "200ms", "timeout": "20s", "failures": 2, **health}, **keys)
        self.files["a.yaml"] = self.files["a.yaml"].replace("write: []", 'write: ["${CREW_DIR}/state/"]')
        self.files |= {"check.sh": CHECK, "rpc.py": RPC, "state/well": ""}
        self.task("t", "a")

    def well(self, yes):
        path = self.top / "state" / "well"
        path.write_text("") if yes else path.unlink()


def health(client):
    return agent_status(client, "a").health


@pytest.mark.parametrize("heartbeat", [False, True])
def test_a_well_agent_passes_and_works(runner, heartbeat):
    crew = Checked(runner, heartbeat)
    crew.write()
    r = runner.crewctl("run", "--json", crew.top / "crew.yaml")
    assert r.returncode == 0, r.stdout + r.stderr
    assert [r["verdict"] for r in crew.records("a", "agent.health")] == ["passed"]
    if not heartbeat:
        return
    with Running(crew) as running:
        assert health(running.client()) == "passing"


@pytest.mark.parametrize("heartbeat", [False, True])
def test_an_agent_that_fails_is_killed_with_a_cause_of_its_own(runner, heartbeat):
    crew = Checked(runner, heartbeat, **({"timeout": "2s"} if heartbeat else {}))
    with crew.start() as running:
        client = running.client()
        assert health(client) == "passing"
        crew.well(False)
        eventually(lambda: state_of(client, "a") == type(state_of(client, "a")).TERMINATED)
        [end] = crew.records("a", "agent.terminated")
        why = "no answer within 2000 ms" if heartbeat else "exit status 7: no well"
        assert end["cause"] == "unhealthy"
        assert end["reason"] == f"failed its health check 2 times in a row: {why}"
        failed = [r for r in crew.records("a", "agent.health") if r["verdict"] == "failed"]
        assert failed[0]["reason"] == why and failed[0]["failures"] == 1
        status = json.loads(runner.crewctl("status", "--json").stdout)["agents"][0]
        assert status["last_cause"] == "unhealthy"


def test_one_failure_is_shown_and_forgiven(runner):
    crew = Checked(runner, failures=50)
    with crew.start() as running:
        client = running.client()
        crew.well(False)
        eventually(lambda: health(client).startswith("failing "))
        r = runner.crewctl("status")
        assert "HEALTH" in r.stdout and "of 50: exit status 7: no well" in r.stdout, r.stdout
        crew.well(True)
        eventually(lambda: health(client) == "passing")
        eventually(lambda: crew.records("a", "agent.health")[-1]["verdict"] == "passed")
        assert not crew.records("a", "agent.terminated")


def test_a_restart_follows_as_for_any_death(runner):
    crew = Checked(runner, restart={"max": 5, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        crew.well(False)
        eventually(lambda: crew.records("a", "agent.terminated"))
        crew.well(True)
        eventually(lambda: agent_status(client, "a").incarnation == 2 and health(client) == "passing", timeout=20)


@pytest.mark.parametrize("heartbeat", [False, True])
def test_no_task_is_given_before_the_first_pass(runner, heartbeat):
    crew = Checked(runner, heartbeat, every="10s", failures=1)
    crew.write()
    crew.well(False)
    running = Running(crew, wait=False)
    with running:
        eventually(lambda: (crew.run_dir / "control.sock").exists())
        client = running.client_soon()
        eventually(lambda: crew.records("a", "agent.ready"))
        time.sleep(1.5)  # longer than a check takes: they go on at once a second until one passes
        assert health(client).startswith("starting")
        crew.well(True)
        eventually(lambda: health(client) == "passing")


def test_a_check_that_hangs_is_killed_and_counts(runner):
    crew = Checked(runner, timeout="200ms")
    crew.files["check.sh"] = '#!/bin/sh\ntest -e "$1/well" && exit 0\nsleep 1000\n'
    with crew.start():
        crew.well(False)
        eventually(lambda: crew.records("a", "agent.terminated"))
        [end] = crew.records("a", "agent.terminated")
        assert end["cause"] == "unhealthy" and "no answer within 200 ms" in end["reason"]


def test_a_worker_that_never_says_how_a_check_ended_is_not_asked_again(runner):
    crew = HostileCrew(runner).hostile("a", """come_up()
n = 0
while True:
    envelope, body, message = hear()
    if body == "exec_start":
        n += 1
        say("stderr_text", source="agent", text=b"check %d" % n)
        if n == 1:
            say("exec_exit", envelope.seq)
""", health={"command": ["true"], "every": "100ms", "timeout": "200ms", "failures": 4})
    with crew.start():
        [end] = eventually(lambda: crew.records("a", "agent.terminated"), timeout=20)
        assert end["cause"] == "unhealthy" and end["reason"].endswith("4 times in a row: the check before has not ended")
        assert [r["text"] for r in crew.records("a", "agent.stderr")] == ["check 1", "check 2"]


def test_the_check_is_inside_the_jail(runner):
    crew = Checked(runner)
    crew.files["check.sh"] = '#!/bin/sh\nid -u > "$1/uid"\nls /etc/shadow /root >/dev/null 2>&1; cat /etc/shadow && exit 1\nexit 0\n'
    with crew.start() as running:
        assert health(running.client()) == "passing"
        eventually(lambda: (crew.top / "state" / "uid").read_text() == "1000\n")  # a check may just be writing it
