"""What is in a plan, in which order, and what is not needed."""

import shlex
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts import host_facts
from cablectl.facts.host_facts import Credential, Facts, OverlayFacts, Pluto
from cablectl.libreswan import dialects, pluto_commands, whack
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.pluto import LoadedConnection
from cablectl.linux import iproute
from cablectl.linux.firewall.filters import Chain, Rule
from cablectl.linux.firewall.traffic import Devices
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Encapsulation, Offload, Vxlan
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan
from cablectl.render import plans
from tests.support.documents import SHAPES, shaped
from tests.support.examples import load, with_traps
from tests.support.places import SHELLCHECK
from tests.support.plans import BLANK, FOREIGN, OTHER_LINK, OTHER_SA, needed


def unrouted(made: Facts) -> Facts:
    """Return the facts of a host whose connections are loaded, and no more."""
    loaded = {name: replace(c, routed=False, up=False) for name, c in made.connections.items()}
    return replace(made, connections=loaded, policies={})


def test_connect_again_has_nothing_to_do(cable: Cable, made: Facts) -> None:
    assert needed(connect_plan.plan((cable,), (made,))) == []
    reasons = [step.not_needed for step in connect_plan.plan((cable,), (made,)).steps]
    assert len(reasons) > 20
    assert all(reasons)


def test_only_the_modules_that_are_missing_are_loaded(cable: Cable, made: Facts) -> None:
    facts = replace(made, to_load=("esp4_offload",))
    assert needed(connect_plan.plan((cable,), (facts,))) == ["modprobe --all esp4_offload"]
    newer = replace(made, to_load=("xfrm_user", "esp4_offload"), libreswan=Version(5, 3))
    assert needed(connect_plan.plan((cable,), (newer,))) == [
        "modprobe --all xfrm_user esp4_offload"
    ]
    off = replace(cable, ipsec=replace(cable.ipsec, offload=Offload.OFF))
    assert needed(connect_plan.plan((off,), (newer,))) == []


@pytest.mark.parametrize("action", [connect_plan.plan, teardown_plan.plan])
@pytest.mark.parametrize("local", ["cluster1", "cluster2"])
def test_phases_stand_in_their_order(
    action: Callable[[tuple[Cable, ...], tuple[Facts, ...]], Plan], local: str
) -> None:
    order, cable = list(Phase), load("quickstart", local)
    for facts in (BLANK, host_facts.connected(cable, BLANK, 1408)):
        phases = [order.index(step.phase) for step in action((cable,), (facts,)).steps]
        assert phases == sorted(phases)


def test_the_trap_is_seen_in_the_kernel_before_the_device_exists() -> None:
    lines = needed(connect_plan.plan((with_traps(load("quickstart")),), (BLANK,)))
    device = next(i for i, line in enumerate(lines) if line.startswith("ip link add"))
    seen = [i for i, line in enumerate(lines) if line.startswith("ip xfrm policy get")]
    routed = [i for i, line in enumerate(lines) if line.startswith("ipsec whack --route")]
    assert len(seen) == len(routed) == 2
    assert max(routed) < min(seen) < max(seen) < device


def test_the_device_comes_up_last_when_the_sas_stand(cable: Cable) -> None:
    lines = needed(connect_plan.plan((cable,), (BLANK,)))
    up = lines.index("ip link set dev vxlan-tunnel up")
    waits = [i for i, line in enumerate(lines) if line.startswith("sh -c 'i=0; until")]
    assert len(waits) == 2
    assert max(waits) < up


def test_a_connection_that_was_there_is_terminated_before_it_is_unrouted() -> None:
    """On 4.10 an --unroute while a Child SA is up kills pluto; one that is new is just deleted."""
    cable = with_traps(load("quickstart"))
    made = host_facts.connected(cable, BLANK, 1408)
    steps = connect_plan.plan((cable,), (unrouted(made),)).needed
    assert [step.argv[2] for step in steps][:2] == ["--route"] * 2
    for step in steps:
        if step.argv[2] == "--route":
            assert [argv[2] for argv in step.undo] == ["--terminate", "--unroute"]
    for step in connect_plan.plan((cable,), (BLANK,)).needed:
        assert not any("--unroute" in argv for argv in step.undo)


