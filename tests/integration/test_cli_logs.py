# SPDX-License-Identifier: Apache-2.0
"""crewctl logs and audit verify on files: no crew runs here."""

import json
import os
import re
import subprocess
import time

import pytest

from cli_help import audit_stream, in_terminal
from conftest import Runner

NOON = 1_774_008_000  # 2026-03-20 12:00:00 UTC
UTC = {"TZ": "UTC"}


@pytest.fixture
def ctl(stage, crew_home):
    r = Runner(stage, crew_home, "root")
    yield r
    r.stop_all()


@pytest.fixture
def crew(ctl):
    audit_stream(ctl.home, "finance", "collector", [
        dict(kind="agent.ready", t=NOON),
        dict(kind="network.denied", t=NOON + 2, host="exfil.attacker.com", port=443),
        dict(kind="file.denied", t=NOON + 3, path="/data/client-portfolios/", access="fs.read_dir"),
        dict(kind="tool.call", t=NOON + 5, tool="market_api", verdict="ALLOWED", args_sha256="12ab" * 16),
    ])
    audit_stream(ctl.home, "finance", "writer", [
        dict(kind="agent.ready", t=NOON + 1),
        dict(kind="file.denied", t=NOON + 4, path="/etc/shadow", access="fs.read_file"),
    ])
    return ctl


def logs(ctl, *args, **kw):
    r = ctl.crewctl("logs", *args, env=UTC, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


def test_denials_of_one_agent(crew):
    assert logs(crew, "--agent", "collector", "--filter", "denied") == [
        "[2026-03-20 12:00:02] NETWORK: DENIED -> exfil.attacker.com:443 (not in allowed_endpoints)",
        "[2026-03-20 12:00:03] FILE_READ: DENIED -> /data/client-portfolios/ (not in read policy)",
    ]


def test_all_agents_are_merged_by_time_with_their_names(crew):
    lines = logs(crew)
    assert [line.split()[0] for line in lines] == ["collector", "writer", "collector", "collector", "writer", "collector"]
    assert lines[4] == "writer     [2026-03-20 12:00:04] FILE_READ: DENIED -> /etc/shadow (not in read policy)"


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 100])
def test_last_is_the_tail_of_the_whole(crew, n):
    assert logs(crew, "--last", str(n)) == (logs(crew)[-n:] if n else [])
    assert logs(crew, "--agent", "collector", "-n", str(n)) == (logs(crew, "--agent", "collector")[-n:] if n else [])


def test_last_counts_after_the_filter(crew):
    assert logs(crew, "--filter", "denied", "--last", "2") == logs(crew, "--filter", "denied")[-2:]


@pytest.mark.parametrize("since,want", [
    ("2026-03-20 12:00:03", 4 - 1), ("2026-03-20T12:00:05Z", 1), (f"@{NOON}", 6), ("1h", 0), ("2026-03-21", 0)])
def test_since(crew, since, want):
    assert len(logs(crew, "--since", since)) == want


def test_json_is_the_record_as_it_stands(crew):
    path = crew.home / "lib/finance/audit/collector/log.jsonl"
    assert crew.crewctl("logs", "--agent", "collector", "--json").stdout == path.read_text()
    for line in crew.crewctl("logs", "--json").stdout.splitlines():
        assert json.loads(line)["crew"] == "finance"


def test_unknown_agent_lists_the_agents(crew):
    r = crew.crewctl("logs", "--agent", "colector")
    assert r.returncode == 3
    assert r.stderr == ("crewctl: no agent 'colector' in crew finance\n"
                        "  agents: collector, writer   (did you mean collector?)\n")


def test_unknown_filter_lists_the_filters(crew):
    r = crew.crewctl("logs", "--filter", "denyed")
    assert r.returncode == 2
    assert r.stderr.startswith("crewctl: unknown filter 'denyed'\n  filters: denied, ")
    assert "(did you mean denied?)" in r.stderr


def test_bad_times_and_counts_are_refused(crew):
    r = crew.crewctl("logs", "--since", "yesterday")
    assert r.returncode == 2 and "--since does not know the time 'yesterday'" in r.stderr
    r = crew.crewctl("logs", "--last", "few")
    assert (r.returncode, r.stderr) == (2, "crewctl: --last needs a number, not 'few'\n")


