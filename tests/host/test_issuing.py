"""The files of an authority and of its gateways: what each command makes, and who reads them."""

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.host import authority_files, issuing
from cablectl.identity import encoded
from cablectl.identity.issued import Done, Outcome, State
from cablectl.model.x509 import KeyType
from tests.support.authority_place import CLUSTERS, ENDS, FILES, NEXT, PASSPHRASE, Place
from tests.support.certificates import DAY, NOW
from tests.support.untrusted import elsewhere, open_to_a_group, open_to_all


@pytest.fixture
def this(tmp_path: Path) -> Place:
    return Place(tmp_path)


def modes(root: Path) -> dict[int, set[int]]:
    """Return the modes of all files and of all directories."""
    found: dict[int, set[int]] = {}
    for path in (root, *root.rglob("*")):
        mode = path.lstat().st_mode
        found.setdefault(stat.S_IFMT(mode), set()).add(stat.S_IMODE(mode))
    return found


def outcomes(done: list[Done]) -> list[Outcome | None]:
    return [row.outcome for row in done]


def test_nobody_else_can_read_a_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        this = Place(tmp_path)
        this.issue()
        this.renew(None)
        this.revoke("cluster2-worker")
        authority_files.create_following(this.directory, 730, PASSPHRASE, NOW)
    finally:
        os.umask(before)
    for root in (this.ca, this.out):
        assert modes(root) == {stat.S_IFDIR: {0o700}, stat.S_IFREG: {0o600}}


def test_each_gateway_gets_what_it_needs_and_no_more(this: Place) -> None:
    done = this.issue()
    assert outcomes(done) == [Outcome.ISSUED] * 3
    assert sorted(path.name for path in this.out.iterdir()) == CLUSTERS
    for row, cluster in zip(done, CLUSTERS, strict=True):
        assert row.directory == str(this.out / cluster)
        assert this.files(cluster) == FILES
        assert this.problems(cluster) == []
    made = {(this.out / cluster / "key.pem").read_bytes() for cluster in CLUSTERS}
    assert len(made) == 3
    every = b"".join(path.read_bytes() for path in this.ca.rglob("*.pem"))
    assert not any(key in every for key in made)
    assert b"-----BEGIN PRIVATE KEY" not in every
    noted = {entry.certificate.serial for entry in this.directory.entries}
    assert noted == {row.entry.certificate.serial for row in done}


def test_what_is_issued_already_stays(this: Place) -> None:
    this.issue(ENDS[0])
    before = (this.out / CLUSTERS[0] / "key.pem").read_bytes()
    assert outcomes(this.issue()) == [Outcome.KEPT, Outcome.ISSUED, Outcome.ISSUED]
    assert (this.out / CLUSTERS[0] / "key.pem").read_bytes() == before
    (this.out / CLUSTERS[1]).rename(this.out / "moved")  # to the gateway
    done = this.issue()
    assert outcomes(done) == [Outcome.KEPT] * 3
    assert [row.directory is None for row in done] == [False, True, False]
    assert not (this.out / CLUSTERS[1]).exists()


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_what_can_not_be_used_is_issued_again(this: Place, end: str) -> None:
    this.issue()
    if end == "expired":
        this.now = NOW + 91 * DAY
    else:
        for cluster in CLUSTERS:
            this.revoke(f"{cluster}-worker")
    with pytest.raises(HostNotReadyError, match="exists already"):
        this.issue()
    this.out = this.out.with_name("other")
    assert outcomes(this.issue()) == [Outcome.ISSUED] * 3
    assert this.problems(CLUSTERS[0]) == []


def test_a_certificate_with_another_name_is_another_one(this: Place) -> None:
    this.issue()
    this.out = this.out.with_name("other")
    renamed = [replace(end, hostname=f"new-{end.hostname}") for end in ENDS]
    done = issuing.issue(this.directory, renamed, this.terms(), PASSPHRASE)
    assert outcomes([*done]) == [Outcome.ISSUED] * 3


