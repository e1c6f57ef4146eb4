# SPDX-License-Identifier: Apache-2.0
"""What outlives the command, or keeps it from ending."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from escapelib import outcome


def started(world, *attack, **kw):
    """The attack in a jail, as a child of ours."""
    argv = [world.runner.program("crewctl"), "sandbox", "--policy", str(world.policy), "--", world.path("exec/attack"), *attack]
    return world.runner.popen(*argv, stdin=subprocess.DEVNULL, **kw)


def appears(path, timeout=20):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if Path(path).exists() and Path(path).read_bytes():
            return True
        time.sleep(0.01)
    return False


def attackers(world):
    """Processes of this attacker, anywhere."""
    found = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if world.path("exec/attack").encode() in (p / "cmdline").read_bytes():
                found.append(int(p.name))
        except OSError:
            pass
    return found


def gone(world, timeout=20):
    end = time.monotonic() + timeout
    while attackers(world) and time.monotonic() < end:
        time.sleep(0.01)
    return attackers(world)


def test_daemon_ends_with_its_command(world):
    mark = world.path("write/alive")
    assert outcome(world.inside("leave_daemon", mark)) == "won"
    assert gone(world) == []
    time.sleep(1.3)
    assert not Path(mark).exists()
    # the control: without a jail it lives on
    assert outcome(world.outside("leave_daemon", mark)) == "won"
    try:
        assert appears(mark)
    finally:
        for pid in attackers(world):
            os.kill(pid, signal.SIGKILL)


def test_death_of_crewctl_ends_the_jail(world):
    mark = world.path("write/up")
    p = started(world, "stay", mark)
    assert appears(mark)
    assert attackers(world)
    # setpriv has exec'd crewctl: the pid is its own
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    assert gone(world) == []


def test_lost_terminal_or_not_sigterm_is_passed_on_and_may_be_ignored(world):
    mark = world.path("write/up")
    p = started(world, "stay", mark)
    assert appears(mark)
    p.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert p.poll() is None  # the command ignores it, as it may
    p.kill()
    p.wait()
    assert gone(world) == []


def test_output_without_end_stops_with_its_reader(world):
    p = started(world, "write_forever", stdout=subprocess.PIPE)
    for _ in range(256):
        assert len(p.stdout.read(65536)) == 65536
    p.stdout.close()
    assert p.wait(30) == 128 + signal.SIGPIPE
    assert gone(world) == []


@pytest.mark.alone
def test_nothing_is_left_behind(world):
    """No mount, no control group, no process after a hundred jails' worth of ends, kind and unkind."""
    def state():
        groups = [str(p) for p in Path("/sys/fs/cgroup").rglob("*crew*") if p.is_dir()] if Path("/sys/fs/cgroup").exists() else []
        return Path("/proc/self/mountinfo").read_text(), sorted(groups)

    world.inside("has_caps")  # makes what stays on purpose: the parent groups
    before = state()
    for attack in (("has_caps",), ("int80",), ("fork_bomb", "64"), ("leave_daemon", world.path("write/alive"))):
        for _ in range(3):
            world.inside(*attack)
    assert gone(world) == []
    assert state() == before


def test_sparse_result_is_no_larger_than_its_limit(world):
    world.inside("sparse_file", world.path("write/sparse"), "1024")
    assert not Path(world.path("write/sparse")).exists()
