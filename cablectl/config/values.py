"""Single values: which ones a field may hold, and how an error refuses and shows a value."""

from datetime import date
from enum import StrEnum
from ipaddress import ip_address, ip_network
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import ValidationError, convert

from cablectl.model.names import Device, Hostname, Name
from cablectl.model.wishes import (
    AnyAddress,
    AnyNetwork,
    Clamp,
    Mss,
    MssBytes,
    OverlayKind,
    Port,
)

MAX_ITEMS = 100  # in a list, unless its type sets a limit; every pair of subnets is compared
MAX_SHOWN = 40  # characters of a value that an error repeats
# Networks of no host of a cluster (RFC 6890, RFC 5771, RFC 4291), each with its meaning.
SPECIAL: dict[AnyNetwork, str] = {
    ip_network(network): meaning
    for network, meaning in {
        "0.0.0.0/8": "this host",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "224.0.0.0/4": "multicast",
        "255.255.255.255/32": "broadcast",
        "::/128": "no address",
        "::1/128": "loopback",
        "::ffff:0:0/96": "IPv4 in IPv6",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
    }.items()
}
_BOOLEAN_WORDS = ("true", "false", "yes", "no", "on", "off")


def leaf(plain: Any, kind: Any, value: object) -> object:  # noqa: ANN401
    """Return `value` as a scalar of the model; ValidationError or ValueError if it doesn't fit."""
    if plain == AnyNetwork:
        return _network(convert(value, str))
    if plain == AnyAddress:
        return _host_address(convert(value, str))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return plain(word(value, plain))
    if plain == Port | str:
        return value if value == OverlayKind.VXLAN.value else convert(value, Port)
    if plain == Mss:
        named = isinstance(value, str | bool)
        return Clamp(word(value, Clamp)) if named else convert(value, MssBytes)
    if get_origin(plain) is tuple:  # a list is built item by item
        raise ValueError
    return convert(value, kind)


def _network(text: str) -> AnyNetwork:
    network = ip_network(text)
    if getattr(network.network_address, "scope_id", None):  # a scope may be any text
        raise ValueError(text)
    if _unroutable(network):
        raise ValueError(text)
    return network


def _unroutable(network: AnyNetwork) -> str:
    """Return the special network that a network overlaps, and what it is; else an empty text.

    No route leads such an address to a peer: hosts use it themselves. The default route overlaps
    all of them, and it would capture the packets of the cable itself.
    """
    return next(
        (
            f"{special}, {meaning}"
            for special, meaning in SPECIAL.items()
            if special.version == network.version and special.overlaps(network)
        ),
        "",
    )


def refusal(kind: Any, value: object, source: str | None = None) -> str:  # noqa: ANN401
    """Say what is wrong with a value; `source` is its text in the file if YAML changed it."""
    if value is None:
        return f"no value; allowed: {allowed(kind)}"
    if special := _special(kind, value):
        return f"{shown(value)} {special}; allowed: {allowed(kind)}"
    if advice := _wrong_yaml_type(kind, value, source) or _host_bits(kind, value):
        return advice
    written = shown(value if source is None else source)
    return f"{written} is not allowed; allowed: {allowed(kind)}"


def _wrong_yaml_type(kind: Any, value: object, source: str | None) -> str:  # noqa: ANN401
    """Say which quotes to add or to remove, if that makes the value right; else nothing."""
    if kind in (Name, Hostname, Device) and source is not None and _fits(kind, source):
        return f"{source} is {_yaml_type(value)}; write it in quotes: '{source}'"
    if isinstance(value, str) and _fits(kind, _without_quotes(value)):
        return f"{shown(value)} is text; write it without quotes: {value}"
    return ""


def _yaml_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return "a date" if isinstance(value, date) else "a number"


def _without_quotes(text: str) -> object:
    """Return the number or boolean that YAML reads in a text without quotes; else the text."""
    if text in _BOOLEAN_WORDS:
        return _BOOLEAN_WORDS.index(text) % 2 == 0
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_SHOWN
    return int(text) if is_number and (text == "0" or text[0] != "0") else text


