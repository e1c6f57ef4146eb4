# SPDX-License-Identifier: Apache-2.0
"""Messages over a stream socket, as nng's pair1 over ipc:// sends them."""
import os
import socket
import struct

HELLO = b"\0SP\0\0\x11\0\0"
MAX_FRAME = 16 << 20
_HEADER = struct.Struct(">BQ")  # type 1, length of what follows; then a hop count of four bytes
_HOPS = b"\0\0\0\1"


class WireError(Exception):
    """The other side does not speak this protocol, or went away (then .closed)."""

    def __init__(self, text, closed=False):
        super().__init__(text)
        self.closed = closed


def _timeval(microseconds):
    return struct.pack("@ll", *divmod(microseconds, 1_000_000))


class Wire:
    """One connection.  send() and recv() may be used from two threads; neither from two at once."""

    def __init__(self, sock):
        self._sock = sock
        self._in = bytearray()
        self._greeted = False
        self._sendall(HELLO)

    @classmethod
    def connect(cls, path, timeout=None):
        """path may be longer than a socket address: it is reached through its directory's descriptor.

        timeout in seconds, None for none (0: next to none): how long a peer is waited for that has a full backlog; then TimeoutError."""
        directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if timeout is not None:
                # Not settimeout(): a full backlog then is EAGAIN at once, and nothing announces room in it (unix(7)).
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(max(1, round(timeout * 1_000_000))))
            try:
                sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            except BlockingIOError as e:
                raise TimeoutError(f"nobody took the connection within {timeout} s") from e
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
            return cls(sock)
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory)

    def _sendall(self, data):
        try:
            self._sock.sendall(data)
        except OSError as e:
            raise WireError(f"sending failed: {e.strerror}", closed=True) from e

    def send(self, frame):
        self._sendall(_HEADER.pack(1, len(frame) + len(_HOPS)) + _HOPS + frame)

    def fileno(self):
        """For poll(); what pending says is not announced there any more."""
        return self._sock.fileno()

    @property
    def pending(self):
        """Something was read that recv() has not given yet."""
        return bool(self._in)

    def recv(self):
        """The next frame; blocks."""
        if not self._greeted:
            if self._take(len(HELLO)) != HELLO:
                raise WireError("not an nng pair1 peer")
            self._greeted = True
        kind, length = _HEADER.unpack(self._take(_HEADER.size))
        if kind != 1 or length < len(_HOPS):
            raise WireError("broken message header")
        if length - len(_HOPS) > MAX_FRAME:
            raise WireError(f"a frame of {length - len(_HOPS)} bytes is announced, at most {MAX_FRAME} are allowed")
        if self._take(len(_HOPS)) != _HOPS:
            raise WireError("unexpected hop count")
        return self._take(length - len(_HOPS))

    def _take(self, n):
        while len(self._in) < n:
            try:
                data = self._sock.recv(min(max(n - len(self._in), 4096), 1 << 16))
            except OSError as e:
                raise WireError(f"receiving failed: {e.strerror}", closed=True) from e
            if not data:
                raise WireError("the connection was closed", closed=True)
            self._in += data
        out = bytes(self._in[:n])
        del self._in[:n]
        return out

    def close(self):
        """Also wakes a recv() in another thread."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
