from __future__ import annotations

import os
from pathlib import Path

import pytest

from cablectl.model.cable import Cable
from tests.support.documents import meshed
from tests.support.executor import Commands
from tests.support.mesh_host import Host


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    stand_ins = Commands(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return stand_ins


@pytest.fixture
def cables() -> tuple[Cable, ...]:
    return meshed("transport vxlan v4 mesh", "cluster3")  # the lowest address: it initiates


@pytest.fixture
def host(tmp_path: Path, cables: tuple[Cable, ...], monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Host(tmp_path, cables)
