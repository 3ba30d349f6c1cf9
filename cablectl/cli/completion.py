"""What TAB offers besides commands and options. It says nothing, whatever is wrong with a file."""

import os
import sys
from contextlib import redirect_stderr, suppress
from pathlib import Path

import typer

from cablectl.libreswan.dialects import EXAMPLES

Offered = list[tuple[str, str]]  # a word, and what it is


def quicken() -> None:
    """Have Typer answer a TAB without rich, as where it isn't installed.

    It would be imported, which doubles the time, to take tags off help texts that have none.
    """
    if "_CABLECTL_COMPLETE" in os.environ:
        sys.modules["rich"] = None  # type: ignore[assignment] # "not there", as Python has it


def ends(context: typer.Context) -> Offered:
    """Offer the clusters, hostnames and addresses of the files on the command line."""
    # The parser leaves the files in args when an option after them has no value yet.
    names = [str(Path(name).expanduser()) for name in context.params.get("files") or context.args]
    offered: Offered = []
    if not names or "-" in names:  # a TAB must not wait for what is typed
        return offered
    with suppress(Exception), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        from cablectl.cli import source  # after the commands, which import this

        for end in source.described(names).endpoints:
            offered += [
                (end.cluster, "cluster"),
                (end.hostname, f"hostname in {end.cluster}"),
                (str(end.address), f"address in {end.cluster}"),
            ]
    return offered


def releases() -> Offered:
    """Offer a release of each dialect."""
    return [(str(each), "Libreswan") for each in EXAMPLES]
