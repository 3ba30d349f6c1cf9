"""`cablectl import`: Submariner's documents → our file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cablectl import files, keys, render
from cablectl.cli import common
from cablectl.model import DEFAULT_PSK


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
            help="Where to write it, never over another. [default: stdout]",
        ),
    ] = None,
    psk_file: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Where a key found in the documents goes, mode 0600; one that is there stays.",
        ),
    ] = DEFAULT_PSK,
) -> None:
    """Write the file that says what Submariner's documents say.

    Endpoints, the Submariner resource, its Secret, and the ConfigMap of cableDriverCustomConfig.
    The key is never part of the file.
    """
    from cablectl import submariner

    psk_file = str(Path(psk_file).absolute())
    texts = {name: files.read(name) for name in names}
    found = submariner.parse(texts, psk_file)
    common.notes(found.notes)
    text = render.as_file(found.value, names)
    if output is None:
        sys.stdout.write(text)
    else:
        files.write(output, text)
    if found.key and keys.keep(psk_file, found.key):
        common.notes([f"the key is in {psk_file}, mode 0600"])
