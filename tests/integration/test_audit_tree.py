# SPDX-License-Identifier: Apache-2.0
"""Trees and signed checkpoints of a real crew's audit, checked by crewctl and by a verifier of our own that knows the
formats from their specifications alone; and what happens to files that somebody was at."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time

import pytest

from crewlib import Crew, eventually


# --- a verifier of our own: RFC 6962 by recursion, C2SP notes by splitting, Ed25519 by openssl ---

def sha256(data):
    return hashlib.sha256(data).digest()


def root_of(lines):
    if not lines:
        return sha256(b"")
    if len(lines) == 1:
        return sha256(b"\0" + lines[0])
    k = 1
    while k * 2 < len(lines):
        k *= 2
    return sha256(b"\1" + root_of(lines[:k]) + root_of(lines[k:]))


def lines_of(path):
    return path.read_bytes().split(b"\n")[:-1]


def public_key(text):
    name, key_hash, b64 = text.strip().split("+", 2)
    raw = base64.b64decode(b64, validate=True)
    assert raw[:1] == b"\x01" and len(raw) == 33
    assert sha256(name.encode() + b"\n" + raw)[:4].hex() == key_hash
    return name, key_hash, raw[1:]


def checked_note(path, key_text, tmp):
    """(origin, lines, root, bytes) of a checkpoint whose signature openssl has found good."""
    name, key_hash, key = public_key(key_text)
    text = path.read_bytes()
    body, _, signatures = text.partition(b"\n\n")
    body += b"\n"
    m = re.fullmatch(r"— (\S+) (\S+)\n", signatures.decode())
    assert m[1] == name
    signature = base64.b64decode(m[2], validate=True)
    assert signature[:4].hex() == key_hash
    (tmp / "key.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + key)
    (tmp / "body").write_bytes(body)
    (tmp / "sig").write_bytes(signature[4:])
    r = subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", tmp / "key.der",
                        "-in", tmp / "body", "-sigfile", tmp / "sig"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True)
    assert r.returncode == 0, r.stdout
    origin, n, root, edge = body.decode().split("\n")[:4]
    return origin, int(n), base64.b64decode(root), int(re.fullmatch(r"edge (\d+) \S*", edge)[1])


class Audit:
    def __init__(self, crew, tmp):
        self.runner, self.crew, self.tmp = crew.runner, crew, tmp
        self.dir = crew.runner.home / "lib" / crew.name / "audit"

    def log(self, agent):
        return self.dir / agent / "log.jsonl"

    def checkpoint(self, agent):
        return self.dir / agent / "checkpoint"

    def key(self):
        return (self.dir / "@crew" / "key.pub").read_text()

    def note(self, agent):
        return checked_note(self.checkpoint(agent), self.key(), self.tmp)

    def verify(self, *args):
        self.runner.own(self.tmp)
        return self.runner.crewctl("audit", "verify", *args)

    def broken(self, *args):
        r = self.verify(*args)
        assert r.returncode == 1, r.stdout
        return r.stdout

    def agrees(self, *agents):
        """What we find ourselves is what the checkpoints say, and the crew's log."""
        claims = [json.loads(line) for line in lines_of(self.log("@crew"))]
        for agent in ("@crew", *agents):
            lines = lines_of(self.log(agent))
            origin, n, root, size = self.note(agent)
            assert origin == f"crewd/{self.crew.name}/{agent}"
            assert n <= len(lines) and root == root_of(lines[:n])
            assert size == sum(len(line) + 1 for line in lines[:n])
            mine = [c for c in claims if c["kind"] == "log.checkpoint" and c["of"] == agent]
            assert (not mine) == (agent == "@crew")
            for c in mine:
                assert root_of(lines[:c["records"]]).hex() == c["root"]
            assert not mine or mine[-1]["records"] == n

    def chain_anew(self, agent, change):
        """The log with its lines changed, and a chain that is sound."""
        prev, out = "0" * 64, []
        for seq, line in enumerate(change(lines_of(self.log(agent))), 1):
            r = json.loads(line) | {"prev": prev, "seq": seq}
            text = json.dumps(r, sort_keys=True, separators=(",", ":"))
            prev = hashlib.sha256(text.encode()).hexdigest()
            out.append(text + "\n")
        self.log(agent).write_text("".join(out))

    def cut(self, agent, n):
        lines = lines_of(self.log(agent))
        self.log(agent).write_bytes(b"".join(line + b"\n" for line in lines[:-n]))


