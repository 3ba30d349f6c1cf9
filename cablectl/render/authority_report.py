"""The certificates of an authority as a report: what `cablectl ca ... --format json` prints."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from cablectl.identity.certificate import Certificate
from cablectl.identity.issued import Done, Outcome, State


class IssuedCertificate(Struct, frozen=True, kw_only=True):
    """A certificate; all times are in UTC.

    `serial` is in hex. `outcome` is what the command did, and null for `ca list`. `cluster` and
    `directory`, which has the gateway's files, are null if the command has no file, and `directory`
    also if the files are elsewhere.
    """

    cluster: str | None
    subject: str
    names: tuple[str, ...]
    serial: str
    issuer: str
    not_before: datetime
    not_after: datetime
    state: State
    revoked_since: datetime | None
    outcome: Outcome | None
    directory: str | None


class Signer(Struct, frozen=True, kw_only=True):
    """An authority, with the SHA-256 of its certificate, in hex."""

    subject: str
    not_after: datetime
    sha256: str


class AuthorityReport(Struct, frozen=True, kw_only=True):
    """An authority, and certificates that it issued; `following` is the one that takes over."""

    authority: Signer
    following: Signer | None
    certificates: tuple[IssuedCertificate, ...]


def report_of(
    certificate: Certificate, following: Certificate | None, rows: Iterable[Done], now: datetime
) -> AuthorityReport:
    """Return the report of some certificates."""
    return AuthorityReport(
        authority=_signer(certificate),
        following=_signer(following) if following else None,
        certificates=tuple(_row(row, now) for row in rows),
    )


def _signer(certificate: Certificate) -> Signer:
    return Signer(
        subject=certificate.subject, not_after=certificate.not_after, sha256=certificate.sha256
    )


def _row(row: Done, now: datetime) -> IssuedCertificate:
    certificate = row.entry.certificate
    return IssuedCertificate(
        cluster=row.cluster,
        subject=certificate.subject,
        names=tuple(map(str, certificate.names)),
        serial=f"{certificate.serial:x}",
        issuer=certificate.issuer,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        state=row.entry.state(now),
        revoked_since=row.entry.revoked,
        outcome=row.outcome,
        directory=row.directory,
    )
