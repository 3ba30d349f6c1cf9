"""`cablectl secret`: the pre-shared key."""

from typing import Annotated

import typer

from cablectl.host import keys
from cablectl.render.text import printable

app = typer.Typer(help="Make a pre-shared key.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: sudo cablectl secret new /etc/cablectl/psk")
def new(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Key file; must not exist.")],
) -> None:
    """Make a key of 32 random bytes, in a file of mode 0600; a missing directory is made too."""
    path = keys.new(file)
    where = printable(str(path))
    print(f"the key is in {where}, mode 0600: copy it to the peer over a channel that you trust")
