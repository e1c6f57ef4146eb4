# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that run the real binaries.

CREWD_BUILD names the build directory (default: build/ in the source tree).  The programs are staged into a world-readable
directory first, so that the rootless half of each test can run them whatever the permissions of the checkout are.
"""

import errno
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

# In the background of a shell it is ignored, and would be by every program that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SOURCE = Path(__file__).resolve().parent.parent.parent
# Where the programs that run outside a jail come from, when that is another build (script/test: a sanitized one).
SANITIZED = os.environ.get("CREWD_SANITIZED")
OUTSIDE = {"crewctl", "crewd", "crew-evidence", "crew-gateway", "crew-webhook"}
BUILD = Path(os.environ.get("CREWD_BUILD", SOURCE / "build")).resolve()
PROGRAMS = {
    "cli/crewctl": True,
    "supervisor/crewd": True,
    "supervisor/evidence/crew-evidence": False,
    "gateway/crew-gateway": False,
    "gateway/crew-webhook": True,
    "worker/crew-worker": True,
    "worker/crew-call": True,
}
sys.path.insert(0, str(SOURCE / "sdk" / "python"))


def other_user():
    """The unprivileged user of the rootless half: CREWD_TEST_USER, else nobody."""
    return os.environ.get("CREWD_TEST_USER", "nobody")


def modes():
    return ["root", "rootless"] if os.geteuid() == 0 else ["rootless"]


@pytest.fixture(scope="session")
def build():
    if not (BUILD / "cli" / "crewctl").exists():
        pytest.fail(f"no build in {BUILD}: run `meson setup build && ninja -C build`, or set CREWD_BUILD")
    return BUILD


@pytest.fixture(scope="session")
def stage(build):
    """A copy of the programs and policies that every user can read."""
    top = Path(tempfile.mkdtemp(prefix="crewd-stage-", dir="/var/tmp"))
    top.chmod(0o755)
    bindir = top / "bin"
    bindir.mkdir(mode=0o755)
    for rel, required in PROGRAMS.items():
        src = (Path(SANITIZED) if SANITIZED and Path(rel).name in OUTSIDE else build) / rel
        if src.exists():
            shutil.copy2(src, bindir / src.name)
            (bindir / src.name).chmod(0o755)
        elif required:
            pytest.fail(f"{src} was not built")
    shutil.copytree(SOURCE / "policies", top / "policies")
    subprocess.run(["chmod", "-R", "a+rX", str(top)], check=True)
    yield top
    shutil.rmtree(top, ignore_errors=True)


def remove_group(path, timeout=30):
    """A control group goes when the last of its processes has been reaped."""
    end = time.monotonic() + timeout
    while True:
        try:
            return os.rmdir(path)
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


class Runner:
    """Runs our programs as one user with a CREWD_HOME of its own."""

    def __init__(self, stage, home, mode):
        self.stage, self.home, self.mode = stage, home, mode
        self.user = None if mode == "root" or os.geteuid() != 0 else other_user()
        self.children = []
        self.groups = []

    @property
    def rootless(self):
        return self.mode == "rootless"

    def env(self, extra=None):
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "CREWD_HOME": str(self.home),
            "LANG": "C.UTF-8",
        }
        for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if key in os.environ:
                env[key] = os.environ[key]
        env.update(extra or {})
        return env

    def argv(self, *args):
        argv = [str(a) for a in args]
        if self.user and os.environ.get("CREWD_TEST_DELEGATED"):
            enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.delegated_group()]
        else:
            enter = []
        if self.user:
            return [*enter, "setpriv", "--reuid", self.user, "--regid", str(pwd.getpwnam(self.user).pw_gid), "--clear-groups", *argv]
        return argv

    def delegated_group(self):
        """A version 2 control group of this runner's user, as systemd's Delegate=yes makes one; each takes one command."""
        group = Path(f"/sys/fs/cgroup/test-{os.getpid()}-{id(self):x}-{len(self.groups)}")
        group.mkdir()
        self.groups.append(group)
        pw = pwd.getpwnam(self.user)
        for p in (group, *(group / f"cgroup.{name}" for name in ("procs", "threads", "subtree_control"))):
            os.chown(p, pw.pw_uid, pw.pw_gid)
        return str(group)

    def program(self, name):
        return str(self.stage / "bin" / name)

    def run(self, *args, input=None, env=None, timeout=120, check=False, cwd=None, **kw):
        """Any command as this runner's user; text in, text out."""
        r = subprocess.run(
            self.argv(*args), input=input, env=self.env(env), timeout=timeout, cwd=cwd or self.home,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="surrogateescape",
            stdin=subprocess.DEVNULL if input is None else None, **kw)
        if check and r.returncode != 0:
            raise AssertionError(f"{args}: exit {r.returncode}\n{r.stdout}\n{r.stderr}")
        return r

    def crewctl(self, *args, **kw):
        return self.run(self.program("crewctl"), *args, **kw)

    def popen(self, *args, env=None, **kw):
        p = subprocess.Popen(self.argv(*args), env=self.env(env), cwd=kw.pop("cwd", self.home), **kw)
        self.children.append(p)
        return p

    def up(self, crew_file, *args, timeout=60):
        """`crewctl up CREW` in the foreground as a child; returns once status answers."""
        p = self.popen(self.program("crewctl"), "up", *args, str(crew_file), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if p.poll() is not None:
                raise AssertionError(f"crewctl up exited {p.returncode}: {p.stdout.read()}")
            r = self.crewctl("status", "--json")
            if r.returncode == 0:
                states = [a["state"] for a in json.loads(r.stdout)["agents"]]
                if states and all(s not in ("declared", "spawning") for s in states):
                    return p
            time.sleep(0.05)
        raise AssertionError("the crew did not come up")

    def status(self):
        return json.loads(self.crewctl("status", "--json", check=True).stdout)

    def records(self, crew, agent):
        """The agent's audit records as dicts, but for one that is being written."""
        path = self.home / "lib" / crew / "audit" / agent / "log.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]

    def own(self, path):
        """Gives a tree the test made to this runner's user."""
        if self.user:
            pw = pwd.getpwnam(self.user)
            for p in [path, *Path(path).rglob("*")]:
                os.chown(p, pw.pw_uid, pw.pw_gid, follow_symlinks=False)
        return path

    def tree(self, files, name="crew"):
        """Writes {relative path: text or bytes} below a fresh directory of this user; executables are those with '#!'."""
        top = Path(tempfile.mkdtemp(prefix=name + "-", dir=self.home))
        top.chmod(0o755)
        for rel, content in files.items():
            p = top / rel
            p.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            p.write_bytes(data)
            p.chmod(0o755 if data.startswith(b"#!") or data.startswith(b"\x7fELF") else 0o644)
        return self.own(top)

    def stop_all(self):
        for p in self.children:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.children:
            try:
                p.wait(60)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            for stream in (p.stdout, p.stderr, p.stdin):
                if stream:
                    stream.close()
        for group in self.groups:
            (group / "cgroup.kill").write_text("1")
            for top, _, _ in os.walk(group, topdown=False):
                remove_group(top)


@pytest.fixture(params=modes())
def mode(request):
    return request.param


@pytest.fixture
def crew_home():
    """A fresh CREWD_HOME; short, because unix socket paths end at 108 bytes."""
    home = Path(tempfile.mkdtemp(prefix="crewd-t-", dir="/var/tmp"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def runner(stage, crew_home, mode):
    """Parametrised over root and rootless; what a test should normally use."""
    r = Runner(stage, crew_home, mode)
    r.own(crew_home)
    yield r
    r.stop_all()


@pytest.fixture
def crewctl(runner):
    return runner.crewctl


@pytest.fixture
def as_user(runner):
    return runner.mode
