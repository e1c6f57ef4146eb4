# SPDX-License-Identifier: Apache-2.0
"""A consensual crew: a result counts when the others have agreed to it."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from crewlib import AGENT, UNTIL_GO, Crew, done_task, eventually, go, state_of
import crewd
from crewd import AgentState

SOURCE = Path(__file__).resolve().parents[2]

# An agent votes as its name says: "yes-1", "no-2", "abstain-3"; "mute-4" prints nonsense, "slow-5" nothing in time.
VOTER = AGENT.replace('exec(doc.get("description")', """
kind = os.environ["CREW_AGENT"].split("-")[0]
if doc["kind"] == "vote":
    words = {"yes": "approve", "no": "reject", "abstain": "abstain"}
    if kind == "slow":
        time.sleep(600)
    out({"vote": words[kind], "reason": f"saw {doc['input']['proposal']} of {doc['input']['proposed_by']}"} if kind in words
        else "maybe")
    sys.exit(0)
exec(doc.get("description")""")


def board(runner, agents, consensus=None, process="consensual"):
    crew = Crew(runner)
    crew.process = process + (f"\nconsensus: {json.dumps(consensus)}" if consensus else "")
    for name in agents:
        crew.agent(name)
    crew.files["agent.py"] = VOTER
    return crew


def run(crew):
    with crew.start() as running:
        return running.client().run()


def running_beside(running, box):
    """The run, beside what the test does meanwhile."""
    client = running.client()
    thread = threading.Thread(target=lambda: box.update(done=client.run()))
    thread.start()
    return thread


def is_voted_on(client, task):
    return [t.state for t in client.status().tasks if t.name == task] == ["voting"]


def result(crew, task="one"):
    path = crew.runner.home / f"lib/t/out/{task}.json"
    return json.loads(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("agents,consensus,accepted,why", [
    (["yes-1", "yes-2", "no-3"], {}, True, "2 approve, 1 reject (majority)"),
    (["yes-1", "no-2", "no-3"], {"rule": "majority"}, False, "1 approve, 2 reject (majority)"),
    (["yes-1", "no-2"], {"tie_break": "approve"}, True, "a tie of 1 to 1, accepted by tie_break"),
    (["yes-1", "no-2"], {"tie_break": "no-2"}, False, "a tie of 1 to 1, rejected by tie_break"),
    (["yes-1", "yes-2", "abstain-3"], {"rule": "unanimity"}, False, "2 of 3 voted, the quorum is 3"),
    (["yes-1", "yes-2", "mute-3"], {"rule": "unanimity", "quorum": 2}, True, "2 approve, 0 reject (unanimity)"),
    (["yes-1", "no-2", "no-3"], {"rule": "weighted", "voters": {"yes-1": 5, "no-2": 2, "no-3": 2}}, True,
     "5 approve, 4 reject by weight (weighted)"),
    (["yes-1", "no-2", "no-3", "no-4"], {"voters": ["yes-1", "no-2"], "tie_break": "approve"}, True,
     "a tie of 1 to 1, accepted by tie_break"),
])
def test_the_rule_of_the_crew_file_decides(runner, agents, consensus, accepted, why):
    crew = board(runner, agents, consensus or None).task("one", "yes-1", "out({'n': 7})")
    crew.task("two", "yes-1", "out(context['one'])", context=["one"])
    done = run(crew)
    one = done_task(done, "one")
    assert one.state == ("done" if accepted else "failed"), one
    assert result(crew) == ({"n": 7} if accepted else None), "what was not agreed to is no result"
    if accepted:
        assert result(crew, "two") == {"n": 7}
    else:
        assert one.error == "not agreed to: " + why
        assert done_task(done, "two").state == "skipped"
    tally = crew.records("yes-1", "task.tally")[0]
    assert (tally["outcome"], tally["reason"]) == ("accepted" if accepted else "rejected", why)


def test_each_vote_is_in_its_voters_stream_and_all_in_the_tally(runner):
    crew = board(runner, ["yes-1", "no-2", "mute-3"]).task("one", "yes-1", "out({'n': 7})")
    run(crew)
    tally, = crew.records("yes-1", "task.tally")
    assert tally["votes"] == "yes-1=approve*1 no-2=reject*1 mute-3=abstain*1"
    votes = {name: crew.records(name, "task.vote")[0] for name in ("yes-1", "no-2", "mute-3")}
    assert [v["vote"] for v in votes.values()] == ["approve", "reject", "abstain"]
    assert votes["no-2"]["reason"] == "saw {'n': 7} of yes-1"
    assert votes["mute-3"]["reason"].startswith("no vote: ")
    assert {v["proposal_sha256"] for v in votes.values()} == {tally["proposal_sha256"]}
    lines = crew.runner.crewctl("logs", "--crew", "t", "--agent", "yes-1").stdout
    assert "TALLY: REJECTED -> one" in lines and "VOTE: APPROVE -> one" in lines
    assert crew.runner.crewctl("audit", "verify").returncode == 0


def test_who_proposes_is_for_it_and_not_asked(runner):
    crew = board(runner, ["no-1", "yes-2"]).task("one", "no-1", "out({'n': 7})")
    assert done_task(run(crew), "one").state == "done"
    vote, = crew.records("no-1", "task.vote")
    assert (vote["vote"], vote["reason"]) == ("approve", "it is its own proposal")
    assert [r["task"] for r in crew.records("no-1", "task.started")] == ["one"]


def test_who_does_not_vote_in_time_abstains(runner):
    crew = board(runner, ["yes-1", "yes-2", "slow-3"], {"deadline": "5s"}).task("one", "yes-1", "out(1)")
    with crew.start() as running:
        client = running.client()
        began = time.monotonic()
        assert done_task(client.run(), "one").state == "done"
        assert 4.9 < time.monotonic() - began < 30
        # It is told, and free for the next one.
        eventually(lambda: state_of(client, "slow-3") == AgentState.READY)
        assert client.submit(agent="slow-3", description="out(2)").result(60) == 2
    late, = crew.records("slow-3", "task.vote")
    assert (late["vote"], late["reason"]) == ("abstain", "no vote within consensus.deadline")
    assert [r["cause"] for r in crew.records("slow-3", "task.finished") if r["task"] == "vote"] == ["cancelled"]


def test_a_task_that_is_submitted_is_voted_on_too(runner):
    crew = board(runner, ["yes-1", "no-2", "no-3"]).task("one", "yes-1", "out(1)").task("two", "yes-1", "out(2)")
    with crew.start() as running:
        client = running.client()
        tasks = [client.submit(task=name) for name in ("one", "two", "one")]
        for task in tasks:
            done = task.wait(60)
            assert done.outcome == crewd.Outcome.REFUSED and "1 approve, 2 reject (majority)" in done.error, done
        assert client.submit(agent="yes-1", description="out(3)").result(60) == 3, "nobody's task but its own"
    assert len(crew.records("yes-1", "task.tally")) == 3


def test_a_vote_goes_before_a_voters_own_tasks(runner):
    crew = board(runner, ["yes-1", "yes-2"], {"deadline": "60s"}).task("one", "yes-1", "out(1)")
    for n in range(4):
        crew.task(f"own-{n}", "yes-2", UNTIL_GO + "out(1)")
    with crew.start() as running:
        client, box = running.client(), {}
        thread = running_beside(running, box)
        eventually(lambda: is_voted_on(client, "one"))
        go(crew, "yes-2")
        thread.join(60)
        assert done_task(box["done"], "one").state == "done", box
    assert [r["task"] for r in crew.records("yes-2", "task.started")][:2] == ["own-0", "vote"]


def test_who_is_at_work_until_the_deadline_is_said_to_be(runner):
    crew = board(runner, ["yes-1", "yes-2"], {"deadline": "700ms"}).task("one", "yes-1", "out(1)").task(
        "long", "yes-2", UNTIL_GO + "out(2)")
    with crew.start() as running:
        box = {}
        thread = running_beside(running, box)
        eventually(lambda: crew.records("yes-1", "task.tally"))
        go(crew, "yes-2")
        thread.join(60)
        assert done_task(box["done"], "one").state == "failed"
    late = crew.records("yes-2", "task.vote")[0]
    assert (late["vote"], late["reason"]) == ("abstain", "no vote within consensus.deadline: it was at work")


def test_a_frozen_voter_is_not_killed_when_the_vote_is_over(runner):
    crew = board(runner, ["yes-1", "yes-2", "slow-3"], {"deadline": "5s"}).task("one", "yes-1", "out(1)")
    with crew.start() as running:
        client, other, box = running.client(), running.client(), {}
        thread = threading.Thread(target=lambda: box.update(done=client.run()))
        thread.start()
        eventually(lambda: state_of(other, "slow-3") == AgentState.WORKING)
        other.freeze("slow-3", reason="look at it")
        thread.join(60)
        assert done_task(box["done"], "one").state == "done"
        time.sleep(2.5)
        assert state_of(other, "slow-3") == AgentState.WORKING
        other.thaw("slow-3")
        eventually(lambda: state_of(other, "slow-3") == AgentState.READY)


def test_a_voter_that_dies_abstains_and_the_vote_goes_on(runner):
    crew = board(runner, ["yes-1", "yes-2", "slow-3"], {"deadline": "60s"}).task("one", "yes-1", "out(1)")
    with crew.start() as running:
        client, other, box = running.client(), running.client(), {}
        thread = threading.Thread(target=lambda: box.update(done=client.run()))
        thread.start()
        eventually(lambda: state_of(other, "slow-3") == AgentState.WORKING)
        other.kill("slow-3", reason="test")
        thread.join(60)
        assert done_task(box["done"], "one").state == "done"
    assert crew.records("slow-3", "task.vote")[0]["vote"] == "abstain"


def test_a_crew_that_stops_during_a_vote_ends_it(runner):
    crew = board(runner, ["yes-1", "slow-2"]).task("one", "yes-1", "out(1)")
    with crew.start() as running:
        client, other, box = running.client(), running.client(), {}
        thread = threading.Thread(target=lambda: box.update(done=client.run()))
        thread.start()
        eventually(lambda: state_of(other, "slow-2") == AgentState.WORKING)
        assert [t.state for t in other.status().tasks] == ["voting"]
        other.stop(grace_ms=100)
        thread.join(60)
        assert done_task(box["done"], "one").state == "skipped"
    assert result(crew) is None
    assert not crew.records("yes-1", "task.tally") or crew.records("yes-1", "task.tally")[0]["outcome"] == "rejected"


def test_a_result_that_breaks_its_schema_is_not_voted_on(runner):
    crew = board(runner, ["yes-1", "yes-2"]).task("one", "yes-1", "out('x')", output="int.json")
    crew.files["int.json"] = '{"type": "integer"}'
    assert done_task(run(crew), "one").state == "failed"
    assert not crew.records("yes-2", "task.vote") and not crew.records("yes-1", "task.tally")


def test_the_example_runs(runner):
    top = runner.home / "figures-board"
    shutil.copytree(SOURCE / "examples/figures-board", top)
    runner.own(top)
    r = runner.crewctl("run", str(top / "crew.yaml"))
    assert r.returncode == 0, r.stdout + r.stderr
    assert json.loads((runner.home / "lib/figures-board/out/ibm.json").read_text())["symbol"] == "IBM"
    tallies = [r for name in ("first", "second") for r in runner.records("figures-board", name) if r["kind"] == "task.tally"]
    assert [t["reason"] for t in tallies] == ["3 approve, 1 reject (majority)"] * 2
    assert all("hasty=reject*1" in t["votes"] for t in tallies)
