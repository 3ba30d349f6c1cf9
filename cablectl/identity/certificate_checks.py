"""What keeps a certificate from being taken by the peer, found before pluto is asked.

The rules are those of RFC 4945 and of NSS's IPsec profile, which pluto uses. strongSwan doesn't
look at the key usage, but pluto at the other end does.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from cablectl.identity import signatures
from cablectl.identity.certificate import (
    Certificate,
    Ecdsa,
    KeyUsage,
    PrivateKey,
    RevocationList,
    Rsa,
    SubjectName,
)

Problem = tuple[str, str]  # what is wrong, and the hint

MIN_RSA = 2048  # bits (RFC 8247, section 4.1.1; pluto's limit in FIPS mode)
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those with which pluto signs (RFC 4754)
SIGNS = (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.NON_REPUDIATION)  # RFC 4945, section 5.1.3.2
# NSS 3.87 takes these for IPsec and refuses others (`vfychain -u 12 -p -p`).
FOR_IKE = {
    "1.3.6.1.5.5.7.3.17": "ipsecIKE",
    "1.3.6.1.5.5.8.2.1": "ikeEnd",
    "1.3.6.1.5.5.8.2.2": "ikeIntermediate",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.5": "ipsecEndSystem",
    "1.3.6.1.5.5.7.3.6": "ipsecTunnel",
    "1.3.6.1.5.5.7.3.7": "ipsecUser",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}
ANOTHER = "issue another certificate"


class Presented(Struct, frozen=True, kw_only=True):
    """What a gateway presents: its certificate, with everything that the proof of it needs.

    Without a `key`, nobody checks whether the key belongs to the certificate: so for a peer's.
    """

    leaf: Certificate
    key: PrivateKey | None = None
    intermediates: tuple[Certificate, ...] = ()
    roots: tuple[Certificate, ...]
    crls: tuple[RevocationList, ...] = ()


def problems(presented: Presented, name: SubjectName | None, now: datetime) -> tuple[Problem, ...]:
    """Return what keeps a certificate from being taken; `name` is what the peer asks for."""
    leaf, path = presented.leaf, Path.of(presented)
    return (
        *_of_key(leaf, presented.key),
        *(problem for each in path.certificates for problem in _of_kind(each)),
        *path.problems,
        *(problem for each in path.certificates for problem in _of_time(each, now)),
        *_of_use(leaf),
        *_of_name(leaf, name),
        *_revoked(path, presented.crls, now),
    )


def outdated(crls: Iterable[RevocationList], now: datetime) -> Iterator[Problem]:
    """Yield the revocation lists that should have been replaced; the cable works with them."""
    for crl in crls:
        if crl.next_update is not None and crl.next_update < now:
            yield (
                f"the revocation list of '{crl.issuer}' is outdated since {when(crl.next_update)}",
                "fetch the authority's current list",
            )


class Path(Struct, frozen=True):
    """The certificates from a leaf up to a root, and why it reaches none."""

    certificates: tuple[Certificate, ...]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, presented: Presented) -> "Path":
        """Return the path from the leaf to one of the roots."""
        path = [presented.leaf]
        if not presented.roots:
            hint = "name the file with the authority's certificate"
            return cls(tuple(path), (("no certificate of an authority is given", hint),))
        while path[-1] not in presented.roots:
            above = _issuer(path[-1], presented.roots) or _issuer(
                path[-1], [each for each in presented.intermediates if each not in path]
            )
            if above is None:
                return cls(tuple(path), (_broken(path, presented),))
            path.append(above)
        return cls(tuple(path), tuple(_of_authorities(path[1:])))


def _issuer(child: Certificate, among: Sequence[Certificate]) -> Certificate | None:
    """Return the certificate whose key signed another one."""
    named = [each for each in among if each.subject == child.issuer]
    return next((each for each in named if signatures.signed(child, each)), None)


def _broken(path: Sequence[Certificate], presented: Presented) -> Problem:
    """Return why no authority is found above the last certificate of a path."""
    last, others = path[-1], (*presented.roots, *presented.intermediates)
    which = _called(last)
    if any(each.subject == last.issuer for each in others if each != last):
        return (
            f"{which} isn't signed by the given authority '{last.issuer}'",
            "give the certificate of the authority that issued it: the name fits, the key doesn't",
        )
    if last.self_issued:
        return (
            f"{which} is signed by itself, not by a given authority",
            f"{ANOTHER}, signed by the authority",
        )
    if len(path) > 1:
        return (
            f"the chain ends at {which}: the certificate of its issuer '{last.issuer}' is missing",
            f"add the certificate of '{last.issuer}' to the chain",
        )
    roots = ", ".join(f"'{root.subject}'" for root in presented.roots)
    return (
        f"{which} is issued by '{last.issuer}', and the given authority is {roots}",
        f"give the certificate of '{last.issuer}', with any certificates in between,"
        " or a certificate of the given authority",
    )


def _of_authorities(path: Sequence[Certificate]) -> Iterator[Problem]:
    """Yield which certificates of a path may not sign others (RFC 5280, section 6.1.4)."""
    for each in path:
        usage = each.key_usage
        if not each.is_ca or (usage is not None and KeyUsage.KEY_CERT_SIGN not in usage):
            missing = "basicConstraints CA:TRUE" if not each.is_ca else "keyUsage keyCertSign"
            yield (
                f"{_called(each)} may not issue certificates: it lacks {missing}",
                "use a certificate of an authority",
            )


def _of_key(leaf: Certificate, key: PrivateKey | None) -> Iterator[Problem]:
    if key is not None and not key.belongs_to(leaf):
        yield (
            f"the private key ({key.kind}) doesn't belong to {_called(leaf)} ({leaf.kind})",
            "give the key with which this certificate was requested",
        )


def _of_kind(each: Certificate) -> Iterator[Problem]:
    """Yield why pluto can't use, or shouldn't use, a certificate's key."""
    match each.kind:
        case Rsa(bits) if bits < MIN_RSA:
            hint = f"{ANOTHER}, for a key of ECDSA P-256, or of RSA with {MIN_RSA} bits"
            yield f"{_called(each)}: RSA with {bits} bits is less than {MIN_RSA}", hint
        case Rsa():
            pass
        case Ecdsa(curve) if curve in CURVES:
            pass
        case _:
            hint = f"{ANOTHER}, for a key of ECDSA P-256, P-384 or P-521, or of RSA"
            yield f"{_called(each)}: pluto can't use a key of {each.kind}", hint


