# SPDX-License-Identifier: Apache-2.0
"""The operator's terminal stays the operator's."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest


class Terminal:
    """A terminal of ours with a command on it."""

    def __init__(self, argv, env, cwd, rows=33, columns=101):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.rdev = os.fstat(self.slave).st_rdev
        self.text = ""

        def own_session():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.p = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env, cwd=cwd,
                                  preexec_fn=own_session)

    def read_until(self, text, timeout=30):
        end = time.monotonic() + timeout
        while text not in self.text and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    break
        assert text in self.text, self.text

    def wait(self, timeout=30):
        end = time.monotonic() + timeout
        while self.p.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.02)[0]:
                self.text += os.read(self.master, 4096).decode(errors="replace")
        while select.select([self.master], [], [], 0.1)[0]:
            self.text += os.read(self.master, 4096).decode(errors="replace")
        return self.p.poll()

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(world):
    made = []

    def make(*command, sandbox=True, **kw):
        argv = [world.runner.program("crewctl"), "sandbox", "--policy", str(world.policy), "--", *command]
        t = Terminal(world.runner.argv(*argv) if sandbox else list(command), world.runner.env({"TERM": "xterm"}), world.home, **kw)
        made.append(t)
        return t

    yield make
    for t in made:
        t.close()


def test_typing_into_the_terminal_is_refused(terminal, world):
    t = terminal(world.path("exec/attack"), "tiocsti")
    assert t.wait() == 10 and "denied: EPERM" in t.text, t.text
    outside = terminal(world.path("exec/attack"), "tiocsti", sandbox=False)
    outside.wait()
    if "denied: EIO" in outside.text:
        pytest.skip("this kernel refuses TIOCSTI to everybody (dev.tty.legacy_tiocsti)")
    assert "won" in outside.text, outside.text


def test_no_stream_is_the_operators_terminal(terminal, world):
    t = terminal("sh", "-c", f"echo ready; read x; {world.path('exec/attack')} shared_terminal $x")
    t.read_until("ready")  # what is typed before crewctl has its own way with the terminal may be lost
    os.write(t.master, f"{t.rdev}\n".encode())
    assert t.wait() == 10 and "denied: ENOTTY" in t.text, t.text
    outside = terminal("sh", "-c", f"read x; {world.path('exec/attack')} shared_terminal $x", sandbox=False)
    os.write(outside.master, f"{outside.rdev}\n".encode())
    outside.wait()
    assert "is the operator's terminal" in outside.text, outside.text


def test_one_stream_that_is_a_terminal_is_replaced_too(terminal, world):
    """Standard error alone: that would be enough to read what is typed."""
    attack = f"{world.path('exec/attack')} shared_terminal"
    argv = [world.runner.program("crewctl"), "sandbox", "--policy", str(world.policy), "--", "sh", "-c",
            f"read x; {attack} $x"]
    master, slave = pty.openpty()
    rdev = os.fstat(slave).st_rdev
    r = subprocess.run(world.runner.argv(*argv), input=f"{rdev}\n", stdout=subprocess.PIPE, stderr=slave,
                       env=world.runner.env(), cwd=world.home, text=True, timeout=30)
    assert (r.returncode, r.stdout) == (10, "denied: ENOTTY\n")
    r = subprocess.run(["sh", "-c", f"{attack} {rdev}"], stdout=subprocess.PIPE, stderr=slave, text=True)
    assert r.returncode == 0, r.stdout
    os.close(master)
    os.close(slave)


def test_the_terminal_has_no_name_in_the_jail(terminal, world):
    t = terminal(world.path("exec/attack"), "controlling_terminal")
    assert t.wait() == 10 and "denied: ENOENT" in t.text, t.text
    outside = terminal(world.path("exec/attack"), "controlling_terminal", sandbox=False)
    outside.wait()
    assert "won" in outside.text, outside.text


def test_interrupt_key_ends_the_command_and_restores_the_terminal(terminal):
    t = terminal("sh", "-c", "echo ready; exec sleep 100")
    t.read_until("ready")
    os.write(t.master, b"\x03")
    assert t.wait() == 128 + signal.SIGINT
    assert t.restored()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_terminal_is_restored_after_a_signal(terminal, sig):
    t = terminal("sh", "-c", "echo ready; exec sleep 100")
    t.read_until("ready")
    assert not t.restored()
    t.p.send_signal(sig)
    assert t.wait() == 128 + sig
    assert t.restored()


def test_terminal_is_restored_after_the_command_leaves_it_raw(terminal):
    t = terminal("sh", "-c", "stty raw -echo; echo done")
    assert t.wait() == 0
    assert t.restored()


def test_window_size_follows(terminal):
    t = terminal("sh", "-c", "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done")
    t.read_until("ready")
    assert "33 101" in t.text
    fcntl.ioctl(t.master, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 70, 0, 0))
    assert t.wait() == 5
    assert "20 70" in t.text


def test_output_is_complete_and_newlines_are_single(terminal):
    t = terminal("sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")
    assert t.wait() == 0
    lines = t.text.split("\r\n")
    assert lines[:2000] == [f"line {i}" for i in range(2000)]
