"""This host has another address than when cablectl made the cable: what connect and teardown do."""

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from cablectl.config import native
from cablectl.errors import HostNotReadyError
from cablectl.facts import partition
from cablectl.facts.host_facts import Credential, Facts
from cablectl.linux import xfrm
from cablectl.linux.iproute import SYSCTL
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.connection import host_network
from cablectl.model.wishes import OVERLAYS, Mode
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan, Step
from cablectl.status.report import Verdict
from tests.support.alive import seen
from tests.support.documents import document, meshed, shaped
from tests.support.meshes import whole
from tests.support.plans import needed

OLD = {4: "172.18.0.8", 6: "2001:db8::8"}
NEW = {4: "172.18.0.18", 6: "2001:db8::18"}
OVERLAYS_OF = [
    f"{mode} {kind} {family}"
    for mode in ("transport", "tunnel")
    for kind in OVERLAYS
    for family in ("v4", "v6")
]
SHAPES = ["tunnel v4", "tunnel v6 server", "transport none v4", *OVERLAYS_OF]


def after_move(cable: Cable) -> Cable:
    new = ip_address(NEW[cable.local.address.version])
    others = tuple(
        each for each in cable.local.subnets if each != host_network(cable.local.address)
    )
    return replace(cable, local=replace(cable.local, address=new, subnets=others))


def facts(cable: Cable, *has: Cable, marks: bool = True, held: str = "") -> Facts:
    """Return the cable's facts on a host with its address, where connect made other cables."""
    ids = frozenset(each.id for each in has) if marks else frozenset[str]()
    addresses = frozenset({str(cable.local.address), *([held] if held else ())})
    (found,) = partition.of_each((cable,), replace(whole(has), held=addresses), ids)
    earlier = [each for each in has if each.id == cable.id and each.identities != cable.identities]
    return replace(found, credential=Credential.EARLIER) if earlier else found


def move(shape: str) -> tuple[Cable, Cable, Facts]:
    """Return the cable before and after, and the facts of the host that moved."""
    before = shaped(shape)
    after = after_move(before)
    return before, after, facts(after, before)


def change_of(plan: Plan) -> Step:
    (step,) = (step for step in plan.needed if step.argv[:3] == ("ip", "link", "set"))
    return step


@pytest.mark.parametrize("shape", SHAPES)
def test_one_connect_is_enough(shape: str) -> None:
    before, after, host = move(shape)
    plan = connect_plan.plan((after,), (host,))
    lines = needed(plan)
    for name in after.names:
        delete = lines.index(f"ipsec whack --delete --name {name}")
        assert delete < next(i for i, line in enumerate(lines) if f"--name {name} -" in line)
    assert "ipsec whack --listen" in lines
    assert not any(line.startswith(("ip link add", "ip link delete")) for line in lines)
    old = str(before.local_underlay)
    assert old not in " ".join(word for step in plan.needed for word in step.argv) or any(
        line.startswith(f"ip address delete {old}") for line in lines
    )


@pytest.mark.parametrize("shape", ["tunnel v4", "tunnel v4 server", "transport gre v6"])
def test_the_secrets_file_gets_the_new_identity(shape: str) -> None:
    """Its undo would need the old file; with the same key, the new one does no harm."""
    _, after, host = move(shape)
    steps = connect_plan.plan((after,), (host,)).needed
    step = next(step for step in steps if step.phase is Phase.SECRET)
    assert (step.phase, step.kind, step.undo) == (Phase.SECRET, Change.ALTER, ())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_usual_end_initiates(shape: str) -> None:
    """The peer connects anew as well. If both initiate, each connection gets two Child SAs."""
    _, after, host = move(shape)
    plan = connect_plan.plan((after,), (host,))
    initiates = any(step.phase is Phase.INITIATE for step in plan.needed)
    assert initiates == after.initiates