def test_several_crews_must_be_told_apart(crew):
    audit_stream(crew.home, "other", "x", [dict(kind="agent.ready", t=1)])
    r = crew.crewctl("logs")
    assert r.returncode == 2
    assert r.stderr == "crewctl: 2 crews have an audit here; say which with --crew\n  crews: finance, other\n"
    assert len(logs(crew, "--crew", "finance")) == 6
    r = crew.crewctl("logs", "--crew", "othr")
    assert r.returncode == 3 and "(did you mean other?)" in r.stderr


def test_what_a_file_says_cannot_act_on_the_terminal(ctl):
    path = audit_stream(ctl.home, "c", "a", [
        dict(kind="file.denied", t=NOON, path="/x\033[2J\n[2026-03-20 12:00:00] AGENT: READY \u202e", access="fs.read_file")])
    with open(path, "ab") as f:
        f.write(b"\033]0;owned\007 not a record \xff\r\n")
    status, out = in_terminal(ctl, "logs", "--agent", "a", env=UTC | {"NO_COLOR": "1"})
    assert status == 0
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\u202e]", out)
    assert len(out.splitlines()) == 2
    assert "not a record:" in out
    lines = ctl.crewctl("logs", "--agent", "a", "--json").stdout.splitlines()
    assert "unreadable" in json.loads(lines[1])


def test_no_escape_codes_in_a_pipe(crew):
    assert "\033" not in crew.crewctl("logs", env={"TERM": "xterm-256color"}).stdout
    assert "\033[31mDENIED" in in_terminal(crew, "logs")[1]


