"""Generates the man pages from man/*.rst, and from the program's own commands and fields.

The rst files have directives. `synopsis`, `options` and `commands` read the Typer app, so a page
can't differ from the program. `fields` reads the schema of the file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.core import publish_string
from docutils.parsers.rst import Directive, directives
from docutils.writers import manpage
from typer.main import get_command

from cablectl.cli import app
from cablectl.config import json_schema

FOLDER = Path(__file__).parent.parent / "man"
PROGRAM = "cablectl"
SPACE = "\N{NO-BREAK SPACE}"

# Typer contains click as a private module, so its types have no public names.
Command = Any
Parameter = Any


def pages() -> dict[Path, str]:
    """Return the content of every man page, by its path."""
    return {source.with_suffix(""): page(source) for source in sorted(FOLDER.glob("*.rst"))}


def page(source: Path) -> str:
    """Return a man page in roff, without hyphenation and justified lines."""
    roff = publish_string(
        source.read_text(),
        source_path=str(source.relative_to(FOLDER.parent)),
        writer=manpage.Writer(),
        settings_overrides={"halt_level": 2, "report_level": 2},
    )
    lines = (
        roff.decode()
        .replace(".SH Name\n", ".nr HY 0\n.nh\n.ad l\n.SH NAME\n")
        .splitlines(keepends=True)
    )
    return "".join(line for line in lines if not line.startswith('.\\" Generated'))


def commands() -> dict[str, Command]:
    """Return every command of the program by its name, in the order of --help."""
    return {name: command for name, command in _root().commands.items() if not command.hidden}


def leaves(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    """Yield the commands below a command that aren't groups, each with its words: `secret new`."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
    else:
        for name, subcommand in subcommands.items():
            yield from leaves(f"{path} {name}", subcommand)


def parameters(command: Command) -> list[Parameter]:
    """Return the arguments and options of a command, arguments first and --help last."""
    parent = _root().make_context(PROGRAM, [], resilient_parsing=True)
    context = command.make_context("", [], parent=parent, resilient_parsing=True)
    visible = [parameter for parameter in command.get_params(context) if not parameter.hidden]
    return sorted(visible, key=_is_option)


def _root() -> Command:
    return get_command(app)


def _is_option(parameter: Parameter) -> bool:
    return bool(parameter.param_type_name == "option")


def _is_flag(parameter: Parameter) -> bool:
    return bool(parameter.is_flag or parameter.count)


def _metavar(parameter: Parameter) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _value(parameter: Parameter) -> list[nodes.Node]:
    """Return the value of a parameter: its choices, or its name."""
    if parameter.metavar or not hasattr(parameter.type, "choices"):
        return [nodes.emphasis("", _metavar(parameter))]
    return _separated(parameter.type.choices, "|")


def _separated(words: Iterable[str], separator: str) -> list[nodes.Node]:
    parts: list[nodes.Node] = []
    for word in words:
        parts += [nodes.Text(separator)] if parts else []
        parts += [nodes.strong("", word)]
    return parts


def options(parameter: Parameter) -> list[str]:
    """Return every spelling of an option, the shortest first; empty for an argument."""
    if not _is_option(parameter):
        return []
    return sorted([*parameter.opts, *parameter.secondary_opts], key=len)


def _short(parameter: Parameter) -> list[nodes.Node]:
    """Return a parameter as in a synopsis."""
    if not _is_option(parameter):
        return [nodes.emphasis("", _metavar(parameter))]
    value = [] if _is_flag(parameter) else [nodes.Text(SPACE), *_value(parameter)]
    name = nodes.strong("", max(parameter.opts, key=len))
    again = "..." if parameter.multiple else ""
    return [nodes.Text("["), name, *value, nodes.Text(f"]{again}")]


