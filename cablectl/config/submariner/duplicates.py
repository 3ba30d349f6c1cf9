"""The same object more than once: from two namespaces, or from two runs of kubectl."""

from collections.abc import Iterator
from typing import Any

from cablectl.config.reader import Path
from cablectl.config.submariner.objects import Object, Problems
from cablectl.config.values import shown

_CONTENT = ("spec", "data", "status")  # not metadata, which differs between namespaces


def merged(found: list[Object], problems: Problems) -> list[Object]:
    """Return the objects without equal ones; an Endpoint with two contents is a problem.

    Two objects of another kind may differ: what is read of them may still be equal.
    """
    first: dict[tuple[str, ...], Object] = {}
    kept = []
    for entry in found:
        names = dict(_names(entry))
        earlier = next((first[name] for name in names if name in first), None)
        if earlier and _content(earlier) == _content(entry):
            continue
        if earlier and entry.kind == "Endpoint":
            path = next(path for name, path in names.items() if name in first)
            place, other = entry.place(*path), earlier.place()
            problems.append(
                (
                    place,
                    f"the same Endpoint is at {other.file}:{other.line} with another"
                    f" {_difference(earlier, entry)}; give the newer one alone",
                )
            )
            continue
        kept.append(entry)
        for name in names:
            first.setdefault(name, entry)
    return kept


def _names(entry: Object) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield what names the object among those of its kind, each with its path."""
    if entry.name:
        yield (entry.kind, "name", entry.name), ("metadata", "name")
    if entry.kind == "Endpoint" and entry.text("cluster_id"):
        cable = (entry.text("cluster_id"), entry.text("cable_name"))
        yield (entry.kind, "cable", *cable), ("spec", "cable_name")


def _content(entry: Object) -> dict[str, Any]:
    return {name: entry.value.get(name) for name in _CONTENT}


def _difference(one: Object, other: Object) -> str:
    """Return the first field of the spec that differs."""
    specs = [entry.value.get("spec") for entry in (one, other)]
    fields = [spec if isinstance(spec, dict) else {} for spec in specs]
    names = (
        name for name in {**fields[1], **fields[0]} if fields[0].get(name) != fields[1].get(name)
    )
    return shown(next(names, "spec"))
