# SPDX-License-Identifier: Apache-2.0
"""What the crewctl tests share: canonical audit lines, a terminal, the list of verbs."""

import fcntl
import hashlib
import json
import os
import pty
import select
import struct
import subprocess
import termios

VERBS = ["run", "up", "down", "status", "logs", "kill", "start", "stop", "submit", "cancel", "thaw", "state list", "state export",
         "state import", "state reset", "approvals", "approve", "deny", "exec", "sandbox", "policy check",
         "policy explain", "policy reload", "audit verify", "audit export", "lock", "plan",
         "doctor"]


def audit_stream(home, crew, agent, records):
    """Writes a stream with a sound chain: records are dicts with at least kind and t (seconds).  Returns its path."""
    path = home / "lib" / crew / "audit" / agent / "log.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    prev, lines = "0" * 64, []
    for seq, r in enumerate(records, 1):
        r = dict(agent=agent, crew=crew, inc=1, prev=prev, seq=seq, src="crewd") | r
        r["t"] = int(r["t"] * 1_000_000_000)
        line = json.dumps(r, sort_keys=True, separators=(",", ":"))
        prev = hashlib.sha256(line.encode()).hexdigest()
        lines.append(line)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def in_terminal(runner, *args, columns=100, rows=30, env=None, timeout=20):
    """Runs crewctl with a terminal as its standard output; returns (exit status, everything written)."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    p = subprocess.Popen(runner.argv(runner.program("crewctl"), *args), stdin=subprocess.DEVNULL, stdout=child, stderr=child,
                         env=runner.env({"TERM": "xterm-256color"} | (env or {})), cwd=runner.home)
    os.close(child)
    out = b""
    while select.select([parent], [], [], timeout)[0]:
        try:
            got = os.read(parent, 65536)
        except OSError:
            break
        if not got:
            break
        out += got
    os.close(parent)
    return p.wait(timeout), out.decode()
