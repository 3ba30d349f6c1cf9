"""When the certificates of a gateway end, read from its files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.facts.expiry import Expiry, Role
from cablectl.host import certificates
from cablectl.host.nss_store import Store
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.x509 import Auth, Cert
from tests.support.certificates import DAY, Made, authority


@pytest.mark.parametrize("ended", [False, True], ids=["valid", "expired"])
def test_the_certificate_and_only_what_it_needs(
    cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """An old authority may be in the file as well while a new one takes over."""
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path))
    now = datetime.now(UTC).replace(microsecond=0)
    root = authority(begin=now - DAY, end=now + 20 * DAY)
    other = authority("old", begin=now - 9 * DAY, end=now - DAY)
    middle = root.issue("middle", names=(), ca=True, begin=now - DAY, end=now + 9 * DAY)
    name = cable.local.hostname
    end = now - DAY / 2 if ended else now + 5 * DAY
    leaf = middle.issue(name, names=(f"DNS:{name}",), begin=now - DAY, end=end)
    contents = {"cert": leaf.pem + middle.pem, "key": leaf.private.pem, "ca": other.pem + root.pem}
    for file, raw in contents.items():
        (tmp_path / file).touch(mode=0o600)
        (tmp_path / file).write_bytes(raw)
    cert = Cert(certificate=f"{tmp_path}/cert", key=f"{tmp_path}/key", authority=f"{tmp_path}/ca")
    wanted = replace(cable, ipsec=replace(cable.ipsec, auth=Auth.CERT, cert=cert))
    found = certificates.finder(cert, Store("sql:/nowhere"))(wanted)

    def ends(role: Role, made: Made) -> Expiry:
        return Expiry(role, made.certificate.subject, int(made.certificate.not_after.timestamp()))

    assert found.expiries == (
        ends(Role.GATEWAY, leaf),
        ends(Role.AUTHORITY, middle),
        ends(Role.AUTHORITY, root),
    )


def test_without_files_nothing_is_known(cable: Cable, tmp_path: Path) -> None:
    cert = Cert(certificate=f"{tmp_path}/cert")
    assert certificates.finder(cert, Store("sql:/nowhere"))(cable).expiries == ()
