"""YAML → plain values that remember their lines → structs, with every problem collected.

The schema is the model's own types: msgspec checks their constraints, and the description beside a
constraint is what an error calls allowed. No value is repeated where it could be a secret.
"""

from enum import StrEnum
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import yaml
from msgspec import Struct, ValidationError, convert, structs

from cablectl.errors import UsageError
from cablectl.model.wishes import AnyAddress, AnyNetwork, OverlayKind, Port, PskEnv, PskFile

MAX_DEPTH = 24  # levels; what kubectl prints of an object's managed fields has 14
MAX_ITEMS = 100  # of a list, unless its type says more; subnets are joined, each with each
MAX_SCALAR = 64  # characters of a number or date; YAML 1.1 has numbers that take minutes to read
MAX_SHOWN = 40  # characters of a value that an error repeats
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class Place(Struct, frozen=True, order=True):
    """Where something stands: its file, its line, and what the file calls it."""

    file: str
    line: int
    field: str


class Problem(Struct, frozen=True):
    """What is wrong with a value, and what is allowed."""

    path: Path
    message: str


# What stands for None in a field that may have none.
NONE_WORDS: dict[str, tuple[object, ...]] = {
    "dpd": ("off", False),
    "pfs_group": (None,),
    "mtu": ("auto", None),
    "public_address": (None,),
    "preferred_server": (None,),
    "ike_port": (None,),
    "ipsec": (None,),
}


class Document(Struct, frozen=True):
    """Plain values of a YAML document, and the place of each."""

    value: object
    places: dict[Path, Place]

    def place(self, path: Path) -> Place:
        """Return where a value stands; of one that is missing, where it should have stood."""
        there = path
        while there and there not in self.places:
            there = there[:-1]
        found = self.places[there]
        missing = field(path[len(there) :])
        dot = "." if found.field and missing and missing[0] != "[" else ""
        return Place(found.file, found.line, f"{found.field}{dot}{missing}")


def documents(
    text: str, file: str, *, several: bool = False
) -> tuple[list[Document], list[tuple[Place, str]]]:
    """Return the documents of a text, and what is given twice in them; UsageError if no YAML."""
    try:
        _refuse_bombs(text, several=several)
        nodes: list[yaml.Node | None] = list(yaml.compose_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise UsageError(f"{file}:{_mistake(error)}") from None
    twice: list[tuple[Place, str]] = []
    return [_document(node, file, twice) for node in nodes or [None]], twice


def _document(node: yaml.Node | None, file: str, twice: list[tuple[Place, str]]) -> Document:
    places: dict[Path, Place] = {}

    def plain(node: yaml.Node, path: Path) -> object:
        places.setdefault(path, Place(file, node.start_mark.line + 1, field(path)))
        if isinstance(node, yaml.SequenceNode):
            return [plain(each, (*path, i)) for i, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        values: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            here, line = (*path, name), key.start_mark.line + 1
            if name in values:
                twice.append((places[here], f"given twice, the second time on line {line}"))
                continue
            places[here] = Place(file, line, field(here))
            values[name] = plain(value, here)
        return values

    value = None if node is None else plain(node, ())
    places.setdefault((), Place(file, 1, ""))
    return Document(value, places)


class Reader:
    """Builds structs from a document and collects the problems instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.problems: list[Problem] = []
        self._document = document

    def report(self) -> list[tuple[Place, str]]:
        """Return the problems with their places."""
        return [(self._document.place(each.path), each.message) for each in self.problems]

    def struct(self, kind: type[Any], value: object, path: Path) -> Any:  # noqa: ANN401
        """Return a `kind`, with None in each field that has a problem."""
        fields = _fields(kind)  # type: ignore[arg-type] # a class is hashable
        if not isinstance(value, dict):
            self._problem(path, f"allowed: a mapping with {', '.join(fields)}")
            return None
        for key in value:
            if key not in fields:
                self._problem((*path, key), f"unknown field; allowed: {', '.join(fields)}")
        built = {}
        for name, each in fields.items():
            if name in value:
                built[name] = self._build(each.type, value[name], (*path, name))
            elif each.required:
                built[name] = None
                self._problem((*path, name), f"missing; allowed: {allowed(each.type)}")
        return kind(**built)

    def _build(self, kind: Any, value: object, path: Path) -> Any:  # noqa: ANN401
        plain, name = plain_type(kind), path[-1]
        if isinstance(name, str) and value in NONE_WORDS.get(name, ()):
            return None
        if path[:2] == ("ipsec", "psk"):
            return self._psk(kind, value, path)
        if path[:2] == ("ipsec", "pfs_group") and isinstance(value, list) and len(value) == 1:
            (value,) = value  # Submariner's proposal has a list of one
        if get_origin(plain) is tuple and isinstance(value, list):
            most = max_items(kind)
            if len(value) > most:
                self._problem(path, f"{len(value)} given; allowed: at most {most}")
                return None
            (item,) = (each for each in get_args(plain) if each is not Ellipsis)
            return tuple(self._build(item, each, (*path, i)) for i, each in enumerate(value))
        if isinstance(plain, type) and issubclass(plain, Struct):
            return self.struct(plain, value, path)
        try:
            return leaf(plain, kind, value)
        except (ValidationError, ValueError):
            self._problem(path, _refusal(kind, value))
            return None

    def _psk(self, kind: Any, value: object, path: Path) -> PskFile | PskEnv | None:  # noqa: ANN401
        """Read where the key is; what stands there instead may be the key, so it isn't shown."""
        match value:
            case {"file": str(name), **rest} if not rest and name.startswith("/"):
                if name.isprintable():
                    return PskFile(str(PurePosixPath(name)))
            case {"env": str(name), **rest} if not rest and name.isidentifier() and name.isascii():
                return PskEnv(name)
        self._problem(path, f"allowed: {allowed(kind)}")
        return None

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))


