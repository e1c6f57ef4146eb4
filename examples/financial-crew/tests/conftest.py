# SPDX-License-Identifier: Apache-2.0
"""The fixtures that run the real binaries, from the tests of the tree."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "crewd_fixtures", Path(__file__).resolve().parents[3] / "tests" / "integration" / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
build, stage, mode, crew_home, runner = (
    _fixtures.build, _fixtures.stage, _fixtures.mode, _fixtures.crew_home, _fixtures.runner)
