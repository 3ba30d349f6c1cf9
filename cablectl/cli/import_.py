"""`cablectl import`: Submariner's documents → cablectl's file."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cablectl.cli import reporting, source
from cablectl.host import files, keys
from cablectl.model.wishes import DEFAULT_PSK


class FileFormat(StrEnum):
    """The formats of an imported file."""

    YAML = "yaml"
    JSON = "json"


def import_(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Submariner's documents, as kubectl prints them; - is standard input.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Output file; must not exist; - is standard output. [default: -]",
        ),
    ] = None,
    psk_file: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="File for a key found in the documents, mode 0600; an existing file is kept.",
        ),
    ] = DEFAULT_PSK,
    format: Annotated[  # noqa: A002
        FileFormat,
        typer.Option(help="Print the file itself, or a report that holds it."),
    ] = FileFormat.YAML,
) -> None:
    """Make cablectl's file from Submariner's documents.

    The documents are Endpoints, Gateways, the Submariner resource, its Secret, and the ConfigMap of
    cableDriverCustomConfig. The pre-shared key is never written into the file.
    """
    from cablectl.config.submariner import documents

    if output == "-":
        output = None
    psk_file = str(Path(psk_file).absolute())
    texts = {name: source.read(name) for name in names}
    found = documents.parse(texts, psk_file)
    source.notes(found.notes)
    from cablectl.render import draft  # no dry run needs it

    text = draft.as_file(found.value, names)
    if output is not None:
        files.write(output, text)
    elif format is FileFormat.YAML:
        sys.stdout.write(text)
    psk_written = bool(found.key) and keys.keep(psk_file, found.key)
    if psk_written:
        source.notes([f"the key is in {psk_file}, mode 0600"])
    if format is FileFormat.JSON:
        from cablectl.render.import_report import ImportReport

        report = ImportReport(
            output=output,
            yaml=text,
            notes=found.notes,
            psk_file=psk_file if found.key else None,
            psk_written=psk_written,
        )
        reporting.show(reporting.of_result("import", report))
