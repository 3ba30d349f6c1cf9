"""`cablectl doctor`: why a cable doesn't come up. A dry run imports nothing of its rooms."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from cablectl.cli import options, reporting, source
from cablectl.errors import CablectlError, UsageError
from cablectl.host import reading
from cablectl.host.files import write_archive
from cablectl.model.cable import Cable

if TYPE_CHECKING:
    from cablectl.render.envelope import Envelope, Kind

NAMED = 5  # peers that an error lists


def doctor(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: check this host alone]",
        ),
    ] = None,
    local: options.Local = None,
    peer: options.Peers = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
    report: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.tar.gz",
            help="Also write an archive for a bug report, without keys, mode 0600.",
        ),
    ] = None,
) -> None:
    """Find what keeps a cable from coming up, and what to do about it.

    Nothing is changed. doctor sends an IKE_SA_INIT to the peer and, if the SAs are up, two pings.
    The exit code is 1 if a check failed.
    """
    from cablectl.doctor.collect import diagnosis
    from cablectl.doctor.finding import FindingState
    from cablectl.render.doctor_report import doctor_report
    from cablectl.render.findings_table import print_table

    source.refuse_ends_without_file(files, local, peer)
    cable = _one(source.chosen(files, local, peer).cables) if files else None
    found = diagnosis.findings(cable, " ".join(files or ()))
    ends = f"{cable.local.cluster} to {cable.remote.cluster}" if cable else ""
    envelope = reporting.of_result("doctor", doctor_report(found, ends))
    if report:
        _write(report, cable, envelope)
    if format is options.ReportFormat.JSON:
        reporting.show(envelope)
    else:
        print_table(found, ends, sys.stdout)
    if any(finding.state is FindingState.FAIL for finding in found):
        raise typer.Exit(1)


def _one(cables: tuple[Cable, ...]) -> Cable:
    """Return the only cable; UsageError if there are several, since doctor waits for each peer."""
    if len(cables) > 1:
        names = ", ".join(cable.remote.cluster for cable in cables[:NAMED])
        raise UsageError(
            f"doctor checks one cable at a time, and the file has {len(cables)}",
            hint=f"choose one with --peer: {names}{', …' if cables[NAMED:] else ''}",
        )
    return cables[0]


def _write(name: str, cable: Cable | None, doctor_envelope: "Envelope[Struct]") -> None:
    """Write the archive of a bug report."""
    from cablectl.doctor.collect import bug_report

    members = {"doctor.json": _member(doctor_envelope), **bug_report.texts()}
    if cable:
        members["plan.json"] = _report_or_error("plan", _plan, cable)
        members["status.json"] = _report_or_error("status", _status, cable)
    write_archive(name, bug_report.without_keys(members, cable))
    source.notes([f"the report is in {name}, mode 0600: read it before you send it"])


def _report_or_error(kind: "Kind", report: Callable[[Cable], Struct], cable: Cable) -> str:
    """Return the JSON of a report of the cable, or of the error that keeps it from being made."""
    try:
        envelope = reporting.of_result(kind, report(cable))
    except CablectlError as error:
        envelope = reporting.of_error(kind, error)
    return _member(envelope)


def _member(envelope: "Envelope[Struct]") -> str:
    from cablectl.render.envelope import as_json

    return f"{as_json(envelope)}\n"


def _plan(cable: Cable) -> Struct:
    from cablectl.plan import connect_plan
    from cablectl.render.plan_report import plan_report

    return plan_report(connect_plan.plan((cable,), (reading.facts(cable),), narrowed=True))


def _status(cable: Cable) -> Struct:
    from cablectl.host import cables

    return cables.report_of((cable,))
