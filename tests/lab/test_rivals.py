"""Devices of others on the overlay's UDP port: cablectl refuses what this kernel refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cablectl.facts.rivals import rivals
from cablectl.host import devices, probe
from cablectl.linux.overlay.registry import add_link
from cablectl.model.cable import Cable
from tests.support.documents import document, shaped

from .cable import FILE, PSK, PSK_FILE, prepare, run
from .doctor import doctor
from .gateways import Gateway, Lab
from .traffic import changes

pytestmark = pytest.mark.lab

VXLAN, GENEVE = "transport vxlan", "transport geneve"
OTHERS = [
    (VXLAN, f"vxlan {options}")
    for options in (
        "external dstport 4789",
        "external vnifilter dstport 4789",
        "external gpe dstport 4789",
        "id 7 dstport 4789",
        "id 7 dstport 4789 gbp",
        "id 7 dstport 4789 remcsumrx",
        "id 7 dstport 4789 remcsumtx noudpcsum learning proxy rsc l2miss l3miss",
        "id 7 dstport 4789 udp6zerocsumrx",
        "id 7 dstport 4789 dev eth0 gbp",
        "id 7 dstport 4789 local 2001:db8::8",
        "id 7 dstport 4789 local 2001:db8::8 gbp",
        "id 1000 dstport 4789",
        "id 1000 dstport 4789 gbp",
        "id 1000 dstport 4789 local 127.0.0.1",
        "id 1000 dstport 4789 local 2001:db8::8",
        "id 1000 dstport 4790",
        "external dstport 4790",
    )
] + [
    (VXLAN, "geneve external dstport 4789"),
    (VXLAN, "geneve id 7 remote 172.18.0.9 dstport 4789"),
    (VXLAN, "geneve id 7 remote 2001:db8::9 dstport 4789"),
    (GENEVE, "geneve external"),
    (GENEVE, "geneve external dstport 6082"),
    (GENEVE, "geneve id 7 remote 172.18.0.9"),
    (GENEVE, "geneve id 1000 remote 172.18.0.9"),
    (GENEVE, "geneve id 1000 remote 172.18.0.7"),
    (GENEVE, "geneve id 1000 remote 2001:db8::7"),
    (GENEVE, "vxlan external dstport 6081"),
]


@contextmanager
def other_device(gateway: Gateway, kind: str, *, up: bool = True) -> Iterator[None]:
    """Let another program have a device called other0."""
    gateway.ip(f"link add other0 type {kind}", *(("link set other0 up",) if up else ()))
    try:
        yield
    finally:
        gateway.ip("link delete other0")


def allowed_by_kernel(gateway: Gateway, cable: Cable) -> bool:
    """Tell whether the kernel creates the cable's device, and lets it come up."""
    assert cable.overlay
    device = cable.overlay.device
    created = gateway.run(*add_link(cable, cable.overlay, 1400), check=False)
    up = gateway.run("ip", "link", "set", device, "up", check=False)
    gateway.run("ip", "link", "delete", device, check=False)
    return created.returncode == up.returncode == 0


def allowed_by_cablectl(gateway: Gateway, cable: Cable) -> bool:
    listed = probe.decoded(gateway.run("ip", "-N", "-d", "-j", "address").stdout)
    links = {link["ifname"]: devices._link(link) for link in listed}
    return not any(rival.present for rival in rivals(cable, links))


def test_the_kernel_and_cablectl_agree(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    c1, asked, differing = lab.gateways[0], 0, []
    for shape, other in OTHERS:
        for family in ("v4", "v6"):
            for up in (True, False):
                cable = shaped(f"{shape} {family}")
                with other_device(c1, other, up=up):
                    answers = allowed_by_kernel(c1, cable), allowed_by_cablectl(c1, cable)
                asked += 1
                if answers[0] != answers[1]:
                    differing.append((shape, family, other, up, *answers))
    record_property("devices beside the overlay judged as the kernel does", f"{asked} of {asked}")
    assert differing == []


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        (f"{VXLAN} v4", "vxlan external dstport 4789"),
        (f"{VXLAN} v4", "vxlan id 7 dstport 4789 gbp"),
        (f"{GENEVE} v4", "geneve external"),
        ("none vxlan v4", "vxlan id 1000 dstport 4789"),
    ],
)
def test_it_is_named_before_connect(lab: Lab, shape: str, other: str) -> None:
    c1 = lab.gateways[0]
    prepare(c1)
    c1.write(FILE, document(shape))
    c1.write(PSK_FILE, f"{PSK}\n")
    with other_device(c1, other):
        before = c1.snapshot()
        code, findings = doctor(c1)
        (found,) = (finding for finding in findings if finding["state"] == "fail")
        assert (code, found["check"]) == (1, "ports"), found
        assert found["evidence"].startswith("other0 is a ")
        for command in ("plan", "connect"):
            done = run(c1, command, FILE)
            assert done.returncode == 3, done.stderr
            assert done.stderr.startswith(f"cablectl: {found['evidence']}"), done.stderr
            assert "in the file of both ends" in done.stderr
        assert changes(before, c1.snapshot()) == ""
