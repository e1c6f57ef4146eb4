# SPDX-License-Identifier: Apache-2.0
"""crewctl kill at an operator's hand: what it could not do, or was kept from doing, it says; nothing is lost and nobody missed."""

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import tarfile
import time
from pathlib import Path

import crewd
import pytest
from crewlib import Crew, agent_status, eventually, state_dir, state_of, where

LARGE = """
for i in range(15):
    with open(os.environ['CREW_STATE'] + f'/{i}', 'wb') as f:
        f.truncate(250 << 20)
open(os.environ['CREW_STATE'] + '/done', 'w').close()
time.sleep(600)
"""


def interrupted(runner, crew, sig, *args, before=()):
    """crewctl kill that gets a signal while it writes the archive."""
    p = runner.popen(*before, runner.program("crewctl"), "kill", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: crew.records("a", "agent.frozen"), timeout=60)

    def at_it():
        assert p.poll() is None, p.communicate()
        return int(re.search(r"wchar: (\d+)", Path(f"/proc/{p.pid}/io").read_text())[1]) > 1 << 20
    try:
        eventually(at_it, timeout=60)
    except AssertionError as e:
        raise AssertionError(f"{e}; crewctl: {where(p.pid)}") from e
    p.send_signal(sig)
    out, err = p.communicate(timeout=60)
    return p.returncode, out, err


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_snapshot_that_is_interrupted_says_who_is_frozen_and_leaves_nothing(runner, sig):
    crew = Crew(runner).agent("a", limits="output: 1GiB")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=LARGE)
        eventually(lambda: (state_dir(crew, "a") / "done").exists())
        path = runner.home / "snap.tar"
        status, out, err = interrupted(runner, crew, sig, "--agent", "a", "--snapshot", path)
        assert agent_status(client, "a").frozen and agent_status(client, "a").pid
        assert not path.exists()
        if sig == signal.SIGKILL:  # a file system may need a name for what is being written: it stands in nobody's way
            assert status == -sig
        else:
            assert not list(runner.home.glob("snap.tar*"))
            assert status == 128 + sig and out == "", (status, out, err)
            assert "interrupted: no snapshot was written" in err and "nothing was killed" in err
            assert "agent a is frozen: crewctl thaw --agent a, or crewctl kill --agent a" in err
        for f in state_dir(crew, "a").glob("[0-9]*"):
            f.unlink()
        # The name is free, and what was frozen can still be seen and killed.
        r = runner.crewctl("kill", "--agent", "a", "--snapshot", path)
        assert r.returncode == 0, r.stderr
        assert "a/status.json" in tarfile.open(path).getnames()


def test_a_snapshot_replaces_nothing_and_freezes_nobody_for_it(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        path = runner.home / "snap.tar"
        assert runner.crewctl("kill", "--agent", "a", "--snapshot", path).returncode == 0
        first = path.read_bytes()
        r = runner.crewctl("kill", "--agent", "b", "--snapshot", path)
        assert r.returncode == 1 and f"{path} is there already" in r.stderr, r.stderr
        assert "nothing was frozen, nothing was killed" in r.stderr
        assert path.read_bytes() == first
        link = runner.home / "link.tar"
        runner.run("ln", "-s", "nowhere", link, check=True)
        assert runner.crewctl("kill", "--agent", "b", "--snapshot", link).returncode == 1
        assert state_of(client, "b") == crewd.AgentState.READY and not crew.records("b", "agent.frozen")


def test_a_name_that_is_taken_meanwhile_is_not_replaced_either(runner):
    crew = Crew(runner).agent("a", limits="output: 1GiB")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=LARGE.replace("range(15)", "range(3)"))
        eventually(lambda: (state_dir(crew, "a") / "done").exists())
        path = runner.home / "snap.tar"
        p = runner.popen(runner.program("crewctl"), "kill", "--agent", "a", "--snapshot", path)
        eventually(lambda: crew.records("a", "agent.frozen"))
        p.send_signal(signal.SIGSTOP)  # it is not to be done before the name is taken
        assert not path.exists()
        runner.run("sh", "-c", f"echo mine > {path}", check=True)
        p.send_signal(signal.SIGCONT)
        assert p.wait(60) == 1
        assert path.read_text() == "mine\n"
        assert agent_status(client, "a").frozen and list(runner.home.glob("snap.tar*")) == [path]


