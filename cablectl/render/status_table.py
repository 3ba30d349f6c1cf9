"""The state of cables: as a table for people, and as a line in a log."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, TextIO, assert_never

from cablectl.facts.expiry import Role, Urgency
from cablectl.model.wishes import Mode
from cablectl.render.text import draw
from cablectl.status.report import (
    CableState,
    CertificateState,
    ChildSaState,
    ConnectionState,
    Health,
    HealthState,
    OverlayState,
    StatusReport,
    Verdict,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MAX_BLOCKS = 8  # cables, above which each cable is one line
NO_CABLE = "no cable on this host"
COLOURS = {
    Verdict.UP: "green",
    Verdict.DEGRADED: "yellow",
    Verdict.CONNECTING: "cyan",
    Verdict.DOWN: "red",
    Verdict.FOREIGN: "magenta",
}
# Lines end before the edge of the terminal: an echoed ^C would begin another line there.
_INDENT = (0, 0, 0, 2)
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def as_line(cable: CableState) -> str:
    """Return a cable's state in one line."""
    reasons = f": {'; '.join(cable.reasons)}" if cable.reasons else ""
    return f"{cable.cable} {_word(cable)}{reasons}"


def print_table(report: StatusReport, stream: TextIO) -> None:
    """Print the report for a person."""
    draw(stream, as_table(report))


def as_table(report: StatusReport) -> "RenderableType":
    """Return the report for rich to draw: a block for each cable, or a line if there are many."""
    from rich.console import Group
    from rich.text import Text

    if not report.cables:
        return Text(NO_CABLE)
    if len(report.cables) > MAX_BLOCKS:
        return Group(*_lines(report))
    parts = [part for cable in report.cables for part in (Text(), *_block(cable))]
    return Group(*parts[1:])  # with an empty line between two blocks


def _lines(report: StatusReport) -> "Iterator[RenderableType]":
    """Yield a line for each cable with its reasons below, and a line with the total."""
    from rich.padding import Padding
    from rich.text import Text

    width = max(len(cable.cable) for cable in report.cables)
    for cable in report.cables:
        sas = [sa for connection in cable.connections for sa in connection.child_sas]
        into = _carried(sum(sa.bytes_in for sa in sas), None)
        out = _carried(sum(sa.bytes_out for sa in sas), None)
        word = (f"{_word(cable):10}", f"bold {COLOURS[cable.verdict]}")
        carried = f"  {into:>10} in  {out:>10} out" if sas else ""
        yield Text.assemble(f"{cable.cable:{width}}  ", word, carried, no_wrap=True)
        for reason in cable.reasons:
            yield Padding(Text(f"- {reason}"), _INDENT, expand=False)
    count = Counter(cable.verdict for cable in report.cables)
    total = ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict if count[verdict])
    yield Text(f"{len(report.cables)} cables: {total}")
    ends = {each: None for cable in report.cables for each in cable.certificates}
    yield from (Text(_end(each)) for each in ends if each.urgency is not Urgency.NONE)


def duration(seconds: int) -> str:
    """Return a time in at most two units, such as 7h54m."""
    parts: list[str] = []
    for name, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{name}")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def _word(cable: CableState) -> str:
    clear = cable.mode is Mode.NONE and cable.verdict is Verdict.UP
    return "up, in clear text" if clear else cable.verdict


def _block(cable: CableState) -> "Iterator[RenderableType]":
    from rich.padding import Padding
    from rich.text import Text

    colour = f"bold {COLOURS[cable.verdict]}"
    yield Text.assemble((cable.cable, "bold"), "  ", (_word(cable), colour))
    for reason in cable.reasons:
        yield Padding(Text(f"- {reason}"), _INDENT, expand=False)
    if _is_here(cable):
        yield Padding(_rows(cable), _INDENT, expand=False)
    if any(connection.loaded for connection in cable.connections):
        yield Padding(_sas(cable), _INDENT, expand=False)


def _is_here(cable: CableState) -> bool:
    has_device = cable.overlay is not None and cable.overlay.mtu is not None
    return has_device or any(connection.loaded for connection in cable.connections)


def _table() -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Child SA", style="dim", min_width=len("connection"), no_wrap=True)
    return table


def _rows(cable: CableState) -> "Table":
    table = _table()
    table.show_header = False
    table.add_column(overflow="fold")
    label_before = ""
    for label, text in _facts(cable):
        table.add_row("" if label == label_before else label, text)
        label_before = label
    return table