def _fits(kind: Any, value: object) -> bool:  # noqa: ANN401
    try:
        leaf(plain_type(kind), kind, value)
    except (ValidationError, ValueError):
        return False
    return True


def _host_bits(kind: Any, value: object) -> str:  # noqa: ANN401
    """Name the subnet that is meant, if only host bits are wrong; else nothing."""
    if plain_type(kind) != AnyNetwork or not isinstance(value, str) or "%" in value:
        return ""
    try:
        subnet = ip_network(value, strict=False)
    except ValueError:
        return ""
    return f"{shown(value)} has host bits set; did you mean {subnet}?"


def _special(kind: Any, value: object) -> str:  # noqa: ANN401
    """Say which special network holds an address or overlaps a subnet; else nothing."""
    is_address = plain_type(kind) == AnyAddress
    if not (is_address or plain_type(kind) == AnyNetwork) or not isinstance(value, str):
        return ""
    try:
        network = ip_network(ip_address(value) if is_address else value, strict=False)
    except ValueError:
        return ""
    if network.prefixlen == 0:
        return "is the default route, which would lead the cable into itself"
    found = _unroutable(network)
    return f"{'is in' if is_address else 'overlaps'} {found}" if found else ""


def no_mapping(kind: Any, value: object, path: tuple[str | int, ...]) -> str:  # noqa: ANN401
    """Say that fields are needed; the value isn't shown, since it may be the pre-shared key."""
    if value is None and not path:
        return "the file is empty; try: cablectl init"
    return f"{'no value' if value is None else 'not a mapping'}; allowed: {allowed(kind)}"


def _host_address(text: str) -> AnyAddress:
    address = ip_address(text)
    if getattr(address, "scope_id", None) or _unroutable(ip_network(address)):
        raise ValueError(text)
    return address


def word(value: object, kind: type[StrEnum]) -> Any:  # noqa: ANN401
    """Return the word of the enum for a boolean: YAML 1.1 reads yes, no, on and off as one."""
    if isinstance(value, bool):
        words = ("yes", "on") if value else ("no", "off")
        return next((word for word in words if word in list(kind)), value)
    return value


def plain_type(kind: Any) -> Any:  # noqa: ANN401
    """Return the type without `Annotated` and `| None`."""
    if get_origin(kind) is Annotated:
        return plain_type(get_args(kind)[0])
    if _is_optional(kind):
        (kind,) = (arg for arg in get_args(kind) if arg is not NoneType)
        return plain_type(kind)
    return kind


def max_items(kind: Any) -> int:  # noqa: ANN401
    """Return the largest number of items in a list."""
    metas = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((meta.max_length for meta in metas if meta.max_length), MAX_ITEMS)


def _is_optional(kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is Annotated:
        return _is_optional(get_args(kind)[0])
    return get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind)


def allowed(kind: Any) -> str:  # noqa: ANN401
    """Return the values that a field may hold, in words."""
    if get_origin(kind) is Annotated:
        descriptions = (meta.description for meta in get_args(kind)[1:] if meta.description)
        description = next(descriptions, "")
        if description:
            return description
    plain = plain_type(kind)
    if plain is not kind and get_origin(kind) is not Annotated:
        return allowed(next(arg for arg in get_args(kind) if arg is not NoneType))
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return ", ".join(member.value for member in plain)
    if plain is bool:
        return "true, false"
    return f"a mapping with {', '.join(plain.__struct_fields__)}"


def field(path: tuple[str | int, ...]) -> str:
    """Return a path as the documentation writes it, such as endpoints[1].address."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{legible(step)}" for step in path)
    return text.lstrip(".")


def legible(text: object) -> str:
    """Return a short printable text unchanged, and any other text as `shown` does.

    An error stays on one line, and no text can send control characters to the terminal.
    """
    name = str(text)
    return name if name.isprintable() and len(name) <= MAX_SHOWN else shown(name)


def shown(value: object) -> str:
    """Return a value as an error shows it: in quotes, escaped, at most MAX_SHOWN characters."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