class Follow:
    def __init__(self, ctl, *args):
        self.p = ctl.popen(ctl.program("crewctl"), "logs", "--follow", *args, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=UTC)
        os.set_blocking(self.p.stdout.fileno(), False)
        self.text = ""

    def until(self, word, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.text += (self.p.stdout.read() or b"").decode()
            if word in self.text:
                return
            time.sleep(0.01)
        raise AssertionError(f"{word!r} did not come: {self.text!r}")

    def begun(self, path, seconds=20):
        """Once it shows what comes, where it shows nothing else: what came before it looked is not shown."""
        end = time.monotonic() + seconds
        while "are you there" not in self.text:
            assert time.monotonic() < end
            append(path, task="are you there", t=NOON)
            time.sleep(0.05)
            self.text += (self.p.stdout.read() or b"").decode()


def append(path, **record):
    with open(path, "a") as f:
        f.write(json.dumps(dict(agent="a", crew="c", inc=1, prev="0" * 64, seq=9, src="crewd", kind="task.started") | record,
                           sort_keys=True, separators=(",", ":")) + "\n")


def test_follow_shows_what_comes(ctl):
    path = audit_stream(ctl.home, "c", "a", [dict(kind="task.started", t=NOON, task="before")])
    f = Follow(ctl, "--last", "0")
    f.begun(path)
    append(path, task="first", t=NOON)
    f.until("first")
    assert "before" not in f.text
    line = json.dumps(dict(agent="a", crew="c", inc=1, kind="task.started", prev="0" * 64, seq=9, src="crewd", t=NOON,
                           task="torn"), sort_keys=True, separators=(",", ":"))
    with open(path, "a") as out:
        out.write(line[:40])
        out.flush()
        time.sleep(0.2)
        out.write(line[40:] + "\n")
    f.until("torn")
    assert f.text.count("torn") == 1 and "not a record" not in f.text


def test_follow_survives_rotation_and_truncation(ctl):
    path = audit_stream(ctl.home, "c", "a", [dict(kind="task.started", t=NOON, task="one")])
    f = Follow(ctl, "--agent", "a")
    f.until("one")
    path.rename(path.with_suffix(".1"))
    append(path, task="two", t=NOON)
    f.until("two")
    append(path, task="three", t=NOON)
    f.until("three")
    path.write_text("")
    time.sleep(0.3)
    append(path, task="four", t=NOON)
    f.until("four")
    assert f.text.count("two") == 1
    f.p.terminate()
    assert "the log of a was shortened" in f.p.communicate()[1].decode()


def test_follow_finds_agents_that_come_later(ctl):
    audit_stream(ctl.home, "c", "a", [dict(kind="task.started", t=NOON, task="one")])
    f = Follow(ctl)
    f.until("one")
    audit_stream(ctl.home, "c", "newcomer", [dict(kind="task.started", t=NOON, task="two")])
    f.until("newcomer")


def test_follow_ends_when_its_reader_leaves(ctl):
    path = audit_stream(ctl.home, "c", "a", [dict(kind="task.started", t=NOON, task="one")])
    f = Follow(ctl)
    f.until("one")
    f.p.stdout.close()
    append(path, task="two", t=NOON)
    f.p.wait(20)
    assert f.p.stderr.read() == b""
    f.p.stderr.close()
    f.p.stdout = f.p.stderr = None


# --- audit verify ---

def test_an_intact_audit(crew):
    r = crew.crewctl("audit", "verify")
    assert r.returncode == 0
    lines = r.stdout.splitlines()
    assert re.fullmatch(r"  ! collector        4 records  intact, not signed   head [0-9a-f]{64}", lines[0])
    assert lines[-1] == "2 streams, 6 records: intact"
    report = json.loads(crew.crewctl("audit", "verify", "--json").stdout)
    assert report["intact"] and report["records"] == 6
    assert [s["stream"] for s in report["streams"]] == ["collector", "writer"]


def test_without_a_name_no_crew_is_left_out(crew):
    bad = audit_stream(crew.home, "alpha", "collector", [dict(kind="task.started", t=NOON, task=t) for t in "abc"])
    r = crew.crewctl("audit", "verify")
    assert r.returncode == 0
    assert [line.split()[1] for line in r.stdout.splitlines()[:-1]] == ["alpha/collector", "finance/collector",
                                                                        "finance/writer"]
    bad.write_text(bad.read_text().replace('"b"', '"x"'))
    r = crew.crewctl("audit", "verify")
    assert r.returncode == 1 and "✗ alpha/collector" in r.stdout
    assert crew.crewctl("audit", "verify", "--crew", "finance").returncode == 0
    assert crew.crewctl("audit", "verify", "--agent", "collector").returncode == 2    # of which crew?


@pytest.mark.parametrize("what", ["changed", "removed", "inserted", "reordered"])
def test_a_tampered_record_is_named(crew, what):
    path = crew.home / "lib/finance/audit/collector/log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if what == "changed":
        lines[1] = lines[1].replace("exfil.attacker.com", "good.example.com")
    elif what == "removed":
        del lines[1]
    elif what == "inserted":
        lines.insert(1, lines[1])
    else:
        lines[1], lines[2] = lines[2], lines[1]
    path.write_text("".join(lines))
    r = crew.crewctl("audit", "verify")
    assert r.returncode == 1
    assert re.search(r"✗ collector +\d+ records? +BROKEN at line [23] \(record \d\)", r.stdout), r.stdout
    assert str(path) in r.stdout
    assert r.stdout.endswith("1 of 2 streams BROKEN\n")
    assert crew.crewctl("audit", "verify", "--agent", "writer").returncode == 0
    report = json.loads(crew.crewctl("audit", "verify", "--json").stdout)
    assert not report["intact"] and report["streams"][0]["bad_line"] in (2, 3)


def test_a_torn_tail_is_said_and_is_no_break(crew):
    path = crew.home / "lib/finance/audit/collector/log.jsonl"
    path.write_text(path.read_text() + '{"agent":"coll')
    r = crew.crewctl("audit", "verify", "--agent", "collector")
    assert "the last line is cut off" in r.stdout
    assert r.returncode == 0


def test_verify_takes_files(crew):
    path = crew.home / "lib/finance/audit/collector/log.jsonl"
    r = crew.crewctl("audit", "verify", path)
    assert r.returncode == 0 and "4 records" in r.stdout
    r = crew.crewctl("audit", "verify", "/nowhere/log.jsonl")
    assert (r.returncode, r.stderr) == (2, "crewctl: cannot read /nowhere/log.jsonl: No such file or directory\n")
    r = crew.crewctl("audit", "verify", "/dev/zero")
    assert r.returncode == 2 and "not a regular file" in r.stderr


def test_verify_in_ascii(crew):
    r = crew.crewctl("audit", "verify", env={"LANG": "C"})
    assert r.stdout.isascii() and "!! collector" in r.stdout
