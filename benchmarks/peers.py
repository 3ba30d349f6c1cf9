"""The file of a gateway with many peers.

It has `esn: yes`, like a connection of ipsec.conf, so that both can be compared.
"""

from tests.lab.cable import PSK_FILE

HUB = "172.18.0.8"


def address(number: int) -> str:
    """Return the address of a peer."""
    return f"172.18.{1 + number // 250}.{1 + number % 250}"


def document(count: int) -> str:
    """Return the file of a mesh of the gateway and `count` peers."""
    lines = ["version: 1", "mode: transport", "overlay: vxlan", "endpoints:"]
    for number, own in enumerate([HUB, *map(address, range(count))]):
        subnet = f"10.{64 + number // 256}.{number % 256}.0/24"
        lines.append(
            f"  - {{cluster: c{number}, hostname: g{number}, address: {own}, subnets: [{subnet}]}}"
        )
    return "\n".join([*lines, f"ipsec: {{esn: yes, psk: {{file: {PSK_FILE}}}}}", ""])
