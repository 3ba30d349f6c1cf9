"""ESP offload: whack's options, the SAs' state, the report, and which cables are refused."""

import shlex

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.facts.host_facts import Facts
from cablectl.libreswan import pluto
from cablectl.libreswan.dialects import parse_version
from cablectl.linux import xfrm
from cablectl.linux.esp_offload import Nic, OffloadReport
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import Encapsulation, Offload
from cablectl.plan import connect_plan
from cablectl.render.nic_report import nic_report
from tests.support.captures import blocks
from tests.support.documents import shaped
from tests.support.plans import BLANK

CAN = Nic("eth0", {"esp-hw-offload": True})
CANNOT = Nic("eth0", {"esp-hw-offload": False})
# An offloaded SA, as `ip -d xfrm state list nokeys` prints it, without the irrelevant lines.
STATE = """\
src 172.18.0.8 dst 172.18.0.7
\tproto esp spi 0x987034d9(2557490393) reqid 16393(0x00004009) mode transport
\treplay-window 0 seq 0x00000000 flag  (0x00000000)
\taead rfc4106(gcm(aes)) <<Keys hidden>> 128
\tcrypto offload parameters: dev eth0 dir out{mode}
\tsel src 172.18.0.8/32 dst 172.18.0.7/32 proto udp dport 4789 uid 0
"""


def asking(cable: Cable, offload: Offload, encapsulation: Encapsulation) -> Cable:
    return replace(cable, ipsec=replace(cable.ipsec, offload=offload, encapsulation=encapsulation))


@pytest.mark.parametrize(
    ("version", "offload", "nic", "encapsulation", "flags"),
    [
        ("4.10", "auto", CAN, "no", ""),  # Libreswan 4.10 offloads by default if the NIC can
        ("4.10", "required", CAN, "no", "--nic-offload yes"),
        ("4.10", "off", CAN, "no", "--nic-offload no"),
        ("5.2", "auto", CAN, "no", "--nic-offload crypto"),
        ("5.2", "auto", CAN, "auto", ""),
        ("5.2", "auto", CAN, "yes", ""),
        ("5.2", "auto", CANNOT, "no", ""),
        ("5.2", "auto", None, "no", ""),
        ("5.2", "required", CAN, "no", "--nic-offload crypto"),
        ("5.2", "packet", CAN, "no", "--nic-offload packet"),
        ("5.2", "off", CAN, "no", ""),
        ("5.3", "required", CAN, "no", "--nic-offload crypto"),
    ],
)
def test_whack_gets_the_option_of_the_release(
    cable: Cable, version: str, offload: str, nic: Nic | None, encapsulation: str, flags: str
) -> None:
    this = asking(cable, Offload(offload), Encapsulation(encapsulation))
    facts = replace(BLANK, libreswan=parse_version(version), nic=nic)
    added = [
        step.argv for step in connect_plan.plan((this,), (facts,)).steps if "--psk" in step.argv
    ]
    assert len(added) == 2
    for argv in added:
        _, option, rest = shlex.join(argv).partition("--nic-offload")
        assert " ".join((option + rest).split()[:2]) == flags


def test_whole_packets_need_5_0(cable: Cable) -> None:
    this = asking(cable, Offload.PACKET, Encapsulation.NO)
    with pytest.raises(UsageError, match=r"4\.10 can't offload whole packets"):
        connect_plan.plan((this,), (replace(BLANK, libreswan=parse_version("4.10")),))


@pytest.mark.parametrize(
    ("mode", "offload"), [("", "crypto"), (" mode packet", "packet"), (" mode crypto", "crypto")]
)
def test_the_offload_of_an_sa_is_parsed(mode: str, offload: str) -> None:
    (sa,) = xfrm.parse_sas(STATE.format(mode=mode))
    assert (sa.spi, sa.offload, sa.device) == ("0x987034d9", offload, "eth0")