@pytest.mark.parametrize("shape", OVERLAYS_OF)
def test_the_device_gets_the_new_addresses(shape: str) -> None:
    before, after, host = move(shape)
    plan = connect_plan.plan((after,), (host,))
    step, words = change_of(plan), f" {' '.join(change_of(plan).argv)} "
    assert after.overlay
    kind, info = overlay_of(after.overlay).link_info(after)
    assert f" type {kind} " in words
    link = host.overlay.link
    assert link
    for address in info.get("local"), info.get("local6"):
        assert address is None or f" local {address} " in words
    assert (f" address {after.mac_of(after.local)} " in words) == overlay_of(after.overlay).has_macs
    undo = " ".join(step.undo[0])
    assert undo == (
        words.strip()
        .replace(f"local {after.local_underlay}", f"local {before.local_underlay}")
        .replace(after.mac_of(after.local), before.mac_of(before.local))
    )


@pytest.mark.parametrize("shape", OVERLAYS_OF)
def test_a_device_whose_guard_goes_by_addresses_is_changed_first(shape: str) -> None:
    """Else it could send with the old address after the old policies, past the new guard."""
    _, after, host = move(shape)
    plan = connect_plan.plan((after,), (host,))
    order = [step.phase for step in plan.needed]
    early = change_of(plan).phase is Phase.GUARD
    assert early == any(kind in shape for kind in ("gre", "ipip"))
    assert order == sorted(order, key=list(Phase).index)


@pytest.mark.parametrize("shape", [shape for shape in OVERLAYS_OF if "v4" in shape])
def test_the_old_addresses_go_after_the_new_routes(shape: str) -> None:
    """The kernel would take the new address with the old one, and the routes with both."""
    before, after, host = move(shape)
    steps = connect_plan.plan((after,), (host,)).needed
    lines = [" ".join(step.argv) for step in steps]
    device = after.overlay and after.overlay.device
    added = [lines.index(f"ip address add {each} dev {device}") for each in after.device_addresses]
    gone = [
        lines.index(f"ip address delete {each} dev {device}") for each in before.device_addresses
    ]
    promoted = lines.index(next(line for line in lines if "promote_secondaries" in line))
    assert max(added) < promoted < min(gone)
    assert f"{SYSCTL}/ipv4/conf/{device}/promote_secondaries 1" in lines[promoted]
    assert sorted(gone)[-1] == len(lines) - 1
    for index in gone:
        assert " ".join(steps[index].undo[0]) == lines[index].replace(" delete ", " add ")


def test_an_address_of_somebody_else_on_the_device_stays() -> None:
    before, after, host = move("transport vxlan v4")
    link = host.overlay.link
    assert link
    theirs = frozenset({"10.9.9.9/32", "241.18.0.99/32", "fe80::1/64"})
    link = replace(link, addresses=link.addresses | theirs)
    lines = needed(
        connect_plan.plan((after,), (replace(host, overlay=replace(host.overlay, link=link)),))
    )
    gone = [line for line in lines if line.startswith("ip address delete")]
    assert gone == [f"ip address delete {before.local_vtep} dev vxlan-tunnel"]


@pytest.mark.parametrize("shape", ["transport vxlan v4", "transport geneve v6"])
def test_neighbours_are_made_again_as_the_kernel_forgets_them_with_the_mac(shape: str) -> None:
    _, after, host = move(shape)
    plan = connect_plan.plan((after,), (host,))
    neighbour = f"{after.remote_vtep.ip} lladdr {after.mac_of(after.remote)}"
    assert any(line.startswith(f"ip neigh replace {neighbour}") for line in needed(plan))
    _, *restored = change_of(plan).undo
    assert [" ".join(argv)[:17] for argv in restored] == ["ip neigh replace "]


def test_the_mtu_of_a_vxlan_is_changed_by_itself() -> None:
    """Linux refuses it beside another address."""
    _, after, host = move("transport vxlan v4")
    link = host.overlay.link
    assert link
    host = replace(host, overlay=replace(host.overlay, link=replace(link, mtu=1300)))
    sets = [line for line in needed(connect_plan.plan((after,), (host,))) if "link set" in line]
    assert ["mtu" in line for line in sets] == [False, True]


