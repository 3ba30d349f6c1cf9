"""Reads YAML into structs and collects every problem with its line and field.

The model's own types are the schema: msgspec checks the constraints, and errors quote the
description of a constraint. An error never repeats a value that may be the pre-shared key.
"""

from functools import cache
from pathlib import PurePosixPath
from typing import Any, cast, get_args, get_origin

import yaml
from msgspec import Struct, ValidationError, structs

from cablectl.config.values import (
    allowed,
    field,
    leaf,
    max_items,
    no_mapping,
    plain_type,
    refusal,
    shown,
)
from cablectl.errors import UsageError
from cablectl.model.psk import Ppk, Psk, PskDirectory, PskEnv, PskFile

MAX_DEPTH = 24  # levels; kubectl prints up to 14 for an object's managed fields
MAX_NODES = 100_000  # values and keys of one text; 4,096 endpoints with all fields have 75,000
MAX_SCALAR = 64  # characters of a number or date; PyYAML takes minutes to read some long numbers
MAX_HARMLESS = 3  # characters of a text that can't be a pre-shared key, so an error may repeat it
# A shell sets these for each command, or prints their values in its own errors.
SHELL_VARIABLES = ("_", "BASHOPTS", "BASH_ENV", "ENV", "OPTIND", "SHELLOPTS")
TEXT = "tag:yaml.org,2002:str"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class Place(Struct, frozen=True, order=True):
    """Where a value stands: file, line, and the field's name in the file."""

    file: str
    line: int
    field: str


class Problem(Struct, frozen=True):
    """What is wrong with a value, and what is allowed."""

    path: Path
    message: str


# Values that mean None, by the name of the field.
NONE_WORDS: dict[str, tuple[object, ...]] = {
    "dpd": ("off", False),
    "health": ("off", False),
    "pfs_group": (None,),
    "mtu": ("auto", None),
    "public_address": (None,),
    "health_address": (None,),
    "site": (None,),
    "preferred_server": (None,),
    "ike_port": (None,),
    "replay_window": (None,),
    "ike_lifetime": (None,),
    "sa_lifetime": (None,),
    "max_bytes": (None,),
    "identity": (None,),
    "key_type": (None,),
    "cert": (None,),
    "ipsec": (None,),
}


