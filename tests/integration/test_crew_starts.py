# SPDX-License-Identifier: Apache-2.0
"""A crew's starts go a few at a time, in the order of its file; what waits for its start can be killed."""

import contextlib
import os
import signal
import time
from pathlib import Path

import crewd
from crewlib import Crew, eventually, state_of
from hostilelib import HostileCrew, begin

AGENTS = 80
PLACES_MAX = 64  # whatever the number of CPUs; 4 with one or two


def places():
    return min(max(4, 2 * len(os.sched_getaffinity(0))), PLACES_MAX)


def children(pid):
    found = []
    for t in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            found += map(int, (t / "children").read_text().split())
    return found


def spawner_of(pid):
    for p in children(pid):
        with contextlib.suppress(OSError):
            if "--spawner" in Path(f"/proc/{p}/cmdline").read_text():
                return p
    return None


def client_of(running):
    try:
        return running.client()
    except (OSError, crewd.ConnectError):
        return None


@contextlib.contextmanager
def stopped_spawner(crew):
    """A crew that is starting, but its spawner does not get on."""
    running = crew.start(wait=False)
    spawner = eventually(lambda: spawner_of(running.proc.pid), every=0.001)
    os.kill(spawner, signal.SIGSTOP)
    try:
        client = eventually(lambda: client_of(running))
        eventually(lambda: any(a.state == crewd.AgentState.SPAWNING for a in client.status().agents))
        yield running, spawner, client
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(spawner, signal.SIGCONT)
        running.stop()


def test_starts_go_a_few_at_a_time_and_in_order(runner):
    crew = Crew(runner)
    names = [f"a{i:02}" for i in range(AGENTS)]
    for name in names:
        crew.agent(name)
    with stopped_spawner(crew) as (running, spawner, client):
        time.sleep(0.5)  # what is to be seen is that no more come
        states = [state_of(client, name) for name in names]
        spawning = states.count(crewd.AgentState.SPAWNING)
        assert 0 < spawning <= places(), states
        first = states.index(crewd.AgentState.DECLARED)
        assert set(states[first:]) == {crewd.AgentState.DECLARED}, states
        # Their time has not begun: nothing is on record of them.
        assert not any(crew.records(name, "agent.policy") for name in names[first:])
        os.kill(spawner, signal.SIGCONT)
        eventually(lambda: all(a.state == crewd.AgentState.READY for a in client.status().agents), timeout=120, every=0.2)
        begun = [crew.records(name, "agent.policy")[0]["t"] for name in names]
        assert begun == sorted(begun)


def test_an_agent_that_waits_for_its_start_can_be_killed(runner):
    crew = Crew(runner)
    for i in range(AGENTS):
        crew.agent(f"a{i:02}")
    last = f"a{AGENTS - 1:02}"
    with stopped_spawner(crew) as (running, spawner, client):
        assert state_of(client, last) == crewd.AgentState.DECLARED
        done = runner.crewctl("kill", "--agent", last, "--reason", "not needed")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Agent {last} was waiting to be started; it will not be now.\n")
        os.kill(spawner, signal.SIGCONT)
        # A crew that does not get all its agents does not run.
        running.proc.wait(60)
    killed = crew.records(last, "agent.kill")
    assert len(killed) == 1 and killed[0]["reason"] == "not needed"
    assert not crew.records(last, "agent.policy")
    assert f"agent {last} did not start: killed before its start, by " in running.log()


def test_who_is_slow_to_get_ready_keeps_nobody_waiting(runner):
    """More of them than there are places are between sealed and ready at the same time."""
    crew = HostileCrew(runner)
    mute = [f"m{i:02}" for i in range(2 * places() + 1)]
    for name in mute:  # comes back after its first death, and says nothing
        crew.hostile(name, "if INCARNATION == 1:\n    begin()\n    os._exit(0)\nstay()\n", restart={"max": 1, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        for name in mute:
            begin(client, name)
        eventually(lambda: all(a.incarnation == 2 and a.state == crewd.AgentState.SPAWNING for a in client.status().agents), timeout=18)
