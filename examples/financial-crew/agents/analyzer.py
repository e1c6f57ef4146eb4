#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portfolio-analyzer: reads what the collector stored, has its tool compute each client's figures, stores them."""

import json
import subprocess
import sys

OUTPUT = "/tmp/analysis-output"


def tool(name, arguments):
    r = subprocess.run(["crew-call", "tool", name], input=json.dumps(arguments), capture_output=True, text=True)
    answer = json.loads(r.stdout)
    if r.returncode != 0:
        raise SystemExit(f"{name}: {answer['error']['message']}")
    return answer


def main():
    task = json.load(sys.stdin)
    collected = task["context"]["collect"]
    with open(collected["file"]) as f:
        market = json.load(f)
    clients = []
    for p in tool("portfolio_reader_tool", {})["portfolios"]:
        figures = tool("analysis_tool", {"portfolio": p, "market": market})
        path = f"{OUTPUT}/{p['client']}.json"
        with open(path, "w") as f:
            json.dump(figures, f)
        clients.append({"client": p["client"], "file": path, "value": figures["value"]})
        print(f"{p['client']}: {figures['months']} months", file=sys.stderr)
    json.dump({"clients": clients, "summary": f"{len(clients)} clients"}, sys.stdout)


if __name__ == "__main__":
    main()
