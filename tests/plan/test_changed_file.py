"""A file that was changed: what the difference does to a cable that is up."""

import shlex
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.facts import host_facts
from cablectl.facts.host_facts import Algorithms, Credential, Facts, OverlayFacts
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.limits import Limits
from cablectl.model.cable import Cable
from cablectl.model.psk import PskFile
from cablectl.model.wishes import Vxlan
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan
from cablectl.render import plans
from tests.support.documents import shaped
from tests.support.plans import BLANK, needed


def signs(plan: Plan) -> list[str]:
    return [f"{step.change} {shlex.join(step.argv)}" for step in plan.needed]


class TestAChangedFile:
    """What is not said otherwise stays as it is."""

    def test_another_mtu(self, cable: Cable, made: Facts) -> None:
        this = replace(cable, overlay=Vxlan(mtu=1300))
        clamp, device = signs(connect_plan.plan((this,), (made,)))
        assert clamp.startswith("~ nft ")
        assert device == "~ ip link set dev vxlan-tunnel mtu 1300"

    def test_another_subnet(self, cable: Cable, made: Facts) -> None:
        remote = replace(cable.remote, subnets=(ip_network("10.46.0.0/16"),))
        clamp, added, removed = signs(connect_plan.plan((replace(cable, remote=remote),), (made,)))
        assert clamp.startswith("~ nft ")
        assert added.startswith("+ ip route add 10.46.0.0/16 via 241.18.0.7 dev vxlan-tunnel")
        assert removed.startswith("- ip route delete 10.45.0.0/16 via 241.18.0.7")

    def test_routes_by_another_peer_stay(self, cable: Cable, made: Facts) -> None:
        theirs = ("10.99.0.0/16", "241.18.0.99", "")
        there = replace(made.overlay, routes=made.overlay.routes | {theirs})
        assert connect_plan.plan((cable,), (replace(made, overlay=there),)).needed == ()

    def test_other_algorithms(self, cable: Cable, made: Facts) -> None:
        """The facts have the new file's in pluto's words, the connections the old one's."""
        plan = connect_plan.plan(
            (cable,), (replace(made, algorithms=Algorithms(("AES_GCM_16-NONE-MODP2048",))),)
        )
        names = [each.name for each in cable.connections]
        assert signs(plan)[:2] == [f"- ipsec whack --delete --name {name}" for name in names]
        assert Phase.ADD in {step.phase for step in plan.needed[2:]}
        assert connect_plan.plan((cable,), (replace(made, algorithms=Algorithms(())),)).needed == ()
        assert connect_plan.plan((cable,), (replace(made, algorithms=Algorithms()),)).needed == ()

    def test_other_ike_proposals(self, cable: Cable, made: Facts) -> None:
        other = Algorithms((), ike=("AES_CBC_256-HMAC_SHA2_256-DH19",))
        assert self.loads_again(cable, replace(made, algorithms=other))
        up = replace(made, algorithms=other)
        up = host_facts.connected(cable, up, 1408)
        assert not self.loads_again(cable, up)
        assert self.loads_again(cable, replace(up, algorithms=Algorithms(())))  # removed
        assert not self.loads_again(cable, replace(up, algorithms=Algorithms()))  # unknown

    def test_a_ppk(self, cable: Cable, made: Facts) -> None:
        """It is added, removed, or has another value; connect alters the secrets file."""
        this = replace(cable, ipsec=replace(cable.ipsec, ppk=PskFile("/etc/cablectl/ppk")))
        with_ppk = host_facts.connected(this, made, 1408)
        assert connect_plan.plan((this,), (with_ppk,)).needed == ()
        assert self.loads_again(this, made)
        assert self.loads_again(cable, with_ppk)
        other = replace(with_ppk, credential=Credential.OTHER_PPK)
        plan = connect_plan.plan((this,), (other,))
        written, *_ = plan.needed
        assert (written.phase, written.kind, written.undo) == (Phase.SECRET, Change.ALTER, ())
        assert "/etc/cablectl/ppk" in written.argv
        deleted = {f"- ipsec whack --delete --name {name}" for name in this.names}
        assert deleted < set(signs(plan))

    @pytest.mark.parametrize(
        "limit",
        [
            {"ike_lifetime": 3600},
            {"sa_lifetime": 3600},
            {"replay_window": 64},
            {"max_bytes": 10**9},
        ],
        ids=str,
    )
    def test_another_limit(self, cable: Cable, made: Facts, limit: dict[str, int]) -> None:
        this = replace(cable, ipsec=replace(cable.ipsec, **limit))
        defaults = Limits(
            ike_lifetime=28800, sa_lifetime=28800, max_bytes="2^63B", replay_window=128
        )
        loaded = {name: replace(each, limits=defaults) for name, each in made.connections.items()}
        there = replace(made, libreswan=Version(4, 10), connections=loaded)
        assert not self.loads_again(cable, there)
        assert self.loads_again(this, there)
        after = host_facts.connected(this, there, 1408)
        assert not self.loads_again(this, after)
        assert not self.loads_again(cable, after)  # docs/file.md: it isn't noticed
        assert not self.loads_again(this, replace(there, made_here=False))  # Submariner's

    def loads_again(self, cable: Cable, facts: Facts) -> bool:
        """Tell whether the plan unloads and loads every connection, or else does nothing."""
        plan = connect_plan.plan((cable,), (facts,))
        deleted = [f"- ipsec whack --delete --name {each.name}" for each in cable.connections]
        assert plan.needed == () or signs(plan)[: len(deleted)] == deleted
        return plan.needed != ()

    def test_a_lifetime_that_fips_mode_would_cut(self, cable: Cable, made: Facts) -> None:
        this = replace(cable, ipsec=replace(cable.ipsec, sa_lifetime=28801))
        connect_plan.plan((this,), (made,))
        with pytest.raises(UsageError, match=r"ipsec.sa_lifetime: 28801 is too long: FIPS mode"):
            connect_plan.plan((this,), (replace(made, fips=True),))
        longest = replace(cable, ipsec=replace(cable.ipsec, sa_lifetime=28800, ike_lifetime=86400))
        connect_plan.plan((longest,), (replace(made, fips=True),))

    def test_other_subnets_in_tunnel_mode(self) -> None:
        """The first pair of subnets becomes another, the second is no more."""
        cable = shaped("tunnel v4")
        made = host_facts.connected(cable, BLANK, 0)
        local = replace(cable.local, subnets=(ip_network("10.47.0.0/16"),))
        changed = connect_plan.plan((replace(cable, local=local),), (made,))
        name = cable.remote.cable_name
        deleted = [f"- ipsec whack --delete --name {name}-{i}-0" for i in (0, 1)]
        assert sorted(line for line in signs(changed) if line[0] == "-") == deleted
        assert [line[:21] for line in signs(changed) if "--psk" in line] == [
            "+ ipsec whack --psk -"
        ]
        gone = needed(teardown_plan.plan((replace(cable, local=local),), (made,)))
        assert [line for line in gone if "--delete" in line] == [line[2:] for line in deleted]

    def test_what_cablectl_did_not_make_stays(self) -> None:
        cable = shaped("tunnel v4")
        made = replace(
            host_facts.connected(cable, BLANK, 0), credential=Credential.ABSENT, made_here=False
        )
        one = replace(cable, local=replace(cable.local, subnets=cable.local.subnets[:1]))
        assert not any("--delete" in line for line in needed(connect_plan.plan((one,), (made,))))

    def test_another_file_is_no_reason_to_say_that_the_guard_was_flushed(
        self, cable: Cable, made: Facts
    ) -> None:
        this = replace(cable, overlay=Vxlan(vni=7), guard=True)
        facts = replace(made, overlay=OverlayFacts())
        plan = connect_plan.plan((this,), (facts,))
        assert plan.warnings == ()
        assert plan.needed[0].change is Change.ALTER