def _of_time(each: Certificate, now: datetime) -> Iterator[Problem]:
    if now > each.not_after:
        days = (now - each.not_after).days
        yield (
            f"{_called(each)} is expired since {when(each.not_after)}, {_days(days)} ago",
            "renew it",
        )
    if now < each.not_before:
        yield (
            f"{_called(each)} isn't valid before {when(each.not_before)}",
            "check this host's clock with `date`, or wait",
        )


def _of_use(leaf: Certificate) -> Iterator[Problem]:
    """Yield why a certificate isn't for a gateway."""
    if leaf.is_ca:
        yield (
            f"{_called(leaf)} is that of an authority, not of a gateway",
            "issue a certificate without basicConstraints CA:TRUE for the gateway",
        )
    if leaf.key_usage is not None and leaf.key_usage.isdisjoint(SIGNS):
        has = ", ".join(sorted(leaf.key_usage)) or "nothing"
        yield (
            f"{_called(leaf)}: its keyUsage has {has}, without digitalSignature, which IKE needs",
            f"{ANOTHER}, with keyUsage digitalSignature, or without keyUsage",
        )
    extended = leaf.extended_key_usage
    if extended is not None and extended.isdisjoint(FOR_IKE):
        yield (
            f"{_called(leaf)}: pluto refuses its extendedKeyUsage {', '.join(sorted(extended))}",
            f"{ANOTHER}, with extendedKeyUsage ipsecIKE or serverAuth, or without",
        )


def _of_name(leaf: Certificate, name: SubjectName | None) -> Iterator[Problem]:
    if name is None or any(each.matches(name) for each in leaf.names):
        return
    has = ", ".join(map(str, leaf.names)) or "no subjectAltName"
    yield (
        f"{_called(leaf)} isn't for {name}: it has {has}",
        f"{ANOTHER}, with the subjectAltName {name}, or change the name in the file",
    )


def _revoked(path: Path, crls: Sequence[RevocationList], now: datetime) -> Iterator[Problem]:
    """Yield what the revocation lists of each issuer on a path say."""
    for child, above in zip(path.certificates, path.certificates[1:], strict=False):
        for crl in (each for each in crls if each.issuer == child.issuer):
            if not signatures.signed_list(crl, above):
                yield (
                    f"the revocation list of '{crl.issuer}' isn't signed by the key of this issuer",
                    "fetch the authority's current list",
                )
                continue
            since = crl.revoked.get(child.serial)
            if since is not None and since <= now:
                yield f"{_called(child)} is revoked since {when(since)}", ANOTHER


def _called(each: Certificate) -> str:
    what = "authority" if each.is_ca else "certificate"
    names = ", ".join(map(str, each.names))
    return f"the {what} '{each.subject or names}'"


def when(time: datetime) -> str:
    """Return a time as a message shows it; all times of certificates are in UTC."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
