"""The state of cables as Prometheus reads it: its text format, version 0.0.4."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from cablectl.status.report import (
    CableState,
    ChildSaState,
    ConnectionState,
    HealthState,
    StatusReport,
    Verdict,
)

Samples = Iterator[tuple[dict[str, str], float | None]]  # labels and value; None has no line
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Metric(Struct, frozen=True):
    """A metric: name, type, meaning, and the samples of a cable."""

    name: str
    kind: str
    text: str
    samples: Callable[[CableState], Samples]


def as_metrics(report: StatusReport) -> str:
    """Return the report as metrics, each with its HELP and TYPE."""
    return "".join(f"{line}\n" for metric in METRICS for line in _lines(metric, report))


def _lines(metric: Metric, report: StatusReport) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for cable in report.cables:
        for labels, value in metric.samples(cable):
            if value is not None:
                all_labels = {"cable": cable.cable, **labels}
                text = ",".join(
                    f'{key}="{label.translate(_ESCAPED)}"' for key, label in all_labels.items()
                )
                yield f"{metric.name}{{{text}}} {value + 0}"  # a bool is a number


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


def _of_connection(
    value: Callable[[ConnectionState], float],
) -> Callable[[CableState], Samples]:
    def samples(cable: CableState) -> Samples:
        for connection in cable.connections:
            yield {"connection": connection.name}, value(connection)

    return samples


def _of_newest(value: Callable[[ChildSaState], float | None]) -> Callable[[CableState], Samples]:
    def samples(cable: CableState) -> Samples:
        for connection in cable.connections:
            newest = connection.child_sas[-1] if connection.child_sas else None
            yield {"connection": connection.name}, value(newest) if newest else None

    return samples


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


def _of_health(value: Callable[[HealthState], float | None]) -> Callable[[CableState], Samples]:
    def samples(cable: CableState) -> Samples:
        if cable.health:
            yield {}, value(cable.health)

    return samples


METRICS = (
    Metric(
        "cablectl_cable_state",
        "gauge",
        "1 for the state of the cable, 0 for every other state.",
        _states,
    ),
    Metric(
        "cablectl_cable_info",
        "gauge",
        "Peer, mode, overlay and offload of the cable; always 1.",
        _info,
    ),
    Metric(
        "cablectl_connection_up",
        "gauge",
        "Whether the connection has a Child SA.",
        _of_connection(lambda connection: connection.up),
    ),
    Metric(
        "cablectl_connection_routed",
        "gauge",
        "Whether trap policies are installed.",
        _of_connection(lambda connection: connection.routed),
    ),
    Metric(
        "cablectl_received_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs received; a rekeying starts it at 0 again.",
        _of_connection(lambda connection: sum(sa.bytes_in for sa in connection.child_sas)),
    ),
    Metric(
        "cablectl_sent_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs sent; a rekeying starts it at 0 again.",
        _of_connection(lambda connection: sum(sa.bytes_out for sa in connection.child_sas)),
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
    Metric("cablectl_overlay_up", "gauge", "Whether the overlay's device is up.", _overlay_up),
    Metric("cablectl_overlay_mtu_bytes", "gauge", "MTU of the overlay's device.", _overlay_mtu),
    Metric(
        "cablectl_guard_up",
        "gauge",
        "Whether the guard's table is loaded with all its rules.",
        _guard_up,
    ),
    Metric(
        "cablectl_guard_dropped_packets_total",
        "counter",
        "Packets that the guard dropped.",
        _dropped,
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
        _expiry,
    ),
)
