from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.executor import Commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    stand_ins = Commands(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return stand_ins
