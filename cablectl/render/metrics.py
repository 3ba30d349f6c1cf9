"""The state of cables as metrics for Prometheus. Only this module names a metric."""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from cablectl.status.report import (
    CableState,
    ChildSaState,
    ConnectionState,
    HealthState,
    StatusReport,
    Verdict,
)

Samples = Iterator[tuple[dict[str, str], float | None]]  # labels and value; None has no sample


class Metric(Struct, frozen=True):
    """A metric: name, type, meaning, and the samples of a report."""

    name: str
    kind: str
    text: str
    samples: Callable[[StatusReport], Samples]


class _Report(Collector):
    """What the library asks for the families of one report."""

    def __init__(self, report: StatusReport) -> None:
        self._report = report

    def collect(self) -> Iterable[Family]:
        """Return the families of the report."""
        return families(self._report)


def as_metrics(report: StatusReport) -> str:
    """Return the report in Prometheus's text format 0.0.4, each metric with its HELP and TYPE."""
    registry = CollectorRegistry()
    registry.register(_Report(report))
    return generate_latest(registry).decode()


def families(report: StatusReport) -> Iterator[Family]:
    """Yield a family for each metric, also for one without a sample."""
    for metric in METRICS:
        family = Family(metric.name.removesuffix("_total"), metric.text, metric.kind)
        for labels, value in metric.samples(report):
            if value is not None:
                family.add_sample(metric.name, labels, value)
        yield family


def _of_cables(samples: Callable[[CableState], Samples]) -> Callable[[StatusReport], Samples]:
    """Return the samples of every cable, with the cable's name as a label."""

    def of_report(report: StatusReport) -> Samples:
        for cable in report.cables:
            for labels, value in samples(cable):
                yield {"cable": cable.cable, **labels}, value

    return of_report


def _time(report: StatusReport) -> Samples:
    yield {}, report.time


def _xfrm_errors(report: StatusReport) -> Samples:
    for counter, errors in (report.xfrm_errors or {}).items():
        yield {"counter": counter}, errors


def _states(cable: CableState) -> Samples:
    for verdict in Verdict:
        yield {"state": verdict}, cable.verdict is verdict


def _info(cable: CableState) -> Samples:
    kind = cable.overlay.kind if cable.overlay else ""
    yield (
        {
            "peer": cable.peer or "",
            "mode": cable.mode or "",
            "overlay": kind,
            "offload": cable.offload,
        },
        1,
    )


def _of_connections(
    value: Callable[[ConnectionState], float | None],
) -> Callable[[StatusReport], Samples]:
    def samples(cable: CableState) -> Samples:
        for connection in cable.connections:
            yield {"connection": connection.name}, value(connection)

    return _of_cables(samples)


def _of_newest(value: Callable[[ChildSaState], float | None]) -> Callable[[StatusReport], Samples]:
    def of_connection(connection: ConnectionState) -> float | None:
        return value(connection.child_sas[-1]) if connection.child_sas else None

    return _of_connections(of_connection)


def _last_handshake(cable: CableState) -> Samples:
    ages = [sa.age for connection in cable.connections for sa in connection.child_sas]
    yield {}, min(ages, default=None)


def _overlay_up(cable: CableState) -> Samples:
    if cable.overlay:
        yield {"device": cable.overlay.device}, cable.overlay.up


def _overlay_mtu(cable: CableState) -> Samples:
    if cable.overlay:
        yield {"device": cable.overlay.device}, cable.overlay.mtu


def _guard_up(cable: CableState) -> Samples:
    if cable.guard:
        yield {}, cable.guard.whole


def _dropped(cable: CableState) -> Samples:
    if cable.guard:
        yield {"direction": "in"}, cable.guard.dropped_in
        yield {"direction": "out"}, cable.guard.dropped_out


def _expiry(cable: CableState) -> Samples:
    for certificate in cable.certificates:
        labels = {"certificate": certificate.role, "subject": certificate.subject}
        yield labels, certificate.not_after


def _of_health(value: Callable[[HealthState], float | None]) -> Callable[[StatusReport], Samples]:
    def samples(cable: CableState) -> Samples:
        yield {}, value(cable.health) if cable.health else None

    return _of_cables(samples)


def _repairs(cable: CableState) -> Samples:
    if cable.repairs:
        for kind, count in cable.repairs.counts.items():
            yield {"kind": kind}, count


