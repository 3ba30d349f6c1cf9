"""The truth about offload, as a table and as JSON."""

import json
from typing import TextIO

from cablectl.linux.esp_offload import OffloadReport
from cablectl.render.envelope import JSON_VERSION
from cablectl.render.text import console


def as_json(reports: list[OffloadReport]) -> str:
    """Return the reports as a JSON object; docs/json.md describes it."""
    cables = [
        {
            "cable": each.cable,
            "asked": each.asked,
            "encapsulation": each.encapsulation,
            "device": each.nic.device if each.nic else None,
            "features": each.nic.features if each.nic else {},
            "modules": {each.module: each.loaded},
            "sas": [
                {
                    "spi": sa.spi,
                    "source": sa.source,
                    "destination": sa.destination,
                    "offload": sa.offload or None,
                    "device": sa.device or None,
                }
                for sa in each.sas
            ],
            "verdict": each.verdict,
            "reasons": each.reasons,
        }
        for each in reports
    ]
    return json.dumps({"version": JSON_VERSION, "cables": cables}, indent=2)


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
