"""State lines in the forms of every release: up only with a Child SA under a standing IKE SA."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike, LoadedConnection

NAME = "submariner-cable-cluster2-172-18-0-7-0"
OTHER = "submariner-cable-cluster2-172-18-0-7-1"


class Form(Struct, frozen=True):
    """How releases from this one on print a state (read in the sources of each)."""

    number: str  # what begins a line
    ike: str
    child: str
    deleted: str
    negotiating: str
    timers: str  # REKEY, REPLACE
    child_flags: str  # newest, owner, parent
    after_routing: str


OLD = Form(
    number="000 ",
    ike="STATE_V2_ESTABLISHED_IKE_SA (established IKE SA)",
    child="STATE_V2_ESTABLISHED_CHILD_SA (IPsec SA established)",
    deleted="STATE_IKESA_DEL (STATE_IKESA_DEL)",
    negotiating="STATE_PARENT_I1 (sent IKE_SA_INIT request)",
    timers="EVENT_SA_REKEY in {0}s;",  # only one
    child_flags="newest IPSEC; eroute owner; isakmp#{parent}; idle;",
    after_routing="eroute owner: #0",
)
FORMS = {
    "4.0": OLD,
    "4.5": Form(
        number="000 ",
        ike="STATE_V2_ESTABLISHED_IKE_SA (established IKE SA)",
        child="STATE_V2_ESTABLISHED_CHILD_SA (established Child SA)",
        deleted="STATE_IKESA_DEL (STATE_IKESA_DEL)",
        negotiating="STATE_PARENT_I2 (sent IKE_AUTH request)",
        timers="REKEY in {0}s;",
        child_flags="newest IPSEC; eroute owner; isakmp#{parent}; idle;",
        after_routing="eroute owner: #0",
    ),
    "4.6": Form(
        number="000 ",
        ike="STATE_V2_ESTABLISHED_IKE_SA (established IKE SA)",
        child="STATE_V2_ESTABLISHED_CHILD_SA (established Child SA)",
        deleted="STATE_V2_IKE_SA_DELETE (STATE_IKESA_DEL)",
        negotiating="STATE_V2_PARENT_I1 (sent IKE_SA_INIT request)",
        timers="LIVENESS in {1}s; REKEY in {0}s; REPLACE in {1}s;",
        child_flags="newest; eroute owner; IKE SA #{parent}; idle;",
        after_routing="eroute owner: #0",
    ),
    "5.0": Form(
        number="",
        ike="ESTABLISHED_IKE_SA (established IKE SA)",
        child="ESTABLISHED_CHILD_SA (established Child SA)",
        deleted="ZOMBIE (deleted state)",
        negotiating="PARENT_R1 (sent IKE_SA_INIT (or IKE_INTERMEDIATE) response)",
        timers="RETRANSMIT in {1}s; REKEY in {0}s; REPLACE in {1}s;",
        child_flags="newest; eroute owner; IKE SA #{parent}; idle;",
        after_routing="my_ip=unset; their_ip=unset;",
    ),
    "5.4": Form(
        number="",
        ike="established IKE SA",
        child="established Child SA",
        deleted="deleted state",
        negotiating="process CREATE_CHILD_SA rekey IKE SA request (larval)",
        timers="NAT_KEEPALIVE in {1}s; REKEY in {0}s; REPLACE in {1}s;",
        child_flags="newest; eroute owner; IKE SA #{parent}; idle;",
        after_routing="my_ip=unset; their_ip=unset;",
    ),
}
# With a policy in the kernel that asks for an SA, or has one.
ROUTED = {
    "prospective erouted",
    "erouted HOLD",
    "erouted",
    "routed-ondemand",
    "routed-negotiation",
    "routed-inbound-negotiation",
    "routed-tunnel",
}
NOT_ROUTED = {
    "unrouted",
    "unoriented",
    "unrouted HOLD",
    "unrouted DROP",
    "keyed, unrouted",
    "migrating",
    "unrouted-bare-negotiation",
    "unrouted-negotiation",
    "unrouted-inbound",
    "unrouted-inbound-negotiation",
    "unrouted-tunnel",
    # Not in the kernel, or with a policy that may let packets pass.
    "eroute eclipsed",
    "fail erouted",
    "routed-failure",
    "routed-never-negotiate",
    "a word of a later release",
}
IKE_LINES = {"standing": "ike", "deleted": "deleted", "negotiating": "negotiating"}


class Drawn(Struct, frozen=True):
    """A connection's lines, and what they mean."""

    status: str
    traffic: str
    ike: str  # the state of the IKE SA that the Child SA belongs to, or "gone"
    in_kernel: bool
    listed: bool  # whether the Child SA has a state
    routing: str
    rekey: int
    replace: int


