# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 2: a kernel that lacks what the jail is made of, simulated by a seccomp filter around our programs."""

import errno
import json
from pathlib import Path

import pytest

from crewlib import Crew, eventually

LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same numbers on every architecture
CAUSES = {
    errno.ENOSYS: "this kernel was built without it (CONFIG_SECURITY_LANDLOCK, 5.13 or later)",
    errno.EOPNOTSUPP: "switched off at boot; add landlock to lsm= on the kernel command line",
}
STRICT = """agent: a
sandbox:
  mode: deny-by-default
  tools: {denied: ["*"]}
"""
DEGRADED = STRICT + "  allow_degraded: [landlock]\n"


class Kernel:
    """A host on which some system calls answer with an errno."""

    def __init__(self, runner, code):
        self.runner, self.code = runner, code
        self.launcher = runner.tree(
            {"without_calls.py": (Path(__file__).parent / "without_calls.py").read_text()}) / "without_calls.py"

    def run(self, program, *args):
        calls = [f"{n}={self.code}" for n in LANDLOCK]
        return self.runner.run("/usr/bin/python3", "-I", self.launcher, *calls, "--", self.runner.program(program), *args)


@pytest.fixture(params=CAUSES, ids=lambda code: errno.errorcode[code])
def kernel(runner, request):
    return Kernel(runner, request.param)


def crew_with(runner, policy):
    crew = Crew(runner).agent("a").task("one", "a")
    crew.files["a.yaml"] = policy
    return crew


def test_the_simulation_bites(kernel):
    """The control: the probe itself sees no Landlock there, and sees it here."""
    there, here = kernel.run("crewctl", "doctor", "--json"), kernel.runner.crewctl("doctor", "--json")
    assert [json.loads(r.stdout)["probes"]["landlock"] for r in (there, here)] == [errno.errorcode[kernel.code].replace("ENOTSUP", "EOPNOTSUPP"), True]


def test_a_sandbox_is_refused_by_name(kernel):
    policy = kernel.runner.tree({"strict.yaml": STRICT}) / "strict.yaml"
    r = kernel.run("crewctl", "sandbox", "--policy", policy, "--", "echo", "it ran")
    assert (r.returncode, r.stdout) == (125, "")
    assert r.stderr == (f"crewctl: sandbox: the jail could not be made: plan: Landlock is missing: {CAUSES[kernel.code]}\n"
                        "  crewctl doctor says what this kernel lacks and how to fix it\n")


def test_a_sandbox_that_may_do_without_says_so(kernel):
    policy = kernel.runner.tree({"degraded.yaml": DEGRADED}) / "degraded.yaml"
    r = kernel.run("crewctl", "sandbox", "--policy", policy, "--", "cat", "/proc/self/status")
    assert r.returncode == 0
    assert r.stderr == "crewctl: sandbox: without landlock, as allow_degraded permits\n"
    assert "Seccomp:\t2" in r.stdout and "CapEff:\t0000000000000000" in r.stdout and "NoNewPrivs:\t1" in r.stdout


@pytest.mark.parametrize("verb", [["run"], ["up"], ["up", "--detach"]], ids=" ".join)
def test_a_crew_is_refused_by_name_and_leaves_nothing(kernel, verb):
    runner = kernel.runner
    crew = crew_with(runner, STRICT)
    r = kernel.run("crewctl", *verb, crew.write())
    assert (r.returncode, r.stdout) == (69, "")
    said = f"agent a did not start: plan: Landlock is missing: {CAUSES[kernel.code]}\n"
    assert f"crewctl: {said}" in r.stderr
    assert "crewctl doctor shows what this kernel can enforce and the fixes\n" in r.stderr
    assert not (crew.run_dir / "control.sock").exists()
    assert not list(crew.run_dir.glob("links/*"))
    assert crew.records("a", "agent.terminated")[0]["cause"] == "start failed"
    assert not crew.records("a", "agent.spawned")


def test_crewd_itself_exits_69(kernel):
    crew = crew_with(kernel.runner, STRICT)
    r = kernel.run("crewd", crew.write())
    assert r.returncode == 69
    assert r.stderr.endswith(f"crewd: agent a did not start: plan: Landlock is missing: {CAUSES[kernel.code]}\n")


def test_a_crew_that_may_do_without_names_it_everywhere(kernel):
    runner = kernel.runner
    crew = crew_with(runner, DEGRADED)
    r = kernel.run("crewctl", "up", "--detach", crew.write())
    assert r.returncode == 0, r.stderr
    try:
        status = runner.crewctl("status").stdout
        assert "  without landlock" in status.splitlines()[-1], status
        assert runner.status()["agents"][0]["walls"].startswith("without landlock")
        spawned, = eventually(lambda: crew.records("a", "agent.spawned"))
        assert (spawned["degraded"], spawned["landlock_abi"], spawned["seccomp"]) == ("landlock", 0, 2)
        assert ", without landlock, " in runner.crewctl("logs", "--agent", "a").stdout
        r = runner.crewctl("exec", "--agent", "a", "--", "cat", "/etc/shadow")
        assert (r.returncode, r.stdout) == (0, "")  # a decoy that can be read now: still nothing real is behind it
    finally:
        assert runner.crewctl("down").returncode == 0
    eventually(lambda: not (crew.run_dir / "control.sock").exists())


def test_doctor_names_it_and_the_fix(kernel):
    r = kernel.run("crewctl", "doctor")
    assert r.returncode == 69
    line, fix = {
        errno.ENOSYS: ("  ✗ file walls                this kernel has no landlock\n", "CONFIG_SECURITY_LANDLOCK=y"),
        errno.EOPNOTSUPP: ("  ✗ file walls                landlock is built in but switched off at boot\n", "lsm=landlock"),
    }[kernel.code]
    assert line in r.stdout
    after = r.stdout.split(line)[1].splitlines()[0]
    assert after.startswith("      fix: ") and fix in after
