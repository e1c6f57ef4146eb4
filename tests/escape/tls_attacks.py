#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Attackers that speak TLS or HTTP: they dial one name and ask for another.

usage: tls_attacks.py NAME HOST PORT [ARG...]     prints and exits as the program attack does (attack.h)
"""

import contextlib
import errno
import socket
import ssl
import struct
import sys
import time


def won(text):
    print("won:", text)
    sys.exit(0)


def denied(number):
    print("denied:", errno.errorcode.get(number, number))
    sys.exit(10)


def client_hello(name):
    """The first bytes of a handshake for this name (None: without server_name), as Python's TLS writes them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an attacker does not care whom it reaches
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def record(handshake):
    return b"\x16\x03\x01" + struct.pack("!H", len(handshake)) + handshake


def with_extension(hello, extension):
    """The same ClientHello with one more extension at its end."""
    body = bytearray(hello[9:])
    at = 34  # version, random
    at += 1 + body[at]
    at += 2 + struct.unpack_from("!H", body, at)[0]
    at += 1 + body[at]
    n, = struct.unpack_from("!H", body, at)
    struct.pack_into("!H", body, at, n + len(extension))
    body += extension
    return record(b"\x01" + struct.pack("!I", len(body))[1:] + bytes(body))


def server_name(*names):
    entries = b"".join(b"\0" + struct.pack("!H", len(n)) + n.encode() for n in names)
    return struct.pack("!HHH", 0, len(entries) + 2, len(entries)) + entries


def padding(n):
    return struct.pack("!HH", 0x3A3A, n) + b"\0" * n  # a type nobody knows (RFC 8701)


def dial(host, port):
    return socket.create_connection((host, int(port)), 15)


def judge_hello(s, pieces, pause=0.0):
    """Won when the server's own handshake comes back."""
    for p in pieces:
        s.sendall(p)
        time.sleep(pause)
    data = s.recv(5)
    if data[:1] == b"\x16":
        won("the server answered")
    denied(errno.ECONNABORTED if not data else errno.EPROTO)  # closed, or a TLS alert


def sni(host, port, name):
    judge_hello(dial(host, port), [client_hello(name)])


def no_sni(host, port):
    judge_hello(dial(host, port), [client_hello(None)])


def sni_by_bytes(host, port, name):
    judge_hello(dial(host, port), [bytes([b]) for b in client_hello(name)], 0.001)


def sni_in_two_records(host, port, name):
    hello = client_hello(name)[5:]
    judge_hello(dial(host, port), [record(hello[:40]), record(hello[40:])], 0.05)


def two_sni_extensions(host, port, first, second):
    judge_hello(dial(host, port), [with_extension(client_hello(first), server_name(second))])


def two_names_in_sni(host, port, first, second):
    judge_hello(dial(host, port), [with_extension(client_hello(None), server_name(first, second))])


def sni_behind_padding(host, port, name):
    judge_hello(dial(host, port), [with_extension(with_extension(client_hello(None), padding(15500)), server_name(name))])


def sni_with_ech(host, port, name):
    """An Encrypted Client Hello, or what browsers send in its place: nobody can tell (RFC 8446 extension 0xfe0d)."""
    judge_hello(dial(host, port), [with_extension(client_hello(name), struct.pack("!HH", 0xFE0D, 186) + b"\0" * 186)])


def alert_before_hello(host, port, name):
    judge_hello(dial(host, port), [b"\x15\x03\x01\0\2\1\x5a" + client_hello(name)])


def cipher_change_before_hello(host, port, name):
    judge_hello(dial(host, port), [b"\x14\x03\x03\0\1\1" + client_hello(name)])


def other_record_version(host, port, name, major):
    judge_hello(dial(host, port), [b"\x16" + bytes([int(major)]) + client_hello(name)[2:]])


def hello_of_ssl2(host, port):
    """SSL 2's form of a ClientHello for TLS 1.2: there is no room for a name in it."""
    suites = b"".join(b"\0" + s for s in (b"\x00\x9c", b"\x00\x9d", b"\x00\xff"))
    hello = b"\x01\x03\x03" + struct.pack("!HHH", len(suites), 0, 32) + suites + b"challenge of 32 bytes: any will do"[:32]
    judge_hello(dial(host, port), [struct.pack("!H", 0x8000 | len(hello)) + hello])


