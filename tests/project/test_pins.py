"""What the Debian package is built from: wheels that are pinned by their hashes."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.places import ROOT
from tools import pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RULES = (ROOT / "debian" / "rules").read_text(encoding="utf-8")
FILES = {
    pins.RUNTIME: PROJECT["project"]["dependencies"],
    pins.BUILD: PROJECT["build-system"]["requires"],
}
LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def pinned(path: object) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes by name."""
    text = next(file for file in FILES if file == path).read_text(encoding="utf-8")
    assert text.startswith(pins.HEAD)
    lines = text.removeprefix(pins.HEAD).replace(" \\\n   ", "").splitlines()
    found = {}
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        found[match[1]] = (match[2], match[3].split())
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_pins_what_the_project_needs(path: object) -> None:
    """Nothing that is needed is missing, and each version is allowed."""
    found = pinned(path)
    left = [Requirement(text) for text in FILES[path]]  # type: ignore[index]
    needed: set[str] = set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if requirement.name.startswith(pins.DEBIANS) or name in needed:
            continue
        needed.add(name)
        assert requirement.specifier.contains(found[name][0]), requirement
        more = map(Requirement, metadata.requires(name) or ())
        left += [each for each in more if not each.marker or each.marker.evaluate({"extra": ""})]
    assert found.keys() >= needed


def test_what_is_compiled_has_a_wheel_for_each_python() -> None:
    numbers = {name: len(hashes) for name, (_, hashes) in pinned(pins.RUNTIME).items()}
    assert {name for name, number in numbers.items() if number != 1} == {"msgspec"}
    assert numbers["msgspec"] == len(pins.PYTHONS)


def test_the_pythons_are_those_of_the_package() -> None:
    control = (ROOT / "debian" / "control").read_text(encoding="utf-8")
    assert f"python3 (>= {pins.PYTHONS[0]}~), python3 (<< 3.14)" in control
    assert all(version in RULES for version in pins.PYTHONS)


def test_no_file_names_a_registry() -> None:
    for path in FILES:
        assert "://" not in path.read_text(encoding="utf-8")


def test_the_build_installs_nothing_without_a_hash() -> None:
    assert "--require-hashes" in re.findall(r"^WHEELS := .*", RULES, re.M)[0]
    others = [
        line for line in RULES.splitlines() if re.search(r"\$\(PIP\)|pip (install|wheel)", line)
    ]
    assert [line for line in others if "WHEELS :=" not in line and "--no-index" not in line] == []


def test_versions_that_differ_between_pythons_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(_: object, python: str) -> pins.Pins:
        return {("a", "1"): {python.replace(".", "") * 2}, ("b", python[-1]): {"b"}}

    monkeypatch.setattr(pins, "resolved", resolved)
    with pytest.raises(SystemExit, match=r"not the same version for 3\.11, 3\.12, 3\.13: b"):
        pins.pinned(["a", "b"])


def test_the_text_has_each_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "resolved", lambda _, python: {("a", "1"): {python}})
    assert pins.pinned(["a"]) == pins.HEAD + (
        "a==1 \\\n    --hash=sha256:3.11 \\\n    --hash=sha256:3.12 \\\n    --hash=sha256:3.13\n"
    )
