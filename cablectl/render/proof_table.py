"""A proof as a table."""

from typing import TextIO

from cablectl.render.text import console
from cablectl.verification.proof import Claim, ClaimState, Evidence

STYLE = {ClaimState.OK: "green", ClaimState.FAILED: "bold red", ClaimState.NOT_MADE: "yellow"}


def print_table(evidence: Evidence, claims: tuple[Claim, ...], stream: TextIO) -> None:
    """Print the proof for a person."""
    from rich.table import Table
    from rich.text import Text

    name, flow = evidence.cable.remote.cable_name, evidence.flow
    title = f"{name}\n{flow.source} to {flow.target}, captured on {flow.device}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for each in claims:
        state = Text(each.state, style=STYLE[each.state])
        table.add_row(each.name, state, Text(each.text))
    to = console(stream)
    to.print(table)
    to.print(Text(_verdict(claims)))


def _verdict(claims: tuple[Claim, ...]) -> str:
    failed = [each.name for each in claims if each.state is ClaimState.FAILED]
    if failed:
        return f"not proven: {', '.join(failed)}"
    if any(each.state is ClaimState.NOT_MADE and each.name == "answered" for each in claims):
        return "encrypted, as far as it is sent from here; nothing came back"
    return "encrypted"
