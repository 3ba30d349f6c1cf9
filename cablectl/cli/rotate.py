"""`cablectl rotate`: a new key or certificate for cables that are up, without losing a packet."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cablectl.cli import options, reporting, running, source
from cablectl.cli.source import Chosen
from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.host import certificates, credentials, daemon, keys, privilege, rotation_state
from cablectl.libreswan.dialects import dialect
from cablectl.model import rotation
from cablectl.model.cable import Cable
from cablectl.model.psk import PskDirectory
from cablectl.model.x509 import Auth
from cablectl.plan import rotate_plan
from cablectl.plan.steps import WAIT_LIMIT
from cablectl.render import text

if TYPE_CHECKING:
    from cablectl.cli.rotating import Rotation


def rotate(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[
        int,
        options.seconds_to_wait("the peers"),
    ] = WAIT_LIMIT,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the commands of the next phase; change nothing."),
    ] = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Give cables that are up a new key or certificate, without losing a packet.

    The new one is in the same file with the ending .next, on every gateway. Run rotate on every
    gateway, in any order or at the same time. It does what can be done now, waits for the peers,
    and ends with exit code 5 if a peer doesn't follow: run it again after the peer's. It can be
    interrupted at any moment.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    chosen = source.chosen(files, local, peer, trusted=not dry_run)
    for cable in chosen.cables:
        rotation.refuse(cable)
    privilege.refuse_others_than_root()
    _refuse_keys(chosen.cables)
    if dry_run:
        _show(chosen)
    else:
        _run(chosen, timeout, format)


def _refuse_keys(cables: tuple[Cable, ...]) -> None:
    """Raise the problem of a next key: missing, not trusted, or the one that is in use."""
    standings = {each.cable.id: each for each in rotation_state.standings(cables)}
    find = credentials.finder(cables[0].ipsec.auth)
    for cable in cables:
        here, there = rotate_plan.next_path(cable), rotate_plan.path_of(cable)
        standing = standings.get(cable.id)
        if not rotation_state.has_next(cable):
            if standing and standing.has_detour:
                raise HostNotReadyError(
                    f"{here} is missing, and a rotation to that key is under way",
                    hint=f"copy {here} from {cable.remote.cluster} again;"
                    " or end the cable: cablectl teardown FILE",
                )
            continue
        if cable.ipsec.auth is Auth.CERT:
            _refuse_certificates(cable, find)
            continue
        key = keys.read(rotation.renewed(cable).psk)
        for message, hint in key.problems:
            raise HostNotReadyError(message, hint=hint)
        if key.raw == keys.read(rotation.plain(cable).psk).raw:
            raise UsageError(
                f"{here} holds the key that {there} holds already",
                hint=f"rm {here}; then make a new key: {_make(cable)}",
            )


def _refuse_certificates(cable: Cable, find: Callable[[Cable], credentials.Found]) -> None:
    """Raise the problem of a next certificate, which also needs the second path's name."""
    release = daemon.libreswan_version()
    if not dialect(release).rereads_authorities and certificates.adds_authority(
        rotation.renewed(cable).certificates
    ):
        raise HostNotReadyError(
            f"Libreswan {release} looks for a new authority only when it has checked no"
            " certificate for five minutes",
            hint="put the file with both authorities in place of"
            f" {cable.certificates.authority_path} on every gateway, run connect, and rotate five"
            " minutes later",
        )
    for path in (rotation.renewed(cable), *rotation.detours_of([cable])):
        for message, hint in find(path).problems:
            raise HostNotReadyError(f"{rotate_plan.next_path(cable)}: {message}", hint=hint)


def _make(cable: Cable) -> str:
    """Return how to make the next key."""
    if cable.ipsec.auth is Auth.CERT:
        return "cablectl ca renew FILE --out DIR"
    if isinstance(cable.ipsec.psk, PskDirectory):
        return "cablectl secret new --pairs FILE --out DIR --next"
    return f"cablectl secret new {rotate_plan.next_path(cable)}"


def _show(chosen: Chosen) -> None:
    from cablectl.cli import rotating
    from cablectl.render import plans

    found = rotating.next_plans((*chosen.cables, *chosen.others))
    if not found:
        print(_nothing(chosen.cables))
    for plan in found:
        running.warn(plan)
        sys.stdout.write(plans.as_script(plan))


def _run(chosen: Chosen, timeout: int, format: options.OutcomeFormat) -> None:  # noqa: A002
    from cablectl.cli import rotating
    from cablectl.render.progress import progress_on
    from cablectl.run.signals import handled, leave

    progress = progress_on(sys.stderr)
    try:
        run = rotating.Rotation(chosen.cables, chosen.others, progress, timeout)
        with handled(leave):
            run.run()
    finally:
        progress.close()
    if format is options.OutcomeFormat.JSON:
        _print_as_json(chosen, run)
        return
    if not run.phases:
        print(_nothing(chosen.cables))
    elif not run.errors:
        print(_summary(chosen))
    running.refuse_all(run.errors, len(chosen.cables))


def _nothing(cables: tuple[Cable, ...]) -> str:
    missing = rotate_plan.next_path(cables[0])
    return (
        f"nothing to rotate: {missing} doesn't exist; try: {_make(cables[0])},"
        " and copy it to the peer over a channel that you trust"
    )


def _summary(chosen: Chosen) -> str:
    first, count = chosen.cables[0], len(chosen.cables)
    which = f"the cable to {first.remote.cluster} has" if count == 1 else f"{count} cables have"
    left = [
        rotate_plan.next_path(cable) for cable in chosen.cables if rotation_state.has_next(cable)
    ]
    more = f"; {left[0]} stays until all cables of the file have it" if left else ""
    return f"{which} the new key{more}"


def _print_as_json(chosen: Chosen, run: "Rotation") -> None:
    from cablectl.render.rotation_report import rotation_report

    ids = [cable.id for cable in chosen.cables]
    report = rotation_report(ids, run.phases, run.errors, changed=run.changed)
    reporting.show(reporting.of_result("rotate", report))
    try:
        running.refuse_all(run.errors, len(ids))
    except CablectlError as error:
        print(text.as_error(error, sys.stderr), file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