def test_nothing_is_flushed(cable: Cable, made: Facts) -> None:
    for plan in (connect_plan.plan((cable,), (BLANK,)), teardown_plan.plan((cable,), (made,))):
        for step in plan.steps:
            for argv in (step.argv, *step.undo):
                assert not {"flush", "deleteall", "--shutdown", "--replace"} & set(argv)


def test_every_change_but_modules_and_listen_has_an_undo(cable: Cable) -> None:
    """What route and initiate did goes with the connection, the rest with the device."""
    without = {
        step.argv
        for step in connect_plan.plan((cable,), (BLANK,)).needed
        if not step.undo and step.phase not in (Phase.ROUTE, Phase.INITIATE, Phase.WAIT)
    }
    reads = {argv for argv in without if argv[0] == "pidof" or "get" in argv}
    assert cable.overlay
    gone = {iproute.set_setting(*each) for each in iproute.settings(cable, cable.overlay)}
    gone |= {iproute.address(each, cable.overlay, "add") for each in cable.device_addresses}
    gone |= {argv for argv in without if argv[:3] == ("bridge", "fdb", "append")}
    modules = ("modprobe", "--all", "esp4_offload")
    assert without - reads - gone == {pluto_commands.STACK_MANAGER, modules, pluto_commands.LISTEN}


@pytest.mark.parametrize("missing", range(1, 10))
def test_a_half_made_cable_is_finished(missing: int) -> None:
    """What a crash left is not made again; what it did not is."""
    cable = with_traps(load("quickstart"))
    made = host_facts.connected(cable, BLANK, 1408)
    there = made.overlay
    halves = {
        1: (replace(made, credential=Credential.ABSENT, made_here=False), {Phase.SECRET}),
        2: (replace(made, connections={}, policies={}), {Phase.ADD, Phase.ROUTE}),
        3: (unrouted(made), {Phase.ROUTE}),
        4: (replace(made, overlay=OverlayFacts()), {Phase.OVERLAY, Phase.UP}),
        5: (replace(made, overlay=replace(there, fdb=frozenset())), {Phase.OVERLAY}),
        6: (replace(made, overlay=replace(there, routes=frozenset())), {Phase.UP}),
        7: (replace(made, overlay=replace(there, rules=frozenset())), {Phase.UP}),
        8: (replace(made, overlay=replace(there, neighbours=frozenset())), {Phase.UP}),
        9: (
            replace(made, to_load=("esp4",), connections={}),
            {Phase.OFFLOAD, Phase.ADD, Phase.ROUTE},
        ),
    }
    facts, expected = halves[missing]
    phases = {step.phase for step in connect_plan.plan((cable,), (facts,)).needed}
    assert phases - {Phase.INITIATE, Phase.WAIT, Phase.SECRET} == expected - {Phase.SECRET}
    assert expected <= phases


def test_exactly_one_end_initiates_unless_both_shall() -> None:
    def initiates(local: str, name: str) -> bool:
        plan = connect_plan.plan((load(name, local),), (BLANK,))
        return any(step.phase is Phase.INITIATE for step in plan.needed)

    assert [initiates(end, "quickstart") for end in ("cluster1", "cluster2")] == [False, True]
    assert [initiates(end, "proposal") for end in ("cluster1", "cluster2")] == [True, True]


def test_not_waiting_leaves_the_waits_out(cable: Cable) -> None:
    assert Phase.WAIT not in {
        step.phase for step in connect_plan.plan((cable,), (BLANK,), wait=False).steps
    }


def test_the_mtu_follows_path_cipher_and_encapsulation(cable: Cable) -> None:
    def size(cable: Cable, facts: Facts = BLANK) -> int:
        assert cable.overlay
        return connect_plan.overlay_mtu(cable, facts, cable.overlay)

    assert size(cable) == 1408
    assert size(cable, replace(BLANK, path_mtu=9000)) == 8908
    bare = replace(cable, ipsec=replace(cable.ipsec, encapsulation=Encapsulation.NO))
    assert size(bare) == 1416
    asked = replace(cable, overlay=Vxlan(mtu=1300))
    assert size(asked) == 1300
    with pytest.raises(UsageError, match="1450 is too large by 42") as caught:
        connect_plan.plan((replace(cable, overlay=Vxlan(mtu=1450)),), (BLANK,))
    assert "1408" in caught.value.hint


