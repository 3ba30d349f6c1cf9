"""The man pages: prose from man/*.rst, what the program knows of itself from the program itself.

Directives of those files: `synopsis`, `options` and `commands` walk the Typer app, so that a page
can't say what isn't so; `fields` walks the schema of the file.
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

# Typer brings click along as a private module, so its types have no public names.
Command = Any
Parameter = Any


def pages() -> dict[Path, str]:
    """Return every man page as its source makes it."""
    return {source.with_suffix(""): page(source) for source in sorted(FOLDER.glob("*.rst"))}


def page(source: Path) -> str:
    """Return a man page in roff, without hyphens and gaps that its words don't have."""
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
    return {name: each for name, each in _root().commands.items() if not each.hidden}


def leaves(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    """Yield the commands that do something, with what is typed for each: `secret new`."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    else:
        for name, each in inner.items():
            yield from leaves(f"{path} {name}", each)


def parameters(command: Command) -> list[Parameter]:
    """Return the arguments and options of a command, arguments first and --help last."""
    above = _root().make_context(PROGRAM, [], resilient_parsing=True)
    context = command.make_context("", [], parent=above, resilient_parsing=True)
    own = [each for each in command.get_params(context) if not each.hidden]
    return sorted(own, key=_is_option)


def _root() -> Command:
    return get_command(app)


def _is_option(parameter: Parameter) -> bool:
    return bool(parameter.param_type_name == "option")


def _is_flag(parameter: Parameter) -> bool:
    return bool(parameter.is_flag or parameter.count)


def _metavar(parameter: Parameter) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _value(parameter: Parameter) -> list[nodes.Node]:
    """Write what is to be put in: the choice, or a name for it."""
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
    """Return every way to write an option, the shortest first; nothing of an argument."""
    if not _is_option(parameter):
        return []
    return sorted([*parameter.opts, *parameter.secondary_opts], key=len)


def _short(parameter: Parameter) -> list[nodes.Node]:
    """Write a parameter as a synopsis has it."""
    if not _is_option(parameter):
        return [nodes.emphasis("", _metavar(parameter))]
    value = [] if _is_flag(parameter) else [nodes.Text(SPACE), *_value(parameter)]
    name = nodes.strong("", max(parameter.opts, key=len))
    again = "..." if parameter.multiple else ""
    return [nodes.Text("["), name, *value, nodes.Text(f"]{again}")]


def _long(parameter: Parameter) -> list[nodes.Node]:
    """Write a parameter as the term of a list: every way to write it."""
    if not _is_option(parameter):
        return [nodes.emphasis("", _metavar(parameter).strip("[]"))]
    parts = _separated(options(parameter), ", ")
    return parts if _is_flag(parameter) else [*parts, nodes.Text(" "), *_value(parameter)]


def told(parameter: Parameter) -> str:
    """Return the help of a parameter and its default, in sentences."""
    if parameter.name == "help":
        return "Print the usage."
    text, said, default = (parameter.help or "").partition(" [default: ")
    default = default.rstrip("]")
    if not said and parameter.default and not (_is_option(parameter) and _is_flag(parameter)):
        default = str(getattr(parameter.default, "value", parameter.default))
    return f"{text}{_limits(parameter.type)}" + (f" Default: {default}." if default else "")


def _limits(kind: Any) -> str:  # noqa: ANN401
    """Return what a number may be, as a sentence."""
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    if least is None:
        return "" if most is None else f" At most {most}."
    return f" At least {least}." if most is None else f" {least} to {most}."


def _item(term: list[nodes.Node], said: str) -> nodes.definition_list_item:
    definition = nodes.definition("", nodes.paragraph("", said))
    return nodes.definition_list_item("", nodes.term("", "", *term), definition)


class OfCommand(Directive):
    """A directive about the command that its argument names, or about the program."""

    optional_arguments = 1
    final_argument_whitespace = True

    @property
    def path(self) -> str:
        """What is typed for the command."""
        return "".join(self.arguments)

    @property
    def command(self) -> Command:
        """The command; an error of the page if there is none."""
        command = _root()
        for name in self.path.split():
            command = getattr(command, "commands", {}).get(name)
            if command is None:
                raise self.error(f"{PROGRAM} has no command {self.path}")
        return command


class Synopsis(OfCommand):
    """How a command is typed; of a group, each of its commands."""

    def run(self) -> list[nodes.Node]:
        """Return a paragraph for each."""
        typed: list[nodes.Node] = []
        for path, command in leaves(self.path, self.command):
            line = nodes.paragraph("", "", nodes.strong("", f"{PROGRAM} {path}"))
            for each in parameters(command):
                if each.name != "help":
                    line += [nodes.Text(" "), *_short(each)]
            typed.append(line)
        return typed


class Options(OfCommand):
    """Arguments and options of a command, each with its help."""

    def run(self) -> list[nodes.Node]:
        """Return a list of them."""
        items = (_item(_long(each), told(each)) for each in parameters(self.command))
        return [nodes.definition_list("", *items)]


class Commands(Directive):
    """The commands, each with its page and what it does."""

    def run(self) -> list[nodes.Node]:
        """Return a list of them."""
        items = (
            _item(
                [nodes.strong("", f"{PROGRAM}-{name}"), nodes.Text("(8)")],
                each.get_short_help_str(limit=200),
            )
            for name, each in commands().items()
        )
        return [nodes.definition_list("", *items)]


class Fields(Directive):
    """The fields of the file, each with its default and what is allowed."""

    def run(self) -> list[nodes.Node]:
        """Return a list of them."""
        items = (
            _item([nodes.strong("", path)], f"{each['description']}{_default(each)}")
            for path, each in json_schema.fields(json_schema.schema())
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
