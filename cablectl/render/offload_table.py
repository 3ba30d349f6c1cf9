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
    for report in reports:
        table = Table(title=report.cable, title_justify="left", box=None, pad_edge=False)
        for name in ("where", "what", "is"):
            table.add_column(name, style="bold" if name == "where" else "")
        table.show_header = False
        table.add_row("file", "offload", report.asked or "not given")
        where = report.nic.device if report.nic else "no route"
        for feature, active in (report.nic.features if report.nic else {}).items():
            table.add_row(where, feature, "on" if active else "off")
            where = ""
        table.add_row("kernel", report.module, "loaded" if report.loaded else "not loaded")
        for sa in report.sas:
            place = f"{sa.offload} on {sa.device}" if sa.offload else "software"
            table.add_row("SA", f"{sa.spi} to {sa.destination}", place)
        table.add_row("verdict", report.verdict)
        to.print(table)
        for reason in report.reasons:
            to.print(Text(f"  {reason}"))
        to.print()
