"""`cablectl verify`: prove that a cable encrypts."""

import sys
from typing import Annotated

import typer

from cablectl.cli import options, reporting, source

MAX_COUNT = 1000  # packets


def verify(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    count: Annotated[
        int,
        typer.Option(
            parser=options.number(int, "a whole number", 1, MAX_COUNT),
            metavar="N",
            help=f"How many packets to send, 1 to {MAX_COUNT}.",
        ),
    ] = 20,
    size_sweep: Annotated[
        bool,
        typer.Option("--size-sweep", help="Also find the largest packet that passes."),
    ] = False,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Prove that a cable encrypts, by sending packets through it.

    Several cables are verified one after the other. The SAs must count the packets and their
    answers, the ESP of these SAs must be on the wire, and no packet of the cable may be there in
    clear text. The exit code is 0 only if every claim holds. Nothing is changed.
    """
    cables = source.chosen(files, local, peer).cables
    from cablectl.render.proof_report import CableProof, cable_proof, proof_report
    from cablectl.render.proof_table import print_table
    from cablectl.verification import proof  # imports sockets and threads, which no dry run needs
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
