"""Peers that go: from the file, from the command line, or from one name to another."""

from msgspec.structs import replace

from cablectl.facts import partition
from cablectl.facts.host_facts import Credential, Facts, StalePeer, connected
from cablectl.linux import guard, guard_file, mss
from cablectl.linux.iproute import ANY_MAC
from cablectl.model.wishes import Vxlan
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Phase
from cablectl.render import plans
from tests.support.documents import meshed
from tests.support.meshes import CABLES, SECOND, THIRD, of_steps, there, whole
from tests.support.plans import BLANK, needed


class TestOneThatIsGone:
    """A mesh of three becomes a pair: what is left is told by the device's own entries."""

    one = CABLES[:1]

    def test_its_traces_go_and_nobody_elses(self) -> None:
        plan = connect_plan.plan(self.one, there(self.one, CABLES))
        assert of_steps(plan) == {"", THIRD}
        secrets = f"/etc/ipsec.d/cablectl-{THIRD}.secrets"
        clamp, *steps = plan.needed  # the subnets of the stale peer go, too
        assert (clamp.phase, clamp.change) == (Phase.MSS, "~")
        gone = [" ".join(step.argv) for step in steps]
        assert gone == [
            "ip route delete 10.46.0.0/16 via 241.18.0.6 dev vxlan-tunnel table 24141 metric 100"
            " proto 241",
            "ip route delete 10.47.0.0/16 via 241.18.0.6 dev vxlan-tunnel table 24141 metric 100"
            " proto 241",
            "ip neigh delete 241.18.0.6 lladdr 02:ca:ac:12:00:06 dev vxlan-tunnel nud permanent",
            "ipsec whack --delete --name submariner-cable-cluster3-172-18-0-6-0",
            "ipsec whack --delete --name submariner-cable-cluster3-172-18-0-6-1",
            f"rm -f {secrets} {secrets}.new",
            "ipsec whack --rereadsecrets",
            "bridge fdb delete 02:ca:ac:12:00:06 dev vxlan-tunnel dst 172.18.0.6 self permanent",
        ]
        assert all(step.change == "-" for step in steps)

    def test_in_tunnel_mode_too(self) -> None:
        cables = meshed("tunnel vxlan v4 mesh")
        plan = connect_plan.plan(cables[:1], there(cables[:1], cables))
        gone = [" ".join(step.argv) for step in plan.needed[1:]]
        assert gone[:3] == [
            "ip route delete 10.46.0.0/16 via 241.18.0.6 dev vxlan-tunnel table 24141 metric 100"
            " proto 241",
            "ip route delete 244.18.0.6/32 via 244.18.0.6 dev vxlan-tunnel table 24141 metric 100"
            " proto 241",
            "ip neigh delete 241.18.0.6 lladdr 02:ca:f4:12:00:06 dev vxlan-tunnel nud permanent",
        ]
        assert "ipsec whack --delete --name submariner-cable-cluster3-172-18-0-6-1" in gone
        host = replace(whole(cables), connections=whole(cables[:1]).connections)
        (found,) = partition.of_each(cables[:1], host, frozenset({SECOND, THIRD}))
        assert [stray.id for stray in found.overlay.stale_peers] == [THIRD]

    def test_not_where_somebody_named_one_peer(self) -> None:
        assert connect_plan.plan(self.one, there(self.one, CABLES), narrowed=True).needed == ()

    def test_connections_without_a_secret_of_ours_stay(self) -> None:
        facts = there(self.one, CABLES, secrets=frozenset({SECOND}))
        plan = connect_plan.plan(self.one, facts)
        assert {step.phase for step in plan.needed} == {Phase.MSS, Phase.UNLINK, Phase.FORGET}
        assert not any(line.startswith(("ipsec", "rm")) for line in needed(plan))

    def test_a_pluto_that_forgot_it_leaves_its_secret(self) -> None:
        host = replace(whole(CABLES), connections=whole(self.one).connections)
        (its,) = partition.of_each(self.one, host, frozenset({SECOND, THIRD}))
        (stray,) = its.overlay.stale_peers
        assert (stray.id, stray.made_here, stray.connections) == (THIRD, True, ())

    def test_an_entry_that_somebody_made_by_hand_stays(self) -> None:
        host = whole(self.one)
        by_hand = {("3e:00:00:00:00:01", "172.18.0.9"), (ANY_MAC, "172.18.0.9")}
        host = replace(host, overlay=replace(host.overlay, fdb=host.overlay.fdb | by_hand))
        (its,) = partition.of_each(self.one, host, frozenset())
        assert its.overlay.stale_peers == ()

    def test_on_a_device_of_somebody_else_there_is_none(self) -> None:
        host = whole(CABLES)
        assert host.overlay.link
        link = replace(host.overlay.link, group="0")
        host = replace(host, overlay=replace(host.overlay, link=link))
        (its,) = partition.of_each(self.one, host, frozenset())
        assert its.overlay.stale_peers == ()

    def test_a_teardown_takes_it_with_the_device(self) -> None:
        lines = needed(teardown_plan.plan(self.one, there(self.one, CABLES)))
        assert sum("submariner-cable-cluster3" in line for line in lines) == 2
        assert any(f"cablectl-{THIRD}.secrets" in line for line in lines)
        assert not any(line.startswith(("bridge", "ip neigh")) for line in lines)


