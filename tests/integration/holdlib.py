# SPDX-License-Identifier: Apache-2.0
"""Crews with on_supervisor_loss: hold, and the loss of their crewd."""

import re
from pathlib import Path

from crewlib import Crew, agent_status


def held_crew(runner, hold_for="60s"):
    crew = Crew(runner)
    crew.extra = f"on_supervisor_loss: hold\nhold_for: {hold_for}\n"
    return crew


def lose(running):
    """crewd is killed; its agents are not."""
    for c in running.clients:
        c.close()
    running.clients = []
    running.proc.kill()
    running.proc.wait()


def jails(crew, client):
    return {a: agent_status(client, a).pid for a in crew.agents}


def spawner_of(pid):
    """The parent of a jail's first process."""
    return int(re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def ends(crew, agent):
    return [(r["cause"], r["inc"]) for r in crew.records(agent, "agent.terminated")]