def test_a_new_mtu_changes_the_device_and_the_segments_and_nothing_else(
    cable: Cable, made: Facts
) -> None:
    this = replace(cable, overlay=Vxlan(mtu=1300))
    clamp, line = needed(connect_plan.plan((this,), (made,)))
    assert line == "ip link set dev vxlan-tunnel mtu 1300"
    assert "maxseg size set 1260" in clamp


def test_offload_off_loads_nothing(cable: Cable) -> None:
    off = replace(cable, ipsec=replace(cable.ipsec, offload=Offload.OFF))
    assert not any("_stackmanager" in line for line in needed(connect_plan.plan((off,), (BLANK,))))
    newest = replace(BLANK, libreswan=Version(5, 3))
    assert not any(
        "_stackmanager" in line for line in needed(connect_plan.plan((cable,), (newest,)))
    )


def test_a_dead_pluto_is_started_the_hosts_way_and_stopped_by_the_undo(cable: Cable) -> None:
    _, _, first, *_ = connect_plan.plan((cable,), (replace(BLANK, pluto=Pluto.STARTABLE),)).needed
    assert first.argv == ("systemctl", "start", "ipsec")
    assert first.undo == (("systemctl", "stop", "ipsec"),)


def test_connections_whose_policies_somebody_flushed_are_loaded_anew() -> None:
    """pluto believes them routed and up; routing them again does nothing (seen on 4.10)."""
    cable = with_traps(load("quickstart"))
    made = host_facts.connected(cable, BLANK, 1408)
    plan = connect_plan.plan((cable,), (replace(made, policies={}),))
    names = [each.name for each in cable.connections]
    assert [step.argv for step in plan.needed][:2] == [whack.delete(name) for name in names]
    phases = [step.phase for step in plan.needed]
    assert phases[2:] == sorted(
        [Phase.ADD, Phase.ROUTE, Phase.ROUTE, Phase.WAIT] * 2 + [Phase.INITIATE] * 2,
        key=list(Phase).index,
    )


def test_connections_whose_ike_sa_is_gone_or_goes_are_loaded_anew(
    cable: Cable, made: Facts
) -> None:
    """Seen on 4.10: their Child SAs stay, and the peer has let go of them."""
    first, second = (each.name for each in cable.connections)
    one, other = (made.connections[name] for name in (first, second))

    def deleted(one: LoadedConnection, other: LoadedConnection) -> list[Argv]:
        there = replace(made, connections={first: one, second: other})
        steps = connect_plan.plan((cable,), (there,)).needed
        return [step.argv for step in steps if step.kind is Change.REMOVE]

    child = replace(other, ike_of=first)
    assert deleted(replace(one, ike_of=first), child) == []
    assert deleted(one, replace(other, ike_of="", up=False)) == [whack.delete(second)]
    of_another_file = replace(one, selectors=other.selectors)
    assert deleted(of_another_file, child) == [whack.delete(first), whack.delete(second)]
    assert deleted(of_another_file, other) == [whack.delete(first)]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (replace(BLANK, pluto=Pluto.DOWN), "pluto isn't running"),
        (
            replace(BLANK, pluto=Pluto.STARTABLE, policies={FOREIGN: 1}),
            "starting it would flush IPsec policies of another program",
        ),
        (replace(BLANK, pluto=Pluto.STARTABLE, sas=(OTHER_SA,)), "starting it would flush"),
        (replace(BLANK, overlay=OverlayFacts(link=OTHER_LINK)), "cablectl didn't make it"),
        (replace(BLANK, credential=Credential.OTHER), "holds another secret"),
        (replace(BLANK, not_ready=(("no ESP", "boot"),)), "no ESP"),
    ],
)
def test_refused_before_anything_is_changed(cable: Cable, facts: Facts, message: str) -> None:
    with pytest.raises(HostNotReadyError, match=message):
        connect_plan.plan((cable,), (facts,))


EXTERNAL = replace(OTHER_LINK, kind="vxlan", up=True, info={"external": True, "port": 4789})


def test_a_device_beside_which_the_kernel_allows_no_second_one_is_refused(
    cable: Cable, made: Facts
) -> None:
    facts = replace(BLANK, overlay=OverlayFacts(others={"cilium_vxlan": EXTERNAL}))
    with pytest.raises(HostNotReadyError, match=r"^cilium_vxlan is .* \(external\)") as caught:
        connect_plan.plan((cable,), (facts,))
    assert "choose another vxlan.port in the file of both ends" in caught.value.hint
    down = OverlayFacts(others={"cilium_vxlan": replace(EXTERNAL, up=False)})
    assert connect_plan.plan((cable,), (replace(BLANK, overlay=down),)).needed
    beside = replace(made, overlay=replace(made.overlay, others={"cilium_vxlan": EXTERNAL}))
    assert connect_plan.plan((cable,), (beside,)).needed == ()