class TestRequired:
    """offload: required and packet are refused if the NIC can't, or if an SA isn't on the NIC."""

    def test_a_nic_without_offload(self, cable: Cable) -> None:
        this = asking(cable, Offload.REQUIRED, Encapsulation.NO)
        with pytest.raises(HostNotReadyError, match="eth0 has no esp-hw-offload"):
            connect_plan.plan((this,), (replace(BLANK, nic=CANNOT),))
        assert connect_plan.plan((this,), (replace(BLANK, nic=None),)).needed

    @pytest.mark.parametrize(("asked", "offload"), [("required", ""), ("packet", "crypto")])
    def test_an_sa_with_less_offload(
        self, cable: Cable, made: Facts, asked: str, offload: str
    ) -> None:
        this = asking(cable, Offload(asked), Encapsulation.NO)
        (reqid, *_) = made.policies.values()
        sa = SecurityAssociation(
            "172.18.0.8", "172.18.0.7", "esp", "0x1234", reqid, offload, "eth0"
        )
        facts = replace(made, nic=CAN, sas=(sa,), libreswan=parse_version("5.2"))
        with pytest.raises(CablectlError, match=f"{asked}, and the SA 0x1234") as caught:
            connect_plan.plan((this,), (facts,))
        assert (offload or "software") in caught.value.message
        assert caught.value.exit_code == 1
        wanted = replace(sa, offload="packet" if asked == "packet" else "crypto")
        clamp, mtu = connect_plan.plan((this,), (replace(facts, sas=(wanted,)),)).needed
        assert mtu.argv[-2:] == ("mtu", "1416")  # ESP without UDP
        assert "maxseg size set 1376" in clamp.argv[1]


def report(*sas: str, nic: Nic | None = CANNOT, asked: Offload | None = None) -> OffloadReport:
    return OffloadReport(
        cable="submariner-cable-cluster2-172-18-0-7",
        asked=asked,
        encapsulation=Encapsulation.YES if asked else None,
        nic=nic,
        module="esp4_offload",
        loaded=not asked,
        sas=tuple(
            SecurityAssociation("172.18.0.8", "172.18.0.7", "esp", f"0x{i}", 1, offload, "eth0")
            for i, offload in enumerate(sas)
        ),
    )


@pytest.mark.parametrize(
    ("offload", "verdict", "reasons"),
    [
        (report("crypto", "crypto", nic=CAN), "crypto", ()),
        (report("packet"), "packet", ()),
        (report("", "crypto", nic=CAN), "mixed", ()),
        (report("", nic=Nic("eth0")), "software", ("the offload features of eth0 aren't known",)),
        (report(nic=None), "none", ("this host has no route to the peer",)),
        (report(nic=CAN), "none", ("there is no SA",)),
        (
            report("", asked=Offload.OFF),
            "software",
            ("offload: off", "eth0 has no esp-hw-offload", "encapsulation: yes", "esp4_offload"),
        ),
    ],
)
def test_the_verdict_and_its_reasons(
    offload: OffloadReport, verdict: str, reasons: tuple[str, ...]
) -> None:
    assert offload.verdict == verdict
    for reason, begin in zip(offload.reasons, reasons, strict=True):
        assert reason.startswith(begin)
    (rendered,) = nic_report([offload]).cables
    assert (rendered.verdict, rendered.reasons) == (verdict, offload.reasons)


@pytest.mark.parametrize("version", ["4.10", "5.2"])
def test_the_cables_of_a_host_are_found_by_name(cable: Cable, version: str) -> None:
    """pluto's status gives connections with the same policies as the file's connections."""
    status = blocks(version, "ipsec whack --status")[2]
    cables = pluto.cables(pluto.parse_connections(status, ""))
    assert list(cables) == [cable.remote.cable_name]
    (connections,) = cables.values()
    assert xfrm.policies_of(connections) == xfrm.policies_of(cable.connections)


@pytest.mark.parametrize(
    "shape", ["tunnel v4", "tunnel v6", "tunnel v4 server", "transport gre v6"]
)
def test_a_loaded_cable_equals_the_cable_of_the_file(shape: str) -> None:
    cable = shaped(shape, "cluster2")
    loaded = {
        connection.name: pluto.LoadedConnection(True, True, pluto.selectors(connection))
        for connection in cable.connections
    }
    other = {"somebody-elses": next(iter(loaded.values()))}
    cables = pluto.cables(loaded | other)
    assert list(cables) == [cable.remote.cable_name]
    found = cables[cable.remote.cable_name]
    assert xfrm.policies_of(found) == xfrm.policies_of(cable.connections)
    assert [(one.name, one.mode, one.remote.host) for one in found] == [
        (one.name, one.mode, one.remote.host) for one in cable.connections
    ]
