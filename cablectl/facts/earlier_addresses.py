"""Finds which endpoint this host was, by its traces, after the host has lost the address.

A host gets another address by DHCP, or in a cloud by a new start. Until somebody changes the file,
no endpoint of it has an address of this host.
"""

from collections.abc import Iterator, Mapping

from cablectl.facts.host_facts import Link
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable, cable_id
from cablectl.model.network import Network
from cablectl.model.wishes import Endpoint

Identities = Mapping[str, tuple[str, ...]]  # the lines of each secrets file without the keys, by id
MAX_TRIED = 100  # cables; each of them is compared with every endpoint


def lost_end(
    network: Network, identities: Identities, links: Mapping[str, Link]
) -> Endpoint | None:
    """Return the endpoint as which this host made a cable; None if there isn't exactly one."""
    found = {end.cluster: end for end in _lost_ends(network, identities, links)}
    return next(iter(found.values())) if len(found) == 1 else None


def _lost_ends(
    network: Network, identities: Identities, links: Mapping[str, Link]
) -> Iterator[Endpoint]:
    known = {cable_id(end.cable_name): end for end in network.endpoints}
    for peer in [end for name, end in known.items() if name in identities][:MAX_TRIED]:
        lines = identities[cable_id(peer.cable_name)]
        for cable in _cables_to(network, peer):
            if secrets_file.pairs(cable) == lines:
                yield cable.local
    wish = network.overlay
    link = links.get(wish.device) if wish else None
    if wish and link and link.ours:
        for cable in _cables_to(network, *network.endpoints[:2]):
            if link.fits(cable, wish):
                yield cable.local


def _cables_to(network: Network, *peers: Endpoint) -> Iterator[Cable]:
    """Yield the cables to these peers, each seen from its other end."""
    for end in network.endpoints:
        others = [peer for peer in peers if peer is not end]
        yield from network.cables(end, others) if others else ()
