"""A gateway and its peers: the file that they share.

`esn: yes` is what a connection of ipsec.conf has, which is compared with.
"""

from tests.lab.cable import PSK_FILE

HUB = "172.18.0.8"


def address(number: int) -> str:
    """Return the address of a peer."""
    return f"172.18.{1 + number // 250}.{1 + number % 250}"


def document(count: int) -> str:
    """Return the mesh of the gateway and so many peers."""
    lines = ["version: 1", "mode: transport", "overlay: vxlan", "endpoints:"]
    for number, own in enumerate([HUB, *map(address, range(count))]):
        subnet = f"10.{64 + number // 256}.{number % 256}.0/24"
        lines.append(
            f"  - {{cluster: c{number}, hostname: g{number}, address: {own}, subnets: [{subnet}]}}"
        )
    return "\n".join([*lines, f"ipsec: {{esn: yes, psk: {{file: {PSK_FILE}}}}}", ""])
