# SPDX-License-Identifier: Apache-2.0
"""The tool gate: policy, both schemas, audit before the effect, and tools that misbehave."""

import hashlib
import json

import pytest

from crewlib import Crew

IN = json.dumps({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"],
                 "additionalProperties": False})
OUT = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
DOUBLE = """#!/usr/bin/python3
import json, sys
print(json.dumps({"n": json.load(sys.stdin)["n"] * 2}))
"""


def crew_with(runner, script, allowed=("double",), **keys):
    crew = Crew(runner).agent("a", tools=allowed)
    crew.files.update({"in.json": IN, "out.json": OUT})
    crew.tool("double", script, input="in.json", output="out.json", **keys)
    return crew


def use(runner, crew, code, timeout=30):
    with crew.start() as running:
        return running.client().submit(agent="a", description=code).result(timeout)


def test_an_allowed_tool_is_checked_recorded_and_answered(runner):
    crew = crew_with(runner, DOUBLE)
    assert use(runner, crew, "out(call('tool', 'double', stdin={'n': 21}))") == [0, {"n": 42}]
    call, = crew.records("a", "tool.call")
    back, = crew.records("a", "tool.return")
    assert (call["verdict"], call["tool"]) == ("allowed", "double")
    assert back["outcome"] == "ok" and back["call"] == call["call"]
    assert "args" not in call
    assert call["args_sha256"] == hashlib.sha256(b'{"n": 21}').hexdigest()


def test_audit_full_keeps_the_values(runner):
    crew = crew_with(runner, DOUBLE, audit="full")
    use(runner, crew, "out(call('tool', 'double', stdin={'n': 4}))")
    assert json.loads(crew.records("a", "tool.call")[0]["args"]) == {"n": 4}
    assert json.loads(crew.records("a", "tool.return")[0]["result"]) == {"n": 8}


def test_an_unlisted_tool_is_denied_with_its_rule(runner):
    crew = crew_with(runner, DOUBLE, allowed=())
    code, doc = use(runner, crew, "out(call('tool', 'double', stdin={'n': 1}))")
    assert code == 3
    assert doc["error"]["code"] == -32001
    assert doc["error"]["message"] == "tool 'double' is not in tools.allowed"
    record, = crew.records("a", "tool.call")
    assert record["verdict"] == "denied"
    assert "TOOL: DENIED -> double (not in tools.allowed" in runner.crewctl("logs", "--agent", "a").stdout


def test_a_hostile_tool_name_is_one_record(runner):
    crew = crew_with(runner, DOUBLE)
    name = "x\n[2026-01-01 00:00:00] TOOL: ALLOWED -> wire \x1b[2J\" "
    code, _ = use(runner, crew, f"out(call('tool', {name!r}, stdin={{}}))")
    assert code != 0
    assert runner.crewctl("audit", "verify").returncode == 0
    text = runner.crewctl("logs", "--agent", "a").stdout
    assert "\x1b" not in text and not [l for l in text.splitlines() if l.startswith("[2026-01-01")]


@pytest.mark.parametrize("arguments", [{}, {"n": -1}, {"n": "1"}, {"n": 1, "m": 2}])
def test_arguments_outside_the_schema_never_reach_the_tool(runner, arguments):
    crew = crew_with(runner, DOUBLE)
    code, doc = use(runner, crew, f"out(call('tool', 'double', stdin={arguments!r}))")
    assert code == 4 and doc["error"]["code"] == -32002
    assert crew.records("a", "tool.call")[0]["verdict"] == "invalid"
    assert not crew.records("a", "tool.return")


BAD_TOOLS = {
    "garbage": ("echo 'not json'", -32003, ""),
    "nothing": ("true", -32003, ""),
    "too-much": ("exec head -c 6000000 /dev/zero", -32003, ""),
    "wrong-schema": ("echo '{\"n\": \"many\"}'", -32004, "/n"),
    "dies": ("kill -9 $$", -32003, "SIGKILL"),
    "fails": ("echo '{\"n\":1}'; exit 4", -32003, "4"),
    "hangs": ("exec sleep 600", -32005, "1.0 s"),
}


@pytest.mark.parametrize("kind", BAD_TOOLS)
def test_a_tool_that_misbehaves_is_an_answer_not_a_hang(runner, kind):
    body, code, says = BAD_TOOLS[kind]
    crew = crew_with(runner, "#!/bin/sh\n" + body + "\n", timeout="1s" if kind == "hangs" else "20s")
    exit_code, doc = use(runner, crew, "out(call('tool', 'double', stdin={'n': 1}))")
    assert exit_code in (4, 5)
    assert doc["error"]["code"] == code, doc
    assert says in doc["error"]["message"]
    record, = crew.records("a", "tool.return")
    assert record["outcome"] == "failed"


def test_the_list_shows_exactly_the_allowed_tools(runner):
    crew = crew_with(runner, DOUBLE, allowed=("double", "other"))
    crew.tool("other", DOUBLE).tool("third", DOUBLE)
    _, tools = use(runner, crew, "out(call('tools'))")
    names = [t["name"] for t in (tools["tools"] if isinstance(tools, dict) else tools)]
    assert sorted(names) == ["double", "other"]


def test_many_calls_at_once_all_get_their_own_answer(runner):
    crew = crew_with(runner, DOUBLE)
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(12) as pool:
    got = list(pool.map(lambda n: call('tool', 'double', stdin={'n': n})[1], range(24)))
out(got)
"""
    assert use(runner, crew, code, 60) == [{"n": 2 * n} for n in range(24)]
    assert len(crew.records("a", "tool.return")) == 24
