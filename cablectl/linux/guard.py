"""The guard: an nftables table that drops a cable's clear packets, both incoming and outgoing.

Trap policies keep clear text from leaving, as long as they are installed and match. The guard still
works after somebody flushed them, and where another program's NAT changes addresses. It also drops
clear packets that others send to the cable, which a VXLAN device would accept.

What a cable guards:

- mode tunnel without an overlay: what is to or from a remote subnet has an SA, except IKE and ESP
  of a gateway that is in its own subnet.
- an overlay: what is to or from a remote subnet or VTEP goes by the overlay's device, or by that of
  the detour while a key is rotated (`model.rotation`). The device's own packets have an SA, and
  only the device sends such packets to the peers. In tunnel mode none of the peers' is forwarded:
  without the device, or before it is made, this host lacks the address to which they go.
- transport mode alone: what the two gateways send to each other has an SA, except IKE and ESP.

The chains see a packet where its addresses count: what comes in before another program's DNAT, what
goes out after another program's source NAT. In nft(8), `meta ipsec` is true for a packet that
arrived by an SA, `rt ipsec` for a packet that will leave by an SA.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from cablectl.linux import nftables
from cablectl.linux.nftables import (
    ACCEPT,
    COUNTER,
    DROP,
    NOTRACK,
    Chain,
    Expression,
    Installed,
    Rule,
    Set,
    Table,
    match,
    meta,
    payload,
    raw,
)
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from cablectl.model.vteps import host_bits, twins_of, vtep
from cablectl.model.wishes import (
    PLUTO_PORTS,
    AnyNetwork,
    Endpoint,
    Mode,
    OverlayWish,
)

# Between connection tracking (-200) and destination NAT (-100); right after source NAT (100).
BEFORE_DNAT, AFTER_SNAT = -110, 110
# The first and the last place: no other program has changed, or will change, the packet's mark.
FIRST, LAST = -500, 500
# The bit of a packet's mark that says: this packet went to the overlay's device. Kubernetes,
# Calico, Cilium and Tailscale use other bits. A process needs CAP_NET_ADMIN or CAP_NET_RAW for it.
OWN = 0x1000
_NEIGHBOUR_DISCOVERY = (  # RFC 4861, by nft's words
    *("nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert"),
    "nd-redirect",
)
# Where a redirect has the destination that it is about, in bits after the begin of ICMP's header:
# in the packet that it quotes (RFC 792), or after the better first hop (RFC 4861, section 4.5).
_REDIRECTED = 192
# Where an ICMP error has the protocol and the destination port of the packet that it quotes: bits
# after the begin of ICMP's header, which has 64 (RFC 792, RFC 4443).
_QUOTED = {4: (64 + 72, 64 + 160 + 16), 6: (64 + 48, 64 + 320 + 16)}
_ERRORS = {
    4: (("icmp", "destination-unreachable"),),
    6: (("icmpv6", "destination-unreachable"), ("icmpv6", "parameter-problem")),
}
_IN, _OUT = "in", "out"  # the direction of the packets that a rule drops
_MISSING = {
    _IN: match(meta("ipsec"), right=False),
    _OUT: match({"rt": {"key": "ipsec"}}, right=False),
}
# A chain that no packet enters. An expression of connection tracking makes the kernel reassemble
# fragments before it asks any chain: the first fragment may be too short to show a VNI or a port.
_REASSEMBLE = Chain("reassemble", (Rule((match({"ct": {"key": "state"}}, "new", "in"),), "all"),))


def name(cable: Cable) -> str:
    """Return family and name of the cable's table; cables that share a device share the table."""
    return nftables.full_name(_name(cable))


def load(cable: Cable, before: Installed | None = None) -> Argv:
    """Load the table in one transaction, which replaces the one that was there before."""
    return table_of(cable).load(before)


def remove(cable: Cable) -> Argv:
    """Delete the table."""
    return nftables.remove(_name(cable))


def made(cable: Cable) -> Installed:
    """Return the table that `load` makes, with no packet dropped yet."""
    return _made_of_device(_Table(cable)) if cable.others else nftables.made(table_of(cable))


def is_intact(cable: Cable, installed: Installed | None) -> bool:
    """Tell whether the installed table is exactly what `load` makes.

    Traces don't show the remote subnets of an overlay: then the table must be as it was loaded.
    """
    if installed is None:
        return False
    if cable.traced:
        return installed.unchanged
    return installed.fingerprint == made(cable).fingerprint


