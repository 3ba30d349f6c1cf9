"""What is said where no interface has the local end's address."""

import pytest
from msgspec.structs import replace

from cablectl.facts import orientation
from cablectl.model.cable import Cable
from tests.support.documents import shaped

PUBLIC = "2001:db8:ffff::8"


def absent(shape: str, instead: str, *, was_here: bool = False) -> tuple[str, str]:
    return orientation.absent(shaped(shape), instead, was_here=was_here)


def test_the_file_may_have_the_public_address() -> None:
    message, hint = absent("tunnel v4", "10.0.0.4")
    assert message == "no interface of this host has 172.18.0.8, the address of cluster1"
    assert hint.endswith(": write address: 10.0.0.4 and public_address: 172.18.0.8")


def test_a_public_address_is_in_the_file_already() -> None:
    _, hint = absent("tunnel v6 nat", "2001:db8::4")
    assert hint.startswith("write address: 2001:db8::4; ")
    assert "public_address" not in hint


def test_this_host_is_the_other_end() -> None:
    """As with --local of another gateway; nobody is to change the file for it."""
    message, hint = absent("tunnel v4", "172.18.0.7")
    assert message.endswith(", but one has 172.18.0.7, the address of cluster2")
    assert hint == "leave out --local, or run the same command on cluster1-worker"


@pytest.mark.parametrize("shape", ["tunnel v4", "tunnel v4 nat"])
def test_without_a_route_no_address_is_proposed(shape: str) -> None:
    _, hint = absent(shape, "")
    assert "`ip address` lists the addresses of this host" in hint


def test_the_address_changed() -> None:
    message, hint = absent("tunnel v4", "172.18.0.18", was_here=True)
    assert message.startswith("this host no longer has 172.18.0.8, the address of cluster1")
    assert message.endswith("; its address is 172.18.0.18 now")
    assert hint.startswith("write 172.18.0.18 instead of 172.18.0.8 in the file of every gateway")


def test_without_a_file_nobody_knows_the_cluster() -> None:
    cable: Cable = replace(shaped("tunnel v4"), traced=True)
    message, hint = orientation.absent(cable, "", was_here=True)
    assert message == "this host no longer has 172.18.0.8"
    assert hint.startswith("write the new address instead of 172.18.0.8")