TMPFILE = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC


@pytest.mark.parametrize("lacks", [[f"257@2:{TMPFILE}={errno.EOPNOTSUPP}"],
                                   [f"257@2:{TMPFILE}={errno.EOPNOTSUPP}", f"316={errno.EINVAL}"]])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls are named by their number")
def test_a_file_system_that_must_have_a_name_for_it_is_as_good(runner, lacks):
    crew = Crew(runner).agent("a", limits="output: 1GiB").agent("b")
    launcher = runner.tree({"without_calls.py": (Path(__file__).parent / "without_calls.py").read_text()}) / "without_calls.py"
    before = ["python3", launcher, *lacks, "--"]
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=LARGE)
        eventually(lambda: (state_dir(crew, "a") / "done").exists())
        path = runner.home / "snap.tar"
        args = ["--agent", "a", "--snapshot", path]
        assert interrupted(runner, crew, signal.SIGTERM, *args, before=before)[0] == 128 + signal.SIGTERM
        assert not list(runner.home.glob("snap.tar*"))
        interrupted(runner, crew, signal.SIGKILL, *args, before=before)
        [part] = runner.home.glob("snap.tar*")
        assert part.name.startswith("snap.tar.part-") and part.stat().st_mode & 0o777 == 0o600
        part.unlink()
        part.write_bytes(b"in nobody's way")
        args[1] = "b"
        r = runner.run(*before, runner.program("crewctl"), "kill", *args)
        assert r.returncode == 0, r.stderr
        assert "b/status.json" in tarfile.open(path).getnames()
        assert sorted(runner.home.glob("snap.tar*")) == sorted([path, part])
        r = runner.run(*before, runner.program("crewctl"), "kill", "--agent", "a", "--snapshot", path)
        assert r.returncode == 1 and "is there already" in r.stderr


# --- of a role ---


def trio(runner):
    crew = Crew(runner)
    for name in ("r1", "r2", "r3"):
        crew.agent(name, role="Web Researcher")
    return crew


def end_slowly(crew, client, agent):
    """It is stopping, and takes its time."""
    client.submit(agent=agent, description="signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, file=open('/tmp/x', 'w')); "
                                           "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
    eventually(lambda: (state_dir(crew, agent) / "up").exists())
    client._send("stop_agent", crewd.codec.Message("StopAgent", agent=agent, grace_ms=60000))
    eventually(lambda: state_of(client, agent) == crewd.AgentState.STOPPING)


def wait_for_restart(crew, running, client, agent):
    """It is to be started again, as soon as its state directory is free; the lock that keeps it from that."""
    client.stop_agent(agent, grace_ms=0)
    f = open(f"{state_dir(crew, agent)}.lock", "r+")

    def locked():
        with contextlib.suppress(BlockingIOError):
            return fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)) is not None
    eventually(locked)
    client._send("start_agent", crewd.codec.Message("StartAgent", agent=agent))
    eventually(lambda: f"agent {agent} waits" in running.log() and state_of(client, agent) == crewd.AgentState.RESTARTING)
    return f


def test_those_of_a_role_that_are_not_up_are_named_and_the_others_frozen(runner):
    crew = trio(runner)
    with crew.start() as running:
        client = running.client()
        end_slowly(crew, client, "r2")
        r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--freeze", "--json")
        assert r.returncode == 0, r.stderr
        doc = json.loads(r.stdout)
        assert [a["name"] for a in doc["frozen"]] == ["r1", "r3"]
        assert [a["agent"] for a in doc["passed_over"]] == ["r2"] and "stopping" in doc["passed_over"][0]["why"]
        assert [agent_status(client, n).frozen for n in ("r1", "r2", "r3")] == [True, False, True]
        r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--freeze")
        assert "Agent r2 is not up (it was stopping): not frozen." in r.stdout.splitlines()
        client.kill("r2")


