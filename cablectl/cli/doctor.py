"""`cablectl doctor`: why a cable doesn't come up. Its rooms are imported where a dry run isn't."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cablectl.cli import options, source
from cablectl.errors import CablectlError, UsageError
from cablectl.host import reading
from cablectl.host.files import write_archive
from cablectl.model.cable import Cable
from cablectl.render import plans

NAMED = 5  # peers that an error lists


def doctor(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: what needs none]",
        ),
    ] = None,
    local: options.Local = None,
    peer: options.Peers = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
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
    from cablectl.doctor.collect import diagnosis
    from cablectl.doctor.finding import FindingState
    from cablectl.render import findings_table

    if (local or peer) and not files:
        raise UsageError(f"--{'local' if local else 'peer'} goes with a FILE")
    cable = _one(source.chosen(files, local, peer).cables) if files else None
    found = diagnosis.findings(cable, " ".join(files or ()))
    ends = f"{cable.local.cluster} to {cable.remote.cluster}" if cable else ""
    if report:
        _write(report, cable, findings_table.as_json(found, ends))
    if format is options.ReportFormat.JSON:
        print(findings_table.as_json(found, ends))
    else:
        findings_table.print_table(found, ends, sys.stdout)
    if any(each.state is FindingState.FAIL for each in found):
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
    from cablectl.doctor.collect import bug_report

    members = {"doctor.json": found, **bug_report.texts()}
    if cable:
        members["plan.json"] = _or_why_not(_plan, cable)
        members["status.json"] = _or_why_not(_status, cable)
    write_archive(name, bug_report.without_keys(members, cable))
    source.notes([f"the report is in {name}, mode 0600: look it through before you send it"])


def _or_why_not(text: Callable[[Cable], str], cable: Cable) -> str:
    try:
        return text(cable)
    except CablectlError as error:
        return f"{error.message}\n"


def _plan(cable: Cable) -> str:
    from cablectl.plan import connect_plan

    return plans.as_json(connect_plan.plan((cable,), (reading.facts(cable),), narrowed=True))


def _status(cable: Cable) -> str:
    from cablectl.host import cables
    from cablectl.render import status_table

    return status_table.as_json(cables.report_of((cable,)))
