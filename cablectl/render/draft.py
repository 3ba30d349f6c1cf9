"""A file to begin with: what was given, and comments that say what else there is."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, structs

from cablectl.model.wishes import DEFAULT_PSK, OVERLAYS, Mode, OverlayKind

MAX_NAME = 63  # characters, as model.Name has it
_ABOUT = {
    "cluster": "  # names the connections of the other end",
    "hostname": "  # for you, and for --local",
    "address": "  # the gateway's own",
    "subnets": "  # what the other end reaches through it",
}
_IPSEC = f"""
ipsec:
  # The same key on all, for root's eyes alone: sudo cablectl secret new {DEFAULT_PSK}
  psk: {{file: {DEFAULT_PSK}}}
  # These three if one end has Libreswan 4.x and the other 5.x:
  # esn: yes
  # pfs_group: modp2048
  # esp: [aes_gcm-null]
""".rstrip("\n").split("\n")


class Given(Struct, frozen=True):
    """An endpoint as somebody gave it."""

    cluster: str
    address: str
    subnets: tuple[str, ...] = ()


def as_draft(mode: Mode, overlay: OverlayKind, endpoints: Sequence[Given]) -> str:
    """Return a file as YAML, with comments; nothing of what was given is checked."""
    return "".join(f"{line}\n" for line in _lines(mode, overlay, endpoints))


def _lines(mode: Mode, overlay: OverlayKind, endpoints: Sequence[Given]) -> Iterator[str]:
    many = len(endpoints) > 2
    what = f"A mesh of {len(endpoints)} gateways" if many else "A cable between two gateways"
    yield f"# {what}: copy this file to {'all' if many else 'both'}. Every field: man cablectl.yaml"
    yield "version: 1"
    yield from _modes(mode, overlay)
    yield "endpoints:"
    clusters = [each.cluster for each in endpoints]
    for each in endpoints:
        about = _ABOUT if each is endpoints[0] else {}
        values = {
            "cluster": each.cluster,
            "hostname": _hostname(each.cluster, clusters),
            "address": each.address,
            "subnets": each.subnets,
        }
        if overlay is OverlayKind.NONE and not each.subnets:
            del values["subnets"]
        for name, value in values.items():
            begin = "-" if name == "cluster" else " "
            yield f"  {begin} {name}: {_yaml(value)}{about.get(name, '')}"
        if mode is Mode.TUNNEL and about:
            example = "2001:db8::1" if ":" in each.address else "203.0.113.1"
            yield f"    # public_address: {example}  # what the other end reaches, if there is NAT"
    if mode is not Mode.NONE:
        yield from _IPSEC
    if overlay is not OverlayKind.NONE:
        yield ""
        yield "# The overlay's device, with its defaults; an mtu of auto is the largest that fits."
        yield f"{overlay}: {_device(overlay)}"


def _modes(mode: Mode, overlay: OverlayKind) -> Iterator[str]:
    match mode:
        case Mode.TUNNEL:
            yield "mode: tunnel  # from subnet to subnet, through NAT as well; or transport"
            if overlay is not OverlayKind.NONE:
                yield f"overlay: {overlay}"
        case Mode.TRANSPORT:
            yield "mode: transport  # an overlay in IPsec; or tunnel, without one"
            yield f"overlay: {overlay}  # {', '.join(OVERLAYS)}, or none: the hosts' own traffic"
        case Mode.NONE:
            yield "mode: none  # no IPsec"
            yield "allow_cleartext: true  # whoever is on the way reads and changes what is sent"
            yield f"overlay: {overlay}"


def _hostname(cluster: str, clusters: Sequence[str]) -> str:
    """Return a name for the gateway of a cluster that is no other cluster's."""
    name = f"{cluster}-gateway"
    return cluster if len(name) > MAX_NAME or name in clusters else name


def _device(overlay: OverlayKind) -> str:
    kind = OVERLAYS[overlay]
    values = {each.name: each.default or "auto" for each in structs.fields(kind)}
    return f"{{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"


def _yaml(value: str | Sequence[str]) -> str:
    """Write a value, quoted where it would be read as something else."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def as_file(value: dict[str, Any], sources: list[str]) -> str:
    """Return a file as YAML, with the names of what it was made from."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=100)
    names = (each if each.isprintable() else ascii(each) for each in sources)
    return f"# Made from {', '.join(names)}\n{text}"