@st.composite
def connections(draw: st.DrawFn) -> Drawn:
    form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    tcp = draw(st.sampled_from(("", "(tcp)")))
    rekey, replacing = draw(st.integers(-99, 30000)), draw(st.integers(-99, 30000))
    timers = form.timers.format(rekey, replacing)
    ike = draw(st.sampled_from(("gone", *IKE_LINES)))
    routing = draw(st.sampled_from(sorted(ROUTED | NOT_ROUTED)))
    in_kernel, listed = draw(st.booleans()), draw(st.booleans())
    lines = [f'"{NAME}": 172.18.0.8:4500...172.18.0.7:4500; {routing}; {form.after_routing}']
    if listed:
        flags = form.child_flags.format(parent=1)
        lines.append(f'#3: "{NAME}":4500{tcp} {form.child}; {timers} {flags}')
    if ike != "gone":
        story = getattr(form, IKE_LINES[ike])
        lines.append(f'#1: "{OTHER}":4500{tcp} {story}; {timers} newest; idle;')
    if form is OLD:
        lines = [line.replace("; newest; idle;", "; newest ISAKMP; idle;") for line in lines]
    volume = " inBytes=0, outBytes=510," if in_kernel else ""
    offload = draw(st.sampled_from(("", "(nic-offload=crypto)", "(nic-offload=packet)")))
    traffic = f"#3: \"{NAME}\", type=ESP{offload}, add_time=1795699090,{volume} id='172.18.0.7'"
    status = "\n".join(form.number + line for line in draw(st.permutations(lines)))
    return Drawn(status, traffic, ike, in_kernel, listed, routing, rekey, replacing)


def parsed(drawn: Drawn) -> LoadedConnection:
    (found,) = pluto.parse_connections(drawn.status, drawn.traffic).values()
    return found


@given(connections())
def test_up_only_with_a_child_sa_under_a_standing_ike_sa(drawn: Drawn) -> None:
    found = parsed(drawn)
    assert found.up == (drawn.in_kernel and drawn.listed and drawn.ike == "standing")
    parent = OTHER if drawn.ike == "standing" else ""
    assert found.ike_of == (parent if drawn.listed else None)
    assert found.lost == (not drawn.in_kernel)


@given(connections())
def test_routed_only_by_words_that_say_so(drawn: Drawn) -> None:
    found = parsed(drawn)
    assert found.routed == (drawn.routing in ROUTED)
    assert found.unoriented == (drawn.routing == "unoriented")


@given(connections())
def test_a_timer_that_has_passed_is_due_now(drawn: Drawn) -> None:
    for sa in parsed(drawn).child_sas:
        assert (sa.rekey_in is not None) == drawn.listed
        assert not drawn.listed or sa.rekey_in in {
            max(0, drawn.rekey),
            max(0, min(drawn.rekey, drawn.replace)),
        }


@given(connections())
def test_the_owner_of_the_ike_sa_is_what_its_line_says(drawn: Drawn) -> None:
    expected = {"standing": Ike.ESTABLISHED, "negotiating": Ike.NEGOTIATING}
    ike = pluto.parse_ike(drawn.status)
    assert ike.get(OTHER, Ike.NONE) is expected.get(drawn.ike, Ike.NONE)
    assert NAME not in ike


@pytest.mark.parametrize("form", FORMS)
def test_each_form_can_be_up(form: str) -> None:
    """Or the properties would hold of nothing."""
    it = FORMS[form]
    status = (
        f'{it.number}"{NAME}": 172.18.0.8:4500...172.18.0.7:4500; erouted; {it.after_routing}\n'
        f'{it.number}#1: "{NAME}":4500 {it.ike}; idle;\n'
        f'{it.number}#3: "{NAME}":4500 {it.child}; {it.child_flags.format(parent=1)}\n'
    )
    traffic = f'{it.number and "006 "}#3: "{NAME}", type=ESP, add_time=1, inBytes=0, outBytes=1,'
    (found,) = pluto.parse_connections(status, traffic).values()
    assert (found.up, found.routed, found.ike) == (True, True, Ike.ESTABLISHED)


def test_who_logged_in_and_when_it_was_used_hide_no_sa() -> None:
    """IKEv1 has users, and 4.x and 5.x say when an SA was used last."""
    traffic = (
        '006 #3: "x"[1] 172.18.0.7, username=somebody, type=ESP, add_time=1, inBytes=2,'
        " outBytes=3, maxBytes=2^63B, lease=10.77.0.10/32"
    )
    status = '000 #3: "x"[1] 172.18.0.7 used 9s ago; esp.3807e52@172.18.0.7 esp.1@172.18.0.8 Tr'
    ((sa,),) = pluto.parse_child_sas(status, traffic).values()
    assert (sa.bytes_in, sa.bytes_out) == (2, 3)
    assert (sa.spi_out, sa.spi_in) == ("0x03807e52", "0x00000001")


def test_an_opportunistic_instance_has_its_name_and_no_more() -> None:
    line = '#5: "private#10.0.0.0/8"[1] 10.1.2.0/24=== ...10.9.8.7:500 established IKE SA; idle;'
    assert pluto.parse_ike(line) == {"private#10.0.0.0/8": Ike.ESTABLISHED}
