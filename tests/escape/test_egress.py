# SPDX-License-Identifier: Apache-2.0
"""What an agent with endpoints tries beside them, one row an attack.

The crews live in a small Internet of their own (internet.py): real addresses, a real DNS server, servers that note whatever
arrives.  Each row runs outside the jail, where the attack must succeed, and in the jail as root and rootless, where it must
fail with exactly the errno given, be recorded under its name, and reach nobody: nothing may have arrived anywhere.
"""

import os
import re
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import conftest as escape_conftest
from escapelib import outcome
from internet import FORBIDDEN, METADATA, PUBLIC, PUBLIC6, SECOND, Internet, Jailed, eventually, gateway_of, place_attackers, runner_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network of the test's own needs root")

FORBIDDEN_NAMES = {f"{why}.test": address for why, address in FORBIDDEN.items()}
ENDPOINTS = [
    "allowed.test:7000", "allowed.test:8080", f"{SECOND}:8080", "allowed.test:7443", "allowed.test:7444", "allowed.test:7445", "*.wild.test:7000", "six.test:7000", f"{SECOND}:7000", "10.20.30.40:7000",
    "flip.test:7000", "flip6.test:7000", "mixed.test:7000", "stuck.test:7099", "pour.test:7002", "nowhere.test:7000", f"{SECOND}:7443",
    *[f"{name}:7000" for name in FORBIDDEN_NAMES],
    {"host": "http.test", "port": 8080, "methods": ["GET"], "paths": ["/open/**"]},
]
NAMES = {
    "allowed.test": {"A": [PUBLIC]}, "evil.test": {"A": [PUBLIC]}, "http.test": {"A": [PUBLIC]}, "six.test": {"AAAA": [PUBLIC6]},
    "a.wild.test": {"A": [PUBLIC]}, "wild.test": {"A": [PUBLIC]}, "a.b.wild.test": {"A": [PUBLIC]},
    "exfil.test": {"A": [PUBLIC]}, "stuck.test": {"A": [PUBLIC]}, "pour.test": {"A": [PUBLIC]},
    "nowhere.test.search.test": {"A": [PUBLIC]},
    "2130706433": {"A": [PUBLIC]}, "0x7f.1": {"A": [PUBLIC]}, "127.1": {"A": [PUBLIC]},
    **{name: {"AAAA" if ":" in a else "A": [a]} for name, a in FORBIDDEN_NAMES.items()},
}


@pytest.fixture(scope="module")
def internet():
    net = Internet()
    net.names(**{k.replace(".", "_"): v for k, v in NAMES.items()})
    yield net
    net.close()


@pytest.fixture(scope="module", params=["root", "rootless"])
def jail(request, internet, build, stage):
    attack = place_attackers(build, stage)
    runner = runner_in(internet, escape_conftest._fixtures.Runner, stage, request.param)
    j = Jailed(internet, runner, attack, ENDPOINTS,
               limits={"open_files": 12000, "connections": 256, "half_open": 32, "dns": 100})
    yield j
    j.close()


@dataclass
class Row:
    attack: str
    args: tuple
    expect: str = "ECONNRESET"   # the errno's name
    record: dict = field(default_factory=dict)  # the denial's fields; {}: what does not even reach the gateway leaves none
    reason: str = "not in allowed_endpoints"
    control: tuple = ()          # arguments of the control run, if they are others; ("-",) for none possible
    heard: tuple = ()            # kinds of events that may be seen outside (a dial that was cut before a byte)
    may_lack: str = ""

    def name(self):
        return "-".join([self.attack, *[re.sub(r"[^\w.@:]+", "_", a).strip("_") for a in self.args]])


def tcp(host, port=7000):
    return {"host": host, "port": port, "proto": "tcp"}


def dns(host):
    return {"host": host, "proto": "dns"}


