"""The file in every shape: from words such as `tunnel v6 nat server` to YAML."""

from itertools import product

from cablectl.config import native
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, OverlayKind

FAMILIES = {
    "v4": {
        "addresses": ("172.18.0.8", "172.18.0.7", "172.18.0.6"),
        "public": ("203.0.113.8", "203.0.113.7", "203.0.113.6"),
        "subnets": (
            ("10.44.0.0/16", "172.18.0.8/32", "100.44.0.0/16"),
            ("10.45.0.0/16",),
            ("10.46.0.0/16",),
        ),
    },
    "v6": {
        "addresses": ("2001:db8::8", "2001:db8::7", "2001:db8::6"),
        "public": ("2001:db8:ffff::8", "2001:db8:ffff::7", "2001:db8:ffff::6"),
        "subnets": (
            ("2001:db8:44::/48", "2001:db8::8/128", "2001:db8:144::/48"),
            ("2001:db8:45::/48",),
            ("2001:db8:46::/48",),
        ),
    },
}
# With the word `inside`: gateways that are in a subnet of their own cluster.
INSIDE = {
    "v4": ("10.44.0.8", "10.45.0.7", "10.46.0.6"),
    "v6": ("2001:db8:44::8", "2001:db8:45::7", "2001:db8:46::6"),
}
# Which ends are behind NAT, and which prefer to be server.
NAT = {"": (), "nat": (0,), "nats": (0, 1)}
SERVERS = {"": (), "server": (1,), "servers": (0, 1)}

SHAPES = [
    " ".join(word for word in words if word)
    for words in (
        *product(("tunnel",), FAMILIES, NAT, SERVERS),
        *product(("tunnel",), OVERLAYS, FAMILIES, ("", "nat server", "nats")),
        *product(("transport",), OverlayKind, FAMILIES, ("", "server")),
        *product(("none",), ("vxlan",), FAMILIES),
    )
    if not {"nat", "servers"} <= set(words) and not {"nats", "servers"} <= set(words)
]
# Of three endpoints; not with an overlay whose device has one peer.
PAIRS_ALONE = {kind for kind, wish in OVERLAYS.items() if not wish.serves_all_peers}
MESHES = [
    f"{shape} mesh"
    for shape in SHAPES
    if not {*PAIRS_ALONE, "nats", "servers"} & set(shape.split())
]
# Two algorithms, each with the PFS group.
PFS = "ipsec:\n  pfs_group: modp2048\n  esp: [aes_gcm-null, aes256-sha2_256]\n"
# What Libreswan 4.x and 5.x need to agree: docs/libreswan.md.
AGREED = "ipsec:\n  esn: yes\n  pfs_group: modp2048\n  esp: [aes_gcm-null]\n"


def document(shape: str) -> str:
    """Return a file of that shape; the word `pfs` adds the section PFS."""
    mode, *words = shape.split()
    overlay = next((word for word in words if word in list(OverlayKind)), "none")
    version = next(word for word in words if word in FAMILIES)
    family = FAMILIES[version]
    addresses = INSIDE[version] if "inside" in words else family["addresses"]
    lines = ["version: 1", f"mode: {mode}", f"overlay: {overlay}"]
    lines += ["allow_cleartext: true"] if mode == "none" else []
    lines += ["endpoints:"]
    for i, number in enumerate((1, 2, 3) if "mesh" in words else (1, 2)):
        lines += [
            f"  - cluster: cluster{number}",
            f"    hostname: cluster{number}-worker",
            f"    address: '{addresses[i]}'",
        ]
        if mode == "tunnel" or overlay != "none":
            lines += ["    subnets:", *(f"      - '{each}'" for each in family["subnets"][i])]
        if any(i in ends for word, ends in NAT.items() if word in words):
            lines += [f"    public_address: '{family['public'][i]}'"]
        if any(i in ends for word, ends in SERVERS.items() if word in words):
            lines += ["    preferred_server: true"]
    return "".join(f"{line}\n" for line in lines) + (PFS if "pfs" in words else "")


def shaped(shape: str, local: str = "cluster1") -> Cable:
    """Return the cable of a file of that shape, of two endpoints, seen from one end."""
    (cable,) = meshed(shape, local)
    return cable


def meshed(shape: str, local: str = "cluster1") -> tuple[Cable, ...]:
    """Return the cables of a file of that shape, seen from one end."""
    network = native.parse(document(shape), shape)
    return network.cables(network.named(local))
