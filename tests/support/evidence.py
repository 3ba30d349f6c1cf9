"""What is measured on a healthy cable."""

from msgspec.structs import replace

from cablectl.linux.xfrm import SecurityAssociation
from cablectl.verification.frames import Tally
from cablectl.verification.proof import Answers, Evidence, Flow, Sizes
from tests.support.documents import shaped

EACH = 114  # bytes of a ping of 84 with UDP, VXLAN and Ethernet


def sa(way: str, carried: int = 0, spi: str = "0x1") -> SecurityAssociation:
    """Return an SA that carried so many pings, 1000 bytes and 10 packets more."""
    here, there = "172.18.0.8", "172.18.0.7"
    ends = (here, there) if way == "out" else (there, here)
    return SecurityAssociation(
        *ends, "esp", spi, 1, bytes=1000 + carried * EACH, packets=10 + carried
    )


def evidence(**changed: object) -> Evidence:
    """Return what is seen of a healthy cable, but for what is changed."""
    healthy = Evidence(
        cable=shaped("transport vxlan v4"),
        flow=Flow("241.18.0.8", "241.18.0.7", "eth0"),
        requested=20,
        answers=Answers(sent=20, answered=20),
        before=(sa("out"), sa("in")),
        after=(sa("out", 20), sa("in", 20)),
        tally=Tally(all=40, esp_out=20, esp_in=20),
        lost=0,
        guard_drops=0,
        sizes=Sizes(found=1408, computed=1408, device=1408),
    )
    return replace(healthy, **changed)
