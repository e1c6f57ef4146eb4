# SPDX-License-Identifier: Apache-2.0
"""In a VM of script/vm only, as root: version 2 control groups that crewd may use, and those that it leaves alone."""

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from conftest import build, stage  # noqa: E402,F401

TOP = Path("/sys/fs/cgroup")
POLICY = """agent: a
sandbox:
  mode: deny-by-default
  filesystem: {read: [], write: []}
  network: {deny_all: true}
  tools: {denied: ["*"]}
  limits: {memory: 48MiB}
"""
KILLED = 137  # by the group's limit; where there is none, by a failed allocation

pytestmark = pytest.mark.skipif(not (TOP / "cgroup.controllers").exists(), reason="no version 2 tree here")


@pytest.fixture
def group():
    g = TOP / f"crewd-test-{os.getpid()}"
    g.mkdir()
    yield g
    (g / "cgroup.kill").write_text("1")
    for d in [*sorted((p for p in g.rglob("*") if p.is_dir()), reverse=True), g]:
        while (d / "cgroup.events").read_text().startswith("populated 1"):
            time.sleep(0.01)
        d.rmdir()


@pytest.fixture
def run(stage, group, tmp_path):
    policy = tmp_path / "a.yaml"
    policy.write_text(POLICY)

    def run(script):
        """In that group; "$@" takes more memory than the policy allows."""
        hog = [stage / "bin/crewctl", "sandbox", "--policy", policy, "--", "python3", "-c", "print(len(b'x' * (96 << 20)))"]
        return subprocess.run(["sh", "-c", f'echo 0 >"$0/cgroup.procs" && {script}', group, *hog], timeout=60, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    return run


def test_alone_in_its_group_it_uses_that(run, group):
    assert run('exec "$@"').returncode == KILLED
    assert (group / "crewd").is_dir()


def test_a_shell_and_its_jobs_stay_where_they_are(run, group):
    r = run('{ sleep 60 & "$@"; echo $?; cat /proc/$$/cgroup /proc/$!/cgroup; kill $!; }')
    assert r.stdout.split("\n") == [str(KILLED), *[f"0::/{group.name}"] * 2, ""]
    assert not (group / "crewd.self").exists()


def test_a_group_that_another_user_may_freeze_is_not_used(run, group):
    os.chown(group, pwd.getpwnam("crew").pw_uid, -1)
    assert run('exec "$@"').returncode == KILLED
    assert not (group / "crewd").exists()


def test_a_group_with_both_processes_and_controllers_is_not_used(run, group):
    r = run('{ echo +pids >"$0/cgroup.subtree_control" && "$@"; echo $?; }')
    assert r.stdout == f"{KILLED}\n"
    assert not (group / "crewd").exists()


def test_what_is_mounted_over_the_tree_is_not_taken_for_it(run):
    hidden = 'mount -t tmpfs none /sys/fs/cgroup && { "$@" >&2; echo $?; ls /sys/fs/cgroup; }'
    r = run(f"exec unshare -m sh -c '{hidden}' sh \"$@\"")
    assert r.stdout == "1\n"  # limited by what needs no group
