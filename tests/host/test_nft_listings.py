"""What nft lists of the cables' tables, also where its output isn't JSON."""

from pytest_subprocess import FakeProcess

from cablectl.host import ipsec_state, packet_filters
from cablectl.linux import guard, mss
from tests.support.documents import meshed, shaped

# nft 1.0.6, of a table that somebody made dormant: the word is from elsewhere in nft's memory.
GARBAGE = '{"nftables": [{"table": {"family": "inet", "flags": \n\x01}}]}'


def test_a_table_that_nft_cannot_list_was_changed(fp: FakeProcess) -> None:
    cable = shaped("tunnel v4")
    fp.register(["nft", "-j", "list", "table", "inet", fp.any()], stdout=GARBAGE, occurrences=2)
    (installed,) = ipsec_state.guards_of((cable,)).values()
    assert guard.broken(cable, installed)
    assert list(ipsec_state.clamps_of((cable,)).values()) == [mss.CHANGED]


def test_of_several_tables_each_is_listed_alone(fp: FakeProcess) -> None:
    cables = meshed("tunnel v4 mesh")
    fp.register(["nft", "-j", "list", "ruleset", "inet"], stdout=GARBAGE)
    first, second = (guard.name(cable) for cable in cables)
    fp.register(["nft", "-j", "list", "table", *first.split()], stdout=GARBAGE)
    fp.register(["nft", "-j", "list", "table", *second.split()], returncode=1)
    assert list(ipsec_state.guards_of(cables)) == [first]


def test_the_filters_of_other_programs_are_then_unknown(fp: FakeProcess) -> None:
    fp.register(["nft", "-j", "list", "ruleset"], stdout=GARBAGE)
    assert packet_filters._listed() == {}