def test_a_nat_rule_that_rewrites_the_cables_packets_is_a_warning() -> None:
    this = shaped("tunnel v4")
    chain = Chain(
        "table ip nat",
        "post",
        "ipv4",
        "postrouting",
        rules=(Rule("masquerade", (), "masquerade"),),
        type="nat",
    )
    facts = replace(BLANK, nat=(chain,), devices=Devices("eth0", frozenset({"172.18.0.8/16"})))
    inside, outside = connect_plan.plan((this,), (facts,)).warnings
    assert inside.startswith("rewrites the source of 10.45.0.0/16 to 10.44.0.0/16, ")
    assert "10.44.0.0/16 to 10.45.0.0/16" in outside
    assert ", so the guard drops these packets: table ip nat, chain post: masque" in outside
    assert "; try: sudo nft insert rule ip nat post ip saddr 10.44.0.0/16 ip d" in outside
    assert not connect_plan.plan((this,), (BLANK,)).warnings


def test_another_vni_on_our_own_device_is_refused(cable: Cable, made: Facts) -> None:
    this = replace(cable, overlay=Vxlan(vni=7))
    with pytest.raises(HostNotReadyError, match="another cable, port, VNI or key"):
        connect_plan.plan((this,), (made,))


def test_a_connection_with_other_ports_is_refused(cable: Cable, made: Facts) -> None:
    this = replace(cable, overlay=Vxlan(port=8472))
    facts = replace(made, overlay=OverlayFacts(), credential=Credential.ABSENT, made_here=False)
    with pytest.raises(HostNotReadyError, match="with other addresses or ports"):
        connect_plan.plan((this,), (facts,))


def test_a_service_name_must_resolve() -> None:
    this = load("proposal")
    with pytest.raises(HostNotReadyError, match=r"has no vxlan 4789/udp") as caught:
        connect_plan.plan((this,), (replace(BLANK, service_port=None),))
    assert caught.value.hint == "write port: 4789"
    assert connect_plan.plan((load("quickstart"),), (replace(BLANK, service_port=None),)).needed


def test_dpd_off_warns_where_pluto_may_abort() -> None:
    assert "can abort" in connect_plan.plan((load("proposal"),), (BLANK,)).warnings[0]
    assert not connect_plan.plan(
        (load("proposal"),), (replace(BLANK, libreswan=Version(5, 2)),)
    ).warnings
    assert not connect_plan.plan((load("quickstart"),), (BLANK,)).warnings


@given(
    st.sampled_from(["quickstart", "proposal", *SHAPES]),
    st.sampled_from(["cluster1", "cluster2"]),
    st.sampled_from(["4.0", "4.10", "5.0", "5.2", "5.3", "5.4"]),
    st.booleans(),
)
def test_every_line_of_a_script_is_its_step(
    name: str, local: str, release: str, down: bool
) -> None:
    cable = shaped(name, local) if name in SHAPES else load(name, local)
    version = dialects.parse_version(release)
    if down:
        before = Facts(libreswan=version)
        plan = teardown_plan.plan((cable,), (host_facts.connected(cable, before, 1408),))
    else:
        plan = connect_plan.plan((cable,), (Facts(libreswan=version),))
    lines = [line for line in plans.as_script(plan).splitlines() if line and line[0] != "#"]
    beginning = ("set -eu", "pidof pluto >", "failed() {", "trap ", "at=")
    commands = [line for line in lines if not line.startswith(beginning)]
    assert [tuple(shlex.split(line)) for line in commands] == [step.argv for step in plan.needed]


@pytest.mark.parametrize(
    "shape", ["quickstart", "proposal", "tunnel v4 nat server", "none vxlan v6"]
)
def test_scripts_are_good_shell(shape: str) -> None:
    cable = shaped(shape) if shape in SHAPES else load(shape)
    script = plans.as_script(connect_plan.plan((cable,), (BLANK,)))
    subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)
    done = subprocess.run(
        [SHELLCHECK, "--shell=sh", "-"], input=script, text=True, capture_output=True, check=False
    )
    assert done.stdout == ""
