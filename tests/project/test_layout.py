"""How the project is laid out: who may import whom among tests, and what modules are called."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.places import ROOT

PROGRAM = ROOT / "cablectl"
TESTS = ROOT / "tests"
# Commands of the program: each file has the command's name, which may be that of a room as well.
COMMANDS = PROGRAM / "cli"
NAMED_BY_PYTHON = {"__init__", "__main__"}
MAX_LINES = 400


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield what a file imports, wherever in it: the whole name, and what it is called there."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.asname) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((f"{module}.{alias.name}", alias.asname) for alias in node.names)


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert len(found) > 50
    return found


def test_no_test_module_is_imported() -> None:
    """What tests have in common is in tests/support, and the lab's own in its other modules."""
    others = (path for folder in ("tools", "benchmarks") for path in (ROOT / folder).glob("*.py"))
    users = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (*files(TESTS), *others)
        for name, _ in imports(path)
        if name.startswith("tests.")
        and any(part.startswith("test_") or part == "conftest" for part in name.split("."))
    ]
    assert users == []


def test_every_import_of_a_test_is_seen() -> None:
    """Or the test above would be satisfied by anything."""
    assert ("tests.support.places.ROOT", None) in set(imports(Path(__file__)))
    assert ("tests.lab.gateways.Lab", None) in set(imports(TESTS / "lab" / "conftest.py"))


def test_each_module_of_the_program_has_a_name_of_its_own() -> None:
    paths = defaultdict(list)
    for path in files(PROGRAM):
        if path.stem not in NAMED_BY_PYTHON:
            paths[path.stem].append(str(path.relative_to(ROOT)))
    assert {name: same for name, same in paths.items() if len(same) > 1} == {}


def test_a_module_has_the_name_of_no_room_unless_it_is_a_command() -> None:
    rooms = {path.name for path in PROGRAM.rglob("*") if (path / "__init__.py").exists()}
    assert {"cli", "plan", "overlay"} <= rooms
    assert [
        str(path.relative_to(ROOT))
        for path in files(PROGRAM)
        if path.stem in rooms and path.parent != COMMANDS
    ] == []


def test_nothing_of_the_program_is_renamed_where_it_is_imported() -> None:
    renamed = [
        f"{path.relative_to(ROOT)}: {name} as {other}"
        for path in files(PROGRAM)
        for name, other in imports(path)
        if other and name.split(".")[0] == "cablectl"
    ]
    assert renamed == []


def test_the_tests_are_laid_out_as_the_rooms_are() -> None:
    rooms = {path.name for path in PROGRAM.iterdir() if (path / "__init__.py").exists()}
    for room in sorted(rooms):
        assert list((TESTS / room).glob("test_*.py")), f"no tests of {room}"
    assert list(TESTS.glob("test_*.py")) == []


def test_no_test_file_takes_long_to_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in files(TESTS)
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    ]
    assert long == []