@cache  # a mesh has thousands of the same
def _fields(kind: type[Any]) -> dict[str, structs.FieldInfo]:
    return {each.name: each for each in structs.fields(kind)}


def scalar(node: yaml.Node) -> object:
    """Return what YAML makes of a scalar; its text if that is no value after all.

    Such as a date in the 13th month, or a tag, which might be a key that begins with an exclamation
    mark and must not get into an error. PyYAML has many errors for a tag that doesn't fit.
    """
    if len(node.value) > MAX_SCALAR:
        return str(node.value)
    try:
        return cast("object", yaml.constructor.SafeConstructor().construct_object(node))
    except Exception:
        return str(node.value)


def _mistake(error: yaml.YAMLError) -> str:
    """Return line and cause, and nothing of the text around it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return f"{mark.line + 1 if mark else 1}: {error.problem or error.context}"
    return f"1: this is not YAML: {str(error).splitlines()[0]}"


def _refuse_bombs(text: str, *, several: bool) -> None:
    """Look at the events only: no alias is followed and nothing recurses."""
    depth = count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.DocumentStartEvent)
        mistake = ""
        if isinstance(event, yaml.AliasEvent):
            mistake = "an alias is not allowed; write the value out"
        elif count > 1 and not several:
            mistake = "a second document is not allowed; one file describes all ends"
        elif depth > MAX_DEPTH:
            mistake = f"nested too deep; allowed: {MAX_DEPTH} levels"
        if mistake:
            mark = cast("yaml.Mark", event.start_mark)
            raise yaml.MarkedYAMLError(problem=mistake, problem_mark=mark)


def leaf(plain: Any, kind: Any, value: object) -> object:  # noqa: ANN401
    """Return `value` as a scalar of the model; ValidationError or ValueError if it is none."""
    if plain == AnyNetwork:
        return _network(convert(value, str))
    if plain == AnyAddress:
        return _host_address(convert(value, str))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return plain(word(value, plain))
    if plain == Port | str:
        return value if value == OverlayKind.VXLAN.value else convert(value, Port)
    if get_origin(plain) is tuple:  # and the value is no list
        raise ValueError
    return convert(value, kind)


def _network(text: str) -> AnyNetwork:
    network = ip_network(text)
    if getattr(network.network_address, "scope_id", None):  # any text at all
        raise ValueError(text)
    return network


def check(kind: Any, value: object) -> None:  # noqa: ANN401
    """Raise a UsageError if no field of that kind may hold the value."""
    try:
        leaf(plain_type(kind), kind, value)
    except (ValidationError, ValueError):
        raise UsageError(_refusal(kind, value)) from None


def _refusal(kind: Any, value: object) -> str:  # noqa: ANN401
    return f"{shown(value)} is not allowed; allowed: {allowed(kind)}"


def _host_address(text: str) -> AnyAddress:
    address = ip_address(text)
    odd = address.is_multicast or address.is_unspecified or address.is_loopback
    if odd or address.is_link_local or getattr(address, "scope_id", None):
        raise ValueError(text)
    return address


def word(value: object, kind: type[StrEnum]) -> Any:  # noqa: ANN401
    """Undo what YAML 1.1 makes of yes, no, on and off."""
    if isinstance(value, bool):
        words = ("yes", "on") if value else ("no", "off")
        return next((word for word in words if word in list(kind)), value)
    return value


def plain_type(kind: Any) -> Any:  # noqa: ANN401
    """Take `Annotated` and `| None` off."""
    if get_origin(kind) is Annotated:
        return plain_type(get_args(kind)[0])
    if _is_optional(kind):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
        return plain_type(kind)
    return kind


def max_items(kind: Any) -> int:  # noqa: ANN401
    """Return how many items a list may have."""
    metas = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((meta.max_length for meta in metas if meta.max_length), MAX_ITEMS)


def _is_optional(kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is Annotated:
        return _is_optional(get_args(kind)[0])
    return get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind)


def allowed(kind: Any) -> str:  # noqa: ANN401
    """Say what a field may hold."""
    if get_origin(kind) is Annotated:
        said = next((meta.description for meta in get_args(kind)[1:] if meta.description), "")
        if said:
            return said
    plain = plain_type(kind)
    if plain is not kind and get_origin(kind) is not Annotated:
        return allowed(next(each for each in get_args(kind) if each is not NoneType))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return ", ".join(member.value for member in plain)
    if plain is bool:
        return "true, false"
    return f"a mapping with {', '.join(plain.__struct_fields__)}"


def field(path: Path) -> str:
    """Write a path the way the documentation does: endpoints[1].address."""
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{legible(each)}" for each in path)
    return text.lstrip(".")


def legible(text: object) -> str:
    """Return a text as it is, in one line and without what a terminal obeys; or as `shown`."""
    name = str(text)
    return name if name.isprintable() and len(name) <= MAX_SHOWN else shown(name)


def shown(value: object) -> str:
    """Return a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
