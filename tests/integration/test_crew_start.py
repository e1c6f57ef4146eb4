# SPDX-License-Identifier: Apache-2.0
"""crewctl start: an agent that has ended, however, gets its next instance; everybody who asked gets one answer."""

import contextlib
import json
import threading

import pytest

import crewd
from crewlib import Crew, agent_status, eventually, state_of
from holdlib import held_crew, lose
from test_crew_health import Checked

READY, FAILED, TERMINATED = crewd.AgentState.READY, crewd.AgentState.FAILED, crewd.AgentState.TERMINATED


def in_thread(call):
    """A function that waits for what the call gives, or how it fails."""
    got = []

    def run():
        try:
            got.append(call())
        except crewd.CrewdError as e:
            got.append(e)

    t = threading.Thread(target=run)
    t.start()
    return lambda: (t.join(60), got[0])[1]


def answer_of(client, agent):
    return in_thread(lambda: client.start_agent(agent, timeout=60))


def test_a_stopped_agent_is_started_and_works(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        assert runner.crewctl("stop", "--agent", "a").returncode == 0
        with pytest.raises(crewd.TaskFailed):
            client.submit(agent="a", description="out(1)").result(60)
        r = runner.crewctl("start", "--agent", "a", "--reason", "back again")
        assert (r.returncode, r.stdout, r.stderr) == (0, "Agent a started (incarnation 2).\n", "")
        assert state_of(client, "a") == READY and agent_status(client, "b").incarnation == 1
        assert client.submit(agent="a", description="out(2)").result(60) == 2
    start, = crew.records("a", "agent.start")
    assert start["reason"] == "back again" and start["initiator"].startswith("uid ") and start["inc"] == 1
    spawned = crew.records("a", "agent.spawned")[1]
    assert spawned["inc"] == 2 and start["seq"] < spawned["seq"]
    assert not crew.records("b", "agent.start")
    assert "AGENT: START -> back again (by uid " in runner.crewctl("logs", "--agent", "a").stdout
    assert runner.crewctl("audit", "verify").returncode == 0


def test_what_runs_or_is_not_there_is_refused(runner):
    crew = Crew(runner).agent("alpha").agent("beta")
    with crew.start() as running:
        client = running.client()
        r = runner.crewctl("start", "--agent", "alpha")
        assert r.returncode == 1 and "agent alpha is running already" in r.stderr
        r = runner.crewctl("start", "--agent", "alphq", "--json")
        problem = json.loads(r.stdout or r.stderr)["error"]
        assert r.returncode == 3 and problem["code"] == "unknown-agent"
        assert "agents: alpha, beta" in json.dumps(problem) and "did you mean alpha?" in json.dumps(problem)
        client.freeze("alpha")
        r = runner.crewctl("start", "--agent", "alpha")
        assert r.returncode == 1 and "is frozen; crewctl thaw" in r.stderr
        client.kill("alpha")
        # The crew is on its way down: beta minds no signal and has a while.
        client.submit(agent="beta", description="signal.signal(15, lambda *_: None)\n"
                                                "open(os.environ['CREW_STATE'] + '/up', 'w').close()\nwhile True: time.sleep(1)")
        eventually(lambda: (runner.home / "lib/t/state/beta/up").exists())
        stopped = in_thread(lambda: running.client().stop(grace_ms=60000))
        eventually(lambda: client.status().state == "stopping")
        with pytest.raises(crewd.Refused) as e:
            client.start_agent("alpha", timeout=20)
        assert e.value.code == "stopping"
        with contextlib.suppress(crewd.CrewdError):  # crewd may be gone before it has answered
            client.kill("beta")
        stopped()
    assert not crew.records("alpha", "agent.start")
    for words in ([], ["--agent", "a", "--all"], ["--agent", ""], ["a"]):
        assert runner.crewctl("start", *words).returncode == 2


def test_one_whose_restarts_are_used_up_has_them_again(runner):
    crew = Crew(runner).agent("a", restart={"max": 1, "within": "600s"})
    with crew.start() as running:
        client = running.client()

        def use_up():
            client.kill("a")
            eventually(lambda: state_of(client, "a") == READY)
            client.kill("a")
            eventually(lambda: state_of(client, "a") == FAILED)

        use_up()
        r = runner.crewctl("start", "--agent", "a", "--json")
        started = json.loads(r.stdout)["started"]
        assert r.returncode == 0 and [(a["name"], a["state"], a["incarnation"]) for a in started] == [("a", "ready", 3)]
        use_up()


def test_a_back_off_is_not_waited_for(runner):
    crew = Crew(runner).agent("a", restart={"max": 16, "within": "600s"})
    with crew.start() as running:
        client = running.client()
        def not_waited_for(n):
            """False: the machine was so slow that it was over before the start, or would have been before its end."""
            try:
                started = client.start_agent("a", timeout=60)
            except crewd.Refused as e:
                assert e.code == "running", e
                return False
            assert (started.agent.state, started.agent.incarnation) == (READY, n + 1)
            waits, spawned = crew.records("a", "agent.restart"), crew.records("a", "agent.spawned")[-1]
            assert spawned["inc"] == n + 1
            return (spawned["t"] - waits[-1]["t"]) / 1e6 < waits[-1]["delay_ms"]

        for n in range(1, 12):  # at the sixth it is at least 1.6 s, and then more
            eventually(lambda: state_of(client, "a") == READY)
            client.kill("a")
            if n >= 6 and not_waited_for(n):
                break
        else:
            pytest.fail("each back-off was waited for")


def test_all_starts_everybody_who_has_ended(runner):
    crew = Crew(runner)
    for name in "abcd":
        crew.agent(name)
    with crew.start() as running:
        client = running.client()
        r = runner.crewctl("start", "--all")
        assert (r.returncode, r.stdout) == (0, "crew t: no agent has ended, nothing to start\n")
        client.kill("a")
        client.kill("b")
        client.stop_agent("d")
        r = runner.crewctl("start", "--all", "--reason", "again")
        assert r.returncode == 0, r.stderr
        assert sorted(r.stdout.splitlines()) == [f"Agent {n} started (incarnation 2)." for n in "abd"]
        assert [state_of(client, n) for n in "abcd"] == [READY] * 4
        assert [agent_status(client, n).incarnation for n in "abcd"] == [2, 2, 1, 2]


def test_one_that_does_not_come_up_says_why_and_the_others_come(runner):
    crew = Crew(runner).agent("a", command=["${CREW_DIR}/mine"]).agent("b")
    crew.files["mine"] = "#!/bin/sh\nexec cat >/dev/null\n"
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("read: []", 'read: [], exec: ["${CREW_DIR}/mine"]')
    crew.write()
    (crew.top / "mine").chmod(0o755)
    with crew.start() as running:
        client = running.client()
        client.kill("a")
        client.kill("b")
        (crew.top / "mine").rename(crew.top / "gone")
        r = runner.crewctl("start", "--all")
        assert r.returncode == 1 and r.stdout == "Agent b started (incarnation 2).\n"
        assert "agent a did not start: " in r.stderr and "crewctl logs --agent a" in r.stderr
        assert state_of(client, "a") == TERMINATED and state_of(client, "b") == READY
        (crew.top / "gone").rename(crew.top / "mine")
        assert client.start_agent("a", timeout=20).agent.state == READY


def test_a_start_is_over_when_the_agent_is_well_or_has_ended(runner):
    crew = Checked(runner)
    with crew.start() as running:
        client = running.client()
        for end in ("well", "kill", "gone"):
            client.kill("a")
            crew.well(False)
            first, second = answer_of(running.client(), "a"), None
            eventually(lambda: agent_status(client, "a").health.startswith("starting: "))
            with pytest.raises(crewd.Refused) as e:
                client.start_agent("a")  # it is up, though not well
            assert e.value.code == "running"
            if end == "gone":
                running.clients.pop().close()  # it goes on
                first = None
            if end == "kill":
                client.kill("a", reason="enough")
                assert first().code == "failed" and "enough" in str(first())
                assert state_of(client, "a") == TERMINATED
                crew.well(True)
                client.start_agent("a", timeout=20)
                continue
            crew.well(True)
            if first:
                assert first().agent.health == "passing"
            eventually(lambda: agent_status(client, "a").health == "passing")


def test_a_kill_before_the_start_answers_both(runner):
    """Nobody knows who comes first; each gets an answer, and what is true then stays so."""
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client, other = running.client(), running.client()
        client.kill("a")
        for n in range(12):
            answer = answer_of(other, "a")
            try:
                client.kill("a")
            except crewd.NotRunning:
                pass
            got = answer()
            if isinstance(got, crewd.Refused):
                assert got.code == "failed", got
            if state_of(client, "a") == READY:
                client.kill("a")
            eventually(lambda: state_of(client, "a") == TERMINATED)
        assert client.start_agent("a", timeout=20).agent.state == READY
    assert runner.crewctl("audit", "verify").returncode == 0


def test_an_adopted_crew_starts_what_had_ended_before(runner):
    crew = held_crew(runner).agent("a").agent("b")
    with crew.start() as running:
        running.client().kill("a")
        lose(running)
        with crew.start() as again:
            client = again.client()
            assert state_of(client, "a") == TERMINATED
            assert client.start_agent("a", timeout=20).agent.incarnation == 2
            assert client.submit(agent="a", description="out(3)").result(60) == 3


def test_the_status_after_kills_by_role_has_everybody(runner):
    crew = Crew(runner)
    for name, role in (("r1", "Researcher"), ("r2", "Researcher"), ("w", "Writer")):
        crew.agent(name, role=role)
    with crew.start():
        r = runner.crewctl("kill", "--all-of-role", "Researcher")
        assert r.returncode == 0, r.stderr
        assert r.stdout.splitlines()[-1] == "Crew status: r1 (terminated), r2 (terminated), w (ready)"
        assert r.stdout.count("Crew status") == 1
