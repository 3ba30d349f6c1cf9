"""`cablectl watch`: bring the cables up, and keep them as the file says."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cablectl.cli import connect, options, running, source
from cablectl.errors import CablectlError, TimeLimitError
from cablectl.host import privilege
from cablectl.model.cable import Cable
from cablectl.plan.steps import WAIT_LIMIT, Plan, Step
from cablectl.render.progress import LineProgress
from cablectl.run import service

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Log = Callable[..., None]
# Seconds that the first connect may take besides its wait, and for each cable: to load, to ask a
# silent peer for the cause, to undo. A hundred silent peers took 217 s in all, on a slow host.
OTHERWISE, FOR_EACH = 180, 3


def watch(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[int, options.seconds_to_wait("the Child SAs")] = WAIT_LIMIT,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT", help="Serve metrics to Prometheus there, at /metrics."
        ),
    ] = None,
) -> None:
    """Bring the cables up, and keep them as the file says, until teardown or a signal.

    What another program deletes or changes is mended at once. A cable that has lost its Child SAs,
    or brings no echo back, is negotiated again. SIGHUP makes watch read the file again. At another
    signal watch ends, and the cables stay. The unit cablectl@.service runs this command.
    """
    privilege.refuse_others_than_root()
    chosen = source.chosen(files, local, peer, trusted=True)
    from cablectl.run import watch_loop  # these cost time that no other command needs
    from cablectl.run.reconciler import Reconciler

    states = source.FileStates(files)

    def reload() -> tuple[Cable, ...]:
        states.changed()
        return source.chosen(files, local, peer, trusted=True).cables

    def changed() -> tuple[Cable, ...]:
        """Return the cables of a changed file, if it has no error; else nothing."""
        with suppress(CablectlError):
            return (
                source.chosen(files, local, peer, trusted=True).cables if states.changed() else ()
            )
        return ()

    log = partial(service.log, name="watch")
    progress = _Quiet(sys.stderr)
    reconciler = Reconciler(chosen.cables, progress, changed, narrowed=chosen.narrowed)
    try:
        if listen:
            _serve(listen, lambda: reconciler.cables)
        _connect(chosen, timeout, log)
    except BaseException:
        reconciler.close()
        raise
    watch_loop.Watch(reconciler, reload, log).run(service.tell_ready)


def _serve(listen: str, cables: Callable[[], tuple[Cable, ...]]) -> None:
    """Serve the state of the cables; while it can't be read, its last state."""
    from cablectl.host import exposition  # its library costs time and memory
    from cablectl.host.cables import report_of
    from cablectl.render import metrics
    from cablectl.status.report import StatusReport

    last = StatusReport(time=0, cables=())

    def collect() -> "Iterator[Metric]":
        nonlocal last
        with suppress(CablectlError):
            last = report_of(cables())
        return metrics.families(last)

    exposition.serve(exposition.parse(listen), collect)


def _connect(chosen: source.Chosen, limit: int, log: Log) -> None:
    """Connect once; it is an error only if no cable came up, and not for want of the peer."""
    seconds = limit + OTHERWISE + FOR_EACH * len(chosen.cables)
    service.tell(f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}")
    try:
        outcome = running.run(chosen, connect.planner(chosen, wait=True, limit=limit), limit)
    except TimeLimitError as error:
        log(error.message, error=error.message)
        return
    failed = {**outcome.plan.refused, **outcome.failed}
    waits = any(isinstance(error, TimeLimitError) for error in failed.values())
    if len(failed) == len(chosen.cables) and not waits:
        running.refuse_failed(outcome)
    for cable, why in failed.items():
        log(f"{cable}: {why.message}", cable=cable, error=why.message)


class _Quiet(LineProgress):
    """The progress of a repair: the repair itself has a line, and its commands have none."""

    def begin(self, _plan: Plan) -> None:
        """Show no warnings: connect has shown them."""

    def step(self, _number: int, _total: int, _step: Step) -> None:
        """Tell systemd that the watch goes on."""
        service.tell("WATCHDOG=1")
