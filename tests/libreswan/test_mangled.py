"""Real lines of pluto with characters changed, cut out and joined: no exception, no wrong "up"."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike
from cablectl.libreswan.refusal import parse_refusal
from tests.support.captures import NAMES, States, blocks, by_release

RELEASES = ("4.10", "5.2")
NEWER = ("5.3.2", "5.4")
STATUS, TRAFFIC = "ipsec whack --status", "ipsec whack --trafficstatus"


def pieces(text: str) -> list[str]:
    """Return the lines that the parsers look at."""
    return [line for line in text.splitlines() if '"' in line or "=>" in line]


IDLE = [  # of connections without a Child SA: loaded, routed, negotiating, an IKE SA alone
    line
    for release in RELEASES
    for text in (
        *blocks(release, STATUS)[:2],
        *blocks(release, "ipsec whack --showstates")[:2],
        States(release).texts["the same, a packet met the trap"][0],
    )
    for line in pieces(text)
]
IDLE += pieces(States("4.10").texts["connection 1 terminated"][0])
IDLE += [
    line
    for topic in ("connections", "unoriented")
    for commands in by_release(topic).values()
    for _, output in commands
    for line in pieces(output)
]
UP = [
    line
    for release in RELEASES
    for pair in States(release).texts.values()
    for text in pair
    for line in pieces(text)
]
UP += [
    line
    for release in NEWER
    for command in (STATUS, TRAFFIC)
    for text in blocks(release, command)
    for line in pieces(text)
]


@st.composite
def mangled(draw: st.DrawFn, lines: list[str]) -> str:
    """Draw some of the lines, and cut, change and join them."""
    text = "\n".join(draw(st.lists(st.sampled_from(lines), min_size=1, max_size=6)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(("cut", "change", "join", "repeat"))):
            case "cut":
                text = text[:at] + text[at + draw(st.integers(1, 80)) :]
            case "change":
                text = text[:at] + draw(st.text(max_size=3)) + text[at + 1 :]
            case "join":
                text = text[:at] + text[at:].replace("\n", "", 1)
            case "repeat":
                text = text[:at] + text[max(0, at - draw(st.integers(1, 5000))) :]
    return text


@given(mangled(IDLE), mangled(IDLE))
def test_what_is_not_up_stays_so(status: str, traffic: str) -> None:
    assert not any(each.up for each in pluto.parse(status, traffic).connections.values())
    assert not pluto.parse_established(traffic)


def test_lines_that_are_whole_are_up() -> None:
    """Or what follows would hold of nothing."""
    parsed = pluto.parse("\n".join(UP), "\n".join(UP))
    assert any(each.child_sas for each in parsed.connections.values())
    assert pluto.parse_established("\n".join(UP)) >= set(NAMES)
    assert pluto.cables(parsed.connections)


@given(mangled(UP), mangled(UP))
def test_what_is_up_has_its_whole_line(status: str, traffic: str) -> None:
    """Whatever else is on it: a name, the word ESP and the numbers, in one line and in order."""
    parsed = pluto.parse(status, traffic)
    for name in pluto.parse_established(traffic):
        whole = rf'#\d+: "{re.escape(name)}"[^"\n]*, type=ESP, add_time=\d+, inBytes=\d+, out'
        assert re.search(whole, traffic)
    for each in parsed.connections.values():
        assert each.up == bool(each.child_sas and each.ike_of)
        assert all(sa.bytes_in >= 0 and sa.serial >= 0 for sa in each.child_sas)


@given(mangled(UP), mangled(UP))
def test_no_cable_is_found_that_cannot_be_told(status: str, traffic: str) -> None:
    """What the parsers take is whole enough for all that comes after them."""
    parsed = pluto.parse(status, traffic)
    for connections in pluto.cables(parsed.connections).values():
        assert all(each.local.network and each.remote.network for each in connections)


@given(st.text(), st.text())
def test_any_text(status: str, traffic: str) -> None:
    assert not pluto.parse(status, traffic).connections
    parse_refusal(status)


@pytest.mark.parametrize("release", [*RELEASES, *NEWER])
def test_a_line_cut_anywhere(release: str) -> None:
    """Only what has both numbers of bytes whole counts, and the second half of a line never."""
    line = blocks(release, TRAFFIC)[-1].splitlines()[0]
    whole = line.index(", maxBytes") + 1
    for cut in range(len(line)):
        assert pluto.parse_established(line[:cut]) == ({NAMES[0]} if cut >= whole else set())
        if cut > line.index("#"):
            assert pluto.parse_established(line[cut:]) == set()


@pytest.mark.parametrize("release", RELEASES)
def test_half_a_line_does_not_lend_its_name_to_the_next(release: str) -> None:
    """One of an instance, too, whose peer stands between the name and what follows."""
    one, other = blocks(release, TRAFFIC)[-1].splitlines()
    instance = States(release).texts["a server: instances of a connection to any host"][1]
    for first in (one, instance.splitlines()[0]):
        for cut in range(first.index("type=ESP")):
            assert pluto.parse_established(first[:cut] + other) <= {NAMES[1]}


@pytest.mark.parametrize("release", ["4.10", *NEWER])
def test_an_ike_sa_is_established_only_if_pluto_says_so(release: str) -> None:
    if release in NEWER:
        (states,) = blocks(release, "ipsec whack --showstates")
        line = states.splitlines()[0]
    else:
        line = pieces(States(release).texts["connection 1 terminated"][0])[-1]
    assert set(pluto.parse_ike(line).values()) == {Ike.ESTABLISHED}
    story = line.index("established IKE SA")
    for cut in range(story, story + len("established IKE SA")):
        assert Ike.ESTABLISHED not in pluto.parse_ike(line[:cut] + line[cut + 1 :]).values()
