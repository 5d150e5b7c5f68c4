"""Format numbers for readers: at most four digits, with units."""

import math
from collections.abc import Callable

from ..errors import PatternError
from ..patterns import NM, Block, TileElementWise, TileVectorWise, TileWise, Unstructured, parse

__all__ = [
    "TIMES",
    "amount",
    "digits",
    "duration",
    "engine_title",
    "fraction",
    "inputs_text",
    "metric_title",
    "number",
    "pattern_words",
    "percent",
    "precision_title",
    "quantity",
    "seconds",
    "share_range",
    "signed",
    "size",
    "spread",
    "times",
]

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def number(value: object) -> str:
    """Format a number with at most four digits, whole numbers in full with thousands separators; format anything else as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and 10 <= abs(value) < 1e15):
        return f"{int(value):,}"
    if isinstance(value, float):
        return digits(value, 4) if value == 0 or abs(value) < 0.1 else f"{value:,.{_decimals(value)}f}"
    return "" if value is None else str(value)


def digits(value: float, most: int = 6) -> str:
    """Format a number with up to `most` significant digits, without trailing zeros: ``32,500`` and ``0.000012``, not ``3.25e+04``."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = most - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, decimals):,.{max(0, decimals)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(value: float, unit: str = "") -> str:
    """Format a number with three digits and a unit prefix: ``61.4 GB/s``, ``4 µs``."""
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}".strip()
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * 0.9995), _PREFIXES[-1])
    return f"{digits(value / scale, 3)} {prefix}{unit}".strip()


def seconds(value: float) -> str:
    """Format a time in seconds, in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{_three(value / 1e-9)} ns"


def size(value: float) -> str:
    """Format a number of bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{value:.0f} bytes"


def times(value: float) -> str:
    """Format a ratio: ``1.62×``; two decimals below ten, so that the bars of a chart are easy to compare."""
    return (f"{value:.2f}" if 0.1 <= abs(value) < 10 else _three(value)) + TIMES


def percent(value: float) -> str:
    """Format a share: ``92.7 %``."""
    return f"{_three(100 * value)} %"


def signed(value: float, words: Callable[[float], str]) -> str:
    """Format a change with its sign."""
    return f"{'+' if value >= 0 else MINUS}{words(abs(value))}"


def share_range(low: float, high: float) -> str:
    """Format a range of shares: ``92.5 to 95.9 %``."""
    return f"{_three(100 * low)} to {_three(100 * high)} %"


def fraction(density: float) -> str:
    """Format a density as a fraction such as ``1/16`` if it is one, else as a number."""
    if 0 < density <= 1:
        ratio = 1 / density
        if abs(ratio - round(ratio)) < 1e-3 * ratio:
            return f"1/{round(ratio)}" if round(ratio) > 1 else "1"
    return digits(density, 3)


def quantity(value: float, unit: str) -> str:
    """Format a value in the unit of its record."""
    if unit == "s":
        return seconds(value)
    if unit == "bytes":
        return size(value)
    return number(float(value)) if unit in ("", "1") else f"{number(float(value))} {unit}"


def duration(value: float) -> str:
    """Format a duration in seconds: ``5 min 12 s``."""
    if value < 60:
        return f"{value:.0f} s" if value >= 10 else seconds(value)
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def spread(low: float, high: float, unit: str) -> str:
    """Format a range; empty if both ends are equal."""
    return "" if low == high else f"{quantity(low, unit)} to {quantity(high, unit)}"


def inputs_text(inputs: dict[str, object]) -> str:
    """Format the inputs of a record on one line."""
    return ", ".join(f"{key} {number(value)}" for key, value in inputs.items())


def metric_title(name: str) -> str:
    """Return the title of a quality measure."""
    return {"mrr": "MRR", "recall@1": "recall@1", "cosine": "cosine to dense"}.get(name, name)


def pattern_words(text: str) -> str:
    """Return a pattern with a short explanation; the pattern alone if there is none."""
    try:
        pattern = parse(text)
    except PatternError:
        return text
    match pattern:
        case NM(n=n, m=m, tile=tile):
            sharing = f", at positions shared by {tile} neighbouring outputs" if tile > 1 else ""
            return f"{text}: {n} of every {m} neighbouring inputs kept{sharing}"
        case TileElementWise(tile=tile):
            return f"{text}: each tile of {tile} outputs keeps its own inputs, and the best single weights are restored"
        case TileVectorWise(tile=tile):
            return f"{text}: each tile of {tile} outputs keeps its own inputs, with n:m inside"
        case TileWise(tile=tile):
            return f"{text}: each tile of {tile} outputs keeps its own inputs"
        case Block(rows=rows, cols=cols):
            return f"{text}: blocks of {rows} {TIMES} {cols} weights kept or dropped whole"
        case Unstructured():
            return f"{text}: single weights kept at any position"
    return text


def precision_title(precision: object) -> str:
    """Return the precision of an engine, or that it was not recorded."""
    return "precision not recorded" if precision is None else str(precision)


def engine_title(engine: object) -> str:
    """Return the name of an engine as its makers write it."""
    known = {"tilewright": "Tilewright", "torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    return known.get(str(engine), str(engine))


def _decimals(value: float) -> int:
    return max(0, 3 - max(0, math.floor(math.log10(abs(value)))))


def _three(value: float) -> str:
    """Format with three significant digits, or all digits before the point if there are more."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"
