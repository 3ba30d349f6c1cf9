"""What doctor found, as a table."""

from typing import TextIO

from cablectl.doctor.finding import Finding, FindingState, counts
from cablectl.render.text import draw

_STYLES = {FindingState.FAIL: "bold red", FindingState.WARN: "yellow", FindingState.OK: "green"}
_STATE_WIDTH, _CHECK_WIDTH = 4, 12  # columns


def print_table(findings: tuple[Finding, ...], subject: str, stream: TextIO) -> None:
    """Print the findings for a person: failures first, each with its fix below."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("state", no_wrap=True, min_width=_STATE_WIDTH)
    table.add_column("check", no_wrap=True, min_width=_CHECK_WIDTH)
    table.add_column("evidence", overflow="fold")
    for state in counts(()):
        for finding in findings:
            if finding.state is state:
                text = Text(_printable(finding.evidence))
                if finding.fix:
                    text.append(f"\ntry: {_printable(finding.fix)}", style="dim")
                table.add_row(Text(state, style=_STYLES[state]), finding.check, text)
    summary = _summary(findings)
    draw(stream, table, Text(), Text(f"{subject}: {summary}" if subject else summary))


def _printable(text: str) -> str:
    """Return a line that moves no cursor: any user may name a process, and pluto logs peers."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _summary(findings: tuple[Finding, ...]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts(findings).items() if number)