def _last_repair(cable: CableState) -> Samples:
    yield {}, cable.repairs.last if cable.repairs else None


METRICS = (
    Metric(
        "cablectl_cable_state",
        "gauge",
        "1 for the state of the cable, 0 for every other state.",
        _of_cables(_states),
    ),
    Metric(
        "cablectl_cable_info",
        "gauge",
        "Peer, mode, overlay and offload of the cable; always 1.",
        _of_cables(_info),
    ),
    Metric(
        "cablectl_connection_up",
        "gauge",
        "Whether the connection has a Child SA.",
        _of_connections(lambda connection: connection.up),
    ),
    Metric(
        "cablectl_connection_routed",
        "gauge",
        "Whether trap policies are installed.",
        _of_connections(lambda connection: connection.routed),
    ),
    Metric(
        "cablectl_received_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs received; a rekeying starts it at 0 again.",
        _of_connections(lambda connection: sum(sa.bytes_in for sa in connection.child_sas)),
    ),
    Metric(
        "cablectl_sent_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs sent; a rekeying starts it at 0 again.",
        _of_connections(lambda connection: sum(sa.bytes_out for sa in connection.child_sas)),
    ),
    Metric(
        "cablectl_child_sa_age_seconds",
        "gauge",
        "Age of the connection's newest Child SA.",
        _of_newest(lambda sa: sa.age),
    ),
    Metric(
        "cablectl_child_sa_rekey_seconds",
        "gauge",
        "Seconds until another Child SA replaces the newest one.",
        _of_newest(lambda sa: sa.rekey_in),
    ),
    Metric(
        "cablectl_last_handshake_seconds",
        "gauge",
        "Seconds since the cable's newest Child SA was negotiated.",
        _of_cables(_last_handshake),
    ),
    Metric(
        "cablectl_overlay_up",
        "gauge",
        "Whether the overlay's device is up.",
        _of_cables(_overlay_up),
    ),
    Metric(
        "cablectl_overlay_mtu_bytes",
        "gauge",
        "MTU of the overlay's device.",
        _of_cables(_overlay_mtu),
    ),
    Metric(
        "cablectl_guard_up",
        "gauge",
        "Whether the guard's table is loaded with all its rules.",
        _of_cables(_guard_up),
    ),
    Metric(
        "cablectl_guard_dropped_packets_total",
        "counter",
        "Packets that the guard dropped.",
        _of_cables(_dropped),
    ),
    Metric(
        "cablectl_health_rtt_seconds",
        "gauge",
        "Mean RTT of the last echoes through the cable.",
        _of_health(lambda health: health.rtt_mean),
    ),
    Metric(
        "cablectl_health_last_rtt_seconds",
        "gauge",
        "RTT of the last answered echo.",
        _of_health(lambda health: health.rtt_last),
    ),
    Metric(
        "cablectl_health_jitter_seconds",
        "gauge",
        "Jitter of the RTT (RFC 3550, section 6.4.1).",
        _of_health(lambda health: health.jitter),
    ),
    Metric(
        "cablectl_health_loss_ratio",
        "gauge",
        "The lost part of the last echoes, 0 to 1.",
        _of_health(lambda health: health.loss),
    ),
    Metric(
        "cablectl_health_echoes_sent_total",
        "counter",
        "Echoes sent through the cable; another watch starts it at 0 again.",
        _of_health(lambda health: health.sent),
    ),
    Metric(
        "cablectl_health_echoes_answered_total",
        "counter",
        "Answered echoes; another watch starts it at 0 again.",
        _of_health(lambda health: health.answered),
    ),
    Metric(
        "cablectl_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the gateway's certificate and its authority end, in seconds since 1970.",
        _of_cables(_expiry),
    ),
    Metric(
        "cablectl_repairs_total",
        "counter",
        "Repairs that the watch began; another watch starts it at 0 again.",
        _of_cables(_repairs),
    ),
    Metric(
        "cablectl_last_repair_timestamp_seconds",
        "gauge",
        "When the watch last began a repair, in seconds since 1970.",
        _of_cables(_last_repair),
    ),
    Metric(
        "cablectl_xfrm_errors_total",
        "counter",
        "Packets of this host, of any cable, that the kernel's IPsec dropped, by the cause.",
        _xfrm_errors,
    ),
    Metric(
        "cablectl_report_timestamp_seconds",
        "gauge",
        "When the host was read for these metrics, in seconds since 1970.",
        _time,
    ),
)
