"""Cables and facts become the steps that limit TCP's segments, and that remove the limit."""

from collections.abc import Iterator

from cablectl.facts.host_facts import Facts
from cablectl.linux import mss
from cablectl.model.cable import Cable
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step


def steps(pairs: Pairs, sizes: list[int], *, narrowed: bool) -> Iterator[Step]:
    """Yield the steps of connect; `sizes` are the cables' largest packets in bytes.

    Cables that share a device have one table. If `narrowed`, the device may have other peers, whose
    subnets stay in the table.
    """
    if pairs[0][0].shares_device:
        cables, (first, facts) = [cable for cable, _ in pairs], pairs[0]
        content = mss.wanted(cables, min(sizes))
        if content and narrowed:
            content = mss.with_subnets(content, facts.mss)
        yield from _step(first, facts, content, "")
        return
    for (cable, facts), size in zip(pairs, sizes, strict=True):
        yield from _step(cable, facts, mss.wanted([cable], size), cable.id)


def _step(cable: Cable, facts: Facts, content: mss.Table | None, only: str) -> Iterator[Step]:
    table, loaded = mss.name(cable), facts.mss
    before = (mss.load(table, loaded),) if loaded and loaded.size else ()
    if content:
        yield Step(
            phase=Phase.MSS,
            argv=mss.load(table, content),
            why=f"TCP through the cable: segments of at most {content.size} bytes (table {table})",
            undo=before if loaded else (mss.remove(table),),
            kind=Change.ALTER if loaded else Change.ADD,
            not_needed="loaded" if loaded == content else "",
            cable=only,
        )
    elif loaded:
        yield Step(
            phase=Phase.MSS,
            argv=mss.remove(table),
            why="the file asks for no limit of TCP's segments",
            undo=before,
            kind=Change.REMOVE,
            cable=only,
        )


def removal(pairs: Pairs, others: str) -> Iterator[Step]:
    """Yield the steps of teardown; `others` says why a shared table stays, or is empty."""
    tables = {mss.name(cable): (cable, facts) for cable, facts in pairs}
    for table, (cable, facts) in tables.items():
        if not (facts.mss or mss.is_wanted(cable)):
            continue
        shared = cable.shares_device
        yield Step(
            phase=Phase.UNLINK,
            argv=mss.remove(table),
            why="no TCP passes through the cable any more",
            kind=Change.REMOVE,
            not_needed=(others if shared else "") or ("" if facts.mss else "already missing"),
            cable="" if shared else cable.id,
        )
