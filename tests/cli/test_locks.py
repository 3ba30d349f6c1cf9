"""The locks that a run holds: those of all cables that it is for."""

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from cablectl.cli import running, source
from cablectl.cli.options import OutcomeFormat
from cablectl.host import privilege
from cablectl.plan import connect_plan
from cablectl.plan.steps import Outcome, Plan
from cablectl.run import execute
from tests.support.documents import document, meshed
from tests.support.meshes import there


@pytest.mark.parametrize(
    ("shape", "peers", "expected"),
    [
        ("tunnel v4 mesh", [], {"cluster2-172-18-0-7", "cluster3-172-18-0-6"}),
        ("tunnel v4 mesh", ["cluster3"], {"cluster3-172-18-0-6"}),
        ("transport vxlan v4 mesh", [], {"vxlan-tunnel"}),
        ("transport vxlan v4 mesh", ["cluster2"], {"vxlan-tunnel"}),
    ],
)
def test_of_all_cables(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    peers: list[str],
    expected: set[str],
) -> None:
    cables, held = meshed(shape), list[Collection[str]]()
    plan = connect_plan.plan(cables, there(cables, cables))

    def apply(locks: Collection[str], *_: object) -> Outcome:
        held.append(locks)
        return Outcome(plan)

    monkeypatch.setattr(execute, "apply", apply)
    monkeypatch.setattr(privilege, "refuse_others_than_root", lambda: None)
    file = tmp_path / "cable.yaml"
    file.write_text(document(shape))
    chosen = source.chosen([str(file)], "cluster1", peers)
    make_plan: Callable[[], Plan] = lambda: plan  # noqa: E731 - its type is checked
    running.apply(chosen, make_plan, 1, OutcomeFormat.TEXT)
    assert [set(locks) for locks in held] == [expected]