def test_a_snapshot_of_a_role_is_of_those_that_are_up_and_all_of_it_dies(runner):
    crew = trio(runner)
    with crew.start() as running:
        client = running.client()
        end_slowly(crew, client, "r2")
        with wait_for_restart(crew, running, client, "r3"):
            path = runner.home / "snap.tar"
            r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--snapshot", path)
            assert r.returncode == 0, r.stderr
            lines = r.stdout.splitlines()
            assert "Agent r2 is not up (it was stopping): nothing of it is in the snapshot." in lines
            assert "Agent r1 terminated. Sandbox destroyed." in lines and "Agent r2 terminated. Sandbox destroyed." in lines
            assert "Agent r3 was waiting to be restarted; it will not be now." in lines
            assert {n.split("/")[0] for n in tarfile.open(path).getnames()} == {"snapshot.json", "r1"}
        time.sleep(0.5)
        assert {state_of(client, n) for n in ("r1", "r2", "r3")} == {crewd.AgentState.TERMINATED}


def test_a_failure_among_several_names_those_that_are_frozen(runner):
    crew = trio(runner)
    with crew.start() as running:
        client = running.client()
        away = state_dir(crew, "r2").with_suffix(".away")
        state_dir(crew, "r2").rename(away)
        try:
            r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--snapshot", runner.home / "snap.tar")
        finally:
            away.rename(state_dir(crew, "r2"))
        assert r.returncode == 1 and "nothing was killed" in r.stderr
        for name in ("r1", "r2", "r3"):
            assert f"agent {name} is frozen: crewctl thaw --agent {name}" in r.stderr
            assert agent_status(client, name).frozen
        assert not list(runner.home.glob("snap.tar*"))


def test_none_of_a_role_comes_back(runner):
    crew = trio(runner)
    with crew.start() as running:
        client = running.client()
        with wait_for_restart(crew, running, client, "r2"):
            r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--json")
            assert r.returncode == 0, r.stderr
            killed = {k["terminated"]["agent"]: k["was"] for k in json.loads(r.stdout)["killed"]}
            assert killed == {"r1": None, "r2": "restarting", "r3": None}
        time.sleep(0.5)
        assert {state_of(client, n) for n in ("r1", "r2", "r3")} == {crewd.AgentState.TERMINATED}
        assert runner.crewctl("kill", "--all-of-role", "Web Researcher").returncode == 3


@pytest.mark.parametrize("verb", ["kill", "stop"])
def test_a_restart_that_is_called_off_is_a_success(runner, verb):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        for args in ([], ["--json"]):
            with wait_for_restart(crew, running, client, "a"):
                r = runner.crewctl(verb, "--agent", "a", "--reason", "enough of it", *args)
            assert r.returncode == 0, r.stderr
            if args:
                doc = json.loads(r.stdout)
                assert doc["was"] == "restarting" and doc["terminated"]["processes_killed"] == 0
                assert doc["terminated"]["cause"] == "operator" and doc["terminated"]["reason"] == "enough of it"
                assert doc["terminated"]["audit_seq"] == crew.records("a", "agent.kill")[-1]["seq"]
            else:
                assert r.stdout.splitlines() == ["Agent a was waiting to be restarted; it will not be now.",
                                                 "Crew status: b (ready)"]
            assert state_of(client, "a") == crewd.AgentState.TERMINATED
            running.log_path.write_text("")
            client.start_agent("a")
        with wait_for_restart(crew, running, client, "a"):
            killed = client.kill("a", "by the SDK")
            assert killed.was == crewd.AgentState.RESTARTING and killed.terminated.agent == "a"
            assert [o.name for o in killed.others] == ["b"]
            with pytest.raises(crewd.NotRunning):
                client.kill("a")


def test_status_says_why_an_agent_has_ended(runner):
    crew = Crew(runner).agent("a").agent("b").agent("c")
    with crew.start() as running:
        client = running.client()
        client.kill("a", "odd queries\x1b[31m\nand more")
        with wait_for_restart(crew, running, client, "c"):
            runner.crewctl("kill", "--agent", "c", "--reason", "not again", check=True)
        lines = runner.crewctl("status").stdout.splitlines()
        at = {line.split()[0]: i for i, line in enumerate(lines)}
        assert lines[at["a"]].split()[1] == "terminated"
        assert lines[at["a"] + 1] == "  operator: odd queries?[31m\\nand more", lines
        assert lines[at["b"] + 1].startswith("c "), "of one that lives there is nothing to say"
        assert lines[at["c"] + 1].startswith("  operator: killed before its start, by uid "), lines
        assert lines[at["c"] + 1].endswith(": not again")
        a = next(a for a in json.loads(runner.crewctl("status", "--json").stdout)["agents"] if a["name"] == "a")
        assert a["last_cause"] == "operator" and a["last_reason"].startswith("odd queries")
