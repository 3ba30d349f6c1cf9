"""The outcome of a rotation as a report: what `cablectl rotate --format json` prints."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from cablectl.errors import CablectlError
from cablectl.model.rotation import RotationPhase
from cablectl.render.envelope import ErrorReport, error_report


class RotatedCable(Struct, frozen=True, kw_only=True):
    """One cable; `phase` is null if nothing is to rotate, `error` if nothing failed."""

    cable: str
    phase: RotationPhase | None
    error: ErrorReport | None


class RotationReport(Struct, frozen=True, kw_only=True):
    """Whether any command was run, and how far the rotation of each cable is on this host."""

    changed: bool
    cables: tuple[RotatedCable, ...]


def rotation_report(
    cables: Sequence[str],
    phases: Mapping[str, RotationPhase],
    errors: Mapping[str, CablectlError],
    *,
    changed: bool,
) -> RotationReport:
    """Return the report of the cables with these ids."""
    return RotationReport(
        changed=changed,
        cables=tuple(
            RotatedCable(
                cable=name,
                phase=phases.get(name),
                error=error_report(errors[name]) if name in errors else None,
            )
            for name in cables
        ),
    )
