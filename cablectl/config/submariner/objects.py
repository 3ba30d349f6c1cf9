"""Kubernetes objects as kubectl prints them: single, in lists, or several in a stream."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import yaml
from msgspec import Struct

from cablectl.config.reader import MAX_NODES, Document, Path, Place, documents
from cablectl.config.values import shown
from cablectl.errors import UsageError

API_VERSION = "apiVersion"  # every object of Kubernetes has this key, no file of cablectl has
GROUP = "submariner.io/"  # the beginning of apiVersion
KINDS = ("Endpoint", "Gateway", "Submariner", "ConfigMap", "Secret", "List")
NOT_NEEDED = ("Broker", "Cluster", "Gateway", "Node", "ServiceDiscovery")  # ignored
# Kubernetes' own kinds, of which `kubectl get endpoints` prints the first.
CORE_ENDPOINTS = ("Endpoints", "EndpointsList", "EndpointSlice", "EndpointSliceList")
COMMAND = "kubectl get endpoints.submariner.io -n submariner-operator -o yaml"
_SEPARATE = "put a line --- between two documents"
CORE_ADVICE = (
    f"is Kubernetes' own kind, not Submariner's Endpoint; give what this prints: {COMMAND}"
)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Problems = list[tuple[Place, str]]


class Field(Struct, frozen=True):
    """A value in the documents, and its place."""

    value: Any
    place: Place


class Object(Struct, frozen=True):
    """One Kubernetes object; `path` is where it stands in its document."""

    kind: str
    name: str
    value: dict[str, Any]
    document: Document
    path: Path

    def place(self, *path: str | int) -> Place:
        """Return the place of a field; for a missing field, the place of what should contain it."""
        return self.document.place((*self.path, *path))

    def field(self, *path: str) -> Field | None:
        """Return the field at a path below the object; None if it is missing, null or empty."""
        value: Any = self.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return None if value in (None, "") else Field(value, self.place(*path))

    def spec(self, *path: str) -> Field | None:
        """Return the field at a path below the object's spec."""
        return self.field("spec", *path)

    def text(self, name: str) -> str:
        """Return a field of the spec as text; empty if it is missing."""
        entry = self.spec(name)
        return str(entry.value) if entry else ""


def has_objects(text: str) -> bool:
    """Tell whether a document of a text is an object of Kubernetes: it has the key apiVersion.

    Text that isn't YAML has none, so that the reader of cablectl's own file reports the mistake.
    So has a text of too many nodes.
    """
    depth = nodes = 0  # open collections, and the nodes of the outermost one so far
    try:
        for event in islice(yaml.parse(text, Loader=_LOADER), 4 * MAX_NODES):
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
    """Yield the objects in a text; its problems are appended to `problems`.

    UsageError if the text isn't YAML, or has two documents without a line between them.
    """
    try:
        file_documents, duplicates = documents(text, file, several=True)
    except UsageError as error:
        if "document start" in error.message:  # as after a document in JSON
            raise UsageError(f"{error.message}; {_SEPARATE}") from None
        raise
    for place, message in duplicates:
        if place.field == API_VERSION:
            raise UsageError(f"{place.file}:{place.line}: {place.field}: {message}; {_SEPARATE}")
    problems += duplicates
    for document in file_documents:
        if document.value is not None:
            yield from _unlisted(document, document.value, (), problems)


def _unlisted(document: Document, value: Any, path: Path, problems: Problems) -> Iterator[Object]:  # noqa: ANN401
    kind = value.get("kind") if isinstance(value, dict) else None
    items = value.get("items") if isinstance(value, dict) else None
    if kind in CORE_ENDPOINTS:
        problems.append((document.place((*path, "kind")), f"{shown(kind)} {CORE_ADVICE}"))
    elif isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for i, item in enumerate(items):
            yield from _unlisted(document, item, (*path, "items", i), problems)
    elif _is_needed(kind, value):
        metadata = value.get("metadata")
        name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
        yield Object(str(kind), name, value, document, path)
    elif kind not in NOT_NEEDED and not (kind and _is_submariners(value)):
        problem = f"{shown(kind)} is not allowed" if kind else "missing"
        place = document.place((*path, "kind"))
        problems.append((place, f"{problem}; allowed: {', '.join(KINDS)}"))


def _is_needed(kind: object, value: object) -> bool:
    """Return whether an object is read; other API groups have Gateways too."""
    return kind in KINDS and (kind != "Gateway" or _is_submariners(value))


def _is_submariners(value: object) -> bool:
    return isinstance(value, dict) and str(value.get(API_VERSION)).startswith(GROUP)


def block(lines: Sequence[str], config_map: Object, problems: Problems) -> dict[str, Field]:
    """Return the settings in a ConfigMap's block: lines such as `key: "value",`, or YAML.

    `lines` are those of the ConfigMap's file. Problems are appended to `problems`.
    """
    allowed = "allowed: lines such as ceIPSecMode: transport"
    entry = config_map.field("data", "ceCustomConfig")
    if not entry or not isinstance(entry.value, str):
        problems.append((config_map.place("data", "ceCustomConfig"), f"missing; {allowed}"))
        return {}
    place = entry.place
    lines_above = place.line if _is_literal(lines, entry) else place.line - 1
    text = _without_commas(entry.value)
    try:
        (document, *_), duplicates = documents(text, place.file, lines_above=lines_above)
    except UsageError as error:
        number, _, message = error.message.removeprefix(f"{place.file}:").partition(": ")
        line = int(number) if number.isdecimal() else place.line
        problems.append((Place(place.file, line, place.field), f"{message}; {allowed}"))
        return {}
    problems += duplicates
    if not isinstance(document.value, dict):
        problems.append((place, f"no settings; {allowed}"))
        return {}
    return {name: Field(value, document.place((name,))) for name, value in document.value.items()}


def _is_literal(lines: Sequence[str], entry: Field) -> bool:
    """Return whether the block is a YAML literal: its lines follow the line of its key."""
    below = entry.place.line  # lines are counted from 1, so this is the index of the next one
    first = next(iter(entry.value.splitlines()), "")
    return below < len(lines) and lines[below].strip() == first.strip()


def _without_commas(text: str) -> str:
    """Return the text without commas at line ends, except within brackets."""
    lines, depth = [], 0
    for line in text.splitlines():
        depth += sum(line.count(bracket) for bracket in "[{")
        depth -= sum(line.count(bracket) for bracket in "]}")
        stripped = line.rstrip()
        lines.append(stripped.removesuffix(",") if depth <= 0 else stripped)
    return "\n".join(lines)
