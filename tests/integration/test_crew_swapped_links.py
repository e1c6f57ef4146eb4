# SPDX-License-Identifier: Apache-2.0
"""An agent that may write where another one's paths lie swaps them for links while that one is planned and started: what is
mounted is what the policy names, or nothing is."""

import json

from crewd import AgentState
from crewlib import Crew, eventually, state_of

# d/e is what the other agent reads; d is exchanged for a link to where another e lies, and e for one to that, as fast as it goes.
SWAP = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
top = {top!r} + '/shared/'
os.symlink('../secret', top + 'link-d'); os.symlink('../../secret/e', top + 'd/link-e')
def swap(a, b):
    if libc.renameat2(-100, (top + a).encode(), -100, (top + b).encode(), 2) < 0:  # RENAME_EXCHANGE
        os.rename(top + a, top + 'x'); os.rename(top + b, top + a); os.rename(top + 'x', top + b)
n = 0
open(top + 'begun', 'w').close()
while not os.path.exists(top + 'enough'):
    swap('d', 'link-d'); swap('d', 'link-d'); swap('d/e', 'd/link-e'); swap('d/e', 'd/link-e')
    n += 1
out(n)
"""
LOOK = "p = {top!r} + '/shared/d/e/'\nout(sorted(os.listdir(p)) if os.path.isdir(p) else None)"


def test_links_that_come_and_go_between_plan_and_start_lead_nowhere(runner):
    crew = Crew(runner)
    crew.agent("writer").agent("reader", restart={"max": 64, "within": "1s"})
    for name, rights in (("writer", ("write: []", 'write: ["${CREW_DIR}/shared/"]')),
                         ("reader", ("read: []", 'read: ["${CREW_DIR}/shared/d/e/"]'))):
        crew.files[f"{name}.yaml"] = crew.files[f"{name}.yaml"].replace(*rights)
    crew.files["writer.yaml"] = crew.files["writer.yaml"].replace("wall_time: 60s", "wall_time: 600s")
    crew.files["shared/d/e/good"] = "what the policy names"
    crew.files["secret/e/secret"] = "what it does not"
    crew.write()
    seen, failed = [], 0
    with crew.start() as running:
        client = running.client()
        look = lambda: client.submit(agent="reader", description=LOOK.format(top=str(crew.top))).result(60)
        assert look() == ["good"]
        swapping = client.submit(agent="writer", description=SWAP.format(top=str(crew.top)))
        eventually(lambda: (crew.top / "shared" / "begun").exists())
        path = crew.top / "crew.yaml"
        text = path.read_text()
        for i in range(25):
            path.write_text("".join(line.replace('agent.py"]', f'agent.py", "{i}"]') if line.startswith("  reader: ") else line
                                    for line in text.splitlines(True)))
            r = runner.crewctl("up", "--json", path)
            if r.returncode == 2:
                continue  # it is a link as it is loaded
            failed += json.loads(r.stdout)["outcome"] != "applied"
            if state_of(client, "reader") == AgentState.READY:
                seen.append(look())
        (crew.top / "shared" / "enough").write_text("")
        assert swapping.result(60) > 100
    print(len(seen), "starts seen,", failed, "refused")
    assert all(s in (["good"], []) or s is None for s in seen), seen
