# SPDX-License-Identifier: Apache-2.0
"""Connections that wait for the operator: who is asked, what an answer does, and that it is given once."""

import json
import os
import pty
import re
import signal
import stat
import subprocess

import pytest

import crewd
from controllib import Asking, Follower, finish, place, private_address  # noqa: F401 (a fixture)
from crewlib import agent_status, eventually, gateway_of
from egresslib import Tcp, greet

NAME = "news.control.test"


def reasons(crew, agent, verdict):
    return [r.get("reason") for r in crew.network(agent, verdict)]


def await_kinds(crew, agent, *kinds):
    """Records reach the file within 100 ms."""
    eventually(lambda: [r["kind"].split(".")[1] for r in approval_records(crew, agent)] == list(kinds))


def approval_records(crew, agent):
    return [r for r in crew.records(agent) if r["kind"].startswith("approval.")]


def test_without_an_approver_the_answer_is_no_at_once(runner):
    crew = Asking(runner).asking("a")
    with crew.start():
        got, seconds = crew.dial("a", "93.184.216.34", 80)
        assert got == "ConnectionResetError" or got == "ConnectionRefusedError"
        assert seconds < 20  # not the minute that one is waited for
        assert crew.waiting() == []
        crew.await_network("a", "denied")
        assert "nobody to ask" in reasons(crew, "a", "denied")
        await_kinds(crew, "a", "refused")
        [refused] = approval_records(crew, "a")
        assert (refused["kind"], refused["initiator"], refused["reason"]) == ("approval.refused", "crewd", "nobody to ask")
        r = runner.crewctl("approvals")
        assert r.stdout.startswith("no connection waits\n  and none would: nobody follows")


def test_once_is_those_that_wait(runner, private_address):  # noqa: F811
    with Tcp(greet("hello"), host=private_address) as server:
        crew = Asking(runner).asking("a")
        with crew.start(), Follower(crew) as follower:
            p = crew.dialling("a", private_address, server.port)
            [ask] = crew.asked()
            assert (ask["agent"], ask["host"], ask["port"], ask["state"]) == ("a", private_address, server.port, "waiting")
            assert 0 < ask["expires_in_ms"] <= 60000 and server.accepted == 0
            r = runner.crewctl("approve", ask["id"])
            assert r.returncode == 0, r.stderr
            assert r.stdout == f"approved once: a -> {place(private_address, server.port)} · 1 connection\n"
            assert finish(p)[0] == "got hello"
            assert follower.next()["state"] == "waiting"
            decided = follower.next()
            assert (decided["id"], decided["state"], decided["scope"]) == (ask["id"], "granted", "once")
            assert "crewctl" in decided["by"]
            p = crew.dialling("a", private_address, server.port)
            [again] = crew.asked()
            assert again["id"] != ask["id"]
            assert runner.crewctl("deny", again["id"]).returncode == 0
            assert finish(p)[0].startswith("Connection")
            assert server.accepted == 1
            await_kinds(crew, "a", "asked", "granted", "asked", "refused")
            crew.await_network("a", "denied")
            assert "refused by the operator" in reasons(crew, "a", "denied")
            # The decision stands before what it allowed.
            crew.await_network("a", "allowed")
            order = [r["kind"] for r in crew.records("a")]
            assert order.index("approval.granted") < order.index("network.allowed")


@pytest.mark.parametrize("scope", [[], ["--session"]], ids=["once", "session"])
def test_an_approved_name_is_dialled_where_the_crew_file_says(runner, scope):
    """As a listed one would be: the name resolves nowhere, and its place is an address of this machine."""
    with Tcp(greet("hello")) as server:
        crew = Asking(runner, {f"{NAME}:80": server.address}, operator=True).asking("a")
        with crew.start():
            r = runner.crewctl("policy", "explain", "--json", "--agent", "a", "--crew", crew.top / "crew.yaml", "connect",
                               f"{NAME}:80")
            explained = json.loads(r.stdout)
            assert explained["asks"] and explained["connect_to"] == server.address
            p = crew.dialling("a", NAME, 80)
            [ask] = crew.asked()
            assert (ask["host"], ask["port"]) == (NAME, 80) and server.accepted == 0
            assert runner.crewctl("approve", ask["id"], *scope).returncode == 0
            assert finish(p)[0] == "got hello"
            if scope:
                assert crew.dial("a", NAME, 80)[0] == "got hello"
            [allowed, *_] = crew.await_network("a", "allowed", host=NAME)
            assert allowed["peer"] == server.address
            p = crew.dialling("a", NAME, 81)  # another port of it has no place, and the name leads nowhere
            [ask] = crew.asked()
            assert runner.crewctl("approve", ask["id"]).returncode == 0
            assert not finish(p)[0].startswith("got")


