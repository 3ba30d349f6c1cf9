"""Finds which endpoint this host was, by its traces, after the host has lost the address.

A host gets another address by DHCP, or in a cloud by a new start. Until somebody changes the file,
no endpoint of it has an address of this host.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from cablectl.facts.host_facts import Link
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable, cable_id
from cablectl.model.network import Network
from cablectl.model.wishes import Endpoint, Mode, OverlayWish

Identities = Mapping[str, tuple[str, ...]]  # the lines of each secrets file without the keys, by id
MAX_TRIED = 5  # cables: with thousands of endpoints, each one takes 10 ms


def lost_end(
    network: Network, identities: Identities, links: Mapping[str, Link]
) -> Endpoint | None:
    """Return the endpoint as which this host made a cable; None if there isn't exactly one."""
    found = {end.cluster: end for end in _lost_ends(network, identities, links)}
    return next(iter(found.values())) if len(found) == 1 else None


def _lost_ends(
    network: Network, identities: Identities, links: Mapping[str, Link]
) -> Iterator[Endpoint]:
    peers = (peer for peer in network.endpoints if cable_id(peer.cable_name) in identities)
    for peer in islice(peers, MAX_TRIED):
        lines = identities[cable_id(peer.cable_name)]
        likely = (end for end in network.endpoints if _names(end, *lines[:1]))
        for cable in _cables(network, likely, peer):
            if secrets_file.pairs(cable) == lines:
                yield cable.local
    if network.mode is Mode.NONE and network.overlay:  # no secrets file
        yield from _ends_of_device(network, network.overlay, links.get(network.overlay.device))


def _names(end: Endpoint, line: str = "") -> bool:
    return str(end.address) in line or end.cluster in line or end.certified in line


def _ends_of_device(network: Network, wish: OverlayWish, link: Link | None) -> Iterator[Endpoint]:
    if link and link.ours:
        likely = [end for end in network.endpoints if str(end.address) in link.info.values()]
        for cable in _cables(network, likely, *network.endpoints[:2]):
            if link.fits(cable, wish):
                yield cable.local


def _cables(network: Network, ends: Iterable[Endpoint], *peers: Endpoint) -> Iterator[Cable]:
    """Yield the cables from these ends to the peers."""
    for end in ends:
        others = [peer for peer in peers if peer is not end]
        yield from network.cables(end, others) if others else ()
