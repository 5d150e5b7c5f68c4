"""Drawing with text and rectangles: SVG that stands alone, follows light and dark, and needs no library."""

import math
from collections.abc import Sequence
from html import escape

__all__ = ["COLOURS", "Drawing", "amount", "powers", "round_steps"]

COLOURS = ("#0f766e", "#8a5a00", "#5b4bb0", "#a03768", "#45606e", "#1a6b3c", "#b3261e", "#2f6fb0")
_DARK = ("#4fc4b8", "#e0b15c", "#ab9ff0", "#eb92bb", "#9ab4c2", "#7bd09a", "#ff9b8f", "#7fb4ea")
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "u"))


def _style() -> str:
    light = "".join(f".f{i}{{fill:{c}}}.s{i}{{stroke:{c}}}" for i, c in enumerate(COLOURS))
    dark = "".join(f".f{i}{{fill:{c}}}.s{i}{{stroke:{c}}}" for i, c in enumerate(_DARK))
    return (
        "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif;fill:#1b2023;"
        "font-variant-numeric:tabular-nums}"
        ".soft{fill:#566067}.small{font-size:12px}.title{font-size:15px;font-weight:600}.hair{stroke:#d3d7d4;stroke-width:1}"
        ".line{fill:none;stroke-width:1.8}.thin{fill:none;stroke-width:1.2;stroke-dasharray:5 4}.ground{fill:#fbfbf9}"
        ".plain{fill:#9ba5a8}.good{fill:#0f766e}.bad{fill:#b3261e}.point{fill-opacity:.62;stroke:none}"
        f"{light}@media (prefers-color-scheme:dark){{text{{fill:#e7eae8}}.soft{{fill:#a3adb0}}.hair{{stroke:#394246}}"
        f".ground{{fill:#14181a}}.plain{{fill:#6d787e}}.good{{fill:#4fc4b8}}.bad{{fill:#ff9b8f}}{dark}}}"
    )


class Drawing:
    """A picture of fixed size, drawn from top to bottom.

    Parameters
    ----------
    width, height
        In pixels at its natural size.
    title
        What it shows: read aloud, and shown where a pointer rests.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", style: str = "", turn: bool = False
    ) -> None:
        """Write one line; `anchor` is ``"start"``, ``"middle"`` or ``"end"``."""
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
        kind = f' class="{style}"' if style else ""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{turned}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, style: str, note: str = "") -> None:
        """Fill a rectangle; the note shows where a pointer rests."""
        inner = f"<title>{escape(note)}</title>" if note else ""
        self._parts.append(
            f'<rect x="{x:.2f}" y="{y:.1f}" width="{max(width, 0.0):.2f}" height="{height:.1f}" class="{style}">{inner}</rect>'
        )

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Join points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{joined}" class="{style}"/>')

    def point(self, x: float, y: float, radius: float, style: str, note: str) -> None:
        """Draw a disc; the note shows where a pointer rests."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{style}"><title>{escape(note)}</title></circle>'
        )

    def __str__(self) -> str:
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" style="max-width:100%;height:auto">'
        body = "\n".join(self._parts)
        return (
            f"{head}\n<title>{escape(self.title)}</title>\n<style>{_style()}</style>\n"
            f'<rect width="100%" height="100%" class="ground"/>\n{body}\n</svg>\n'
        )


def amount(value: float, unit: str = "") -> str:
    """Return a number with three digits and a prefix: ``"312 Tflop/s"``."""
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}".strip()
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * 0.9995), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}".strip()


def powers(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**e for e in range(first, last + 1) if low * 0.999 <= 10.0**e <= high * 1.001]


def round_steps(high: float, most: int = 8) -> list[float]:
    """Return round values from 0 to `high`."""
    if high <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if high / (s * power) <= most)
    return [step * i for i in range(int(high / step + 1e-9) + 1)]