def _long(parameter: Parameter) -> list[nodes.Node]:
    """Return a parameter as the term of a list, with every spelling."""
    if not _is_option(parameter):
        return [nodes.emphasis("", _metavar(parameter).strip("[]"))]
    parts = _separated(options(parameter), ", ")
    return parts if _is_flag(parameter) else [*parts, nodes.Text(" "), *_value(parameter)]


def description(parameter: Parameter) -> str:
    """Return the help of a parameter and its default, in sentences."""
    if parameter.name == "help":
        return "Print the usage."
    text, in_help, default = (parameter.help or "").partition(" [default: ")
    default = default.rstrip("]")
    if not in_help and parameter.default and not (_is_option(parameter) and _is_flag(parameter)):
        default = str(getattr(parameter.default, "value", parameter.default))
    return f"{text}{_limits(parameter.type)}" + (f" Default: {default}." if default else "")


def _limits(kind: Any) -> str:  # noqa: ANN401
    """Return the limits of a number, as a sentence."""
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    if least is None:
        return "" if most is None else f" At most {most}."
    return f" At least {least}." if most is None else f" {least} to {most}."


def _item(term: list[nodes.Node], text: str) -> nodes.definition_list_item:
    definition = nodes.definition("", nodes.paragraph("", text))
    return nodes.definition_list_item("", nodes.term("", "", *term), definition)


class CommandDirective(Directive):
    """A directive about the command that its argument names, or else about the program."""

    optional_arguments = 1
    final_argument_whitespace = True

    @property
    def path(self) -> str:
        """The words of the command, such as `secret new`."""
        return "".join(self.arguments)

    @property
    def command(self) -> Command:
        """The command; an error of the page if it doesn't exist."""
        command = _root()
        for name in self.path.split():
            command = getattr(command, "commands", {}).get(name)
            if command is None:
                raise self.error(f"{PROGRAM} has no command {self.path}")
        return command


class Synopsis(CommandDirective):
    """The synopsis of a command; for a group, of each of its commands."""

    def run(self) -> list[nodes.Node]:
        """Return a paragraph for each command."""
        paragraphs: list[nodes.Node] = []
        for path, command in leaves(self.path, self.command):
            paragraph = nodes.paragraph("", "", nodes.strong("", f"{PROGRAM} {path}"))
            for parameter in parameters(command):
                if parameter.name != "help":
                    paragraph += [nodes.Text(" "), *_short(parameter)]
            paragraphs.append(paragraph)
        return paragraphs


class Options(CommandDirective):
    """The arguments and options of a command, each with its help."""

    def run(self) -> list[nodes.Node]:
        """Return a definition list."""
        items = (
            _item(_long(parameter), description(parameter))
            for parameter in parameters(self.command)
        )
        return [nodes.definition_list("", *items)]


class Commands(Directive):
    """The commands, each with its man page and its summary."""

    def run(self) -> list[nodes.Node]:
        """Return a definition list."""
        items = (
            _item(
                [nodes.strong("", f"{PROGRAM}-{name}"), nodes.Text("(8)")],
                command.get_short_help_str(limit=200),
            )
            for name, command in commands().items()
        )
        return [nodes.definition_list("", *items)]


class Fields(Directive):
    """The fields of the file, each with its allowed values and its default."""

    def run(self) -> list[nodes.Node]:
        """Return a definition list."""
        items = (
            _item([nodes.strong("", path)], f"{field['description']}{_default(field)}")
            for path, field in json_schema.fields(json_schema.schema())
        )
        return [nodes.definition_list("", *items)]


def _default(field: json_schema.Schema) -> str:
    default = field.get("default", ())
    if default == ():
        return ""
    if not isinstance(default, str):
        flow = yaml.safe_dump(default, default_flow_style=True, sort_keys=False)
        (default, *_) = flow.splitlines()
    return f" Default: {default}."


for _name, _directive in {
    "synopsis": Synopsis,
    "options": Options,
    "commands": Commands,
    "fields": Fields,
}.items():
    directives.register_directive(_name, _directive)
