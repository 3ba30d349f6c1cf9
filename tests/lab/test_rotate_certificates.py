"""New certificates for a cable that is up, also of a new authority: no packet is lost.

Then a gateway that still has the old certificate of the old authority is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.support.certificates import Made

from . import extent
from .cable import FILE, bring_up, run, tear_down
from .certs import DIRECTORY, NAME, document, hand_out, issue, new_authority, nss
from .gateways import Gateway, Lab, two_gateways
from .mesh import run_on_all
from .stream import flowing
from .traffic import PATTERN

pytestmark = pytest.mark.lab

HOSTS = {"c1": "10.44.0.9", "c2": "10.45.0.9"}
ROOT_CERTS = 310  # seconds; pluto 4.x keeps its authorities for 300 after the last check
Record = Callable[[str, object], None]


def certificate(above: Made, gateway: Gateway) -> Made:
    """Return a certificate that also has the name of a rotation's second path."""
    name = NAME[gateway.name]
    return issue(above, name, more=(f"DNS:rotate.{name}",))


def write_next(gateway: Gateway, texts: Mapping[str, bytes]) -> None:
    for name, text in texts.items():
        gateway.write(f"{DIRECTORY}/{name}.next", text.decode())


def assert_all(gateways: list[Gateway], *args: str) -> None:
    for code, text in run_on_all(gateways, *args):
        assert code == 0, text


@contextmanager
def up(lab: Lab, old: Made, record: Record) -> Iterator[dict[str, Made]]:
    """Bring the cable up, with a stream between hosts, of which nothing may be lost or clear."""
    c1, c2 = lab.gateways
    made = {gateway.name: certificate(old, gateway) for gateway in lab.gateways}
    for gateway in lab.gateways:
        gateway.stop_pluto()  # 4.10 would see an authority five minutes after that of another test
        gateway.write(FILE, document())
        hand_out(gateway, made[gateway.name], trusted=old)
        gateway.start_pluto()
    with c1.holds(HOSTS["c1"]), c2.holds(HOSTS["c2"]):
        bring_up(c1, c2)
        with lab.capture(4789, esp_in_udp=False) as wire:
            with flowing(c1, HOSTS["c1"], c2, HOSTS["c2"]) as stream:
                yield made
            for gateway in lab.gateways:
                assert ".next" not in gateway.run("ls", DIRECTORY).stdout
                assert run(gateway, "connect", FILE).stdout.startswith("nothing to do")
            summary = wire.summary()
            assert (summary["overlay"].frames, summary["esp"].frames) == (0, 0)
            assert not any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)
    for counted in stream.counted:
        record("certificates rotated: lost", f"{counted.lost} of {counted.sent}")
    assert [counted.lost for counted in stream.counted] == [0, 0], stream.counted
    assert all(counted.sent > 1000 for counted in stream.counted)


@pytest.mark.skipif(not extent.ALL, reason="make rotation")
def test_certificates(lab: Lab, record_property: Record) -> None:
    """On 4.10, in phases: a new authority is refused there, since pluto would not see it."""
    c1, c2 = lab.gateways
    old, new = new_authority("old"), new_authority("new")
    before = [nss(gateway) for gateway in lab.gateways]
    with up(lab, old, record_property):
        write_next(c1, {"ca.pem": old.pem + new.pem})
        done = run(c1, "rotate", FILE)
        assert done.returncode == 3
        assert "Libreswan 4.10 looks for a new authority" in done.stderr
        c1.run("rm", f"{DIRECTORY}/ca.pem.next")
        for gateway in lab.gateways:
            own = certificate(old, gateway)
            write_next(gateway, {"cert.pem": own.pem, "key.pem": own.private.pem})
        done = run(c1, "rotate", FILE, "--timeout", "4")
        assert done.returncode == 5, done.stderr
        assert "waits for cluster2" in done.stderr
        assert_all([c2, c1], "rotate", FILE, "--timeout", "60")
    tear_down(c1, c2)
    assert [nss(gateway) for gateway in lab.gateways] == before


@pytest.mark.skipif(not extent.ALL, reason="make rotation")
def test_a_new_authority_on_4_10(lab: Lab, record_property: Record) -> None:
    """connect brings the new authority, and five minutes later pluto has it."""
    old, new = new_authority("old"), new_authority("new")
    before = [nss(gateway) for gateway in lab.gateways]
    with up(lab, old, record_property) as made:
        for gateway in lab.gateways:
            trust(gateway, old, new)
        assert_all(lab.gateways, "connect", FILE)
        time.sleep(ROOT_CERTS)
        for gateway in lab.gateways:
            own = certificate(new, gateway)
            write_next(gateway, {"cert.pem": own.pem, "key.pem": own.private.pem})
        assert_all(lab.gateways, "rotate", FILE, "--timeout", "60")
        remove(old, new, lab)
    assert_refused(lab, made["c2"], old, new)
    assert [nss(gateway) for gateway in lab.gateways] == before


@pytest.mark.skipif(not extent.ALL, reason="make rotation")
def test_a_new_authority(record_property: Record) -> None:
    """On 5.2: both are trusted for a while, and the old one is refused in the end."""
    with two_gateways("5.2", "5.2") as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
        old, new = new_authority("old"), new_authority("new")
        before = [nss(gateway) for gateway in lab.gateways]
        with up(lab, old, record_property) as made:
            for gateway in lab.gateways:
                own = certificate(new, gateway)
                texts = {"cert.pem": own.pem, "key.pem": own.private.pem}
                write_next(gateway, texts | {"ca.pem": old.pem + new.pem})
            assert_all(lab.gateways, "rotate", FILE, "--timeout", "60")
            remove(old, new, lab)
        assert_refused(lab, made["c2"], old, new)
        assert [nss(gateway) for gateway in lab.gateways] == before


def trust(gateway: Gateway, *authorities: Made) -> None:
    gateway.write(f"{DIRECTORY}/ca.pem", b"".join(each.pem for each in authorities).decode())


def remove(old: Made, new: Made, lab: Lab) -> None:
    """Remove the old authority, and no SA with it."""
    for gateway in lab.gateways:
        trust(gateway, new)
    for code, text in run_on_all(lab.gateways, "connect", FILE):
        assert code == 0, text
        assert f"pluto trusts the authority '{old.certificate.subject}' until pluto is" in text
    for gateway in lab.gateways:
        assert len(nss(gateway)["certificates"].split("CT,,")) == 2


def assert_refused(lab: Lab, former: Made, old: Made, new: Made) -> None:
    """c2 still has its former certificate, and trusts both authorities; c1 refuses it."""
    c1, c2 = lab.gateways
    tear_down(c1, c2)
    c1.stop_pluto()  # as docs/identity.md says
    c1.start_pluto()
    hand_out(c2, former, trusted=old)
    trust(c2, old, new)
    (first, told), (second, _) = run_on_all(lab.gateways, "connect", FILE, "--timeout", "5")
    assert 0 not in (first, second), told
    assert "an authority that this host doesn't trust" in told.splitlines()[-3], told
    tear_down(c1, c2)