def test_a_difference_is_a_line_for_each_step(cable: Cable, made: Facts) -> None:
    this = replace(cable, overlay=Vxlan(mtu=1300), mss=1368)
    lines = plans.as_difference(connect_plan.plan((this,), (made,))).splitlines()
    assert lines[0].startswith("# connect cluster1 to cluster2")
    changed = lines.index("~ overlay   the device's MTU in bytes; it was 1408")
    assert lines[changed + 1] == "    $ ip link set dev vxlan-tunnel mtu 1300"
    assert {line[0] for line in lines[1:changed] + lines[changed + 2 :]} == {"="}


@pytest.mark.parametrize("release", [Version(4, 10), Version(5, 3), Version(5, 4)])
def test_ml_kem_needs_a_release_that_has_it(cable: Cable, release: Version) -> None:
    proposals = ("aes256-sha2_256;dh19", "aes256-sha2_256;ml_kem_768")
    this = replace(cable, ipsec=replace(cable.ipsec, ike=proposals))
    facts = replace(BLANK, libreswan=release)
    if release >= Version(5, 4):
        assert connect_plan.plan((this,), (facts,)).needed
    else:
        with pytest.raises(UsageError, match=f"{release} has no ML-KEM: {proposals[1]}"):
            connect_plan.plan((this,), (facts,))
