# SPDX-License-Identifier: Apache-2.0
"""A kill while an agent's state directory is migrated, at each step of it: it is a kill like any other, and what was not
done by then is not done at all."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import crewd
from crewlib import agent_status, eventually, outside, state_of
from test_crew_migrate import UP, beside, fill, make, snapshot, top, version

SLOW = UP + "import time\ntime.sleep({})\n"


def all_threads_traced(pid, tracer):
    try:
        return all(f"TracerPid:\t{tracer}\n" in (t / "status").read_text() for t in Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # a thread went meanwhile: look again
        return False


@contextlib.contextmanager
def held_up(pid, call, seconds):
    """That system call takes crewd's threads so long; its loop does not make it."""
    if os.geteuid() != 0:
        pytest.skip("to hold up a thread of crewd needs CAP_SYS_PTRACE")
    p = subprocess.Popen(["strace", "-qq", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:delay_enter={int(seconds * 1e6)}", "-p", str(pid)], stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: all_threads_traced(pid, p.pid))
        yield
    finally:
        p.terminate()
        p.wait()


@contextlib.contextmanager
def nothing(*_):
    yield


def copy_of(crew):
    """The file in the copy that is being worked on, as far as there is one."""
    return next(iter(top(crew).parent.glob(".old-*/n")), None)


def is_copied(crew):
    with contextlib.suppress(OSError):
        return list(top(crew).parent.glob(".old-*"))


def is_changed(crew):
    with contextlib.suppress(OSError):
        return copy_of(crew) and copy_of(crew).read_text() == "one 1>2"


def is_checked(crew):
    """The command is over, and what it left has been looked at for a while."""
    if is_changed(crew):
        time.sleep(0.4)
        return True


def is_done(crew):
    return crew.records("a", "state.migrated")


# How long the command takes, what is held up, and when it is killed.
STEPS = {
    "copied": (0, "copy_file_range", is_copied),
    "running": (600, None, is_changed),
    "checked": (0, "syncfs", is_checked),
    "done": (2.5, "crew-evidence", is_changed),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_while_it_is(runner, step):
    seconds, held, there = STEPS[step]
    fill(make(runner, 1))
    crew = make(runner, 2, SLOW.format(seconds), restart={"max": 1, "within": "60s"})
    (top(crew).parent / "a.version").write_text("2\n")  # it comes up first
    with crew.start() as running:
        client = running.client()
        before = snapshot(top(crew))
        (top(crew).parent / "a.version").write_text("1\n")
        hold = held_up if held in ("copy_file_range", "syncfs") else nothing
        with hold(running.proc.pid, held, 4):
            client.kill("a", "its one restart")
            eventually(lambda: there(crew), every=0.005)
            if step == "done":  # nobody says that its evidence is complete, so the next jail has to wait
                helper = next(p for p, comm in outside(running.proc.pid).items() if comm == "crew-evidence")
                os.kill(helper, signal.SIGSTOP)
                try:
                    eventually(lambda: is_done(crew), every=0.005)
                    end = client.kill("a", "now").terminated
                finally:
                    os.kill(helper, signal.SIGCONT)
            else:
                end = client.kill("a", "now").terminated
        # Its restarts are used up, which a start that failed would not say; and nobody says that the migration failed.
        assert (end.cause, end.reason, end.restartable) == (crewd.Cause.OPERATOR, "now", False)
        assert state_of(client, "a") == crewd.AgentState.FAILED and state_of(client, "b") == crewd.AgentState.READY
        assert agent_status(client, "a").incarnation == 2
        assert not crew.records("a", "state.migrate_failed")
        if step == "done":
            assert (version(crew), (top(crew) / "n").read_text()) == ("2\n", "one 1>2")
        else:
            assert snapshot(top(crew)) == before and version(crew) == "1\n" and not is_done(crew)
        eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))
    assert runner.crewctl("audit", "verify").returncode == 0
