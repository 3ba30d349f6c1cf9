"""Reads cablectl's own file into a network, or reports all of its problems at once."""

from itertools import islice

from msgspec.structs import replace

from cablectl.config.contradictions import contradictions
from cablectl.config.reader import Document, Place, Reader, documents
from cablectl.config.spec import Spec
from cablectl.errors import UsageError
from cablectl.model.network import Network
from cablectl.model.wishes import Forwarding, Ipsec, OverlayWish, Routes, Vxlan

MAX_PROBLEMS = 100  # of one file are reported; nobody reads more


def parse(text: str, filename: str) -> Network:
    """Return the network that the file describes; UsageError with all of its problems.

    `filename` is the file's name in the errors.
    """
    (document,), duplicates = documents(text, filename)
    return build(document, duplicates)


def build(document: Document, known: list[tuple[Place, str]]) -> Network:
    """Return the network that a document describes.

    UsageError with all problems: the known ones and those of the document.
    """
    reader = Reader(document)
    spec: Spec | None = reader.struct(Spec, document.value, ())
    if spec is not None:
        wrong = {problem.path for problem in reader.problems}  # these fields are None in the spec
        between = (problem for problem in contradictions(spec) if problem.path not in wrong)
        reader.problems += islice(between, MAX_PROBLEMS + 1)  # they may be millions
    refuse(known + reader.report())
    assert spec is not None  # noqa: S101 - a file without problems has a spec
    version = spec.endpoints[0].address.version
    return Network(
        endpoints=spec.endpoints,
        mode=spec.mode,
        ipsec=spec.ipsec or Ipsec(),
        overlay=_device(spec),
        guard=spec.guard,
        vtep_network=spec.vtep_network(version),
        underlay_network=spec.underlay_network(version),
        routes=spec.routes or Routes(),
        mss=spec.mss,
        health=spec.health,
    )


def _device(spec: Spec) -> OverlayWish | None:
    """Return the overlay's settings; `forwarding: auto` is resolved by the number of endpoints."""
    device = spec.device
    if not isinstance(device, Vxlan) or device.forwarding is not Forwarding.AUTO:
        return device
    is_pair = len(spec.endpoints) == 2
    return replace(device, forwarding=Forwarding.FLOOD if is_pair else Forwarding.STATIC)


def refuse(problems: list[tuple[Place, str]]) -> None:
    """Raise a UsageError if there are problems: one line for each, in the order of the file."""
    if not problems:
        return
    in_order = sorted(problems, key=lambda problem: (problem[0].file, problem[0].line))
    first, *others = (
        f"{place.file}:{place.line}: {place.field + ': ' if place.field else ''}{message}"
        for place, message in in_order[:MAX_PROBLEMS]
    )
    more = len(problems) - MAX_PROBLEMS
    raise UsageError(first, details=(*others, *([f"and at least {more} more"] if more > 0 else [])))
