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
    for claim in claims:
        state = Text(claim.state, style=STYLE[claim.state])
        table.add_row(claim.name, state, Text(claim.text))
    to = console(stream)
    to.print(table)
    to.print(Text(_verdict(claims)))


def _verdict(claims: tuple[Claim, ...]) -> str:
    failed = [claim.name for claim in claims if claim.state is ClaimState.FAILED]
    if failed:
        return f"not proven: {', '.join(failed)}"
    if any(claim.state is ClaimState.NOT_MADE and claim.name == "answered" for claim in claims):
        return "encrypted on the way out; no answer came back"
    return "encrypted"