def broken(cable: Cable, installed: Installed | None) -> bool:
    """Tell whether another program deleted or changed the table; False for another file's table."""
    return installed is None or not (installed.unchanged or is_intact(cable, installed))


def dropped(installed: Installed | None) -> tuple[int, int]:
    """Return how many packets the table has dropped, incoming and outgoing."""
    counted = installed.counted if installed else {}
    return counted.get(_IN, 0), counted.get(_OUT, 0)


class _Table:
    """The table of a cable as a key: cables of one device that share their peers are equal.

    Peers and twins are compared by identity: a device may have thousands, and each cable names them
    all.
    """

    def __init__(self, cable: Cable) -> None:
        self.cable = cable

    def __hash__(self) -> int:
        return hash((id(self.cable.others), self.cable.bundle))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Table):
            return NotImplemented
        this, that = self.cable, other.cable
        same_network = this.others is that.others and this.twins is that.twins
        return same_network and all(
            getattr(this, name) == getattr(that, name)
            for name in ("local", "mode", "overlay", "vtep_network", "underlay_network", "beside")
        )


@lru_cache(maxsize=8)
def _made_of_device(table: _Table) -> Installed:
    return nftables.made(table_of(table.cable))


def table_of(cable: Cable) -> Table:
    """Return the cable's table."""
    overlay, sets = cable.overlay, tuple[Set, ...]()
    if cable.joins_subnets:
        sets, chains = (_remote(cable),), tuple(_of_tunnel(cable))
    elif overlay:
        sets, chains = (_remote(cable), _peers(cable)), tuple(_of_overlay(cable, overlay))
    else:
        chains = tuple(_of_hosts(cable))
    return Table(_name(cable), sets, (*chains, _REASSEMBLE))


def _name(cable: Cable) -> str:
    return f"cablectl_{cable.bundle}"


def _remote(cable: Cable) -> Set:
    """Return the set of what must go by the cable: remote subnets and, with an overlay, VTEPs."""
    networks = [network for peer in cable.sharing for network in peer.networks]
    vteps = [cable.vtep_of(peer).ip for peer in cable.sharing] if cable.overlay else []
    return Set("remote", cable.local.address.version, tuple(map(str, (*networks, *vteps))))


def _peers(cable: Cable) -> Set:
    """Return the set of the addresses that the peers' overlay packets have."""
    hosts = tuple(str(cable.underlay_of(peer)) for peer in cable.sharing)
    return Set("peers", cable.local.address.version, hosts)


def _drop(direction: str, *conditions: Expression) -> Rule:
    return Rule((*conditions, COUNTER, DROP), direction)


def _of_tunnel(cable: Cable) -> Iterator[Chain]:
    inside = any(cable.remote_host in network for network in cable.remote.networks)
    for direction, field in ((_IN, "saddr"), (_OUT, "daddr")):
        accepted = _accepted(cable, direction) if inside else ()
        remote = (_address(cable, field, "@remote"),)
        yield _without_ipsec(direction, remote, accepted)
    yield Chain("redirects", tuple(map(_redirect, cable.remote.networks)), "output", FIRST)


def _redirect(network: AnyNetwork) -> Rule:
    """Return the rule that drops this host's redirects of packets to a network.

    The kernel sends one for each packet that comes and leaves by the same device, also if an SA
    takes the packet. The sender would then send to that device's router, in clear text.
    """
    redirect = payload("icmp", "type"), "redirect"
    if network.version == 6:
        redirect = payload("icmpv6", "type"), "nd-redirect"
    # The type comes last: nft 1.1 lists what follows the type of a redirect by another name.
    return Rule((*_destination(network), match(*redirect), DROP), "redirect")


def _destination(network: AnyNetwork) -> Iterator[Expression]:
    """Yield the matches of a redirect's destination, 32 bits each."""
    address, netmask = network.network_address.packed, network.netmask.packed
    for at in range(0, len(address), 4):
        value, mask = (int.from_bytes(octets[at : at + 4]) for octets in (address, netmask))
        word = raw(_REDIRECTED + 8 * at, 32)
        if mask:
            yield match(word if mask == 0xFFFFFFFF else {"&": [word, mask]}, value)


