"""The directory of an authority: its certificate, its encrypted key, its CRL, and what it issued.

    ca.pem  ca-key.pem  crl.pem  issued/SERIAL.pem

While a new authority takes over, its files are beside those of the old one, with the ending .next.
There is no list of certificates besides the certificates, so nothing can contradict them.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import files, keys, new_files, trust
from cablectl.identity import authority, encoded, issued
from cablectl.identity.authority import Authority
from cablectl.identity.certificate import Certificate, CertificateError, RevocationList
from cablectl.identity.issued import Entry

NEXT = ".next"  # the ending of a file that replaces the one in use
AUTHORITY, KEY, CRL, ISSUED = "ca.pem", "ca-key.pem", "crl.pem", "issued"


class AuthorityDirectory(Struct, frozen=True, kw_only=True):
    """What an authority's directory holds, as far as no passphrase is needed.

    `following` is the new authority while it takes over.
    """

    path: Path
    certificate: Certificate
    following: Certificate | None
    crl: RevocationList
    following_crl: RevocationList | None
    entries: tuple[Entry, ...]

    @property
    def trusted(self) -> bytes:
        """The certificates of all authorities that gateways should trust, as PEM."""
        following = self.following.pem if self.following else b""
        return self.certificate.pem + following

    @property
    def newest(self) -> Certificate:
        """The authority that signs renewed certificates."""
        return self.following or self.certificate


def create(name: str, days: int, passphrase: bytes, now: datetime) -> AuthorityDirectory:
    """Make an authority in a new directory; UsageError if the directory has files already."""
    directory = _absolute(name)
    if os.path.lexists(directory) and not _is_empty(directory):
        raise UsageError(
            f"--ca: {directory} exists already", hint="choose another directory with --ca"
        )
    keys.refuse_unsafe(directory)
    if directory.exists():
        with keys.reported(directory):
            directory.rmdir()
    new_files.place(directory, _of_new(authority.new_authority(now, days), passphrase, now))
    return read(name)


def create_following(
    directory: AuthorityDirectory, days: int, passphrase: bytes, now: datetime
) -> None:
    """Make the authority that follows, beside the one that signs now."""
    if directory.following is not None:
        raise HostNotReadyError(
            f"a new authority, '{directory.following.subject}', is taking over already",
            hint="cablectl ca renew FILE --out DIR, then rotate on all gateways, then"
            " cablectl ca finish",
        )
    made = _of_new(authority.new_authority(now, days), passphrase, now)
    new_files.place(directory.path, {f"{name}{NEXT}": raw for name, raw in made.items()})


def finish(directory: AuthorityDirectory) -> None:
    """Put the new authority in the place of the old one; an interrupted run can be repeated."""
    for name in (KEY, CRL, AUTHORITY):
        later = directory.path / f"{name}{NEXT}"
        with keys.reported(later):
            if later.exists():
                later.replace(directory.path / name)


def read(name: str) -> AuthorityDirectory:
    """Return what a directory holds; UsageError if there is no authority in it."""
    path = _absolute(name)
    keys.refuse_unsafe(path)
    if not (path / AUTHORITY).exists():
        raise UsageError(
            f"--ca: {path} holds no authority",
            hint="cablectl ca init makes one; --ca names its directory",
        )
    later = path / f"{AUTHORITY}{NEXT}"
    certificate = _certificate(path / AUTHORITY)
    following = _certificate(later) if later.exists() else None
    crl, following_crl = _crls(path, following)
    revoked = {**crl.revoked, **(following_crl.revoked if following_crl else {})}
    issuers = {each.subject for each in (certificate, following) if each}  # no earlier authority
    every = map(_certificate, sorted((path / ISSUED).glob("[0-9a-f]*.pem")))
    known = [each for each in every if each.issuer in issuers]
    return AuthorityDirectory(
        path=path,
        certificate=certificate,
        following=following,
        crl=crl,
        following_crl=following_crl,
        entries=issued.entries(known, revoked),
    )


@contextmanager
def locked(name: str) -> Iterator[AuthorityDirectory]:
    """Keep every other run out of a directory; HostNotReadyError if another one is in it."""
    path = _absolute(name)
    read(name)  # its errors say more than those of the lock
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostNotReadyError(
                f"another cablectl uses {path}", hint="run the same command again later"
            ) from None
        yield read(name)
    finally:
        os.close(number)


def unlock(directory: AuthorityDirectory, certificate: Certificate, passphrase: bytes) -> Authority:
    """Return the authority that can sign; HostNotReadyError if the passphrase is wrong."""
    ending = NEXT if certificate == directory.following else ""
    path = directory.path / f"{KEY}{ending}"
    try:
        return authority.opened(certificate, _content(path), passphrase)
    except CertificateError as error:
        raise HostNotReadyError(f"{path}: {error.message}", hint=error.hint) from None


def record(directory: AuthorityDirectory, certificate: Certificate) -> Path:
    """Write a certificate among those that were issued; return its path."""
    path = directory.path / ISSUED / f"{certificate.serial:x}.pem"
    keys.make_directory(path.parent)
    keys.place(path, certificate.pem.decode().rstrip("\n"))
    return path


def crl_name(directory: AuthorityDirectory, certificate: Certificate) -> str:
    """Return the name of the revocation list that has a certificate if it is revoked."""
    following = directory.following
    return f"{CRL}{NEXT if following and certificate.issuer == following.subject else ''}"


def write_crl(directory: AuthorityDirectory, signer: Authority, crl: RevocationList) -> None:
    """Replace the revocation list of an authority."""
    name = crl_name(directory, signer.certificate)  # an authority is its own issuer
    new_files.exchange(directory.path / name, crl.pem)


def _of_new(made: Authority, passphrase: bytes, now: datetime) -> dict[str, bytes]:
    """Return the files of a new authority; its certificate, which makes it known, is the last."""
    return {
        KEY: authority.encrypted(made.key, passphrase),
        CRL: authority.revocation_list(made, {}, now).pem,
        AUTHORITY: made.certificate.pem,
    }


def _absolute(name: str) -> Path:
    if not name:
        raise UsageError("--ca: the name of the directory is empty")
    return Path(name).absolute()


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _certificate(path: Path) -> Certificate:
    try:
        return encoded.read_pem(_content(path))[0]
    except CertificateError as error:
        raise HostNotReadyError(f"{path}: {error.message}", hint=error.hint) from None


def _crls(
    path: Path, following: Certificate | None
) -> tuple[RevocationList, RevocationList | None]:
    """Return the revocation lists of the authority and of the one that follows."""
    names = [CRL, f"{CRL}{NEXT}"] if following and (path / f"{CRL}{NEXT}").exists() else [CRL]
    found = []
    for name in names:
        try:
            found.append(encoded.read_crl(_content(path / name)))
        except CertificateError as error:
            raise HostNotReadyError(f"{path / name}: {error.message}", hint=error.hint) from None
    return found[0], found[1] if len(found) > 1 else None


def _content(path: Path) -> bytes:
    """Return a file that nobody else can change; HostNotReadyError otherwise."""
    for message, hint in trust.of_key(path):
        raise HostNotReadyError(message, hint=hint)
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            return file.read(files.MAX_FILE)
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}", hint="restore the authority's directory from a backup"
        ) from None
    except UsageError as error:
        raise HostNotReadyError(error.message, hint=error.hint) from None
