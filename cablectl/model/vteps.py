"""The addresses and MACs of VTEPs, which follow from the addresses of the gateways."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from cablectl.model.wishes import AnyAddress, AnyNetwork, Endpoint

AnyInterface = IPv4Interface | IPv6Interface
MACS = "02:ca:"  # the beginning of every VTEP's MAC


def vtep(host_bits: int, network: AnyNetwork) -> AnyInterface:
    """Return the address in a network that ends in a gateway's `host_bits`."""
    host = host_bits & int(network.hostmask)
    address = network.network_address + host
    return interface(address, network.prefixlen)


def interface(address: AnyAddress, length: int) -> AnyInterface:
    """Return an address with the length of its prefix."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, length))
    return IPv6Interface((address, length))


def host_bits(endpoint: Endpoint, twins: Mapping[str, int]) -> int:
    """Return the number whose last bits tell a gateway's VTEP from others: that of its address.

    A cluster among the `twins` has another one.
    """
    return twins.get(endpoint.cluster, int(endpoint.address))


def twins_of(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    """Return the clusters whose gateway has the address of an earlier endpoint.

    Each has a number that is made of its name.
    """
    seen: set[AnyAddress] = set()
    found: dict[str, int] = {}
    for endpoint in endpoints:
        if endpoint.address in seen:
            found[endpoint.cluster] = number_of(endpoint.cluster)
        seen.add(endpoint.address)
    return found


def number_of(cluster: str) -> int:
    """Return the number, of 32 bits, that a twin has instead of its address."""
    import zlib

    return zlib.crc32(cluster.encode())


def mac_of(underlay: AnyAddress) -> str:
    """Return a VTEP's MAC, derived from the address that the overlay's packets to it have.

    It is locally administered (IEEE 802, the 02 bit of the first octet).
    """
    octets = underlay.packed
    if len(octets) > 4:
        import zlib

        octets = zlib.crc32(octets).to_bytes(4)
    return f"{MACS}{octets.hex(':')}"
