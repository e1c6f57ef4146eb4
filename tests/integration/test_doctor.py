# SPDX-License-Identifier: Apache-2.0
"""crewctl doctor: says what is, and the fix for what is not."""

import errno
import json
import os
import platform
import re
from pathlib import Path

import pytest
from crewlib import Crew, eventually

LANDLOCK_CREATE_RULESET = 444
UNSHARE = {"x86_64": 272, "aarch64": 97}[platform.machine()]


def doctor_without(runner, call, error, *args):
    """On a kernel where this call fails."""
    launcher = runner.tree({"without_calls.py": (Path(__file__).parent / "without_calls.py").read_text()}) / "without_calls.py"
    return runner.run("/usr/bin/python3", "-I", launcher, f"{call}={error}", "--", runner.program("crewctl"), "doctor", *args)


def test_text_names_the_walls_and_sums_up(runner):
    r = runner.crewctl("doctor")
    assert r.returncode in (0, 69), r.stderr
    assert r.stdout.startswith("kernel " + os.uname().release)
    for wall in ("file walls", "tool walls", "system calls", "process walls", "network walls", "kill", "limits", "denial evidence"):
        assert wall in r.stdout
    assert ("as root" in r.stdout) == (runner.mode == "root")


def test_json_has_the_same_verdict(runner):
    r = runner.crewctl("doctor", "--json")
    d = json.loads(r.stdout)
    assert d["kernel"] == os.uname().release
    mine = d["root" if runner.mode == "root" else "rootless"]
    assert ("root" in d) == (runner.mode == "root")
    assert mine["enforceable"] == (r.returncode == 0)
    assert mine["missing"] == sum(f["level"] == "missing" for f in mine["findings"])
    assert set(d["probes"]) >= {"landlock", "userns", "netns", "nftables", "seccomp-notify", "kernel-audit", "fanotify"}


@pytest.mark.parametrize("mode", ["root"])
def test_root_answers_for_others_honestly(runner):
    if os.geteuid() != 0:
        pytest.skip("root's view of the kernel needs CAP_SYS_ADMIN")
    d = json.loads(runner.crewctl("doctor", "--json").stdout)
    by_wall = {f["wall"]: f for f in d["rootless"]["findings"]}
    assert by_wall["denial evidence"]["level"] == "weaker"  # nobody may read the kernel's audit
    assert "file evidence" not in by_wall


@pytest.mark.parametrize("error, fix", [(errno.ENOSYS, "CONFIG_SECURITY_LANDLOCK"), (errno.EOPNOTSUPP, "lsm=landlock")])
def test_missing_landlock_is_named_with_its_fix(runner, error, fix):
    r = doctor_without(runner, LANDLOCK_CREATE_RULESET, error)
    assert r.returncode == 69
    assert "fix: " in r.stdout and fix in r.stdout and "to fix" in r.stdout


def test_forbidden_user_namespaces_are_named(runner):
    r = doctor_without(runner, UNSHARE, errno.EPERM, "--json")
    assert r.returncode == 69
    d = json.loads(r.stdout)
    mine = d["root" if runner.mode == "root" else "rootless"]
    missing = [f for f in mine["findings"] if f["level"] == "missing"]
    assert "process walls" in {f["wall"] for f in missing}
    assert all(f.get("fix") for f in missing)


def test_it_changes_nothing(runner):
    def mounts():
        """But for those that other tests make meanwhile, each in its home."""
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return [line for line in f if " /var/tmp/crewd-" not in line or f" {runner.home}" in line]

    before = mounts(), sorted(os.listdir(runner.home))
    runner.crewctl("doctor")
    assert (mounts(), sorted(os.listdir(runner.home))) == before


def test_what_it_says_of_limits_is_what_a_crew_gets(runner):
    d = json.loads(runner.crewctl("doctor", "--json").stdout)
    kinds = ("cgroup-memory", "cgroup-pids", "cgroup-cpu")
    crew = Crew(runner).agent("a", limits="cpu: 1")
    with crew.start():
        limits_by = eventually(lambda: crew.records("a", "agent.spawned"))[0]["limits_by"]
    assert {k for k in kinds if d["probes"][k] is True} == {k for k in kinds if k in limits_by}
    if os.environ.get("CREWD_TEST_DELEGATED") and runner.mode == "rootless":
        assert set(kinds) <= set(re.findall(r"[\w-]+", limits_by) if isinstance(limits_by, str) else limits_by)


def test_without_the_kernels_audit_it_says_what_denials_are_told_by(runner):
    socket = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    d = json.loads(doctor_without(runner, f"{socket}@2:9", errno.EPROTONOSUPPORT, "--json").stdout)
    mine = d["root" if runner.mode == "root" else "rootless"]
    said = next(f for f in mine["findings"] if f["wall"] == "denial evidence")
    assert said["level"] == "weaker" and said["text"].startswith("attempts, by seccomp notification")
    if runner.mode == "root" and d["landlock_abi"] >= 7:
        assert said["text"].endswith(": the kernel's audit cannot be read")
