"""The certificates of an authority, as a table."""

from collections import Counter
from typing import TextIO

from cablectl.identity.issued import Outcome, State
from cablectl.render.authority_report import AuthorityReport
from cablectl.render.text import draw, printable

_STYLES = {
    State.VALID: "green",
    State.ENDS_SOON: "yellow",
    State.EXPIRED: "bold red",
    State.REVOKED: "bold red",
}


def print_table(report: AuthorityReport, stream: TextIO) -> None:
    """Print the certificates for a person, each with its serial number and names below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("certificate", overflow="fold")
    for title in ("state", "ends", "done"):
        table.add_column(title, no_wrap=True)
    for row in report.certificates:
        below = "\n".join((f"serial {row.serial}", ", ".join(row.names)))
        table.add_row(
            Text.assemble(printable(row.subject), "\n", (below, "dim")),
            Text(row.state, style=_STYLES[row.state]),
            f"{row.not_after:%Y-%m-%d}",
            "" if row.outcome is None else str(row.outcome),
        )
    if report.certificates:
        draw(stream, table, Text())
    draw(stream, Text(_summary(report)))


def _summary(report: AuthorityReport) -> str:
    words = Counter(str(row.outcome or row.state) for row in report.certificates)
    order = (*map(str, Outcome), *map(str, State))
    counted = ", ".join(f"{words[word]} {word}" for word in order if words[word])
    counted = counted or "no certificate"
    ends = f"'{report.authority.subject}' ends {report.authority.not_after:%Y-%m-%d}"
    if report.following is not None:
        ends += f", and '{report.following.subject}' is taking over"
    return f"{counted}; the authority {ends}"
