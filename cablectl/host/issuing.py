"""Issues, renews and revokes certificates: the files of the gateways, and the authority's own."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import authority_files, new_files
from cablectl.host.authority_files import AUTHORITY, CRL, NEXT, AuthorityDirectory
from cablectl.identity import authority, issued
from cablectl.identity.authority import Authority, Issued, Request
from cablectl.identity.certificate import CertificateError
from cablectl.identity.issued import Done, Entry, Outcome, State
from cablectl.model.network import MAX_LISTED
from cablectl.model.wishes import Endpoint
from cablectl.model.x509 import KeyType

# The names under which a file of cablectl looks for them by default, in /etc/cablectl.
OWN, OWN_KEY = "cert.pem", "key.pem"


class Terms(Struct, frozen=True, kw_only=True):
    """When a new certificate begins, how long it lasts, its key, and where its files go.

    Without a `kind`, the key of an endpoint is as the endpoint says, or else `default`.
    """

    now: datetime
    days: int
    kind: KeyType | None
    default: KeyType
    out: Path


def requests(ends: Iterable[Endpoint]) -> dict[Endpoint, Request]:
    """Return what each gateway's certificate is for; UsageError if no certificate can be so."""
    try:
        return {end: authority.request(end.cluster, end.hostname, end.identity) for end in ends}
    except CertificateError as error:
        raise UsageError(error.message, hint=error.hint) from None


def issue(
    directory: AuthorityDirectory, ends: Sequence[Endpoint], terms: Terms, passphrase: bytes
) -> Iterator[Done]:
    """Issue a certificate to each gateway that has none that can be used.

    All directories are checked before the first certificate is issued.
    """
    wanted = requests(ends)
    known = {end: issued.current(directory.entries, wanted[end], terms.now) for end in wanted}
    signer = _signer(directory, passphrase, terms, following=False)
    _refuse_existing([terms.out / end.cluster for end in wanted if known[end] is None], "")
    for end, entry in known.items():
        where = terms.out / end.cluster
        if entry is not None:
            place = str(where) if (where / OWN).exists() else None
            yield Done(cluster=end.cluster, entry=entry, outcome=Outcome.KEPT, directory=place)
            continue
        made = _make(directory, signer, end, wanted[end], terms, "")
        yield Done(cluster=end.cluster, entry=made, outcome=Outcome.ISSUED, directory=str(where))


def renew(
    directory: AuthorityDirectory,
    ends: Sequence[Endpoint],
    terms: Terms,
    passphrase: bytes,
    within: timedelta | None,
) -> Iterator[Done]:
    """Issue the next certificate to each gateway whose certificate ends within a time.

    Without a time it is every gateway. While a new authority takes over, a certificate of the old
    one is renewed in any case. A gateway without a certificate is left out; UsageError if no
    gateway has one.
    """
    wanted = requests(ends)
    found = {end: _newest(directory, wanted[end]) for end in wanted}
    known = {end: entry for end, entry in found.items() if entry is not None}
    if not known:
        first = next(iter(wanted))
        raise UsageError(
            f"{first.cluster} has no certificate of this authority for {_names(wanted[first])}",
            hint="cablectl ca issue FILE --out DIR",
        )
    signer = _signer(directory, passphrase, terms, following=True)
    due = [end for end in known if _is_due(known[end], signer, terms.now, within)]
    _refuse_existing([terms.out / end.cluster for end in due], NEXT)
    for end, entry in known.items():
        where = terms.out / end.cluster
        if end not in due:
            yield Done(cluster=end.cluster, entry=entry, outcome=Outcome.KEPT)
            continue
        made = _make(directory, signer, end, wanted[end], terms, NEXT)
        yield Done(cluster=end.cluster, entry=made, outcome=Outcome.RENEWED, directory=str(where))


