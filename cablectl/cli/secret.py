"""`cablectl secret`: the pre-shared key."""

from typing import Annotated

import typer

from cablectl.host import keys

app = typer.Typer(help="Make a pre-shared key.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: sudo cablectl secret new /etc/cablectl/psk")
def new(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where it goes; one that is there stays.")
    ],
) -> None:
    """Make a key of 32 random bytes, in a file of mode 0600, and its directory if need be."""
    path = keys.new(file)
    print(f"the key is in {path}, mode 0600: copy it to the peer by a way you trust")