def test_a_session_is_until_the_agent_ends(runner, private_address):  # noqa: F811
    with Tcp(greet("hello"), host=private_address) as server:
        crew = Asking(runner, operator=True).asking("a").asking("b")
        with crew.start():
            p = crew.dialling("a", private_address, server.port)
            [ask] = crew.asked()
            r = runner.crewctl("approve", ask["id"], "--session")
            assert r.stdout.startswith("approved for this session: a -> ")
            assert finish(p)[0] == "got hello"
            assert crew.dial("a", private_address, server.port)[0] == "got hello"
            p = crew.dialling("b", private_address, server.port)
            [ask] = crew.asked()
            assert ask["agent"] == "b", "a session is one agent's"
            assert runner.crewctl("deny", ask["id"], "--session").returncode == 0
            assert finish(p)[0].startswith("Connection")
            got, seconds = crew.dial("b", private_address, server.port)
            assert got.startswith("Connection") and seconds < 20
            assert crew.waiting() == []


@pytest.mark.parametrize("ends", ["agent", "gateway"])
def test_a_session_is_over_when_its_instance_or_the_gateway_has_ended(runner, private_address, ends):  # noqa: F811
    """Whoever has taken its place asks again; a gateway keeps nothing that the next one could have."""
    with Tcp(greet("hello"), host=private_address) as server:
        crew = Asking(runner, operator=True).asking("a")
        crew.agents["a"]["restart"] = {"max": 3, "within": "60s"}
        with crew.start() as running:
            crew.dialling("a", private_address, server.port)
            [ask] = crew.asked()
            assert runner.crewctl("approve", ask["id"], "--session").returncode == 0
            assert eventually(lambda: crew.dial("a", private_address, server.port)[0]) == "got hello"
            client = running.client()
            if ends == "agent":
                client.kill("a")
                eventually(lambda: (lambda a: a.incarnation == 2 and a.state == crewd.AgentState.READY)(agent_status(client, "a")))
            else:
                os.kill(gateway_of(running), signal.SIGKILL)
                eventually(lambda: crew.records("a", "gateway.restarted"))
            p = crew.dialling("a", private_address, server.port)
            [again] = crew.asked()
            assert again["id"] != ask["id"]
            assert runner.crewctl("deny", again["id"]).returncode == 0
            assert finish(p)[0].startswith("Connection")


def test_what_waits_when_the_gateway_dies_is_refused_and_its_id_is_no_more(runner):
    crew = Asking(runner, operator=True).asking("a")
    with crew.start() as running:
        p = crew.dialling("a", "93.184.216.34", 80)
        [ask] = crew.asked()
        os.kill(gateway_of(running), signal.SIGKILL)
        assert finish(p)[0].startswith("Connection")
        eventually(lambda: crew.waiting() == [])
        r = runner.crewctl("approve", ask["id"])
        assert r.returncode == 1 and "is gone already" in r.stderr
        await_kinds(crew, "a", "asked", "expired")
        assert approval_records(crew, "a")[-1]["reason"] == "crew-gateway died"


def test_an_answer_that_comes_after_the_client_has_given_up_is_for_its_next_try(runner, private_address):  # noqa: F811
    with Tcp(greet("hello"), host=private_address) as server:
        crew = Asking(runner, operator=True).asking("a")
        with crew.start() as running:
            p = crew.dialling("a", private_address, server.port)
            [ask] = crew.asked()
            p.kill()
            p.wait(60)
            client = running.client()
            eventually(lambda: agent_status(client, "a").processes == 1)  # whoever dialled is gone
            assert [a["id"] for a in crew.waiting()] == [ask["id"]], "it may come back"
            # The gateway has seen it go once it has seen what came after that: else the answer would be for one who is gone.
            p = crew.dialling("a", "93.184.216.34", 80)
            assert runner.crewctl("deny", crew.asked(2)[1]["id"]).returncode == 0
            assert finish(p)[0].startswith("Connection")
            assert runner.crewctl("approve", ask["id"]).returncode == 0
            assert crew.dial("a", private_address, server.port)[0] == "got hello"
            p = crew.dialling("a", private_address, server.port)
            [again] = crew.asked()
            assert again["id"] != ask["id"], "once"


