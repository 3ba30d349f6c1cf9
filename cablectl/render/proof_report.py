"""Proofs as a report: what `cablectl verify --format json` prints as its result."""

from collections.abc import Iterable

from msgspec import Struct

from cablectl.verification.proof import Claim, ClaimState, Evidence, proven


class ClaimReport(Struct, frozen=True, kw_only=True):
    """A claim: what was found, what was expected, and both in words."""

    claim: str
    state: ClaimState
    found: int
    expected: int
    text: str


class SaReport(Struct, frozen=True, kw_only=True):
    """An SA, and the bytes and packets that it counted while packets were sent."""

    spi: str
    source: str
    destination: str
    bytes: int
    packets: int


class CableProof(Struct, frozen=True, kw_only=True):
    """The claims of one cable: `proven` if none of them failed."""

    cable: str
    source: str
    target: str
    device: str
    proven: bool
    claims: tuple[ClaimReport, ...]
    sas: tuple[SaReport, ...]


class ProofReport(Struct, frozen=True, kw_only=True):
    """The proofs of all cables that were verified: `proven` if all of them are."""

    proven: bool
    proofs: tuple[CableProof, ...]


def proof_report(proofs: Iterable[CableProof]) -> ProofReport:
    """Return the report of all proofs."""
    all_proofs = tuple(proofs)
    return ProofReport(proven=all(proof.proven for proof in all_proofs), proofs=all_proofs)


def cable_proof(evidence: Evidence, claims: tuple[Claim, ...]) -> CableProof:
    """Return the proof of one cable."""
    return CableProof(
        cable=evidence.cable.remote.cable_name,
        source=evidence.flow.source,
        target=evidence.flow.target,
        device=evidence.flow.device,
        proven=proven(claims),
        claims=tuple(
            ClaimReport(
                claim=claim.name,
                state=claim.state,
                found=claim.found,
                expected=claim.expected,
                text=claim.text,
            )
            for claim in claims
        ),
        sas=tuple(
            SaReport(
                spi=sa.spi,
                source=sa.source,
                destination=sa.destination,
                bytes=sa.bytes,
                packets=sa.packets,
            )
            for sa in evidence.sas
        ),
    )
