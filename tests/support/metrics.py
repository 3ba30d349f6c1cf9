"""Metrics over time as series, and what Prometheus's own program says of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from msgspec import Struct, json
from prometheus_client.metrics_core import Metric

PROMTOOL = "/usr/bin/promtool"


def promtool(*argv: str, given: str = "") -> str:
    """Return what promtool prints if it complains; nothing if all is well."""
    done = subprocess.run(
        [PROMTOOL, *argv], input=given, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def checked(text: str) -> str:
    """Return what promtool has against a text of metrics; nothing if all is well."""
    return promtool("check", "metrics", given=text)


class Series(Struct):
    """A value for each scrape; None where the series was missing."""

    name: str
    labels: dict[str, str]
    values: list[float | None]


class Recording:
    """The series of several scrapes."""

    def __init__(self, series: Iterable[Series] = ()) -> None:
        self.series = list(series)

    @classmethod
    def of_text(cls, text: str) -> Recording:
        """Return the recording that `as_text` wrote."""
        return cls(json.decode(line, type=Series) for line in text.splitlines())

    def add(self, families: Iterable[Metric]) -> None:
        """Add a scrape."""
        scrapes = max((len(each.values) for each in self.series), default=0)
        for family in families:
            for sample in family.samples:
                found = self._find(sample.name, sample.labels)
                if found is None:
                    found = Series(sample.name, dict(sample.labels), [None] * scrapes)
                    self.series.append(found)
                found.values.append(sample.value)
        for each in self.series:
            each.values.extend([None] * (scrapes + 1 - len(each.values)))

    def _find(self, name: str, labels: dict[str, str]) -> Series | None:
        found = (each for each in self.series if (each.name, each.labels) == (name, labels))
        return next(found, None)

    def of(self, name: str, **labels: str) -> list[float]:
        """Return the values of the one series with these labels, and maybe others."""
        (found,) = (
            each
            for each in self.series
            if each.name == name and labels.items() <= each.labels.items()
        )
        return [value for value in found.values if value is not None]

    def as_text(self) -> str:
        """Return a line of JSON for each series."""
        return "".join(f"{json.encode(each).decode()}\n" for each in self.series)
