"""`cablectl ca`: a small authority for people who have no other.

The functions import what they need themselves: the library of certificates costs 55 ms.
"""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cablectl.cli import completion, options, reporting, source
from cablectl.errors import UsageError
from cablectl.host import passphrases
from cablectl.model.network import Network
from cablectl.model.wishes import Endpoint
from cablectl.model.x509 import Auth, KeyType
from cablectl.render.text import printable
from cablectl.run import signals

if TYPE_CHECKING:
    from cablectl.host.authority_files import AuthorityDirectory
    from cablectl.host.issuing import Terms
    from cablectl.identity.issued import Done

app = typer.Typer(
    help="Issue, renew and revoke certificates of gateways.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Ca = Annotated[str, typer.Option("--ca", metavar="DIR", help="The directory of the authority.")]
PassphraseFile = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="File with the passphrase of the authority's key, mode 0600."
        " [default: ask on the terminal]",
    ),
]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="The cable's YAML file, which names the gateways.")
]
Out = Annotated[
    str,
    typer.Option(
        metavar="DIR", help="Where the files go: a directory for each gateway, named by cluster."
    ),
]
Of = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="NAME",
        autocompletion=completion.ends,
        help="Only one gateway: cluster, hostname or address. [default: all gateways]",
    ),
]
Type = Annotated[
    KeyType | None,
    typer.Option(
        "--key-type",
        help="The key: ECDSA P-256, or RSA with 3072 bits."
        " [default: the file's key_type, or ecdsa without auth: cert]",
    ),
]
_days = options.number(int, "a whole number of days", 1, 36500)
Days = Annotated[
    int, typer.Option(metavar="DAYS", parser=_days, help="How long the new certificate lasts.")
]
TO_GATEWAY = "move each gateway's files to its /etc/cablectl over a channel that you trust"


@app.command(epilog="Example: cablectl ca init --passphrase-file passphrase")
def init(ca: Ca = "ca", passphrase_file: PassphraseFile = None, days: Days = 730) -> None:
    """Make an authority: a certificate, and a key that is encrypted with a passphrase."""
    from cablectl.host import authority_files

    with signals.handled(signals.leave):
        passphrase = passphrases.read(passphrase_file, new=True)
        made = authority_files.create(ca, days, passphrase, datetime.now(UTC))
    end = f"{made.certificate.not_after:%Y-%m-%d}"
    where = printable(str(made.path))
    print(f"the authority '{made.certificate.subject}' is in {where} and ends {end}: keep a backup")


