"""Numbers as a reader expects them: four digits at most, a unit, and never more exact than they are."""

import math

__all__ = [
    "engine_title",
    "fraction",
    "inputs_text",
    "metric_title",
    "number",
    "percent",
    "quantity",
    "seconds",
    "size",
    "spread",
    "times",
]

TIMES = "\N{MULTIPLICATION SIGN}"


def number(value: object) -> str:
    """Write a plain number in at most four digits; whole numbers with thousands apart; anything else as its text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and 10 <= abs(value) < 1e15):
        return f"{int(value):,}"
    if isinstance(value, float):
        return (
            f"{value:.4g}" if value == 0 or abs(value) < 0.1 or abs(value) >= 1e4 else f"{value:.{_decimals(value)}f}"
        )
    return "" if value is None else str(value)


def seconds(value: float) -> str:
    """Write a time with the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{_three(value / 1e-9)} ns"


def size(value: float) -> str:
    """Write bytes in decimal units, as disks and networks count them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{value:.0f} bytes"


def times(value: float) -> str:
    """Write a ratio: ``1.62×``; two decimals below ten, so that bars of one chart compare at a glance."""
    return (f"{value:.2f}" if 0.1 <= abs(value) < 10 else _three(value)) + TIMES


def percent(value: float) -> str:
    """Write a share: ``92.7 %``."""
    return f"{_three(100 * value)} %"


def fraction(density: float) -> str:
    """Write a density as ``1/16`` where it is one, else as a share."""
    if 0 < density <= 1:
        ratio = 1 / density
        if abs(ratio - round(ratio)) < 1e-3 * ratio:
            return f"1/{round(ratio)}" if round(ratio) > 1 else "1"
    return f"{density:.3g}"


def quantity(value: float, unit: str) -> str:
    """Write a value in the unit of its record."""
    if unit == "s":
        return seconds(value)
    if unit == "bytes":
        return size(value)
    return number(float(value)) if unit in ("", "1") else f"{number(float(value))} {unit}"


def spread(low: float, high: float, unit: str) -> str:
    """Write a range, or nothing where it is a point."""
    return "" if low == high else f"{quantity(low, unit)} to {quantity(high, unit)}"


def inputs_text(inputs: dict[str, object]) -> str:
    """Write the inputs of a record on one line."""
    return ", ".join(f"{key} {number(value)}" for key, value in inputs.items())


def metric_title(name: str) -> str:
    """Write the name of a quality figure."""
    return {"mrr": "MRR", "recall@1": "recall@1", "cosine": "cosine to dense"}.get(name, name)


def engine_title(engine: object) -> str:
    """Write the name of an engine as its makers do."""
    known = {"tilewright": "Tilewright", "torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    return known.get(str(engine), str(engine))


def _decimals(value: float) -> int:
    return max(0, 3 - max(0, math.floor(math.log10(abs(value)))))


def _three(value: float) -> str:
    """Three digits, or all digits before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"
