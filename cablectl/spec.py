"""YAML → model: every problem of a file, each with its line and field, in one go.

The schema is the model's own types: msgspec checks their constraints, and the description beside a
constraint is what an error calls allowed. No value is repeated where it could be a secret.
"""

from collections.abc import Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from msgspec import Meta, Struct, ValidationError, convert, structs

from cablectl.errors import UsageError
from cablectl.model import (
    PLUTO_PORTS,
    Endpoint,
    Ipsec,
    Mode,
    Network,
    Overlay,
    Port,
    PskEnv,
    PskFile,
    Vxlan,
)

MAX_DEPTH = 10
MAX_SHOWN = 40  # characters of a value that an error repeats
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class _Endpoint(Endpoint, frozen=True, kw_only=True):
    public_address: Annotated[None, Meta(description="null; NAT is not supported yet")] = None
    preferred_server: Annotated[bool, Meta(description="false; not supported yet")] = False


class _Document(Struct, frozen=True, kw_only=True):
    version: Annotated[Literal[1], Meta(description="1")]
    mode: Mode
    overlay: Overlay
    endpoints: Annotated[tuple[_Endpoint, ...], Meta(description="a list of two endpoints")]
    ipsec: Ipsec
    vxlan: Vxlan = Vxlan()


class _Problem(Struct, frozen=True):
    path: Path
    message: str


# What stands for None in a field that may have none.
_NONE_WORDS: dict[Path, tuple[object, ...]] = {
    ("ipsec", "dpd"): ("off", False),
    ("ipsec", "pfs_group"): (None,),
    ("vxlan", "mtu"): ("auto", None),
}


def parse(text: str, filename: str) -> Network:
    """Return what the document says; UsageError with all that is wrong with it.

    `filename` is what the errors call it.
    """
    reader = _Reader()
    try:
        document = reader.struct(_Document, reader.read(text), ())
    except yaml.YAMLError as error:
        raise UsageError(f"{filename}:{_mistake(error)}") from None
    if document is not None:
        reader.problems.extend(_contradictions(document))
    if reader.problems:
        first, *others = reader.report(filename)
        raise UsageError(first, details=others)
    assert document is not None  # noqa: S101 - without problems there is a document
    names = Endpoint.__struct_fields__
    endpoints = (Endpoint(**{n: getattr(each, n) for n in names}) for each in document.endpoints)
    return Network(tuple(endpoints), document.ipsec, document.vxlan)


class _Reader:
    """Builds values from YAML and collects the problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[_Problem] = []
        self._lines: dict[Path, int] = {}

    def report(self, filename: str) -> list[str]:
        """Return the problems, a line each, in the order of the file."""
        placed = ((self._line(each.path), each) for each in self.problems)
        return [
            f"{filename}:{line}: {_field(each.path)}{each.message}"
            for line, each in sorted(placed, key=lambda both: both[0])
        ]

    def read(self, text: str) -> object:
        """Return plain values; remember on which line each begins; YAMLError if it is no YAML."""
        _refuse_bombs(text)
        node = yaml.compose(text, Loader=_LOADER)
        return None if node is None else self._plain(node, ())

    def struct(self, kind: type[Any], value: object, path: Path) -> Any:  # noqa: ANN401
        """Return a `kind`, with None in each field that has a problem."""
        fields = {field.name: field for field in structs.fields(kind)}
        if not isinstance(value, dict):
            self._problem(path, f"allowed: a mapping with {', '.join(fields)}")
            return None
        for key in value:
            if key not in fields:
                self._problem((*path, key), f"unknown field; allowed: {', '.join(fields)}")
        built = {}
        for name, field in fields.items():
            if name in value:
                built[name] = self._build(field.type, value[name], (*path, name))
            elif field.required:
                built[name] = None
                self._problem((*path, name), f"missing; allowed: {_allowed(field.type)}")
        return kind(**built)

    def _build(self, kind: Any, value: object, path: Path) -> Any:  # noqa: ANN401
        plain = _plain_type(kind)
        if value in _NONE_WORDS.get(path, ()):
            return None
        if path[:2] == ("ipsec", "psk"):
            return self._psk(kind, value, path)
        if get_origin(plain) is tuple and isinstance(value, list):
            (item,) = (each for each in get_args(plain) if each is not Ellipsis)
            return tuple(self._build(item, each, (*path, i)) for i, each in enumerate(value))
        if isinstance(plain, type) and issubclass(plain, Struct):
            return self.struct(plain, value, path)
        try:
            return _leaf(plain, kind, value)
        except (ValidationError, ValueError):
            self._problem(path, f"{_shown(value)} is not allowed; allowed: {_allowed(kind)}")
            return None

    def _psk(self, kind: Any, value: object, path: Path) -> PskFile | PskEnv | None:  # noqa: ANN401
        """Read where the key is; what stands there instead may be the key, so it isn't shown."""
        match value:
            case {"file": str(name), **rest} if not rest and name.startswith("/"):
                if name.isprintable():
                    return PskFile(name)
            case {"env": str(name), **rest} if not rest and name.isidentifier() and name.isascii():
                return PskEnv(name)
        self._problem(path, f"allowed: {_allowed(kind)}")
        return None

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(_Problem(path, message))

    def _line(self, path: Path) -> int:
        while path and path not in self._lines:  # what is missing: where it should have stood
            path = path[:-1]
        return self._lines.get(path, 1)

    def _plain(self, node: yaml.Node, path: Path) -> object:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(each, (*path, i)) for i, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        values: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            here = (*path, name)
            if name in values:
                self._problem(
                    here, f"given twice, the second time on line {key.start_mark.line + 1}"
                )
                continue
            self._lines[here] = key.start_mark.line + 1
            values[name] = self._plain(value, here)
        return values