@app.command(epilog="Example: cablectl ca issue mesh.yaml --out gateways")
def issue(
    file: File,
    out: Out,
    for_: Of = None,
    ca: Ca = "ca",
    passphrase_file: PassphraseFile = None,
    days: Days = 90,
    key_type: Type = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Issue a certificate to each gateway of a file.

    A gateway gets a directory with key.pem, cert.pem, ca.pem and crl.pem. A gateway that has a
    certificate which can be used keeps it, and gets no files.
    """
    from cablectl.host import authority_files, issuing

    network = source.described([file])
    ends = _ends(network, for_)
    with signals.handled(signals.leave), authority_files.locked(ca) as directory:
        passphrase = passphrases.read(passphrase_file)
        terms = _terms(network, days, key_type, out)
        rows = tuple(issuing.issue(directory, ends, terms, passphrase))
    _show(directory, rows, format)
    _follow(rows, TO_GATEWAY)
    for row in rows:
        if row.directory is None:
            again = f"cablectl ca renew {file} --out DIR --all --for {row.cluster}"
            source.notes([f"{row.cluster} has a certificate; if its files are lost: {again}"])


@app.command(epilog="Example: cablectl ca renew mesh.yaml --out gateways")
def renew(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="The cable's YAML file.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where the files go, each with the ending .next: a directory for each gateway.",
        ),
    ] = None,
    for_: Of = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also renew certificates that end later.")
    ] = False,
    within: Annotated[
        int,
        typer.Option(metavar="DAYS", parser=_days, help="Renew what ends within this time."),
    ] = 30,
    authority: Annotated[
        bool,
        typer.Option("--authority", help="Make a new authority instead, which takes over later."),
    ] = False,
    ca: Ca = "ca",
    passphrase_file: PassphraseFile = None,
    days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS",
            parser=_days,
            help="How long the new certificate lasts. [default: 90; with --authority 730]",
        ),
    ] = None,
    key_type: Type = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Issue the next certificates of gateways, or make the next authority.

    The new files end in .next, so they can be beside those in use. The old certificates stay valid.
    While a new authority takes over, it signs, and every certificate of the old one is renewed.
    """
    from cablectl.host import authority_files, issuing

    if authority:
        if file is not None or out is not None or for_ is not None or all_:
            raise UsageError("--authority goes with neither FILE, --out, --for nor --all")
        _renew_authority(ca, passphrase_file, days or 730)
        return
    if file is None or out is None:
        raise UsageError(
            "missing: FILE and --out DIR, or --authority",
            hint="cablectl ca renew FILE --out DIR",
        )
    network = source.described([file])
    ends = _ends(network, for_)
    time = None if all_ else timedelta(days=within)
    with signals.handled(signals.leave), authority_files.locked(ca) as directory:
        passphrase = passphrases.read(passphrase_file)
        terms = _terms(network, days or 90, key_type, out)
        rows = tuple(issuing.renew(directory, ends, terms, passphrase, time))
    _show(directory, rows, format)
    _follow(rows, TO_GATEWAY)
    for cluster in {end.cluster: None for end in ends}.keys() - {row.cluster for row in rows}:
        again = f"cablectl ca issue {file} --out DIR --for {cluster}"
        source.notes([f"{cluster} has no certificate to renew: {again}"])


@app.command(epilog="Example: cablectl ca revoke cluster2-worker")
def revoke(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|SERIAL", help="A name in the certificates, or a serial number in hex."
        ),
    ],
    ca: Ca = "ca",
    passphrase_file: PassphraseFile = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Revoke certificates, and write the revocation list that all gateways need."""
    from cablectl.host import authority_files, issuing

    with signals.handled(signals.leave), authority_files.locked(ca) as directory:
        passphrase = passphrases.read(passphrase_file)
        rows = issuing.revoke(directory, name, passphrase, datetime.now(UTC))
    _show(directory, rows, format)
    for name in sorted(
        {authority_files.crl_name(directory, row.entry.certificate) for row in rows}
    ):
        source.notes([f"copy {directory.path / name} to every gateway, as the {name} there"])


@app.command(epilog="Example: cablectl ca finish")
def finish(ca: Ca = "ca") -> None:
    """Put the new authority in the place of the old one, after all gateways were rotated."""
    from cablectl.host import authority_files, issuing

    with signals.handled(signals.leave), authority_files.locked(ca) as directory:
        issuing.finish(directory, datetime.now(UTC))
    print(
        f"'{directory.newest.subject}' is the authority now: copy its ca.pem and crl.pem to every"
        " gateway"
    )


@app.command("list", epilog="Example: cablectl ca list --format json")
def list_(
    ca: Ca = "ca",
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """List the certificates that the authority has issued. It needs no passphrase."""
    from cablectl.host import authority_files
    from cablectl.identity.issued import Done

    directory = authority_files.read(ca)
    _show(directory, (Done(entry=entry) for entry in directory.entries), format)


def _renew_authority(ca: str, passphrase_file: str | None, days: int) -> None:
    from cablectl.host import authority_files

    with signals.handled(signals.leave), authority_files.locked(ca) as directory:
        passphrase = passphrases.read(passphrase_file)
        authority_files.unlock(directory, directory.certificate, passphrase)  # one for both keys
        authority_files.create_following(directory, days, passphrase, datetime.now(UTC))
    print(
        f"a new authority is in {printable(str(directory.path))}, beside the old one: run"
        " `cablectl ca renew FILE --out DIR`, rotate on all gateways, then `cablectl ca finish`"
    )


def _ends(network: Network, name: str | None) -> tuple[Endpoint, ...]:
    return network.endpoints if name is None else (source.named_end(network, name, "--for"),)


def _terms(network: Network, days: int, kind: KeyType | None, out: str) -> "Terms":
    from cablectl.host.issuing import Terms

    if not out:
        raise UsageError("--out: the name of the directory is empty")
    certified = network.ipsec.auth is Auth.CERT
    default = network.ipsec.certificates.key_type if certified else KeyType.ECDSA
    return Terms(
        now=datetime.now(UTC), days=days, kind=kind, default=default, out=Path(out).absolute()
    )


def _show(
    directory: "AuthorityDirectory", rows: Iterable["Done"], form: options.ReportFormat
) -> None:
    from cablectl.render.authority_report import report_of

    report = report_of(directory.certificate, directory.following, rows, datetime.now(UTC))
    if form is options.ReportFormat.JSON:
        reporting.show(reporting.of_result("ca", report))
    else:
        from cablectl.render.authority_table import print_table

        print_table(report, sys.stdout)


def _follow(rows: Iterable["Done"], what: str) -> None:
    if places := sorted({str(Path(row.directory).parent) for row in rows if row.directory}):
        source.notes([f"{what}: they are in {places[0]}"])
