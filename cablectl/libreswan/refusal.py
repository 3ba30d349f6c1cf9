"""Why a negotiation failed, from what pluto prints and logs."""

import re
from collections.abc import Iterable

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """Why a negotiation failed, what to do about it, and pluto's own line."""

    reason: str
    remedy: str
    line: str


# pluto can't use any of this host's interfaces for the connection: it is unoriented.
_UNORIENTED = r"cannot identify ourselves|neither left=.* nor right=.* match an interface"

# A line about a negotiation of a connection to any address, and the answer that refuses a client.
_INSTANCE = r'"[^"]+"\[\d+\] \S+ #(?P<state>\d+): '
_ANSWER = r"responding to IKE_AUTH .* notification AUTHENTICATION_FAILED"

_PEER = "on the peer, then run connect again on both ends"
# What pluto says of certificates; the codes are those of NSS.
_OF_CERTIFICATES = (
    (
        r"certificate '[^']*' is expired or not yet valid",
        "the certificate of this host is expired or not yet valid",
        "renew it, or set this host's clock, then run connect again",
    ),
    (
        r"SEC_ERROR_REVOKED_CERTIFICATE",
        "the certificate of the peer is revoked",
        f"put another certificate into ipsec.cert.certificate {_PEER}",
    ),
    (
        # NSS takes a certificate up to 24 hours before it is valid.
        r"SEC_ERROR_EXPIRED_CERTIFICATE",
        "the certificate of the peer is expired or not yet valid",
        f"renew the certificate {_PEER}, and compare `date` on both",
    ),
    (
        r"SEC_ERROR_(?:UNKNOWN_ISSUER|UNTRUSTED_ISSUER|BAD_SIGNATURE|CA_CERT_INVALID)",
        "the certificate of the peer is of an authority that this host doesn't trust",
        "put the authority of both certificates into ipsec.cert.authority at both ends, then run"
        " connect again; Libreswan 4 looks for a new one when it has checked no certificate for"
        " five minutes, or is restarted",
    ),
    (
        r"subjectAltName extension does not match ID_\w+ '(?P<name>[^']*)'"
        r"|SubjectAltName does not match peer ID",
        "the certificate of the peer has another name than the file gives to the peer",
        "write the name in the certificate as the endpoint's identity in the file of both ends",
    ),
    (
        r"no certificate matched (?P<type>RSA|ECDSA)\b.* and '(?P<name>[^']*)'",
        "the certificate of the peer is not for {name} with a key of {type}",
        "write the key_type of each endpoint in the file of both ends, as its certificate has it",
    ),
    (
        r"certificate .* invalid: (?P<code>SEC_ERROR_\w+)|X509: certificate payload rejected",
        "pluto on this host refuses the certificate of the peer",
        "look at the peer's certificate: openssl x509 -noout -text -in FILE",
    ),
    (
        r"private key not found|private key matching .* not found",
        "pluto on this host has no key of the certificate",
        "run connect on this host: it imports the certificate with its key",
    ),
)
# The most specific pattern comes first: pluto also logs the consequences of a cause.
# A reason may have the groups of its pattern in braces.
_REFUSALS = (
    *_OF_CERTIFICATES,
    (
        r"FIPS(?: Error)?: .*PSK length of \d+ bytes is too short",
        "the pre-shared key is too short for FIPS mode",
        "make a key with `cablectl secret new FILE`, copy it to both ends, then run connect again",
    ),
    (
        r"no PSK found|No matching PSK found",
        "pluto on this host has no pre-shared key for the peer",
        "run connect on this host: it writes the secrets file, and pluto reads it",
    ),
    (
        r"connection requires PPK, but we didn't find one",
        "pluto on this host has no PPK for the peer",
        "run connect on this host: it writes the secrets file, and pluto reads it",
    ),
    (
        r"Requested PPK_ID not found and connection requires a valid PPK"
        r"|has ppk=insist but peer does not support PPK",
        "the peer has no PPK, or one for other clusters",
        "write the same ipsec.ppk in the file of both ends, then run connect again on both",
    ),
    (
        # In an answer of 4.x to IKE_AUTH.
        r"ignored received PPK_IDENTITY|failed to receive PPK confirmation"
        r"|received PPK_IDENTITY but connection does not allow PPK",
        "one end asks for a PPK, the other one has none",
        "write the same ipsec.ppk in the file of both ends, then run connect again on both",
    ),
    (
        r"AUTHENTICATION_FAILED|[Aa]uthentication failed",
        "authentication failed",
        "put the same pre-shared key on both ends, and the same PPK if the file has one, then run"
        " connect again; with auth: cert, the log of the peer's pluto says why it refuses this"
        " host's certificate",
    ),
    (
        r"(?:dictates|requires) T(?:ransport|unnel) Mode,? but",
        "one end is in transport mode, the other in tunnel mode",
        "set the same mode at both ends; transport mode on Libreswan 5 needs whack --transport",
    ),
    (
        r"skipped interface (?P<device>\S+) as it does not have nic-offload support",
        "{device} has no ESP offload, so pluto doesn't use it for this connection",
        "write offload: auto in the file, then run connect again",
    ),
    (
        _UNORIENTED,
        "pluto has neither of the connection's addresses",
        "check that `ip address` lists the local address, then: sudo ipsec whack --listen",
    ),
    (r"need --listen", "pluto isn't listening", "sudo ipsec whack --listen"),
    (
        # 5.4 names the kernel's message, earlier releases say Add SA. The last line follows from
        # either at the end whose kernel it is.
        r"Function not implemented|netlink response for (?:Add SA|XFRM_MSG_(?:UPD|NEW)SA) "
        r"|CHILD SA failed: TEMPORARY_FAILURE",
        "the kernel refused the SA",
        "boot a kernel that has ESP and the ciphers in ipsec.esp",
    ),
    (
        r"INVALID_KE_PAYLOAD response suggesting (?P<peer>\S+) instead of (?P<own>\S+)",
        "the ends have different PFS groups: {peer} on the peer, {own} on this host",
        "write the same ipsec.pfs_group and ipsec.esp in the file of both ends",
    ),
    (
        # Up to 4.15, and what the responder logs. In IKE_SA_INIT it is unencrypted, and no failure.
        r"(?:error| encrypted) notification INVALID_KE_PAYLOAD",
        "the ends have different PFS groups",
        "write the same ipsec.pfs_group and ipsec.esp in the file of both ends",
    ),
    (
        r"TS_UNACCEPTABLE|compatible Traffic Selectors",
        "the peer has different traffic selectors",
        "use the same mode, overlay, overlay port and subnets at both ends; if they are the same,"
        " the peer's kernel may lack ESP: run `cablectl doctor` there",
    ),
    (
        # 5.0 to 5.3 don't name the notification in an answer to IKE_AUTH (seen).
        r"TEMPORARY_FAILURE|response missing v2SA, v2TSi or v2TSr",
        "the peer can't install the SA: its kernel lacks ESP or the cipher, or pluto there is busy",
        "run `cablectl doctor` on the peer, then connect again",
    ),
    (
        r"INVALID_SYNTAX",
        "the peer found a part missing in a message, for example the key exchange of PFS",
        "write the same ipsec.pfs_group and ipsec.esp in the file of both ends; the log of the"
        " peer's pluto says which part",
    ),
    (
        r"no suitable connection found",
        "the peer asks for a connection that this host doesn't have",
        "copy the same file to both ends, then run connect again on both",
    ),
    (
        r"NO_PROPOSAL_CHOSEN",
        "the peer accepts none of our proposals, or has no such connection",
        "run connect on the peer with the same file; if one end has Libreswan 4 and the other"
        " Libreswan 5 or strongSwan, set esn, maybe pfs_group too (docs/libreswan.md)",
    ),
)


