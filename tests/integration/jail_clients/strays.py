# SPDX-License-Identifier: Apache-2.0
"""What a tool leaves behind is gone after the call; a child of the agent in a session of its own is not."""

import json
import os
import socket
import subprocess
import sys
import time

json.load(sys.stdin)
own = subprocess.Popen(["sleep", "60"], start_new_session=True, stdin=subprocess.DEVNULL)
sock = socket.socket(socket.AF_UNIX)
sock.connect(os.environ["CREW_SOCKET"])
lines = sock.makefile("rw", encoding="utf-8", newline="\n")
lines.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo_tool"}}) + "\n")
lines.flush()
left = json.loads(lines.readline())["result"]["structuredContent"]["left"]


def alive(pid):
    try:
        os.getsid(pid)
        return True
    except ProcessLookupError:
        return False


end = time.monotonic() + 5
while alive(left) and time.monotonic() < end:
    time.sleep(0.01)
json.dump({"left": alive(left), "own": own.poll() is None}, sys.stdout)
