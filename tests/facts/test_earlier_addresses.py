"""Which endpoint a host was, by the cables that it made, after its address is gone."""

import pytest
from msgspec.structs import replace

from cablectl.config import native
from cablectl.facts.earlier_addresses import lost_end
from cablectl.facts.host_facts import Link
from cablectl.libreswan import secrets_file
from cablectl.linux.overlay.protocol import GROUP
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from tests.support.documents import SHAPES, document, meshed, shaped


def network(shape: str) -> Network:
    return native.parse(document(shape), shape)


def device_of(cable: Cable, group: str = GROUP) -> dict[str, Link]:
    assert cable.overlay
    kind, info = overlay_of(cable.overlay).link_info(cable)
    link = Link(kind=kind, group=group, mac=cable.mac_of(cable.local), mtu=1400, up=True, info=info)
    return {cable.overlay.device: link}


def files_of(*cables: Cable) -> dict[str, tuple[str, ...]]:
    return {cable.id: secrets_file.pairs(cable) for cable in cables}


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.startswith("none")])
def test_the_secrets_file_has_the_address(shape: str) -> None:
    for cluster in ("cluster1", "cluster2"):
        found = lost_end(network(shape), files_of(shaped(shape, cluster)), {})
        assert found
        assert found.cluster == cluster


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if "none" not in shape.split()[1:2] and "none" in shape]
)
def test_a_device_has_the_address(shape: str) -> None:
    found = lost_end(network(shape), {}, device_of(shaped(shape)))
    assert found
    assert found.cluster == "cluster1"
    assert lost_end(network(shape), {}, device_of(shaped(shape), group="0")) is None


def test_one_cable_of_a_mesh_is_enough() -> None:
    _, second = meshed("transport vxlan v4 mesh")
    found = lost_end(network("transport vxlan v4 mesh"), files_of(second), {})
    assert found
    assert found.cluster == "cluster1"


def test_a_cable_of_another_file_to_the_same_peer() -> None:
    cable = shaped("tunnel v4")
    other = replace(cable, local=replace(cable.local, address=cable.remote.address + 2))
    assert lost_end(network("tunnel v4"), files_of(other), {}) is None


def test_a_host_that_was_two_ends_is_none() -> None:
    cables = (shaped("tunnel v4", name) for name in ("cluster1", "cluster2"))
    assert lost_end(network("tunnel v4"), files_of(*cables), {}) is None


def test_nothing_is_known() -> None:
    assert lost_end(network("transport vxlan v4"), {}, {}) is None
