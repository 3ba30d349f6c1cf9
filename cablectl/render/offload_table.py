"""What the NICs offload, as a table."""

from typing import TextIO

from cablectl.linux.esp_offload import OffloadReport
from cablectl.render.text import console


def print_table(reports: list[OffloadReport], stream: TextIO) -> None:
    """Print the reports for a person."""
    from rich.table import Table
    from rich.text import Text

    to = console(stream)
    if not reports:
        to.print("no cable on this host")
    for each in reports:
        table = Table(title=each.cable, title_justify="left", box=None, pad_edge=False)
        for name in ("where", "what", "is"):
            table.add_column(name, style="bold" if name == "where" else "")
        table.show_header = False
        table.add_row("file", "offload", each.asked or "not given")
        where = each.nic.device if each.nic else "no route"
        for feature, active in (each.nic.features if each.nic else {}).items():
            table.add_row(where, feature, "on" if active else "off")
            where = ""
        table.add_row("kernel", each.module, "loaded" if each.loaded else "not loaded")
        for sa in each.sas:
            done = f"{sa.offload} on {sa.device}" if sa.offload else "software"
            table.add_row("SA", f"{sa.spi} to {sa.destination}", done)
        table.add_row("verdict", each.verdict)
        to.print(table)
        for reason in each.reasons:
            to.print(Text(f"  {reason}"))
        to.print()
