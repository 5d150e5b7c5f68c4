"""S4 against what is published of it: twelve rates, MLPerf offline results, power.

Run as ``python benchmarks/validation/s4.py``; prints every point and writes ``benchmarks/records/validation-s4.jsonl``.

Fitted, on the six INT8 rates only: ``fill`` and ``bubble``. The BF16 rates, the networks and the watts are not used for anything but the
watts of the stress test, which set the energy of a multiply-accumulate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _shapes import known, run, weight

from tilewright.hardware import Operation, preset
from tilewright.hardware.engines import s4
from tilewright.pages import Series, save_figure, scatter_figure
from tilewright.patterns import Banked
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parents[1] / "records" / "validation-s4.jsonl"
FIGURE = Path(__file__).parents[2] / "docs" / "explanation" / "s4-validation.svg"
SIDE = 1024
RATIOS = (1, 2, 4, 8, 16, 32)
QUALIFY = "Moffett mx-qual manual, one S30, first card"
MEASURED = {
    "int8": (87.64, 173.77, 347.35, 695.91, 1377.36, 2662.64),
    "bfloat16": (43.82, 86.77, 174.13, 348.76, 698.35, 1371.04),
}
TARGET = {
    "int8": (88.47, 176.95, 353.89, 707.79, 1415.58, 2831.16),
    "bfloat16": (44.24, 88.47, 176.95, 353.89, 707.79, 1415.58),
}
MLPERF = {
    ("resnet50", "s4"): 31678.6,
    ("resnet50", "s10"): 65592.8,
    ("resnet50", "s30"): 95784.3,
    ("resnet50", "s40"): 127375.0,
    ("bert-large", "s4"): 1219.41,
    ("bert-large", "s10"): 2535.96,
    ("bert-large", "s30"): 3836.89,
    ("bert-large", "s40"): 5068.94,
}
SUB_BATCH = 8
STEPS = (8, 16, 32)
VENDOR_BATCH_4 = 25014.0


@dataclass(frozen=True)
class Point:
    """One published number and ours."""

    name: str
    published: float
    modelled: float
    unit: str
    source: str
    tolerance: float | None = None
    """Largest relative error that the tests accept; None where the point is shown and not asserted."""
    held: bool = True
    """False where it was used for a fit."""
    note: str = ""

    @property
    def error(self) -> float:
        """Relative."""
        return self.modelled / self.published - 1


def rate(dtype: str, ratio: int) -> float:
    """Return the dense-equivalent TOPS of an S30 on a square product."""
    pattern = None if ratio == 1 else Banked(ratio)
    spec = preset("s30")
    product = Operation(
        "gemm", "linear", M=SIDE, N=SIDE, K=SIDE, weight=weight(SIDE, SIDE, pattern), reads=SIDE**2, writes=SIDE**2
    )
    seconds = s4.run(spec, product, dtype).cycles / float(spec.clock)
    return 2 * SIDE**3 / seconds * float(spec.chips) / 1e12


def rates() -> Iterator[Point]:
    """Yield the twelve rates against the measured column, and against the vendor's targets without overhead."""
    spec = preset("s30")
    for dtype, column in MEASURED.items():
        for ratio, published, target in zip(RATIOS, column, TARGET[dtype], strict=True):
            held = dtype != "int8"
            yield Point(f"{dtype} {ratio}x", published, rate(dtype, ratio), "TOPS", f"{QUALIFY}, measured", 0.01, held)
            yield Point(
                f"{dtype} {ratio}x, target",
                target,
                spec.peak(dtype, 1 / ratio) / 1e12,
                "TOPS",
                f"{QUALIFY}, target",
                0.001,
            )


def fit(dtype: str = "int8") -> tuple[float, float]:
    """Return (bubble, fill) by least squares over the six rates of a type: 1 / utilisation - 1 = bubble + fill / ideal cycles."""
    spec = preset("s30")
    lanes = float(spec.rate(dtype)) * float(spec.cores)
    ideal = np.array([SIDE**3 / lanes / ratio for ratio in RATIOS])
    excess = np.array(TARGET[dtype]) / np.array(MEASURED[dtype]) - 1
    design = np.stack([np.ones(len(RATIOS)), 1 / ideal], axis=1)
    bubble, fill = np.linalg.lstsq(design, excess, rcond=None)[0]
    return float(bubble), float(fill)


def network(model: str, ratio: int, batch: int = SUB_BATCH) -> list[Operation]:
    """Return a network at one ratio on all weights but those of ResNet-50's first convolution and classifier."""
    return known(model, batch, Banked(ratio), 384 if model == "bert-large" else None)


