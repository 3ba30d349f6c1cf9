"""Numbers → claims: what proves a cable, what speaks against it, and what says nothing."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts, OverlayFacts, Pluto, connected
from cablectl.linux.esp_offload import Nic
from cablectl.linux.mtu import AES_GCM
from cablectl.model.cable import Cable
from cablectl.verification import proof
from cablectl.verification.frames import Tally
from cablectl.verification.proof import Answers, Claim, ClaimState, Evidence, Flow, Sizes
from tests.support.documents import SHAPES, shaped
from tests.support.evidence import EACH, evidence, sa
from tests.support.plans import BLANK

OK, FAILED, NOT_MADE = ClaimState.OK, ClaimState.FAILED, ClaimState.NOT_MADE


def states(seen: Evidence) -> dict[str, ClaimState]:
    return {claim.name: claim.state for claim in proof.claims(seen)}


def claim(seen: Evidence, name: str) -> Claim:
    return next(each for each in proof.claims(seen) if each.name == name)


def test_a_healthy_cable_is_proven() -> None:
    made = proof.claims(evidence())
    assert [each.name for each in made] == [
        *("sent", "answered", "bytes out", "bytes in", "ESP out", "ESP in"),
        *("lost", "clear text", "MTU"),
    ]
    assert {each.state for each in made} == {OK}
    assert proof.proven(made)
    assert claim(evidence(), "bytes out").found == 20 * EACH == 2280


def test_without_a_sweep_nothing_is_said_of_the_mtu() -> None:
    assert "MTU" not in states(evidence(sizes=None))


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({"answers": Answers(sent=19, answered=19)}, ["sent"]),
        ({"after": (sa("out", 19), sa("in", 20))}, ["bytes out"]),
        ({"after": (sa("out", 20), sa("in", 19))}, ["bytes in"]),
        ({"tally": Tally(esp_out=19, esp_in=20)}, ["ESP out"]),
        ({"tally": Tally(esp_out=20, esp_in=19)}, ["ESP in"]),
        ({"lost": 1}, ["lost"]),
        ({"tally": Tally(esp_out=20, esp_in=20, clear_out=1)}, ["clear text"]),
        ({"tally": Tally(esp_out=20, esp_in=20, clear_in=1), "guard_drops": 1}, ["clear text"]),
        ({"tally": Tally(esp_out=20, esp_in=20, clear_in=1), "guard_drops": None}, ["clear text"]),
        ({"sizes": Sizes(found=1407, computed=1408, device=1408)}, ["MTU"]),
        ({"sizes": Sizes(found=1408, computed=1408, device=1412)}, ["MTU"]),
        ({"sizes": Sizes(found=1409, computed=1408, device=1412)}, ["MTU"]),
        ({"sizes": Sizes(found=1400, computed=1408, device=1400)}, ["MTU"]),
    ],
)
def test_each_claim_fails_alone(changed: dict[str, object], failed: list[str]) -> None:
    seen = evidence(**changed)
    assert [name for name, state in states(seen).items() if state is FAILED] == failed
    assert not proof.proven(proof.claims(seen))


def test_what_the_guard_let_pass_was_decrypted_whatever_its_time_stamp() -> None:
    seen = evidence(tally=Tally(esp_out=20, esp_in=20, clear_in=1), guard_drops=0)
    assert proof.proven(proof.claims(seen))


def test_an_overlay_in_clear_text_is_not_proven() -> None:
    """Policies flushed and no guard: everything works, and nothing is encrypted."""
    seen = evidence(before=(), after=(), tally=Tally(all=40, clear_out=20, clear_in=20))
    assert states(seen) == {
        "sent": OK,
        "answered": OK,
        "bytes out": FAILED,
        "bytes in": FAILED,
        "ESP out": FAILED,
        "ESP in": FAILED,
        "lost": OK,
        "clear text": FAILED,
        "MTU": OK,
    }
    assert claim(seen, "bytes out").text == "0 counted, 2280 sent; there is no SA"


def test_if_nothing_passes_nothing_is_proven() -> None:
    """Policies flushed, and the guard in the way."""
    seen = evidence(
        before=(), after=(), tally=Tally(), answers=Answers(sent=20, answered=0), sizes=None
    )
    assert states(seen)["clear text"] is OK
    assert states(seen)["answered"] is FAILED
    assert not proof.proven(proof.claims(seen))


def test_if_nothing_can_be_sent_the_reason_is_told() -> None:
    answers = Answers(sent=0, answered=0, error="Operation not permitted")
    seen = evidence(answers=answers, tally=Tally(), after=(sa("out"), sa("in")), sizes=None)
    assert claim(seen, "sent").text == "0 of 20 packets of 84 bytes; Operation not permitted"
    assert states(seen)["answered"] is FAILED


def test_without_answers_what_was_sent_counts_alone() -> None:
    seen = evidence(
        answers=Answers(sent=20, answered=0),
        after=(sa("out", 20), sa("in")),
        tally=Tally(all=20, esp_out=20),
        sizes=None,
    )
    found = states(seen)
    assert {found[name] for name in ("answered", "bytes in", "ESP in")} == {NOT_MADE}
    assert {found[name] for name in ("sent", "bytes out", "ESP out", "clear text")} == {OK}
    assert proof.proven(proof.claims(seen))
    assert "ICMP is blocked at 241.18.0.7" in claim(seen, "answered").text
    swept = replace(seen, sizes=Sizes(found=0, computed=1408, device=1408))
    assert claim(swept, "MTU").state is FAILED
    assert "can't be measured" in claim(swept, "MTU").text


class TestHidden:
    """Bare ESP that the NIC's receive offload hands to the kernel before any capture."""

    seen = Tally(all=40, esp_out=20, clear_in=20)  # what was in the ESP, as if in clear text

    def test_the_guard_tells_what_came_in(self) -> None:
        found = states(evidence(tally=self.seen))
        assert (found["ESP in"], found["clear text"]) == (NOT_MADE, OK)
        assert states(evidence(tally=self.seen, guard_drops=1))["clear text"] is FAILED

    def test_without_a_guard_nobody_can(self) -> None:
        seen = evidence(tally=self.seen, guard_drops=None)
        assert claim(seen, "clear text").state is FAILED
        assert claim(seen, "clear text").text.endswith("ethtool -K eth0 gro off")

    def test_what_leaves_is_no_less_clear_text(self) -> None:
        seen = evidence(tally=replace(self.seen, clear_out=1))
        assert states(seen)["clear text"] is FAILED


