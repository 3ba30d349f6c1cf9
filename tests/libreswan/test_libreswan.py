"""Dialects: which flags each Libreswan is given."""

import pytest
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.libreswan import addconn, dialects, whack
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.model.psk import PskFile
from cablectl.model.wishes import Encapsulation, Esn, Initiate, Offload
from tests.support.documents import shaped


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Libreswan 4.10", Version(4, 10)),
        ("Linux Libreswan U5.2/K6.1", None),
        ("5.2", Version(5, 2)),
        ("v5.3.1", Version(5, 3)),
        ("4", None),
        ("3.32", None),
        ("Linux strongSwan U5.9.8/K6.1.0", None),
        ("", None),
    ],
)
def test_versions(text: str, version: Version | None) -> None:
    if version:
        assert dialects.parse_version(text) == version
    else:
        with pytest.raises(UsageError):
            dialects.parse_version(text)


def test_minor_releases_are_numbers() -> None:
    assert Version(4, 9) < Version(4, 10) < Version(5, 0)


def flags(cable: Cable, release: str) -> str:
    argv = whack.add(cable, cable.connections[0], dialects.parse_version(release))
    return " ".join(argv)


def test_mode_and_encapsulation_by_dialect(cable: Cable) -> None:
    for release, yes in (
        ("4.10", "--forceencaps"),
        ("5.2", "--encaps yes"),
        ("5.4", "--encaps yes"),
    ):
        assert f" {yes} " in flags(cable, release)
        assert ("--transport" in flags(cable, release)) == (release != "4.10")
        for asked, form in ((Encapsulation.NO, " --encaps no "), (Encapsulation.AUTO, None)):
            argv = flags(replace(cable, ipsec=replace(cable.ipsec, encapsulation=asked)), release)
            assert form in argv if form else "encaps" not in argv


def test_dead_peer_detection_by_dialect(cable: Cable) -> None:
    for release in ("4.0", "4.6"):
        assert flags(cable, release).endswith(" --dpdaction hold --dpddelay 30 --dpdtimeout 60")
    for release in ("4.7", "4.10"):
        assert flags(cable, release).endswith(" --dpdaction hold --dpddelay 30")
    assert flags(cable, "5.2").endswith("4500 --dpddelay 30")
    off = replace(cable, ipsec=replace(cable.ipsec, dpd=None))
    assert "--dpd" not in flags(off, "4.10") + flags(off, "5.2")


def test_algorithms_by_dialect(cable: Cable) -> None:
    both = replace(cable.ipsec, pfs_group="modp2048", esp=("aes_gcm-null", "aes256-sha2_256"))
    this = replace(cable, ipsec=both)
    group = replace(both, esp=both.esp[:1])
    plain = replace(both, pfs_group=None)
    for release in map(str, (*dialects.EXAMPLES, *(row.since for row in dialects.DIALECTS))):
        assert " --pfs --esp aes_gcm-null;modp2048,aes256-sha2_256;modp2048 " in (
            flags(this, release)
        )
        one = flags(replace(cable, ipsec=group), release)
        assert " --pfs --esp aes_gcm-null;modp2048 " in one
        none = flags(replace(cable, ipsec=plain), release)
        assert " --esp aes_gcm-null,aes256-sha2_256 " in none
        assert "pfs" not in none
        assert "--pfsgroup" not in one


def test_options_whose_names_changed() -> None:
    def row(release: str) -> str:
        found = dialects.dialect(dialects.parse_version(release))
        return f"{found.rekey_fuzz} 50{found.rekey_fuzz_unit}"

    for release in ("4.0", "4.7", "4.8", "4.10", "5.2"):
        assert row(release) == "--rekeyfuzz 50"
    for release in ("5.3", "5.4"):
        assert row(release) == "--rekeyfuzz 50%"


def test_offload_off(cable: Cable) -> None:
    off = replace(cable, ipsec=replace(cable.ipsec, offload=Offload.OFF))
    assert " --nic-offload no " in flags(off, "4.10")
    assert "--nic-offload" not in flags(off, "5.2") + flags(cable, "4.10")


def test_offload_of_whole_packets(cable: Cable) -> None:
    bare = replace(cable.ipsec, offload=Offload.PACKET, encapsulation=Encapsulation.NO)
    this = replace(cable, ipsec=bare)
    assert " --nic-offload packet " in flags(this, "5.2")
    with pytest.raises(UsageError, match="can't offload whole packets"):
        flags(this, "4.10")


def test_extended_sequence_numbers_by_dialect(cable: Cable) -> None:
    """5.x offers both by itself and takes no peer that offers neither; 4.x has to be told."""
    this = replace(cable, ipsec=replace(cable.ipsec, esn=Esn.YES))
    assert " --esn --no-esn " in flags(this, "4.10")
    assert "esn" not in flags(cable, "4.10") + flags(this, "5.2")


def test_ipv6_by_dialect() -> None:
    for shape in ("transport gre v6", "tunnel v6 server"):
        for release in ("4.0", "4.6"):
            before, _, after = flags(shaped(shape), release).partition(" --ipv6 ")
            assert "--host" not in before
            assert "--host" in after
        assert "--ipv6" not in flags(shaped(shape), "4.7") + flags(shaped(shape), "5.2")
    assert "--ipv6" not in flags(shaped("tunnel v4"), "4.0")


def test_tunnel_mode_by_dialect() -> None:
    assert "tunnel" not in flags(shaped("tunnel v4"), "4.10")
    assert " --tunnel --encaps yes " in flags(shaped("tunnel v4"), "5.2")


def test_nat_forces_encapsulation() -> None:
    this = shaped("tunnel v4 nat")
    auto = replace(this, ipsec=replace(this.ipsec, encapsulation=Encapsulation.AUTO))
    assert " --forceencaps " in flags(auto, "4.10")


