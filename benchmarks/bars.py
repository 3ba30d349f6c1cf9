"""Draws bars in SVG: the data plane's goodput, and its bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

# Distinguishable in grey too. The white background makes them readable in a dark theme.
COLOURS = {
    "AES-GCM": "#1f5fa8",
    "no crypto": "#9fc78a",
    "ChaCha20-Poly1305": "#b5483a",
}
LEFT, LENGTH, GAP, HEIGHT, BAR = 190, 250, 120, 18, 13  # pixels


@dataclass(frozen=True)
class Row:
    """The measurements of one cable type with one cipher."""

    cable: str
    cipher: str
    goodput: float  # as a ratio to plain VXLAN
    wire: float  # bytes on the wire per byte of payload


def draw(rows: list[Row]) -> str:
    """Return an SVG with a line for each row: a bar for the goodput, a bar for the overhead."""
    highest_goodput = max(row.goodput for row in rows)
    highest_overhead = max(row.wire for row in rows) - 1
    second = LEFT + LENGTH + GAP
    width, height = second + LENGTH + 70, 64 + HEIGHT * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 20, "goodput, plain VXLAN = 1", bold=True),
        text(second, 20, "wire bytes beyond each payload byte", bold=True),
    ]
    previous = ""
    for number, row in enumerate(rows):
        top = 32 + HEIGHT * number
        if row.cable != previous:
            parts.append(text(8, top + BAR - 2, row.cable))
        previous = row.cable
        goodput, overhead = row.goodput, row.wire - 1
        label = f"{goodput:.2f}, {row.cipher}"
        parts += bar(LEFT, top, goodput / highest_goodput, row.cipher, label)
        parts += bar(second, top, overhead / highest_overhead, row.cipher, f"{overhead:.1%}")
    return "\n".join((*parts, "</svg>", ""))


def bar(left: int, top: int, fraction: float, cipher: str, label: str) -> list[str]:
    """Return a bar of a fraction of the full length, and the label at its end."""
    length = fraction * LENGTH
    shape = f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{BAR}"'
    return [f'{shape} fill="{COLOURS[cipher]}"/>', text(left + length + 5, top + BAR - 2, label)]


def text(left: float, bottom: int, words: str, *, bold: bool = False) -> str:
    """Return a text element; `left` and `bottom` are in pixels."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{left:.1f}" y="{bottom}" fill="#222222"{weight}>{escape(words)}</text>'