def _of_overlay(cable: Cable, overlay: OverlayWish) -> Iterator[Chain]:
    protocol, device = overlay_of(overlay), overlay.device
    packets, to_peers = protocol.guard_match(cable), _address(cable, "daddr", "@peers")
    carriers: nftables.Json = {"set": sorted([device, cable.beside])} if cable.beside else device
    elsewhere = {field: match(meta(field), carriers, "!=") for field in ("iifname", "oifname")}
    incoming = [_drop(_IN, _address(cable, "saddr", "@remote"), elsewhere["iifname"])]
    if protocol.accepts_any_source:
        incoming.append(_drop(_IN, *packets, _MISSING[_IN]))
        # An SA with another host protects that host's packets, which must not get in either.
        incoming.append(_drop(_IN, *packets, _address(cable, "saddr", "@peers", "!=")))
    else:
        incoming.append(_drop(_IN, *_hosts(cable, _IN), *packets, _MISSING[_IN]))
    yield Chain("in", tuple(incoming), "prerouting", BEFORE_DNAT)
    # Nobody else may send through the SAs: neither hosts behind this gateway nor processes on it.
    through = [_drop(_OUT, to_peers, *packets)]
    if cable.mode is Mode.TUNNEL:
        # What an SA has decrypted, while this host lacks the address: it would go to a router.
        from_peers = _address(cable, "saddr", "@peers")
        through.append(Rule((from_peers, *packets, DROP), "decrypted"))
    yield Chain("through", tuple(through), "forward", FIRST)
    local: list[Rule] = []
    if overlay.port_number:  # a process needs no privilege to send UDP
        not_own = match({"&": [meta("mark"), OWN]}, 0)
        local = [_drop(_OUT, *packets, _MISSING[_OUT]), _drop(_OUT, to_peers, *packets, not_own)]
    if cable.mode is Mode.TUNNEL:  # another program's masquerade would take the address away
        local.append(Rule((*_hosts(cable, _OUT, "@peers"), *packets, NOTRACK), "own"))
    if local:
        yield Chain("local", tuple(local), "output", FIRST)
    if overlay.port_number:
        mark: Expression = {"mangle": {"key": meta("mark"), "value": {"|": [meta("mark"), OWN]}}}
        own = Rule((match(meta("oifname"), device), mark), "own")
        yield Chain("own", (own,), "postrouting", LAST)
    if cable.mode is Mode.TRANSPORT:
        yield Chain("errors", tuple(_errors(cable, overlay)), "output", FIRST)
    hosts = (to_peers,) if protocol.accepts_any_source else _hosts(cable, _OUT)
    yield Chain(
        "out",
        (
            _drop(_OUT, _address(cable, "daddr", "@remote"), elsewhere["oifname"]),
            _drop(_OUT, *hosts, *packets, _MISSING[_OUT]),
        ),
        "postrouting",
        AFTER_SNAT,
    )


def _errors(cable: Cable, overlay: OverlayWish) -> Iterator[Rule]:
    """Yield the rules that drop this host's ICMP errors about packets of the overlay.

    While there is no device for them, the kernel answers each packet that an SA has decrypted. The
    answer quotes the packet, and no SA protects the answer.
    """
    version = cable.local.address.version
    protocol, port = _QUOTED[version]
    quoted = [match(raw(protocol, 8), overlay.protocol(version).number)]
    if overlay.port_number:
        quoted.append(match(raw(port, 16), overlay.port_number))
    for family, error in _ERRORS[version]:
        kind = match(payload(family, "type"), error)
        yield Rule((_address(cable, "daddr", "@peers"), *quoted, kind, DROP), "error")


def _of_hosts(cable: Cable) -> Iterator[Chain]:
    for direction in (_IN, _OUT):
        yield _without_ipsec(direction, _hosts(cable, direction), _accepted(cable, direction))


def _without_ipsec(
    direction: str, packets: tuple[Expression, ...], accepted: Iterable[Rule]
) -> Chain:
    """Return the chain that drops packets of one direction if they have no SA."""
    place = ("prerouting", BEFORE_DNAT) if direction == _IN else ("postrouting", AFTER_SNAT)
    return Chain(direction, (*accepted, _drop(direction, *packets, _MISSING[direction])), *place)