def signed(audit, *agents):
    """Every line that there is, is in a checkpoint, and the crew's log knows."""
    for agent in (*agents, "@crew"):
        if not audit.checkpoint(agent).exists() or audit.note(agent)[1] != len(lines_of(audit.log(agent))):
            return False
    if not all(b'"agent.ready"' in audit.log(agent).read_bytes() for agent in agents):
        return False  # the first lines may be signed before the last of a slow start are there
    known = {r["of"]: r["records"] for r in map(json.loads, lines_of(audit.log("@crew"))) if r["kind"] == "log.checkpoint"}
    return all(known.get(agent) == len(lines_of(audit.log(agent))) for agent in agents)


@pytest.fixture
def tmp_path(runner):
    """Readable to the runner's user, unlike pytest's."""
    path = runner.home / "kept"
    path.mkdir()
    return runner.own(path)


@pytest.fixture
def left(runner, tmp_path):
    """The audit of a crew that ran, worked and was stopped in order; and a copy of it from the middle."""
    crew = Crew(runner).agent("a").agent("b")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: signed(audit, "a", "b"))
        shutil.copytree(audit.dir, tmp_path / "middle", ignore=shutil.ignore_patterns("*.next"))
        for _ in range(3):
            client.submit(agent="a", description="out({'ok': True})")
        eventually(lambda: len([r for r in crew.records("a", "task.finished")]) == 3)
    return audit


# --- a crew that runs ---

def test_every_line_is_signed_within_a_second_or_so_and_the_crew_comes_to_rest(runner, tmp_path):
    crew = Crew(runner).agent("a").agent("b")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: signed(audit, "a", "b"), timeout=10)
        audit.agrees("a", "b")
        before = [p.stat().st_mtime_ns for p in sorted(audit.dir.rglob("*"))]
        time.sleep(2.5)
        assert [p.stat().st_mtime_ns for p in sorted(audit.dir.rglob("*"))] == before  # nothing happens, nothing is written
        client.submit(agent="a", description="out(1)")
        eventually(lambda: crew.records("a", "task.finished"))
        eventually(lambda: signed(audit, "a", "b"), timeout=10)
        audit.agrees("a", "b")
        r = audit.verify()
        assert r.returncode == 0 and r.stdout.count("intact, signed") == 3, r.stdout
    audit.agrees("a", "b")
    assert signed(audit, "a", "b")
    r = audit.verify()
    assert r.returncode == 0 and r.stdout.count("intact, signed") == 3, r.stdout
    key = audit.dir / "@crew" / "key"
    assert key.stat().st_mode & 0o777 == 0o600 and key.read_text().startswith("PRIVATE+KEY+crewd/t+")
    assert "PRIVATE" not in running.log()
    assert runner.crewctl("logs", "--agent", "@crew").returncode == 3  # no agent


def test_a_kill_is_signed_at_once(runner, tmp_path):
    crew = Crew(runner).agent("a")
    audit = Audit(crew, tmp_path)
    with crew.start():
        eventually(lambda: signed(audit, "a"))
        runner.crewctl("kill", "--agent", "a", "--reason", "test", check=True)
        eventually(lambda: (n := audit.note("a")[1]) and b'"agent.terminated"' in lines_of(audit.log("a"))[n - 1])
    audit.agrees("a")
    assert audit.verify().returncode == 0


