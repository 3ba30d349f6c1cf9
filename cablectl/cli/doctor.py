"""`cablectl doctor`: why a cable doesn't come up. Its rooms are imported where a dry run isn't."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cablectl import files as written
from cablectl import host, render
from cablectl.cable import Cable
from cablectl.cli import common
from cablectl.errors import CablectlError, UsageError

NAMED = 5  # peers that an error lists


def doctor(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: what needs none]",
        ),
    ] = None,
    local: common.Local = None,
    peer: common.Peers = None,
    format: common.Format = common.ReportFormat.TABLE,  # noqa: A002
    report: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.tar.gz", help="Gather all of it there as well, without keys, mode 0600."
        ),
    ] = None,
) -> None:
    """Look for what keeps a cable from coming up, and say what to do about it.

    Nothing is changed. The peer is asked by an IKE_SA_INIT and, once the SAs are up, by two pings.
    The exit code is 1 if anything failed.
    """
    from cablectl import gather
    from cablectl.doctor import State
    from cablectl.render import doctor as shown

    if (local or peer) and not files:
        raise UsageError(f"--{'local' if local else 'peer'} goes with a FILE")
    cable = _one(common.chosen(files, local, peer).cables) if files else None
    found = gather.findings(cable, " ".join(files or ()))
    ends = f"{cable.local.cluster} to {cable.remote.cluster}" if cable else ""
    if report:
        _write(report, cable, shown.as_json(found, ends))
    if format is common.ReportFormat.JSON:
        print(shown.as_json(found, ends))
    else:
        shown.print_table(found, ends, sys.stdout)
    if any(each.state is State.FAIL for each in found):
        raise typer.Exit(1)


def _one(cables: tuple[Cable, ...]) -> Cable:
    """Return the only one of them: each peer is asked, and waited for."""
    if len(cables) > 1:
        names = ", ".join(each.remote.cluster for each in cables[:NAMED])
        raise UsageError(
            f"doctor looks at one cable at a time, and there are {len(cables)}",
            hint=f"say which with --peer: {names}{', …' if cables[NAMED:] else ''}",
        )
    return cables[0]


def _write(name: str, cable: Cable | None, found: str) -> None:
    """Gather what a bug report takes."""
    from cablectl.gather import report

    members = {"doctor.json": found, **report.texts()}
    if cable:
        members["plan.json"] = _or_why_not(_plan, cable)
        members["status.json"] = _or_why_not(_status, cable)
    written.write_archive(name, report.without_keys(members, cable))
    common.notes([f"the report is in {name}, mode 0600: look it through before you send it"])


def _or_why_not(text: Callable[[Cable], str], cable: Cable) -> str:
    try:
        return text(cable)
    except CablectlError as error:
        return f"{error.message}\n"


def _plan(cable: Cable) -> str:
    from cablectl.plan import connect

    return render.as_json(connect.plan((cable,), (host.facts(cable),), narrowed=True))


def _status(cable: Cable) -> str:
    from cablectl import seen
    from cablectl.render import status

    return status.as_json(seen.report_of((cable,)))
