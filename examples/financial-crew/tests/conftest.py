# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "integration"))
from conftest import *  # noqa: E402,F401,F403  the fixtures that run the real binaries