def test_what_a_killed_crewd_left_is_gone_on_with(runner, tmp_path):
    crew = Crew(runner).agent("a")
    audit = Audit(crew, tmp_path)
    key = None
    for i in range(3):
        running = crew.start()
        client = running.client()
        client.submit(agent="a", description="out(1)")
        eventually(lambda: len(crew.records("a", "task.finished")) > i)
        if i == 1:
            eventually(lambda: signed(audit, "a"))
        running.proc.send_signal(signal.SIGKILL)
        running.proc.wait()
        assert key in (None, audit.key())
        key = audit.key()
        r = audit.verify()
        assert r.returncode == 0, r.stdout
    with crew.start():
        pass
    found = [r["found"] for r in crew.records("a", "log.opened")]
    # Who never lived for a second has no checkpoint yet.
    assert found[0] == "new" and found[1] in ("continued", "unsigned") and found[2:] == ["continued"] * 2
    audit.agrees("a")
    assert audit.verify("--key", audit.dir / "@crew" / "key.pub").returncode == 0


def test_one_agents_process_dies_and_all_is_signed(runner, tmp_path):
    crew = Crew(runner).agent("a").agent("b")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        pid = next(a.pid for a in client.status().agents if a.name == "a")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: crew.records("a", "agent.terminated"))
        eventually(lambda: signed(audit, "a", "b"))
    audit.agrees("a", "b")
    assert audit.verify().returncode == 0


def test_a_held_crew_goes_on_in_the_same_tree(runner, tmp_path):
    crew = Crew(runner).agent("a")
    crew.extra = "on_supervisor_loss: hold\n"
    audit = Audit(crew, tmp_path)
    running = crew.start()
    client = running.client()
    client.submit(agent="a", description="out(1)")
    eventually(lambda: crew.records("a", "task.finished"))
    running.proc.send_signal(signal.SIGKILL)
    running.proc.wait()
    with crew.start() as running:
        eventually(lambda: crew.records("a", "supervisor.adopted"))
        running.client().submit(agent="a", description="out(1)")
        eventually(lambda: len(crew.records("a", "task.finished")) == 2)
        eventually(lambda: signed(audit, "a"))
    audit.agrees("a")
    assert audit.verify().returncode == 0


def test_a_checkpoint_that_cannot_be_written_stops_nobody(runner, tmp_path):
    crew = Crew(runner).agent("a")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: signed(audit, "a"))  # it writes none now
        (audit.dir / "a" / "checkpoint.next").mkdir()
        for i in range(2):
            client.submit(agent="a", description="out(1)")
            eventually(lambda: len(crew.records("a", "task.finished")) > i)
            eventually(lambda: "the checkpoint of" in running.log())
            time.sleep(1.3)
        assert running.log().count("the checkpoint of") == 1, running.log()
        assert not next(a for a in client.status().agents if a.name == "a").state == "frozen"
        (audit.dir / "a" / "checkpoint.next").rmdir()
        eventually(lambda: signed(audit, "a"), timeout=10)
    assert audit.verify().returncode == 0


@pytest.mark.parametrize("what", ["malformed", "readable", "link", "another"])
def test_a_key_that_is_not_as_it_must_be_is_a_clear_error(runner, tmp_path, left, what):
    key = left.dir / "@crew" / "key"
    if what == "malformed":
        key.write_text(key.read_text()[:-10])
    elif what == "readable":
        key.chmod(0o644)
    elif what == "link":
        key.rename(left.dir / "elsewhere")
        key.symlink_to(left.dir / "elsewhere")
    else:
        key.write_text("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz\n")
    running = left.crew.start(wait=False)
    assert running.proc.wait(60) != 0
    assert str(key) in running.log() and "move it away" in running.log()
    assert "AYEKFALV" not in running.log()


def test_a_public_key_of_another_is_written_anew(left):
    (left.dir / "@crew" / "key.pub").write_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
    assert left.verify().returncode == 1
    with left.crew.start() as running:
        assert "key.pub" in running.log()
    assert left.verify().returncode == 0


# --- files that somebody was at ---

def test_a_cut_log_is_broken(left):
    left.cut("a", 2)
    said = left.broken()
    n = len(lines_of(left.log("a")))
    assert re.search(rf"✗ a .*BROKEN\n +it has {n} records, and .* is of {n + 2}: the end is missing", said), said


def test_a_cut_log_with_its_older_checkpoint_contradicts_the_crews(left, tmp_path):
    shutil.copy(tmp_path / "middle/a/log.jsonl", left.log("a"))
    shutil.copy(tmp_path / "middle/a/checkpoint", left.checkpoint("a"))
    said = left.broken()
    assert "what the crew's log says is of" in said and "1 of 3 streams BROKEN" in said
    assert "✗ a " in left.broken("--agent", "a")
    assert left.verify("--agent", "b").returncode == 0
    assert left.verify(left.log("a")).returncode == 0  # by itself nothing is wrong with it