# A point of the curve that the server insists on (secp384r1: its generator).
SHARE_384 = bytes.fromhex(
    "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f")
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def hello_of_tls13(name, group, share):
    """A ClientHello of TLS 1.3 that offers x25519 and secp384r1, with a share for one of them."""
    def extension(kind, body):
        return struct.pack("!HH", kind, len(body)) + body
    exts = (server_name(name) + extension(43, b"\x02\x03\x04") + extension(10, struct.pack("!HHH", 4, 29, 24)) +
            extension(13, struct.pack("!HHHH", 6, 0x0403, 0x0804, 0x0401)) +
            extension(51, struct.pack("!HHH", len(share) + 4, group, len(share)) + share))
    body = (b"\x03\x03" + b"r" * 32 + b"\x20" + b"s" * 32 + struct.pack("!HH", 2, 0x1301) + b"\x01\x00" +
            struct.pack("!H", len(exts)) + exts)
    return record(b"\x01" + struct.pack("!I", len(body))[1:] + body)


def second_hello(host, port, name, at_once=""):
    """Another name in the hello that a HelloRetryRequest asks for: the server goes by that one."""
    first = hello_of_tls13(host, 29, b"\x09" + bytes(31))
    second = b"\x14\x03\x03\0\1\1" + hello_of_tls13(name, 24, SHARE_384)
    s = dial(host, port)
    s.sendall(first + second if at_once else first)
    s.settimeout(10)
    answer = s.recv(4096)
    if answer[11:43] != RETRY:
        denied(errno.EPROTO)
    if not at_once:
        s.sendall(second)
    while len(answer) < 250:  # its own hello, not an alert
        more = s.recv(4096)
        if not more:
            denied(errno.ECONNABORTED)
        answer += more
    won("the server answered")


def huge_hello(host, port):
    """A ClientHello longer than one record may be: never complete."""
    s = dial(host, port)
    for _ in range(64):
        s.sendall(record(b"\x01\xff\xff\xff" + b"x" * 16380))
    judge_hello(s, [])


def unfinished_hello(host, port):
    s = dial(host, port)
    s.settimeout(25)
    judge_hello(s, [client_hello(host)[:60]])


def complete(answer):
    """A whole HTTP answer: the connection may stay open behind it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return end and length and len(body) >= int(length[0].split(b":")[1])


def http(host, port, *lines):
    """The request given, as it stands."""
    s = dial(host, port)
    s.sendall("".join(line + "\r\n" for line in lines).encode("latin-1") + b"\r\n")
    judge_http(s)


def judge_http(s):
    data = b""
    while not complete(data) and (more := s.recv(4096)):
        data += more
    if b"reached" in data:
        won("the server answered")
    denied(errno.EACCES if data.startswith(b"HTTP/1.1 403") else errno.EPROTO if data else errno.ECONNABORTED)


def http_slowly(host, port, *lines):
    """Bit by bit, so that no piece looks like a request."""
    s = dial(host, port)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = ("".join(line + "\r\n" for line in lines) + "\r\n").encode("latin-1")
    with contextlib.suppress(BrokenPipeError):  # it may have heard enough
        for i in range(0, 40, 2):
            s.sendall(request[i:i + 2])
            time.sleep(0.02)
        s.sendall(request[40:])
    judge_http(s)


ATTACKS = {f.__name__: f for f in (sni, no_sni, sni_by_bytes, sni_in_two_records, two_sni_extensions, two_names_in_sni,
                                   sni_behind_padding, sni_with_ech, alert_before_hello, cipher_change_before_hello,
                                   other_record_version, hello_of_ssl2, second_hello, huge_hello, unfinished_hello, http, http_slowly)}

if __name__ == "__main__":
    try:
        ATTACKS[sys.argv[1]](*sys.argv[2:])
    except socket.gaierror:
        denied(errno.EHOSTUNREACH)
    except OSError as e:
        denied(e.errno or errno.ETIMEDOUT)
