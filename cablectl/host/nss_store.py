"""What is in NSS, pluto's own store of certificates, and what pluto has although NSS doesn't.

Once pluto has verified a certificate, NSS's cache in pluto keeps the authority above it for as long
as pluto runs. pluto asks this cache for its authorities, so it goes on to trust one that was
removed from NSS. No command of pluto's empties the cache (docs/libreswan.md).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from cablectl.host import pluto_process, probe
from cablectl.identity.certificate import Certificate, CertificateError
from cablectl.libreswan.nss import RUN
from cablectl.libreswan.pluto_commands import STATUS
from cablectl.model.x509 import PREFIX

_DEFAULT = "/var/lib/ipsec/nss"  # Debian's
_TRUST = r"[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*"


class Store(Struct, frozen=True, dict=True):
    """The nicknames in NSS, each with its trust, and those that have a CRL."""

    directory: str
    trust: dict[str, str] = {}
    with_crl: frozenset[str] = frozenset()
    pluto_runs: bool = False
    removed: tuple[Certificate, ...] = ()  # the authorities removed while this pluto runs

    def certificates(self, nickname: str) -> tuple[Certificate, ...]:
        """Return the certificates with a nickname: more than one if they have one subject."""
        known: dict[str, tuple[Certificate, ...]] = self.__dict__.setdefault("known", {})
        if nickname not in known:
            known[nickname] = _listed(self.directory, nickname)
        return known[nickname]


def _removed(pid: str) -> Iterator[Certificate]:
    for file in sorted(Path(RUN).glob(f"{PREFIX}*.{pid}")):
        from cablectl.identity import encoded

        try:
            found = encoded.read_pem(file.read_bytes())
        except (OSError, CertificateError):
            continue
        yield from (each for each in found if each.self_issued)  # pluto trusts no other


def _listed(directory: str, nickname: str) -> tuple[Certificate, ...]:
    from cablectl.identity import encoded  # its library costs 40 ms, which other commands save

    text = probe.if_any("certutil", "-L", "-d", directory, "-n", nickname, "-a")
    try:
        return encoded.read_pem(text.encode()) if text else ()
    except CertificateError:
        return ()


def read() -> Store:
    """Return what NSS has; empty if it can't be read."""
    directory = f"sql:{_directory()}"
    listed = probe.if_any("certutil", "-L", "-d", directory)
    crls = probe.if_any("crlutil", "-L", "-d", directory)
    trust, pid = dict(columns(listed, _TRUST)), pluto_process.pid()
    removed = (each for each in _removed(pid) if f"{PREFIX}{each.sha256}" not in trust)
    return Store(
        directory,
        trust,
        frozenset(name for name, _ in columns(crls, "CRL")),
        pluto_runs=bool(pid),
        removed=tuple(dict.fromkeys(removed)) if pid else (),
    )


def _directory() -> str:
    """Return the directory that pluto uses, or that `ipsec` was built with."""
    if used := re.search(r"\bnssdir=([^,\n]+)", probe.if_any(*STATUS)):
        return used[1]
    usage = probe.run("ipsec", "checknss", "--help")
    built = re.search(r"--nssdir ([^\]\s]+)\]", usage.stdout + usage.stderr)
    return built[1] if built else _DEFAULT


def columns(listed: str, last: str) -> Iterator[tuple[str, str]]:
    """Yield the nicknames that a tool of NSS lists, each with the text of the last column."""
    for line in listed.splitlines():
        if found := re.fullmatch(rf"(\S.*?) +({last}) *", line):
            yield found[1], found[2]
