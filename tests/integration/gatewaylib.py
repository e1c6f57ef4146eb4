# SPDX-License-Identifier: Apache-2.0
"""The programs with fake_gateway.py in the place of crew-gateway: what crewd makes of whatever a gateway says."""

import json
import shutil
from pathlib import Path

import pytest


class Fake:
    def __init__(self, runner, monkeypatch, **play):
        self.runner, self.top = runner, runner.tree({"play.json": json.dumps(play)}, name="fake")
        stage = runner.home / "stage"
        shutil.copytree(runner.stage, stage, symlinks=True)
        shutil.copy(Path(__file__).with_name("fake_gateway.py"), stage / "bin" / "crew-gateway")
        (stage / "bin" / "crew-gateway").chmod(0o755)
        monkeypatch.setattr(runner, "stage", stage)
        env = runner.env
        monkeypatch.setattr(runner, "env", lambda extra=None: env(
            {"FAKE_GATEWAY": str(self.top), "SECRET_TOKEN": "s3cr3t-value", **(extra or {})}))

    def play(self, **play):
        (self.top / "play.json").write_text(json.dumps(play))

    def heard(self, op=None):
        path = self.top / "heard.jsonl"
        lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
        return [m for m in lines if op is None or m.get("op") == op]


@pytest.fixture
def fake(runner, monkeypatch):
    return lambda **play: Fake(runner, monkeypatch, **play)
