"""What programs of real hosts printed."""

import json
import re

from cablectl.libreswan import pluto
from cablectl.linux.firewall import iptables, nft
from cablectl.linux.firewall.filters import Chain
from tests.support.places import CAPTURES

NAMES = tuple(f"submariner-cable-cluster2-172-18-0-7-{i}" for i in (0, 1))


def blocks(release: str, command: str, capture: str = "libreswan") -> list[str]:
    """Return what each run of a command printed, in the order of the capture."""
    text = (CAPTURES / f"{capture}-{release}.txt").read_text()
    found = re.findall(
        rf"^===== \$ {re.escape(command)}\n(.*?)^# exit 0$", text, re.MULTILINE | re.DOTALL
    )
    assert found, command
    return found


def by_release(topic: str) -> dict[str, list[tuple[str, str]]]:
    """Return the commands of a capture and what they printed, by the titles of its parts."""
    text = (CAPTURES / f"{topic}.txt").read_text()
    parts = re.split(r"(?m)^##### Libreswan ([^\n]+)\n", text)[1:]
    command = re.compile(r"^===== \$ ([^\n]+)\n(.*?)^# exit \d+$", re.MULTILINE | re.DOTALL)
    return {
        release: command.findall(part)
        for release, part in zip(parts[::2], parts[1::2], strict=True)
    }


def filters(name: str) -> tuple[Chain, ...]:
    """Return the chains of a capture: nft's JSON and text, or what iptables-save printed."""
    text = (CAPTURES / f"{name}.txt").read_text()
    listing = CAPTURES / f"{name}.json"
    if listing.exists():
        return nft.parse(json.loads(listing.read_text()), text)
    return iptables.parse(text, "iptables")


class States:
    """What both printed of SAs in several situations, by what the capture calls them."""

    def __init__(self, release: str) -> None:
        text = (CAPTURES / f"states-{release}.txt").read_text()
        titles = re.findall(r"(?m)^##### ([^\n]+)", text)
        status = blocks(release, "ipsec whack --status", "states")
        traffic = blocks(release, "ipsec whack --trafficstatus", "states")
        told = zip(titles, status, traffic, strict=True)
        self.texts = {title: (one, other) for title, one, other in told}

    def __getitem__(self, title: str) -> pluto.Status:
        return pluto.parse(*self.texts[title])


FIREWALL_LISTING = json.loads((CAPTURES / "firewall-nft.json").read_text())
FIREWALL_TEXT = (CAPTURES / "firewall-nft.txt").read_text()
IPTABLES_SAVED = (CAPTURES / "iptables-nft-save.txt").read_text()
LEGACY_SAVED = (CAPTURES / "iptables-legacy-save.txt").read_text()
GUARD_LISTING = json.loads((CAPTURES / "nft-1.0.6.json").read_text())
CLAMP_LISTING = json.loads((CAPTURES / "mss-v4-1.0.6.json").read_text())
# What ss of iproute2 6.1 printed on a gateway, and of a resolver that is bound to a device.
SOCKETS = """\
UNCONN 0      0         172.18.0.8:4500 0.0.0.0:* users:(("pluto",pid=17,fd=16),("x",pid=9,fd=1))
UNCONN 0      0            0.0.0.0:4789 0.0.0.0:*                               \x20
UNCONN 0      0      127.0.0.53%lo:53   0.0.0.0:* users:(("systemd-resolve",pid=512,fd=13))
UNCONN 0      0      [2001:db8::8]:500     [::]:* users:(("pluto",pid=17,fd=21))
UNCONN 0      0                  *:500        *:*
"""