def _facts(cable: CableState) -> Iterator[tuple[str, str]]:
    ike = f", {cable.mode} mode, IKE SA {cable.ike}" if cable.connections else ""
    yield "peer", f"{cable.peer}{ike}"
    for connection in cable.connections:
        number, traffic = _number(cable, connection), connection.protects
        yield "connection", f"{number}: {traffic}, {_routing(connection)}"
    if cable.overlay:
        yield from _overlay(cable.overlay)
    if cable.guard:
        dropped = f"dropped {cable.guard.dropped_in} in, {cable.guard.dropped_out} out"
        state = "loaded" if cable.guard.whole else "missing or incomplete"
        yield "guard", f"{state}, {dropped}"
    if cable.connections:
        yield "offload", cable.offload
    if cable.rotation:
        yield "rotation", f"{cable.rotation}: {cable.rotation.words}; run cablectl rotate FILE"
    if cable.health:
        yield "health", _echoes(cable.health)
    for certificate in cable.certificates:
        label = "certificate" if certificate.role is Role.GATEWAY else "authority"
        yield label, _end(certificate)


def _echoes(found: HealthState) -> str:
    """Return what the echoes tell, with times in milliseconds."""
    if found.loss is None:
        return "no echo is answered or lost yet"
    loss = f"{found.loss:.0%} of {found.window} echoes lost"
    match found.health:
        case Health.SILENT:
            return f"no answer for {duration(found.silent_for or 0)}, {loss}"
        case Health.UNANSWERING:
            return "the peer answers no echoes, but packets come in from it"
        case Health.ANSWERING | Health.UNKNOWN:
            named = ("RTT", found.rtt_last), ("mean", found.rtt_mean), ("jitter", found.jitter)
            times = [f"{name} {time * 1000:.1f} ms" for name, time in named if time is not None]
            return ", ".join([*times, loss])
        case _:
            assert_never(found.health)


def _end(certificate: CertificateState) -> str:
    """Return when a certificate ends, and whether it has to be renewed."""
    date = datetime.fromtimestamp(certificate.not_after, UTC)
    if certificate.urgency is Urgency.EXPIRED:
        return f"{certificate.subject}: expired since {date:%Y-%m-%d}, renew it"
    renew = "" if certificate.urgency is Urgency.NONE else ": renew it"
    if certificate.urgency is Urgency.URGENT:
        renew = ": renew it now"
    left = certificate.days_left
    days = f"in {duration(left * 86400).removesuffix('0h')}" if left else "within a day"
    return f"{certificate.subject} ends {date:%Y-%m-%d}, {days}{renew}"


def _routing(connection: ConnectionState) -> str:
    if not connection.loaded:
        return "not loaded"
    return "routed" if connection.routed else "not routed"


def _overlay(overlay: OverlayState) -> Iterator[tuple[str, str]]:
    if overlay.mtu is None:
        yield "overlay", f"{overlay.device} is missing"
        return
    largest = "" if overlay.largest_mtu is None else f" (largest: {overlay.largest_mtu})"
    state = "up" if overlay.up else "down"
    yield "overlay", f"{overlay.device} is {state}, MTU {overlay.mtu}{largest}"
    yield "VTEPs", f"{overlay.vtep} here, {overlay.peer_vtep} at the peer"
    gateway_of = attrgetter("gateway")
    for gateway, entries in groupby(sorted(overlay.fdb, key=gateway_of), key=gateway_of):
        yield "FDB", f"{', '.join(entry.mac for entry in entries)} to {gateway}"
    if overlay.routes:
        yield "routes", ", ".join(overlay.routes)


def _number(cable: CableState, connection: ConnectionState) -> str:
    return connection.name.removeprefix(f"{cable.cable}-")


def _sas(cable: CableState) -> "Table":
    table = _table()
    for name in ("SPI in", "SPI out"):
        table.add_column(name, no_wrap=True)
    for name in ("age", "rekey", "in", "out"):
        table.add_column(name, justify="right", no_wrap=True)
    for connection in cable.connections:
        for sa in connection.child_sas:
            table.add_row(_number(cable, connection), *_sa(sa))
        if not connection.child_sas:
            table.add_row(_number(cable, connection), "none")
    return table


def _sa(sa: ChildSaState) -> Iterator[str]:
    yield sa.spi_in or "?"
    yield sa.spi_out or "?"
    yield duration(sa.age)
    yield "?" if sa.rekey_in is None else duration(sa.rekey_in)
    yield _carried(sa.bytes_in, sa.rate_in)
    yield _carried(sa.bytes_out, sa.rate_out)


def _carried(size: int, rate: float | None) -> str:
    from rich.filesize import decimal

    return decimal(size) if rate is None else f"{decimal(size)}\n{decimal(round(rate))}/s"
