# SPDX-License-Identifier: Apache-2.0
"""Every command of the README runs, in order, in a copy of the tree, and ends as the README says."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
README = (SOURCE / "README.md").read_text()
# The two entry points have tests of their own: this suite is script/test; the demo has its own test below.
ELSEWHERE = {"script/test"}
EXPECTED_STATUS = {"-- cat /etc/shadow": 1}


def commands():
    return [line for block in re.findall(r"^```sh\n(.*?)^```", README, re.S | re.M) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """What a clone has, beside the programs that are already built."""
    top = tmp_path_factory.mktemp("readme") / "crewd"
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=SOURCE,
                           capture_output=True, check=True).stdout.split(b"\0")
    for f in filter(None, files):
        src, dst = SOURCE / os.fsdecode(f), top / os.fsdecode(f)
        if src.is_file():
            dst.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(src, dst)
    shutil.copytree(os.environ.get("CREWD_BUILD", SOURCE / "build"), top / "build", symlinks=True)
    (top / "build" / "policies").unlink()
    (top / "build" / "policies").symlink_to(top / "policies")
    return top


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    home = Path("/var/tmp") / f"crewd-readme-{os.getpid()}"
    home.mkdir()
    yield {**os.environ, "CREWD_HOME": str(home), "LANG": "C.UTF-8"}
    shutil.rmtree(home, ignore_errors=True)


def test_the_readme_names_both_entry_points():
    assert commands()[:2] == ["script/demo", "script/test"]


def test_every_command_runs_as_written(tree, env):
    ran = 0
    for command in commands():
        if command in ELSEWHERE or command == "script/demo":
            continue
        r = subprocess.run(["bash", "-c", command], cwd=tree, env=env, capture_output=True, text=True, timeout=300,
                           stdin=subprocess.DEVNULL)
        want = next((v for k, v in EXPECTED_STATUS.items() if command.endswith(k)), 0)
        assert r.returncode == want, f"$ {command}\nexit {r.returncode}\n{r.stdout}\n{r.stderr}"
        ran += 1
    assert ran > 10
    shutil.rmtree("/tmp/crewd-install", ignore_errors=True)


def test_the_readme_shows_the_example_as_it_is():
    blocks = re.findall(r"^```yaml\n(.*?)^```", README, re.S | re.M)
    for name, block in zip(("crew.yaml", "greeter.yaml"), blocks):
        text = (SOURCE / "examples/hello" / name).read_text()
        strip = lambda s: [line for line in s.splitlines() if line.strip() and not line.lstrip().startswith("#")]  # noqa: E731
        assert strip(block) == strip(text), name


def test_the_demo_shows_reports_audit_and_refusals(tree, env):
    r = subprocess.run(["script/demo"], cwd=tree, env=env, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    out = r.stdout
    assert r.returncode == 0, out + r.stderr
    assert "3 of 3 tasks done" in out
    for client in ("acme-pension", "birch-family", "cedar-endowment", "delta-single"):
        pdf = Path("/tmp/reports") / f"{client}.pdf"
        assert str(pdf) in out and pdf.read_bytes().startswith(b"%PDF-")
    assert re.search(r"NETWORK: ALLOWED -> api\.marketdata\.com:443", out)
    assert re.search(r"NETWORK: CLOSED -> api\.marketdata\.com:443 \([\d.]+ \w+ out, [\d.]+ KB in, \d+ ms\)", out)
    assert re.search(r"NETWORK: DENIED -> exfil\.attacker\.com:443 \(not in allowed_endpoints", out)
    assert re.search(r"NETWORK: DENIED -> 203\.0\.113\.66:443 \(not in allowed_endpoints", out)
    if os.geteuid() == 0:
        assert re.search(r"FILE_READ: DENIED -> /data/client-portfolios", out)
    assert "denied: no rule allows it" in out
    with socket.socket() as s:  # the market-data service went with the demo
        assert s.connect_ex(("127.0.0.1", 18443)) != 0
    figures = independent_figures(tree)
    for got in json.loads(Path("/tmp/reports/summary.json").read_text())["clients"]:
        want = figures(json.loads((tree / f"examples/financial-crew/portfolios/{got['client']}.json").read_text()))
        assert got == pytest.approx(got | want, rel=1e-9), got["client"]


def independent_figures(tree):
    """The other computation of the example's own tests."""
    spec = importlib.util.spec_from_file_location("test_figures", tree / "examples/financial-crew/tests/test_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.independent
