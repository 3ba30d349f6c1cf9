"""The words that TAB offers besides commands and options; a bad file only offers none."""

import os
import sys
from contextlib import redirect_stderr, suppress
from pathlib import Path

import typer

from cablectl.libreswan.dialects import EXAMPLES

Offers = list[tuple[str, str]]  # a word, and its meaning


def quicken() -> None:
    """Keep Typer from importing rich to answer a TAB, which would take twice as long.

    Typer uses rich to remove tags from help texts, and these help texts have none.
    """
    if "_CABLECTL_COMPLETE" in os.environ:
        sys.modules["rich"] = None  # type: ignore[assignment] # an import fails


def ends(context: typer.Context) -> Offers:
    """Offer the clusters, hostnames and addresses of the files on the command line."""
    # The parser leaves the files in args when an option after them has no value yet.
    given = context.params
    files = [given["pairs"]] if given.get("pairs") else given.get("files") or context.args
    names = [str(Path(name).expanduser()) for name in files]
    offered: Offers = []
    if not names or "-" in names:  # a TAB must not wait for standard input
        return offered
    with suppress(Exception), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        from cablectl.cli import source  # the commands import this module

        for end in source.described(names).endpoints:
            offered += [
                (end.cluster, "cluster"),
                (end.hostname, f"hostname in {end.cluster}"),
                (str(end.address), f"address in {end.cluster}"),
            ]
    return offered


def releases() -> Offers:
    """Offer a release of each dialect."""
    return [(str(release), "Libreswan") for release in EXAMPLES]