def test_crewd_says_that_a_log_was_cut_and_it_stays_broken(left):
    n = len(lines_of(left.log("a")))
    left.cut("a", 3)
    with left.crew.start():
        pass
    opened = left.crew.records("a", "log.opened")[-1]
    assert (opened["found"], opened["checkpoint_records"], opened["records"]) == ("cut", n, n - 3)
    assert "LOG: CUT" in left.runner.crewctl("logs", "--agent", "a").stdout
    assert "are not those that were signed" in left.broken() or "the end is missing" in left.broken()


def test_a_chain_that_was_recomputed_is_broken_by_the_tree(left):
    def change(lines):
        return [line.replace(b'"ok"', b'"no"') if i > 4 else line for i, line in enumerate(lines)]

    left.chain_anew("a", change)
    said = left.broken()
    assert "BROKEN\n" in said and "are not those that were signed" in said
    report = json.loads(left.verify("--json").stdout)
    a = next(s for s in report["streams"] if s["stream"] == "a")
    assert not a["intact"] and "bad_line" not in a and "signed" in a["problem"]


def test_without_its_checkpoint_a_recomputed_chain_is_broken_all_the_same(left):
    left.chain_anew("a", lambda lines: [line.replace(b'"ok"', b'"no"') for line in lines])
    left.checkpoint("a").unlink()
    assert "are not those that were signed" in left.broken()


@pytest.mark.parametrize("what", ["log", "directory"])
def test_a_log_that_is_gone_is_missed(left, what):
    if what == "log":
        left.log("a").unlink()
    else:
        shutil.rmtree(left.dir / "a")
    assert re.search(r"✗ a .*BROKEN\n +it is gone, and the crew's log knows \d+ records of it", left.broken())
    assert left.broken("--agent", "a")


def test_a_checkpoint_that_is_gone_is_missed(left):
    left.checkpoint("a").unlink()
    assert "it has no checkpoint, and the crew's log knows one of" in left.broken()


@pytest.mark.parametrize("what", ["log", "checkpoint", "key.pub", "cut", "all"])
def test_the_crews_own_log_is_checked_too(left, what):
    if what == "cut":
        left.cut("@crew", 1)
    elif what == "all":
        shutil.rmtree(left.dir / "@crew")
    else:
        (left.dir / "@crew" / {"log": "log.jsonl"}.get(what, what)).unlink()
    left.broken()


def forge(left):
    """One agent's log as somebody wants it, with nothing that was signed of it."""
    left.cut("a", 3)
    left.chain_anew("a", lambda lines: [line.replace(b'"ok"', b'"no"') for line in lines])
    left.checkpoint("a").unlink()


def wipe_crew_log(left, how):
    if how == "gone":
        left.log("@crew").unlink()
    elif how == "empty":
        left.log("@crew").write_bytes(b"")
    else:
        left.cut("@crew", len(lines_of(left.log("@crew"))) - 1)
    if how != "one line, and its checkpoint":
        left.checkpoint("@crew").unlink()


@pytest.mark.parametrize("how", ["gone", "empty", "one line", "one line, and its checkpoint"])
def test_an_agents_log_is_not_forged_with_the_crews(left, how):
    """Neither at once nor by having crewd sign it at its next start, without the private key."""
    kept = left.tmp / "kept.pub"
    kept.write_text(left.key())
    left.runner.own(left.tmp)
    forge(left)
    wipe_crew_log(left, how)
    left.broken()
    left.broken("--key", kept)
    copy = left.tmp / "copy"
    shutil.copytree(left.dir, copy)
    (copy / "@crew" / "key").unlink()
    left.broken("--key", kept, copy)
    left.broken(copy)
    with left.crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="out(1)").result(20)
        eventually(lambda: signed(left, "a", "b"), timeout=10)
    said = left.broken("--key", kept)
    assert "when crewd opened it" in said and "@crew" in said
    assert left.crew.records("a", "log.opened")[-1]["found"] == "unsigned"


