"""A gateway's certificate in files and in NSS, pluto's own store: read, checked, and compared.

Anybody who can write one of the files chooses the peers. So the files and the directories above
them must be as safe as those of a key (`trust`). The command that imports them checks all this
again (`libreswan.nss`).
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.facts.expiry import Expiry, Role
from cablectl.facts.host_facts import Credential
from cablectl.host import files, trust
from cablectl.host.nss_store import Store
from cablectl.host.trust import Problem
from cablectl.identity.certificate import (
    Certificate,
    CertificateError,
    DnsName,
    IpName,
    PrivateKey,
    RevocationList,
    Rsa,
    SubjectName,
)
from cablectl.libreswan import nss, secrets_file
from cablectl.libreswan.authentication import key_type
from cablectl.model.cable import Cable
from cablectl.model.psk import NEXT
from cablectl.model.x509 import PREFIX, Cert, KeyType, pluto_identity

if TYPE_CHECKING:
    from cablectl.identity.certificate_checks import Presented

_Read = TypeVar("_Read")
_TOOLS = {
    "openssl": "openssl",
    "certutil": "libnss3-tools",
    "pk12util": "libnss3-tools",
    "crlutil": "libnss3-tools",
}
_FIELD = "ipsec.cert"


class Material(Struct, frozen=True, kw_only=True):
    """What the files of a certificate have, and what is wrong with them."""

    certificate: Certificate | None = None
    key: PrivateKey | None = None
    intermediates: tuple[Certificate, ...] = ()
    authorities: tuple[Certificate, ...] = ()
    crls: tuple[RevocationList, ...] = ()
    problems: tuple[Problem, ...] = ()


class Found(Struct, frozen=True):
    """The state of the mark and of NSS, the problems of the files, and warnings."""

    held: Credential
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    summary: str = ""  # the certificate in words
    expiries: tuple[Expiry, ...] = ()  # of the certificate and the authorities above it


def _in_words(own: Certificate | None) -> str:
    if own is None:
        return ""
    return f"the certificate '{own.subject}' ({own.kind}), valid until {own.not_after:%Y-%m-%d}"


class _UnreadableError(Exception):
    """A file can't be read, or has something else in it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


def finder(cert: Cert, store: Store) -> Callable[[Cable], Found]:
    """Return what finds the state of each cable; the files and NSS are read once."""
    now = datetime.now(UTC)
    material = _in_nss(cert, store) if cert.nickname else read(cert)
    common = (*_missing_tools(), *material.problems, *_clashes(cert, material, store))
    warnings, expiries = tuple(_warnings(material, store, now)), _expiries(material)

    def find(cable: Cable) -> Found:
        target = Path(secrets_file.path(cable))
        problems = (*trust.of_key(target), *common)
        if not common:
            problems += tuple(_wrong(cable, material, now))
        held = _held(cable, target, material, store)
        told = (*warnings, *map(_still_trusted, _removed(_mark(target), material, store)))
        return Found(held, problems, told, _in_words(material.certificate), expiries)

    return find


def read(cert: Cert) -> Material:
    """Return what the files have, the key included; a problem is one line without key material."""
    from cablectl.identity import encoded  # its library costs 40 ms, which other commands save

    paths = {"certificate": cert.certificate_path, "key": cert.key_path}
    if cert.pkcs12:
        paths = {"pkcs12": cert.pkcs12}
    paths |= {"authority": cert.authority_path}
    optional = {"crl": cert.crl, "passphrase_file": cert.passphrase_file}
    paths |= {name: path for name, path in optional.items() if path}
    paths = {name: _of_next(path) for name, path in paths.items()}
    try:
        raw = {name: _content(name, path) for name, path in paths.items()}
        secret = raw["passphrase_file"].strip(b"\r\n") if cert.passphrase_file else None
        part = _Reader(raw, paths)
        key: PrivateKey | None
        if cert.pkcs12:
            bundle = part("pkcs12", lambda text: encoded.read_pkcs12(text, secret))
            if not bundle.certificate or not bundle.key:
                what = "key" if bundle.certificate else "certificate of the key"
                raise _UnreadableError(
                    (f"{_FIELD}.pkcs12: {cert.pkcs12}: no {what}", "export it with both")
                )
            key, own, above = bundle.key, bundle.certificate, bundle.others
        else:
            own, *rest = part("certificate", encoded.read_pem)
            key, above = part("key", lambda text: encoded.read_key(text, secret)), tuple(rest)
        return Material(
            certificate=own,
            key=key,
            intermediates=above,
            authorities=part("authority", encoded.read_pem),
            crls=part("crl", encoded.read_crls) if cert.crl else (),
        )
    except _UnreadableError as error:
        return Material(problems=(error.problem,))


def _of_next(path: str) -> str:
    """Return the path of a next file, or that of the present one if there is no next one."""
    return path if os.path.lexists(path) else path.removesuffix(NEXT)