DIALS = [
    # A literal address, and what else leads to one.
    Row("reach", (PUBLIC, "7000"), record=tcp(PUBLIC)),
    Row("reach", (PUBLIC6, "7000"), record=tcp(PUBLIC6)),
    Row("reach", (METADATA, "80"), record=tcp(METADATA, 80)),
    Row("reach", ("169.254.7.7", "7000"), record=tcp("169.254.7.7")),
    Row("reach", (f"::ffff:{METADATA}", "80"), record={"port": 80, "proto": "tcp"}),
    Row("reach", ("64:ff9b::a9fe:a9fe", "80"), record=tcp("64:ff9b::a9fe:a9fe", 80)),
    Row("reach", ("2002:a9fe:a9fe::1", "80"), record=tcp("2002:a9fe:a9fe::1", 80)),
    Row("reach", ("2001:0:a9fe:a9fe::1", "80"), record={"port": 80, "proto": "tcp"}),
    Row("reach", ("fd00:ec2::254", "80"), record=tcp("fd00:ec2::254", 80)),
    # The host's loopback is not the jail's.
    Row("reach", ("127.0.0.1", "7000"), "ECONNREFUSED"),
    Row("reach", ("::1", "7000"), "ECONNREFUSED"),
    Row("reach", ("2130706433", "7000"), "ECONNREFUSED"),
    Row("reach", ("0x7f.1", "7000"), "ECONNREFUSED"),
    Row("reach", ("127.1", "7000"), "ECONNREFUSED"),
    Row("reach", ("017700000001", "7000"), "ECONNREFUSED"),
    # What is allowed, on another port; the names beside it.
    Row("reach", ("allowed.test", "7001"), record=tcp("allowed.test", 7001)),
    Row("reach", (SECOND, "7001"), record=tcp(SECOND, 7001)),
    Row("reach", ("10.20.30.40", "7001"), record=tcp("10.20.30.40", 7001)),
    Row("reach", ("exfil.test", "7000"), record=tcp("exfil.test")),
    Row("reach", ("EXFIL.TEST.", "7000"), record=tcp("exfil.test")),
    Row("reach", ("exfil.test", "53"), record=tcp("exfil.test", 53), control=("-",)),
    Row("reach", ("wild.test", "7000"), record=tcp("wild.test")),
    Row("reach", ("a.b.wild.test", "7000"), record=tcp("a.b.wild.test")),
    Row("reach_fast_open", ("exfil.test", "7000"), record=tcp("exfil.test")),
    Row("reach_udp", ("exfil.test", "7000"), "EPERM", record=dns("exfil.test")),
    # An address that looks like that of a name, and is nobody's.
    Row("reach", ("198.19.200.200", "7000"), record=tcp("198.19.200.200"), control=("-",)),
    # Sockets of another kind.
    Row("reach_fast_open", (PUBLIC, "7000"), record=tcp(PUBLIC)),
    Row("reach_fast_open", (METADATA, "80"), record=tcp(METADATA, 80)),
    Row("reach_mptcp", (PUBLIC, "7000"), "EAFNOSUPPORT", may_lack="MPTCP"),
    Row("reach_sctp", (PUBLIC, "7000"), "EAFNOSUPPORT", control=("-",)),
    Row("reach_udp", (PUBLIC, "7000"), "EPERM"),
    Row("reach_udp", (PUBLIC6, "7000"), "EPERM"),
    Row("reach_udp", (PUBLIC, "443"), "EPERM"),  # QUIC
    Row("reach_udp", ("allowed.test", "7000"), "EPERM"),  # TCP is what the policy lists
    # DNS as a way out: labels, TXT, TCP, another server, numbers as names.
    Row("dns_udp", ("127.0.0.53", "c2VjcmV0.tunnel.test", "1"), "ECONNREFUSED"),
    Row("dns_udp", (PUBLIC, "c2VjcmV0.tunnel.test", "1"), "ENONET", record=dns("c2vjcmv0.tunnel.test"), control=("-",)),
    Row("dns_udp", (PUBLIC, "c2VjcmV0.tunnel.test", "16"), "EPERM", record=dns("c2vjcmv0.tunnel.test"), control=("-",)),
    Row("dns_udp", ("127.0.0.1", "bGFiZWw.tunnel.test", "1"), "ENONET", record=dns("bgfizww.tunnel.test"),
        reason="looked up, not dialled", control=("127.0.0.53", "bGFiZWw.tunnel.test", "1")),
    Row("dns_udp", ("127.0.0.1", "c2l4.tunnel.test", "28"), "ENODATA", record=dns("c2l4.tunnel.test"),
        reason="looked up, not dialled", control=("127.0.0.53", "c2l4.tunnel.test", "1")),
    *[Row("dns_udp", ("127.0.0.1", f"dHlwZQ{kind}.tunnel.test", kind), "EPERM", record=dns(f"dhlwzq{kind}.tunnel.test"),
          control=("127.0.0.53", "dHlwZQ.tunnel.test", "16")) for kind in ("2", "5", "10", "12", "15", "33", "65", "255")],
    Row("dns_udp", ("127.0.0.1", f"{'x' * 63}." * 3 + "x" * 61, "1"), "ENONET", control=("-",)),  # the longest name there is
    Row("dns_udp", ("127.0.0.1", "not_a_host.tunnel.test", "1"), "EPERM", record=dns("not_a_host.tunnel.test"),
        control=("127.0.0.53", "not_a_host.tunnel.test", "1")),
    Row("dns_udp", ("127.0.0.1", "dHh0.tunnel.test", "16"), "EPERM", record=dns("dhh0.tunnel.test"),
        control=("127.0.0.53", "dHh0.tunnel.test", "16")),
    Row("dns_udp", ("127.0.0.1", "2130706433", "1"), "EPERM", record=dns("2130706433"), control=("127.0.0.53", "2130706433", "1")),
    Row("dns_udp", ("127.0.0.1", "0x7f.1", "1"), "EPERM", record=dns("0x7f.1"), control=("127.0.0.53", "0x7f.1", "1")),
    Row("dns_udp", ("127.0.0.1", "127.1", "1"), "EPERM", record=dns("127.1"), control=("127.0.0.53", "127.1", "1")),
    Row("dns_udp", ("127.0.0.1", "allowed.test", "16"), "ENODATA", control=("-",)),
    Row("dns_tcp", ("127.0.0.53", "c2VjcmV0.tunnel.test", "1"), "ECONNREFUSED"),
    Row("dns_tcp", (PUBLIC, "c2VjcmV0.tunnel.test", "1"), record=tcp(PUBLIC, 53), control=("127.0.0.53", "x.tunnel.test", "1")),
    # The listeners of the jail itself.
    Row("reach", ("127.0.0.1", "1"), record=tcp("127.0.0.1", 1), control=("-",)),
    Row("bind_tcp", ("127.0.0.1", "1"), "EACCES"),
    Row("bind_tcp", ("0.0.0.0", "1"), "EACCES"),
    Row("bind_tcp", ("::1", "1"), "EACCES"),
    Row("bind_udp", ("127.0.0.1", "53"), "EACCES"),
    Row("bind_udp", ("0.0.0.0", "53"), "EACCES", control=("127.0.0.9", "53")),
]
# A listed name that leads where no name may lead: nothing is dialled.
DIALS += [Row("reach", (name, "7000"), record=tcp(name), reason="") for name in FORBIDDEN_NAMES]


