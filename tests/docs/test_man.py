# SPDX-License-Identifier: Apache-2.0
"""Man pages are well-formed mdoc, complete against the programs, and refer to pages that exist."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
PAGES = sorted((SOURCE / "docs/man").glob("*.[0-9]"))
BUILD = Path(os.environ.get("CREWD_BUILD", SOURCE / "build"))


def test_the_promised_pages_exist():
    assert {"crewctl.1", "crewd.8", "crew-gateway.8", "crew-role.5", "crew-file.5", "crew-sandbox.7",
            "crew-protocol.7"} <= {p.name for p in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_mandoc_has_no_warning(page):
    r = subprocess.run(["mandoc", "-Tlint", "-W", "warning", str(page)], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_cross_references_resolve(page):
    ours = {tuple(p.name.rsplit(".", 1)) for p in PAGES}
    for name, section in re.findall(r"^\.Xr (\S+) (\d)", page.read_text(), re.M):
        if name.startswith("crew"):
            assert (name, section) in ours, f"{page.name}: {name}({section})"


def verbs():
    out = subprocess.run([BUILD / "cli/crewctl", "--help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z]+)\s", out, re.M)


def test_crewctl_page_has_every_verb_and_option_of_the_help():
    text = subprocess.run(["mandoc", "-Tutf8", SOURCE / "docs/man/crewctl.1"], capture_output=True, text=True).stdout
    text = re.sub(r".\x08", "", text)
    assert verbs()
    for verb in verbs():
        r = subprocess.run([BUILD / "cli/crewctl", verb, "--help"], capture_output=True, text=True)
        assert r.returncode == 0, verb
        assert verb in text, verb
        for option in set(re.findall(r"--[a-z][a-z-]+", r.stdout)):
            assert option.replace("-", "‐") in text or option in text, f"{verb} {option}"
