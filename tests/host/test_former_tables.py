"""Earlier gateways on a host: without connections, a guard for the same traffic shows them."""

import json
import shutil

import pytest
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.facts.earlier_gateways import EarlierGateway, cable_to
from cablectl.facts.host_facts import Facts
from cablectl.host import ipsec_state, reading
from cablectl.linux import guard, mss
from cablectl.linux.nftables import Installed
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp
from tests.support.documents import shaped
from tests.support.plans import BLANK

OLD = "cluster2-172-18-0-7"
NEW = cable_to(shaped("tunnel v4"), "172.18.0.5")
LOADED = {f"inet cablectl_{OLD}": True, f"inet cablectl-mss_{OLD}": True}


def register(fp: FakeProcess, loaded: dict[str, bool]) -> None:
    """Have nft list these tables any number of times, and no other."""
    for name in (f"inet cablectl_{OLD}", f"inet cablectl-mss_{OLD}"):
        there = loaded.get(name, False)
        listing = json.dumps({"nftables": []}) if there else ""
        command = ["nft", "-j", "list", "table", *name.split()]
        fp.register(command, stdout=listing, returncode=not there, occurrences=9)


def found(monkeypatch: pytest.MonkeyPatch, gateway: EarlierGateway, *, guarded: bool) -> Facts:
    def is_intact(cable: Cable, table: Installed | None) -> bool:
        assert cable.id == OLD
        return guarded and table is not None

    monkeypatch.setattr(guard, "is_intact", is_intact)
    return reading._with_former_tables(NEW, replace(BLANK, earlier=(gateway,)))


def test_with_connections(fp: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    register(fp, LOADED)
    gateway = EarlierGateway(OLD, "172.18.0.7", ("a connection",))
    facts = found(monkeypatch, gateway, guarded=False)
    assert (facts.earlier, facts.former_tables) == ((gateway,), tuple(LOADED))


@pytest.mark.parametrize("guarded", [True, False])
def test_without_connections(
    fp: FakeProcess, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    register(fp, LOADED)
    gateway = EarlierGateway(OLD, "172.18.0.7")
    facts = found(monkeypatch, gateway, guarded=guarded)
    assert facts.earlier == ((gateway,) if guarded else ())
    assert facts.former_tables == (tuple(LOADED) if guarded else ())


def test_a_renamed_peer_had_tables_too(fp: FakeProcess) -> None:
    register(fp, {f"inet cablectl_{OLD}": True})
    facts = reading._with_former_tables(NEW, replace(BLANK, former={"a connection": OLD}))
    assert facts.former_tables == (f"inet cablectl_{OLD}",)


def test_tables_of_a_shared_device_stay() -> None:
    cable = shaped("transport vxlan v4")
    facts = reading._with_former_tables(cable, replace(BLANK, former={"a connection": OLD}))
    assert facts.former_tables == ()


class TestClamp:
    @pytest.fixture(autouse=True)
    def no_nft(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(ipsec_state, "clamps_of", lambda cables: {})

    @pytest.mark.parametrize(
        ("cable", "problems"),
        [
            (shaped("none vxlan v4"), 1),
            (replace(shaped("tunnel v4"), guard=False), 1),
            (replace(shaped("tunnel v4"), guard=False, mss=Clamp.OFF), 0),
            (shaped("transport none v4"), 0),
            (shaped("tunnel v4"), 0),  # the guard reports it
        ],
    )
    def test_without_nft(self, cable: Cable, problems: int) -> None:
        (facts,) = reading._with_clamp((cable,), [BLANK])
        assert len(facts.not_ready) == problems
        for message, hint in facts.not_ready:
            assert message == "nft is not installed, and mss needs it"
            assert "mss: off" in hint


def test_the_tables_of_several_cables_are_read_at_once(fp: FakeProcess) -> None:
    table = {"family": "inet", "name": f"cablectl-mss_{OLD}"}
    listing = {"nftables": [{"table": table}, {"table": {"family": "inet", "name": "x"}}]}
    fp.register(["nft", "-j", "list", "ruleset", "inet"], stdout=json.dumps(listing))
    tables = ipsec_state.clamps_of((NEW, shaped("tunnel v4")))
    assert tables == {f"inet cablectl-mss_{OLD}": mss.CHANGED}
