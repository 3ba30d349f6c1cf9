"""A rotation's second path: both ends derive the same one, and it never meets the cable."""

import re

import pytest
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.libreswan import whack
from cablectl.libreswan.dialects import Version
from cablectl.model import rotation
from cablectl.model.cable import Cable
from cablectl.model.psk import PskDirectory, PskEnv, PskFile, PskPair
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import KERNEL_TABLES, Gre, Ipip, Ipsec, OverlayKind, Routes
from tests.support.documents import SHAPES, meshed, shaped

OVERLAYS = {kind for kind in OverlayKind if kind is not OverlayKind.NONE}
WITH_OVERLAY = [
    shape for shape in SHAPES if OVERLAYS & {*shape.split()} and not shape.startswith("none")
]


def detour(cable: Cable) -> Cable:
    (found,) = rotation.detours_of((cable,))
    return found


def selectors(cable: Cable) -> set[tuple[object, ...]]:
    return {
        (end.network, end.protocol, end.port_number)
        for connection in cable.connections
        for end in connection.ends
        if cable.overlay and (end.port or not cable.overlay.port)
    }


@pytest.mark.parametrize("shape", WITH_OVERLAY)
class TestDetour:
    def test_both_ends_derive_the_same_one(self, shape: str) -> None:
        here, there = (detour(shaped(shape, name)) for name in ("cluster1", "cluster2"))
        assert here.local_vtep == there.remote_vtep
        assert here.local_underlay == there.remote_underlay
        assert here.overlay == there.overlay
        assert (here.routes, here.psk) == (there.routes, there.psk)
        one = {(c.local.identity, c.remote.identity) for c in here.connections}
        assert one == {(c.remote.identity, c.local.identity) for c in there.connections}

    def test_it_never_meets_the_cable(self, shape: str) -> None:
        cable = shaped(shape)
        found = detour(cable)
        assert cable.overlay
        assert found.overlay
        assert not selectors(cable) & selectors(found)
        assert not cable.names & found.names
        assert cable.id != found.id
        assert not {*cable.identities} & {*found.identities}
        assert not cable.vtep_network.overlaps(found.vtep_network)
        assert not cable.underlay_network.overlaps(found.underlay_network)
        assert not found.vtep_network.overlaps(found.underlay_network)
        assert cable.overlay.device != found.overlay.device
        assert found.routes.priority < cable.routes.priority
        assert found.routes.table != cable.routes.table
        assert (found.beside, rotation.with_detour(cable).beside) == (
            cable.overlay.device,
            found.overlay.device,
        )

    def test_pluto_knows_both_ends_by_name(self, shape: str) -> None:
        found = detour(shaped(shape))
        for connection in found.connections:
            words = whack.add(found, connection, Version(4, 10))
            names = [words[at + 1] for at, word in enumerate(words) if word == "--id"]
            assert len(names) == 2
            assert all(name.startswith("@cluster") and ".rotate" in name for name in names)


def test_its_routes_also_lead_to_the_vtep_of_the_cable() -> None:
    cable = shaped("transport vxlan v4")
    found = detour(cable).routed_networks
    assert found[:-1] == cable.remote.networks
    assert str(found[-1]) == "241.18.0.7/32"
    assert cable.routed_networks == cable.remote.networks


def test_peers_of_a_device_share_its_detour() -> None:
    cables = meshed("transport vxlan v4 mesh")
    found = rotation.detours_of(cables)
    assert len({each.bundle for each in found}) == 1
    assert all(each.others is found[0].others for each in found)
    assert [end.cluster for end in found[0].others] == ["cluster2.rotate", "cluster3.rotate"]


@pytest.mark.parametrize("overlay", ["vxlan", "gre", "geneve", "ipip"])
def test_the_device_has_a_name_that_linux_takes(overlay: str) -> None:
    wish = shaped(f"transport {overlay} v4").overlay
    assert wish
    for name in ("a", "a-name-of-15-ch"):
        found = detour(replace(shaped("transport vxlan v4"), overlay=replace(wish, device=name)))
        assert found.overlay
        assert len(found.overlay.device) <= 15


def test_ip_in_ip_and_gre_take_each_others_place_in_transport_mode() -> None:
    assert isinstance(detour(shaped("transport gre v4")).overlay, Ipip)
    assert isinstance(detour(shaped("transport ipip v4")).overlay, Gre)
    assert isinstance(detour(shaped("tunnel gre v4")).overlay, Gre)
    assert isinstance(detour(shaped("tunnel ipip v4")).overlay, Ipip)


def test_the_last_port_has_a_next_one() -> None:
    cable = shaped("transport geneve v4")
    wish = cable.overlay
    assert wish
    found = detour(replace(cable, overlay=replace(wish, port=65535))).overlay
    assert found
    assert found.port_number == 1


def test_no_table_is_the_kernels() -> None:
    cable = shaped("transport vxlan v4")
    for table in (252, 253, 254, 2**32 - 1):
        found = detour(replace(cable, routes=Routes(table=table, priority=9))).routes
        assert found.table not in (*KERNEL_TABLES, table)
        assert found.table < 2**32


def test_networks_of_the_file_are_left_out() -> None:
    cable = shaped("transport vxlan v4")
    taken = replace(cable, vtep_network=detour(cable).vtep_network)
    assert not detour(taken).vtep_network.overlaps(taken.vtep_network)


@pytest.mark.parametrize(
    ("psk", "path"),
    [
        (PskFile("/etc/cablectl/psk"), "/etc/cablectl/psk.next"),
        (PskDirectory("/keys"), "/keys/cluster1+cluster2.next"),
    ],
)
def test_the_next_key_is_beside_the_key(psk: PskFile | PskDirectory, path: str) -> None:
    cable = replace(shaped("transport vxlan v4"), ipsec=Ipsec(psk=psk))
    for found in (rotation.renewed(cable), detour(cable)):
        assert isinstance(found.psk, PskFile | PskPair)
        assert found.psk.path == path
    assert rotation.plain(rotation.renewed(cable)) == cable


@pytest.mark.parametrize(
    ("shape", "changed", "message"),
    [
        ("none vxlan v4", {}, "mode: none"),
        ("transport none v4", {}, "needs an overlay"),
        ("tunnel v4", {}, "needs an overlay"),
        ("transport vxlan v4", {"ipsec": Ipsec(psk=PskEnv("KEY"))}, "{env: KEY}"),
        ("transport vxlan v4", {"guard": False}, "guard: false"),
        ("transport vxlan v4", {"routes": Routes(priority=1)}, "routes.priority: 1"),
    ],
)
def test_what_has_no_second_path(shape: str, changed: dict[str, object], message: str) -> None:
    cable = replace(shaped(shape), **changed)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        rotation.refuse(cable)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("exists", "used", "changed", "phase"),
    [
        (False, False, False, "none"),
        (True, False, False, "prepared"),
        (True, True, False, "moved"),
        (True, True, True, "changed"),
        (True, False, True, "returned"),
        (False, False, True, "done"),
    ],
)
def test_the_phase_follows_from_the_host(
    exists: bool, used: bool, changed: bool, phase: str
) -> None:
    found = rotation.phase(detour=exists, used=used, changed=changed)
    assert found is RotationPhase(phase)
    assert found.words
