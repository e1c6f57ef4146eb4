# SPDX-License-Identifier: Apache-2.0
"""What agents share through crewd, and tools they ask for: within the crew file and their policies, on record."""

import pytest

from crewlib import Crew

MEMORY = """memory:
  notes: {write: [a], read: [b], max_bytes: 2KiB, agent_bytes: 1KiB, max_keys: 2}
  mine: {write: [c]}
"""


def crew_of(runner, extra=MEMORY):
    crew = Crew(runner).agent("a").agent("b").agent("c")
    crew.extra = extra
    return crew


def do(client, agent, code):
    return client.submit(agent=agent, description=code).result(60)


def test_what_one_puts_another_reads(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        client = running.client()
        assert do(client, "a", "out(call('memory-put', 'notes/plan', stdin={'n': [1, 0.10]}))") == [0, {"stored": True}]
        assert do(client, "b", "out(call('memory-get', 'notes/plan'))") == [
            0, {"key": "plan", "value": {"n": [1, 0.1]}, "by": "a", "bytes": 15}]
        code, listing = do(client, "b", "out(call('memory-list', 'notes'))")
        assert listing == {"keys": [{"key": "plan", "by": "a", "bytes": 15}], "bytes": 19, "max_bytes": 2048}
        assert do(client, "b", "out(call('memory-get', 'notes/none'))")[1]["value"] is None
        assert do(client, "a", "out(call('memory-put', 'notes/plan', stdin=None))")[0] == 0
        assert do(client, "b", "out(call('memory-list', 'notes'))")[1]["keys"] == []
    put = crew.records("a", "memory.access")[0]
    got = crew.records("b", "memory.access")[0]
    assert (put["verb"], put["space"], put["key"], put["verdict"]) == ("put", "notes", "plan", "allowed")
    assert put["sha256"] == got["sha256"] and got["verb"] == "get"
    lines = runner.crewctl("logs", "--crew", "t", "--agent", "a").stdout
    assert "MEMORY: ALLOWED -> put (in notes, key plan, 15 bytes" in lines


@pytest.mark.parametrize("agent,words", [
    ("b", ("memory-put", "notes/x")), ("c", ("memory-get", "notes/x")), ("c", ("memory-list", "notes")),
    ("a", ("memory-get", "mine/x")), ("a", ("memory-put", "nosuch/x")), ("a", ("memory-put", "../notes/x"))])
def test_without_the_right_it_is_denied_and_recorded(runner, agent, words):
    crew = crew_of(runner)
    with crew.start() as running:
        client = running.client()
        do(client, "c", "out(call('memory-put', 'mine/x', stdin='secret'))")
        do(client, "a", "out(call('memory-put', 'notes/x', stdin='secret'))")
        code, doc = do(client, agent, f"out(call(*{words!r}, stdin='y'))")
        assert (code, doc["error"]["code"]) == (3, -32001)
        assert "secret" not in str(doc)
    denied = [r for r in crew.records(agent, "memory.access") if r["verdict"] == "denied"]
    assert len(denied) == 1 and denied[0]["verb"] == words[0].removeprefix("memory-")


def test_quotas_are_errors_that_name_the_rule(runner):
    crew = crew_of(runner)
    with crew.start() as running:
        client = running.client()
        results = do(client, "a", """
out([call("memory-put", "notes/big", stdin="x" * 1100), call("memory-put", "notes/1", stdin=1),
     call("memory-put", "notes/2", stdin=2), call("memory-put", "notes/3", stdin=3),
     call("memory-put", "notes/1", stdin=[1]), call("memory-get", "notes/1")])""")
        codes = [(code, doc.get("error", {}).get("code")) for code, doc in results]
        assert codes == [(5, -32006), (0, None), (0, None), (5, -32006), (0, None), (0, None)]
        assert "agent_bytes" in results[0][1]["error"]["message"] and "max_keys" in results[3][1]["error"]["message"]
        assert results[0][1]["error"]["data"]["rule"].endswith(f"crew.yaml:{line_of(crew, 'notes')}")
        assert results[5][1]["value"] == [1]


def line_of(crew, key):
    text = (crew.top / "crew.yaml").read_text().splitlines()
    return next(n for n, line in enumerate(text, 1) if line.startswith(f"  {key}:"))


def test_it_outlives_the_agent_and_is_seen_as_mcp_tools_by_those_with_rights(runner):
    crew = crew_of(runner)
    crew.agents["a"]["restart"] = {"max": 2, "within": "60s"}
    with crew.start() as running:
        client = running.client()
        do(client, "a", "out(call('memory-put', 'notes/x', stdin=7))")
        client.kill("a", reason="test")
        assert do(client, "b", "out(call('memory-get', 'notes/x'))")[1]["value"] == 7
        names = {n: {t["name"] for t in do(client, n, "out(call('tools'))")[1]["tools"]} for n in "bc"}
        assert names["b"] == names["c"] == {"crew_memory_put", "crew_memory_get", "crew_memory_list"}
    plain = Crew(runner, "u").agent("a")
    with plain.start() as running:
        assert do(running.client(), "a", "out(call('tools'))") == [0, {"tools": []}]
        assert do(running.client(), "a", "out(call('memory-get', 'notes/x')[0])") == 3


# --- tools/request ---

TOOL = "#!/bin/sh\necho '{\"ran\": true}'\n"


def tools_crew(runner, delegation=None, listed=("one",)):
    crew = Crew(runner).agent("a", tools=["one", "two"])
    crew.agents["a"]["tools"] = list(listed)
    for name in ("one", "two", "three"):
        crew.tool(name, TOOL)
    crew.extra = f"tool_delegation: {delegation}\n" if delegation else ""
    return crew


TRY = """
import os
have = lambda: sorted(t["name"] for t in call("tools")[1]["tools"])
out([have(), call("tool", "two", stdin={}), call("request", "two", stdin={"reason": "to count"}), have(),
     call("tool", "two", stdin={}), call("request", "three"), call("tool", "three", stdin={})[0], call("request", "one")[0]])"""


def test_within_allowed_a_tool_is_granted_on_request(runner):
    crew = tools_crew(runner, "within_allowed")
    with crew.start() as running:
        client = running.client()
        before, first, request, after, second, never, denied, own = do(client, "a", TRY)
        assert before == ["crew_request_tool", "one"] and after == ["crew_request_tool", "one", "two"]
        assert first[0] == 3 and "ask for it" in first[1]["error"]["data"]["next_steps"][0]
        assert request == [0, {"granted": True}] and second == [0, {"ran": True}] and own == 0
        assert never[0] == 3 and "tools.allowed" in never[1]["error"]["message"] and denied == 3
    asked = crew.records("a", "tool.request")
    assert [(r["tool"], r["verdict"]) for r in asked] == [("two", "granted"), ("three", "denied"), ("one", "granted")]
    assert asked[2]["reason"] == "it had it already"
    assert asked[0]["asked_for"] == "to count"


@pytest.mark.parametrize("delegation", [None, "locked"])
def test_locked_is_a_readable_refusal(runner, delegation):
    crew = tools_crew(runner, delegation)
    with crew.start() as running:
        before, first, request, after, second, never, denied, own = do(running.client(), "a", TRY)
        assert before == after == ["one"] and own == 0
        assert first[0] == second[0] == 3 and denied == 3
        assert (request[0], request[1]["error"]["code"]) == (3, -32001)
        assert "tool_delegation of this crew is locked" in request[1]["error"]["message"]
    asked = crew.records("a", "tool.request")
    assert [(r["tool"], r["verdict"]) for r in asked] == [("two", "denied"), ("three", "denied"), ("one", "granted")]
    assert asked[2]["reason"] == "it had it already"


def test_a_grant_ends_with_the_instance(runner):
    crew = tools_crew(runner, "within_allowed")
    crew.agents["a"]["restart"] = {"max": 2, "within": "60s"}
    with crew.start() as running:
        client = running.client()
        assert do(client, "a", "out([call('request', 'two')[0], call('tool', 'two', stdin={})[0]])") == [0, 0]
        client.kill("a", reason="test")
        assert do(client, "a", "out(call('tool', 'two', stdin={})[0])") == 3


def test_without_a_list_it_has_what_its_policy_allows(runner):
    crew = tools_crew(runner)
    del crew.agents["a"]["tools"]
    with crew.start() as running:
        assert do(running.client(), "a", "out([call('tool', t, stdin={})[0] for t in ('one', 'two', 'three')])") == [0, 0, 3]
