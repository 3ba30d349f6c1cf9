"""The state of cables as Prometheus reads it: its text format, version 0.0.4."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from cablectl.status.report import CableState, ChildSaState, ConnectionState, StatusReport, Verdict

Samples = Iterator[tuple[dict[str, str], float | None]]  # labels and value; None has no line
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Metric(Struct, frozen=True):
    """A metric: its name, type and meaning, and which samples a cable gives."""

    name: str
    kind: str
    text: str
    of: Callable[[CableState], Samples]


def as_metrics(report: StatusReport) -> str:
    """Return the report as metrics, each with its HELP and TYPE."""
    return "".join(f"{line}\n" for metric in METRICS for line in _lines(metric, report))


def _lines(metric: Metric, report: StatusReport) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for cable in report.cables:
        for labels, value in metric.of(cable):
            if value is not None:
                every = {"cable": cable.cable, **labels}
                text = ",".join(
                    f'{key}="{each.translate(_ESCAPED)}"' for key, each in every.items()
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
        for each in cable.connections:
            yield {"connection": each.name}, value(each)

    return samples


def _of_newest(value: Callable[[ChildSaState], float | None]) -> Callable[[CableState], Samples]:
    def samples(cable: CableState) -> Samples:
        for each in cable.connections:
            yield {"connection": each.name}, value(each.child_sas[-1]) if each.child_sas else None

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


METRICS = (
    Metric("cablectl_cable_state", "gauge", "Which of the states it is: 1, the others 0.", _states),
    Metric("cablectl_cable_info", "gauge", "What the cable is; always 1.", _info),
    Metric(
        "cablectl_connection_up",
        "gauge",
        "Whether the connection has a Child SA.",
        _of_connection(lambda each: each.up),
    ),
    Metric(
        "cablectl_connection_routed",
        "gauge",
        "Whether what has no SA is caught.",
        _of_connection(lambda each: each.routed),
    ),
    Metric(
        "cablectl_received_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs received; a rekey begins anew.",
        _of_connection(lambda each: sum(sa.bytes_in for sa in each.child_sas)),
    ),
    Metric(
        "cablectl_sent_bytes_total",
        "counter",
        "Bytes that the connection's Child SAs sent; a rekey begins anew.",
        _of_connection(lambda each: sum(sa.bytes_out for sa in each.child_sas)),
    ),
    Metric(
        "cablectl_child_sa_age_seconds",
        "gauge",
        "How old the connection's newest Child SA is.",
        _of_newest(lambda sa: sa.age),
    ),
    Metric(
        "cablectl_child_sa_rekey_seconds",
        "gauge",
        "In how many seconds the newest Child SA is replaced.",
        _of_newest(lambda sa: sa.rekey_in),
    ),
    Metric("cablectl_overlay_up", "gauge", "Whether the overlay's device is up.", _overlay_up),
    Metric("cablectl_overlay_mtu_bytes", "gauge", "The MTU of the device.", _overlay_mtu),
    Metric("cablectl_guard_up", "gauge", "Whether the guard's table is whole.", _guard_up),
    Metric(
        "cablectl_guard_dropped_packets_total",
        "counter",
        "Packets that the guard dropped.",
        _dropped,
    ),
)