def rows(table):
    return pytest.mark.parametrize("row", table, ids=[r.name() for r in table])


def control(jail, row):
    """The attack must succeed without the jail; a DNS question is seen by the DNS server, a dial by its server."""
    if row.control == ("-",):
        return
    r = jail.outside(row.attack, *(row.control or row.args))
    if outcome(r) != "won" and row.may_lack:
        pytest.skip(f"this kernel has no {row.may_lack}")
    assert outcome(r) == "won", f"the control run failed: {r.stdout}"
    if not row.attack.startswith("bind"):
        assert jail.internet.settled(), "the control run was not noticed"


@rows(DIALS)
def test_dials(jail, row):
    control(jail, row)
    jail.internet.settled()
    mark = jail.mark()
    r = jail.inside(row.attack, *row.args)
    assert outcome(r) == row.expect, f"{r.stdout}{r.stderr}"
    arrived = [e for e in jail.internet.events() if not asked_for_listed(e)]
    assert arrived == []
    if row.record:
        found = jail.denied_since(mark, **row.record)
        assert found, f"no record {row.record}: {jail.crew.network('client')[-3:]}"
        assert row.reason in found[0]["reason"], found[0]


def asked_for_listed(event):
    """The resolver outside may ask for a name that the policy lists; for no other."""
    return event["kind"] == "dns" and event["name"] in {e.rpartition(":")[0] for e in ENDPOINTS if isinstance(e, str)}


def test_refusals_of_addresses_say_which_and_why(jail):
    mark = jail.mark()
    jail.inside("reach", "metadata.test", "7000")
    r, *_ = jail.denied_since(mark, host="metadata.test")
    assert METADATA in r["reason"] + r.get("peer", "") and r["rule"], r


@pytest.mark.parametrize("host, at", [("allowed.test", PUBLIC), ("ALLOWED.TEST.", PUBLIC), ("a.wild.test", PUBLIC), ("six.test", PUBLIC6),
                                      (SECOND, SECOND), ("10.20.30.40", "10.20.30.40")])
def test_what_is_listed_is_reached(jail, host, at):
    """The other half of each control: the rule is what makes the difference."""
    r = jail.inside("reach", host, "7000")
    assert outcome(r) == "won", f"{r.stdout}{r.stderr}"
    assert f"reached {at} 7000" in r.stdout


def test_a_literal_by_dev_tcp_of_a_shell(jail):
    script = f"exec 3<>/dev/tcp/{PUBLIC}/7000 && head -n 1 <&3"
    assert "reached" in jail.internet.run("timeout", "20", "bash", "-c", script).stdout
    jail.internet.settled()
    r = jail.crew.exec("client", "bash", "-c", script)
    assert r.returncode != 0 and "reached" not in r.stdout
    assert jail.internet.events() == []
    assert jail.denied_since(-1, **tcp(PUBLIC))


