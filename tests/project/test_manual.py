"""The man pages: every command has one, every option and field is in it, and man likes it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer
from docutils.utils import SystemMessage

from cablectl.config import json_schema
from tests.support.places import ROOT
from tools import manual

PAGES = sorted(manual.FOLDER.glob("*.[58]"))
COMMANDS = manual.commands()


def shown(page: Path, width: int = 80) -> str:
    """Return a page as a terminal of that width shows it; nothing may be said against it."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        capture_output=True,
        text=True,
        check=True,
        env={"MANWIDTH": str(width), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    return done.stdout


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_formats_the_page_without_a_warning(page: Path) -> None:
    text = shown(page)
    assert page.stem in text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 80
    headings = re.findall(r"^[A-Z]+(?: [A-Z]+)*$", text, re.MULTILINE)
    assert headings[0] == "NAME"
    assert headings[-1] == "SEE ALSO"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_apropos_finds_the_page(page: Path) -> None:
    done = subprocess.run(["lexgrog", page], capture_output=True, text=True, check=True)
    assert f'"{page.stem} - ' in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_with_every_option(name: str) -> None:
    source = manual.FOLDER / f"{manual.PROGRAM}-{name}.8.rst"
    if not source.exists():
        pytest.fail(
            f"cablectl {name} has no man page: write {source.relative_to(ROOT)} the way"
            " man/cablectl-teardown.8.rst is written, with `.. synopsis::` and `.. options::` of"
            f" {name}, and run `make docs`"
        )
    text = words(shown(source.with_suffix("")))
    leaves = list(manual.leaves(name, COMMANDS[name]))
    assert leaves
    for path, command in leaves:
        assert f"cablectl {path}" in text
        for parameter in manual.parameters(command):
            for option in manual.options(parameter):
                assert option in text, f"man/{source.name} says nothing of {path} {option}"
            said = words(manual.description(parameter))
            assert said in text, f"man/{source.name} needs `.. options:: {path}`"


def test_the_page_of_the_program_lists_every_command() -> None:
    text = words(shown(manual.FOLDER / "cablectl.8"))
    for name, command in COMMANDS.items():
        assert f"cablectl-{name}(8) {words(command.get_short_help_str(limit=200))}" in text


def test_what_a_page_refers_to_is_there() -> None:
    there = {page.name for page in PAGES}
    for page in PAGES:
        for name, section in re.findall(r"(cablectl[a-z.-]*)\((\d)\)", shown(page)):
            assert f"{name}.{section}" in there, f"{page.name} refers to {name}({section})"


def test_the_page_of_the_file_has_every_field_with_its_default() -> None:
    text = words(shown(manual.FOLDER / "cablectl.yaml.5"))
    for path, field in json_schema.fields(json_schema.schema()):
        assert f" {path} {words(field['description'])}" in text
    assert "vxlan.port" in text
    assert "Allowed: a port, 1 to 65535, or vxlan. Default: 4789." in text
    assert "Default: {delay: 30, action: hold}." in text


GROUP = """\
======
vessel
======

------
a page
------

:Manual section: 8

SYNOPSIS
========

.. synopsis:: vessel

OPTIONS
=======

.. options:: vessel new
"""


def test_a_group_of_commands_has_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, group = typer.Typer(), typer.Typer()

    @group.command()
    def new(size: int = typer.Option(3, metavar="BYTES", help="How large.")) -> None:
        pass

    @group.command()
    def show(files: list[str] = typer.Argument(metavar="FILE...", help="What.")) -> None:  # noqa: B008
        pass

    app.add_typer(group, name="vessel")
    app.command("other")(lambda: None)
    monkeypatch.setattr(manual, "app", app)
    monkeypatch.setattr(manual, "FOLDER", tmp_path / "man")
    source = tmp_path / "vessel.8.rst"
    source.write_text(GROUP)
    page = tmp_path / "vessel.8"
    page.write_text(manual.page(source))
    text = words(shown(page))
    assert "cablectl vessel new [--size BYTES]" in text
    assert "cablectl vessel show FILE..." in text
    assert "--size BYTES How large. Default: 3." in text

    source.write_text(GROUP.replace(":: vessel new", ":: vessel old"))
    with pytest.raises(SystemMessage, match="cablectl has no command vessel old"):
        manual.page(source)
