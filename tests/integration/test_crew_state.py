# SPDX-License-Identifier: Apache-2.0
"""An agent's own directory: private, kept or fresh, and handed in and out by the operator without trusting what is in it."""

import fcntl
import io
import json
import os
import struct
import subprocess
import tarfile
import time

import pytest

from crewlib import AGENT, Crew, agent_status, eventually, state_of
import crewd

KEEP = "p = os.environ['CREW_STATE'] + '/n'\nn = int(open(p).read()) + 1 if os.path.exists(p) else 1\nopen(p, 'w').write(str(n))\nout(n)"


def top(crew, agent):
    return crew.runner.home / "lib" / crew.name / "state" / agent


def test_it_outlives_the_task_the_instance_and_the_crew(runner):
    crew = Crew(runner).agent("a", restart={"max": 5, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        assert [client.submit(agent="a", description=KEEP).result(60) for _ in range(2)] == [1, 2]
        client.kill("a")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
        assert client.submit(agent="a", description=KEEP).result(60) == 3
    with crew.start() as running:
        assert running.client().submit(agent="a", description=KEEP).result(60) == 4
    st = os.stat(top(crew, "a") / "n")
    assert st.st_uid == os.stat(crew.top).st_uid  # the operator's, outside
    assert oct(os.stat(top(crew, "a")).st_mode & 0o777) == "0o700"


def test_fresh_begins_with_nothing_however_much_there_was(runner):
    crew = Crew(runner).agent("a", state="fresh", restart={"max": 5, "within": "60s"})
    fill = ("s = os.environ['CREW_STATE']\nassert os.listdir(s) == [], os.listdir(s)\nos.makedirs(s + '/' + 'd/' * 300)\n"
            "os.mkdir(s + '/shut'); open(s + '/shut/f', 'w').close(); os.chmod(s + '/shut', 0)\nos.chmod(s, 0o500)\nout(1)")
    with crew.start() as running:
        client = running.client()
        for _ in range(3):
            eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
            assert client.submit(agent="a", description=fill).result(60) == 1
            client.kill("a")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
        eventually(lambda: sorted(os.listdir(top(crew, "a").parent)) == ["a", "a.lock"])
        assert os.listdir(top(crew, "a")) == []


def test_nobody_else_sees_it_and_nothing_in_it_runs(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="open(os.environ['CREW_STATE'] + '/s', 'w').write('mine'); out(1)").result(60)
        host = str(top(crew, "a"))
        see = f"out([os.path.exists({host!r}), os.listdir('/home/agent/state')])"
        assert client.submit(agent="b", description=see).result(60) == [False, []]
        run = ("p = os.environ['CREW_STATE'] + '/x'\nopen(p, 'w').write('#!/bin/sh\\necho ran')\nos.chmod(p, 0o755)\n"
               "try:\n    subprocess.run([p]); out('ran')\nexcept PermissionError:\n    out('refused')")
        assert client.submit(agent="a", description=run).result(60) == "refused"


def test_a_policy_cannot_grant_it(runner):
    crew = Crew(runner).agent("a")
    crew.write()
    role = crew.top / "a.yaml"
    role.write_text(role.read_text().replace("write: []", 'write: ["/home/agent/state/x/"]'))
    r = runner.crewctl("up", "--detach", crew.top / "crew.yaml")
    assert r.returncode != 0 and "state directory" in r.stderr, r.stderr


def test_an_unknown_mode_and_a_state_without_a_program_are_errors(runner):
    crew = Crew(runner).agent("a", state="forever")
    r = runner.crewctl("policy", "check", crew.write())
    assert r.returncode == 2 and "keep" in r.stderr + r.stdout
    crew = Crew(runner).agent("a").agent("b", state="keep")
    del crew.agents["b"]["command"]
    r = runner.crewctl("policy", "check", crew.write())
    assert r.returncode == 2 and "'state' without 'command'" in r.stderr + r.stdout


def test_export_reset_import_round_trip(runner):
    crew = Crew(runner).agent("a").agent("b")
    archive = runner.home / "a.tar"
    long = "n" * 120
    fill = (f"s = os.environ['CREW_STATE']\nos.makedirs(s + '/sub/{long}')\nopen(s + '/sub/{long}/f', 'w').write('x' * 100000)\n"
            "open(s + '/exec', 'w').close(); os.chmod(s + '/exec', 0o755)\nos.symlink('/etc/passwd', s + '/link')\nout(1)")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=fill).result(60)
        shown = json.loads(runner.crewctl("state", "list", "--json", check=True).stdout)
        assert [(s["agent"], s["files"], s["in_use"]) for s in shown["state"]] == [("a", 2, True), ("b", 0, True)]
        r = runner.crewctl("state", "export", "--agent", "a", archive)
        assert r.returncode == 0 and "left out: link (a symbolic link)" in r.stderr
        for verb in (["import", "--agent", "a", archive], ["reset", "--agent", "a", "--yes"]):
            r = runner.crewctl("state", *verb)
            assert r.returncode == 1 and "agent a is running" in r.stderr, verb
        client.stop_agent("a")
        assert runner.crewctl("state", "reset", "--agent", "a").returncode == 2  # nobody to ask
        assert runner.crewctl("state", "reset", "--agent", "a", "--yes").returncode == 0
        assert not top(crew, "a").exists()
    assert runner.crewctl("state", "export", "--agent", "a", runner.home / "none.tar").returncode == 3
    r = runner.crewctl("state", "import", "--agent", "a", archive)
    assert r.returncode == 0, r.stderr
    assert (top(crew, "a") / "sub" / long / "f").read_text() == "x" * 100000
    assert os.stat(top(crew, "a") / "exec").st_mode & 0o111
    with crew.start() as running:
        look = "out(sorted(os.listdir(os.environ['CREW_STATE'])))"
        assert running.client().submit(agent="a", description=look).result(60) == ["exec", "sub"]


def evil(**kw):
    info = tarfile.TarInfo(kw.pop("name"))
    data = kw.pop("data", b"")
    for k, v in kw.items():
        setattr(info, k, v)
    info.size = len(data)
    return info, data


EVIL = {
    "is a symbolic link": evil(name="l", type=tarfile.SYMTYPE, linkname="/etc"),
    "is a hard link": evil(name="l", type=tarfile.LNKTYPE, linkname="good"),
    "is a character device": evil(name="dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "is a block device": evil(name="dev", type=tarfile.BLKTYPE),
    "is a pipe": evil(name="p", type=tarfile.FIFOTYPE),
    "is an absolute path": evil(name="/etc/cron.d/x", data=b"x"),
    "is not a plain relative path": evil(name="a/../../x", data=b"x"),
    "is there twice": evil(name="good", data=b"again"),
}


@pytest.mark.parametrize("why", EVIL)
def test_import_refuses_what_is_not_plain_and_changes_nothing(runner, why):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        running.client().submit(agent="a", description=KEEP).result(60)
    path = runner.home / "evil.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in (evil(name="good", data=b"fine"), EVIL[why]):
            tar.addfile(info, io.BytesIO(data))
    os.chmod(path, 0o644)
    r = runner.crewctl("state", "import", "--agent", "a", path)
    assert r.returncode in (1, 2) and why in r.stderr and "nothing was changed" in r.stderr, r.stderr
    assert os.listdir(top(crew, "a")) == ["n"]
    assert sorted(os.listdir(top(crew, "a").parent)) == ["a", "a.lock"]


def test_import_refuses_what_is_no_archive(runner):
    crew = Crew(runner).agent("a")
    with crew.start():
        pass
    path = runner.home / "x.tar"
    for data in (b"", b"no tar at all" * 100, b"\0" * 100):
        path.write_bytes(data)
        os.chmod(path, 0o644)
        r = runner.crewctl("state", "import", "--agent", "a", path)
        assert r.returncode == 2 and "nothing was changed" in r.stderr, r.stderr
    r = runner.crewctl("state", "export", "--agent", "x", path)
    assert r.returncode == 3 and "agents: a" in r.stderr


def test_more_than_state_max_ends_the_agent(runner):
    crew = Crew(runner).agent("a", state_max="1MiB", limits="output: 64MiB").agent("b")
    fill = "f = open(os.environ['CREW_STATE'] + '/big', 'wb')\nf.write(b'x' * (4 << 20)); f.flush()\ntime.sleep(600)"
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=fill)
        with pytest.raises(crewd.AgentTerminated) as e:
            task.result(60)
        assert e.value.cause == crewd.Cause.LIMIT and "state_max is 1024 KiB" in e.value.record.reason
        assert state_of(client, "b") == crewd.AgentState.READY
    assert [r["limit"] for r in crew.records("a", "limit.hit")] == ["state"]


FILL = """
s = os.environ['CREW_STATE']
for d in ('d', 'e'):
    os.mkdir(s + '/' + d)
    open(s + '/' + d + '/f', 'w').write('x' * 5000)
open(s + '/g', 'w').write('y' * 5000)
out(1)
"""


def shut(crew):
    with crew.start() as running:
        running.client().submit(agent="a", description=FILL).result(60)
    for name, mode in (("g", 0), ("d", 0), ("e", 0o400), ("", 0)):  # as the agent can; a crewd that runs opens them again
        os.chmod(top(crew, "a") / name, mode)


def test_a_directory_its_agent_has_shut_is_shown_with_all_that_is_in_it(runner):
    crew = Crew(runner).agent("a").agent("b")
    shut(crew)
    r = runner.crewctl("state", "list")
    assert r.returncode == 0 and r.stderr == "" and ">" not in r.stdout, r.stderr
    shown = json.loads(runner.crewctl("state", "list", "--json", check=True).stdout)
    assert [(s["agent"], s["files"]) for s in shown["state"]] == [("a", 3), ("b", 0)]
    assert shown["state"][0]["bytes"] >= 15000


def test_a_directory_its_agent_has_shut_is_exported_whole(runner):
    crew = Crew(runner).agent("a").agent("b")
    shut(crew)
    archive = runner.home / "a.tar"
    r = runner.crewctl("state", "export", "--agent", "a", archive)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    with tarfile.open(archive) as tar:
        modes = {m.name: m.mode for m in tar.getmembers()}
    assert modes == {"d": 0, "d/f": 0o644, "e": 0o400, "e/f": 0o644, "g": 0}
    assert os.stat(top(crew, "a") / "g").st_mode & 0o777 == 0
    r = runner.crewctl("state", "import", "--agent", "b", archive)
    assert r.returncode == 0, r.stderr
    assert (top(crew, "b") / "d" / "f").read_text() == "x" * 5000


def test_a_directory_its_agent_has_shut_is_reset(runner):
    crew = Crew(runner).agent("a").agent("b")
    shut(crew)
    r = runner.crewctl("state", "reset", "--agent", "a", "--yes")
    assert r.returncode == 0, r.stderr
    assert not top(crew, "a").exists()
    r = runner.crewctl("state", "reset", "--agent", "a", "--yes")
    assert r.returncode == 3 and "kept nothing yet" in r.stderr


def test_one_that_cannot_be_read_does_not_hide_the_others(runner):
    crew = Crew(runner).agent("a").agent("b").agent("c")
    crew.start().stop()
    os.rmdir(top(crew, "a"))
    top(crew, "a").write_text("no directory")
    (top(crew, "b").parent / "b.version").write_text("no version")
    r = runner.crewctl("state", "list")
    assert r.returncode == 1 and "cannot open the directory of a: Not a directory" in r.stderr, r.stderr
    assert "agent b: b.version is not what crewd writes" in r.stderr
    rows = [line.split() for line in r.stdout.splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [("a", "unreadable"), ("b", "unreadable"), ("c", "0")], r.stdout
    r = runner.crewctl("state", "list", "--json")
    shown = json.loads(r.stdout)["state"]
    assert r.returncode == 1 and [("error" in s, "files" in s) for s in shown] == [(True, False), (True, False), (False, True)]
    r = runner.crewctl("state", "export", "--agent", "a", runner.home / "a.tar")
    assert r.returncode == 1 and "Not a directory" in r.stderr, r.stderr
    r = runner.crewctl("state", "reset", "--agent", "a", "--yes")
    assert r.returncode == 0 and not top(crew, "a").exists(), r.stderr


@pytest.mark.parametrize("where", ["", "/d"])
def test_what_is_kept_in_a_directory_that_is_shut_counts(runner, where):
    crew = Crew(runner).agent("a", state_max="1MiB", limits="output: 64MiB")
    fill = (f"d = os.environ['CREW_STATE'] + '{where}'\nos.makedirs(d, exist_ok=True)\nf = open(d + '/big', 'wb')\n"
            "os.chmod(d, 0)\nf.write(b'x' * (4 << 20)); f.flush()\ntime.sleep(600)")
    with crew.start() as running:
        with pytest.raises(crewd.AgentTerminated) as e:
            running.client().submit(agent="a", description=fill).result(60)
        assert e.value.cause == crewd.Cause.LIMIT and "state_max is 1024 KiB" in e.value.record.reason


def locked(crew, agent):
    """Its lock, as crewctl state and a crewd that is not quite dead hold it."""
    f = open(f"{top(crew, agent)}.lock", "r+")
    fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return f


def test_a_start_waits_for_whoever_has_the_directory_and_others_go_first(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.start().stop()
    with locked(crew, "a"):
        running = crew.start(wait=False)
        eventually(lambda: "agent a waits" in running.log())
        client = running.client()
        eventually(lambda: state_of(client, "b") == crewd.AgentState.READY)
        time.sleep(0.3)
        assert running.log().count("agent a waits: its state directory is in use") == 1 and running.proc.poll() is None
        assert state_of(client, "a") == crewd.AgentState.DECLARED
    with running:
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
        client.stop_agent("a", grace_ms=0)
        with locked(crew, "a"):
            client._send("start_agent", crewd.codec.Message("StartAgent", agent="a"))
            eventually(lambda: running.log().count("agent a waits") == 2)
            assert client.stop_agent("a").was == crewd.AgentState.RESTARTING
        time.sleep(0.1)
        assert state_of(client, "a") == crewd.AgentState.TERMINATED


@pytest.mark.waits
def test_a_directory_that_stays_in_use_is_a_start_that_fails(runner):
    crew = Crew(runner).agent("a")
    crew.start().stop()
    with locked(crew, "a"):
        running = crew.start(wait=False)
        assert running.proc.wait(60) == 1
        assert "agent a did not start: prepare: its state directory is in use" in running.log()
