"""What pip installs beside the program, and where man, the shells and systemd look for it."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from cablectl import __version__
from tests.support.places import ROOT
from tests.support.sandbox import MAX_EXPOSURE

UNITS = sorted((ROOT / "systemd").iterdir())
PLACES = {
    "completions/cablectl.bash": "share/bash-completion/completions/cablectl",
    "completions/_cablectl": "share/zsh/site-functions/_cablectl",
    "completions/cablectl.fish": "share/fish/vendor_completions.d/cablectl.fish",
    **{f"systemd/{unit.name}": f"lib/systemd/system/{unit.name}" for unit in UNITS},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def shared(wheel: Path) -> dict[str, bytes]:
    """Return what the wheel puts below the prefix, by path."""
    with ZipFile(wheel) as archive:
        parts = [(name, name.partition(".data/data/")[2]) for name in archive.namelist()]
        return {path: archive.read(name) for name, path in parts if path}


def test_the_wheel_has_every_page_completion_and_unit_in_its_place(
    shared: dict[str, bytes],
) -> None:
    pages = sorted((ROOT / "man").glob("*.[1-9]"))
    assert "cablectl.8" in [page.name for page in pages]
    expected = {f"share/man/man{page.suffix[1:]}/{page.name}": page for page in pages}
    expected |= {place: ROOT / source for source, place in PLACES.items()}
    assert {ROOT / source for source in PLACES} >= {*(ROOT / "completions").iterdir(), *UNITS}
    assert shared == {place: source.read_bytes() for place, source in expected.items()}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_in_a_sandbox(unit: Path, record_property: Callable[[str, object], None]) -> None:
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", told)
    assert found, told
    record_property(f"exposure of {unit.name}, of 10", found[1])
    assert float(found[1]) <= MAX_EXPOSURE, told


def test_the_version_has_one_place() -> None:
    """pyproject.toml has none of its own; the changelogs name the version of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ("version" in project, project["dynamic"]) == (False, ["version"])
    assert (ROOT / "debian" / "changelog").read_text().startswith(f"cablectl ({__version__}) ")
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_has_the_version_of_the_package(wheel: Path) -> None:
    assert wheel.name.startswith(f"cablectl-{__version__}-")
    with ZipFile(wheel) as archive:
        metadata = archive.read(f"cablectl-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata
