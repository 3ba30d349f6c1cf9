"""The authentication seam: options, credential and mark come from the method of the file."""

from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts, connected
from cablectl.libreswan import whack
from cablectl.libreswan.authentication import authentication_of, marked_cables
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.model.wishes import PskEnv

BLANK = Facts(libreswan=Version(4, 10))


def test_a_connection_is_loaded_with_the_options_of_the_method(cable: Cable) -> None:
    for psk in (cable.ipsec.psk, PskEnv("KEY")):
        this = replace(cable, ipsec=replace(cable.ipsec, psk=psk))
        method = authentication_of(this.ipsec)
        argv = whack.add(this, this.connections[0], Version(4, 10))
        assert argv[2 : 2 + len(method.flags)] == method.flags == ("--psk",)


def test_the_mark_of_a_cable_is_where_its_credential_is(cable: Cable) -> None:
    place = authentication_of(cable.ipsec).place(cable)
    name = place.rpartition("/")[2]
    assert marked_cables([name, f"{name}.new", "nss.secrets"]) == {cable.id}


def test_the_mark_alone_makes_a_cable_cablectls_own(cable: Cable) -> None:
    """A changed connection is replaced only where cablectl made it, whatever its credential."""
    changed = replace(cable, ipsec=replace(cable.ipsec, ike_port=4501))
    up = connected(changed, BLANK, 1408)
    marked = replace(up, credential=Credential.ABSENT, made_here=True)
    assert set(marked.outdated(cable)) == cable.names
    assert replace(marked, credential=Credential.SAME, made_here=False).outdated(cable) == ()
