"""The GRE overlay (RFC 2784) with a key (RFC 2890), as iproute2 makes it: a device for one peer."""

from ipaddress import IPv4Address

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Gre

HEADERS = 4 + 4  # GRE (RFC 2784, section 2.1) and its key (RFC 2890, section 2)


def link_type(cable: Cable, gre: Gre) -> Argv:
    """Return what makes a device a GRE's; over IPv6 without the option of RFC 2473, 8 bytes."""
    ends = ("local", str(cable.local.address), "remote", str(cable.remote_host))
    return (
        *("type", _kind(cable), *ends, "key", str(gre.key)),
        *(("encaplimit", "none") if cable.local.address.version == 6 else ()),
    )


def link_info(cable: Cable, gre: Gre) -> tuple[str, dict[str, object]]:
    """Return kind and attributes, as `ip -d -j link` names them."""
    key = str(IPv4Address(gre.key))
    return _kind(cable), {
        "local": str(cable.local.address),
        "remote": str(cable.remote_host),
        "ikey": key,
        "okey": key,
    }


def _kind(cable: Cable) -> str:
    return "gre" if cable.local.address.version == 4 else "ip6gre"