def _scalar(node: yaml.ScalarNode) -> object:
    """Return what YAML makes of a scalar; its text if that is no value after all.

    Such as a date in the 13th month, or a tag, which might be a key that begins with an exclamation
    mark and must not get into an error.
    """
    try:
        return cast("object", yaml.constructor.SafeConstructor().construct_object(node))
    except (ValueError, OverflowError, TypeError, yaml.YAMLError):
        return str(node.value)


def _mistake(error: yaml.YAMLError) -> str:
    """Return line and cause, and nothing of the text around it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return f"{mark.line + 1 if mark else 1}: {error.problem or error.context}"
    return f"1: this is not YAML: {str(error).splitlines()[0]}"


def _refuse_bombs(text: str) -> None:
    """Look at the events only: no alias is followed and nothing recurses."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        mistake = ""
        if isinstance(event, yaml.AliasEvent):
            mistake = "an alias is not allowed; write the value out"
        elif documents > 1:
            mistake = "a second document is not allowed; one file describes all ends"
        elif depth > MAX_DEPTH:
            mistake = f"nested too deep; allowed: {MAX_DEPTH} levels"
        if mistake:
            mark = cast("yaml.Mark", event.start_mark)
            raise yaml.MarkedYAMLError(problem=mistake, problem_mark=mark)


def _leaf(plain: Any, kind: Any, value: object) -> object:  # noqa: ANN401
    """Return `value` as a scalar of the model; ValidationError or ValueError if it is none."""
    if plain is IPv4Network:
        return IPv4Network(convert(value, str))
    if plain is IPv4Address:
        return _host_address(convert(value, str))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return plain(_word(value, plain))
    if plain == Port | str:
        return value if value == Overlay.VXLAN.value else convert(value, Port)
    return convert(value, kind)


