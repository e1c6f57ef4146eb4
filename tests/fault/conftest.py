# SPDX-License-Identifier: Apache-2.0
"""Fixtures for real binaries in both modes come from tests/integration/conftest.py."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

INTEGRATION = Path(__file__).resolve().parent.parent / "integration"
_spec = importlib.util.spec_from_file_location("crewd_fixtures", INTEGRATION / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
build, stage, mode, crew_home, runner = (
    _fixtures.build, _fixtures.stage, _fixtures.mode, _fixtures.crew_home, _fixtures.runner)
sys.path.insert(0, str(INTEGRATION))


@pytest.fixture
def library(build, stage):
    """The preloaded library, where every user can read it."""
    built = build / "tests" / "fault" / "libfaultlib.so"
    if not built.exists():
        pytest.skip("no fault library: a sanitizer build")
    copy = stage / "bin" / built.name
    if not copy.exists():
        shutil.copy2(built, copy)
        os.chmod(copy, 0o755)
    return copy