def test_several_connections_wait_as_one(runner, private_address):  # noqa: F811
    with Tcp(greet("hello"), host=private_address) as server:
        crew = Asking(runner, operator=True).asking("a")
        with crew.start() as running:
            dials = [crew.dialling("a", private_address, server.port) for _ in range(3)]
            [ask] = eventually(lambda: (lambda w: w if w and w[0]["waiting"] == 3 else None)(crew.waiting()))
            r = runner.crewctl("approve", ask["id"])
            assert "3 connections" in r.stdout
            assert [finish(p)[0] for p in dials] == ["got hello"] * 3
            assert running.stop() == 0, running.log()


def test_an_id_is_decided_once(runner):
    crew = Asking(runner, operator=True).asking("a")
    with crew.start():
        p = crew.dialling("a", "93.184.216.34", 80)
        [ask] = crew.asked()
        assert runner.crewctl("deny", ask["id"]).returncode == 0
        finish(p)
        for verb in (["approve"], ["deny"], ["approve", "--always", "--yes"], ["approve", "--session"]):
            r = runner.crewctl(*verb, ask["id"])
            assert r.returncode == 1
            assert f"approval {ask['id']} (93.184.216.34:80) is refused already" in r.stderr
        r = runner.crewctl("approve", "zz9z")
        assert r.returncode == 3
        assert r.stderr == "crewctl: no approval 'zz9z' in crew control\n  nothing waits\n"
        r = runner.crewctl("approve", "zz9z", "--json")
        assert json.loads(r.stdout)["error"]["code"] == "unknown-approval"


def test_completion_offers_the_ids(runner):
    crew = Asking(runner, operator=True).asking("a")
    with crew.start():
        crew.dialling("a", "93.184.216.34", 80)
        [ask] = crew.asked()
        r = runner.crewctl("__complete", "approve", "")
        assert r.stdout == f"{ask['id']}\ta -> 93.184.216.34:80\n"


def test_no_answer_is_no(runner):
    crew = Asking(runner, operator=True).asking("a", timeout="1s")
    with crew.start():
        p = crew.dialling("a", "93.184.216.34", 80)
        got, seconds = finish(p)
        assert got.startswith("Connection") and 0.8 < seconds < 20
        [ask] = eventually(lambda: crew.records("a", "approval.asked"))  # crewctl may be slower than the second it waits
        r = runner.crewctl("approve", ask["approval"])
        assert r.returncode == 1 and "is expired already" in r.stderr
        await_kinds(crew, "a", "asked", "expired")
        r = runner.crewctl("logs", "--agent", "a", "--filter", "network")
        assert re.search(r"APPROVAL: ASKED -> 93.184.216.34:80 \(id \w{4}, waits 1 s\)\n.*APPROVAL: EXPIRED", r.stdout)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "169.254.169.254", "169.254.1.1", "0.0.0.1", "224.0.0.1",
                                  "100.100.100.200", "::1", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254",
                                  "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:1::1"])
def test_what_can_never_be_approved_is_not_asked(runner, host):
    crew = Asking(runner, operator=True).asking("a")
    with crew.start():
        got, seconds = crew.dial("a", host, 80)
        assert not got.startswith("got") and seconds < 20
        assert crew.waiting() == []
        assert not [r for r in approval_records(crew, "a") if r["kind"] in ("approval.asked", "approval.granted")]


def test_a_dead_agent_asks_for_nothing(runner):
    crew = Asking(runner, operator=True).asking("a")
    with crew.start() as running:
        crew.dialling("a", "93.184.216.34", 80)
        [ask] = crew.asked()
        assert runner.crewctl("kill", "--agent", "a").returncode == 0
        assert crew.waiting() == []
        r = runner.crewctl("approve", ask["id"])
        assert r.returncode == 1 and "is gone already" in r.stderr
        assert running.stop() == 0, running.log()


# --- always ---

POLICY = """# the operator's own notes
agent: a
sandbox:
  mode: deny-by-default
  filesystem: {read: [], write: []}
  network:
    on_unlisted: ask
    allowed_endpoints:
      - "prices.control.test:443"   # quotes

      # the rest is asked for
  tools: {denied: ["*"]}
  allow_degraded: [evidence]
"""


def always_crew(runner, port, **kw):
    crew = Asking(runner, {f"{NAME}:443": f"127.0.0.1:{port}"}, operator=True).asking("a", **kw)
    crew.files["a.yaml"] = POLICY
    crew.write()
    return crew, crew.top / "a.yaml"


