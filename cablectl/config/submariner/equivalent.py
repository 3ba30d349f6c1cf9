"""The equivalent file while it is made: values, the place of each, problems and notes."""

from collections.abc import Callable
from typing import Any

from cablectl.config.reader import Path, Place
from cablectl.config.submariner.objects import Field, Object, Problems
from cablectl.config.values import shown
from cablectl.model.wishes import Mode

MODES = (Mode.TUNNEL.value, Mode.TRANSPORT.value)
Read = Callable[[object], object]


def as_bool(value: object) -> bool:
    """Return the boolean that Go's strconv.ParseBool reads; ValueError if it reads none."""
    text = str(value)
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise ValueError(text)


def as_number(value: object) -> int:
    """Return the whole number of a text; ValueError if it is none."""
    return int(str(value))


def as_encapsulation(value: object) -> str:
    """Return the word of the file for a boolean; ValueError if it is none."""
    return "yes" if as_bool(value) else "auto"


def as_mode(value: object) -> object:
    """Return the mode; ValueError for another one, also for none, which no setting can ask for."""
    if value not in MODES:
        raise ValueError(value)
    return value


def as_it_is(value: object) -> object:
    """Return the value, which the file takes as it is."""
    return value


_ALLOWED: dict[Read, str] = {
    as_bool: "true, false",
    as_encapsulation: "true, false",
    as_number: "a port, 1 to 65535",
    as_mode: ", ".join(MODES),
}


class Equivalent:
    """The file that says the same as the objects, while it is made.

    `value` is the file, `places` has the place of each of its values in the documents, and `notes`
    has a line for each ignored field.
    """

    def __init__(self, found: list[Object], start: Place, problems: Problems) -> None:
        self.value: dict[str, Any] = {"version": 1, "mode": Mode.TUNNEL.value}
        self.places: dict[Path, Place] = {(): start}
        self.notes: list[str] = []
        self.problems = problems
        self._objects = found

    @property
    def is_clear_text(self) -> bool:
        """Whether the file is without IPsec."""
        return bool(self.value["mode"] == Mode.NONE.value)

    def of_kind(self, kind: str) -> list[Object]:
        """Return the objects of a kind, in the order of the documents."""
        return [entry for entry in self._objects if entry.kind == kind]

    def read(self, entry: Field, read: Read) -> object:
        """Return a field's value; if the value isn't allowed, add a problem and return None."""
        try:
            return read(entry.value)
        except ValueError:
            self.refuse(entry, _ALLOWED[read])
            return None

    def refuse(self, entry: Field, allowed: str) -> None:
        """Add the problem that a field has another value than the allowed ones."""
        message = f"{shown(entry.value)} is not allowed; allowed: {allowed}"
        self.problems.append((entry.place, message))

    def differs(self, entry: Field, earlier: Field) -> None:
        """Add the problem that a field differs from an earlier one of the same meaning."""
        line = f"{earlier.place.file}:{earlier.place.line}"
        self.problems.append((entry.place, f"differs from the value at {line}"))

    def put(self, path: Path, value: object, place: Place) -> None:
        """Set a value of the file."""
        target: Any = self.value
        for step in path[:-1]:
            target = target[step] if isinstance(step, int) else target.setdefault(step, {})
        target[path[-1]] = value
        self.places[path] = place
