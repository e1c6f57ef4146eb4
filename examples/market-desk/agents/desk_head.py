# SPDX-License-Identifier: Apache-2.0
"""Hands out one task a symbol, then the table.  All it has is the socket of its jail."""
import itertools
import json
import os
import socket
import sys

task = json.load(sys.stdin)
crew = socket.socket(socket.AF_UNIX)
crew.connect(os.environ["CREW_SOCKET"])
lines = crew.makefile("rw", encoding="utf-8")
ids = itertools.count(1)


def order(verb, **params):
    lines.write(json.dumps({"jsonrpc": "2.0", "id": next(ids), "method": f"crew/{verb}", "params": params}) + "\n")
    lines.flush()
    answer = json.loads(lines.readline())
    if "error" in answer:
        sys.exit(f"{verb}: {answer['error']['message']}")
    return answer["result"]


def outcome_of(task_id):
    done = order("wait", task_id=task_id, timeout_ms=30000)
    if done["outcome"] != "ok":
        sys.exit(f"{done['task']} of {done['agent']}: {done['error']}")
    return done["result"]


analysts = [a["name"] for a in order("agents")["agents"] if a["role"] == "Analyst"]
handed = {}
for symbol, analyst in zip(task["input"]["symbols"], itertools.cycle(analysts)):
    # The key: if this program is started again, the task is not handed out twice.
    handed[symbol] = order("submit", agent=analyst, description=f"Figures of {symbol}", input={"symbol": symbol},
                           key=f"figures-{symbol}", retries=1)["task_id"]
urgent = order("result", task_id=handed[task["input"]["first"]])
if urgent["state"] == "waiting":
    order("reprioritise", task_id=urgent["task_id"], priority=50)
rows = [outcome_of(task_id) for task_id in handed.values()]
table = outcome_of(order("submit", task="table", input={"rows": rows}, key="table")["task_id"])
json.dump({"symbols": len(rows), "analysts": len(analysts),
           "summary": f"{len(rows)} symbols by {len(analysts)} analysts; best: {table['rows'][0]['symbol']}"}, sys.stdout)
