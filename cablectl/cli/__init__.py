"""The command line: parse, call, print, exit. One file for each command."""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from cablectl import __version__
from cablectl.cli import (
    ca,
    completion,
    connect,
    doctor,
    guard_,
    import_,
    init,
    offload,
    plan,
    reporting,
    rotate,
    schema,
    secret,
    status,
    streams,
    teardown,
    verify,
    watch,
)
from cablectl.errors import CablectlError, UsageError
from cablectl.host import command_log
from cablectl.render import text

app = typer.Typer(
    help="Join gateways by IPsec, or by an overlay that IPsec protects, from one file.",
    epilog="Exit codes: 0 done, 1 failed and rolled back, 2 wrong usage or a bad file,"
    " 3 the host isn't ready, 4 a time limit passed.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init", epilog="Example: cablectl init cable.yaml")(init.init)
app.command("plan", epilog="Example: cablectl plan cable.yaml --dry-run --local cluster1")(
    plan.plan
)
app.command("connect", epilog="Example: sudo cablectl connect cable.yaml")(connect.connect)
app.command("teardown", epilog="Example: sudo cablectl teardown cable.yaml")(teardown.teardown)
app.command("rotate", epilog="Example: sudo cablectl rotate cable.yaml")(rotate.rotate)
app.command("watch", epilog="Example: sudo cablectl watch cable.yaml")(watch.watch)
app.command("guard", epilog="Example: sudo cablectl guard cable.yaml")(guard_.guard)
app.command("status", epilog="Example: sudo cablectl status")(status.status)
app.command("verify", epilog="Example: sudo cablectl verify cable.yaml --size-sweep")(verify.verify)
app.command("doctor", epilog="Example: sudo cablectl doctor cable.yaml")(doctor.doctor)
app.command("offload", epilog="Example: sudo cablectl offload cable.yaml")(offload.offload)
app.command(
    "import", epilog="Example: cablectl import configmap.yaml endpoints.yaml -o cable.yaml"
)(import_.import_)
app.add_typer(secret.app, name="secret")
app.add_typer(ca.app, name="ca")
app.command("schema", epilog="Example: cablectl schema >cablectl.schema.json")(schema.schema)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cablectl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - its callback has printed it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Show each command that runs, with its duration, on stderr."
        ),
    ] = False,
) -> None:
    command_log.show(shown=verbose or bool(os.environ.get("CABLECTL_LOG")))


def main() -> None:
    """Run the command line, and exit with the code of the error, if there is one."""
    completion.quicken()
    try:
        _run()
    except CablectlError as error:
        _print_as_json(error)
        print(text.as_error(error, sys.stderr), file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        # Typer has printed its usage error on stderr, and exits while it handles that error.
        message = getattr(leaving.__context__, "format_message", None)
        if message and leaving.code == UsageError.exit_code:
            _print_as_json(UsageError(message()))
        raise
    except Exception:
        print("cablectl: this is a bug in cablectl, please report it with:", file=sys.stderr)
        raise


def _run() -> None:
    """Run the command, and write its output to the end; a reader that has left is no error."""
    try:
        try:
            app(prog_name="cablectl")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        streams.abandon_output()
        sys.exit(1)


def _print_as_json(error: CablectlError) -> None:
    """Print an error on stdout too, if the command line asks for JSON."""
    wish = reporting.json_wish(sys.argv[1:])
    if wish:
        with suppress(streams.OutputError):  # the first error is the one that helps
            reporting.show(reporting.of_error(wish.kind, error), one_line=wish.one_line)
