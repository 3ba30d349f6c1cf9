"""Which connections have a request that waits for its answer."""

import pytest

from cablectl.libreswan.pluto import parse_negotiations, parse_unanswered
from tests.support.states import CHILD, IKE, REQUEST

# As 5.2 prints it.
LATER = '#3: "a-0":4500 NEW_CHILD_I1 (sent CREATE_CHILD_SA request for new IPsec SA); idle;'


@pytest.mark.parametrize("request_line", [REQUEST, LATER])
def test_an_ike_sa_with_a_request_of_the_cable_is_found(request_line: str) -> None:
    states = "\n".join((IKE, CHILD, request_line))
    assert parse_unanswered(states, {"a-0", "a-1"}) == (1,)
    assert parse_unanswered(states, {"b-0", "b-1"}) == ()


def test_without_a_request_nothing_is_found() -> None:
    assert parse_unanswered(f"{IKE}\n{CHILD}", {"a-0", "a-1"}) == ()
    assert parse_unanswered("", {"a-0"}) == ()


FIRST = (
    '000 #5: "a-0":4500 STATE_V2_PARENT_I1 (sent IKE_SA_INIT request); RETRANSMIT in 1s; idle;',
    '#6: "a-0":4500 IKE_SA_INIT_I (sent IKE_SA_INIT request); RETRANSMIT in 0s; idle;',
    '#6: "a-0":4500 sent IKE_SA_INIT request; RETRANSMIT in 0s; idle;',  # 5.4
)
ANSWERED = '000 #5: "a-0":4500 STATE_V2_PARENT_I2 (sent IKE_AUTH request); RETRANSMIT in 1s; idle;'
OF_THE_PEER = '000 #5: "a-0":4500 STATE_V2_PARENT_R1 (sent IKE_SA_INIT reply); EXPIRE in 9s; idle;'


@pytest.mark.parametrize("line", FIRST)
def test_a_first_request(line: str) -> None:
    found = parse_negotiations(line, "")
    assert found.under_way == found.asking == found.unheard == {"a-0"}
    assert found.heard == found.up == frozenset()


@pytest.mark.parametrize("line", [ANSWERED, REQUEST])
def test_a_request_after_an_answer(line: str) -> None:
    found = parse_negotiations(line, "")
    assert found.heard == found.asking == {"a-0"}


def test_a_negotiation_of_the_peer_and_what_has_ended() -> None:
    found = parse_negotiations(f"{IKE}\n{CHILD}\n{OF_THE_PEER}", "")
    assert found.heard == {"a-0"}
    assert found.asking == frozenset()