def test_the_file_says_identity_and_key_type(this: Place) -> None:
    first, second, *_ = ENDS
    ends = [replace(first, identity="192.0.2.1"), replace(second, key_type=KeyType.RSA)]
    one, other = issuing.issue(this.directory, ends, this.terms(), PASSPHRASE)
    assert "IP:192.0.2.1" in map(str, one.entry.certificate.names)
    assert str(one.entry.certificate.kind) == "ECDSA secp256r1"
    assert str(other.entry.certificate.kind) == "RSA 3072"
    wrong = replace(first, identity="C=France")
    with pytest.raises(UsageError, match="can't be the subject of a certificate"):
        [*issuing.issue(this.directory, [wrong], this.terms(), PASSPHRASE)]


def test_a_renewal_is_beside_what_is_in_use(this: Place) -> None:
    this.issue(days=31)
    assert outcomes(this.renew()) == [Outcome.KEPT] * 3
    before = {cluster: this.files(cluster) for cluster in CLUSTERS}
    assert set(map(frozenset, before.values())) == {frozenset(FILES)}
    this.now += 2 * DAY
    assert outcomes(this.renew()) == [Outcome.RENEWED] * 3
    for cluster in CLUSTERS:
        assert this.files(cluster) == FILES | NEXT
        assert this.problems(cluster) == this.problems(cluster, ".next") == []
    this.now += DAY
    assert outcomes(this.renew()) == [Outcome.KEPT] * 3
    with pytest.raises(HostNotReadyError, match=r"\.next exists already"):
        this.renew(None)


def test_an_expired_certificate_is_renewed_and_a_revoked_one_is_left_out(this: Place) -> None:
    this.issue()
    this.revoke("cluster2-worker")
    this.now += 100 * DAY
    assert [row.cluster for row in this.renew()] == ["cluster1", "cluster3"]
    assert this.files("cluster2") == FILES
    with pytest.raises(UsageError, match="cluster2 has no certificate of this authority for DNS:"):
        [*issuing.renew(this.directory, ENDS[1:2], this.terms(), PASSPHRASE, None)]


def test_a_revocation_is_in_the_list_and_in_what_others_see(this: Place) -> None:
    this.issue()
    (done,) = this.revoke("cluster2-worker")
    assert done.outcome is Outcome.REVOKED
    serial = done.entry.certificate.serial
    assert this.directory.crl.revoked == {serial: NOW}
    assert this.problems("cluster2") == []  # its own list is older
    (this.out / "cluster2" / "crl.pem").write_bytes((this.ca / "crl.pem").read_bytes())
    (told,) = this.problems("cluster2")
    assert "is revoked since 2026-06-01" in told
    this.now += DAY
    (again,) = this.revoke(f"{serial:x}")
    assert (again.outcome, again.entry.revoked) == (Outcome.KEPT, NOW)
    this.revoke("cluster3-worker")
    assert this.directory.crl.revoked.keys() > {serial}
    with pytest.raises(UsageError, match="'nobody': no certificate"):
        this.revoke("nobody")


def test_a_new_authority_takes_over(this: Place) -> None:
    this.issue()
    old = this.directory.certificate
    authority_files.create_following(this.directory, 730, PASSPHRASE, NOW + DAY)
    with pytest.raises(HostNotReadyError, match="is taking over already"):
        authority_files.create_following(this.directory, 730, PASSPHRASE, NOW)
    with pytest.raises(UsageError, match="has issued nothing yet to O=cablectl, CN=cluster1"):
        issuing.finish(this.directory, NOW)
    this.now += DAY
    assert outcomes(this.renew()) == [Outcome.RENEWED] * 3
    for cluster in CLUSTERS:
        assert this.problems(cluster) == this.problems(cluster, ".next") == []
        both = encoded.read_pem((this.out / cluster / "ca.pem.next").read_bytes())
        assert both == (old, this.directory.following)
    revoked = this.revoke("cluster3-worker")
    assert outcomes(revoked) == [Outcome.REVOKED] * 2  # one of each authority
    new = this.directory.following
    issuing.finish(this.directory, this.now)
    assert this.directory.certificate == new
    assert this.directory.following is None
    assert [entry.state(this.now) for entry in this.directory.entries].count(State.REVOKED) == 1
    assert len(this.directory.entries) == 3  # those of the old authority are history
    this.out = this.out.with_name("after")
    assert outcomes(this.issue()) == [Outcome.KEPT, Outcome.KEPT, Outcome.ISSUED]
    with pytest.raises(UsageError, match="no new authority is taking over"):
        issuing.finish(this.directory, NOW)


