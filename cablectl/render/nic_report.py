"""Offload as a report: what `cablectl offload --format json` prints as its result."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from cablectl.linux.esp_offload import OffloadReport
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.wishes import Encapsulation, Offload

OffloadMode = Annotated[str, Meta(pattern="^(crypto|packet)$")]
OffloadVerdict = Annotated[str, Meta(pattern="^(crypto|packet|software|mixed|none)$")]


class OffloadedSa(Struct, frozen=True, kw_only=True):
    """An SA, and the NIC that offloads it; null is software."""

    spi: str
    source: str
    destination: str
    offload: OffloadMode | None
    device: str | None


class CableOffload(Struct, frozen=True, kw_only=True):
    """One cable: what the file asks for, what NIC and kernel can do, and where the SAs are."""

    cable: str
    asked: Offload | None
    encapsulation: Encapsulation | None
    device: str | None
    features: dict[str, bool]
    modules: dict[str, bool]
    sas: tuple[OffloadedSa, ...]
    verdict: OffloadVerdict
    reasons: tuple[str, ...]


class NicReport(Struct, frozen=True, kw_only=True):
    """The cables of a file, or of this host."""

    cables: tuple[CableOffload, ...]


def nic_report(reports: Iterable[OffloadReport]) -> NicReport:
    """Return the report of several cables."""
    return NicReport(cables=tuple(map(_cable, reports)))


def _cable(report: OffloadReport) -> CableOffload:
    return CableOffload(
        cable=report.cable,
        asked=report.asked,
        encapsulation=report.encapsulation,
        device=report.nic.device if report.nic else None,
        features=report.nic.features if report.nic else {},
        modules={report.module: report.loaded},
        sas=tuple(map(_sa, report.sas)),
        verdict=report.verdict,
        reasons=report.reasons,
    )


def _sa(sa: SecurityAssociation) -> OffloadedSa:
    return OffloadedSa(
        spi=sa.spi,
        source=sa.source,
        destination=sa.destination,
        offload=sa.offload or None,
        device=sa.device or None,
    )