def adds_authority(cert: Cert) -> bool:
    """Tell whether the next files have an authority that the present ones don't have."""
    present = replace(cert, authority=cert.authority_path.removesuffix(NEXT))
    now, then = (read(each).authorities for each in (present, cert))
    return not {each.sha256 for each in then} <= {each.sha256 for each in now}


class _Reader:
    """Reads the content of a file, or names the field and the file of what can't be read."""

    def __init__(self, raw: dict[str, bytes], paths: dict[str, str]) -> None:
        self._raw, self._paths = raw, paths

    def __call__(self, name: str, reader: Callable[[bytes], _Read]) -> _Read:
        try:
            return reader(self._raw[name])
        except CertificateError as error:
            message = f"{_FIELD}.{name}: {self._paths[name]}: {error.message}"
            raise _UnreadableError((message, error.hint)) from None


def _content(name: str, path: str) -> bytes:
    """Return the content of a file that nobody else can write or, if it's secret, read."""
    for problem in trust.of_key(Path(path)):
        raise _UnreadableError(problem)
    try:
        with files.opened(path, os.O_NOFOLLOW) as file:
            mode = os.fstat(file.fileno()).st_mode
            if name in ("key", "pkcs12", "passphrase_file") and mode & 0o077:
                raise _UnreadableError(
                    (f"{path} can be read by others than root", f"chmod 600 {shlex.quote(path)}")
                )
            return file.read(files.MAX_FILE)
    except OSError as error:
        hint = f"check the path in {_FIELD}.{name} and its permissions: ls -ld {shlex.quote(path)}"
        raise _UnreadableError((f"{_FIELD}.{name}: {path}: {error.strerror}", hint)) from None
    except UsageError as error:
        problem = (f"{_FIELD}.{name}: {error.message}", "name a regular file there")
        raise _UnreadableError(problem) from None


def _in_nss(cert: Cert, store: Store) -> Material:
    """Return the certificate that NSS has under the file's nickname."""
    name = cert.nss_name
    if "u" not in store.trust.get(name, ""):
        what = "key" if name in store.trust else "certificate"
        hint = f"sudo certutil -L -d {store.directory} lists what is there"
        return Material(problems=((f"{_FIELD}.nickname: NSS has no {what} called '{name}'", hint),))
    return Material(certificate=next(iter(store.certificates(name)), None))


def _missing_tools() -> Iterator[Problem]:
    for tool, package in _TOOLS.items():
        if not shutil.which(tool):
            yield (
                f"{tool} is not installed, and auth: cert needs it",
                f"on Debian: apt install {package}",
            )
            return


def _clashes(cert: Cert, material: Material, store: Store) -> Iterator[Problem]:
    """Yield what NSS has under another name, or without trust."""
    if cert.nickname or material.certificate is None:
        return
    trusted = {each.sha256 for each in material.authorities}
    for name, flags in store.trust.items():
        if name.startswith(PREFIX) and name != cert.nss_name:
            continue
        prints = _prints(store, name)
        if name != cert.nss_name and material.certificate.sha256 in prints:
            yield (
                f"{_FIELD}.certificate: NSS has this certificate already, as '{name}'",
                f"write nickname: {name} instead of certificate, key, authority and crl",
            )
        elif prints & trusted and not _trusts(flags):
            yield (
                f"{_FIELD}.authority: NSS has '{name}', and doesn't trust it",
                f"sudo certutil -M -d {store.directory} -n {shlex.quote(name)} -t {nss.TRUST}",
            )


def _prints(store: Store, name: str) -> set[str]:
    """Return the fingerprints of what has a nickname.

    certutil prints all certificates of one subject; those with a nickname of their own are others.
    """
    if name.startswith(PREFIX) and "/" not in name:
        return {name.removeprefix(PREFIX)}
    prints = {each.sha256 for each in store.certificates(name)}
    return {each for each in prints if f"{PREFIX}{each}" not in store.trust}


def _has_crl(store: Store, name: str) -> bool:
    """Return whether NSS has a CRL of an authority; crlutil lists one nickname of its subject."""
    sha = name.removeprefix(PREFIX)
    listed = (each for other in store.with_crl for each in store.certificates(other))
    return name in store.with_crl or any(each.sha256 == sha for each in listed)


def _trusts(flags: str) -> bool:
    return not {"C", "T"}.isdisjoint(flags.partition(",")[0])


def _warnings(material: Material, store: Store, now: datetime) -> Iterator[str]:
    """Yield which authorities else pluto trusts, and which CRLs are outdated."""
    wanted = {each.sha256 for each in material.authorities}
    own = (name for name in store.trust if not name.startswith(PREFIX))
    for name, flags in ((name, store.trust[name]) for name in own) if wanted else ():
        if _trusts(flags) and not _prints(store, name) & wanted:
            yield (
                f"NSS also trusts the authority '{name}': pluto takes the peer's name from its"
                " certificates too"
            )
    if material.crls:
        from cablectl.identity import certificate_checks

        for problem, hint in certificate_checks.outdated(material.crls, now):
            yield f"{_FIELD}.crl: {problem}: {hint}"