def test_what_libreswans_own_parser_is_asked(cable: Cable) -> None:
    def asked(group: str | None, *esp: str) -> tuple[str, ...]:
        ipsec = replace(cable.ipsec, pfs_group=group, esp=esp)
        return whack.algorithms_to_parse(replace(cable, ipsec=ipsec))

    assert asked(None) == ()
    assert asked(None, "aes_gcm-null", "aes-sha1") == ("esp=aes_gcm-null,aes-sha1",)
    assert asked("modp2048", "aes_gcm-null") == ("esp=aes_gcm-null;modp2048",)
    ipsec = replace(cable.ipsec, ike=("aes256-sha2;dh19", "aes-sha1"), esp=("aes_gcm-null",))
    both = whack.algorithms_to_parse(replace(cable, ipsec=ipsec))
    assert both == ("ike=aes256-sha2;dh19,aes-sha1", "esp=aes_gcm-null")


@pytest.mark.parametrize("release", ["4.10", "5.2"])
@pytest.mark.parametrize(
    ("shape", "initiate", "skips"),
    [
        ("transport vxlan v4", Initiate.AUTO, True),
        ("transport gre v6", Initiate.AUTO, True),
        ("transport none v4", Initiate.AUTO, True),
        ("tunnel geneve v4", Initiate.AUTO, True),
        ("tunnel v4", Initiate.AUTO, False),
        ("transport vxlan v4", Initiate.BOTH, False),
    ],
)
def test_no_script_runs_where_it_would_do_nothing(
    shape: str, initiate: Initiate, skips: bool, release: str
) -> None:
    """Between subnets it adds a route; and the proposal's own commands have it."""
    cable = shaped(shape)
    cable = replace(cable, ipsec=replace(cable.ipsec, initiate=initiate))
    own, _, _ = flags(cable, release).partition(" --to ")
    assert ("--updown %disabled" in own) == skips
    assert flags(cable, release).count("--updown") == skips
    with_ppk = replace(cable, ipsec=replace(cable.ipsec, ppk=PskFile("/etc/cablectl/ppk")))
    assert settings(with_ppk, release).get("leftupdown") == ("%disabled" if skips else None)


def settings(cable: Cable, release: str) -> dict[str, str]:
    """Return what `addconn` gives, by name, for the cable's first connection."""
    (first, *_) = cable.connections
    shell, _, _, _, name, section, *lines = addconn.add(
        cable, first, dialects.parse_version(release)
    )
    assert (shell, name, section) == ("sh", first.name, f"conn {first.name}")
    assert all(line.startswith("  ") for line in lines)  # else a line would begin a section
    pairs = [line.strip().partition("=") for line in lines]
    assert len({key for key, _, _ in pairs}) == len(pairs)
    return {key: value for key, _, value in pairs}


def test_a_connection_with_a_ppk_insists_on_it(cable: Cable) -> None:
    this = replace(cable, ipsec=replace(cable.ipsec, ppk=PskFile("/etc/cablectl/ppk")))
    old, new = settings(this, "4.10"), settings(this, "5.2")
    assert old["ppk"] == new["ppk"] == "insist"
    assert (old.pop("pfs"), old.pop("esn"), old.pop("dpdaction")) == ("no", "no", "hold")
    assert new.pop("ppk-ids") == this.pair == "cluster1+cluster2"
    assert old == new
    assert (old["type"], old["encapsulation"], old["authby"]) == ("transport", "yes", "secret")
    assert (old["left"], old["leftprotoport"], old["leftikeport"]) == (
        "172.18.0.8",
        "udp/4789",
        "4500",
    )
    assert (old["right"], old["rightprotoport"]) == ("172.18.0.7", "udp")
    assert settings(this, "4.0")["dpdtimeout"] == "60"


def test_a_connection_with_a_ppk_has_all_that_whack_is_given(cable: Cable) -> None:
    """Every option with a value that `whack.add` has is a setting, with the same value."""
    asked = replace(
        cable.ipsec,
        ppk=PskFile("/etc/cablectl/ppk"),
        ike=("aes256-sha2_256;dh19",),
        esp=("aes_gcm-null", "aes256-sha2_256"),
        pfs_group="modp2048",
        esn=Esn.YES,
        offload=Offload.REQUIRED,
        replay_window=64,
        ike_lifetime=3600,
        sa_lifetime=1800,
        max_bytes=10**9,
    )
    this = replace(cable, ipsec=asked)
    for release in ("4.10", "5.2", "5.4"):
        found = settings(this, release)
        assert found["ike"] == "aes256-sha2_256;dh19"
        assert found["esp"] == "aes_gcm-null;modp2048,aes256-sha2_256;modp2048"
        assert (found["pfs"], found["esn"]) == ("yes", "either")
        assert (found["ikelifetime"], found["salifetime"]) == ("3600", "1800")
        assert (found["replay-window"], found["ipsec-max-bytes"]) == ("64", str(10**9))
        assert found["nic-offload"] == ("yes" if release == "4.10" else "crypto")
    with pytest.raises(UsageError, match=r"Libreswan 4\.6 has no limit of bytes"):
        settings(this, "4.6")


def test_a_client_and_its_server_with_a_ppk() -> None:
    for end, role in (("cluster1", "client"), ("cluster2", "server")):
        cable = shaped("tunnel v4 nat server", end)
        this = replace(cable, ipsec=replace(cable.ipsec, ppk=PskFile("/ppk")))
        found = settings(this, "5.2")
        assert found["type"] == "tunnel"
        assert (found["right"] == "%any") == (role == "server")
        assert found["leftid"].startswith("@")
        assert "leftsubnet" in found
