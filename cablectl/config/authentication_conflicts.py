"""Problems between the fields of authentication: pre-shared key or certificates, never both."""

from collections.abc import Iterator

from cablectl.config.reader import Problem
from cablectl.config.spec import Spec
from cablectl.config.values import field
from cablectl.model.wishes import DEFAULT_PSK_FILE, Endpoint, Ipsec, Mode
from cablectl.model.x509 import Auth, Cert

_FILES = ("certificate", "key", "pkcs12", "passphrase_file", "authority", "crl")


def conflicts(spec: Spec, ipsec: Ipsec) -> Iterator[Problem]:
    """Yield what contradicts the method by which the gateways authenticate."""
    endpoints = [(i, end) for i, end in enumerate(spec.endpoints or ()) if end is not None]
    if ipsec.auth is Auth.PSK:
        if ipsec.ppk and ipsec.ppk == ipsec.psk:
            yield Problem(
                ("ipsec", "ppk"),
                f"'{ipsec.ppk.path}' has the pre-shared key as well, so it adds nothing; name"
                " another file or directory",
            )
        yield from _without_certificates(ipsec, endpoints)
    if ipsec.auth is not Auth.CERT:  # also if it has a problem of its own
        return
    # A file that names a key has an object of its own, even if it names the default.
    if ipsec.psk is not None and ipsec.psk is not DEFAULT_PSK_FILE:
        yield Problem(("ipsec", "psk"), "psk has no effect with auth: cert; remove psk")
    if ipsec.ppk is not None:
        yield Problem(("ipsec", "ppk"), "not allowed with auth: cert; remove ppk")
    yield from _source(ipsec.cert or Cert())
    yield from _servers(spec, endpoints)
    yield from _twins(endpoints)


def _without_certificates(ipsec: Ipsec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    advice = "has no effect without auth: cert; remove it, or write auth: cert"
    if ipsec.cert is not None:
        yield Problem(("ipsec", "cert"), f"cert {advice}")
    for i, end in endpoints:
        for name, value in (("identity", end.identity), ("key_type", end.key_type)):
            if value is not None:
                yield Problem(("endpoints", i, name), f"{name} {advice}")


def _source(cert: Cert) -> Iterator[Problem]:
    """Find files beside the one source of the certificate."""
    given = [name for name in _FILES if getattr(cert, name)]
    if cert.nickname:
        for name in given:
            yield Problem(
                ("ipsec", "cert", name),
                f"{name} has no effect with nickname, which names what is in NSS; remove one",
            )
        return
    for name in ("certificate", "key"):
        if cert.pkcs12 and name in given:
            yield Problem(
                ("ipsec", "cert", name), f"not allowed with pkcs12, which has a {name}; remove one"
            )


def _servers(spec: Spec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find a server in mode tunnel, which needs a name of the client for each connection."""
    for i, end in endpoints:
        if end.preferred_server and spec.mode is Mode.TUNNEL:
            yield Problem(
                ("endpoints", i, "preferred_server"),
                "'true' is not allowed in mode tunnel with auth: cert: a server tells its client's"
                " connections by their names, and a certificate has one; remove it, or write auth:"
                " psk",
            )


def _twins(endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find two endpoints with one name, which could pose as each other."""
    first: dict[str, tuple[int, Endpoint]] = {}
    for i, end in endpoints:
        if not end.hostname:
            continue
        j, other = first.setdefault(end.certified.lower(), (i, end))
        # Equal hostnames are a problem with every method, and reported as such.
        by_hostname = not (end.identity or other.identity) and end.hostname == other.hostname
        if j != i and not by_hostname:
            yield Problem(
                ("endpoints", i, "identity" if end.identity else "hostname"),
                f"'{end.identity or end.hostname}' is the name in the certificate of"
                f" {field(('endpoints', j))} too; give each endpoint an identity of its own",
            )