class Document(Struct, frozen=True):
    """The values of a YAML document, and the place of each.

    `source` has the text of each value that YAML doesn't read as text, such as `no` or 0x10.
    """

    value: object
    places: dict[Path, Place]
    source: dict[Path, str] = {}

    def place(self, path: Path) -> Place:
        """Return the place of a value; for a missing one, the place of the mapping around it."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        place = self.places[known]
        missing = field(path[len(known) :])
        dot = "." if place.field and missing and missing[0] != "[" else ""
        return Place(place.file, place.line, f"{place.field}{dot}{missing}")


def documents(
    text: str, file: str, *, several: bool = False, lines_above: int = 0
) -> tuple[list[Document], list[tuple[Place, str]]]:
    """Return the documents of a text, and the problems of fields that are given twice.

    `lines_above` lines of the file are above the text. UsageError if the text isn't YAML.
    """
    try:
        _refuse_bombs(text, several=several)
        nodes: list[yaml.Node | None] = list(yaml.compose_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise UsageError(f"{file}:{_mistake(error, lines_above)}") from None
    duplicates: list[tuple[Place, str]] = []
    return [
        _document(node, file, lines_above + 1, duplicates) for node in nodes or [None]
    ], duplicates


def _document(
    node: yaml.Node | None, file: str, first_line: int, duplicates: list[tuple[Place, str]]
) -> Document:
    places: dict[Path, Place] = {}
    source: dict[Path, str] = {}

    def plain(node: yaml.Node, path: Path) -> object:
        places.setdefault(path, Place(file, node.start_mark.line + first_line, field(path)))
        if isinstance(node, yaml.SequenceNode):
            return [plain(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            value = scalar(node)
            if not isinstance(value, str):
                source[path] = str(node.value)
            return value
        values: dict[str, object] = {}
        for key, item in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            item_path, line = (*path, name), key.start_mark.line + first_line
            if name in values:
                message = f"given twice, the second time on line {line}"
                duplicates.append((places[item_path], message))
                continue
            places[item_path] = Place(file, line, field(item_path))
            values[name] = plain(item, item_path)
        return values

    value = None if node is None else plain(node, ())
    places.setdefault((), Place(file, first_line, ""))
    return Document(value, places, source)


class Reader:
    """Builds structs from a document and collects all problems."""

    def __init__(self, document: Document) -> None:
        self.problems: list[Problem] = []
        self._document = document

    def report(self) -> list[tuple[Place, str]]:
        """Return the problems with their places."""
        return [(self._document.place(problem.path), problem.message) for problem in self.problems]

    def struct(self, kind: type[Any], value: object, path: Path) -> Any:  # noqa: ANN401
        """Return a `kind`, with None in each field that has a problem."""
        fields = _fields(kind)  # type: ignore[arg-type] # a class is hashable
        if not isinstance(value, dict):
            self._problem(path, no_mapping(kind, value, path))
            return None
        for key in value:
            if key not in fields:
                self._problem((*path, key), f"unknown field; allowed: {', '.join(fields)}")
        built = {}
        for name, info in fields.items():
            if name in value:
                built[name] = self._build(info.type, value[name], (*path, name))
            elif info.required:
                built[name] = None
                self._problem((*path, name), f"missing; allowed: {allowed(info.type)}")
        return kind(**built)

    def _build(self, kind: Any, value: object, path: Path) -> Any:  # noqa: ANN401
        plain, name = plain_type(kind), path[-1]
        if isinstance(name, str) and value in NONE_WORDS.get(name, ()):
            return None
        if path[:2] in (("ipsec", "psk"), ("ipsec", "ppk")):
            return self._psk(kind, value, path)
        if path[:2] == ("ipsec", "pfs_group") and isinstance(value, list) and len(value) == 1:
            (value,) = value  # Submariner's proposal has a list of one
        if get_origin(plain) is tuple and isinstance(value, list):
            most = max_items(kind)
            if len(value) > most:
                self._problem(path, f"{len(value)} given; allowed: at most {most}")
                return None
            item_kind = get_args(plain)[0]
            return tuple(self._build(item_kind, item, (*path, i)) for i, item in enumerate(value))
        if isinstance(plain, type) and issubclass(plain, Struct):
            if not isinstance(value, dict):
                self._problem(path, no_mapping(kind, value, path))
                return None
            return self.struct(plain, value, path)
        try:
            return leaf(plain, kind, value)
        except (ValidationError, ValueError):
            self._problem(path, refusal(kind, value, self._document.source.get(path)))
            return None

    def _psk(self, kind: Any, value: object, path: Path) -> Psk | None:  # noqa: ANN401
        """Return where the key is.

        A wrong value may be the key itself, so no error shows one of more than MAX_HARMLESS
        characters.
        """
        match value:
            case {"file": str(name), **rest} if not rest:
                absolute = self._absolute(name, (*path, "file"))
                return None if absolute is None else PskFile(absolute)
            case {"directory": str(name), **rest} if not rest:
                absolute = self._absolute(name, (*path, "directory"))
                return None if absolute is None else PskDirectory(absolute)
            case {"env": str(name), **rest} if (
                path[-1] == "psk" and not rest and name.isidentifier() and name.isascii()
            ):
                if name not in SHELL_VARIABLES:
                    return PskEnv(name)
                self._problem(path, "the shell itself uses that variable; choose another name")
                return None
        what = (
            "a file or a directory"
            if plain_type(kind) == Ppk
            else "a file, a variable or a directory"
        )
        self._problem(path, f"not {what}; allowed: {allowed(kind)}")
        return None

    def _absolute(self, name: str, path: Path) -> str | None:
        """Return the path of a key or of a directory of keys; None if it isn't an absolute one."""
        form = f"write {path[-1]}: /PATH"
        if not name.startswith("/"):
            shown_name = f"{shown(name)} is " if len(name) <= MAX_HARMLESS else ""
            advice = f"{form}, never the key itself"
            self._problem(path, f"{shown_name}not an absolute path; {advice}")
            return None
        if name.isprintable():
            return str(PurePosixPath(name))
        self._problem(path[:-1], f"the path has a control character; {form}")
        return None

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))


@cache  # a mesh has thousands of endpoints
def _fields(kind: type[Any]) -> dict[str, structs.FieldInfo]:
    return {info.name: info for info in structs.fields(kind)}


def scalar(node: yaml.Node) -> object:
    """Return the value of a YAML scalar, or its text if PyYAML can't read it.

    PyYAML refuses, for example, a date in month 13, or an unknown tag. Its errors, of many kinds,
    would repeat the text, and a key that begins with an exclamation mark looks like a tag.
    """
    if node.tag == TEXT or len(node.value) > MAX_SCALAR:
        return str(node.value)
    try:
        return cast("object", yaml.constructor.SafeConstructor().construct_object(node))
    except Exception:
        return str(node.value)


def _mistake(error: yaml.YAMLError, lines_above: int) -> str:
    """Return the line and the cause, without the text around it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + lines_above if mark else lines_above
        return f"{line + 1}: {error.problem or error.context}"
    return f"{lines_above + 1}: this is not YAML: {str(error).splitlines()[0]}"


def _refuse_bombs(text: str, *, several: bool) -> None:
    """Raise a YAMLError for an alias, deep nesting, many nodes, or an unexpected second document.

    Reading the events follows no alias, doesn't recurse, and keeps no event.
    """
    depth = count = nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.DocumentStartEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        mistake = ""
        if isinstance(event, yaml.AliasEvent):
            mistake = "an alias is not allowed; write the value out"
        elif count > 1 and not several:
            mistake = "a second document is not allowed; one file describes all ends"
        elif depth > MAX_DEPTH:
            mistake = f"nested too deep; allowed: {MAX_DEPTH} levels"
        elif nodes > MAX_NODES:
            mistake = f"too many values; allowed: {MAX_NODES} keys and values in one file"
        if mistake:
            mark = cast("yaml.Mark", event.start_mark)
            raise yaml.MarkedYAMLError(problem=mistake, problem_mark=mark)


def check(kind: Any, value: object) -> None:  # noqa: ANN401
    """Raise a UsageError if a field of that kind can't hold the value."""
    try:
        leaf(plain_type(kind), kind, value)
    except (ValidationError, ValueError):
        raise UsageError(refusal(kind, value)) from None