def revoke(
    directory: AuthorityDirectory, name: str, passphrase: bytes, now: datetime
) -> tuple[Done, ...]:
    """Revoke the certificates of a name or serial number, and write the revocation lists.

    UsageError if there is no such certificate that hasn't ended.
    """
    found = [
        each
        for each in issued.named(directory.entries, name)
        if each.state(now) is not State.EXPIRED
    ]
    if not found:
        raise UsageError(
            f"{name!r}: no certificate that hasn't ended has this name or serial number",
            hint="cablectl ca list",
        )
    since = now.replace(microsecond=0)
    new = {each.certificate.serial: since for each in found if each.revoked is None}
    for certificate, crl in (
        (directory.certificate, directory.crl),
        (directory.following, directory.following_crl),
    ):
        own = [each.certificate for each in found if crl and each.certificate.issuer == crl.issuer]
        more = {each.serial: since for each in own if each.serial in new}
        if certificate is not None and crl is not None and more:
            signer = authority_files.unlock(directory, certificate, passphrase)
            made = authority.revocation_list(signer, {**crl.revoked, **more}, now)
            authority_files.write_crl(directory, signer, made)
    return tuple(
        Done(entry=each, outcome=Outcome.KEPT)
        if each.revoked
        else Done(entry=replace(each, revoked=since), outcome=Outcome.REVOKED)
        for each in found
    )


def finish(directory: AuthorityDirectory, now: datetime) -> None:
    """Let the new authority take over; UsageError if a gateway still needs the old one."""
    if directory.following is None:
        raise UsageError(
            "no new authority is taking over", hint="cablectl ca renew --authority makes one"
        )
    old = [
        each for each in directory.entries if each.certificate.issuer != directory.following.subject
    ]
    left = issued.left_behind(directory.entries, old, now)
    if left:
        subjects = sorted({each.certificate.subject for each in left})
        more = f" and {len(subjects) - MAX_LISTED} more" if len(subjects) > MAX_LISTED else ""
        raise UsageError(
            f"the new authority has issued nothing yet to {', '.join(subjects[:MAX_LISTED])}{more}",
            hint="cablectl ca renew FILE --out DIR, and rotate on all gateways; or revoke them",
        )
    authority_files.finish(directory)


def _newest(directory: AuthorityDirectory, wanted: Request) -> Entry | None:
    """Return the newest certificate of a gateway that isn't revoked, also if it has expired."""
    found = [
        each for each in directory.entries if wanted.fits(each.certificate) and each.revoked is None
    ]
    return found[-1] if found else None


def _is_due(entry: Entry, signer: Authority, now: datetime, within: timedelta | None) -> bool:
    if within is None or entry.certificate.issuer != signer.certificate.subject:
        return True
    return entry.certificate.not_after - now <= within


def _names(wanted: Request) -> str:
    return ", ".join(map(str, wanted.names))


def _signer(
    directory: AuthorityDirectory, passphrase: bytes, terms: Terms, *, following: bool
) -> Authority:
    """Return the authority that signs; HostNotReadyError if it has ended."""
    certificate = directory.newest if following else directory.certificate
    if certificate.not_after <= terms.now:
        raise HostNotReadyError(
            f"the authority '{certificate.subject}' has ended", hint="cablectl ca renew --authority"
        )
    return authority_files.unlock(directory, certificate, passphrase)


def _refuse_existing(places: Iterable[Path], ending: str) -> None:
    for place in places:
        new_files.refuse_existing(place, dict.fromkeys(_file_names(ending), b""))


def _file_names(ending: str) -> tuple[str, ...]:
    return tuple(f"{name}{ending}" for name in (OWN_KEY, AUTHORITY, CRL, OWN))


def _make(
    directory: AuthorityDirectory,
    signer: Authority,
    end: Endpoint,
    wanted: Request,
    terms: Terms,
    ending: str,
) -> Entry:
    """Issue a certificate, note it, and write all that its gateway gets."""
    kind = terms.kind or end.key_type or terms.default
    made = authority.issue(signer, wanted, kind, terms.now, terms.days)
    with _noted(directory, made):
        new_files.place(terms.out / end.cluster, _contents(directory, signer, made, ending))
    return Entry(certificate=made.certificate)


@contextmanager
def _noted(directory: AuthorityDirectory, made: Issued) -> Iterator[None]:
    """Note a certificate before a gateway gets it: nobody could revoke an unknown one."""
    path = authority_files.record(directory, made.certificate)
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def _contents(
    directory: AuthorityDirectory, signer: Authority, made: Issued, ending: str
) -> dict[str, bytes]:
    """Return the files that one gateway gets. The last one is its certificate."""
    later = signer.certificate == directory.following and directory.following_crl
    crl = directory.following_crl if later else directory.crl
    values = (
        made.key.pem,
        directory.trusted,
        crl.pem if crl else b"",
        made.certificate.pem,
    )
    return dict(zip(_file_names(ending), values, strict=True))