# --- rebinding ---

@pytest.mark.parametrize("name, family, good, bad", [("flip.test", "A", PUBLIC, "127.0.0.1"), ("flip.test", "A", PUBLIC, METADATA),
                                                     ("flip6.test", "AAAA", PUBLIC6, "::1")])
def test_a_name_that_flips_leads_only_to_the_address_that_was_checked(jail, name, family, good, bad):
    jail.internet.names(**{name.replace(".", "_"): {family: [[bad], [good]]}})
    outside = {jail.outside("reach", name, "7000").stdout for _ in range(4)}
    assert any(bad in o for o in outside) and any(good in o for o in outside), outside
    jail.internet.settled()
    mark, won = jail.mark(), 0
    for _ in range(12):
        r = jail.inside("reach", name, "7000")
        assert outcome(r) in ("won", "ECONNRESET"), r.stdout
        won += outcome(r) == "won"
    arrived = jail.internet.events("tcp")
    assert {e["host"] for e in arrived} == {good} and len(arrived) == won > 0, arrived
    assert jail.denied_since(mark, host=name)


def test_a_bad_address_among_good_ones_is_never_dialled(jail):
    for order in ([PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [METADATA, "10.20.30.40", PUBLIC]):
        jail.internet.names(mixed_test={"A": order})
        jail.internet.settled()
        jail.inside("reach", "mixed.test", "7000")
        assert {e["host"] for e in jail.internet.events("tcp")} <= {PUBLIC}, order


def test_a_name_is_never_looked_up_with_the_hosts_search_domain_behind_it(jail):
    """A listed name that does not exist is not another that does, on a host with a search domain."""
    assert f"reached {PUBLIC}" in jail.outside("reach", "nowhere.test", "7000").stdout
    jail.internet.settled()
    assert outcome(jail.inside("reach", "nowhere.test", "7000")) == "ECONNRESET"
    assert {(e["kind"], e.get("name")) for e in jail.internet.events()} == {("dns", "nowhere.test")}


# --- TLS and HTTP: the name inside ---

def tls_row(attack, *args, expect="ECONNRESET", reason="SNI"):
    return pytest.param(attack, args, expect, reason, id="-".join([attack, *args]))


@pytest.mark.parametrize("attack, args, expect, reason", [
    tls_row("sni", "evil.test", reason="SNI is evil.test, dialled allowed.test"),
    tls_row("sni", "xallowed.test"),
    tls_row("no_sni", reason="without SNI"),
    tls_row("hello_of_ssl2", reason="without SNI"),
    tls_row("sni_by_bytes", "evil.test"),
    tls_row("sni_in_two_records", "evil.test"),
    tls_row("two_sni_extensions", "allowed.test", "evil.test", reason=""),
    tls_row("two_names_in_sni", "allowed.test", "evil.test", reason=""),
    tls_row("sni_behind_padding", "evil.test", reason=""),
    tls_row("sni_with_ech", "evil.test"),
])
def test_a_tls_hello_must_name_what_was_dialled(jail, attack, args, expect, reason):
    tls = (jail.attack.parent / "tls_attacks.py", attack)
    outside = jail.internet.run("/usr/bin/python3", *tls, "allowed.test", "7443", *args)
    if not attack.startswith("two_"):  # malformed for an honest server too
        assert outcome(outside) == "won", outside.stdout
    jail.internet.settled()
    mark = jail.mark()
    r = jail.script("tls_attacks.py", attack, "allowed.test", "7443", *args)
    assert outcome(r) == expect, r.stdout + r.stderr
    assert jail.internet.events("bytes") == []  # perhaps dialled, but not a byte went out
    found = jail.denied_since(mark, **tcp("allowed.test", 7443))
    assert found and reason in found[0]["reason"], found


@pytest.mark.parametrize("attack, args, wins", [
    ("alert_before_hello", ("evil.test",), True), ("other_record_version", ("evil.test", "2"), True),
    ("other_record_version", ("evil.test", "0"), True), ("cipher_change_before_hello", ("evil.test",), False),
    ("sni_in_two_records", ("evil.test",), True)], ids=lambda v: v if isinstance(v, str) else "_".join(v) if isinstance(v, tuple) else "")
def test_what_only_another_make_of_tls_takes_for_a_hello_is_judged_too(jail, attack, args, wins):
    assert jail.internet.tls_server, "no Go to build the other server with: run script/bootstrap"
    tls = (jail.attack.parent / "tls_attacks.py", attack, "allowed.test", "7444", *args)
    if wins:
        assert outcome(jail.internet.run("/usr/bin/python3", *tls)) == "won"
    jail.internet.settled()
    mark = jail.mark()
    r = jail.script("tls_attacks.py", *tls[1:])
    assert outcome(r) == "ECONNRESET", r.stdout + r.stderr
    assert jail.internet.events("bytes") == []
    assert jail.denied_since(mark, **tcp("allowed.test", 7444))
    assert outcome(jail.script("tls_attacks.py", "sni", "allowed.test", "7444", "allowed.test")) == "won"


@pytest.mark.parametrize("attack, args", [("sni", ("allowed.test",)), ("sni", ("Allowed.TEST",)), ("sni_by_bytes", ("allowed.test",)),
                                          ("sni_in_two_records", ("allowed.test",)), ("sni_behind_padding", ("allowed.test",)),
                                          ("sni_with_ech", ("allowed.test",))],
                         ids=lambda v: v if isinstance(v, str) else "_".join(v))
def test_a_tls_hello_that_names_what_was_dialled_passes(jail, attack, args):
    r = jail.script("tls_attacks.py", attack, "allowed.test", "7443", *args)
    assert outcome(r) == "won", r.stdout + r.stderr


@pytest.mark.parametrize("at_once", ["", "at_once"])
def test_the_hello_that_a_server_asks_for_again_must_name_what_was_dialled_too(jail, at_once):
    tls = ("allowed.test", "7445", "evil.test", at_once)
    jail.internet.settled()
    assert outcome(jail.internet.run("/usr/bin/python3", jail.attack.parent / "tls_attacks.py", "second_hello", *tls)) == "won"
    assert [e["name"] for e in jail.internet.events("sni")] == ["allowed.test", "evil.test"]
    mark = jail.mark()
    r = jail.script("tls_attacks.py", "second_hello", *tls)
    assert outcome(r) == "ECONNRESET", r.stdout + r.stderr
    assert {e["name"] for e in jail.internet.events("sni")} == {"allowed.test"}
    found = jail.denied_since(mark, **tcp("allowed.test", 7445))
    assert found and "SNI is evil.test, dialled allowed.test" in found[0]["reason"], found
    r = jail.script("tls_attacks.py", "second_hello", "allowed.test", "7445", "Allowed.TEST", at_once)
    assert outcome(r) == "won", r.stdout + r.stderr


def test_a_literal_rule_has_no_name_to_compare(jail):
    assert outcome(jail.script("tls_attacks.py", "no_sni", SECOND, "7443")) == "won"


@pytest.mark.parametrize("attack, within", [("huge_hello", 9), ("unfinished_hello", 30)])  # 10 s is what a hello may take
def test_a_hello_without_end_is_cut(jail, attack, within):
    jail.internet.settled()
    started = time.monotonic()
    r = jail.script("tls_attacks.py", attack, "allowed.test", "7443")
    assert outcome(r) in ("ECONNRESET", "EPIPE"), r.stdout + r.stderr
    assert time.monotonic() - started < within
    assert jail.internet.events("bytes") == []


HTTP_ATTACKS = {
    "other host": ["GET /open/x HTTP/1.1", "Host: evil.test"],
    "two hosts": ["GET /open/x HTTP/1.1", "Host: http.test:8080", "Host: evil.test"],
    "absolute form": ["GET http://evil.test/open/x HTTP/1.1", "Host: http.test:8080"],
    "other method": ["POST /open/x HTTP/1.1", "Host: http.test:8080", "Content-Length: 0"],
    "other path": ["GET /closed HTTP/1.1", "Host: http.test:8080"],
    "dot segments": ["GET /open/../closed HTTP/1.1", "Host: http.test:8080"],
    "encoded dots": ["GET /open/%2e%2e/closed HTTP/1.1", "Host: http.test:8080"],
    "tunnel": ["CONNECT evil.test:443 HTTP/1.1", "Host: evil.test:443"],
    "upgrade": ["GET /closed HTTP/1.1", "Host: http.test:8080", "Connection: Upgrade", "Upgrade: h2c"],
    "smuggled": ["GET /open/x HTTP/1.1", "Host: http.test:8080", "Content-Length: 40", "Transfer-Encoding: chunked", "",
                 "0", "", "GET /closed HTTP/1.1", "Host: http.test:8080"],
}


@pytest.mark.parametrize("request_lines", HTTP_ATTACKS.values(), ids=HTTP_ATTACKS)
def test_a_request_must_be_for_what_was_dialled_and_listed(jail, request_lines):
    tls = (jail.attack.parent / "tls_attacks.py", "http", "http.test", "8080")
    assert outcome(jail.internet.run("/usr/bin/python3", *tls, *request_lines)) == "won"
    jail.internet.settled()
    r = jail.script("tls_attacks.py", *tls[1:], *request_lines)
    assert outcome(r) in ("EACCES", "EPROTO", "ECONNRESET", "ECONNABORTED"), r.stdout + r.stderr
    assert jail.internet.events("http") == []


def test_a_second_request_on_the_same_connection_is_judged_too(jail):
    lines = ["GET /open/x HTTP/1.1", "Host: http.test:8080", "", "GET /closed HTTP/1.1", "Host: http.test:8080"]
    tls = (jail.attack.parent / "tls_attacks.py", "http", "http.test", "8080")
    jail.internet.run("/usr/bin/python3", *tls, *lines)
    assert "/closed" in "".join(e["head"] for e in jail.internet.events("http"))
    jail.script("tls_attacks.py", *tls[1:], *lines)
    heads = [e["head"] for e in jail.internet.events("http")]
    assert heads and "/closed" not in "".join(heads)


def test_a_listed_request_passes(jail):
    r = jail.script("tls_attacks.py", "http", "http.test", "8080", "GET /open/x HTTP/1.1", "Host: http.test:8080", "Connection: close")
    assert outcome(r) == "won", r.stdout + r.stderr


# --- HTTP without rules: the name inside all the same ---

PLAIN = "Host: allowed.test:8080"
PLAIN_ATTACKS = {
    "other host": (["GET /x HTTP/1.1", "Host: evil.test"], "Host is evil.test, dialled allowed.test"),
    "other host of HTTP/1.0": (["GET /x HTTP/1.0", "Host: evil.test"], "Host is evil.test, dialled allowed.test"),
    "other port": (["GET /x HTTP/1.1", "Host: allowed.test:80"], "Host is allowed.test:80, dialled allowed.test"),
    "user information": (["GET /x HTTP/1.1", "Host: allowed.test:8080@evil.test"], "Host is"),
    "no host": (["GET /x HTTP/1.1"], "no Host line"),
    "two hosts": (["GET /x HTTP/1.1", PLAIN, "Host: evil.test"], "two Host lines"),
    "host behind a blank": (["GET /x HTTP/1.1", "Host : evil.test", PLAIN], "cannot be read"),
    "host on a folded line": (["GET /x HTTP/1.1", PLAIN, "X: y", " Host: evil.test"], "cannot be read"),
    "absolute form": (["GET http://evil.test/x HTTP/1.1", PLAIN], "Host is evil.test, dialled allowed.test"),
    "tunnel": (["CONNECT evil.test:443 HTTP/1.1", PLAIN], "CONNECT is never let through"),
    "tabs": (["GET\t/x\tHTTP/1.1", "Host: evil.test"], "cannot be read"),
    "blanks": (["POST  /x  HTTP/1.1", "Host: evil.test"], "cannot be read"),
    "other version": (["POST /x HTTP/1.9", "Host: evil.test"], "version"),
    "unheard-of method": (["!x! /x HTTP/1.1", "Host: evil.test"], "Host is evil.test"),
    "HTTP/2": (["PRI * HTTP/2.0", "", "SM", ""], "HTTP/2 without TLS"),
    "bare line feeds": (["GET /x HTTP/1.1\nHost: evil.test\n"], "cannot be read"),
    "smuggled": (["POST /x HTTP/1.1", PLAIN, "Content-Length: 40", "Transfer-Encoding: chunked", "", "0", "",
                  "GET /x HTTP/1.1", "Host: evil.test"], "Content-Length and Transfer-Encoding"),
}


def refused_since(jail, mark):
    return eventually(lambda: [r for r in jail.crew.network("client", "http", host="allowed.test", port=8080)
                               if r["seq"] > mark and r["verdict"] == "denied"], 20)


@pytest.mark.parametrize("how", ["http", "http_slowly"])
@pytest.mark.parametrize("request_lines, reason", PLAIN_ATTACKS.values(), ids=PLAIN_ATTACKS)
def test_a_plain_request_must_be_for_what_was_dialled(jail, how, request_lines, reason):
    tls = (jail.attack.parent / "tls_attacks.py", how, "allowed.test", "8080", *request_lines)
    assert outcome(jail.internet.run("/usr/bin/python3", *tls)) == "won"
    jail.internet.settled()
    mark = jail.mark()
    r = jail.script("tls_attacks.py", *tls[1:])
    assert outcome(r) in ("EACCES", "EPROTO", "ECONNRESET", "EPIPE"), r.stdout + r.stderr
    assert jail.internet.events("http") == []
    found = refused_since(jail, mark)
    assert len(found) == 1 and reason in found[0]["reason"], found


@pytest.mark.parametrize("how", ["http", "http_slowly"])
@pytest.mark.parametrize("host, request_lines", [
    ("allowed.test", ["GET /any/../thing HTTP/1.1", PLAIN]), ("allowed.test", ["POST http://allowed.test/ HTTP/1.0", "host:ALLOWED.TEST."]),
    (SECOND, ["GET / HTTP/1.1", "Host: evil.test"])])  # a rule by address has no name to compare
def test_a_plain_request_for_what_was_dialled_passes(jail, how, host, request_lines):
    r = jail.script("tls_attacks.py", how, host, "8080", *request_lines)
    assert outcome(r) == "won", r.stdout + r.stderr


def test_a_second_plain_request_on_the_same_connection_is_judged_too(jail):
    lines = ["GET /open HTTP/1.1", PLAIN, "", "GET /closed HTTP/1.1", "Host: evil.test"]
    tls = (jail.attack.parent / "tls_attacks.py", "http", "allowed.test", "8080")
    jail.internet.run("/usr/bin/python3", *tls, *lines)
    assert "/closed" in "".join(e["head"] for e in jail.internet.events("http"))
    mark = jail.mark()
    jail.script("tls_attacks.py", *tls[1:], *lines)
    heads = "".join(e["head"] for e in jail.internet.events("http"))
    assert "/closed" not in heads
    assert [r["path"] for r in refused_since(jail, mark)] == ["/closed"]


# --- one agent and another ---

def test_another_agents_listener_is_not_there(jail):
    for address in ("127.0.0.1", "0.0.0.0"):
        p = jail.popen("serve", address, "7000", agent="other", stdout=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "listening\n"
        assert outcome(jail.inside("reach", "127.0.0.1", "7000")) == "ECONNREFUSED"
        assert outcome(jail.inside("reach", "127.0.0.1", "7000", agent="other")) == "won"  # the control: there it is
        assert p.wait(30) == 0


def test_a_listener_of_the_agent_does_not_stand_in_for_a_name(jail):
    """Every address is local in the jail; what is dialled goes to the gateway all the same."""
    p = jail.popen("serve", "0.0.0.0", "7000", stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "listening\n"
    r = jail.inside("reach", "allowed.test", "7000")
    assert f"reached {PUBLIC} 7000" in r.stdout
    assert outcome(jail.inside("reach", PUBLIC, "7000")) == "ECONNRESET"
    assert outcome(jail.inside("reach", "127.0.0.1", "7000")) == "won"
    p.wait(30)


def half_open_at(internet, port):
    """Connections of anybody in this Internet that wait for an answer."""
    out = internet.run("ss", "-Htn", "state", "syn-sent", f"( dport = :{port} )").stdout
    return len(out.splitlines())


def gateway_fds(jail):
    """Descriptors of this crew's gateway."""
    return len(os.listdir(f"/proc/{gateway_of(jail.running)}/fd"))


def test_ten_thousand_half_open_connections_of_one_agent_are_its_own(jail):
    n = 10000
    # The control: without the jail they all hang in the air.  (A few of the flood itself may be refused by the kernel's queues.)
    free = subprocess.Popen(jail.internet.enter(["prlimit", f"--nofile={n + 100}", str(jail.attack), "half_open", PUBLIC, "7099", str(n), "60"]),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert free.stdout.readline() == "begun\n"
    assert half_open_at(jail.internet, 7099) >= n - 100
    out, _ = free.communicate(timeout=60)  # the end of its input is that of its patience
    assert free.returncode == 0, out

    before, waiting = gateway_fds(jail), half_open_at(jail.internet, 7099)
    mark = jail.mark()
    flood = jail.popen("half_open", "stuck.test", "7099", str(n), "60", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert flood.stdout.readline() == "begun\n"
    took, most, fds = [], 0, 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        at = time.monotonic()
        r = jail.inside("reach", "allowed.test", "7000", agent="other")
        assert outcome(r) == "won", r.stdout + r.stderr
        took.append(time.monotonic() - at)
        most = max(most, half_open_at(jail.internet, 7099))
        fds = max(fds, gateway_fds(jail))
    out, _ = flood.communicate(timeout=60)
    assert outcome(subprocess.CompletedProcess([], flood.returncode, out, "")) in ("ECONNRESET", "ECONNREFUSED"), out
    assert most - waiting <= 32
    assert fds - before < 1000
    assert statistics.median(took) < 2, took  # the slowest may have waited for the machine
    eventually(lambda: any("limits." in r["reason"] for r in jail.denied_since(mark, host="stuck.test")))
    # and afterwards it may connect again
    end = time.monotonic() + 30
    while outcome(jail.inside("reach", "allowed.test", "7000")) != "won":
        assert time.monotonic() < end
        time.sleep(0.1)


def gateway_memory(jail):
    """KiB of the gateway's own."""
    text = Path(f"/proc/{gateway_of(jail.running)}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


def test_slow_readers_cost_bounded_memory_and_nobody_elses_time(jail):
    """200 connections that a server pours into and nobody reads from."""
    n = 200
    before, fds = gateway_memory(jail), gateway_fds(jail)
    readers = jail.crew.popen("client", "/usr/bin/python3", "-c", f"""
import socket, sys
to = socket.gethostbyname("pour.test")
kept = []
for _ in range({n}):
    kept.append(socket.create_connection((to, 7002), 15))
    kept[-1].recv(1)
print("up", flush=True)
sys.stdin.read()
""", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert readers.stdout.readline() == "up\n"
    took = []
    for _ in range(30):
        at = time.monotonic()
        assert outcome(jail.inside("reach", "allowed.test", "7000", agent="other")) == "won"
        took.append(time.monotonic() - at)
    assert statistics.median(took) < 2, took  # the slowest may have waited for the machine
    assert gateway_memory(jail) - before < 16 * 1024
    # Two sockets and at most one pipe for each.
    assert gateway_fds(jail) - fds <= 4 * n + 40
    readers.stdin.close()
    readers.wait(30)


def test_questions_over_the_limit_are_refused_and_the_others_answered(jail):
    flood = jail.crew.popen("client", "/usr/bin/python3", "-c", """
import socket, struct, time
q = struct.pack('!HHHHHH', 1, 256, 1, 0, 0, 0) + b'\\7allowed\\4test\\0\\0\\1\\0\\1'
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53)); s.settimeout(0.2)
good = bad = 0
began = time.monotonic()
while (took := time.monotonic() - began) < 2 or bad <= 100 and took < 40:
    try:
        for _ in range(50): s.send(q)  # many at once: more than the limit, however slowly each is answered
        for _ in range(50):
            if s.recv(512)[3] & 15: bad += 1
            else: good += 1
    except OSError:
        continue
print(good, bad, time.monotonic() - began)
""", stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        assert outcome(jail.inside("reach", "allowed.test", "7000", agent="other")) == "won"
    good, bad, took = map(float, flood.communicate(timeout=60)[0].split())
    assert bad > 100 and good <= 100 * (took + 2), (good, bad, took)  # limits.dns, and as much again at once


# --- names that no rule lists ---

UNLISTED = """
import socket, struct, sys
def ask(name):
    q = struct.pack('!HHHHHH', 1, 256, 1, 0, 0, 0) + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'
    for _ in range(50):  # limits.dns, and a full socket
        s.send(q)
        m = s.recv(512)
        if not m[3] & 15: return socket.inet_ntoa(m[-4:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53)); s.settimeout(20)
"""


def flooding(jail, n, script):
    """`script` after n look-ups of other names by an agent that may ask as often as it likes."""
    return jail.crew.exec("other", "/usr/bin/python3", "-c", UNLISTED + f"for i in range({n}): assert ask(f'n{{i}}.flood.test')\n" + script,
                          timeout=240)


def test_a_flood_of_unlisted_names_takes_no_address_from_a_listed_one(jail):
    before = flooding(jail, 1, "print(ask('allowed.test'), ask('victim.test'))").stdout.split()
    mark = jail.mark("other")
    after = flooding(jail, 5000, "print(ask('allowed.test'), ask('victim.test'))").stdout.split()
    assert before[0].startswith("198.18.") and after[0] == before[0]
    assert before[1].startswith("198.19.") and after[1].startswith("198.19.") and after[1] != before[1]
    assert outcome(jail.inside("reach", "allowed.test", "7000", agent="other")) == "won"
    # What a name had is nobody's now, and is not taken for another's.
    assert outcome(jail.inside("reach", before[1], "7000", agent="other")) == "ECONNRESET"
    assert jail.denied_since(mark, agent="other", **tcp(before[1]))
    assert outcome(jail.inside("reach", after[1], "7000", agent="other")) == "ECONNRESET"
    assert jail.denied_since(mark, agent="other", **tcp("victim.test"))
    # Not one look-up is without its count.
    end = time.monotonic() + 30
    while (n := sum(r.get("count", 1) for r in jail.crew.network("other", "denied", proto="dns") if r["seq"] > mark)) < 5000:
        assert time.monotonic() < end, n
        time.sleep(0.1)


def test_an_attempt_is_one_line_with_its_port(jail):
    mark = jail.mark()
    assert outcome(jail.inside("reach", "one-line.test", "443")) == "ECONNRESET"
    assert jail.denied_since(mark, **tcp("one-line.test", 443))
    text = jail.runner.crewctl("logs", "--agent", "client", "--filter", "denied").stdout
    assert "NETWORK: DENIED -> one-line.test:443 (not in allowed_endpoints" in text