def test_an_authority_that_has_ended_signs_nothing(this: Place) -> None:
    this.now = NOW + 731 * DAY
    with pytest.raises(HostNotReadyError, match="has ended"):
        this.issue()


def test_an_authority_is_never_overwritten(this: Place, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in this.ca.iterdir()}
    with pytest.raises(UsageError, match="exists already"):
        authority_files.create(str(this.ca), 730, PASSPHRASE, NOW)
    assert {path: path.read_bytes() for path in this.ca.iterdir()} == before
    (tmp_path / "empty").mkdir(mode=0o755)
    authority_files.create(str(tmp_path / "empty"), 730, PASSPHRASE, NOW)
    assert modes(tmp_path / "empty")[stat.S_IFDIR] == {0o700}


@pytest.mark.parametrize("plant", [elsewhere, open_to_all, open_to_a_group])
@pytest.mark.parametrize("name", [".", "ca.pem", "ca-key.pem", "crl.pem"])
def test_what_others_could_change_is_not_used(
    this: Place, plant: Callable[[Path], None], name: str
) -> None:
    plant(this.ca / name if name != "." else this.ca)
    with pytest.raises(HostNotReadyError, match=r"is a symlink|can be written by"):
        this.issue()
    assert not this.out.exists()


def test_an_unsafe_directory_gets_no_key(this: Place) -> None:
    this.out.mkdir()
    open_to_all(this.out)
    with pytest.raises(HostNotReadyError, match="can be written by everybody"):
        this.issue()
    assert [*this.out.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("ca.pem", b"", "ca.pem: no certificate"),
        ("ca-key.pem", b"", "ca-key.pem: not a private key"),
        ("crl.pem", b"", "crl.pem: not a certificate revocation list"),
    ],
)
def test_a_broken_file_is_named(this: Place, name: str, raw: bytes, message: str) -> None:
    (this.ca / name).write_bytes(raw)
    with pytest.raises(HostNotReadyError, match=message):
        this.issue()


def test_no_two_runs_are_in_one_directory(this: Place) -> None:
    with (
        authority_files.locked(str(this.ca)),
        pytest.raises(HostNotReadyError, match="another cablectl uses"),
        authority_files.locked(str(this.ca)),
    ):
        pass
    with authority_files.locked(str(this.ca)):
        pass


def test_no_error_shows_a_secret(this: Place) -> None:
    this.issue()
    wrong = b"another passphrase, that is wrong"
    body = (this.out / CLUSTERS[0] / "key.pem").read_text().split("\n")[1]

    def fails(now: datetime) -> Iterator[CablectlError]:
        for attempt in (
            lambda: [*issuing.issue(this.directory, ENDS[:1], this.terms(), wrong)],
            lambda: [*issuing.renew(this.directory, ENDS, this.terms(), wrong, None)],
            lambda: issuing.revoke(this.directory, "cluster1-worker", wrong, now),
        ):
            with pytest.raises(CablectlError, match="the passphrase is wrong") as caught:
                attempt()
            yield caught.value

    for error in fails(NOW):
        told = f"{error!r} {error.message} {error.hint} {error.__context__!r}"
        assert wrong.decode() not in told
        assert PASSPHRASE.decode() not in told
        assert body not in told
    assert this.directory.crl.revoked == {}
