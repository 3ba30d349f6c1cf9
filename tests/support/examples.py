"""The cables of the examples that users read."""

from msgspec.structs import replace

from cablectl.config import native
from cablectl.model.cable import Cable
from cablectl.model.wishes import Initiate
from tests.support.places import EXAMPLES


def load(name: str, local: str = "cluster1") -> Cable:
    """Return the cable of an example of two endpoints, seen from one end."""
    (cable,) = load_all(name, local)
    return cable


def load_all(name: str, local: str = "cluster1") -> tuple[Cable, ...]:
    """Return the cables of an example, seen from one end."""
    network = native.parse((EXAMPLES / f"{name}.yaml").read_text(), f"{name}.yaml")
    return network.cables(network.named(local))


def with_traps(cable: Cable) -> Cable:
    """Return the cable of a file in which both ends initiate, so that they have trap policies."""
    return replace(cable, ipsec=replace(cable.ipsec, initiate=Initiate.BOTH))
