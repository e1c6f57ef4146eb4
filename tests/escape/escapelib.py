# SPDX-License-Identifier: Apache-2.0
"""What the escape tests share beside their fixtures."""

import re
import socket

KEY = 0x63726577  # of the System V objects outside


def host_address():
    """An address of this host that is not loopback, or None."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.connect(("192.0.2.77", 9))
        found = s.getsockname()[0]
        return None if found.startswith("127.") else found
    except OSError:
        return None
    finally:
        s.close()


def outcome(r):
    """'won', the errno's name, 'killed:SIGNAL', or the raw result for the assertion to show."""
    m = re.search(r"^denied: (\w+)", r.stdout, re.M)
    if r.returncode == 10 and m:
        return m[1]
    if r.returncode == 0:
        return "won"
    if r.returncode > 128:
        return f"killed:{r.returncode - 128}"
    if r.returncode < 0:
        return f"killed:{-r.returncode}"
    return f"exit {r.returncode}: {r.stdout} {getattr(r, 'stderr', '') or ''}"
