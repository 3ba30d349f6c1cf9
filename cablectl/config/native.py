"""The file: what it describes; every problem of it in one go, with line and field."""

from itertools import islice

from msgspec.structs import replace

from cablectl.config.contradictions import contradictions
from cablectl.config.reader import Document, Place, Reader, documents
from cablectl.config.spec import Spec
from cablectl.errors import UsageError
from cablectl.model.network import Network
from cablectl.model.wishes import Forwarding, Ipsec, OverlayWish, Vxlan

MAX_PROBLEMS = 100  # that are told of one file; there may be more than anybody can read


def parse(text: str, filename: str) -> Network:
    """Return what the file describes; UsageError with all that is wrong with it.

    `filename` is what the errors call it.
    """
    (document,), twice = documents(text, filename)
    return build(document, twice)


def build(document: Document, known: list[tuple[Place, str]]) -> Network:
    """Return what a document describes; UsageError with all that is wrong, what is known first."""
    reader = Reader(document)
    spec: Spec | None = reader.struct(Spec, document.value, ())
    if spec is not None:
        wrong = {each.path for each in reader.problems}  # None there, which says nothing
        between = (each for each in contradictions(spec) if each.path not in wrong)
        reader.problems += islice(between, MAX_PROBLEMS)
    refuse(known + reader.report())
    assert spec is not None  # noqa: S101 - without problems there is a spec
    return Network(
        endpoints=spec.endpoints,
        mode=spec.mode,
        ipsec=spec.ipsec or Ipsec(),
        overlay=_device(spec),
        guard=spec.guard,
        vtep_network=spec.vtep_network(spec.endpoints[0].address.version),
    )


def _device(spec: Spec) -> OverlayWish | None:
    """Return the overlay's settings, with what auto stands for in this file."""
    device = spec.device
    if not isinstance(device, Vxlan) or device.forwarding is not Forwarding.AUTO:
        return device
    alone = len(spec.endpoints) == 2
    return replace(device, forwarding=Forwarding.FLOOD if alone else Forwarding.STATIC)


def refuse(problems: list[tuple[Place, str]]) -> None:
    """Raise a UsageError with the problems, if there are any, a line each, in the file's order."""
    lines = [
        f"{place.file}:{place.line}: {place.field + ': ' if place.field else ''}{message}"
        for place, message in sorted(problems, key=lambda both: (both[0].file, both[0].line))
    ]
    if lines:
        first, *others = lines[:MAX_PROBLEMS]
        more = ["and more"] if len(lines) > MAX_PROBLEMS else []
        raise UsageError(first, details=(*others, *more))
