# SPDX-License-Identifier: Apache-2.0
"""What crewd makes of a gateway's word: a policy that it refuses or never answers, and asks that nobody may grant."""

import json

import pytest

import fake_gateway as fg
from crewlib import Crew, eventually
from gatewaylib import fake  # noqa: F401 (a fixture)

SEND = "out(call('send', 'b', stdin={}))"


def crew_of_two(runner):
    return Crew(runner).agent("a").agent("b")


def change(crew):
    """Two sections of a's policy: one for the gateway, one for crewd itself."""
    path = crew.top / "a.yaml"
    text = path.read_text()
    for old, new in (("network: {deny_all: true}", 'network: {allowed_endpoints: ["api.test:7000"]}'),
                     ("allowed_targets: []", "allowed_targets: [b]")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def reload(crew, status):
    r = crew.runner.crewctl("policy", "reload", "--json")
    assert r.returncode == status, (r.stdout, r.stderr)
    return next(a for a in json.loads(r.stdout)["agents"] if a["agent"] == "a")


def test_a_policy_that_the_gateway_refuses_is_not_taken_over_in_part(runner, fake):  # noqa: F811
    f = fake(on_policy={"op": fg.REJECTED, "text": "no such thing"})
    crew = crew_of_two(runner)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: len(f.heard(fg.ADD)) == 2)
        assert client.submit(agent="a", description=SEND).result(60)[0] == 3
        change(crew)
        first = reload(crew, 1)
        assert first["error"] == "no such thing"
        assert client.submit(agent="a", description=SEND).result(60)[0] == 3, "nor what crewd itself decides"
        again = reload(crew, 1)
        assert again["old_sha256"] == first["old_sha256"] != first["sha256"], "the former one is in force"
        eventually(lambda: len(crew.records("a", "policy.reloaded")) == 4)
    assert [r.get("verdict") for r in crew.records("a", "policy.reloaded")] == [None, "failed"] * 2
    refused = crew.records("a", "network.policy")
    assert [(r["verdict"], r["reason"]) for r in refused] == [("rejected", "no such thing")] * 2
    assert [r["sha256"] for r in refused] == [m["sha256"] for m in f.heard(fg.POLICY)]
    [spawned] = crew.records("a", "agent.policy")
    assert {r["old_sha256"] for r in refused} == {spawned["network_sha256"]}


@pytest.mark.parametrize("play", [{}, pytest.param({"on_policy": None}, marks=pytest.mark.waits)], ids=["dies", "hangs"])
def test_a_policy_that_a_gateway_died_over_is_the_first_that_the_next_one_has(runner, fake, play):  # noqa: F811
    """One that does not answer is as good as dead: what the policy forbids would go on in it, and no other could be loaded."""
    f = fake(**play)
    crew = crew_of_two(runner)
    with crew.start() as running:
        eventually(lambda: len(f.heard(fg.ADD)) == 2)
        change(crew)
        a = reload(crew, 0)
        assert a["sections"]["network"]["state"] == a["sections"]["ipc"]["state"] == "applied"
        eventually(lambda: len(f.heard(fg.ADD)) == 4)
        assert ("crew-gateway does not answer" in running.log()) == bool(play)
        reload(crew, 0)  # and the next one may come
        assert running.client().submit(agent="a", description=SEND).result(60)[0] == 0
    [sent] = f.heard(fg.POLICY)
    assert sent["id"] in {m["id"] for m in f.heard(fg.ADD)[2:] if m["sha256"] == sent["sha256"]}
    [applied] = crew.records("a", "network.policy")
    assert applied["sha256"] == sent["sha256"] and "verdict" not in applied


@pytest.mark.parametrize("name", ["169.254.169.254", "127.0.0.1", "::1", "fe80::1", "::ffff:169.254.169.254", "localhost",
                                  "metadata.google.internal"])
def test_what_can_never_be_approved_is_refused_also_when_the_gateway_asks(runner, fake, name):  # noqa: F811
    f = fake(on_add=[{"op": fg.ASK, "ask": 5, "name": name, "port": 80, "count": 1}])
    crew = Crew(runner).agent("a")
    crew.extra = "approvals: operator\n"
    with crew.start():
        [answer] = eventually(lambda: f.heard(fg.ANSWER))
        assert (answer["ask"], answer["verdict"]) == (5, 0) and "can never be approved" in answer["text"]
        assert json.loads(runner.crewctl("approvals", "--json", check=True).stdout)["approvals"] == []
    assert not crew.records("a", "approval.asked")


def test_what_may_be_approved_waits_and_the_answer_goes_back(runner, fake):  # noqa: F811
    """The other half of the above."""
    f = fake(on_add=[{"op": fg.ASK, "ask": 6, "name": "news.test", "port": 80, "count": 1}])
    crew = Crew(runner).agent("a")
    crew.extra = "approvals: operator\n"
    with crew.start():
        [ask] = eventually(lambda: json.loads(runner.crewctl("approvals", "--json").stdout)["approvals"])
        assert f.heard(fg.ANSWER) == []
        runner.crewctl("approve", ask["id"], "--session", check=True)
        [answer] = eventually(lambda: f.heard(fg.ANSWER))
        assert (answer["ask"], answer["verdict"], answer["scope"]) == (6, 1, 2)
