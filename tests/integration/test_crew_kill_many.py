# SPDX-License-Identifier: Apache-2.0
"""One of sixteen agents is killed every 100 ms; of the others' messages not one is lost, doubled or out of order."""

import time

import crewd
from crewlib import Crew, eventually, go, state_of

PAIRS = 3
VICTIMS = 10  # in turn, so that each has the time of its back-off
SECONDS = 5

# Says every number until it is told to end, each once: a send that is answered was delivered.
SENDER = """
n = 0
s = __import__('socket').socket(__import__('socket').AF_UNIX)
s.connect(os.environ['CREW_SOCKET'])
f = s.makefile('rw')
def rpc(method, params):
    f.write(json.dumps({{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}}) + '\\n')
    f.flush()
    answer = json.loads(f.readline())
    assert 'result' in answer, answer
    return answer['result']
while n <= 50 or not os.path.exists(os.environ['CREW_STATE'] + '/go'):
    n += 1
    assert rpc('crew/send', {{"target": "{to}", "payload": n}}) == {{"delivered": True}}
    time.sleep(0.005)
rpc('crew/send', {{"target": "{to}", "payload": "end"}})
out(n)
"""

RECEIVER = """
got = []
s = __import__('socket').socket(__import__('socket').AF_UNIX)
s.connect(os.environ['CREW_SOCKET'])
f = s.makefile('rw')
while True:
    f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "crew/receive", "params": {}}) + '\\n')
    f.flush()
    payload = json.loads(f.readline())['result']['payload']
    if payload == 'end':
        break
    got.append(payload)
out({"n": len(got), "in_order": got == list(range(1, len(got) + 1))})
"""


def test_kills_lose_no_message_of_the_others(runner):
    crew = Crew(runner)
    for i in range(PAIRS):
        crew.agent(f"s{i}", targets=[f"r{i}"]).agent(f"r{i}")
    victims = [f"v{i}" for i in range(VICTIMS)]
    for name in victims:
        crew.agent(name, restart={"max": 60, "within": "60s"})
    assert len(crew.agents) == 16
    with crew.start() as running:
        client = running.client()
        receivers = [client.submit(agent=f"r{i}", description=RECEIVER) for i in range(PAIRS)]
        senders = [client.submit(agent=f"s{i}", description=SENDER.format(to=f"r{i}")) for i in range(PAIRS)]
        kills, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end or kills < 30:
            started = time.monotonic()
            eventually(lambda: state_of(client, victims[kills % VICTIMS]) == crewd.AgentState.READY)
            client.kill(victims[kills % VICTIMS], "again")
            kills += 1
            time.sleep(max(0, 0.1 - (time.monotonic() - started)))
        for i in range(PAIRS):
            go(crew, f"s{i}")
        sent = [s.result(60) for s in senders]
        got = [r.result(60) for r in receivers]
        assert all(g["in_order"] for g in got)
        assert [g["n"] for g in got] == sent and min(sent) > 50, (sent, got)
        assert all(state_of(client, f"{k}{i}") == crewd.AgentState.READY for i in range(PAIRS) for k in "sr")
    assert sum(len(crew.records(v, "agent.kill")) for v in victims) == kills
    received = sum(len(crew.records(f"r{i}", "message.received")) for i in range(PAIRS))
    assert received == sum(sent) + PAIRS
