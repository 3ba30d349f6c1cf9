"""Certificates in place of a pre-shared key, from NSS, between all kinds of gateways.

A gateway's certificate is issued for each test. NSS has to be as before after each teardown and
after each connect that fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.support.certificates import Made

from . import certs, extent
from .cable import FILE, PSK, PSK_FILE, bring_up, child_sas, connections, ping, run, tear_down
from .certs import NAME, document, hand_out, issue, new_authority, nss, state, unchanged
from .gateways import Gateway, Lab, two_gateways
from .rooms import PROGRAM, until
from .traffic import assert_encrypted

pytestmark = pytest.mark.lab

CRL = "crl: /etc/cablectl/crl.pem"
P12 = "pkcs12: /etc/cablectl/gateway.p12, passphrase_file: /etc/cablectl/p12.pass"


@contextmanager
def started(*releases: str) -> Iterator[Lab]:
    with two_gateways(*releases) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
        yield lab


def write(lab: Lab, text: str) -> None:
    for gateway in lab.gateways:
        gateway.write(FILE, text)


def is_all_done(gateway: Gateway) -> bool:
    """Whether connect finds nothing to do; it may only delete a Child SA too many."""
    again = run(gateway, "connect", FILE)
    assert set(re.findall(r"(?m)^\[\d+/\d+\] (\w+):", again.stderr)) <= {"retire"}, again.stderr
    return again.stdout.startswith("nothing to do: ")


def assert_up(lab: Lab) -> None:
    for gateway in lab.gateways:
        # Where both ends negotiated at once, a connection has two Child SAs.
        assert sorted(set(child_sas(gateway))) == connections(gateway)
        assert ping(gateway).returncode == 0
        until(partial(is_all_done, gateway), "nothing to do")
        listed = nss(gateway)
        assert "cablectl-/etc/cablectl/" in listed["keys"]
        assert run(gateway, "doctor", FILE).returncode == 0


def test_4_10_from_connect_to_another_certificate_to_teardown() -> None:
    """ECDSA; a renewed certificate is imported anew, and a second cable would keep it."""
    with started("4.10", "4.10") as lab:
        c1, _ = lab.gateways
        above = new_authority()
        own = [issue(above, NAME[gateway.name]) for gateway in lab.gateways]
        for gateway, made in zip(lab.gateways, own, strict=True):
            hand_out(gateway, made, trusted=above)
        write(lab, document())
        with unchanged(lab):
            with lab.capture() as wire:
                bring_up(*lab.gateways)
                assert_up(lab)
                assert_encrypted(wire)
            before = nss(c1)["keys"]
            hand_out(c1, issue(above, NAME["c1"]), trusted=above)
            done = run(c1, "connect", FILE)
            assert done.returncode == 0, done.stderr
            assert nss(c1)["keys"].count("< 0>") == 1
            assert nss(c1)["keys"] != before
            assert_up(lab)
            tear_down(*lab.gateways)
            for gateway, made in zip(lab.gateways, own, strict=True):
                hand_out(gateway, made, trusted=above)


def test_4_10_with_5_2_and_intermediates_in_tunnel_mode() -> None:
    """RSA, an authority in between of each gateway's own, a CRL, and an authority in NSS before."""
    with started("4.10", "5.2") as lab:
        c1, _ = lab.gateways
        above = new_authority()
        begin, end = certs.now() - certs.HOUR, certs.soon()
        crl = above.revoke({1: begin}, end).pem
        for gateway in lab.gateways:
            name = f"above {gateway.name}"
            between = above.issue(name, names=(), ca=True, begin=begin, end=end)
            own = issue(between, NAME[gateway.name], "rsa")
            hand_out(gateway, own, between, trusted=above, crl=crl)
        write(lab, document("rsa", "rsa", CRL, "tunnel"))
        add = ("certutil", "-A", "-d", certs.STORE, "-n", "its own", "-t", "CT,,", "-a")
        c1.run(*add, "-i", "/etc/cablectl/ca.pem")
        with unchanged(lab):
            bring_up(*lab.gateways)
            assert_up(lab)
            assert all("CRL" in nss(gateway)["crls"].split("\n\n")[-1] for gateway in lab.gateways)
            tear_down(*lab.gateways)


