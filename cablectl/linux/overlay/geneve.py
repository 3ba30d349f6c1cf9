"""The Geneve overlay (RFC 8926), as iproute2 makes it: a device for one peer.

Such a device can't be told its own address: packets leave with the one that the route gives.
"""

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Geneve

HEADERS = 8 + 8 + 14  # UDP, Geneve without options (RFC 8926, section 3.1), Ethernet


def link_type(cable: Cable, geneve: Geneve) -> Argv:
    """Return what makes a device a Geneve's."""
    return (
        *("type", "geneve", "id", str(geneve.vni), "remote", str(cable.remote_host)),
        *("dstport", str(geneve.port)),
    )


def link_info(cable: Cable, geneve: Geneve) -> tuple[str, dict[str, object]]:
    """Return kind and attributes, as `ip -d -j link` names them."""
    remote = "remote" if cable.remote_host.version == 4 else "remote6"
    return "geneve", {"id": geneve.vni, "port": geneve.port, remote: str(cable.remote_host)}