def _host_address(text: str) -> IPv4Address:
    address = IPv4Address(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError(text)
    return address


def _word(value: object, kind: type[StrEnum]) -> Any:  # noqa: ANN401
    """Undo what YAML 1.1 makes of yes, no, on and off."""
    if isinstance(value, bool):
        words = ("yes", "on") if value else ("no", "off")
        return next((word for word in words if word in list(kind)), value)
    return value


def _plain_type(kind: Any) -> Any:  # noqa: ANN401
    """Take `Annotated` and `| None` off."""
    if get_origin(kind) is Annotated:
        return _plain_type(get_args(kind)[0])
    if _is_optional(kind):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
        return _plain_type(kind)
    return kind


def _is_optional(kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is Annotated:
        return _is_optional(get_args(kind)[0])
    return get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind)


def _allowed(kind: Any) -> str:  # noqa: ANN401
    """Say what a field may hold."""
    if get_origin(kind) is Annotated:
        said = next((meta.description for meta in get_args(kind)[1:] if meta.description), "")
        if said:
            return said
    plain = _plain_type(kind)
    if plain is not kind and get_origin(kind) is not Annotated:
        return _allowed(next(each for each in get_args(kind) if each is not NoneType))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return ", ".join(member.value for member in plain)
    return f"a mapping with {', '.join(plain.__struct_fields__)}"


def _contradictions(document: _Document) -> Iterator[_Problem]:
    """Find what is wrong between fields; None stands where a field has a problem of its own."""
    endpoints = document.endpoints
    if endpoints is not None:
        if len(endpoints) != 2:
            yield _Problem(("endpoints",), f"{len(endpoints)} given; allowed: two endpoints")
        present = [(i, each) for i, each in enumerate(endpoints) if each is not None]
        for (i, one), (j, other) in combinations(present, 2):
            yield from _collisions(("endpoints", j), other, f"endpoints[{i}]", one)
        for i, each in present:
            path = ("endpoints", i, "preferred_server")
            if each.preferred_server:
                yield _Problem(path, "true is not allowed; allowed: false; not supported yet")
        subnets: list[tuple[Path, IPv4Network]] = [
            (("endpoints", i, "subnets", j), subnet)
            for i, each in present
            for j, subnet in enumerate(each.subnets or ())
            if subnet
        ]
        yield from _swallowed(subnets, [each.address for _, each in present if each.address])
        yield from _overlaps(subnets)
    if document.ipsec is not None and document.vxlan is not None:
        yield from _port_conflict(document.ipsec, document.vxlan)


def _collisions(path: Path, endpoint: Endpoint, where: str, other: Endpoint) -> Iterator[_Problem]:
    for name in ("cluster", "hostname", "address"):
        value = getattr(endpoint, name)
        if value is not None and value == getattr(other, name):
            yield _Problem(
                (*path, name), f"{value} is that of {where} too; allowed: one of its own"
            )
    one, two = endpoint.address, other.address
    if one and two and one != two and endpoint.vtep == other.vtep:
        yield _Problem(
            (*path, "address"),
            f"{one} and {two} of {where} give one VTEP, {endpoint.vtep.ip};"
            " allowed: addresses that differ after the first octet",
        )


def _swallowed(
    subnets: list[tuple[Path, IPv4Network]], gateways: list[IPv4Address]
) -> Iterator[_Problem]:
    """Find subnets with a gateway in them: their route would send the cable through itself."""
    for path, subnet in subnets:
        inside = next((gateway for gateway in gateways if gateway in subnet), None)
        if inside:
            yield _Problem(
                path, f"{subnet} holds the gateway {inside}; allowed: subnets without a gateway"
            )


def _overlaps(subnets: list[tuple[Path, IPv4Network]]) -> Iterator[_Problem]:
    """Find subnets that would be routed twice, or away from where they are."""
    for (where, one), (path, other) in combinations(subnets, 2):
        if one.overlaps(other):
            yield _Problem(
                path, f"{other} overlaps {one} of {_field(where)[:-2]}; allowed: subnets apart"
            )


def _port_conflict(ipsec: Ipsec, vxlan: Vxlan) -> Iterator[_Problem]:
    """Find what pluto has bound already when the device wants to."""
    if vxlan.port is None:
        return
    port, advice = vxlan.port_number, "allowed: any other port, such as 4789 for the overlay"
    if port in PLUTO_PORTS:
        yield _Problem(("vxlan", "port"), f"{port} is pluto's own; {advice}")
    elif port == ipsec.ike_port:
        yield _Problem(("ipsec", "ike_port"), f"{port} is the overlay's port too; {advice}")


def _field(path: Path) -> str:
    """Write a path the way the documentation does: endpoints[1].address."""
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return f"{text.lstrip('.')}: " if text else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
