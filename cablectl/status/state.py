"""Cable and facts become the cable's state."""

from msgspec.structs import replace

from cablectl.facts.expiry import Expiry
from cablectl.facts.host_facts import Facts, Pluto
from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike
from cablectl.linux import esp_offload, guard, iproute, mtu, xfrm
from cablectl.linux.overlay.registry import headers_of
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import Mode, OverlayWish
from cablectl.status import faults
from cablectl.status.report import (
    CableState,
    CertificateState,
    ChildSaState,
    ConnectionState,
    FdbEntry,
    GuardState,
    OverlayState,
    StatusReport,
    Verdict,
)

Sas = tuple[SecurityAssociation, ...]


def of(cable: Cable, facts: Facts, now: float) -> CableState:
    """Return the state of a cable; `now` is in seconds since 1970."""
    sas = xfrm.sas_of(cable.connections, facts.policies, facts.sas)
    largest = _largest_mtu(cable, facts, sas, cable.overlay) if cable.overlay else None
    foreign, missing = faults.foreign(cable, facts), faults.missing(cable, facts, largest)
    reasons = tuple(foreign)
    verdict = Verdict.FOREIGN
    if not reasons:
        reasons = (*missing, *faults.expired(facts, now))
        verdict = _verdict(cable, facts, sas, whole=not reasons)
    return CableState(
        cable=cable.remote.cable_name,
        verdict=verdict,
        reasons=reasons,
        peer=str(cable.remote_host),
        mode=cable.mode,
        ike=_ike(cable, facts),
        connections=tuple(_connection(connection, facts, now) for connection in cable.connections),
        overlay=_overlay(cable, facts, cable.overlay, largest) if cable.overlay else None,
        guard=_guard(cable, facts) if cable.guarded or facts.guard else None,
        offload=esp_offload.verdict(sas),
        certificates=tuple(_certificate(expiry, now) for expiry in facts.expiries),
    )


def unknown(cable: str, verdict: Verdict, reason: str) -> CableState:
    """Return the state of a cable of which only the name is known."""
    return CableState(
        cable=cable,
        verdict=verdict,
        reasons=(reason,),
        peer=None,
        mode=None,
        ike=Ike.NONE,
        connections=(),
        overlay=None,
        guard=None,
        offload=esp_offload.verdict(()),
        certificates=(),
    )


def rated(before: StatusReport, after: StatusReport) -> StatusReport:
    """Return the later report with the rate of each SA since the earlier one, in bytes a second."""
    seconds = after.time - before.time
    old = {
        (sa.spi_in, sa.spi_out): sa
        for cable in before.cables
        for connection in cable.connections
        for sa in connection.child_sas
    }

    def with_rates(sa: ChildSaState) -> ChildSaState:
        earlier = old.get((sa.spi_in, sa.spi_out))
        if earlier is None or seconds <= 0:
            return sa
        return replace(
            sa,
            rate_in=max(0, sa.bytes_in - earlier.bytes_in) / seconds,
            rate_out=max(0, sa.bytes_out - earlier.bytes_out) / seconds,
        )

    def of_connection(connection: ConnectionState) -> ConnectionState:
        return replace(connection, child_sas=tuple(map(with_rates, connection.child_sas)))

    def of_cable(cable: CableState) -> CableState:
        return replace(cable, connections=tuple(map(of_connection, cable.connections)))

    return replace(after, cables=tuple(map(of_cable, after.cables)))


def _verdict(cable: Cable, facts: Facts, sas: Sas, *, whole: bool) -> Verdict:
    if cable.mode is Mode.NONE:
        carries = facts.overlay.link is not None and facts.overlay.link.up
    elif facts.pluto is Pluto.RUNNING:
        carries = any(facts.is_up(connection.name) for connection in cable.connections)
    else:
        carries = bool(sas)  # SAs outlive a killed pluto
    if carries:
        return Verdict.UP if whole else Verdict.DEGRADED
    return Verdict.CONNECTING if _ike(cable, facts) is Ike.NEGOTIATING else Verdict.DOWN


def _ike(cable: Cable, facts: Facts) -> Ike:
    found = {entry.ike for entry in facts.loaded(cable).values()}
    return next((ike for ike in (Ike.ESTABLISHED, Ike.NEGOTIATING) if ike in found), Ike.NONE)


def _connection(connection: Connection, facts: Facts, now: float) -> ConnectionState:
    loaded = facts.connections.get(connection.name)
    return ConnectionState(
        name=connection.name,
        protects=connection.protects,
        loaded=loaded is not None,
        routed=loaded is not None and loaded.routed,
        up=loaded is not None and loaded.up,
        child_sas=tuple(_child_sa(sa, now) for sa in (loaded.child_sas if loaded else ())),
    )


def _certificate(expiry: Expiry, now: float) -> CertificateState:
    return CertificateState(
        role=expiry.role,
        subject=expiry.subject,
        not_after=expiry.not_after,
        days_left=expiry.days_left(now),
        urgency=expiry.urgency(now),
    )


def _child_sa(sa: pluto.ChildSa, now: float) -> ChildSaState:
    return ChildSaState(
        spi_in=sa.spi_in,
        spi_out=sa.spi_out,
        age=max(0, int(now) - sa.added),
        rekey_in=sa.rekey_in,
        bytes_in=sa.bytes_in,
        bytes_out=sa.bytes_out,
        rate_in=None,
        rate_out=None,
    )


def _guard(cable: Cable, facts: Facts) -> GuardState:
    dropped_in, dropped_out = guard.dropped(facts.guard)
    return GuardState(
        table=guard.name(cable),
        whole=guard.is_intact(cable, facts.guard),
        dropped_in=dropped_in,
        dropped_out=dropped_out,
    )


def _overlay(cable: Cable, facts: Facts, wanted: OverlayWish, largest: int | None) -> OverlayState:
    present, link = facts.overlay, facts.overlay.link
    return OverlayState(
        kind=wanted.kind,
        device=wanted.device,
        up=link is not None and link.up,
        mtu=link.mtu if link else None,
        largest_mtu=largest,
        vtep=str(cable.local_vtep),
        peer_vtep=str(cable.remote_vtep.ip),
        fdb=tuple(FdbEntry(*entry) for entry in sorted(present.fdb)),
        routes=tuple(sorted(r[0] for r in present.routes if not iproute.leads_to_underlay(r))),
    )


def _largest_mtu(cable: Cable, facts: Facts, sas: Sas, wanted: OverlayWish) -> int | None:
    """Return the largest MTU that path and SAs allow, in bytes; None without a known cipher."""
    version, headers = cable.local.address.version, headers_of(cable, wanted)
    if cable.mode is Mode.NONE:
        return mtu.clear(facts.path_mtu, headers, version=version)
    return xfrm.largest(sas, facts.path_mtu, headers, version)
