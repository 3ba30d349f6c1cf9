"""What `cablectl ca` issues brings a cable up, its end is told, and its CRL keeps a gateway out."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from . import certs
from .cable import FILE, bring_up, ping, run, tear_down
from .gateways import PLUTO_LOG, Gateway, two_gateways
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

CA, OUT, PASSPHRASE = "/tmp/ca", "/tmp/handed-out", "/etc/cablectl/passphrase"
CERT = "crl: /etc/cablectl/crl.pem"


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with two_gateways("4.10", "4.10") as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
        yield lab.gateways


def ca(gateway: Gateway, *words: str) -> str:
    """Run `cablectl ca` where the authority is."""
    given = ("--ca", CA, "--passphrase-file", PASSPHRASE)
    return gateway.run(PROGRAM, "ca", *words, *given).stdout


def hand_out(gateways: list[Gateway], *names: str) -> None:
    """Copy the files of each gateway to where its file looks for them."""
    first = gateways[0]
    for number, gateway in enumerate(gateways, 1):
        for name in names:
            text = first.read(f"{OUT}/cluster{number}/{name}")
            assert text
            gateway.write(f"/etc/cablectl/{name}", text)


def test_from_init_to_revoke(gateways: list[Gateway]) -> None:
    first, _ = gateways
    for gateway in gateways:
        gateway.write(FILE, certs.document(cert=CERT))
    first.write(PASSPHRASE, "a passphrase of the lab alone\n")
    ca(first, "init")
    assert "2 issued;" in ca(first, "issue", FILE, "--out", OUT, "--days", "6")
    hand_out(gateways, "cert.pem", "key.pem", "ca.pem", "crl.pem")
    bring_up(*gateways)
    assert ping(first).returncode == 0

    done = run(first, "status", FILE, "--format", "json")
    assert done.returncode == 0
    own, above = json.loads(done.stdout)["result"]["cables"][0]["certificates"]
    assert (own["role"], own["urgency"], own["days_left"]) == ("gateway", "urgent", 5)
    assert (above["role"], above["urgency"]) == ("authority", "none")

    assert "1 revoked;" in " ".join(ca(first, "revoke", "gw2.example").split())
    tear_down(first)
    first.write("/etc/cablectl/crl.pem", first.read(f"{CA}/crl.pem"))
    first.stop_pluto()  # pluto looks for a newer list only every ten minutes
    first.start_pluto()
    assert run(first, "connect", FILE, "--timeout", "4").returncode != 0
    assert "certificate has been revoked" in first.read(PLUTO_LOG).lower()
    assert ping(first).returncode != 0
