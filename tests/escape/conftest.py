# SPDX-License-Identifier: Apache-2.0
"""The world an attacker finds: a policy over a small tree, and outside of it what it is after.

Fixtures for real binaries in both modes come from tests/integration/conftest.py.
"""

import ctypes
import fcntl
import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from escapelib import KEY

_spec = importlib.util.spec_from_file_location(
    "crewd_fixtures", Path(__file__).resolve().parent.parent / "integration" / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
build, stage, mode, crew_home, runner = (
    _fixtures.build, _fixtures.stage, _fixtures.mode, _fixtures.crew_home, _fixtures.runner)

LIBC = ctypes.CDLL(None, use_errno=True)
AGENT_UID = 200001  # the first host uid of the range: in root mode most likely the very uid of the jailed agent

POLICY = """
agent: attacker
sandbox:
  mode: deny-by-default
  filesystem:
    read:  ["{h}/read/", "{h}/read2/"]
    write: ["{h}/write/", "{h}/write2/"]
    exec:  ["{h}/exec/"]
    deny:  ["{h}/read/hole/", "{h}/write/a/hole/"]
    read_only: ["{h}/write/a/keep/"]
  network: {{deny_all: true}}
  limits: {{memory: 64MiB, processes: 16, open_files: 64, tmp: 8MiB, output: 16MiB}}
"""


class World:
    """One attacker's home, and ways to run the attack in and out of the jail."""

    def __init__(self, runner, build):
        self.runner, self.home, self.build = runner, runner.home, build
        self.policy = self.home / "policy.yaml"
        self._lay_out()
        self.victims = []

    def _lay_out(self):
        h = self.home
        for d in ("read/sub", "read/hole", "read2", "write/a/keep", "write/a/hole", "write/a/b", "write2", "exec", "private"):
            (h / d).mkdir(parents=True)
        (h / "read/file").write_text("readable")
        (h / "read/hole/secret").write_text("secret")
        (h / "write/file").write_text("writable")
        (h / "write/a/keep/file").write_text("keep")
        (h / "write/a/hole/secret").write_text("secret")
        (h / "private/secret").write_text("secret")
        (h / "private/secret").chmod(0o644)
        for name, src in (("attack", self.build / "tests/escape/attack"), ("plain", Path("/usr/bin/true"))):
            shutil.copyfile(src, h / "exec" / name)
            (h / "exec" / name).chmod(0o755)
        shutil.copyfile("/usr/bin/true", h / "read/program")
        (h / "read/program").chmod(0o755)
        shutil.copyfile(self.build / "tests/escape/libescape-preload.so", h / "write/preload.so")
        self.policy.write_text(POLICY.format(h=h))
        self.runner.own(h)
        if os.geteuid() == 0:
            shutil.copyfile(self.build / "tests/escape/attack", h / "exec/suid")
            os.chown(h / "exec/suid", 0, 0)
            (h / "exec/suid").chmod(0o4755)

    def path(self, rel):
        return str(self.home / rel)

    def sandbox(self, *command, **kw):
        """In the jail."""
        return self.runner.crewctl("sandbox", "--policy", self.policy, "--", *command, **kw)

    def inside(self, *attack, **kw):
        return self.sandbox(self.path("exec/attack"), *attack, **kw)

    def outside(self, *attack, user=None, wrap=(), **kw):
        """The same program without a jail: the control run."""
        argv = [*wrap, self.path("exec/attack"), *[str(a) for a in attack]]
        if user is not None:
            argv = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *argv]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, cwd=self.home, **kw)

    def victim(self):
        """A process outside that the attacker is after: of its own host uid where the test may choose one."""
        argv = ["sleep", "300"]
        if os.geteuid() == 0:
            uid = AGENT_UID if self.runner.mode == "root" else None
            argv = (["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *argv] if uid
                    else self.runner.argv(*argv))
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while Path(f"/proc/{p.pid}/comm").read_text().strip() != "sleep":
            assert p.poll() is None
        self.victims.append(p)
        return p

    def close(self):
        for p in self.victims:
            p.kill()
            p.wait()


@pytest.fixture
def world(runner, build):
    w = World(runner, build)
    yield w
    w.close()


@pytest.fixture
def ipc_objects():
    """System V and POSIX objects of the host that everybody may open.  Their names are the host's: one test at a time."""
    lock = open("/var/tmp/crewd-escape.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    made = {"shm": LIBC.shmget(KEY, 4096, 0o1666), "msg": LIBC.msgget(KEY, 0o1666), "sem": LIBC.semget(KEY, 1, 0o1666)}
    assert all(i >= 0 for i in made.values()), os.strerror(ctypes.get_errno())
    mq = LIBC.mq_open(b"/crewd-escape", os.O_RDWR | os.O_CREAT, 0o666, None)
    assert mq >= 0, os.strerror(ctypes.get_errno())
    LIBC.fchmod(mq, 0o666)
    os.close(mq)
    shm = Path("/dev/shm/crewd-escape")
    shm.write_text("x")
    shm.chmod(0o666)
    yield
    shm.unlink()
    LIBC.mq_unlink(b"/crewd-escape")
    LIBC.shmctl(made["shm"], 0, None)
    LIBC.msgctl(made["msg"], 0, None)
    LIBC.semctl(made["sem"], 0, 0)
    lock.close()


@pytest.fixture
def sockets(world):
    """Listeners of the host: by path, abstract, TCP and UDP."""
    path, abstract = world.path("private/sock"), f"crewd-escape-{os.getpid()}"
    listeners = []
    for family, kind, addr in ((socket.AF_UNIX, socket.SOCK_STREAM, path),
                               (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + abstract),
                               (socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
                               (socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0))):
        s = socket.socket(family, kind)
        s.bind(addr)
        s.setblocking(False)
        if kind == socket.SOCK_STREAM:
            s.listen(8)
        listeners.append(s)
    os.chmod(path, 0o666)
    yield {"sock": path, "abstract": "@" + abstract, "tcp": listeners[2].getsockname()[1],
           "udp": listeners[3].getsockname()[1], "listeners": listeners}
    for s in listeners:
        s.close()