def least_step(model: str) -> int:
    """Return the smallest ratio whose lanes, all busy all the time, reach the published rate of one S4."""
    spec = preset("s4")
    lanes = float(spec.rate("int8")) * float(spec.cores) * float(spec.clock)
    for ratio in STEPS:
        slots = sum(o.useful for o in network(model, ratio, 1))
        if lanes / slots >= MLPERF[model, "s4"]:
            return ratio
    raise SystemExit(f"{model} at {MLPERF[model, 's4']} is beyond every ratio")


def networks() -> Iterator[Point]:
    """Yield MLPerf offline results at every ratio; those of the setting are asserted."""
    for model in ("resnet50", "bert-large"):
        setting = least_step(model)
        for ratio in STEPS:
            one = run(preset("s4"), network(model, ratio), "int8")
            note = f"effective MAC sparsity {one.macs / one.useful:.1f}x, batches of {SUB_BATCH} a chip"
            for card in ("s4", "s10", "s30", "s40"):
                throughput = SUB_BATCH * float(preset(card).chips) / one.seconds
                asserted = 0.2 if ratio == setting else None
                name = f"{model} {ratio}x on {card}"
                source = "MLPerf inference v2.1, open" if card != "s40" else "MLPerf inference v3.0, open, preview"
                yield Point(name, MLPERF[model, card], throughput, "samples/s", source, asserted, note=note)
    four = run(preset("s4"), network("resnet50", 16, 4), "int8")
    yield Point("resnet50 16x on s4, batch 4", VENDOR_BATCH_4, 4 / four.seconds, "samples/s", "Moffett docs", 0.2)


def watts() -> Iterator[Point]:
    """Yield the power of one chip: of the stress test, which is fitted, and of the networks against the card's limit."""
    spec = preset("s4")
    product = Operation(
        "gemm", "linear", M=SIDE, N=SIDE, K=SIDE, weight=weight(SIDE, SIDE, None), reads=SIDE**2, writes=SIDE**2
    )
    result = s4.run(spec, product, "int8")
    power = sum(result.joules.values()) / (result.cycles / float(spec.clock))
    yield Point("stress test", 65.5, power, "W", f"{QUALIFY}: 63 to 68 W a chip", 0.05, held=False)
    for model in ("resnet50", "bert-large"):
        one = run(spec, network(model, least_step(model)), "int8")
        limit = float(spec.limits["power"])
        yield Point(f"{model} below the card's limit", limit, one.joules / one.seconds, "W", "MLPerf: peak 75 W")


def points() -> list[Point]:
    """Return all of them."""
    return [*rates(), *networks(), *watts()]


def main() -> None:
    """Print and record."""
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.unlink(missing_ok=True)
    print(
        "fit on INT8: bubble {:.5f}, fill {:.1f}; on BF16 it would be {:.5f}, {:.1f}".format(*fit(), *fit("bfloat16"))
    )
    found = points()
    for point in found:
        shown = "" if point.tolerance is None else f"within {point.tolerance:.1%}"
        print(
            f"{point.name:<34}{point.published:>12.2f}{point.modelled:>12.2f} {point.unit:<10}{point.error:>+8.2%}  {shown}"
        )
        record = Record.measure(
            "validation",
            point.name,
            point.modelled,
            point.unit,
            inputs={"machine": "s4", "held out": point.held},
            checked=point.tolerance is not None and abs(point.error) <= point.tolerance,
            extra={
                "published": point.published,
                "error": point.error,
                "tolerance": point.tolerance,
                "source": point.source,
                "note": point.note,
            },
        )
        write_record(RECORDS, record)
    draw(found)


def draw(found: list[Point]) -> None:
    """Draw the measured rates and the networks at their setting against ours."""
    shown = [p for p in found if p.tolerance is not None and "target" not in p.name and p.unit != "W"]

    def series(label: str, chosen: list[Point]) -> Series:
        return Series(label, [p.published for p in chosen], [p.modelled for p in chosen], style="points")

    tops = [p for p in shown if p.unit == "TOPS"]
    rest = [p for p in shown if p.unit != "TOPS"]
    panels = {
        "Rates of an S30, TOPS": [
            series("fitted", [p for p in tops if not p.held]),
            series("held out", [p for p in tops if p.held]),
        ],
        "Samples a second": [
            series("ResNet-50", [p for p in rest if p.name.startswith("resnet")]),
            series("BERT-large", [p for p in rest if p.name.startswith("bert")]),
        ],
    }
    save_figure(scatter_figure(panels, "published", "modelled", tolerance=0.2), FIGURE)


if __name__ == "__main__":
    main()