def parse_refusal(output: str) -> Refusal | None:
    """Return why a negotiation failed, from what pluto printed or logged; None if it doesn't say.

    The result is the most specific reason, with the last line that states it.
    """
    return _first(_REFUSALS, output)


def parse_certificate_refusal(log: str) -> Refusal | None:
    """Return why pluto refused a certificate; None if the log doesn't say that it did."""
    return _first(_OF_CERTIFICATES, log)


def without_strangers(log: str) -> str:
    """Return the log without the refusals of clients that no connection of this host expects.

    pluto logs them in the name of the first connection to any address that it found. 5.x gives no
    cause, and 4.x only that the identity is another one; every other refusal has its cause.
    """
    lines = [(line, re.search(_INSTANCE, line)) for line in log.splitlines()]
    known = {
        instance["state"]
        for line, instance in lines
        if instance and parse_refusal(line) and not re.search(_ANSWER, line)
    }
    return "\n".join(
        line
        for line, instance in lines
        if not (instance and re.search(_ANSWER, line)) or instance["state"] in known
    )


def _first(refusals: Iterable[tuple[str, str, str]], output: str) -> Refusal | None:
    newest_first = output.splitlines()[::-1]
    for pattern, reason, remedy in refusals:
        for line in newest_first:
            if match := re.search(pattern, line):
                return Refusal(reason.format_map(match.groupdict()), remedy, line)
    return None


def is_unoriented(output: str) -> bool:
    """Tell whether pluto says that it can use none of this host's interfaces."""
    return re.search(_UNORIENTED, output) is not None
