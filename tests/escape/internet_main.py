# SPDX-License-Identifier: Apache-2.0
"""A small Internet for one test run, in network and mount namespaces of its own: started by internet.py.

On its loopback device live public addresses beside private, link-local and metadata ones, and on each of them servers that
say "reached ADDRESS PORT" to whoever arrives.  Its DNS server answers what a test wants it to answer.  Everything that
arrives is noted.  Commands come as JSON lines on standard input, answers go as JSON lines to standard output.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

NAMESERVER = "127.0.0.53"
A, TXT, AAAA = 1, 16, 28
GREETING, POUR, TLS, OTHER_TLS, RETRY_TLS, HTTP, STUCK = (80, 7000, 7001), 7002, 7443, 7444, 7445, 8080, 7099
LISTEN = 50

events = []
names = {}
lock = threading.Condition()
talking = 0  # connections that a server has not done with


def note(kind, **what):
    with lock:
        events.append({"kind": kind, **what})


# --- TCP and UDP ---

def count(change):
    global talking
    with lock:
        talking += change
        lock.notify_all()


def greet(s):
    host, port = s.getsockname()[:2]
    note("tcp", host=host, port=port)
    with contextlib.suppress(OSError), s:
        s.sendall(f"reached {host} {port}\n".encode())
        s.settimeout(60)
        while data := s.recv(4096):
            note("bytes", port=port, n=len(data))


def pour(s):
    with contextlib.suppress(OSError), s:
        while True:
            s.sendall(b"z" * 65536)


def tls_greet(context):
    def handle(s):
        host, port = s.getsockname()[:2]
        note("tcp", host=host, port=port)
        s.settimeout(20)
        with contextlib.suppress(OSError), s:
            if not s.recv(1, socket.MSG_PEEK):
                return
            note("bytes", port=port, n=1)
            with context.wrap_socket(s, server_side=True) as t:
                t.sendall(f"reached {host} {port}\n".encode())
    return handle


def pass_to(server):
    """Notes what arrives and hands it to a server of another make."""
    def copy(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)  # also behind a client that reset

    def handle(s):
        host, port = s.getsockname()[:2]
        note("tcp", host=host, port=port)
        s.settimeout(20)
        with contextlib.suppress(OSError), s:
            if not s.recv(1, socket.MSG_PEEK):
                return
            note("bytes", port=port, n=1)
            with socket.create_connection(server) as other:
                threading.Thread(target=copy, args=(s, other), daemon=True).start()
                copy(other, s)
    return handle


def http_greet(s):
    host, port = s.getsockname()[:2]
    note("tcp", host=host, port=port)
    s.settimeout(20)
    with contextlib.suppress(OSError), s:
        head = b""
        while b"\r\n\r\n" not in head:
            more = s.recv(4096)
            if not more:
                return
            head += more
        note("http", head=head.decode("latin-1"))
        body = f"reached {host} {port}\n".encode()
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


def serve_tcp(family, port, handle):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    s.listen(LISTEN)

    def serve(c):
        try:
            handle(c)
        finally:
            count(-1)

    def accept():
        while True:
            c, _ = s.accept()
            count(1)
            threading.Thread(target=serve, args=(c,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def serve_udp(family, port):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))

    def answer():
        while True:
            _, peer = s.recvfrom(2048)
            note("udp", port=port)
            s.sendto(b"reached by udp\n", peer)
    threading.Thread(target=answer, daemon=True).start()


def stuck_port():
    """A listener whose queue is full: what is dialled there stays half-open."""
    s = socket.socket()
    s.bind(("0.0.0.0", STUCK))
    s.listen(0)
    keep = [s]
    for _ in range(3):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(("127.0.0.1", STUCK))
        keep.append(c)
    return keep


# --- DNS ---

def question(m):
    labels, at = [], 12
    while m[at]:
        labels.append(m[at + 1:at + 1 + m[at]].decode("latin-1"))
        at += 1 + m[at]
    kind, = struct.unpack_from("!H", m, at + 1)
    return ".".join(labels).lower(), kind, at + 5


def addresses_of(name, kind):
    """None: no such name.  A list of lists is answered in turn, one for each question: a name that flips."""
    with lock:
        entry = names.get(name)
        if entry is None and name.endswith(".tunnel.test"):
            entry = {"A": ["93.184.215.14"], "TXT": ["bytes from far away"]}
        if entry is None:
            return None
        key = {A: "A", AAAA: "AAAA", TXT: "TXT"}.get(kind)
        found = entry.get(key, [])
        if found and isinstance(found[0], list):
            found.append(found.pop(0))
            found = found[-1]
        return list(found)


def answer_dns(m, how):
    name, kind, end = question(m)
    note("dns", name=name, type=kind, how=how)
    found = addresses_of(name, kind)
    records = b""
    for a in found or []:
        data = (socket.inet_pton(socket.AF_INET, a) if kind == A else socket.inet_pton(socket.AF_INET6, a) if kind == AAAA
                else bytes([len(a)]) + a.encode())
        records += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(data)) + data
    flags = 0x8580 | (3 if found is None else 0)
    return m[:2] + struct.pack("!HHHHH", flags, 1, len(found or []), 0, 0) + m[12:end] + records


def serve_dns():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((NAMESERVER, 53))
    tcp = socket.socket()
    tcp.bind((NAMESERVER, 53))
    tcp.listen(LISTEN)

    def by_udp():
        while True:
            m, peer = udp.recvfrom(2048)
            udp.sendto(answer_dns(m, "udp"), peer)

    def by_tcp():
        while True:
            s, _ = tcp.accept()
            with contextlib.suppress(OSError), s:
                s.settimeout(5)
                m = s.recv(2048)
                if len(m) > 14:
                    a = answer_dns(m[2:], "tcp")
                    s.sendall(struct.pack("!H", len(a)) + a)

    threading.Thread(target=by_udp, daemon=True).start()
    threading.Thread(target=by_tcp, daemon=True).start()


# --- the place ---

def run(*argv):
    subprocess.run(argv, check=True)


def settle(addresses, resolv):
    run("ip", "link", "set", "lo", "up")
    run("sysctl", "-q", "-w", "net.ipv4.tcp_syn_retries=6", "net.core.somaxconn=4096")
    for a in addresses:
        run("ip", "addr", "add", f"{a}/{128 if ':' in a else 32}", "dev", "lo")
    run("mount", "--make-rprivate", "/")
    with open(resolv, "w") as f:
        f.write(f"nameserver {NAMESERVER}\nsearch search.test\noptions timeout:20 attempts:1\n")
    os.chmod(resolv, 0o644)
    run("mount", "--bind", resolv, "/etc/resolv.conf")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def taken():
    with lock:
        found = events[:]
        events.clear()
    return found


def command(c):
    if c["do"] == "events":
        time.sleep(c["after"])
        return taken()
    if c["do"] == "settled":
        with lock:
            return taken() if lock.wait_for(lambda: not talking, c["within"]) else None
    if c["do"] == "names":
        with lock:
            names.update(c["names"])
        return True
    raise ValueError(c)


def tls_context(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for certificate in certificates:
        context.load_cert_chain(*certificate)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # as many have it: old clients are served too
    context.sni_callback = lambda tls, name, _: note("sni", name=name)
    return context


def main():
    setup = json.loads(sys.stdin.readline())
    settle(setup["addresses"], setup["resolv"])
    context, picky = tls_context(setup["certificates"]), tls_context(setup["certificates"])
    picky.set_ecdh_curve("secp384r1")  # no client offers a share for it unasked: a HelloRetryRequest to each
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in GREETING:
            serve_tcp(family, port, greet)
        serve_tcp(family, POUR, pour)
        serve_tcp(family, TLS, tls_greet(context))
        serve_tcp(family, RETRY_TLS, tls_greet(picky))
        serve_tcp(family, OTHER_TLS, pass_to(("127.0.0.1", 17444)))
        serve_tcp(family, HTTP, http_greet)
        for port in (443, 7000):
            serve_udp(family, port)
    if setup["tls_server"]:
        subprocess.Popen([setup["tls_server"], "127.0.0.1:17444", *setup["certificates"][0]], preexec_fn=die_with_parent)
    serve_dns()
    keep = stuck_port()
    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        print(json.dumps(command(json.loads(line))), flush=True)
    del keep


if __name__ == "__main__":
    main()