@pytest.mark.skipif(not extent.ALL, reason="make rotation")
def test_from_a_key_to_certificates_and_back() -> None:
    """pluto forgets the key: an end that still has it is refused, and takes no certificate."""
    with started("5.2", "4.10") as lab:
        above = new_authority()
        with_key = document().replace("auth: cert", "psk: {file: /etc/cablectl/psk}")
        with_key = re.sub("(?m)^ +(cert|key_type): .*\n", "", with_key)
        write(lab, with_key)
        for gateway in lab.gateways:
            hand_out(gateway, issue(above, NAME[gateway.name]), trusted=above)
            gateway.write(PSK_FILE, f"{PSK}\n")
        with unchanged(lab):
            for text in (with_key, document(), with_key):
                write(lab, text)
                bring_up(*lab.gateways)
                tear_down(*lab.gateways)
            c1, c2 = lab.gateways
            for first, second in ((with_key, document()), (document(), with_key)):
                c1.write(FILE, first)
                c2.write(FILE, second)
                running = [
                    gateway.popen(PROGRAM, "connect", FILE, "--timeout", "4")
                    for gateway in lab.gateways
                ]
                errors = [process.communicate(timeout=150)[1] for process in running]
                assert all(process.returncode for process in running), errors
                assert any("authentication failed" in err for err in errors), errors
            write(lab, with_key)


def test_4_10_with_5_2_and_what_connect_refuses() -> None:
    """ECDSA at one end, RSA and PKCS#12 at the other; then what connect itself refuses."""
    with started("4.10", "5.2") as lab:
        c1, c2 = lab.gateways
        above = new_authority()
        own, theirs = issue(above, NAME["c1"]), issue(above, NAME["c2"], "rsa")
        hand_out(c1, own, trusted=above)
        hand_out(c2, theirs, trusted=above)
        c2.path("/etc/cablectl/gateway.p12").write_bytes(certs.pkcs12_of(theirs, b"secret"))
        c2.path("/etc/cablectl/gateway.p12").chmod(0o600)
        c2.write("/etc/cablectl/p12.pass", "secret\n")
        c1.write(FILE, document("ecdsa", "rsa"))
        c2.write(FILE, document("ecdsa", "rsa", P12))
        with unchanged(lab):
            bring_up(*lab.gateways)
            assert_up(lab)
            tear_down(*lab.gateways)
        refused_before_anything_changes(c1, above)


def refused_before_anything_changes(c1: Gateway, above: Made) -> None:
    name, crl = NAME["c1"], CRL
    revoked = issue(above, name)
    serial = {revoked.certificate.serial: certs.now() - certs.HOUR}
    cases = {
        "is issued by 'CN=other": (issue(new_authority("other"), name), b""),
        "is expired since": (issue(above, name, begin=-3, end=-1), b""),
        "isn't valid before": (issue(above, name, begin=3, end=9), b""),
        "isn't for DNS:gw1.example": (issue(above, "gw3.example"), b""),
        "is revoked since": (revoked, above.revoke(serial, certs.soon()).pem),
        "key_type: ecdsa": (issue(above, name, "rsa"), b""),
    }
    for expected, (made, revocations) in cases.items():
        hand_out(c1, made, trusted=above, crl=revocations)
        c1.write(FILE, document("ecdsa", "rsa", crl if revocations else ""))
        before = state(c1)
        done = run(c1, "connect", FILE)
        assert (done.returncode, expected in done.stderr) == (3, True), done.stderr
        assert state(c1) == before
    c1.path("/etc/cablectl/key.pem").unlink()
    done = run(c1, "connect", FILE)
    assert done.returncode == 3
    assert "ipsec.cert.key: /etc/cablectl/key.pem: No such file or directory" in done.stderr
