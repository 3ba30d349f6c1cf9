"""The state of cables: as a table for people, and as a line in a log."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, TextIO

from cablectl.model.wishes import Mode
from cablectl.render.text import draw
from cablectl.status.report import (
    CableState,
    ChildSaState,
    ConnectionState,
    OverlayState,
    StatusReport,
    Verdict,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MAX_BLOCKS = 8  # cables that are shown with all that is known of them
NO_CABLE = "no cable on this host"
COLOURS = {
    Verdict.UP: "green",
    Verdict.DEGRADED: "yellow",
    Verdict.CONNECTING: "cyan",
    Verdict.DOWN: "red",
    Verdict.FOREIGN: "magenta",
}
# Not to the end of the line: what a terminal echoes there, such as ^C, would begin another one.
_INDENT = (0, 0, 0, 2)
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def as_line(cable: CableState) -> str:
    """Return a cable's state in one line."""
    told = f": {'; '.join(cable.reasons)}" if cable.reasons else ""
    return f"{cable.cable} {_word(cable)}{told}"


def print_table(report: StatusReport, stream: TextIO) -> None:
    """Print the report for a person."""
    draw(stream, as_table(report))


def as_table(report: StatusReport) -> "RenderableType":
    """Return the report as what rich draws: a block for each cable, or a line if they are many."""
    from rich.console import Group
    from rich.text import Text

    if not report.cables:
        return Text(NO_CABLE)
    if len(report.cables) > MAX_BLOCKS:
        return Group(*_lines(report))
    parts = [part for each in report.cables for part in (Text(), *_block(each))]
    return Group(*parts[1:])  # an empty line between two


def _lines(report: StatusReport) -> "Iterator[RenderableType]":
    """Yield a line for each cable, with those of what is wrong, and one for all."""
    from rich.padding import Padding
    from rich.text import Text

    width = max(len(each.cable) for each in report.cables)
    for each in report.cables:
        sas = [sa for connection in each.connections for sa in connection.child_sas]
        into = _carried(sum(sa.bytes_in for sa in sas), None)
        out = _carried(sum(sa.bytes_out for sa in sas), None)
        word = (f"{_word(each):10}", f"bold {COLOURS[each.verdict]}")
        carried = f"  {into:>10} in  {out:>10} out" if sas else ""
        yield Text.assemble(f"{each.cable:{width}}  ", word, carried, no_wrap=True)
        for reason in each.reasons:
            yield Padding(Text(f"- {reason}"), _INDENT, expand=False)
    found = Counter(each.verdict for each in report.cables)
    told = ", ".join(f"{found[each]} {each}" for each in Verdict if found[each])
    yield Text(f"{len(report.cables)} cables: {told}")


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
    if any(each.loaded for each in cable.connections):
        yield Padding(_sas(cable), _INDENT, expand=False)


def _is_here(cable: CableState) -> bool:
    there = cable.overlay is not None and cable.overlay.mtu is not None
    return there or any(each.loaded for each in cable.connections)


def _table() -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Child SA", style="dim", min_width=len("connection"), no_wrap=True)
    return table


def _rows(cable: CableState) -> "Table":
    table = _table()
    table.show_header = False
    table.add_column(overflow="fold")
    before = ""
    for label, what in _facts(cable):
        table.add_row("" if label == before else label, what)
        before = label
    return table


def _facts(cable: CableState) -> Iterator[tuple[str, str]]:
    ike = f", {cable.mode} mode, IKE SA {cable.ike}" if cable.connections else ""
    yield "peer", f"{cable.peer}{ike}"
    for each in cable.connections:
        how = "routed" if each.routed else "not routed" if each.loaded else "not loaded"
        yield "connection", f"{_number(cable, each)}: {each.protects}, {how}"
    if cable.overlay:
        yield from _overlay(cable.overlay)
    if cable.guard:
        dropped = f"dropped {cable.guard.dropped_in} in, {cable.guard.dropped_out} out"
        yield "guard", f"{'stands' if cable.guard.whole else 'does not stand'}, {dropped}"
    if cable.connections:
        yield "offload", cable.offload


def _overlay(overlay: OverlayState) -> Iterator[tuple[str, str]]:
    if overlay.mtu is None:
        yield "overlay", f"{overlay.device} is missing"
        return
    most = "" if overlay.largest_mtu is None else f" of at most {overlay.largest_mtu}"
    yield (
        "overlay",
        f"{overlay.device} is {'up' if overlay.up else 'down'}, MTU {overlay.mtu}{most}",
    )
    yield "VTEPs", f"{overlay.vtep} here, {overlay.peer_vtep} there"
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