def _removed(mark: nss.Mark | None, material: Material, store: Store) -> Iterator[Certificate]:
    """Yield the authorities that the running pluto trusts, although they are removed or will be."""
    wanted = {each.sha256 for each in material.authorities}
    listed = mark.authorities.items() if mark and wanted and store.pluto_runs else ()
    for sha, name in listed:
        if sha not in wanted and name.startswith(PREFIX) and _trusts(store.trust.get(name, "")):
            yield from (each for each in store.certificates(name) if each.sha256 == sha)
    yield from (each for each in store.removed if each.sha256 not in wanted)


def _still_trusted(removed: Certificate) -> str:
    return (
        f"pluto trusts the authority '{removed.subject}' until pluto is restarted, although"
        f" {_FIELD}.authority no longer has it: run sudo systemctl restart ipsec, then run connect"
        " again for every file of this host"
    )


def name_of(identity: str) -> SubjectName | None:
    """Return the name that a certificate has to have; None for a DN, which is its subject."""
    if "=" in identity:
        return None
    try:
        return IpName(ip_address(identity))
    except ValueError:
        return DnsName(identity)


def _wrong(cable: Cable, material: Material, now: datetime) -> Iterator[Problem]:
    """Yield what keeps the peer from taking the certificate."""
    own, end = material.certificate, cable.local
    if own is None:
        return
    wanted = end.identity or end.hostname
    name, kind = name_of(wanted), key_type(cable, end)
    if name is None and pluto_identity(wanted) != own.subject:
        yield (
            f"{_FIELD}: the certificate's subject is '{own.subject}', and the identity of"
            f" {end.cluster} is '{wanted}'",
            f"write identity: '{own.subject}', or issue another certificate",
        )
    has = KeyType.RSA if isinstance(own.kind, Rsa) else KeyType.ECDSA
    if has is not kind:
        yield (
            f"{_FIELD}: the certificate of {end.cluster} has a key of {own.kind}, and the file says"
            f" key_type: {kind}",
            f"write key_type: {has} at the endpoint in the file of both ends",
        )
    yield from ((f"{_FIELD}: {text}", hint) for text, hint in _of_chain(material, own, name, now))


def _of_chain(
    material: Material, own: Certificate, name: SubjectName | None, now: datetime
) -> tuple[Problem, ...]:
    from cablectl.identity import certificate_checks

    return certificate_checks.problems(_presented(material, own), name, now)


def _presented(material: Material, own: Certificate) -> "Presented":
    from cablectl.identity.certificate_checks import Presented

    # NSS alone knows the authorities of a certificate that isn't imported.
    roots = material.authorities or (own,)
    return Presented(
        leaf=own,
        key=material.key,
        intermediates=material.intermediates,
        roots=roots,
        crls=material.crls,
    )


def _expiries(material: Material) -> tuple[Expiry, ...]:
    """Return when the certificate and the authorities that it needs end."""
    if material.certificate is None:
        return ()
    from cablectl.identity import certificate_checks

    presented = _presented(material, material.certificate)
    own, *above = certificate_checks.Path.of(presented).certificates
    roles = (Role.GATEWAY, *(Role.AUTHORITY for _ in above))
    return tuple(
        Expiry(role, each.subject, int(each.not_after.timestamp()))
        for role, each in zip(roles, (own, *above), strict=True)
    )


def _mark(target: Path) -> nss.Mark | None:
    try:
        return nss.parse_mark(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _held(cable: Cable, target: Path, material: Material, store: Store) -> Credential:
    """Return what the cable's mark and NSS have, compared with the files."""
    mark = _mark(target)
    if mark is None:
        return Credential.OTHER if os.path.lexists(target) else Credential.ABSENT
    cert, own = cable.certificates, material.certificate
    pairs = secrets_file.pairs(cable)
    if own is None or mark.pairs != pairs or mark.certificates != {own.sha256: cert.nss_name}:
        return Credential.RENEWED
    if cable.beside and not (cable.detour or cable.next_key):
        return Credential.SAME  # a rotation has put the next certificate into NSS already
    above = {each.sha256 for each in (*material.authorities, *material.intermediates)}
    crls = {nss.fingerprint(each.der) for each in material.crls}
    complete = (
        (set(mark.authorities), set(mark.crls)) == (above, crls)
        and mark.names <= store.trust.keys()
        and all(_has_crl(store, name) for name in mark.crls.values())
        and own.sha256 in {each.sha256 for each in store.certificates(cert.nss_name)}
        and "u" in store.trust[cert.nss_name]  # its key is in NSS too
    )
    return Credential.SAME if complete else Credential.INCOMPLETE