def _accepted(cable: Cable, direction: str) -> Iterator[Rule]:
    """Yield the rules that accept what IPsec needs between the two gateways."""
    version, hosts = cable.local.address.version, _hosts(cable, direction)
    for condition in _needed_by_ipsec(cable.ike_ports, version):
        yield Rule((*hosts, *condition, ACCEPT), "accept")


def _needed_by_ipsec(ports: Sequence[int], version: int) -> Iterator[tuple[Expression, ...]]:
    """Yield the matches of what gateways send to each other so that IPsec works."""
    yield (match(meta("l4proto"), "esp"),)
    yield (match(payload("udp", "dport"), {"set": list(ports)}),)
    if version == 6:
        yield (match(payload("icmpv6", "type"), {"set": list(_NEIGHBOUR_DISCOVERY)}),)


def _hosts(cable: Cable, direction: str, peers: str = "") -> tuple[Expression, ...]:
    """Return the match of the overlay's packets, or of all, from one gateway to the other.

    `peers` is a set of other ends instead.
    """
    local, remote = cable.local.address, cable.remote_host
    if cable.overlay:
        local, remote = cable.local_underlay, cable.remote_underlay
    ends = (str(local), peers or str(remote))
    source, target = ends if direction == _OUT else ends[::-1]
    return _address(cable, "saddr", source), _address(cable, "daddr", target)


def _address(cable: Cable, field: str, value: str, op: str = "==") -> Expression:
    return _ip(cable.local.address.version, field, value, op)


def _ip(version: int, field: str, value: str, op: str = "==") -> Expression:
    return match(payload("ip" if version == 4 else "ip6", field), value, op)


def unlocated(network: Network) -> Table:
    """Return the guard of a host of which it isn't known yet which endpoint of the file it is.

    A host that boots has no address until its network is up. The table drops whatever is between
    two clusters, in both directions, except what their gateways send to each other.
    """
    version = network.endpoints[0].address.version
    sets = [_cluster(f"cluster{i}", end, version) for i, end in enumerate(network.endpoints)]
    subnets = [str(subnet) for end in network.endpoints for subnet in end.networks]
    gateways = tuple(dict.fromkeys(str(end.address) for end in network.endpoints))
    rules: list[Rule] = []
    for each in sets:
        for here, there in (("saddr", "daddr"), ("daddr", "saddr")):
            own = f"@{each.name}"
            remote = _ip(version, there, "@carried"), _ip(version, there, own, "!=")
            rules.append(_drop(_OUT if here == "saddr" else _IN, _ip(version, here, own), *remote))
    if network.mode is Mode.TRANSPORT and not network.overlay:
        between = _ip(version, "saddr", "@gateways"), _ip(version, "daddr", "@gateways")
        own_ports = {end.ike_port or network.ipsec.ike_port for end in network.endpoints}
        needed = _needed_by_ipsec(sorted({*PLUTO_PORTS, *own_ports}), version)
        rules += [Rule((*between, *condition, ACCEPT), "accept") for condition in needed]
        rules.append(_drop(_OUT, *between))
    return Table(
        f"cablectl_unlocated_{zlib.crc32(' '.join(gateways).encode()):08x}",
        (
            *sets,
            Set("carried", version, (*subnets, *_of_overlays(network))),
            Set("gateways", version, gateways),
        ),
        (
            Chain("in", tuple(rules), "prerouting", BEFORE_DNAT),
            Chain("out", tuple(rules), "postrouting", AFTER_SNAT),
        ),
    )


def _of_overlays(network: Network) -> Iterator[str]:
    """Yield the addresses of the VTEPs and, in tunnel mode, of the overlay's packets."""
    if not network.overlay:
        return
    tunnel, same = network.mode is Mode.TUNNEL, twins_of(network.endpoints)
    for end in network.endpoints:
        bits = host_bits(end, same)
        yield str(vtep(bits, network.vtep_network).ip)
        if tunnel:
            yield str(vtep(bits, network.underlay_network).ip)


def _cluster(name: str, end: Endpoint, version: int) -> Set:
    """Return the set of a cluster's subnets and gateway."""
    inside = any(end.address in subnet for subnet in end.networks)
    gateway = () if inside else (str(end.address),)
    return Set(name, version, (*map(str, end.networks), *gateway))
