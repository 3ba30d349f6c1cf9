"""Bars in SVG, of the data plane's goodput and of its bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

# Told apart in grey as well; both themes of a page show them, on a ground of the picture's own.
COLOURS = {
    "AES-GCM": "#1f5fa8",
    "no crypto": "#9fc78a",
    "ChaCha20-Poly1305": "#b5483a",
}
LEFT, LENGTH, GAP, HEIGHT, BAR = 190, 250, 120, 18, 13  # pixels


@dataclass(frozen=True)
class Row:
    """What was measured of a way: its goodput as a ratio, its wire bytes for a byte of payload."""

    way: str
    cipher: str
    goodput: float
    wire: float


def draw(rows: list[Row]) -> str:
    """Return an SVG: a line for each row, with a bar for the goodput and one for the overhead."""
    most = max(row.goodput for row in rows)
    costliest = max(row.wire for row in rows) - 1
    second = LEFT + LENGTH + GAP
    width, height = second + LENGTH + 70, 64 + HEIGHT * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 20, "goodput, plain VXLAN = 1", bold=True),
        text(second, 20, "wire bytes beyond each payload byte", bold=True),
    ]
    named = ""
    for number, row in enumerate(rows):
        top = 32 + HEIGHT * number
        if row.way != named:
            parts.append(text(8, top + BAR - 2, row.way))
        named = row.way
        parts += bar(LEFT, top, row.goodput / most, row.cipher, f"{row.goodput:.2f}, {row.cipher}")
        parts += bar(second, top, (row.wire - 1) / costliest, row.cipher, f"{row.wire - 1:.1%}")
    return "\n".join((*parts, "</svg>", ""))


def bar(left: int, top: int, share: float, cipher: str, label: str) -> list[str]:
    """Return a bar, `share` of the whole length long, and what is written at its end."""
    length = share * LENGTH
    shape = f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{BAR}"'
    return [f'{shape} fill="{COLOURS[cipher]}"/>', text(left + length + 5, top + BAR - 2, label)]


def text(left: float, bottom: int, words: str, *, bold: bool = False) -> str:
    """Return words that stand at a place."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{left:.1f}" y="{bottom}" fill="#222222"{weight}>{escape(words)}</text>'