def test_a_copy_without_the_crews_log_is_no_proof(left, tmp_path):
    kept = tmp_path / "kept.pub"
    kept.write_text(left.key())
    shutil.rmtree(left.dir / "a")
    shutil.copytree(tmp_path / "middle" / "a", left.dir / "a")  # rolled back, signed as it was
    copy = tmp_path / "copy"
    shutil.copytree(left.dir, copy)
    (copy / "@crew" / "key").unlink()
    for name in ("log.jsonl", "checkpoint"):
        (copy / "@crew" / name).unlink()
    assert "the crew's own log" in left.broken("--key", kept, copy)


def test_what_stands_where_a_checkpoint_is_made_holds_up_nobody(runner, tmp_path):
    crew = Crew(runner).agent("a").agent("b")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        eventually(lambda: signed(audit, "a", "b"), timeout=10)
        os.mkfifo(audit.dir / "a" / "checkpoint.next")
        client.submit(agent="a", description="out(1)").result(20)
        eventually(lambda: signed(audit, "a", "b"), timeout=10)
    assert audit.verify().returncode == 0


def other_key(runner, tmp_path):
    """The audit of another crew of the same name."""
    home, runner.home = runner.home, tmp_path / "other"
    runner.home.mkdir()
    runner.own(runner.home)
    with Crew(runner).agent("a").agent("b").start():
        pass
    other, runner.home = runner.home / "lib/t/audit", home
    return other


def test_a_checkpoint_by_another_key_is_no_good(left, runner, tmp_path):
    other = other_key(runner, tmp_path)
    kept = tmp_path / "kept.pub"
    shutil.copy(left.dir / "@crew/key.pub", kept)
    shutil.copy(other / "a/checkpoint", left.checkpoint("a"))
    assert "its checkpoint is not signed by crewd/t+" in left.broken()
    assert left.broken("--key", other / "@crew/key.pub").count("BROKEN\n") >= 3
    # Everything made anew, with a key of their own: sound by itself, and not by the key that was kept.
    shutil.rmtree(left.dir)
    shutil.copytree(other, left.dir)
    left.runner.own(left.dir)
    assert left.verify().returncode == 0
    assert "is not signed by" in left.broken("--key", kept)


def test_a_forged_checkpoint_is_no_good(left):
    text = left.checkpoint("a").read_text()
    left.checkpoint("a").write_text(text.replace("\nedge ", "\nedge 1", 1))
    assert "its checkpoint is forged" in left.broken()
    left.checkpoint("a").write_text("hello\n")
    assert "its checkpoint is malformed" in left.broken()
    shutil.copy(left.checkpoint("b"), left.checkpoint("a"))
    assert "its checkpoint is of another log: crewd/t/b" in left.broken()


def test_an_older_checkpoint_that_was_kept_is_a_prefix(left, runner, tmp_path):
    kept = tmp_path / "middle/a/checkpoint"
    assert left.verify("--checkpoint", kept).returncode == 0
    assert left.verify("--checkpoint", kept, left.log("a")).returncode == 0
    r = left.verify("--checkpoint", kept, left.log("b"))
    assert r.returncode == 1 and "is of crewd/t/a, of which no log was checked" in r.stderr
    assert left.verify("--checkpoint", "/etc/hostname").returncode == 2
    assert left.verify("--key", "/etc/hostname").returncode == 2
    # All files rolled back: nothing in them says so, only what was kept elsewhere.
    newer = tmp_path / "newer"
    shutil.copy(left.checkpoint("a"), newer)
    for p in (tmp_path / "middle").rglob("*"):
        if p.is_file():
            shutil.copy(p, left.dir / p.relative_to(tmp_path / "middle"))
    assert left.verify().returncode == 0
    assert "the end is missing" in left.broken("--checkpoint", newer)


