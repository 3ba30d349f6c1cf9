"""The certificates that an authority has issued, and what is to be done about each."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from cablectl.identity.certificate import Certificate

if TYPE_CHECKING:
    from cablectl.identity.authority import Request  # it loads the library of certificates

SOON = timedelta(days=30)  # before the end, when a certificate should be renewed


class State(StrEnum):
    """Whether a certificate can be used."""

    VALID = "valid"
    ENDS_SOON = "ends soon"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Entry(Struct, frozen=True, kw_only=True):
    """A certificate that was issued, and since when it is revoked, if it is."""

    certificate: Certificate
    revoked: datetime | None = None

    def state(self, now: datetime) -> State:
        """Return whether the certificate can be used."""
        if self.revoked is not None:
            return State.REVOKED
        if now > self.certificate.not_after:
            return State.EXPIRED
        return State.ENDS_SOON if self.certificate.not_after - now <= SOON else State.VALID


class Outcome(StrEnum):
    """What was done about a certificate."""

    ISSUED = "issued"
    RENEWED = "renewed"
    KEPT = "kept"
    REVOKED = "revoked"


class Done(Struct, frozen=True, kw_only=True):
    """A certificate, what was done about it, and the directory with the files of its gateway."""

    entry: Entry
    outcome: Outcome | None = None
    cluster: str | None = None
    directory: str | None = None


def entries(
    certificates: Iterable[Certificate], revoked: Mapping[int, datetime]
) -> tuple[Entry, ...]:
    """Return all certificates, each with its revocation; the newest comes last."""
    return tuple(
        Entry(certificate=each, revoked=revoked.get(each.serial))
        for each in sorted(certificates, key=lambda each: (each.not_before, each.not_after))
    )


def current(known: Iterable[Entry], wanted: "Request", now: datetime) -> Entry | None:
    """Return the certificate of a gateway that can be used, the newest one, or None."""
    usable = (State.VALID, State.ENDS_SOON)
    found = [each for each in known if wanted.fits(each.certificate) and each.state(now) in usable]
    return found[-1] if found else None


def named(known: Iterable[Entry], name: str) -> tuple[Entry, ...]:
    """Return the certificates with a serial number in hex, a subject, a CN or another name."""
    serial = name.replace(":", "").lower().lstrip("0")
    return tuple(
        each
        for each in known
        if f"{each.certificate.serial:x}" == serial
        or name == each.certificate.subject
        or f"CN={name}" in each.certificate.subject.split(", ")
        or any(name == str(other.value) for other in each.certificate.names)
    )


def left_behind(
    known: Iterable[Entry], by_old: Iterable[Entry], now: datetime
) -> tuple[Entry, ...]:
    """Return the usable certificates of an old authority that no newer authority has replaced."""
    old = tuple(by_old)
    renewed = {
        each.certificate.subject
        for each in known
        if each not in old and each.state(now) in (State.VALID, State.ENDS_SOON)
    }
    return tuple(
        each
        for each in old
        if each.state(now) in (State.VALID, State.ENDS_SOON)
        and each.certificate.subject not in renewed
    )