@pytest.mark.parametrize("shape", OVERLAYS_OF)
def test_status_says_that_the_device_is_of_an_earlier_file(shape: str) -> None:
    before, after, host = move(shape)
    verdict, reasons = seen(after, host)
    assert verdict is not Verdict.FOREIGN
    text = "; ".join(reasons)
    old = str(before.local_underlay)
    assert f"sends from {old}, this host's address of an earlier file" in text or (
        f"has the MAC {before.mac_of(before.local)}" in text
    )
    assert f"has the address {before.local_vtep} of an earlier file" in text


class TestWhoseDevice:
    """A device that sends from another address may be another file's."""

    @pytest.mark.parametrize("shape", OVERLAYS_OF)
    def test_without_a_cable_of_this_file_it_is_refused(self, shape: str) -> None:
        before, after, _ = move(shape)
        host = replace(facts(after, before, marks=False), connections={})
        with pytest.raises(HostNotReadyError, match="was made for another cable"):
            connect_plan.plan((after,), (host,))

    @pytest.mark.parametrize("held", [True, False])
    def test_without_ipsec_the_lost_address_says_it(self, held: bool) -> None:
        before, after, _ = move("none vxlan v4")
        host = facts(after, before, held=OLD[4] if held else "")
        if held:
            with pytest.raises(HostNotReadyError, match="was made for another cable"):
                connect_plan.plan((after,), (host,))
        else:
            assert change_of(connect_plan.plan((after,), (host,))).phase is Phase.OVERLAY

    def test_another_vni_is_another_device(self) -> None:
        _, after, host = move("transport vxlan v4")
        link = host.overlay.link
        assert link
        link = replace(link, info={**link.info, "id": 7})
        with pytest.raises(HostNotReadyError, match="was made for another cable"):
            connect_plan.plan((after,), (replace(host, overlay=replace(host.overlay, link=link)),))

    def test_a_device_of_the_other_version_of_ip(self) -> None:
        before, after = shaped("transport vxlan v4"), shaped("transport vxlan v6")
        host = facts(after, before)
        host = replace(host, overlay=replace(host.overlay, known=True))
        with pytest.raises(HostNotReadyError, match="was made for another cable"):
            connect_plan.plan((after,), (host,))


def both_moved(shape: str) -> tuple[Cable, Cable]:
    before = shaped(shape)
    remote = replace(before.remote, address=before.remote.address + 0x10)
    return before, replace(after_move(before), remote=remote)


@pytest.mark.parametrize("shape", ["tunnel v4", "transport gre v4", "transport geneve v6"])
@pytest.mark.parametrize("kept", [True, False])
def test_the_peer_moved_as_well(shape: str, kept: bool) -> None:
    """The old cable goes, unless it is of an address that this host still has."""
    before, after = both_moved(shape)
    host = facts(after, before, held=str(before.local.address) if kept else "")
    assert [gateway.id for gateway in host.earlier] == ([] if kept else [before.id])
    if kept and after.overlay:
        return
    lines = needed(connect_plan.plan((after,), (host,)))
    assert all((f"ipsec whack --delete --name {name}" in lines) != kept for name in before.names)
    lines = needed(teardown_plan.plan((after,), (host,)))
    assert all((f"ipsec whack --delete --name {name}" in lines) != kept for name in before.names)


def test_a_mesh_moves_with_its_device() -> None:
    cables = meshed("transport vxlan v4 mesh")
    after = tuple(map(after_move, cables))
    ids = frozenset(cable.id for cable in cables[:1])  # the second peer is new in the file
    held = frozenset({NEW[4]})
    found = partition.of_each(after, replace(whole(cables[:1]), held=held), ids)
    plan = connect_plan.plan(after, found)
    assert not plan.refused
    assert change_of(plan).cable == ""