def test_logs_of_before_checkpoints_are_intact_and_not_signed(left):
    kept = left.tmp / "kept.pub"
    shutil.copy(left.dir / "@crew/key.pub", kept)
    shutil.rmtree(left.dir / "@crew")
    for agent in "ab":
        left.checkpoint(agent).unlink()
    r = left.verify()
    assert r.returncode == 0 and r.stdout.count("intact, not signed") == 2 and "! a" in r.stdout.replace("⚠", "!")
    assert "nothing of it is signed" in left.broken("--key", kept)
    with left.crew.start():
        pass
    assert left.verify().stdout.count("intact, signed") == 3
    left.agrees("a", "b")


# --- exports ---

def exported(audit, *args):
    r = audit.runner.crewctl("audit", "export", *args)
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_an_export_verifies_by_itself_and_has_no_private_key(left, runner):
    said = exported(left)
    path = runner.home / "t-audit.tar"
    m = re.fullmatch(r"t-audit.tar: 2 agents, (\d+) records, (\d+) signed; check it: crewctl audit verify t-audit.tar\n", said)
    assert m and m[1] == m[2]
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in path.read_bytes()
    secret = (left.dir / "@crew/key").read_text().split("+", 4)[4].strip()[8:]
    assert secret.encode() not in path.read_bytes()
    with tarfile.open(path) as tar:
        assert sorted(n for n in tar.getnames() if "." in n or "checkpoint" in n) == sorted(
            ["export.json", "@crew/log.jsonl", "@crew/checkpoint", "@crew/key.pub", "a/log.jsonl", "a/checkpoint",
             "b/log.jsonl", "b/checkpoint"])
        about = json.load(tar.extractfile("export.json"))
    assert about["crew"] == "t" and [a["agent"] for a in about["agents"]] == ["a", "b"]
    (left.tmp / "tmp").mkdir()
    left.runner.own(left.tmp)
    r = left.runner.crewctl("audit", "verify", "t-audit.tar", env={"TMPDIR": str(left.tmp / "tmp")})
    assert r.returncode == 0 and r.stdout.count("intact, signed") == 3, r.stdout
    assert left.verify("--key", left.dir / "@crew/key.pub", "t-audit.tar").returncode == 0
    assert os.listdir(left.tmp / "tmp") == []
    r = runner.crewctl("audit", "export")
    assert r.returncode == 2 and "not overwritten" in r.stderr
    assert sorted(p.name for p in runner.home.glob("*.part")) == []


def test_an_export_of_one_agent_counts_the_others_as_elsewhere(left, runner):
    exported(left, "--agent", "a")
    r = left.verify("t-a-audit.tar")
    assert r.returncode == 0 and "1 other stream that the crew's log knows is not here" in r.stdout
    assert runner.crewctl("audit", "export", "--agent", "nobody").returncode == 3
    report = json.loads(runner.crewctl("audit", "export", "--agent", "b", "--output", "x.tar", "--json").stdout)
    assert report["file"] == "x.tar" and report["records"] == report["signed"] == len(lines_of(left.log("b")))


def test_a_changed_export_is_broken(left, runner, tmp_path):
    exported(left)
    top = runner.home / "unpacked"
    top.mkdir()
    with tarfile.open(runner.home / "t-audit.tar") as tar:
        tar.extractall(top)
    runner.own(top)
    assert left.verify(top).returncode == 0
    assert left.verify(top / "a").returncode == 0
    path = top / "a" / "log.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines_of(path)[:-1]))
    assert "the end is missing" in left.broken(top)


def test_an_export_while_the_crew_runs_has_all_that_there_was(runner, tmp_path):
    crew = Crew(runner).agent("a").agent("b")
    audit = Audit(crew, tmp_path)
    with crew.start() as running:
        client = running.client()
        for i in range(3):
            client.submit(agent="a", description="out(1)")
            eventually(lambda: len(crew.records("a", "task.finished")) > i)
            had = len(lines_of(audit.log("a")))
            report = json.loads(runner.crewctl("audit", "export", "--json", "--output", f"{i}.tar").stdout)
            with tarfile.open(runner.home / f"{i}.tar") as tar:
                assert tar.extractfile("a/log.jsonl").read().count(b"\n") >= had
            assert report["records"] == report["signed"]
            r = audit.verify(f"{i}.tar")
            assert r.returncode == 0 and r.stdout.count("intact, signed") == 3, r.stdout
