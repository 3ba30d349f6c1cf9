"""`cablectl secret`: the pre-shared key."""

from typing import Annotated

import typer

from cablectl.cli import completion, source
from cablectl.errors import UsageError
from cablectl.host import keys
from cablectl.model.psk import NEXT
from cablectl.render.text import printable

app = typer.Typer(help="Make a pre-shared key.", no_args_is_help=True, rich_markup_mode=None)

ALL = "cablectl secret new --pairs FILE --out DIR"
ONE = f"{ALL} --for NAME --from DIRECTORY-OF-ALL-KEYS"


@app.command(
    epilog="Example: sudo cablectl secret new /etc/cablectl/psk\n\n"
    "Example: cablectl secret new --pairs mesh.yaml --out all-keys"
)
def new(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Key file; must not exist.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Make a key for each pair of this file's endpoints instead."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="With --pairs: where the keys go; a key that is there stays."
        ),
    ] = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="NAME",
            autocompletion=completion.ends,
            help="Make none; copy the keys of one end: cluster, hostname or address."
            " It needs --from.",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DIR", help="With --for: the directory in which all keys were made."
        ),
    ] = None,
    next_: Annotated[
        bool,
        typer.Option("--next", help="With --pairs: the keys to which `cablectl rotate` changes."),
    ] = False,
) -> None:
    """Make a key of 32 random bytes, in a file of mode 0600; a missing directory is made too."""
    if pairs is not None:
        _of_pairs(file, pairs, out, for_, from_, NEXT if next_ else "")
        return
    if any(value is not None for value in (out, for_, from_)) or next_:
        raise UsageError("--out, --for, --from and --next need --pairs FILE", hint=ALL)
    if file is None:
        raise UsageError("missing: FILE, or --pairs FILE --out DIR")
    path = keys.new(file)
    where = printable(str(path))
    print(f"the key is in {where}, mode 0600: copy it to the peer over a channel that you trust")


def _of_pairs(
    key_file: str | None,
    file: str,
    out: str | None,
    end: str | None,
    origin: str | None,
    ending: str,
) -> None:
    """Make the keys of all pairs, or copy those of one end; their names have that ending."""
    from cablectl.host import pair_keys

    if key_file is not None:
        raise UsageError(f"{key_file} doesn't go with --pairs, which takes --out DIR", hint=ALL)
    if out is None:
        raise UsageError("--pairs needs --out DIR", hint=ALL)
    if (end is None) != (origin is None):
        raise UsageError(
            "--for and --from go together: the keys of one gateway are copies", hint=ONE
        )
    network = source.described([file])
    if end is None or origin is None:
        done = pair_keys.make(network, out, ending)
        following = f"copy each gateway its own keys: {ONE}"
    else:
        local = source.named_end(network, end, "--for")
        done = pair_keys.copy(network, local, origin, out, ending)
        following = f"move them to {end} over a channel that you trust"
    where = printable(str(done.directory))
    print(f"{done.new} new, {done.kept} there already, in {where}, mode 0600: {following}")
