# SPDX-License-Identifier: Apache-2.0
# What every hostile script begins with; in front of it the test puts sdk/python/crewd/_schema.py and codec.py.
# Nothing here minds the rules: texts may be bytes, numbers anything, frames as long as one likes.
import os, socket, struct, sys, time

L = socket.socket(fileno=int(os.environ["CREW_LINK_FD"]))
ME, INCARNATION = os.environ["AGENT"], int(os.environ["INCARNATION"])
GREETING = b"\0SP\0\0\x11\0\0"
seq = 0
_in = bytearray()
_greeted = False


def bare(message, **values):
    """Encodes without a single check."""
    out = bytearray()
    for number, name, kind, repeated, _ in MESSAGES[message]:
        if name not in values:
            continue
        for item in values[name] if repeated else [values[name]]:
            if isinstance(item, dict):
                item = bare(kind[4:], **item)
            if isinstance(item, str):
                item = item.encode("utf-8", "surrogatepass")
            if isinstance(item, (bytes, bytearray)):
                out += _varint(number << 3 | 2) + _varint(len(item)) + item
            elif item or kind.startswith("msg:"):
                out += _varint(number << 3) + _varint(int(item) & 2**64 - 1)
    return bytes(out)


def frame(body, corr=0, at=None, version=1, deadline_ms=0, ack=0, **values):
    """The next frame; at: with this number instead of its own."""
    global seq
    if at is None:
        seq += 1
    return bare("Envelope", version=version, seq=seq if at is None else at, corr=corr, deadline_ms=deadline_ms,
                ack=ack, **{body: values})


def raw(data):
    L.sendall(data)


def wire(payload, length=None):
    raw(struct.pack(">BQI", 1, (len(payload) if length is None else length) + 4, 1) + payload)


def say(body, corr=0, **values):
    """Sends one frame; its number."""
    wire(frame(body, corr, **values))
    return seq


def need(n):
    while len(_in) < n:
        got = L.recv(1 << 16)
        if not got:
            os._exit(0)
        _in.extend(got)


def take(n):
    need(n)
    data = bytes(_in[:n])
    del _in[:n]
    return data


def hear():
    """(envelope, body's name, message) of the next frame that is no ping; those are answered."""
    global _greeted
    if not _greeted:
        take(len(GREETING))
        _greeted = True
    while True:
        need(13)
        n = struct.unpack(">BQI", _in[:13])[1] + 9
        need(n)
        envelope, body, message = decode_envelope(take(n)[13:])
        if body != "ping":
            return envelope, body, message
        say("pong", envelope.seq, processes=1)


def hear_of(*wanted):
    while True:
        got = hear()
        if got[1] in wanted:
            return got


def hear_for(seconds):
    """All frames of so many seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        L.settimeout(left)
        try:
            yield hear()
        except TimeoutError:
            break
    L.settimeout(None)


def back():
    """Waits until crewd is gone and another has made a link, and is on it."""
    global L, _greeted
    try:
        while L.recv(1 << 16):
            pass
    except OSError:
        pass
    lifeline = socket.socket(fileno=int(os.environ["CREW_LIFELINE_FD"]))
    _, fds, _, _ = socket.recv_fds(lifeline, 4096, 1)
    L, _greeted = socket.socket(fileno=fds[0]), False
    L.setblocking(True)
    _in.clear()
    raw(GREETING)


def resume(received=2, sent=None, incarnation=INCARNATION, at=1):
    wire(frame("resume", at=at, incarnation=incarnation, received=received, sent=seq if sent is None else sent))


def hello(**values):
    say("hello", **{"protocol": 1, "agent": ME, "incarnation": INCARNATION, **values})


def come_up():
    raw(GREETING)
    hello()
    hear_of("welcome")
    say("ready")


def stay():
    """Behaves from now on, until crewd is gone."""
    while True:
        envelope, body, message = hear()
        if body == "shutdown":
            os._exit(0)


def begin():
    """Comes up and waits for its task: everybody is there now."""
    come_up()
    return hear_of("task_start")


def result(task_id, **values):
    return say("task_result", **{"task_id": task_id, "outcome": 1, "result": "{}", **values})


def five(what):
    for _ in range(5):
        what()