def test_always_writes_the_rule_and_lets_go(runner):
    with Tcp(greet("news")) as server:
        crew, policy = always_crew(runner, server.port)
        policy.chmod(0o640)
        before = policy.stat()
        with crew.start():
            p = crew.dialling("a", NAME, 443)
            [ask] = crew.asked()
            assert ask["host"] == NAME and ask["policy_file"] == str(policy.resolve())
            r = runner.crewctl("approve", ask["id"], "--always", "--yes")
            assert r.returncode == 0, r.stderr
            assert r.stdout == f"approved always: a -> {NAME}:443 · 1 connection · {policy.resolve()}:10\n"
            assert f'+      - "{NAME}:443"' in r.stderr.splitlines()
            assert "-" not in [line[:1] for line in r.stderr.splitlines()]
            assert finish(p)[0] == "got news"
            assert policy.read_text() == POLICY.replace("# quotes\n", f'# quotes\n      - "{NAME}:443"\n')
            after = policy.stat()
            assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
            assert sorted(os.listdir(policy.parent)) == sorted(crew.files)
            assert crew.dial("a", NAME, 443)[0] == "got news"
            assert crew.waiting() == []
            eventually(lambda: crew.records("a", "approval.granted"))
            kinds = [r["kind"] for r in crew.records("a")]
            assert kinds.index("approval.asked") < kinds.index("policy.reloaded") < kinds.index("approval.granted")
            [granted] = [r for r in crew.records("a") if r["kind"] == "approval.granted"]
            assert granted["scope"] == "always" and "crewctl" in granted["initiator"]


def test_always_needs_a_yes(runner):
    crew, policy = always_crew(runner, 1)
    with crew.start():
        crew.dialling("a", NAME, 443)
        [ask] = crew.asked()
        r = runner.crewctl("approve", ask["id"], "--always")
        assert r.returncode == 2 and "needs --yes" in r.stderr and f'+      - "{NAME}:443"' in r.stderr
        for answer, status in ((b"\n", 1), (b"n\n", 1), (b"yes please\n", 1)):
            parent, child = pty.openpty()
            p = subprocess.Popen(runner.argv(runner.program("crewctl"), "approve", ask["id"], "--always"), stdin=child,
                                 stdout=subprocess.DEVNULL, stderr=child, env=runner.env(), cwd=runner.home)
            os.close(child)
            os.write(parent, answer)
            assert p.wait(60) == status
            os.close(parent)
        assert policy.read_text() == POLICY
        assert [a["id"] for a in crew.waiting()] == [ask["id"]], "it still waits"


def test_a_rule_that_crewd_does_not_load_is_taken_back(runner):
    crew, policy = always_crew(runner, 1)
    crew.asking("b")
    crew.write()
    policy, other, data = crew.top / "a.yaml", crew.top / "b.yaml", crew.top / "data"
    data.mkdir(mode=0o755)
    runner.own(data)
    other.write_text(other.read_text().replace("write: []", f'write: ["{data}/"]'))
    with crew.start():
        crew.dialling("a", NAME, 443)
        [ask] = crew.asked()
        edited = POLICY.replace("write: []", f'write: [], exec: ["{data}/"]')  # fine by itself, but not beside b
        policy.write_text(edited)
        r = runner.crewctl("approve", ask["id"], "--always", "--yes")
        assert r.returncode == 1
        assert "crewd does not take the policy" in r.stderr and "agent 'a' could execute what agent 'b' writes" in r.stderr
        assert "the rule was taken out of" in r.stderr
        assert policy.read_text() == edited
        assert [a["id"] for a in crew.waiting()] == [ask["id"]]


@pytest.mark.parametrize("change,why", [
    (lambda p: p.write_text(p.read_text().replace('      - "prices.control.test:443"   # quotes\n', "      none\n")),
     "no list"),
    (lambda p: os.link(p, p.parent / "other"), "hard links"),
])
def test_what_cannot_be_edited_is_said_with_the_line_to_add(runner, change, why):
    crew, policy = always_crew(runner, 1)
    with crew.start():
        crew.dialling("a", NAME, 443)
        [ask] = crew.asked()
        change(policy)
        before = policy.read_text()
        r = runner.crewctl("approve", ask["id"], "--always", "--yes")
        assert r.returncode == 1 and why in r.stderr
        assert f'\n    - "{NAME}:443"\n' in r.stderr and "crewctl policy reload" in r.stderr
        assert policy.read_text() == before


def test_deny_has_no_always(runner):
    r = runner.crewctl("deny", "x", "--always")
    assert r.returncode == 2


def test_a_second_approver_is_too_late(runner):
    """Two that read the same list: one decides, the other is told who did."""
    crew = Asking(runner, operator=True).asking("a")
    with crew.start() as running:
        one, two = running.client(), running.client()
        crew.dialling("a", "93.184.216.34", 80)
        [ask] = crew.asked()
        assert one.deny(ask["id"]).id == ask["id"]
        with pytest.raises(crewd.Refused) as refused:
            two.approve(ask["id"])
        assert refused.value.code == "decided"
