# SPDX-License-Identifier: Apache-2.0
"""In a VM of script/vm only, where systemd is: its unit, and the scope that doctor recommends to users, get all limits."""

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from conftest import Runner, build, crew_home, stage  # noqa: E402,F401
from crewlib import Crew, eventually  # noqa: E402

USER = "crew"
ALL = {"cgroup-memory", "cgroup-pids", "cgroup-cpu"}
UNIT = Path(__file__).resolve().parent.parent.parent / "dist/crewd@.service"

pytestmark = pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd does not run here")


class UserRunner(Runner):
    """As an ordinary user who has logged in."""

    def __init__(self, stage, home):
        super().__init__(stage, home, "rootless")
        self.user = USER

    def env(self, extra=None):
        return super().env({"XDG_RUNTIME_DIR": f"/run/user/{pwd.getpwnam(USER).pw_uid}", **(extra or {})})


@pytest.fixture
def user(stage, crew_home):
    r = UserRunner(stage, crew_home)
    r.own(crew_home)
    yield r
    r.stop_all()


def spawned(log):
    if not log.exists():
        return []
    return [r for r in map(json.loads, log.read_text().split("\n")[:-1]) if r["kind"] == "agent.spawned"]


def limits_by(log):
    return set(eventually(lambda: spawned(log), timeout=60)[0]["limits_by"].replace(",", " ").split())


def in_scope(runner, *command):
    fix = next(f["fix"] for f in json.loads(runner.crewctl("doctor", "--json").stdout)["rootless"]["findings"]
               if f["wall"] == "limits")
    words = fix.split()
    return [*words[:words.index("crewctl")], runner.program("crewctl"), *command]


@pytest.mark.parametrize("how", [["up"], ["up", "--detach"]], ids=" ".join)
def test_the_scope_that_doctor_recommends_has_all_limits(user, how):
    crew = Crew(user).agent("a", limits="cpu: 1")
    p = user.popen(*in_scope(user, *how, crew.write()), stdin=subprocess.DEVNULL)
    try:
        assert ALL <= limits_by(user.home / "lib/t/audit/a/log.jsonl")
    finally:
        assert user.crewctl("down").returncode == 0
        p.wait(30)


def test_doctor_inside_of_that_scope_has_nothing_to_mend(user):
    said = json.loads(user.run(*in_scope(user, "doctor", "--json")).stdout)
    assert {f["wall"]: f["level"] for f in said["rootless"]["findings"]}["limits"] == "ok"


def test_the_unit_has_all_limits(stage):
    """dist/crewd@.service as it is, but for where the programs lie."""
    libexec, unit = Path("/usr/local/libexec/crewd"), Path("/etc/systemd/system/crewd@.service")
    shutil.copytree(stage / "policies", "/usr/local/share/crewd/policies", dirs_exist_ok=True)
    libexec.mkdir(parents=True)
    for program in (stage / "bin").iterdir():
        (libexec / program.name).write_bytes(program.read_bytes())
        (libexec / program.name).chmod(0o755)
    unit.write_bytes(UNIT.read_bytes())
    home = Path("/etc/crewd/unit")
    home.mkdir(parents=True)
    (home / "crew.yaml").write_text("crew: unit\nprocess: sequential\npolicies: .\nagents:\n"
                                    "  a: {policy: a.yaml, role: r, goal: g, command: [cat], driver: exec-json}\n")
    (home / "a.yaml").write_text('agent: a\nsandbox:\n  mode: deny-by-default\n  tools: {denied: ["*"]}\n  limits: {cpu: 1}\n')
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", "crewd@unit"], check=True)
    try:
        assert ALL <= limits_by(Path("/var/lib/crewd/unit/audit/a/log.jsonl"))
        groups = Path("/sys/fs/cgroup/system.slice/system-crewd.slice/crewd@unit.service")
        assert [g.name.rsplit("-", 2)[0] for g in (groups / "crewd").iterdir() if g.is_dir()] == ["unit"]
    except AssertionError:
        print(subprocess.run(["journalctl", "-u", "crewd@unit", "--no-pager"], stdout=subprocess.PIPE, text=True).stdout)
        raise
    finally:
        subprocess.run(["systemctl", "stop", "crewd@unit"], check=True)
    assert not os.path.exists("/run/crewd/unit/control.sock")
