"""`cablectl verify`: prove that a cable encrypts."""

import sys
from typing import Annotated

import typer

from cablectl.cli import options, reporting, source


def verify(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    count: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="How many packets to send.")
    ] = 20,
    size_sweep: Annotated[
        bool,
        typer.Option("--size-sweep", help="Find the largest packet that passes as well."),
    ] = False,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Send over the cable, and prove that it encrypts; of several cables, over each in turn.

    The SAs have to count what is sent and answered, their ESP has to be on the wire, and nothing of
    the cable in clear text: the exit code is 0 only if every claim holds. Nothing is changed.
    """
    cables = source.chosen(files, local, peer).cables
    from cablectl.render.proof_report import CableProof, cable_proof, proof_report
    from cablectl.render.proof_table import print_table
    from cablectl.verification import proof  # and sockets and threads, which no dry run needs
    from cablectl.verification.observe import observation

    proofs: list[CableProof] = []
    for cable in cables:
        evidence = observation.verify(cable, count, sizes=size_sweep)
        claims = proof.claims(evidence)
        if format is options.ReportFormat.TABLE:
            print("\n" if proofs else "", end="")
            print_table(evidence, claims, sys.stdout)
        proofs.append(cable_proof(evidence, claims))
    report = proof_report(proofs)
    if format is options.ReportFormat.JSON:
        reporting.show(reporting.of_result("verify", report))
    if not report.proven:
        raise typer.Exit(1)