class TestRekeying:
    def test_a_new_sa_counts_from_nothing(self) -> None:
        fresh = replace(sa("out", spi="0x2"), bytes=15 * EACH, packets=15)
        seen = evidence(after=(sa("out", 5), fresh, sa("in", 20)))
        assert not seen.rekeyed
        assert claim(seen, "bytes out").found == 20 * EACH
        assert [each.spi for each in seen.direction(out=True)] == ["0x1", "0x2"]

    def test_one_that_went_took_its_numbers_along(self) -> None:
        seen = evidence(after=(replace(sa("out", spi="0x2"), bytes=0, packets=0), sa("in", 20)))
        assert seen.rekeyed
        assert {each.spi for each in seen.sas} == {"0x1", "0x2"}  # its ESP is its ESP all the same
        assert claim(seen, "bytes out").found == 0


@pytest.mark.parametrize(
    ("shape", "size", "counted"),
    [
        ("transport vxlan v4", 84, 84 + 30),  # seen, as the others here
        ("transport gre v6", 104, 104 + 8),
        ("transport none v6", 104, 64),
        ("tunnel v4", 84, 84),
        ("tunnel vxlan v4", 84, 84 + 30 + 20),
    ],
)
def test_what_an_sa_counts_of_a_ping(shape: str, size: int, counted: int) -> None:
    cable = shaped(shape)
    assert proof.packet_size(cable, proof.PAYLOAD) == size
    assert proof.counted_size(cable, size) == counted


@pytest.mark.parametrize(
    ("subnet", "target"),
    [("10.45.0.0/16", "10.45.0.1"), ("10.45.0.6/31", "10.45.0.6"), ("10.45.0.7/32", "10.45.0.7")],
)
def test_in_tunnel_mode_the_first_host_of_a_subnet_is_asked(subnet: str, target: str) -> None:
    cable = shaped("tunnel v4")
    remote = replace(cable.remote, subnets=(ip_network(subnet),))
    assert proof.flow(replace(cable, remote=remote), up(cable)).target == target


def up(cable: Cable, **changed: object) -> Facts:
    facts = replace(connected(cable, BLANK, 1408), nic=Nic("eth0"), source="10.44.0.1")
    return replace(facts, **changed)