@pytest.mark.parametrize("shape", SHAPES)
def test_teardown_removes_what_the_old_address_left(shape: str) -> None:
    before, after, host = move(shape)
    lines = needed(teardown_plan.plan((after,), (host,)))
    assert {f"ipsec whack --delete --name {name}" for name in before.names} <= set(lines)
    assert any(line.startswith(f"rm -f /etc/ipsec.d/cablectl-{before.id}.") for line in lines)
    if after.overlay:
        assert f"ip link delete dev {after.overlay.device}" in lines
    assert not any("xfrm" in line for line in lines)


def test_teardown_leaves_policies_to_the_pluto_that_has_them_under_another_name() -> None:
    """The subnets of the file have another order than those that are loaded."""
    before = shaped("tunnel v4")
    more = (ip_network("10.43.0.0/16"), *before.local.subnets)
    after = replace(before, local=replace(before.local, subnets=more))
    lines = needed(teardown_plan.plan((after,), (facts(after, before),)))
    assert not any("xfrm" in line for line in lines)
    dead = replace(facts(after, before), connections={})
    assert any(
        "xfrm policy delete" in line for line in needed(teardown_plan.plan((after,), (dead,)))
    )


def test_the_moved_document_is_the_moved_cable() -> None:
    text = document("transport vxlan v4").replace(OLD[4], NEW[4])
    network = native.parse(text, "cable.yaml")
    (cable,) = network.cables(network.named("cluster1"))
    _, after, _ = move("transport vxlan v4")
    assert cable.mode is Mode.TRANSPORT
    assert cable.connections == after.connections


@pytest.mark.parametrize("shape", SHAPES)
def test_the_connections_go_before_pluto_hears_of_the_new_address(shape: str) -> None:
    """pluto 5.2 leaves policies of a connection whose address is gone."""
    before, after, host = move(shape)
    lines = needed(connect_plan.plan((after,), (host,)))
    listen = lines.index("ipsec whack --listen")
    for name in before.names:
        assert lines.index(f"ipsec whack --delete --name {name}") < listen


def unoriented(cable: Cable, before: Cable) -> Facts:
    """Return the facts after pluto has heard that the old address is gone, as 5.2 leaves them."""
    host = facts(cable, before)
    connections = {
        name: replace(each, routed=False, up=False, unoriented=True)
        for name, each in host.connections.items()
    }
    out = {xfrm.policies(connection)[0]: 0 for connection in before.connections}
    return replace(host, connections=connections, policies=out)


@pytest.mark.parametrize("shape", ["transport vxlan v4", "tunnel gre v6", "tunnel v4"])
def test_policies_that_pluto_has_left_go(shape: str) -> None:
    before, after, _ = move(shape)
    host = unoriented(after, before)
    up = needed(connect_plan.plan((after,), (host,)))
    gone = [line for line in up if line.startswith("ip xfrm policy delete")]
    # In tunnel mode without an overlay, they are those of the new connections as well.
    assert len(gone) == (len(before.connections) if after.overlay else 0)
    down = needed(teardown_plan.plan((after,), (host,)))
    gone = [line for line in down if line.startswith("ip xfrm policy delete")]
    assert len(gone) == len(before.connections)
    assert max(i for i, line in enumerate(down) if "whack --delete" in line) < down.index(gone[0])


@pytest.mark.parametrize("kind", ["vxlan", "gre"])
def test_a_server_unloads_its_clients_old_connection_first(kind: str) -> None:
    """It has the identities of the new one: a client might use it, and lose its IKE SA with it."""
    before = shaped(f"tunnel {kind} v4 nat server", "cluster2")
    remote = replace(before.remote, address=ip_address(NEW[4]))
    after = replace(before, remote=remote, others=(remote,) if before.others else ())
    (found,) = partition.of_each((after,), whole((before,)), frozenset({before.id}))
    lines = needed(connect_plan.plan((after,), (found,)))
    for name in before.names:
        delete = lines.index(f"ipsec whack --delete --name {name}")
        assert delete < next(i for i, line in enumerate(lines) if "whack --psk" in line)
    down = needed(teardown_plan.plan((after,), (found,)))
    (link,) = (i for i, line in enumerate(down) if line.startswith("ip link delete"))
    assert all(i > link for i, line in enumerate(down) if "whack --delete" in line)
