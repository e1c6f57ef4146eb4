# SPDX-License-Identifier: Apache-2.0
"""Opens N connections to HOST:PORT at once, talks over each, then over each again, and prints how many answered.

usage: many.py HOST PORT N
"""

import selectors
import socket
import sys
import time

host, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
to = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]


def turn(sockets, text):
    """text and back over all of them: how many answered right."""
    waiting = selectors.DefaultSelector()
    for i, s in enumerate(sockets):
        s.sendall(text(i))
        waiting.register(s, selectors.EVENT_READ, (i, bytearray()))
    right, end = 0, time.monotonic() + 60
    while waiting.get_map() and time.monotonic() < end:
        for key, _ in waiting.select(1):
            i, got = key.data
            try:
                data = key.fileobj.recv(65536)
            except OSError:
                data = b""
            got += data
            if not data or len(got) >= len(text(i)):
                right += got == text(i)
                waiting.unregister(key.fileobj)
    return right


sockets = []
for _ in range(n):
    s = socket.socket(to[0], to[1])
    s.connect(to[4])
    sockets.append(s)
first = turn(sockets, lambda i: b"%07d" % i * 10)
second = turn(sockets, lambda i: b"again %d" % i)
print(len(sockets), first, second)
