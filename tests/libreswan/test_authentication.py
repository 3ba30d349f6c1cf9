"""The authentication seam: options, credential and mark come from the method of the file."""

from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts, connected
from cablectl.libreswan import whack
from cablectl.libreswan.authentication import authentication_of, marked_cables
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.model.psk import PskEnv
from cablectl.model.x509 import Auth, Cert, KeyType

BLANK = Facts(libreswan=Version(4, 10))


def test_a_connection_is_loaded_with_the_options_of_the_method(cable: Cable) -> None:
    for psk in (cable.ipsec.psk, PskEnv("KEY")):
        this = replace(cable, ipsec=replace(cable.ipsec, psk=psk))
        method = authentication_of(this.ipsec)
        argv = whack.add(this, this.connections[0], Version(4, 10))
        assert argv[2] == "--psk"
        assert method.flags(this) == ("--psk",)


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


def certified(cable: Cable, local: KeyType | None = None, remote: KeyType | None = None) -> Cable:
    return replace(
        cable,
        ipsec=replace(cable.ipsec, auth=Auth.CERT),
        local=replace(cable.local, key_type=local),
        remote=replace(cable.remote, key_type=remote, identity="192.0.2.7"),
    )


def added(cable: Cable, version: Version) -> str:
    return " ".join(whack.add(cable, cable.connections[0], version))


def test_certificates_of_one_type_need_one_option(cable: Cable) -> None:
    this = certified(cable)
    own = "--id @cluster1-worker --host 172.18.0.8 --clientprotoport udp/4789 --ikeport 4500"
    cert = "--cert cablectl-/etc/cablectl/cert.pem --sendcert always --sendca all"
    own = f"{own} --updown %disabled"
    text = added(this, Version(4, 10))
    assert text.startswith("ipsec whack --rsasig --encrypt ")
    assert f"{own} {cert} --to --id 192.0.2.7 --host 172.18.0.7 " in text
    assert this.identities == (("@cluster1-worker", "192.0.2.7"),)
    ecdsa = replace(this, ipsec=replace(this.ipsec, cert=Cert(key_type=KeyType.ECDSA)))
    assert added(ecdsa, Version(5, 4)).startswith("ipsec whack --ecdsa --encrypt ")


def test_certificates_of_two_types_need_an_option_at_each_end(cable: Cable) -> None:
    this = certified(cable, KeyType.ECDSA, KeyType.RSA)
    for version, option in ((Version(4, 0), "--authby"), (Version(5, 3), "--auth")):
        local, remote = added(this, version).split(" --to ")
        assert local.startswith("ipsec whack --encrypt ")
        assert f"{option} ecdsa" in local
        assert f"{option} rsasig" in remote
        assert "--cert" not in remote


def test_a_certificate_in_nss_has_its_own_name(cable: Cable) -> None:
    this = certified(cable)
    this = replace(this, ipsec=replace(this.ipsec, cert=Cert(nickname="gateway 1")))
    argv = whack.add(this, this.connections[0], Version(5, 2))
    assert argv[argv.index("--cert") + 1] == "gateway 1"