@pytest.mark.parametrize(
    ("shape", "ends"),
    [
        ("transport vxlan v4", ("241.18.0.8", "241.18.0.7")),
        ("transport gre v6", ("fdca:b1e0::8", "fdca:b1e0::7")),
        ("transport none v4", ("172.18.0.8", "172.18.0.7")),
        ("tunnel v4", ("10.44.0.1", "10.45.0.1")),
        ("tunnel v4 nats", ("10.44.0.1", "10.45.0.1")),
        ("tunnel v4 inside", ("10.44.0.1", "10.45.0.7")),
        ("tunnel geneve v4 nats", ("241.18.0.8", "241.18.0.7")),
        ("none vxlan v4", ("241.18.0.8", "241.18.0.7")),
    ],
)
def test_what_is_sent_goes_through_the_cable(shape: str, ends: tuple[str, str]) -> None:
    cable = shaped(shape)
    assert proof.flow(cable, up(cable)) == Flow(*ends, "eth0")


@pytest.mark.parametrize(
    ("shape", "changed", "message"),
    [
        ("transport vxlan v4", {"nic": None}, "no route from 172.18.0.8 to 172.18.0.7"),
        ("transport vxlan v4", {"pluto": Pluto.DOWN}, "pluto isn't running"),
        ("transport vxlan v4", {"overlay": OverlayFacts()}, "vxlan-tunnel doesn't exist"),
        ("tunnel v4", {"source": ""}, "no address in 10.44.0.0/16, 100.44.0.0/16"),
        (
            "transport vxlan v4",
            {"sas": (replace(sa("out"), reqid=16389, offload="packet"),)},
            "the NIC encrypts whole packets",
        ),
    ],
)
def test_where_nothing_can_be_proven(shape: str, changed: dict[str, object], message: str) -> None:
    cable = shaped(shape)
    with pytest.raises(HostNotReadyError, match=message) as caught:
        proof.flow(cable, up(cable, **changed))
    assert caught.value.hint


def test_a_device_that_is_down_or_another_cables(cable: Cable) -> None:
    facts = up(cable)
    link = facts.overlay.link
    assert link
    for other, message in (
        (replace(link, up=False), "is down"),
        (replace(link, info=link.info | {"id": 7}), "another cable, port, VNI or key"),
    ):
        with pytest.raises(HostNotReadyError, match=message):
            proof.flow(cable, replace(facts, overlay=replace(facts.overlay, link=other)))


def test_mode_none_needs_no_pluto() -> None:
    cable = shaped("none vxlan v4")
    assert proof.flow(cable, up(cable, pluto=Pluto.DOWN))


@pytest.mark.parametrize(
    ("shape", "encapsulated", "size"),
    [
        ("transport vxlan v4", True, 1408),  # seen, as the others here
        ("tunnel v4", True, 1438),
        ("transport none v4", True, 1458),
        ("transport gre v6", True, 1410),
        ("tunnel v4", False, 1446),
        ("tunnel vxlan v4", True, 1388),
        ("tunnel ipip v6", True, 1378),
    ],
)
def test_the_largest_packet(shape: str, encapsulated: bool, size: int) -> None:
    """Without a device it is what the SAs leave, which alone know cipher and encapsulation."""
    sas = (replace(sa("out"), encapsulated=encapsulated, cipher=AES_GCM),)
    assert proof.largest(shaped(shape), BLANK, sas) == size


def test_without_sas_nothing_is_computed() -> None:
    assert proof.largest(shaped("tunnel v4"), BLANK, ()) == 0
    sizes = Sizes(found=1500, computed=0, device=None)
    made = claim(evidence(cable=shaped("tunnel v4"), sizes=sizes), "MTU")
    assert (made.state, made.text) == (FAILED, "1500 bytes pass, nothing computed")


@given(st.integers(100, 1500), st.integers(577, 1500))
def test_the_sweep_finds_the_largest_size_in_few_tries(limit: int, guess: int) -> None:
    tried: list[int] = []

    def passes(size: int) -> bool:
        tried.append(size)
        return size <= limit

    assert proof.sweep(passes, guess, 100, 1500) == limit
    assert len(tried) <= (2 if limit == guess else 13)
    assert len(tried) == len(set(tried))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_its_claims(shape: str) -> None:
    cable = shaped(shape)
    seen = evidence(cable=cable, sizes=None)
    assert len(proof.claims(seen)) == 8
    none = claim(seen, "clear text").text.endswith("mode: none encrypts nothing")
    assert none == shape.startswith("none")
