"""A first file: the given values, and comments that name further settings."""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from msgspec import Struct, structs

from cablectl.model.wishes import DEFAULT_PSK, OVERLAYS, Mode, OverlayKind

MAX_NAME = 63  # characters, as in the type Name of the model
_ABOUT = {
    "cluster": "  # names the connections on the other gateways",
    "hostname": "  # for people, and for --local",
    "address": "  # the gateway's own address",
    "subnets": "  # the networks behind the gateway",
}
_IPSEC = f"""
ipsec:
  # The same key on all gateways, readable by root alone: sudo cablectl secret new {DEFAULT_PSK}
  psk: {{file: {DEFAULT_PSK}}}
  # Add these three lines if one end has Libreswan 4.x and the other 5.x:
  # esn: yes
  # pfs_group: modp2048
  # esp: [aes_gcm-null]
""".rstrip("\n").split("\n")


class Given(Struct, frozen=True):
    """An endpoint as options or answers give it."""

    cluster: str
    address: str
    subnets: tuple[str, ...] = ()


def as_draft(mode: Mode, overlay: OverlayKind, endpoints: Sequence[Given]) -> str:
    """Return a file as YAML with comments; the values are not checked."""
    return "".join(f"{line}\n" for line in _lines(mode, overlay, endpoints))


def _lines(mode: Mode, overlay: OverlayKind, endpoints: Sequence[Given]) -> Iterator[str]:
    many = len(endpoints) > 2
    what = f"A mesh of {len(endpoints)} gateways" if many else "A cable between two gateways"
    yield f"# {what}. Copy this file to {'all' if many else 'both'} of them."
    yield "# Every field: man cablectl.yaml"
    yield "version: 1"
    yield from _modes(mode, overlay)
    yield "endpoints:"
    clusters = [endpoint.cluster for endpoint in endpoints]
    for endpoint in endpoints:
        yield from _endpoint(endpoint, clusters, mode, overlay, comments=endpoint is endpoints[0])
    if mode is not Mode.NONE:
        yield from _IPSEC
    if overlay is not OverlayKind.NONE:
        yield ""
        yield "# The overlay's device with its defaults. mtu: auto is the largest MTU that fits."
        yield f"{overlay}: {_device(overlay)}"


def _endpoint(
    endpoint: Given, clusters: Sequence[str], mode: Mode, overlay: OverlayKind, *, comments: bool
) -> Iterator[str]:
    values = {
        "cluster": endpoint.cluster,
        "hostname": _hostname(endpoint.cluster, clusters),
        "address": endpoint.address,
        "subnets": endpoint.subnets,
    }
    if overlay is OverlayKind.NONE and not endpoint.subnets:
        del values["subnets"]
    for name, value in values.items():
        begin = "-" if name == "cluster" else " "
        comment = _ABOUT[name] if comments else ""
        yield f"  {begin} {name}: {_yaml(value)}{comment}"
    if mode is Mode.TUNNEL and comments:
        example = "2001:db8::1" if ":" in endpoint.address else "203.0.113.1"
        yield f"    # public_address: {example}  # if the gateway is behind NAT"


def _modes(mode: Mode, overlay: OverlayKind) -> Iterator[str]:
    match mode:
        case Mode.TUNNEL:
            yield "mode: tunnel  # also through NAT; or transport, where nothing translates"
            yield f"overlay: {overlay}  # {', '.join(OVERLAYS)}, or none: from subnet to subnet"
        case Mode.TRANSPORT:
            yield "mode: transport  # IPsec protects an overlay; or tunnel, also through NAT"
            yield f"overlay: {overlay}  # {', '.join(OVERLAYS)}, or none: the hosts' own traffic"
        case Mode.NONE:
            yield "mode: none  # no IPsec"
            yield "allow_cleartext: true  # anybody on the path can read and change the traffic"
            yield f"overlay: {overlay}"
        case _:
            assert_never(mode)


def _hostname(cluster: str, clusters: Sequence[str]) -> str:
    """Return a name for the gateway of a cluster that isn't the name of another cluster."""
    name = f"{cluster}-gateway"
    return cluster if len(name) > MAX_NAME or name in clusters else name


def _device(overlay: OverlayKind) -> str:
    kind = OVERLAYS[overlay]
    values = {field.name: field.default or "auto" for field in structs.fields(kind)}
    return f"{{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"


def _yaml(value: str | Sequence[str]) -> str:
    """Return a value as YAML, in quotes if YAML would read it as another type."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def as_file(value: dict[str, Any], sources: list[str]) -> str:
    """Return a file as YAML; its first line names the documents that it was made from."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=100)
    names = (name if name.isprintable() else ascii(name) for name in sources)
    return f"# Made from {', '.join(names)}\n{text}"
