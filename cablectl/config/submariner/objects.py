"""Objects of Kubernetes as kubectl prints them: alone, in lists, or several in a stream."""

from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct

from cablectl.config.reader import Document, Path, Place, documents, shown
from cablectl.errors import UsageError

API_VERSION = "apiVersion"  # every object of Kubernetes has this key, no file of cablectl has
KINDS = ("Endpoint", "Submariner", "ConfigMap", "Secret", "List")
NOT_NEEDED = ("Broker", "Cluster", "Gateway", "Node", "ServiceDiscovery")  # may stand beside them

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Problems = list[tuple[Place, str]]


class Field(Struct, frozen=True):
    """A value of the documents, and its place."""

    value: Any
    place: Place


class Object(Struct, frozen=True):
    """One object: its kind, its name, and its fields by their paths."""

    kind: str
    name: str
    value: dict[str, Any]
    document: Document
    path: Path

    def place(self, *path: str | int) -> Place:
        """Return where a field stands, or should have stood."""
        return self.document.place((*self.path, *path))

    def field(self, *path: str) -> Field | None:
        """Return what stands at a path below the object; None if nothing does, or null."""
        value: Any = self.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return None if value in (None, "") else Field(value, self.place(*path))

    def spec(self, *path: str) -> Field | None:
        """Return what stands at a path below the object's spec."""
        return self.field("spec", *path)

    def text(self, name: str) -> str:
        """Return a field of the spec as text; empty if there is none."""
        found = self.spec(name)
        return str(found.value) if found else ""


def has_objects(text: str) -> bool:
    """Tell whether a document of a text is an object of Kubernetes: it has the key apiVersion.

    Text that isn't YAML has none, so that the reader of cablectl's own file reports the mistake.
    """
    depth = nodes = 0  # open collections, and the nodes of the outermost one so far
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if not isinstance(event, yaml.NodeEvent):
                continue
            if depth == 0:
                is_mapping, nodes = isinstance(event, yaml.MappingStartEvent), 0
            elif depth == 1:
                is_key = is_mapping and nodes % 2 == 0
                if is_key and isinstance(event, yaml.ScalarEvent) and event.value == API_VERSION:
                    return True
                nodes += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
    except yaml.YAMLError:
        return False
    return False


def objects(file: str, text: str, problems: Problems) -> Iterator[Object]:
    """Yield the objects of a text; what is wrong with it is added to the problems."""
    found, twice = documents(text, file, several=True)
    problems += twice
    for document in found:
        if document.value is not None:
            yield from _unlisted(document, document.value, (), problems)


def _unlisted(document: Document, value: Any, path: Path, problems: Problems) -> Iterator[Object]:  # noqa: ANN401
    kind = value.get("kind") if isinstance(value, dict) else None
    items = value.get("items") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for i, each in enumerate(items):
            yield from _unlisted(document, each, (*path, "items", i), problems)
    elif kind in KINDS:
        metadata = value.get("metadata")
        name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
        yield Object(str(kind), name, value, document, path)
    elif kind not in NOT_NEEDED:
        what = f"{shown(kind)} is not allowed" if kind else "missing"
        place = document.place((*path, "kind"))
        problems.append((place, f"{what}; allowed: {', '.join(KINDS)}"))


def block(text: str, object_: Object, problems: Problems) -> dict[str, Field]:
    """Return the settings of a ConfigMap's block: lines such as `key: "value",`, or YAML.

    `text` is that of the ConfigMap's file; UsageError if the block is neither.
    """
    allowed = "allowed: lines such as ceIPSecMode: transport"
    found = object_.field("data", "ceCustomConfig")
    if not found or not isinstance(found.value, str):
        problems.append((object_.place("data", "ceCustomConfig"), f"missing; {allowed}"))
        return {}
    place = found.place
    above = place.line if _is_literal(text, found) else place.line - 1
    try:
        (document, *_), twice = documents("\n" * above + _without_commas(found.value), place.file)
    except UsageError as error:
        where, _, message = error.message.removeprefix(f"{place.file}:").partition(": ")
        line = int(where) if where.isdecimal() else place.line
        problems.append((Place(place.file, line, place.field), f"{message}; {allowed}"))
        return {}
    problems += twice
    if not isinstance(document.value, dict):
        problems.append((place, allowed))
        return {}
    return {name: Field(value, document.place((name,))) for name, value in document.value.items()}


def _is_literal(text: str, found: Field) -> bool:
    """Tell whether the block's lines are lines of the file, below the one of its key."""
    below = text.splitlines()[found.place.line :]
    first = next(iter(found.value.splitlines()), "")
    return bool(below) and below[0].strip() == first.strip()


def _without_commas(text: str) -> str:
    """Take the commas off that end a line, but for those within brackets."""
    lines, depth = [], 0
    for line in text.splitlines():
        depth += sum(line.count(each) for each in "[{") - sum(line.count(each) for each in "]}")
        bare = line.rstrip()
        lines.append(bare.removesuffix(",") if depth <= 0 else bare)
    return "\n".join(lines)