class TestAnotherName:
    """A peer whose cluster is called otherwise now: what joins the same gives way first."""

    before = CABLES[1]
    now = (replace(before, remote=replace(before.remote, cluster="other")),)
    former = THIRD

    def facts(self, *secrets: str) -> tuple[Facts, ...]:
        """Return what is there before the new name has a secrets file of its own."""
        (its,) = partition.of_each(self.now, whole((self.before,)), frozenset(secrets))
        return (
            replace(
                its, credential=Credential.ABSENT, made_here=False, guard=guard.made(self.before)
            ),
        )

    def test_the_former_connections_and_their_key_go(self) -> None:
        (its,) = self.facts(self.former)
        assert its.outdated(self.now[0]) == tuple(each.name for each in self.before.connections)
        lines = needed(connect_plan.plan(self.now, (its,)))
        deleted = [i for i, line in enumerate(lines) if "--delete" in line]
        added = [i for i, line in enumerate(lines) if "--psk" in line]
        assert len(deleted) == len(added) == 2
        assert max(deleted) < min(added)
        forgotten = f"rm -f /etc/ipsec.d/cablectl-{self.former}.secrets"
        assert lines[-2].startswith(forgotten)
        assert lines[-1] == "ipsec whack --rereadsecrets"
        assert not any(line.startswith(("bridge", "ip neigh", "ip link")) for line in lines)
        gone = needed(teardown_plan.plan(self.now, self.facts(self.former)))
        assert sum("--delete" in line for line in gone) == 2
        assert any(line.startswith(forgotten) for line in gone)

    def test_not_what_somebody_else_made(self) -> None:
        (its,) = self.facts()
        assert its.former == {}
        assert its.outdated(self.now[0]) == ()

    def test_nor_what_joins_something_else(self) -> None:
        there = replace(self.before, overlay=Vxlan(port=4799))
        (its,) = partition.of_each(self.now, whole((there,)), frozenset({self.former}))
        assert its.former == {}


class TestTeardownOfOnePeer:
    narrow = CABLES[1:]

    def test_what_others_need_stays(self) -> None:
        plan = teardown_plan.plan(self.narrow, there(self.narrow, CABLES), narrowed=True)
        assert of_steps(plan) == {"", THIRD}
        assert [step.argv for step in plan.needed if not step.cable] == [
            ("ipsec", "whack", "--rereadsecrets")
        ]
        kept = {step.argv[:3] for step in plan.steps if step.not_needed == "other peers need it"}
        assert kept == {
            ("ip", "rule", "delete"),
            ("ip", "link", "delete"),
            guard_file.remove(CABLES[0])[:3],
            guard.remove(CABLES[0])[:3],
            mss.remove(mss.name(CABLES[0])),
        }
        lines = needed(plan)
        assert any(line.startswith("ip neigh delete 241.18.0.6") for line in lines)
        assert any(line.startswith("bridge fdb delete 02:ca:ac:12:00:06") for line in lines)
        assert not any("172.18.0.7" in line or "172-18-0-7" in line for line in lines)

    def test_the_last_peer_takes_all(self) -> None:
        plan = teardown_plan.plan(self.narrow, there(self.narrow, self.narrow), narrowed=True)
        lines = needed(plan)
        assert "ip link delete dev vxlan-tunnel" in lines
        assert any(line.startswith("nft 'delete table") for line in lines)

    def test_a_table_for_each_cable_goes_with_it(self) -> None:
        cables = meshed("tunnel v4 mesh")[1:]
        plan = teardown_plan.plan(cables, there(cables, cables), narrowed=True)
        assert plan.needed[-1].argv == guard.remove(cables[0])
        assert plan.needed[-1].cable == cables[0].id


def test_strays_of_a_dry_run() -> None:
    stray = StalePeer(id="x", gateway="172.18.0.9")
    facts = (connected(CABLES[1], BLANK, 1408, stale_peers=(stray,)),)
    plan = teardown_plan.plan(CABLES[1:], facts, narrowed=True)
    assert "# not needed (other peers need it): ip link delete" in plans.as_script(plan)
